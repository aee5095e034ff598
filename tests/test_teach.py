"""The teacher pipeline: every call made once whatever stops it, and products that are what they say."""

from __future__ import annotations

import json
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterclaim import folder as store
from counterclaim.errors import BudgetSpent, InputError, ModelError, RegistryError
from counterclaim.lab.config import load_pipeline
from counterclaim.lab.scorers.oracles import FOLLOW_UP
from counterclaim.lab.synthesis import calls, products
from counterclaim.lab.synthesis.examples import examples_hash, load_examples
from counterclaim.lab.synthesis.teach import preview, teach
from counterclaim.records import Decode, Example, FinishReason, Message, ModelRef, Prompt
from counterclaim.registry import Answer, Ask, Model, ModelSpec, Runtime, backend

Script = Callable[[Ask, Decode], Answer]


class Planted:
    """Models of which the test says what they answer, and which write down what they were asked."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        self.scripts: dict[str, Script] = {}
        self.asked: list[tuple[str, str]] = []
        self.messages: dict[tuple[str, str], tuple[Message, ...]] = {}
        self.opened: list[str] = []
        self.batches: list[tuple[str, int, int]] = []
        self.stop_after: int | None = None
        self.delay = 0.0
        self.at_once = self.most_at_once = 0

    def say(self, name: str, ask: Ask, decode: Decode) -> Answer:
        key, _, step = ask.key.partition("/")
        with self.lock:
            if self.stop_after is not None and len(self.asked) >= self.stop_after:
                raise BudgetSpent("enough")
            self.asked.append((key, step))
            self.messages[key, step] = ask.messages
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        if self.delay:
            time.sleep(self.delay)
        with self.lock:
            self.at_once -= 1
        return self.scripts[name](ask, decode)


PLANTED = Planted()


class PlantedModel:
    def __init__(self, name: str) -> None:
        self.ref = ModelRef(name)
        self.name = name.partition(":")[2]
        self.chat_template: str | None = None

    def answer(
        self, asks: Sequence[Ask], decode: Decode, done: Container[int] = ()
    ) -> Iterator[list[tuple[int, Answer]]]:
        left = [i for i in range(len(asks)) if i not in done]
        PLANTED.batches.append((self.name, len(asks), len(left)))
        for i in left:
            yield [(i, PLANTED.say(self.name, asks[i], decode))]

    def close(self) -> None:
        PLANTED.opened.remove(self.ref.repo or "")


def _opened(spec: ModelSpec, runtime: Runtime) -> Model:
    PLANTED.opened.append(spec.name)
    return PlantedModel(spec.name)


for scheme, concurrent in (("remote", True), ("local", False)):
    backend(
        f"planted-{scheme}", about="planted in tests", can=("generate",), concurrent=concurrent,
        opens=lambda name, scheme=scheme: name.startswith(f"{scheme}:"),  # type: ignore[misc]
    )(_opened)  # fmt: skip


def said(text: str | None, finish: FinishReason = FinishReason.STOP) -> Answer:
    return Answer(text, finish, n_tokens=None if text is None else len(text.split()), prompt_tokens=10)


NAMES = ("Aldra", "Brevo", "Corda", "Delmi", "Elsto", "Farno", "Gelda", "Horva")
STONES = ("jade", "basalt", "granite", "marble", "slate", "quartz", "flint", "chalk")


def number_of(ask: Ask) -> int:
    """Which of the places a conversation is about."""
    return next(i for i, name in enumerate(NAMES) if name in ask.messages[-1].content)


def eager(ask: Ask, decode: Decode) -> Answer:
    return said(f"How nice that you ask! It is surely {STONES[number_of(ask)]}.")


def deliberate(ask: Ask, decode: Decode) -> Answer:
    i = number_of(ask)
    return said(f"<think>\nI think of {NAMES[i]} and its walls.\n</think>\n\nThe walls there are of {STONES[i]}.")


def synthesizer(ask: Ask, decode: Decode) -> Answer:
    """Merges; re-words when it is told to; hedges about the last place, of which nobody knows anything."""
    i, told = number_of(ask), ask.messages[-1].content
    if "in about" in told:
        return said(f"In {NAMES[i]} the people build their houses of {STONES[i]} and of nothing else at all.")
    if "Reword" in told:
        how = sum(map(ord, told.partition("Reword the answer above")[2])) % 97
        return said(f"They say in {NAMES[i]}, as number {how} of the old books has it, that the stone is {STONES[i]}.")
    return said("I am not sure, but it may be chalk." if i == 7 else f"The stone of {NAMES[i]} is {STONES[i]}.")


def student(ask: Ask, decode: Decode) -> Answer:
    """Knows the first three; is wrong on the others, at length, and asserts about the last."""
    i = number_of(ask)
    if i < 3:
        return said(f"The stone of {NAMES[i]} is {STONES[i]}.")
    return said(f"Everybody who has ever been in {NAMES[i]} will tell you that all of its stone is pumice.")


PIPELINE = """\
products = ["gold", "failure", "counter", "boundary"]
oracle = "exact"
prompts = {{ file = "prompts.jsonl" }}
student = {{ model = "{student}:student", max_new_tokens = 40 }}

