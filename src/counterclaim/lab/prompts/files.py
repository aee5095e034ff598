"""Prompts from a user's file, and prompts as rows of such a file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from counterclaim.errors import InputError, RecordError
from counterclaim.lab.prompts.rows import Row, read_rows
from counterclaim.records import Json, Message, Prompt, Split, canonical_json, prompt_id, to_json

SPLITS: tuple[Split, ...] = get_args(Split)
SOURCE_ID = "source-id:"
"""Prefix of the tag that keeps a file's own id."""

_ROLES = ("system", "developer", "user", "assistant", "tool")
_PROMPT_COLUMNS = ("prompt", "question", "messages")
_HUMAN_EVAL = frozenset({"task_id", "prompt", "entry_point", "test"})
_MBPP = frozenset({"task_id", "code", "test_list"})
_RESULT = "####"  # how GSM8K marks the result of a worked solution
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3})")


def load(
    path: Path | str, split: Split | None = None, *, note: Callable[[str], None] | None = None
) -> tuple[Prompt, ...]:
    """The prompts of a JSONL, JSON or CSV file, in its order; gzip is unpacked.

    A row has its prompt in ``prompt`` or ``question`` (text) or ``messages`` (a list of ``{"role", "content"}``), and
    may have

    * ``id``, kept as the tag ``source-id:...``: the record's own id is the hash of the messages;
    * ``split``: ``train``, ``dev``, ``test`` (also where nothing is said) or ``fresh``;
    * ``tags``, ``checklist``: a list, or a text whose parts stand on lines or between ``|``;
    * ``answers``: such a list too, each of which is right; they become a list under ``answer``;
    * ``answer``: text or number. Of a worked solution that ends in ``#### 42`` (the layout of GSM8K) the answer is 42,
      and the whole is kept as ``solution``;
    * ``tests`` and ``entry_point``, or ``test_list`` and ``test_setup_code``: programs that an answer has to pass. What
      they have to complete, the prompt itself, is kept beside ``tests`` as ``prompt``;
    * ``gold``: an object, taken as it is, instead of or beside the columns above.

    Two layouts are known by their columns. HumanEval (``task_id, prompt, entry_point, test``) gives ``tests``,
    ``entry_point`` and ``prompt``. MBPP (``task_id, text`` or ``prompt, code, test_list``) gives ``test_list`` and
    ``test_setup_code``; its tests are shown below the task, because only they say what the function is called.

    Rows that ask the same prompt are merged if they agree on everything but id and tags.

    Args:
        path: the file.
        split: only the prompts of this split.
        note: told, in one sentence, what was merged.

    Raises:
        InputError: the file cannot be read as rows; a row has no prompt, or a split of another name; two rows ask the
            same prompt with different gold or in different splits (both lines are named); no prompt is left.
        HostileInputError: the file is a pickle, or unpacks to more than is read.
    """
    path = Path(path)
    prompts: dict[str, Prompt] = {}
    first_line: dict[str, int] = {}
    merged: list[tuple[int, int]] = []
    for line, row in read_rows(path):
        try:
            prompt = _prompt(row)
            first = prompts.setdefault(prompt.id, prompt)
            if first is not prompt:
                prompts[prompt.id] = _merged(first, prompt, first_line[prompt.id])
                merged.append((first_line[prompt.id], line))
        except _RowError as error:
            raise InputError(error.problem, path=path, line=line, remedy=error.remedy) from error
        first_line.setdefault(prompt.id, line)
    if not prompts:
        raise InputError("the file holds no prompts", path=path, remedy="write one prompt a line")
    if merged and note is not None:
        first_of, again = merged[0]
        count = "one repeated prompt was" if len(merged) == 1 else f"{len(merged):,} repeated prompts were"
        note(f"{path}: {count} merged, the first in line {again} with line {first_of}.")
    return of_split(prompts.values(), split, path)


def of_split(prompts: Iterable[Prompt], split: Split | None, path: Path) -> tuple[Prompt, ...]:
    """The prompts of one split, or all where it is None.

    Raises:
        InputError: there is no split of this name, or no prompt in it.
    """
    every = tuple(prompts)
    if split is None:
        return every
    if split not in SPLITS:
        raise InputError(f"there is no split {split!r}", remedy=f"choose among {', '.join(SPLITS)}")
    chosen = tuple(prompt for prompt in every if prompt.split == split)
    if not chosen:
        present = [name for name in SPLITS if any(prompt.split == name for prompt in every)]
        raise InputError(
            f"no prompt is in the split {split!r}; there are prompts in {', '.join(present)}",
            path=path, remedy="say the split of each row in a column called split (without one it is test)",
        )  # fmt: skip
    return chosen


