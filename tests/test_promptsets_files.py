"""The loader: every layout it reads, every fault it must name, and a round trip that loses nothing."""

from __future__ import annotations

import csv
import gzip
import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterclaim.errors import HostileInputError, InputError
from counterclaim.folder import write_lines
from counterclaim.lab.prompts import load, rows, save
from counterclaim.records import Json, Message, Prompt, prompt_id

HUMAN_EVAL = {
    "task_id": "Sample/0",
    "prompt": 'def double(x):\n    """Twice x."""\n',
    "entry_point": "double",
    "canonical_solution": "    return 2 * x\n",
    "test": "\n\ndef check(candidate):\n    assert candidate(2) == 4\n\n    assert candidate(0) == 0\n",
}
MBPP = {
    "task_id": 7,
    "text": "Write a function to halve an even number.",
    "code": "def half(x):\n    return x // 2",
    "test_list": ["assert half(4) == 2", "assert half(0) == 0"],
    "test_setup_code": "",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "prompts.jsonl"


def lines(path: Path, *values: Json) -> Path:
    """A JSONL file of these values; a text is a line as it stands."""
    made = [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values]
    path.write_text("\n".join(made) + "\n", encoding="utf-8")
    return path


def table(path: Path, header: Sequence[str], *cells: Sequence[str], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *cells])
    return path


def only(path: Path) -> Prompt:
    (prompt,) = load(path)
    return prompt


# --- layouts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["prompt", "question"])
def test_a_text_column_is_one_user_turn(file: Path, column: str) -> None:
    prompt = only(lines(file, {column: "Why is the sky blue?", "id": 12, "split": "fresh", "tags": ["a", "b", "a"]}))
    assert prompt.messages == (Message("user", "Why is the sky blue?"),)
    assert prompt.id == prompt_id(prompt.messages)
    assert (prompt.split, prompt.tags, prompt.gold) == ("fresh", ("a", "b", "source-id:12"), {})


def test_messages_are_kept_turn_by_turn(file: Path) -> None:
    turns = [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Two plus two?"},
        {"role": "assistant", "content": "Four."}, {"role": "user", "content": "Are you sure?"},
    ]  # fmt: skip
    for row in ({"messages": turns}, {"messages": json.dumps(turns)}, {"prompt": turns}):
        assert only(lines(file, row)).messages == tuple(Message(**turn) for turn in turns)


def test_a_prompt_keeps_its_white_space_but_not_in_its_id(file: Path) -> None:
    prompt = only(lines(file, {"prompt": "def f():\n"}))
    assert prompt.text == "def f():\n"
    assert prompt.id == Prompt.of_text("def f():").id


@pytest.mark.parametrize(
    ("row", "gold"),
    [
        ({"answer": "Paris"}, {"answer": "Paris"}),
        ({"answer": 42}, {"answer": "42"}),
        ({"answer": True}, {"answer": "true"}),
        ({"answer": ["Paris", "paris"]}, {"answer": ["Paris", "paris"]}),
        ({"answers": "4 | four"}, {"answer": ["4", "four"]}),
        ({"answers": [4, "four"]}, {"answer": ["4", "four"]}),
        ({"answer": None}, {}),
        ({"checklist": ["One.", "Two | or three."]}, {"checklist": ["One.", "Two | or three."]}),
        ({"checklist": "One.\n Two.\n"}, {"checklist": ["One.", "Two."]}),
        ({"checklist": '["One.", "Two."]'}, {"checklist": ["One.", "Two."]}),
        ({"gold": {"answer": 3, "why": "x"}}, {"answer": 3, "why": "x"}),
        ({"gold": '{"why": "x"}', "answer": "y"}, {"why": "x", "answer": "y"}),
        ({"answer": "2 + 2 = 4\n#### 4"}, {"answer": "4", "solution": "2 + 2 = 4\n#### 4"}),
        ({"answer": "So\n#### 1,234,567.50 "}, {"answer": "1234567.50", "solution": "So\n#### 1,234,567.50"}),
        ({"answer": "#### Heading\nand text"}, {"answer": "#### Heading\nand text"}),
        ({"answer": "#### "}, {"answer": "####"}),
        (
            {"tests": "assert f() == 1\n\nassert f()\n", "entry_point": "f"},
            {"tests": "assert f() == 1\n\nassert f()\n", "entry_point": "f", "prompt": "Q?"},
        ),
        (
            {"test_list": "assert f() == [1 | 2]\nassert f()", "test_setup_code": "import re"},
            {"test_list": ["assert f() == [1 | 2]", "assert f()"], "test_setup_code": "import re"},
        ),
    ],
)
def test_gold_columns(file: Path, row: Mapping[str, Json], gold: Mapping[str, Json]) -> None:
    assert only(lines(file, {"prompt": "Q?", **row})).gold == gold