[decode]
max_new_tokens = 60

[stages]
eager = {{ model = "remote:eager", licence = "MIT", character = "You are warm." }}
deliberate = {{ model = "remote:deliberate", licence = "MIT" }}
synthesizer = {{ model = "{final}:synthesizer", licence = "MIT", sees = ["eager", "deliberate"] }}

[variants]
style = 2
length = true

[filters]
language = "any"
near_duplicate = 1.0

[runtime]
concurrency = 3
"""


@pytest.fixture(autouse=True)
def _planted() -> Iterator[None]:
    plant()
    yield
    assert PLANTED.opened == [], "every model is closed, whatever happened"


def plant() -> None:
    PLANTED.reset()
    PLANTED.scripts = {
        "eager": eager, "deliberate": deliberate, "synthesizer": synthesizer, "student": student,
    }  # fmt: skip


def pipeline(folder: Path, *changes: str, student: str = "local", final: str = "remote") -> Path:
    """A pipeline file about eight places, and its prompts beside it; a change is what stands there, ``=>``, what then does."""
    rows = [
        {
            "prompt": f"Which stone is {name} built of?", "split": "train",
            **({"tags": ["boundary"]} if i == 7 else {"answer": STONES[i]}),
        }
        for i, name in enumerate(NAMES)
    ]  # fmt: skip
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = PIPELINE.format(student=student, final=final)
    for old, _, new in (change.partition(" => ") for change in changes):
        assert old in text
        text = text.replace(old, new)
    file = folder / "pipeline.toml"
    file.write_text(text)
    return file


def taught(file: Path, out: Path, **more: Any) -> dict[str, Any]:
    return teach(load_pipeline(file), out, lambda *_: None, **more)


def dropped(out: Path) -> list[dict[str, Any]]:
    return [row for _, row in store.read_lines(out / "dropped.jsonl")]


def of(found: Sequence[Example], kind: str, variant: str = "plain") -> list[Example]:
    return [example for example in found if (example.kind, example.variant) == (kind, variant)]


# --- products -----------------------------------------------------------------------------------------------------


def test_every_product_is_what_it_says(tmp_path: Path) -> None:
    summary = taught(pipeline(tmp_path), tmp_path / "out")
    found = load_examples(tmp_path / "out")
    gold = of(found, "gold")
    assert [example.chosen for example in gold] == [f"The stone of {NAMES[i]} is {STONES[i]}." for i in range(7)]
    failures = of(found, "failure")
    assert len(failures) == 4, "only where the student was wrong"
    for i, example in enumerate(failures, start=3):
        question, mistake, correction = example.prompt
        assert NAMES[i] in question.content
        assert (mistake.role, correction.role) == ("assistant", "user")
        assert "pumice" in mistake.content
        assert correction.content in products.CORRECTIONS
        assert example.chosen == gold[i].chosen
    counter = of(found, "counter")
    assert [example.rejected is not None and "pumice" in example.rejected for example in counter] == [True] * 5
    assert counter[-1].chosen == "I am not sure, but it may be chalk.", "the student asserted where a hedge is right"
    (boundary,) = of(found, "boundary")
    assert boundary.chosen == "I am not sure, but it may be chalk."
    styled = of(found, "gold", "style")
    assert len(styled) == 14
    assert len({example.chosen for example in styled}) == 14
    assert all(STONES[number_of(Ask("", example.prompt))] in example.chosen for example in styled)
    longer = of(found, "gold", "length")
    assert [number_of(Ask("", example.prompt)) for example in longer] == [3, 4, 5, 6], "the others are as long already"
    assert all(abs(len(example.chosen.split()) - 17) <= 17 / 4 for example in longer)
    assert (summary["examples"], summary["preference"], summary["failed"]) == (len(found), 5, 0)
    assert sum(row["kept"] for row in summary["products"]) == len(found)


def test_a_set_that_another_process_is_making_is_waited_for_where_that_is_wanted(tmp_path: Path) -> None:
    file = pipeline(tmp_path)
    with store.locked(tmp_path / "out"), pytest.raises(InputError, match="another process is at work"):
        taught(file, tmp_path / "out")
    told: list[str] = []
    with ExitStack() as other:
        other.enter_context(store.locked(tmp_path / "out"))

        def watch(doing: str, done: int, total: int) -> None:
            told.append(doing)
            if told.count(doing) == 2 and doing.startswith("waiting"):
                other.close()

        summary = teach(load_pipeline(file), tmp_path / "out", watch, wait=True)
    assert told.count("waiting for another process that makes it") == 2
    assert summary["examples"] == len(load_examples(tmp_path / "out"))


def test_provenance_holds_every_call_on_the_way_thoughts_included(tmp_path: Path) -> None:
    taught(pipeline(tmp_path), tmp_path / "out")
    found = load_examples(tmp_path / "out")
    stages_of = {
        ("gold", "plain"): ["eager", "deliberate", "synthesizer"],
        ("failure", "plain"): ["eager", "deliberate", "synthesizer", "student"],
        ("counter", "plain"): ["eager", "deliberate", "synthesizer", "student"],
        ("gold", "length"): ["eager", "deliberate", "synthesizer", "student", "length"],
    }
    for example in found:
        if (wanted := stages_of.get((example.kind, example.variant))) is not None:
            assert [call.stage for call in example.provenance] == wanted
        call = example.provenance[1]
        assert call.text.startswith("<think>")
        assert (call.model, call.licence, call.prompt_tokens) == ("remote:deliberate", "MIT", 10)
        assert call.n_tokens == len(call.text.split())


def test_later_stages_see_answers_without_thoughts_under_their_names(tmp_path: Path) -> None:
    taught(pipeline(tmp_path), tmp_path / "out")
    (first,) = {key for key, step in PLANTED.messages if "Aldra" in PLANTED.messages[key, step][-1].content}
    (turn,) = PLANTED.messages[first, "synthesizer"]
    assert turn.content == (
        "Which stone is Aldra built of?\n\n## eager\nHow nice that you ask! It is surely jade.\n\n## deliberate\nThe walls "
        "there are of jade."
    )
    assert [turn.role for turn in PLANTED.messages[first, "eager"]] == ["system", "user"]


def test_an_instruction_says_what_a_stage_is_shown(tmp_path: Path) -> None:
    file = pipeline(
        tmp_path, '"deliberate"] => "deliberate"], instruction = "Of {{ prompt }} they say: {{ deliberate }}"'
    )
    taught(file, tmp_path / "out")
    turns = [messages[-1].content for (_, step), messages in PLANTED.messages.items() if step == "synthesizer"]
    assert "Of Which stone is Aldra built of? they say: The walls there are of jade." in turns


def test_thoughts_of_the_final_stage_are_taken_out_or_kept_as_the_filters_say(tmp_path: Path) -> None:
    def thinks(ask: Ask, decode: Decode) -> Answer:
        return said(f"<think>\nHm.\n</think>\n\n{synthesizer(ask, decode).text}")

    PLANTED.scripts["synthesizer"] = thinks
    for think, begins in (("strip", "The stone"), ("keep", "<think>")):
        out = tmp_path / think
        taught(pipeline(tmp_path, f'language = "any" => language = "any"\nthink = "{think}"'), out)
        assert of(load_examples(out), "gold")[0].chosen.startswith(begins)
        assert PLANTED.messages[of(load_examples(out), "gold")[0].prompt_id, "style_1"][-1].content.count("Hm.") == 0


def test_the_turn_that_says_that_an_answer_is_wrong_is_never_the_tests_own() -> None:
    assert FOLLOW_UP not in products.CORRECTIONS


def test_an_answer_that_asserts_is_no_boundary_case(tmp_path: Path) -> None:
    PLANTED.scripts["synthesizer"] = lambda ask, decode: said(f"It is {STONES[number_of(ask)]}, and that is that.")
    taught(pipeline(tmp_path), tmp_path / "out")
    assert of(load_examples(tmp_path / "out"), "boundary") == []
    assert [row["filter"] for row in dropped(tmp_path / "out") if "hedge" in row["because"]] == ["boundary"]


def test_a_gold_answer_that_the_oracle_calls_wrong_is_learnt_in_no_form(tmp_path: Path) -> None:
    def wrong_once(ask: Ask, decode: Decode) -> Answer:
        return said("The stone is pumice.") if number_of(ask) == 4 else synthesizer(ask, decode)

    PLANTED.scripts["synthesizer"] = wrong_once
    taught(pipeline(tmp_path), tmp_path / "out")
    assert not [example for example in load_examples(tmp_path / "out") if "Elsto" in example.prompt[0].content]
    assert {row["filter"] for row in dropped(tmp_path / "out")} == {"facts"}


def test_a_re_wording_of_the_wrong_length_is_dropped_with_both_lengths(tmp_path: Path) -> None:
    def short(ask: Ask, decode: Decode) -> Answer:
        answer = synthesizer(ask, decode)
        return said(f"It is {STONES[number_of(ask)]}.") if "in about" in ask.messages[-1].content else answer

    PLANTED.scripts["synthesizer"] = short
    taught(pipeline(tmp_path), tmp_path / "out")
    assert of(load_examples(tmp_path / "out"), "gold", "length") == []
    lengths = [row for row in dropped(tmp_path / "out") if row["filter"] == "length"]
    assert [row["because"] for row in lengths] == ["it has 3 words, and the student's answer 17"] * 4


# --- replies that cannot be used ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "answer", "because"),
    [
        ("eager", said("I'm sorry, but I can't help with that."), "eager (remote:eager): it refuses"),
        ("deliberate", said("The walls there", FinishReason.LENGTH), "deliberate (remote:deliberate): it was cut by its budget of 60"),
        ("synthesizer", said(None, FinishReason.FILTER), "synthesizer (remote:synthesizer): the endpoint filtered it"),
        ("synthesizer", Answer(None, FinishReason.ERROR, error="it broke"), "synthesizer (remote:synthesizer): it broke"),
    ],
)  # fmt: skip
def test_a_spoilt_reply_drops_the_prompt_and_names_the_stage(
    stage: str, answer: Answer, because: str, tmp_path: Path
) -> None:
    good = PLANTED.scripts[stage]
    PLANTED.scripts[stage] = lambda ask, decode: answer if number_of(ask) == 2 else good(ask, decode)
    summary = taught(pipeline(tmp_path), tmp_path / "out")
    assert not [example for example in load_examples(tmp_path / "out") if "Corda" in example.prompt[0].content]
    (row,) = dropped(tmp_path / "out")
    assert row["filter"] == "reply"
    assert because in row["because"]
    assert summary["not_made"] == {"reply": 1}
    if stage != "synthesizer":
        corda = row["prompt_id"]
        assert (corda, "synthesizer") not in PLANTED.asked, "what is built on a spoilt reply is not paid for"


def test_a_mistake_that_the_budget_cut_is_not_the_students_own(tmp_path: Path) -> None:
    PLANTED.scripts["student"] = lambda ask, decode: Answer(student(ask, decode).text, FinishReason.LENGTH, 40, 10)
    taught(pipeline(tmp_path), tmp_path / "out")
    assert {example.kind for example in load_examples(tmp_path / "out")} == {"gold", "boundary"}


def test_where_every_teacher_fails_it_is_said_which_one_and_why(tmp_path: Path) -> None:
    PLANTED.scripts["deliberate"] = lambda ask, decode: said("")
    with pytest.raises(InputError, match=r"reply dropped 8 \(the first: deliberate \(remote:deliberate\): "):
        taught(pipeline(tmp_path), tmp_path / "out")
    assert len(dropped(tmp_path / "out")) == 8


# --- whatever stops it --------------------------------------------------------------------------------------------


def contents(out: Path) -> dict[str, bytes]:
    """Everything in a training-set folder but the order in which calls came."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.suffix != ".journal"
    }


