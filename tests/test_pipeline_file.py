"""pipeline.toml: read into a plan; every mistake names its key and line."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from counterclaim.errors import InputError
from counterclaim.lab.config import ALLOWED_LICENCES, PipelinePlan, PromptChoice, TrainingPrompts, load_pipeline
from counterclaim.records import Decode, Prompt

GOOD = """\
products = ["gold", "failure", "counter"]
oracle = "exact"
seed = 3
licences = ["LicenseRef-modified-MIT"]

[[prompts]]
set = "tiny"
limit = 40

[[prompts]]
file = "more.jsonl"
split = "dev"
tags = ["hard"]

[[forbidden]]
set = "cooking"
split = "all"

[decode]
max_new_tokens = 256
temperature = 0.7

[student]
model = "tiny:qwen3"
max_new_tokens = 48

[stages.synthesizer]
model = "http://localhost:8000/v1#c"
licence = "LicenseRef-modified-MIT"
sees = ["eager", "critic"]
instruction = "{{ prompt }} {{ eager }} {{ critic }}"
price_in = 0.5

[stages.eager]
model = "http://localhost:8000/v1#a"
licence = "MIT"
character = "You are warm."
temperature = 1.0
stop = ["END"]

[stages.critic]
model = "some/folder"
adapter = "adapters/one"
licence = "MIT"
sees = ["eager"]

[variants]
style = 2
length = true

[filters]
most_words = 80
language = "any"

[roles]
prompt_writer = "glm-5"