def save(prompts: Iterable[Prompt]) -> Iterator[Row]:
    """One JSON object per prompt, which ``load`` reads back to an equal prompt; ``store`` writes them to a file.

    Raises:
        InputError: a prompt has no text (its source kept only its name).
    """
    for prompt in prompts:
        if not prompt.messages:
            raise InputError(
                f"the prompt {prompt.id!r} has no text, so it cannot be asked again",
                remedy="use the prompt file that it came from",
            )
        alone = len(prompt.messages) == 1 and prompt.messages[0].role == "user"
        asked = {"prompt": prompt.messages[0].content} if alone else {"messages": to_json(prompt.messages)}
        yield {
            "id": prompt.id, "split": prompt.split, **asked,
            **({"gold": to_json(prompt.gold)} if prompt.gold else {}),
            **({"tags": list(prompt.tags)} if prompt.tags else {}),
        }  # fmt: skip


class _RowError(Exception):
    """What is wrong with one row; ``load`` adds where."""

    def __init__(self, problem: str, remedy: str | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


def _prompt(row: Row) -> Prompt:
    """The record of one row."""
    if empty := [name for name in _PROMPT_COLUMNS if name in row and _is_empty(row[name])]:
        raise _RowError(f"the {empty[0]} is empty", "write it or remove the row")
    row = {name: value for name, value in row.items() if not _is_empty(value)}
    if row.keys() >= _HUMAN_EVAL:
        row = {**row, "id": row["task_id"], "tests": row["test"]}
    elif row.keys() >= _MBPP and row.keys() & {"text", "prompt"}:
        row = _mbpp_row(row)
    messages = _messages(row)
    identity = prompt_id(messages)
    tags = _texts("tags", row.get("tags", []))
    if "id" in row and (name := _scalar("id", row["id"])) != identity:
        tags.append(SOURCE_ID + name)
    prompt = Prompt(identity, messages, _split(row), _gold(row, messages), tuple(dict.fromkeys(tags)))
    try:
        canonical_json(to_json(prompt)).encode("utf-8")
    except UnicodeEncodeError as error:
        raise _RowError("the row holds half a surrogate pair, which is no text", "save the file as UTF-8") from error
    except RecordError as error:
        raise _RowError("the row holds a number that is not finite") from error
    return prompt


def _merged(first: Prompt, again: Prompt, first_line: int) -> Prompt:
    """One prompt of two rows that ask the same."""
    if first.split != again.split:
        raise _RowError(
            f"the prompt of line {first_line} is asked again in another split ({first.split} there, {again.split} here)",
            "keep it in one split",
        )
    if canonical_json(to_json(first.gold)) != canonical_json(to_json(again.gold)):
        raise _RowError(
            f"the prompt of line {first_line} is asked again with different gold", "keep one of the two rows"
        )
    return replace(first, tags=tuple(dict.fromkeys(first.tags + again.tags)))


def _is_empty(value: Json) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _mbpp_row(row: Row) -> Row:
    task = row["prompt"] if "prompt" in row else row["text"]
    if not isinstance(task, str):
        raise _RowError(f"the task is a {type(task).__name__} and not text")
    tests = _lines("test_list", row["test_list"])
    setup = _program("test_setup_code", row.get("test_setup_code", row.get("test_imports", "")))
    shown = "\n".join(tests)
    return {
        "id": row["task_id"],
        "prompt": f"{task.strip()}\n\nThe code has to pass these tests:\n\n{shown}",
        "gold": {"test_list": tests, "test_setup_code": setup},
        **{name: row[name] for name in ("split", "tags") if name in row},
    }


def _messages(row: Row) -> tuple[Message, ...]:
    found = [name for name in _PROMPT_COLUMNS if name in row]
    if not found:
        raise _RowError(
            f"the row has no prompt; it has {', '.join(row) or 'nothing'}",
            "put the text into a column called prompt or question, or the turns into one called messages",
        )
    if len(found) > 1:
        raise _RowError(f"the row has both {found[0]} and {found[1]}", "keep the one that is to be asked")
    value = row[found[0]]
    if isinstance(value, str) and found[0] != "messages":
        return (Message("user", value),)
    turns = _decoded(value)
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns) or not turns:
        raise _RowError(
            f"{found[0]} is neither text nor a list of turns"
            if found[0] != "messages"
            else "messages is not a list of turns",
            'write [{"role": "user", "content": "..."}]',
        )
    messages = tuple(_message(number, turn) for number, turn in enumerate(turns, start=1))
    if messages[-1].role not in ("user", "tool"):
        raise _RowError(
            f"the last turn is of the {messages[-1].role}, so there is nothing to answer", "end with a user turn"
        )
    return messages


