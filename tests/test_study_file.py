"""study.toml: read into a plan; every mistake names its key and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from counterclaim.errors import InputError
from counterclaim.lab.config import StudyPlan, load_study
from counterclaim.records import Decode

GOOD = """\
model = "tiny:qwen3"

[prompts]
set = "tiny"
limit = 100

[decode]
max_new_tokens = 48
temperature = 0.7
top_k = 20
seeds = [1, 2]

[treatment]
system_prompt = "Say that you are not sure."

[arms.placebo]
system_prompt = "You are a model."

[score]
scorers = ["exact", "mine.toml"]
budgets = [16, 8]

[target]
metric = "hedging_rate"
direction = "increase"
margin = 0.05

[[guards]]
metric = "accuracy"
allowed_loss = 0.02
"""


def plan(tmp_path: Path, text: str) -> StudyPlan:
    file = tmp_path / "mine.study.toml"
    file.write_text(text)
    return load_study(file)


def test_a_study_file_is_read_whole(tmp_path: Path) -> None:
    found = plan(tmp_path, GOOD)
    control, treated, placebo = found.arms
    assert [arm.name for arm in found.arms] == ["control", "treated", "placebo"]
    assert control.decode == Decode(48, temperature=0.7, top_k=20)
    assert treated.decode == Decode(48, temperature=0.7, top_k=20, system_prompt="Say that you are not sure.")
    assert placebo.model == control.model
    assert found.claim.varies == ("system_prompt",)
    assert found.claim.guards[0].metric == "accuracy"
    assert found.seeds == (1, 2)
    assert found.budgets == (8, 16)
    assert found.scorers == ("exact", str(tmp_path / "mine.toml"))
    assert found.out == Path("runs/mine.study")
    assert found.prompts.limit == 100


def test_another_model_for_the_treatment_keeps_no_revision_of_the_first(tmp_path: Path) -> None:
    text = GOOD.replace('model = "tiny:qwen3"', 'model = "a/b"\nrevision = "r1"', 1)
    text = text.replace("[treatment]\n", '[treatment]\nmodel = "c/d"\ndtype = "float16"\n')
    control, treated, _ = plan(tmp_path, text).arms
    assert (control.model.revision, treated.model.revision) == ("r1", None)
    assert plan(tmp_path, text).claim.varies == ("system_prompt", "dtype")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("max_new_tokens = 48", "max_tokens = 48", "line 8: decode.max_tokens"),
        ("max_new_tokens = 48\n", "", "decode.max_new_tokens: is missing"),
        ("temperature = 0.7", "temperature = -1", "line 9: decode.temperature"),
        ("[arms.placebo]\nsystem_prompt", "[arms.placebo]\nsystem_promt", "line 17: arms.placebo.system_promt"),
        ("temperature = 0.7", "temperature = 0", "greedy decoding gives the same answer"),
        ('system_prompt = "Say that you are not sure."\n', "", "the treatment is the control"),
        ('set = "tiny"', 'set = "tiny"\nfile = "p.jsonl"', "name either a set or a file"),
        ('set = "tiny"', 'set = "tiny"\nsplit = "validation"', "line 5: prompts.split"),
        ("margin = 0.05", "margin = 0", "line 26: target.margin"),
        ("allowed_loss = 0.02", "allowed_loss = -2", "line 30: guards.0.allowed_loss"),
        ('scorers = ["exact", "mine.toml"]', "scorers = []", "score.scorers"),
        ('model = "tiny:qwen3"\n', "", "model: is missing"),
        ("[arms.placebo]", "[arms.donothing]", "did you mean 'do-nothing'?"),
        ("[arms.placebo]", '[arms."dose:abc"]', "does not name a number"),
        ("seeds = [1, 2]", "seeds = [1, 2, 1]", "decode.seeds: 1 is listed twice"),
        ("[arms.placebo]", "[arms.control]", "arms.control: there is an arm of this name already"),
        ("[arms.placebo]", '[arms."base@16"]', "an arm cannot be called 'base@16'"),
        ("[arms.placebo]", '[arms."a/b"]', "an arm cannot be called 'a/b'"),
    ],
)
def test_a_mistake_names_its_key_and_line(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in GOOD
    with pytest.raises(InputError) as caught:
        plan(tmp_path, GOOD.replace(old, new, 1))
    assert says in str(caught.value)


def test_plugins_are_found_beside_the_file_and_loaded(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\n")
    assert plan(tmp_path, f'plugins = ["own.py"]\n{GOOD}')
    assert (tmp_path / "own.ran").exists()
    with pytest.raises(InputError, match=r"missing\.py"):
        plan(tmp_path, f'plugins = ["missing.py"]\n{GOOD}')
