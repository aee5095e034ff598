"""The texts of a training set, one by one, for the search for test prompts among them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from counterclaim.errors import InputError
from counterclaim.importers.files import InputFile, Limits, Row
from counterclaim.importers.table import find_rows
from counterclaim.importers.values import as_text, listing, messages_of
from counterclaim.records import Json

_TURNS = ("messages", "conversations", "conversation")
_TEXTS = ("system", "prompt", "question", "instruction", "input", "query", "completion", "response", "output",
          "answer", "chosen", "rejected", "text", "content")  # fmt: skip
_PLAIN = frozenset({".txt", ".md", ".text"})


def load_training_texts(path: Path, *, limits: Limits | None = None) -> Iterator[str]:
    """Every training example as one text: its turns, or its columns in reading order, joined by blank lines.

    JSONL, CSV and parquet are streamed row by row, plain text line by line; only a JSON document is in memory as a whole.

    Args:
        path: rows with ``messages``, ``prompt`` / ``completion``, ``prompt`` / ``chosen`` / ``rejected``,
            ``instruction`` / ``input`` / ``output`` or ``text``; or a text file with one example a line.

    Raises:
        InputError: the file cannot be read, or a row holds none of these columns.
    """
    limits = limits or Limits()
    if path.suffix.lower() in _PLAIN:
        yield from (line.strip() for _, line, _ in InputFile(path, limits, "text").lines())
        return
    for line, row in training_rows(InputFile(path, limits)):
        text = _example(row)
        if text is None:
            raise InputError(
                f"the row holds no training text; its columns are {listing(row)}", path=path, line=line,
                remedy="name a column messages, prompt, completion, text, instruction or output",
            )  # fmt: skip
        if text:
            yield text


def training_rows(file: InputFile) -> Iterator[tuple[int, Row]]:
    """(1-based line or row, row) of a training set in JSONL, JSON, CSV or parquet.

    Raises:
        InputError: the file is an archive, or holds no rows.
    """
    if file.kind == "zip":
        raise file.fail("a zip archive is not a training set", remedy="unpack it first")
    yield from enumerate(find_rows(file).rows, start=1) if file.kind == "json" else file.rows()


def _example(row: Row) -> str | None:
    """The row's text; "" where its columns are empty, None where it has none of them."""
    known = [column for column in (*_TURNS, *_TEXTS) if column in row]
    if not known:
        return None
    return "\n\n".join(part for column in known for part in _parts(row[column]))


def _parts(cell: Json) -> list[str]:
    if isinstance(cell, list) and all(isinstance(turn, dict) and "value" in turn for turn in cell):
        return [text for turn in cell if (text := as_text(turn["value"]))]
    return [turn.content for turn in messages_of(cell) or () if turn.content]
