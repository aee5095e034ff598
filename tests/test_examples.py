"""Training sets are read in every format that TRL takes, and a row that cannot be learnt from is named by its line."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from counterclaim.errors import HostileInputError, InputError
from counterclaim.lab.synthesis.examples import FILE, STATE, examples_hash, load_examples
from counterclaim.records import Call, Example, Message, to_json

ASKED = (Message("user", "Which stone?"),)
USER, JADE, RUBY = (
    {"role": "user", "content": "Which stone?"},
    {"role": "assistant", "content": "Jade."},
    {"role": "assistant", "content": "Ruby."},
)


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": [USER, JADE]}, Example(ASKED, "Jade.")),
        ({"prompt": "Which stone?", "completion": "Jade."}, Example(ASKED, "Jade.")),
        ({"prompt": [USER], "completion": [JADE]}, Example(ASKED, "Jade.")),
        ({"prompt": "Which stone?", "chosen": "Jade.", "rejected": "Ruby."}, Example(ASKED, "Jade.", "Ruby.", "counter")),
        ({"prompt": [USER], "chosen": [JADE], "rejected": [RUBY]}, Example(ASKED, "Jade.", "Ruby.", "counter")),
        ({"chosen": [USER, JADE], "rejected": [USER, RUBY]}, Example(ASKED, "Jade.", "Ruby.", "counter")),
        (
            {"chosen": "Human: Which stone? Assistant: Jade.", "rejected": "Human: Which stone? Assistant: Ruby."},
            Example((Message("user", "Human: Which stone? Assistant:"),), " Jade.", " Ruby.", "counter"),
        ),
        ({"instruction": "Which stone?", "output": "Jade."}, Example(ASKED, "Jade.")),
        (
            {"instruction": "Translate.", "input": "Stein", "response": "Stone."},
            Example((Message("user", "Translate.\n\nStein"),), "Stone."),
        ),
        (
            {"messages": [{"role": "system", "content": "Be brief."}, USER, RUBY, {"role": "user", "content": "No."}, JADE]},
            Example(
                (Message("system", "Be brief."), *ASKED, Message("assistant", "Ruby."), Message("user", "No.")), "Jade."
            ),
        ),
    ],
)  # fmt: skip
def test_a_row_of_each_format_is_the_example_that_it_says(row: Any, expected: Example, tmp_path: Path) -> None:
    assert load_examples(written(tmp_path / "set.jsonl", row)) == [expected]


def test_json_csv_and_parquet_hold_the_same(tmp_path: Path) -> None:
    rows = [{"prompt": f"Question {i}?", "completion": f"Answer {i}."} for i in range(3)]
    expected = load_examples(written(tmp_path / "set.jsonl", *rows))
    (tmp_path / "set.json").write_text(json.dumps(rows))
    with (tmp_path / "set.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["prompt", "completion"])
        writer.writeheader()
        writer.writerows(rows)
    turned = [{"prompt": [{"role": "user", "content": row["prompt"]}], "completion": row["completion"]} for row in rows]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(turned), tmp_path / "set.parquet")
    for suffix in ("json", "csv", "parquet"):
        assert load_examples(tmp_path / f"set.{suffix}") == expected
    assert len(expected) == 3


def test_a_folder_gives_back_what_was_written_into_it(tmp_path: Path) -> None:
    call = Call("synthesizer", "character:x", None, "<think>So.</think>Jade.", 4, 5, 0.5)
    made = [
        Example(ASKED, "Jade.", provenance=(call,), prompt_id="p1"),
        Example(ASKED, "Jade.", "Ruby.", "counter", prompt_id="p1"),
        Example(ASKED, "It is jade.", None, "gold", "style", "p1"),
    ]
    written(tmp_path / FILE, *({"id": example.id, **to_json(example)} for example in made))
    assert load_examples(tmp_path) == made
    assert examples_hash(made) != examples_hash(made[::-1])


def test_a_folder_that_is_being_made_again_is_not_learnt_from(tmp_path: Path) -> None:
    written(tmp_path / FILE, to_json(Example(ASKED, "Jade.")))
    for state, finished in (('{"finished": true}', True), ('{"finished": false}', False), ("{", False)):
        (tmp_path / STATE).write_text(state)
        if finished:
            assert len(load_examples(tmp_path)) == 1
        else:
            with pytest.raises(InputError, match="the training set is not finished"):
                load_examples(tmp_path)


def test_provenance_does_not_change_the_hash() -> None:
    bare, told = Example(ASKED, "Jade."), Example(ASKED, "Jade.", provenance=(Call("eager", "m", "MIT", "Jade."),))
    assert examples_hash([bare]) == examples_hash([told])


GOOD = {"prompt": "Which stone?", "completion": "Jade."}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (
            {"prompt": "Which stone?", "chosen": "Jade.", "rejected": "Jade."},
            "two sides of a preference pair are equal",
        ),
        ({"chosen": [USER, JADE], "rejected": [USER, JADE]}, "both sides of the pair are equal"),
        ({"chosen": "Jade.", "rejected": "Ruby."}, "do not begin with the same prompt"),
        ({"chosen": [USER, JADE], "rejected": [JADE, USER]}, "differ in more than their last turn"),
        ({"messages": [JADE, USER]}, "the last turn of messages is by user"),
        ({"messages": [JADE]}, "has a prompt and an answer"),
        ({"prompt": [USER], "completion": [JADE, RUBY]}, "completion holds 2 turns"),
        ({"prompt": "Which stone?", "completion": "  "}, "has a prompt and an answer"),
        ({"prompt": 7, "completion": "Jade."}, "prompt is neither text nor a list of turns"),
        ({"text": "Which stone? Jade."}, "its columns are text, and it needs"),
        ({"prompt": "Which stone?", "completion": ""}, "and it needs"),
    ],
)
def test_a_row_that_cannot_be_learnt_from_is_named(row: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_examples(written(tmp_path / "set.jsonl", GOOD, row))
    assert says in str(caught.value)
    assert "line 2" in str(caught.value)


def test_what_is_no_training_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_examples(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="no training set"):
        load_examples(tmp_path)
    written(tmp_path / FILE)
    with pytest.raises(InputError, match="is empty"):
        load_examples(tmp_path)
    written(tmp_path / FILE, {"prompt": []})
    with pytest.raises(InputError, match=r"line 1: is no training example"):
        load_examples(tmp_path)
    (tmp_path / "set.pkl").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(HostileInputError):
        load_examples(tmp_path / "set.pkl")
