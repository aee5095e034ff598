"""The data card: counts that add up, words of models shown as text, nothing of the machine in it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from counterclaim.lab.config import PipelinePlan, StagePlan, TrainingPrompts
from counterclaim.lab.synthesis.card import SHOWN, data_card
from counterclaim.lab.synthesis.filters import DroppedExample, FilteredExamples
from counterclaim.records import Call, Decode, Example, Json, Message
from counterclaim.registry import ModelSpec

EVIL = "Ignore this ![x](http://evil.example/a.png) <script>alert(1)</script> | @everyone `code` \u202etxt"


def example(text: str = "The answer is jade.", rejected: str | None = None, think: str = "") -> Example:
    chosen = f"<think>{think}</think>{text}" if think else text
    call = Call("eager", "character:eager", "MIT", text, 10, 5, 0.5)
    kind = "gold" if rejected is None else "counter"
    return Example((Message("user", "Which stone?"),), chosen, rejected, kind, "plain", "p1", (call,))  # type: ignore[arg-type]


def plan(**more: Json) -> PipelinePlan:
    stages = (
        StagePlan("eager", ModelSpec("http://me:secret@host/v1#glm-5"), Decode(64, system_prompt=EVIL), "mit"),
        StagePlan("last", ModelSpec("kimi-k2"), Decode(64), "LicenseRef-modified-MIT", sees=("eager",)),
    )
    base = PipelinePlan(
        Path("/home/somebody/pipe.toml"),
        (TrainingPrompts("/home/somebody/asked.jsonl"),),
        stages,
        "last",
        judge="glm-4",
    )
    return replace(base, licences=("MIT", "LicenseRef-modified-MIT"), **more)


def summary(kept: int) -> dict[str, Json]:
    row = {"calls": 3, "failed": 0, "spoilt": 1, "prompt_tokens": 30, "tokens": 15, "cost": 0.25, "licence": "MIT"}
    return {
        "hash": "ab" * 32,
        "prompts": 9,
        "products": [{"kind": "gold", "variant": "plain", "made": kept + 4, "kept": kept, "dropped": {"length": 4}}],
        "not_made": {"reply": 1},
        "stages": [
            {"stage": "eager", "model": "http://me:secret@host/v1#glm-5", **row},
            {"stage": "last", "model": "kimi-k2", **row},
            {"stage": "student", "model": "tiny:qwen3", **row, "licence": None},
        ],
    }


def cards(filtered: FilteredExamples, **more: Json) -> tuple[dict[str, Json], str]:
    return data_card(plan(**more), filtered, summary(len(filtered.kept)), n_forbidden=7)


def test_the_numbers_of_a_card_are_those_of_the_set() -> None:
    dropped = [DroppedExample(example(f"One two {i}."), "length", "too short", f"p{i}") for i in range(4)]
    filtered = FilteredExamples(
        [example(), example("A b c d e f.", "No."), example(think="one two three")],
        [*dropped, DroppedExample(None, "reply", "it loops", "p9")],
    )
    card, text = cards(filtered)
    assert (card["examples"], card["sft"], card["preference"], card["prompts"]["forbidden"]) == (3, 2, 1, 7)
    assert (card["answer_words"], card["think_words"]) == (4.0, 0.0)
    assert card["words"]["thought"]["high"] > 2
    assert card["dropped"]["length"]["count"] == 4
    assert [item["prompt_id"] for item in card["dropped"]["length"]["shown"]] == ["p0", "p1", "p2"]
    assert len(card["dropped"]["length"]["shown"]) == SHOWN
    assert card["dropped"]["reply"]["shown"][0]["answer"] is None
    assert card["total"] == {"calls": 9, "failed": 0, "spoilt": 3, "prompt_tokens": 90, "tokens": 45, "cost": 0.75}
    assert card["licences"] == ["LicenseRef-modified-MIT", "MIT"]
    assert json.loads(json.dumps(card, allow_nan=False)) == card
    assert "| all | 9 | 0 | 3 | 90 | 45 | 0.750 |" in text
    assert "| length | 4 |" in text


def test_one_family_in_two_roles_stands_in_the_card() -> None:
    card, text = cards(FilteredExamples([example()]))
    assert card["families"]["judge"] == ["glm"]
    assert "glm is teacher and judge: the judge grades words of its own family." in card["notes"]
    assert "the judge grades words of its own family" in text


def test_words_of_models_are_text_in_the_card_and_nothing_else() -> None:
    card, text = cards(FilteredExamples([example()], [DroppedExample(example(EVIL), "length", EVIL, "p")]))
    assert "<script>" not in text
    assert "![x](http" not in text
    assert "\u202e" not in text
    assert "\u202e" not in json.dumps(card, ensure_ascii=False)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    unescaped = {line.replace("\\|", "").count("|") for line in rows if "eager" in line and "glm" in line}
    assert unescaped == {6}, "a pipe in a character prompt broke the table"


def test_neither_passwords_nor_folders_are_told() -> None:
    card, text = cards(FilteredExamples([example()]))
    for told in (text, json.dumps(card)):
        assert "secret" not in told
        assert "/home/somebody" not in told
    assert card["prompts"]["sources"][0]["source"] == "asked.jsonl"


def front_matter(text: str) -> Json:
    import yaml

    return yaml.safe_load(text.split("---\n")[1])


def test_the_front_matter_is_that_of_a_dataset_card() -> None:
    _, text = cards(FilteredExamples([example()]))
    head = front_matter(text)
    assert head["license"] == "other"
    assert head["license_name"] == "LicenseRef-modified-MIT AND MIT"
    assert head["language"] == ["en"]
    assert head["size_categories"] == ["n<1K"]
    stages = tuple(
        replace(stage, licence=name) for stage, name in zip(plan().stages, ("MIT", "Apache-2.0"), strict=True)
    )
    assert front_matter(cards(FilteredExamples([example()]), stages=stages)[1])["license"] == ["apache-2.0", "mit"]
    alike = tuple(replace(stage, licence="MIT") for stage in stages)
    assert front_matter(cards(FilteredExamples([example()]), stages=alike)[1])["license"] == "mit"


def test_only_what_is_there_is_told_how_to_load() -> None:
    assert "DPOTrainer" not in cards(FilteredExamples([example()]))[1]
    assert "SFTTrainer" not in cards(FilteredExamples([example(rejected="No.")]))[1]


def test_a_card_is_the_same_every_time() -> None:
    filtered = FilteredExamples([example()], [DroppedExample(example("x"), "length", "short", "p")])
    assert cards(filtered) == cards(filtered)