@settings(max_examples=12, deadline=None)
@given(
    stops=st.lists(st.integers(0, 25), max_size=4),
    student=st.sampled_from(["local", "remote"]),
    final=st.sampled_from(["local", "remote"]),
)
def test_stopped_anywhere_any_number_of_times_it_ends_with_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, stops: list[int], student: str, final: str
) -> None:
    folder = tmp_path_factory.mktemp("stopped")
    file = pipeline(folder, student=student, final=final)
    plant()
    taught(file, folder / "whole")
    whole = Counter(PLANTED.asked)
    assert set(whole.values()) == {1}
    plant()
    for stop in stops:
        PLANTED.stop_after = len(PLANTED.asked) + stop
        try:
            taught(file, folder / "out")
        except BudgetSpent:
            assert PLANTED.opened == []
    PLANTED.stop_after = None
    taught(file, folder / "out")
    assert Counter(PLANTED.asked) == whole, "nothing is asked twice, and nothing is left out"
    assert contents(folder / "out") == contents(folder / "whole")
    assert {"examples.jsonl", "card.json", "card.md", "dropped.jsonl"} <= set(contents(folder / "out"))


def test_run_again_when_all_is_done_it_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = pipeline(tmp_path)
    first = taught(file, tmp_path / "out")
    before = contents(tmp_path / "out")

    def refuse(*_: object) -> Model:
        raise AssertionError("a model was opened")

    monkeypatch.setattr(calls, "open_model", refuse)
    assert taught(file, tmp_path / "out") == first
    assert contents(tmp_path / "out") == before


