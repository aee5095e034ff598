"""Which column of a plain table means what."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from counterclaim.errors import InputError
from counterclaim.importers.values import listing
from counterclaim.records import Json

FIELDS: Final[tuple[str, ...]] = (
    "id", "prompt", "response", "arm", "sample", "seed", "finish_reason", "n_tokens", "error",
    "correct", "delivery", "coverage", "gold", "checklist", "split",
    "judge", "judge_version", "judge_prompt", "judge_params", "judge_view_chars", "judge_reply",
    "model", "revision", "dtype", "quantisation", "adapter", "system_prompt",
    "decode.max_new_tokens", "decode.temperature", "decode.top_p", "decode.top_k", "decode.repetition_penalty",
    "decode.presence_penalty", "decode.seed", "decode.stop", "decode.thinking", "decode.chat_template",
)  # fmt: skip
"""Fields that a table may hold, besides ``score.NAME`` and ``label.NAME``."""

FAMILIES: Final = ("score.", "label.")
_AXES: Final = ("correct", "delivery", "coverage")

_SYNONYMS: Final[Mapping[str, tuple[str, ...]]] = {
    "prompt": ("question", "query", "instruction", "input", "messages"),
    "response": (
        "completion",
        "output",
        "answer_text",
        "generation",
        "model_output",
        "response_text",
        "generated_text",
    ),
    "id": ("task_id", "question_id", "example_id", "custom_id", "doc_id"),
    "sample": ("sample_index", "sample_idx"),
    "correct": ("passed", "is_correct"),
    "delivery": ("verbal",),
    "finish_reason": ("stop_reason", "finishReason"),
    "n_tokens": ("completion_tokens", "output_tokens", "num_output_tokens"),
    "gold": ("target", "reference_answer", "ground_truth"),
    "model": ("model_name", "model_id"),
    "judge": ("judge_model",),
    "decode.max_new_tokens": ("max_new_tokens", "max_tokens"),
    "decode.temperature": ("temperature",),
    "decode.top_p": ("top_p",),
    "decode.top_k": ("top_k",),
}

_BOOKKEEPING: Final = frozenset(
    {
        "i", "idx", "index", "row", "line", "", "_index", "unnamed: 0", "step", "epoch", "rank", "advantage",
        "created", "created_at", "timestamp", "time", "date", "duration", "latency", "latency_ms", "cost",
        "prompt_tokens", "input_tokens", "total_tokens", "object", "uuid", "hash",
    }
)  # fmt: skip
"""Columns that count or time things and so are never scores."""


def is_field(name: str) -> bool:
    """Whether ``name`` is a field of a plain table."""
    return name in FIELDS or any(name.startswith(family) and len(name) > len(family) for family in FAMILIES)


def is_bookkeeping(column: str) -> bool:
    """Whether a column of this name counts or times rows instead of judging them."""
    return column.lower() in _BOOKKEEPING


def parse_mapping(items: Sequence[str]) -> dict[str, str]:
    """``["prompt=question,response=text", "score.tone=t"]`` as {field: column}.

    Raises:
        InputError: an item is not ``field=column``, a field is unknown or given twice.
    """
    mapping: dict[str, str] = {}
    for item in (part for whole in items for part in whole.split(",")):
        name, mark, column = (piece.strip() for piece in item.partition("="))
        if not mark or not name or not column:
            raise InputError(
                f"--map {item.strip()!r} is not field=column", remedy="write for example --map prompt=question"
            )
        if not is_field(name):
            raise InputError(
                f"--map names the field {name!r}, which does not exist",
                remedy=f"{_hint(name, FIELDS)}fields are {', '.join(FIELDS)}, score.NAME and label.NAME",
            )
        if name in mapping and mapping[name] != column:
            raise InputError(f"--map gives the field {name!r} two columns, {mapping[name]!r} and {column!r}")
        mapping[name] = column
    return mapping


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}? " if close else ""


def lookup(row: Mapping[str, Json], column: str) -> Json:
    """The value of a column; ``a.b`` reaches into a nested object where no column has that very name."""
    if column in row:
        return row[column]
    value: Json = row
    for part in column.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


class Columns:
    """The resolved columns of one table.

    Attributes:
        column_of: field -> column.
        renamed: (column, field) pairs that were guessed from a synonym.
        ambiguous: field -> the several columns that could fill it.
        has_settings: whether any column says how answers were sampled.
        axes: (axis, column) of every column of scores.
        judged_by: the fields that say who or what scored.

    Raises:
        InputError: a mapped column is not there, or several columns could be the prompt or the response.
    """

    def __init__(self, sample: Iterable[Mapping[str, Json]], mapping: Mapping[str, str]) -> None:
        rows = list(sample)
        present = dict.fromkeys(key for row in rows for key in row)
        self.column_of: dict[str, str] = {}
        self.renamed: list[tuple[str, str]] = []
        for name, column in mapping.items():
            if column not in present and not any(lookup(row, column) is not None for row in rows):
                raise InputError(
                    f"there is no column {column!r} (--map {name}={column})",
                    remedy=f"{_hint(column, present)}the columns are {listing(present)}",
                )
            self.column_of[name] = column
        taken = set(self.column_of.values())
        inside = (
            f"{key}.{part}" for row in rows for key, cell in row.items() if isinstance(cell, Mapping) for part in cell
        )
        for name in dict.fromkeys([*present, *(name for name in inside if name in FIELDS)]):
            if is_field(name) and name not in self.column_of and name not in taken:
                self.column_of[name] = name
        taken |= set(self.column_of.values())
        self.ambiguous: dict[str, list[str]] = {}
        for name, synonyms in _SYNONYMS.items():
            if name in self.column_of:
                continue
            found = [column for column in synonyms if column in present and column not in taken]
            if len(found) == 1:
                self.column_of[name] = found[0]
                self.renamed.append((found[0], name))
            elif found:
                self.ambiguous[name] = found
        self.used = frozenset(self.column_of.values())
        self.has_settings = any(name == "system_prompt" or name.startswith("decode.") for name in self.column_of)
        named = [
            *(name for name in _AXES if name in self.column_of),
            *(n for n in self.column_of if n.startswith(FAMILIES)),
        ]
        self.axes = [(name, self.column_of[name]) for name in named]
        self.judged_by = [name for name in self.column_of if name.startswith("judge") and name != "judge_reply"]

    def get(self, row: Mapping[str, Json], name: str) -> Json:
        """The value of a field in a row; None where the table has no such column or cell."""
        column = self.column_of.get(name)
        if column is None:
            return None
        return row[column] if column in row else lookup(row, column)

    def is_used(self, column: str) -> bool:
        """Whether a column (or something nested in it) fills a field."""
        return column in self.used or any(used.startswith(f"{column}.") for used in self.used)
