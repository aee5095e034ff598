"""Scores of one row, cell by cell, each refusal naming the line, the column and the value."""

from __future__ import annotations

import math

from counterclaim.errors import InputError
from counterclaim.importers.collect import Collector, Key
from counterclaim.importers.values import MISSING, as_float, as_name, is_missing, shown, truth
from counterclaim.records import LABELS, Json


def score_cell(
    collector: Collector,
    key: Key,
    axis: str,
    column: str,
    cell: Json,
    *,
    line: int,
    scorer: str,
    from_text: bool = False,
    evidence: str | None = None,
) -> None:
    """Record what one cell says on one axis: ``correct``, ``delivery``, ``coverage``, ``score.*`` or ``label.*``.

    An empty cell, and ``{"error": REASON}``, is unscored; NaN written as a number is refused, as it may be anything.

    Raises:
        InputError: the cell holds no value of that axis.
    """
    if isinstance(cell, dict) and isinstance(cell.get("error"), str):
        collector.score(key, axis, None, scorer, unscored=cell["error"] or "error", evidence=evidence)
        return
    if is_missing(cell, from_text=from_text):
        collector.score(key, axis, None, scorer, unscored=MISSING, evidence=evidence)
        return
    value: float | str
    if axis == "correct":
        value = _right_or_wrong(collector, column, cell, line)
    elif axis == "delivery" or axis.startswith("label."):
        value = _label(collector, axis, column, cell, line)
    else:
        value = finite(collector, column, cell, line)
        if axis == "coverage" and not 0 <= value <= 1:
            raise collector.fail(
                f"column {column!r} holds {shown(cell)}, and coverage is a share between 0 and 1", line,
                "divide it, or map the column as score.NAME",
            )  # fmt: skip
    collector.score(key, axis, value, scorer, evidence=evidence)


def finite(collector: Collector, column: str, cell: Json, line: int) -> float:
    """A cell as a finite number.

    Raises:
        InputError: it is none, or NaN or infinite.
    """
    number = as_float(cell)
    if number is None:
        raise collector.fail(
            f"column {column!r} holds {shown(cell)}, which is not a number", line,
            "leave it empty where there is no score, or map the column as label.NAME",
        )  # fmt: skip
    if not math.isfinite(number):
        raise _not_finite(collector, column, number, line)
    return number


def _not_finite(collector: Collector, column: str, number: float, line: int) -> InputError:
    name = "NaN" if math.isnan(number) else "an infinite number"
    return collector.fail(
        f"column {column!r} holds {name}, and {name} is not a score",
        line,
        "leave the cell empty where nothing was scored",
    )


def _right_or_wrong(collector: Collector, column: str, cell: Json, line: int) -> float:
    value = truth(cell)
    if value is None:
        number = as_float(cell)
        if number is not None and not math.isfinite(number):
            raise _not_finite(collector, column, number, line)
        raise collector.fail(
            f"column {column!r} holds {shown(cell)}, and correct has to be true/false or 0/1", line,
            f"map it as a score with --map score.{column}={column}, or name the right column with --map correct=COLUMN",
        )  # fmt: skip
    return value


def _label(collector: Collector, axis: str, column: str, cell: Json, line: int) -> str:
    number = as_float(cell) if not isinstance(cell, str) else None
    if number is not None and not math.isfinite(number):
        raise _not_finite(collector, column, number, line)
    label = str(cell).lower() if isinstance(cell, bool) else as_name(cell)
    if label is None:
        raise collector.fail(f"column {column!r} holds {shown(cell)}, which is not a label", line)
    allowed = LABELS.get(axis)
    if allowed is not None:
        label = label.lower()
        if label not in allowed:
            raise collector.fail(
                f"column {column!r} holds {shown(cell)}, and {axis} has to be {' or '.join(allowed)}", line,
                f"rename the labels, or map the column as label.{column}",
            )  # fmt: skip
    return label