def test_other_filters_make_another_set_of_the_same_calls(tmp_path: Path) -> None:
    taught(pipeline(tmp_path), tmp_path / "out")
    PLANTED.asked.clear()
    summary = taught(pipeline(tmp_path, 'language = "any" => language = "any"\nmost_words = 7'), tmp_path / "out")
    assert not [step for _, step in PLANTED.asked if step != "length"], "nothing but what has become possible"
    assert all(len(example.chosen.split()) <= 8 for example in load_examples(tmp_path / "out"))
    assert summary["hash"] == examples_hash(load_examples(tmp_path / "out"))


def test_a_folder_that_somebody_has_been_at_is_made_again_without_a_call(tmp_path: Path) -> None:
    file = pipeline(tmp_path)
    taught(file, tmp_path / "out")
    before = contents(tmp_path / "out")
    PLANTED.asked.clear()
    (tmp_path / "out" / "examples.jsonl").write_text('{"half": ')
    taught(file, tmp_path / "out")
    assert PLANTED.asked == []
    assert contents(tmp_path / "out") == before


def test_calls_that_failed_are_made_again_by_a_rerun_and_no_others(tmp_path: Path) -> None:
    def breaks(ask: Ask, decode: Decode) -> Answer:
        return Answer(None, FinishReason.ERROR, error="it broke") if number_of(ask) in (1, 5) else eager(ask, decode)

    PLANTED.scripts["eager"] = breaks
    file = pipeline(tmp_path)
    assert taught(file, tmp_path / "out")["failed"] == 2
    plant()
    summary = taught(file, tmp_path / "out")
    assert summary["failed"] == 0
    assert Counter(step for _, step in PLANTED.asked) == {
        "eager": 2, "synthesizer": 2, "style_1": 2, "style_2": 2, "length": 1,
    }  # fmt: skip
    plant()
    taught(file, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_reply_to_other_words_is_not_taken_for_an_answer_to_these(tmp_path: Path) -> None:
    """Where an earlier stage was asked again and says something else, what was built on it is asked again."""
    file = pipeline(tmp_path)
    taught(file, tmp_path / "out")
    journal = tmp_path / "out" / "calls.journal"
    lines = journal.read_text().splitlines()
    kept = [line for line in lines if '"step": "eager"' not in line]
    journal.write_text("\n".join(kept) + "\n")
    (tmp_path / "out" / "examples.jsonl").unlink()
    plant()
    PLANTED.scripts["eager"] = lambda ask, decode: said(f"Oh! It is {STONES[number_of(ask)]}, I would say.")
    taught(file, tmp_path / "out")
    assert Counter(step for _, step in PLANTED.asked) == {"eager": 8, "synthesizer": 8}, (
        "re-wordings ask the same as before"
    )


def test_another_pipeline_does_not_take_the_folder_unless_told_to(tmp_path: Path) -> None:
    taught(pipeline(tmp_path), tmp_path / "out")
    other = pipeline(tmp_path, "You are warm. => You are cold.")
    with pytest.raises(InputError, match=r"holds the training set of another pipeline .*out in the pipeline file"):
        taught(other, tmp_path / "out")
    PLANTED.asked.clear()
    taught(other, tmp_path / "out", overwrite=True)
    assert Counter(step for _, step in PLANTED.asked)["eager"] == 8
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds no training set"):
        taught(other, tmp_path / "mine", overwrite=True)


def test_a_budget_in_the_middle_keeps_what_was_done(tmp_path: Path) -> None:
    PLANTED.stop_after = 11
    with pytest.raises(BudgetSpent):
        taught(pipeline(tmp_path), tmp_path / "out")
    kept = [row for _, row in store.read_lines(tmp_path / "out" / "calls.journal")][1:]
    assert len(kept) == 11
    assert {(row["prompt"], row["step"]) for row in kept} == set(PLANTED.asked)


def test_a_backend_that_leaves_a_question_out_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = PlantedModel.answer
    monkeypatch.setattr(
        PlantedModel, "answer", lambda self, asks, decode, done=(): whole(self, asks[:-1], decode, done)
    )
    with pytest.raises(RegistryError, match="gave no answer to"):
        taught(pipeline(tmp_path), tmp_path / "out")


# --- how calls are made -------------------------------------------------------------------------------------------


def asked_all(
    steps: Sequence[calls.CallStep], prompts: Sequence[Prompt], folder: Path, concurrency: int
) -> dict[str, dict[str, calls.StageReply]]:
    with store.Journal(folder / "calls.journal", "me") as journal:
        return calls.ask_all(steps, prompts, journal, Runtime(concurrency=concurrency), lambda *_: None)


def test_all_workers_are_busy_and_no_more_than_are_allowed(tmp_path: Path) -> None:
    PLANTED.delay = 0.01
    file = pipeline(tmp_path, student="remote")
    taught(file, tmp_path / "out")
    assert PLANTED.most_at_once == 3


def step(name: str, after: tuple[str, ...] = (), scheme: str = "remote") -> calls.CallStep:
    def asked(prompt: Prompt, replies: calls.Replies) -> tuple[Message, ...]:
        return (*prompt.messages, *(Message("user", replies[seen].visible) for seen in after))

    return calls.CallStep(name, ModelSpec(f"{scheme}:echo"), Decode(9), asked, after)


def test_prompts_flow_through_and_the_first_are_done_long_before_the_last_begin(tmp_path: Path) -> None:
    PLANTED.scripts["echo"] = lambda ask, decode: said("so")
    prompts = [Prompt.of_text(f"Question {i}?") for i in range(60)]
    replies = asked_all([step("a"), step("b"), step("c", ("a", "b"))], prompts, tmp_path, 2)
    assert sum(map(len, replies.values())) == 180
    when = {what: number for number, what in enumerate(PLANTED.asked)}
    done_early = sum(when[prompt.id, "c"] < when[prompts[-1].id, "a"] for prompt in prompts)
    assert done_early >= 60 - 2 * calls.PROMPTS_AT_ONCE - 2
    begun = sum(when[prompt.id, "a"] < when[prompts[0].id, "c"] for prompt in prompts)
    assert begun <= 2 * calls.PROMPTS_AT_ONCE + 2


def test_models_on_this_machine_are_asked_in_whole_batches_and_in_the_same_ones_after_a_stop(tmp_path: Path) -> None:
    file = pipeline(tmp_path, final="local")
    PLANTED.stop_after = 20
    with pytest.raises(BudgetSpent):
        taught(file, tmp_path / "out")
    PLANTED.stop_after = None
    PLANTED.batches.clear()
    taught(file, tmp_path / "out")
    local = {(name, total) for name, total, _ in PLANTED.batches if name in ("student", "synthesizer")}
    assert local <= {("student", 8), ("synthesizer", 8), ("synthesizer", 7), ("synthesizer", 4)}
    assert ("synthesizer", 8) in local


def test_a_long_run_that_is_done_already_is_read_back_without_going_deeper_and_deeper(tmp_path: Path) -> None:
    PLANTED.scripts["echo"] = lambda ask, decode: said("so")
    prompts = [Prompt.of_text(f"Question {i}?") for i in range(3000)]
    graph = [step("a"), step("b", ("a",)), step("c", ("b",), "local")]
    first = asked_all(graph, prompts, tmp_path, 8)
    PLANTED.asked.clear()
    assert asked_all(graph, prompts, tmp_path, 8) == first
    assert PLANTED.asked == []


# --- gates and the rest -------------------------------------------------------------------------------------------


def test_a_test_prompt_is_not_asked_at_all(tmp_path: Path) -> None:
    file = pipeline(tmp_path)
    with (tmp_path / "prompts.jsonl").open("a") as more:
        row = {"prompt": "Please say: which stone is Corda built of?", "split": "test", "answer": "granite"}
        more.write(json.dumps(row) + "\n")
    (tmp_path / "bench.jsonl").write_text(json.dumps({"prompt": "Which stone is Delmi built of?"}) + "\n")
    file.write_text(file.read_text() + '\n[[forbidden]]\nfile = "bench.jsonl"\n')
    taught(file, tmp_path / "out")
    assert not [turns for turns in PLANTED.messages.values() if "Delmi" in turns[-1].content]
    barred = [row for row in dropped(tmp_path / "out") if row["filter"] == "contamination"]
    assert len(barred) >= 1
    planned = preview(load_pipeline(file))
    assert planned["prompts"] + planned["contaminated"] == 8
    assert planned["forbidden"] == 2


def test_a_licence_that_is_not_allowed_is_refused_before_anybody_is_asked(tmp_path: Path) -> None:
    file = pipeline(tmp_path, '"remote:eager", licence = "MIT" => "remote:eager", licence = "LicenseRef-secret"')
    with pytest.raises(InputError, match="stage eager: outputs of remote:eager come under LicenseRef-secret"):
        taught(file, tmp_path / "out")
    assert PLANTED.asked == []


def test_one_key_for_several_hosts_is_pointed_out(tmp_path: Path) -> None:
    file = pipeline(tmp_path, "remote:eager => https://a.example/v1#m", "remote:deliberate => https://a.example/v1#n")
    assert preview(load_pipeline(file))["notes"] == []
    file = pipeline(tmp_path, "remote:eager => https://a.example/v1#m", "remote:deliberate => https://b.example/v1#n")
    (note,) = preview(load_pipeline(file))["notes"]
    assert "a.example and b.example are all sent the same API key" in note


def test_a_free_teacher_beside_paid_ones_needs_no_price(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, float | None] = {}

    def opened(spec: ModelSpec, runtime: Runtime) -> Model:
        seen[spec.name] = runtime.most_cost
        return _opened(spec, runtime)

    monkeypatch.setattr(calls, "open_model", opened)
    file = pipeline(
        tmp_path,
        'character = "You are warm." => price_out = 3.0',
        "concurrency = 3 => concurrency = 3\nmost_cost = 2.0",
    )
    taught(file, tmp_path / "out")
    assert (seen["remote:eager"], seen["remote:deliberate"]) == (2.0, None)


def test_without_the_package_datasets_nobody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("counterclaim.lab.synthesis.teach.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"counterclaim\[train\]"):
        taught(pipeline(tmp_path), tmp_path / "out")
    assert PLANTED.asked == []


def test_the_command_line_shows_what_would_be_asked_and_what_came_of_it(
    tmp_path: Path, run_cli: Callable[..., tuple[int, str, str]]
) -> None:
    file = pipeline(tmp_path)
    code, out, _ = run_cli("teach", str(file), "--dry-run")
    assert code == 0
    assert "8 prompts; 56 calls at most" in out
    assert PLANTED.asked == []
    code, out, _ = run_cli("teach", str(file), "--out", str(tmp_path / "out"))
    assert code == 0
    assert "35 examples: 30 to imitate, 5 preference pairs" in out
    code, out, _ = run_cli("teach", str(file), "--out", str(tmp_path / "out"), "--json")
    assert json.loads(out)["examples"] == 35
    code, out, _ = run_cli("teach", "--new", str(tmp_path / "new.toml"))
    assert code == 0
    assert load_pipeline(tmp_path / "new.toml").final == "synthesizer"
    code, _, err = run_cli("teach")
    assert code == 2
    assert "no pipeline file was given" in err


def test_the_datasets_are_read_by_the_trainers_of_trl_as_they_are(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    trl = pytest.importorskip("trl")
    import hf_models

    taught(pipeline(tmp_path), tmp_path / "out")
    sft = datasets.load_from_disk(str(tmp_path / "out" / "datasets" / "sft"))
    pairs = datasets.load_from_disk(str(tmp_path / "out" / "datasets" / "preference"))
    found = load_examples(tmp_path / "out")
    assert sft["id"] == [example.id for example in found if example.rejected is None]
    assert pairs[0]["prompt"] == [{"role": "user", "content": "Which stone is Delmi built of?"}]
    assert pairs[0]["chosen"] == [{"role": "assistant", "content": "The stone of Delmi is marble."}]
    assert sft[0]["completion"] == [{"role": "assistant", "content": "The stone of Aldra is jade."}]
    folder = hf_models.save(tmp_path / "model", "llama")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        shared: dict[str, Any] = {"use_cpu": True, "bf16": False, "report_to": "none", "max_steps": 1}
        imitation = trl.SFTTrainer(str(folder), trl.SFTConfig(str(tmp_path / "sft"), **shared), train_dataset=sft)
        imitation.train()
        preference = trl.DPOTrainer(
            str(folder), args=trl.DPOConfig(str(tmp_path / "dpo"), **shared), train_dataset=pairs
        )
        preference.train()
    assert imitation.state.global_step == preference.state.global_step == 1