[runtime]
concurrency = 4
most_tokens = 1000
"""
PAPER = Path(str(files("counterclaim") / "lab" / "example" / "paper-pipeline.toml"))


def plan(tmp_path: Path, text: str) -> PipelinePlan:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    return load_pipeline(file)


def test_a_pipeline_file_is_read_whole(tmp_path: Path) -> None:
    found = plan(tmp_path, GOOD)
    assert [stage.name for stage in found.stages] == ["eager", "critic", "synthesizer"], "each after those it sees"
    eager, critic, synthesizer = found.stages
    assert eager.decode == Decode(256, temperature=1.0, stop=("END",), system_prompt="You are warm.", seed=3)
    assert (critic.model.name, critic.model.adapter) == ("some/folder", tmp_path / "adapters/one")
    assert (synthesizer.price_in, synthesizer.price_out) == (0.5, None)
    assert found.final == "synthesizer"
    assert found.last is synthesizer
    assert found.prompts == (
        TrainingPrompts("tiny", "train", (), 40),
        TrainingPrompts(split="dev", tags=("hard",), file=tmp_path / "more.jsonl"),
    )
    assert found.forbidden == (PromptChoice("cooking", "all"),)
    assert found.licences == (*ALLOWED_LICENCES, "LicenseRef-modified-MIT")
    assert found.student_decode == Decode(48, temperature=0.7, seed=3)
    assert found.variants == {"style": 2, "length": 1}
    assert (found.filters.most_words, found.filters.language) == (80, None)
    assert (found.runtime.concurrency, found.runtime.most_tokens) == (4, 1000)
    assert found.out == Path("taught/mine")


def test_one_table_of_prompts_is_enough(tmp_path: Path) -> None:
    found = plan(tmp_path, '[prompts]\nset = "tiny"\n[stages.a]\nmodel = "m"\nmax_new_tokens = 9\n')
    assert found.prompts == (TrainingPrompts("tiny"),)
    assert (found.final, found.products, found.student) == ("a", ("gold",), None)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("max_new_tokens = 256", "max_tokens = 256", "line 20: decode.max_tokens: there is no such key"),
        ("max_new_tokens = 256\n", "", "line 26: stages.synthesizer.max_new_tokens: is missing"),
        ('model = "http://localhost:8000/v1#a"\n', "", "stages.eager.model: is missing"),
        ('sees = ["eager", "critic"]', 'sees = ["eagre"]', "line 30: stages.synthesizer.sees: there is no stage 'eagre'"),
        ('stop = ["END"]', 'sees = ["critic"]', "stages see each other in a ring"),
        ("{{ critic }}", "{{ critics }}", "line 31: stages.synthesizer.instruction: names 'critics'"),
        ("{{ critic }}", "{% if %}", "stages.synthesizer.instruction: is not a Jinja template"),
        ("[stages.critic]", '[stages."Critic!"]', "there is no stage 'critic'"),
        ("[stages.eager]", '[stages.student]\nmodel = "m"\n[stages.eager]', "a stage cannot be called 'student'"),
        ("[stages.eager]", '[stages.style_1]\nmodel = "m"\n[stages.eager]', "a stage cannot be called 'style_1'"),
        ("seed = 3", 'seed = 3\nfinal = "last"', "line 4: final: there is no stage 'last'"),
        ('sees = ["eager", "critic"]\ninstruction = "{{ prompt }} {{ eager }} {{ critic }}"', "", "final: several stages are seen by no other"),
        ('set = "tiny"\nlimit', 'set = "tiny"\nfile = "p.jsonl"\nlimit', "line 6: prompts.0: name either a set or a file"),
        ('split = "dev"', 'split = "test"', "line 12: prompts.1.split"),
        ('oracle = "exact"\n', "", "line 1: products: failure needs to know which answers"),
        ('[student]\nmodel = "tiny:qwen3"\nmax_new_tokens = 48\n', "", "line 1: products: they need the student's own answers"),
        ('["gold", "failure", "counter"]', '["failure"]', "variants: variants are made of gold answers"),
        ('["gold", "failure", "counter"]', '["gold", "silver"]', "line 1: products.1"),
        ("most_words = 80", "most_words = 80\nleast_words = 90", "filters.least_words: 90 is more than most_words"),
        ("most_words = 80", 'most_words = 80\npattern = "("', "filters.pattern: is not a regular expression"),
        ('language = "any"', 'language = "english"', "filters.language"),
        ("concurrency = 4", "concurrency = 0", "runtime.concurrency"),
        ("style = 2", "style = 9", "variants.style"),
    ],
)  # fmt: skip
def test_a_mistake_names_its_key_and_line(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in GOOD
    with pytest.raises(InputError) as caught:
        plan(tmp_path, GOOD.replace(old, new, 1))
    assert says in str(caught.value)


def test_what_determines_the_calls_is_told_from_what_determines_the_set(tmp_path: Path) -> None:
    text = GOOD.replace('adapter = "adapters/one"\n', "")
    prompts = [Prompt.of_text("Why?", split="train")]
    first = plan(tmp_path, text)
    filtered = plan(tmp_path, text.replace("most_words = 80", "most_words = 70"))
    warmer = plan(tmp_path, text.replace("temperature = 1.0", "temperature = 1.1"))
    assert first.calls_hash(prompts) == filtered.calls_hash(prompts) != warmer.calls_hash(prompts)
    assert first.training_set_hash(prompts, []) != filtered.training_set_hash(prompts, [])
    assert first.calls_hash(prompts) != first.calls_hash([Prompt.of_text("How?", split="train")])
    quicker = plan(tmp_path, text.replace("concurrency = 4", "concurrency = 9"))
    assert first.training_set_hash(prompts, []) == quicker.training_set_hash(prompts, [])


def test_the_pipeline_that_ships_is_read_and_needs_no_network() -> None:
    from counterclaim.lab.synthesis.teach import preview

    planned = preview(load_pipeline(PAPER.with_name("pipeline.toml")))
    assert (planned["prompts"], planned["contaminated"]) == (160, 0)
    assert [row["stage"] for row in planned["stages"]] == [
        "eager", "deliberate", "adversarial", "synthesizer", "student", "style_1", "style_2", "length",
    ]  # fmt: skip


def test_the_pipeline_of_the_paper_is_read_and_held_to_its_gates_without_a_network() -> None:
    from counterclaim.lab.synthesis.teach import preview

    found = load_pipeline(PAPER)
    assert [(stage.model.name.rpartition("#")[2], stage.licence) for stage in found.stages] == [
        ("kimi-k2.5", "LicenseRef-modified-MIT"), ("glm-5", "MIT"), ("minimax-m2.7", "LicenseRef-modified-MIT"),
        ("glm-5", "MIT"),
    ]  # fmt: skip
    planned = preview(found)
    assert planned["prompts"] == 52
    assert planned["calls_at_most"] == 52 * 8
    assert any("glm" in note for note in planned["notes"])
    assert planned["forbidden"] > 100
