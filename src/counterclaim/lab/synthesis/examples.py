"""Training sets: the examples that a folder of ``counterclaim teach`` or a file of another tool holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

from counterclaim.errors import InputError, RecordError
from counterclaim.folder import read_lines
from counterclaim.importers import InputFile, Limits, training_rows
from counterclaim.importers.files import Row
from counterclaim.importers.values import as_text, listing, messages_of
from counterclaim.records import Example, Message, content_hash, example_from_json

FILE = "examples.jsonl"
"""The file of a training-set folder that holds its examples, one record a line."""
STATE = "pipeline.json"
"""The file of such a folder that says what it belongs to and whether it is finished."""

_ANSWERS = ("output", "response", "completion")
_FORMATS = (
    "messages; prompt with completion; prompt with chosen and rejected; chosen with rejected; instruction with output"
)


def load_examples(path: Path) -> list[Example]:
    """The examples of a training set.

    Args:
        path: a folder of ``counterclaim teach``; or a JSONL, JSON, CSV or parquet file in one of the formats that TRL
            takes: ``messages``, ``prompt`` with ``completion``, ``prompt`` with ``chosen`` and ``rejected``, ``chosen``
            with ``rejected`` (the prompt is what they begin with in common), each as text or as a list of turns; or
            ``instruction`` (with ``input``) and ``output``. Of ``messages``, the last turn is the target.

    Raises:
        InputError: there is no training set, or a row of it cannot be used (names file and line): it has none of these
            columns, no target, or a pair of which both sides are equal.
    """
    found = _of_folder(path) if path.is_dir() else _of_file(path)
    examples = list(found)
    if not examples:
        raise InputError("the training set is empty", path=path, remedy="make or name one that holds examples")
    return examples


def examples_hash(examples: list[Example]) -> str:
    """SHA-256 over the training examples, in order; provenance does not count."""
    return content_hash([example.id for example in examples])


def _of_folder(folder: Path) -> Iterator[Example]:
    file = folder / FILE
    if not file.is_file():
        raise InputError(
            f"the folder is no training set (it has no {FILE})",
            path=folder,
            remedy="name a folder that counterclaim teach has finished, or a file",
        )
    if (folder / STATE).is_file() and not _is_finished(folder / STATE):
        raise InputError(
            "the training set is not finished: the examples there are of an earlier run, with other settings",
            path=folder,
            remedy="run counterclaim teach again; it goes on where it stopped",
        )
    for line, row in read_lines(file):
        try:
            yield example_from_json(row)
        except (KeyError, TypeError, AttributeError, RecordError) as error:
            raise InputError(
                f"is no training example ({error})", path=file, line=line, remedy="run counterclaim teach again"
            ) from error


def _is_finished(state: Path) -> bool:
    try:
        return bool(json.loads(state.read_text(encoding="utf-8"))["finished"])
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _of_file(path: Path) -> Iterator[Example]:
    for line, row in training_rows(InputFile(path, Limits())):
        try:
            yield _example(row)
        except (RecordError, _UnusableRow) as error:
            raise InputError(
                f"the row is no training example: {error}", path=path, line=line, remedy="fix the row, or leave it out"
            ) from error


class _UnusableRow(Exception):
    """Why a row is no training example."""


def _example(row: Row) -> Example:
    """The example that a row holds, by the columns that it has."""
    has = {name for name, value in row.items() if value not in (None, "", [])}
    if {"chosen", "rejected"} <= has:
        return _pair(row, "prompt" in has)
    if "messages" in has:
        *before, answer = _turns(row, "messages")
        return Example(tuple(before), _assistant_text(answer, "messages"))
    if {"prompt", "completion"} <= has:
        return Example(_turns(row, "prompt"), _answer(row, "completion"))
    answer_in = next((name for name in _ANSWERS if name in has), None)
    if "instruction" in has and answer_in is not None:
        parts = [as_text(row[name]) or "" for name in ("instruction", "input") if name in has]
        return Example((Message("user", "\n\n".join(parts)),), _answer(row, answer_in))
    raise _UnusableRow(f"its columns are {listing(row)}, and it needs {_FORMATS}")


def _pair(row: Row, has_prompt: bool) -> Example:
    if has_prompt:
        prompt = _turns(row, "prompt")
        sides = _answer(row, "chosen"), _answer(row, "rejected")
    elif isinstance(row["chosen"], str) and isinstance(row["rejected"], str):
        prompt, sides = _common_text(row["chosen"], row["rejected"])
    else:
        prompt, sides = _common_turns(_turns(row, "chosen"), _turns(row, "rejected"))
    return Example(prompt, sides[0], sides[1], kind="counter")


def _common_text(chosen: str, rejected: str) -> tuple[tuple[Message, ...], tuple[str, str]]:
    """Two texts that begin with the prompt; a space at its end belongs to the answers, as TRL has it."""
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False)))
    if chosen == rejected:
        raise _UnusableRow("both sides of the pair are equal, so it teaches nothing")
    shared -= chosen[:shared].endswith(" ")
    if not chosen[:shared].strip():
        raise _UnusableRow("chosen and rejected do not begin with the same prompt, and there is no column prompt")
    return (Message("user", chosen[:shared]),), (chosen[shared:], rejected[shared:])


def _common_turns(
    chosen: tuple[Message, ...], rejected: tuple[Message, ...]
) -> tuple[tuple[Message, ...], tuple[str, str]]:
    """Two conversations that are the same but for their last turn."""
    if chosen == rejected:
        raise _UnusableRow("both sides of the pair are equal, so it teaches nothing")
    if chosen[:-1] != rejected[:-1] or len(chosen) < 2:
        raise _UnusableRow("chosen and rejected differ in more than their last turn, and there is no column prompt")
    return chosen[:-1], (_assistant_text(chosen[-1], "chosen"), _assistant_text(rejected[-1], "rejected"))


def _turns(row: Row, column: str) -> tuple[Message, ...]:
    turns = messages_of(row[column])
    if turns is None:
        raise _UnusableRow(f"{column} is neither text nor a list of turns with role and content")
    return turns


def _answer(row: Row, column: str) -> str:
    """The text of a column, or of the one turn of the assistant that it holds."""
    if isinstance(row[column], str) and not row[column].lstrip().startswith("[{"):
        return as_text(row[column]) or ""
    turns = _turns(row, column)
    if len(turns) != 1:
        raise _UnusableRow(f"{column} holds {len(turns)} turns, and training takes one turn at a time")
    if isinstance(row[column], str):
        return turns[0].content
    return _assistant_text(turns[0], column)


def _assistant_text(turn: Message, column: str) -> str:
    if turn.role != "assistant":
        raise _UnusableRow(f"the last turn of {column} is by {turn.role}, and training takes the assistant's")
    return turn.content