def test_human_eval_is_known_by_its_columns(tmp_path: Path) -> None:
    packed = tmp_path / "Sample.jsonl.gz"
    packed.write_bytes(gzip.compress((json.dumps(HUMAN_EVAL) + "\n").encode()))
    for path in (lines(tmp_path / "plain.jsonl", HUMAN_EVAL), packed):
        prompt = only(path)
        assert prompt.text == HUMAN_EVAL["prompt"]
        assert prompt.tags == ("source-id:Sample/0",)
        assert prompt.gold == {
            "tests": HUMAN_EVAL["test"], "entry_point": "double", "prompt": HUMAN_EVAL["prompt"],
        }  # fmt: skip


def test_mbpp_is_known_by_its_columns_and_shows_its_tests(file: Path) -> None:
    sanitized = {name: value for name, value in MBPP.items() if name not in ("text", "test_setup_code")}
    sanitized |= {"prompt": MBPP["text"], "test_imports": ["import math", "import re"]}
    for row, setup in ((MBPP, ""), (sanitized, "import math\nimport re")):
        prompt = only(lines(file, row))
        assert prompt.text.startswith("Write a function to halve an even number.\n\n")
        assert prompt.text.endswith("assert half(4) == 2\nassert half(0) == 0")
        assert prompt.gold == {"test_list": MBPP["test_list"], "test_setup_code": setup}
        assert prompt.tags == ("source-id:7",)
        assert "return x // 2" not in prompt.text


def test_json_lists_and_wrapped_lists_are_read(tmp_path: Path) -> None:
    row = {"prompt": "Why?", "answer": "So."}
    documents: list[Json] = [[row], {"prompts": [row], "other": [1]}, {"anything": [row]}, row]
    for document in documents:
        path = tmp_path / "prompts.json"
        path.write_text(json.dumps(document, indent=1), encoding="utf-8")
        assert [prompt.text for prompt in load(path)] == ["Why?"]


def test_csv_cells_hold_what_json_would(tmp_path: Path) -> None:
    header = ["id", "question", "split", "tags", "checklist", "answer"]
    cells = ["q1", 'Why, and "how"?\nSay.', "train", "a|b", '["One.", "Two."]', ""]
    for name, delimiter in (("p.csv", ","), ("p.csv", ";"), ("p.tsv", "\t")):
        prompt = only(table(tmp_path / name, header, cells, delimiter=delimiter))
        assert prompt.text == 'Why, and "how"?\nSay.'
        assert prompt.gold == {"checklist": ["One.", "Two."]}
        assert prompt.tags == ("a", "b", "source-id:q1")
        assert prompt.split == "train"


def test_suffixes_and_marks_at_the_start_do_not_matter(tmp_path: Path) -> None:
    text = '\ufeff{"prompt": "A\u2028b?"}\r\n\r\n{"prompt": "C?"}\r\n'
    for name in ("p.jsonl", "p.txt", "p.json", "p"):
        (tmp_path / name).write_bytes(text.encode())
        assert [prompt.text for prompt in load(tmp_path / name)] == ["A\u2028b?", "C?"]