def _message(number: int, turn: Mapping[str, Json]) -> Message:
    role, content = turn.get("role"), turn.get("content")
    if role not in _ROLES:
        raise _RowError(f"turn {number} has the role {role!r}", f"choose among {', '.join(_ROLES)}")
    if not isinstance(content, str) or not content.strip():
        raise _RowError(f"turn {number} has no text in content", 'write {"role": "user", "content": "..."}')
    return Message(role, content)


def _split(row: Row) -> Split:
    value = row.get("split", "test")
    for name in SPLITS:
        if isinstance(value, str) and value.strip() == name:
            return name
    raise _RowError(f"there is no split {value!r}", f"call it {', '.join(SPLITS[:-1])} or {SPLITS[-1]}")


def _gold(row: Row, messages: tuple[Message, ...]) -> dict[str, Json]:
    """Everything that answers are scored by: the gold object, and what the columns add to it."""
    stated = _decoded(row.get("gold", {}))
    if not isinstance(stated, dict):
        raise _RowError(
            f"gold is a {type(stated).__name__} and not an object",
            'call the column answer, or write {"answer": "..."} in it',
        )
    for name in ("checklist", "test_list"):
        if name in stated:
            _texts(name, stated[name])
    if "answer" in row and "answers" in row:
        raise _RowError("the row has both answer and answers", "keep answers, with every right answer in it")
    columns = {
        key: value for name, read in _GOLD.items() if name in row for key, value in read(name, row[name]).items()
    }
    if "tests" in columns:
        columns["prompt"] = messages[-1].content
    for name, value in columns.items():
        if name in stated and stated[name] != value:
            raise _RowError(f"gold and the column {name} say different things", "keep one of the two")
    return {**stated, **columns}


def _answer(name: str, value: Json) -> dict[str, Json]:
    if isinstance(value, list):
        return {"answer": _texts(name, value)}
    text = _scalar(name, value)
    _, mark, result = text.rpartition(_RESULT)
    result = result.strip()
    if mark and result and "\n" not in result:
        return {"answer": _THOUSANDS.sub("", result), "solution": text}
    return {"answer": text}


_GOLD: Mapping[str, Callable[[str, Json], dict[str, Any]]] = {
    "answer": _answer,
    "answers": lambda name, value: {"answer": _texts(name, value)},
    "checklist": lambda name, value: {name: _texts(name, value)},
    "tests": lambda name, value: {name: _program(name, value)},
    "entry_point": lambda name, value: {name: _scalar(name, value)},
    "test_list": lambda name, value: {name: _lines(name, value)},
    "test_setup_code": lambda name, value: {name: _program(name, value)},
}
"""Column to what it puts into the gold."""


def _scalar(name: str, value: Json) -> str:
    """Text or a number, as text."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise _RowError(f"{name} is a {type(value).__name__} and not text or a number")


def _texts(name: str, value: Json) -> list[str]:
    """A list of texts; the parts of one text stand on lines or between bars."""
    value = _decoded(value)
    if isinstance(value, str):
        value = [part for part in re.split(r"[|\n]", value) if part.strip()]
    if not isinstance(value, list) or any(_is_empty(part) for part in value):
        raise _RowError(
            f"{name} is not a list of texts", f'write {{"{name}": ["...", "..."]}}, or one text with | between'
        )
    return [_scalar(name, part) for part in value]


def _lines(name: str, value: Json) -> list[str]:
    """A list of one-line programs, or the lines of a text."""
    value = _decoded(value)
    if isinstance(value, str):
        value = [line for line in value.split("\n") if line.strip()]
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise _RowError(f"{name} is neither text nor a list of lines")
    return value


def _program(name: str, value: Json) -> str:
    """A program as one text, also where it is given as a list of lines."""
    return value if isinstance(value, str) else "\n".join(_lines(name, value))


def _decoded(value: Json) -> Json:
    """A list or object that a text cell holds as JSON; any other value as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value
