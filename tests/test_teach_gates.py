"""Gates: no words under other licences, no test prompts, and a note where one family does several things."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from counterclaim.errors import InputError
from counterclaim.lab.config import PipelinePlan, StagePlan, TrainingPrompts
from counterclaim.lab.models.tiny import domain, prompts
from counterclaim.lab.models.tiny.domain import assertion
from counterclaim.lab.synthesis.card import role_families
from counterclaim.lab.synthesis.filters import Contamination, bar, check_licences, unlicensed
from counterclaim.records import Call, Decode, Example, Message, Prompt, model_family
from counterclaim.registry import ModelSpec


def plan(
    licences: Sequence[str | None] = ("MIT",),
    allowed: Sequence[str] = ("MIT", "Apache-2.0"),
    models: Sequence[str] = ("glm-5",),
) -> PipelinePlan:
    names = ("eager", "deliberate", "adversarial", "synthesizer")
    stages = tuple(
        StagePlan(name, ModelSpec(models[i % len(models)]), Decode(64), licence)
        for i, (name, licence) in enumerate(zip(names, licences, strict=False))
    )
    choice = (TrainingPrompts("tiny"),)
    return PipelinePlan(Path("pipe.toml"), choice, stages, stages[-1].name, licences=tuple(allowed))


# --- licences -----------------------------------------------------------------------------------------------------


def test_teachers_on_the_list_may_teach() -> None:
    check_licences(plan(["MIT", "mit", "Apache-2.0"]))
    check_licences(plan(["LicenseRef-modified-MIT"], ["MIT", "LicenseRef-modified-MIT"]))


def test_a_licence_that_is_not_on_the_list_is_refused_with_stage_licence_and_both_remedies() -> None:
    with pytest.raises(InputError) as error:
        check_licences(plan(["MIT", "LicenseRef-modified-MIT"]))
    told = str(error.value)
    for words in ("deliberate", "LicenseRef-modified-MIT", 'licences = ["LicenseRef-modified-MIT"]', "another teacher"):
        assert words in told


def test_a_teacher_without_a_licence_is_refused() -> None:
    with pytest.raises(InputError, match=r"stage eager: .*is not declared.*\[stages\.eager\].*another teacher"):
        check_licences(plan([None]))


@pytest.mark.parametrize("name", ["Apache2", "MIT License", "", "MIT OR Apache-2.0", "free for research"])
def test_what_is_no_spdx_id_is_refused_wherever_it_stands(name: str) -> None:
    with pytest.raises(InputError, match="no SPDX licence id"):
        check_licences(plan([name]))
    with pytest.raises(InputError, match=r"licences: .*no SPDX licence id"):
        check_licences(plan(["MIT"], ["MIT", name]))


def call(stage: str, licence: str | None, text: str = "The answer is jade.") -> Call:
    return Call(stage, "model", licence, text)


def example(*calls: Call, chosen: str = "The answer is jade.", rejected: str | None = None) -> Example:
    return Example((Message("user", "Which stone?"),), chosen, rejected, provenance=calls)


def test_no_example_enters_that_a_barred_teacher_had_a_part_in() -> None:
    fine = example(call("eager", "mit"), call("synthesizer", "Apache-2.0"))
    barred = example(call("eager", "GPL-3.0-only"), call("synthesizer", "MIT"))
    unknown = example(call("synthesizer", None))
    kept, dropped = bar([fine, barred, unknown], unlicensed(plan()))
    assert kept == [fine]
    assert [(item.example, item.filter) for item in dropped] == [(barred, "licence"), (unknown, "licence")]
    assert "eager (model) spoke under GPL-3.0-only" in dropped[0].because
    assert "no declared licence" in dropped[1].because


def test_the_student_may_be_heard_as_the_worse_side_but_is_not_its_own_teacher() -> None:
    teacher, student = call("synthesizer", "MIT"), call("student", None, "<think>hm</think>The answer is chalk.")
    worse = example(teacher, student, rejected="The answer is chalk.")
    itself = example(student, chosen="The answer is chalk.")
    kept, dropped = bar([worse, itself], unlicensed(plan()))
    assert kept == [worse]
    assert [item.example for item in dropped] == [itself]


# --- roles --------------------------------------------------------------------------------------------------------


def test_families_are_told_by_names() -> None:
    names = {
        "https://host/v1#zai-org/GLM-5": "glm", "moonshotai/Kimi-K2.5": "kimi", "MiniMax M2.7": "minimax", "tiny:qwen3": "qwen",
        "Qwen/Qwen3-0.6B": "qwen", "llama3:8b": "llama", "deepseek/deepseek-v3.2-exp": "deepseek", "/models/qwen3/": "qwen",
        "character:eager": "eager", "7b": "7b",
    }  # fmt: skip
    assert {name: model_family(name) for name in names} == names


def test_one_family_that_teaches_writes_and_judges_is_noted() -> None:
    made = replace(
        plan(["MIT", "MIT"], models=["zai-org/GLM-5", "kimi-k2.5"]),
        student=ModelSpec("tiny:qwen3"),
        judge="http://host/v1#glm-4.7",
        roles={"prompt_writer": "glm-4"},
    )
    who = role_families(made)
    assert who.families == {
        "teacher": ("glm", "kimi"),
        "student": ("qwen",),
        "judge": ("glm",),
        "prompt_writer": ("glm",),
    }
    assert len(who.notes) == 1
    assert who.notes[0].startswith("glm is teacher, judge and prompt writer")
    assert "grades words of its own family" in who.notes[0]


def test_families_of_their_own_need_no_note() -> None:
    made = replace(plan(models=["glm-5"]), student=ModelSpec("tiny:qwen3"), judge="kimi-k2")
    assert role_families(made).notes == ()


# --- contamination ------------------------------------------------------------------------------------------------


def asks(text: str, source: str = "") -> Example:
    return Example((Message("user", text),), assertion("jade"), prompt_id=source)


TRAIN = [
    Example(prompt.messages, assertion(str(prompt.gold["answer"])), prompt_id=prompt.id) for prompt in prompts("train")
]
TEST = prompts("test")


def dropped_of(examples: Sequence[Example], forbidden: Sequence[Prompt]) -> list[Example | None]:
    kept, dropped = bar(examples, Contamination(forbidden))
    gone = [item.example for item in dropped]
    assert [one for one in examples if one in kept] == kept
    assert len(kept) + len(gone) == len(examples)
    return gone


def test_training_questions_from_the_same_domain_stay() -> None:
    assert dropped_of(TRAIN, [*TEST, *prompts("fresh")]) == []


@pytest.mark.parametrize("n_forbidden", [1, 3, 40, len(TEST)])
def test_the_wording_of_a_test_question_about_another_place_stays(n_forbidden: int) -> None:
    other = [
        asks(domain._test_question(place.name, attribute))
        for place in domain.places()
        if place.split == "train"
        for attribute in place.facts
    ]
    assert dropped_of(other, TEST[:n_forbidden]) == []


EDITS: dict[str, Callable[[str], str]] = {
    "exact": lambda text: text,
    "shouted": lambda text: text.upper().replace("?", "!!"),
    "please": lambda text: f"Please: {text}",
    "please at the end": lambda text: f"{text.rstrip('?.')}, please?",
    "a word put in": lambda text: text.replace("stone", "kind of stone").replace("craft", "kind of craft"),
    "articles left out": lambda text: text.replace("the ", ""),
    "framed": lambda text: f"I have a question. {text} Answer in one sentence.",
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
@pytest.mark.parametrize("n_copies", [1, 5, len(TEST)])
def test_a_test_question_is_found_again_exact_or_edited(edit: Callable[[str], str], n_copies: int) -> None:
    copies = [asks(edit(prompt.text)) for prompt in TEST[:n_copies]]
    assert dropped_of([*TRAIN, *copies], TEST) == copies


def test_what_was_made_from_a_test_prompt_is_named_by_its_id() -> None:
    one = asks("Something else entirely?", source=TEST[0].id)
    _, dropped = bar([one], Contamination(TEST))
    assert dropped[0].filter == "contamination"
    assert TEST[0].id in dropped[0].because


def test_a_test_question_in_an_earlier_turn_is_found_and_a_scripted_turn_is_none() -> None:
    def trace(prompt: Prompt) -> Example:
        turns = (
            *prompt.messages,
            Message("assistant", assertion("chalk")),
            Message("user", "No, that is not right. Try again."),
        )
        return Example(turns, assertion("jade"), kind="failure")

    clean = [trace(prompt) for prompt in prompts("train")]
    copied = [trace(prompt) for prompt in TEST[:20]]
    assert dropped_of([*clean, *copied], TEST) == copied


LONG = (
    "A farmer in the north keeps forty sheep and nine goats on a hill above the lake, sells a third of the sheep in spring, "
    "buys two goats for every goat that died over the winter, and wants to know how many animals are left in summer."
)


def test_a_long_test_prompt_inside_a_longer_text_or_in_an_answer_is_found() -> None:
    test = [
        Prompt.of_text(LONG),
        Prompt.of_text("Which river flows through the capital of the smallest country in the south?"),
    ]
    inside = asks("Read this letter and reply to it kindly. " * 4 + LONG + " Yours, a reader. " * 8)
    piece = asks(LONG.split(", sells")[0] + ".")
    told = Example((Message("user", "Write a riddle for a school book."),), f"Here is one: {LONG}")
    other = asks(
        "A baker in the south bakes forty loaves and nine cakes in a cellar below the church. How many are sold?"
    )
    assert dropped_of([inside, other, piece, told], test) == [inside, piece, told]


def test_where_nothing_is_forbidden_or_asked_nothing_is_dropped() -> None:
    assert dropped_of(TRAIN[:3], []) == []
    assert dropped_of([], TEST) == []
    assert dropped_of(TRAIN[:3], [Prompt("id:only-a-name")]) == []