def test_nan_is_an_empty_cell(file: Path) -> None:
    assert only(lines(file, '{"prompt": "Q?", "answer": NaN, "id": NaN}')).gold == {}


def test_a_split_is_chosen_and_test_is_what_is_not_said(file: Path) -> None:
    lines(file, {"prompt": "A?", "split": "train"}, {"prompt": "B?"}, {"prompt": "C?", "split": " dev "})
    assert [prompt.split for prompt in load(file)] == ["train", "test", "dev"]
    assert [prompt.text for prompt in load(str(file), "test")] == ["B?"]
    with pytest.raises(InputError, match="no prompt is in the split 'fresh'; there are prompts in train, dev, test"):
        load(file, "fresh")


# --- the same prompt twice ------------------------------------------------------------------------------------


def test_equal_rows_are_merged_with_a_note(file: Path) -> None:
    notes: list[str] = []
    lines(
        file, {"prompt": "A?", "answer": "x", "id": 1, "tags": ["a"]}, {"prompt": "B?"},
        {"prompt": " A?\r\n", "answer": "x", "id": 2, "tags": ["b"]},
    )  # fmt: skip
    prompts = load(file, note=notes.append)
    assert [prompt.text for prompt in prompts] == ["A?", "B?"]
    assert prompts[0].tags == ("a", "source-id:1", "b", "source-id:2")
    assert notes == [f"{file}: one repeated prompt was merged, the first in line 3 with line 1."]


def test_different_prompts_are_merged_with_nothing(file: Path) -> None:
    notes: list[str] = []
    assert len(load(lines(file, {"prompt": "A?"}, {"prompt": "a?"}), note=notes.append)) == 2
    assert notes == []


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ({"answer": "y"}, "the prompt of line 1 is asked again with different gold"),
        ({}, "the prompt of line 1 is asked again with different gold"),
        ({"answer": "x", "split": "fresh"}, r"line 1 is asked again in another split \(test there, fresh here\)"),
    ],
)
def test_rows_that_disagree_are_refused_with_both_lines(file: Path, second: Mapping[str, Json], said: str) -> None:
    lines(file, {"prompt": "A?", "answer": "x"}, "", {"prompt": "A?", **second})
    with pytest.raises(InputError, match=rf"prompts\.jsonl, line 3: .*{said}"):
        load(file)


# --- faults ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"prompt": "half', r"this is not JSON \(Unterminated"),
        ("[1, 2]", "a prompt has to be a JSON object, and this is a list"),
        ({"instruction": "A?", "n": 1}, "the row has no prompt; it has instruction, n; put the text into a column"),
        ({}, "the row has no prompt; it has nothing"),
        ({"prompt": " \n"}, "the prompt is empty"),
        ({"prompt": "A?", "question": "B?"}, "the row has both prompt and question"),
        ({"prompt": 5}, "prompt is neither text nor a list of turns"),
        ({"messages": []}, "messages is not a list of turns"),
        ({"messages": "Why?"}, "messages is not a list of turns"),
        ({"messages": [{"role": "robot", "content": "A?"}]}, "turn 1 has the role 'robot'; choose among system"),
        ({"messages": [{"role": "user", "content": ""}]}, "turn 1 has no text in content"),
        ({"messages": [{"role": "assistant", "content": "A."}]}, "the last turn is of the assistant"),
        ({"prompt": "A?", "split": "validation"}, "no split 'validation'; call it train, dev, test or fresh"),
        ({"prompt": "A?", "split": 3}, "no split 3"),
        ({"prompt": "A?", "gold": [1]}, "gold is a list and not an object"),
        ({"prompt": "A?", "gold": "x"}, "call the column answer"),
        ({"prompt": "A?", "gold": {"checklist": 5}}, "checklist is not a list of texts"),
        ({"prompt": "A?", "gold": {"answer": "x"}, "answer": "y"}, "gold and the column answer say different things"),
        ({"prompt": "A?", "answer": "x", "answers": ["x"]}, "the row has both answer and answers"),
        ({"prompt": "A?", "answer": {"text": "x"}}, "answer is a dict and not text or a number"),
        ({"prompt": "A?", "checklist": ["One.", ""]}, "checklist is not a list of texts"),
        ({"prompt": "A?", "checklist": [["One."]]}, "checklist is a list and not text"),
        ({"prompt": "A?", "tests": 5}, "tests is neither text nor a list of lines"),
        ({**MBPP, "text": ["a"]}, "the task is a list and not text"),
        ('{"prompt": "A?", "gold": {"x": 1e999}}', "a number that is not finite"),
        ('{"prompt": "A\\ud800?"}', "half a surrogate pair"),
        ('{"prompt": "A?", "n": ' + "9" * 5000 + "}", "a number of thousands of digits"),
        ('{"prompt": ' + "[" * 100_000, "the JSON is nested too deeply"),
    ],
)  # fmt: skip
def test_a_fault_in_a_row_is_named_with_its_line(file: Path, line: Json, said: str) -> None:
    lines(file, {"prompt": "Fine?"}, line)
    with pytest.raises(InputError, match=rf"prompts\.jsonl, line 2: .*{said}"):
        load(file)
    assert only(lines(file, {"prompt": "Fine?"})).text == "Fine?"


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        ("p.jsonl", b"", "the file is empty"),
        ("p.jsonl", b" \n\n", "the file is empty"),
        ("p.json", b"[]", "the file holds no prompts"),
        ("p.json", b'{"a": 1, "b": []}', "the file holds no prompts"),
        ("p.json", b'{"a": 1, "b": 2}', "holds no list of prompts; its keys are a, b"),
        ("p.json", b'[{"prompt": "A?"}, "B?"]', "line 2: a prompt has to be a JSON object"),
        ("p.json", b'[\n{"prompt": "A?"},\n{"prompt": oops}]', "line 3: this is not JSON"),
        ("p.csv", b"prompt,prompt\na,b\n", "two columns are called 'prompt'"),
        ("p.csv", b"prompt,id\nA?,1\nB?\n", "line 3: the row has 1 cells where the header has 2"),
        ("p.csv", b'prompt,id\n"A\n?",1\n"B?,2\n', "line 4: the CSV cannot be read"),
        ("p.csv", b"instruction,n\nA?,1\n", "line 2: the row has no prompt; it has instruction, n"),
        ("p.csv", b"prompt,id\n", "the file holds no prompts"),
        ("p.txt", b"Why is the sky blue?\n", "neither JSONL, JSON nor CSV"),
        ("p.jsonl", b'{"prompt": "A?"}\n{"prompt": "\xff?"}\n', "line 2: the byte at offset 29 is not UTF-8"),
        ("p.parquet", b"PAR1....", "the file is parquet"),
        ("p.zip", b"PK\x03\x04....", "the file is a zip archive"),
        ("p.jsonl.gz", gzip.compress(b'{"prompt": "A?"}\n' * 50, mtime=0)[:-20], "the file cannot be read"),
        ("p.jsonl.gz", b"\x1f\x8b broken", "the file cannot be read"),
    ],
)
def test_a_file_that_holds_no_rows_is_refused(tmp_path: Path, name: str, raw: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(InputError, match=said):
        load(tmp_path / name)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jsonl: there is no such file"):
        load(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="this is a folder"):
        load(tmp_path)
    with pytest.raises(InputError, match="there is no such file"):
        load("a\0b")


def test_hostile_files_are_not_opened_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.jsonl").write_bytes(pickle.dumps([{"prompt": "A?"}]))
    with pytest.raises(HostileInputError, match="this is a pickle"):
        load(tmp_path / "p.jsonl")
    monkeypatch.setattr(rows, "MOST_BYTES", 1000)
    (tmp_path / "bomb.jsonl.gz").write_bytes(gzip.compress(b" " * 100_000, mtime=0))
    with pytest.raises(HostileInputError, match="holds more than"):
        load(tmp_path / "bomb.jsonl.gz")
    (tmp_path / "large.jsonl").write_bytes(b" " * 1001)
    with pytest.raises(InputError, match="holds more than"):
        load(tmp_path / "large.jsonl")


def test_a_line_of_some_megabytes_is_refused(tmp_path: Path) -> None:
    long = "x" * (rows.MOST_LINE + 1)
    lines(tmp_path / "p.jsonl", {"prompt": "A?"}, {"prompt": long})
    table(tmp_path / "p.csv", ["prompt"], ["A?"], [long])
    with pytest.raises(InputError, match=r"p\.jsonl, line 2: the line is longer than 4,194,304 characters"):
        load(tmp_path / "p.jsonl")
    with pytest.raises(InputError, match=r"p\.csv, line 3: a cell is longer than 4,194,304 characters"):
        load(tmp_path / "p.csv")
    table(tmp_path / "fine.csv", ["prompt"], ["x" * 200_000])
    assert len(only(tmp_path / "fine.csv").text) == 200_000


def test_a_worked_solution_full_of_marks_is_read_at_once(file: Path) -> None:
    prompt = only(lines(file, {"prompt": "A?", "answer": "#### x " * 500_000}))
    assert prompt.gold["answer"] == "x"


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
COLUMNS = st.sampled_from(
    "prompt question messages id split tags gold answer answers checklist tests entry_point test_list test_setup_code "
    "task_id text code test".split()
)


@settings(max_examples=400, deadline=None)
@given(
    content=st.binary(max_size=200)
    | st.lists(st.dictionaries(COLUMNS, ANY_JSON, max_size=6), min_size=1, max_size=3).map(
        lambda rows: "\n".join(json.dumps(row) for row in rows).encode()
    ),
    suffix=st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".txt", ".jsonl.gz"]),
)
def test_whatever_a_file_holds_it_is_read_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / f"p{suffix}"
    path.write_bytes(content)
    try:
        prompts = load(path)
    except InputError as error:
        assert path.name in str(error)  # noqa: PT017
    else:
        assert load(lines(path.with_suffix(".jsonl"), *save(prompts))) == prompts


# --- round trip -----------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(lambda text: text.strip())
NAME = TEXT.map(str.strip)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
GOLD = st.dictionaries(TEXT.filter(lambda key: key not in ("checklist", "test_list")), VALUES, max_size=3)
TURNS = st.builds(
    lambda before, last: (*before, last),
    st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant", "tool"]), TEXT), max_size=3),
    st.builds(Message, st.sampled_from(["user", "tool"]), TEXT),
)
PROMPTS = st.lists(
    st.builds(
        lambda turns, split, gold, tags: Prompt(prompt_id(turns), turns, split, gold, tuple(tags)),
        TURNS, st.sampled_from(["train", "dev", "test", "fresh"]), GOLD, st.lists(NAME, max_size=3, unique=True),
    ),
    min_size=1, max_size=4, unique_by=lambda prompt: prompt.id,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(prompts=PROMPTS)
def test_what_is_saved_is_loaded_again(tmp_path_factory: pytest.TempPathFactory, prompts: Sequence[Prompt]) -> None:
    path = tmp_path_factory.mktemp("round") / "prompts.jsonl"
    lines(path, *save(prompts))
    assert load(path) == tuple(prompts)
    saved: list[dict[str, Any]] = list(save(prompts))
    assert list(save(load(path))) == saved


def test_the_store_writes_what_save_gives(tmp_path: Path) -> None:
    prompts = (Prompt.of_text("A?", gold={"answer": "x"}, tags=("t", "source-id:7")), Prompt.of_text("B?"))
    write_lines(tmp_path / "prompts.jsonl", save(prompts))
    assert load(tmp_path / "prompts.jsonl") == prompts


def test_a_prompt_without_text_cannot_be_saved() -> None:
    with pytest.raises(InputError, match="'id:doc-1' has no text"):
        list(save([Prompt("id:doc-1")]))
