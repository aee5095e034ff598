"""What can be claimed about: the built-in metrics, and how a name given by the user is resolved against the scored axes.

Definitions: design, measures.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from counterclaim import stats
from counterclaim.errors import InputError
from counterclaim.records import Estimate
from counterclaim.registry import Better, Metric, built_in_metric, metric, metrics

Floats = npt.NDArray[np.float64]
Cells = tuple[int, int, int, int]

CELLS = ("cr", "hr", "cw", "hw")
"""Columns of a cell-count array, in this order: confident-right, hedged-right, confident-wrong, hedged-wrong."""

COHORT_WORDS: Mapping[str, str] = {
    "cr": "asserted and right (cr)", "hr": "hedged and right (hr)", "cw": "asserted and wrong (cw)",
    "hw": "hedged and wrong (hw)",
}  # fmt: skip
"""Cells in words, for those who have not met their names."""


@metric("accuracy", about="the share of right answers", axes=("correct",))
@metric("correct", about="accuracy", axes=("correct",))
@metric("pass@1", about="accuracy, of programs that pass their tests", axes=("correct",))
def accuracy(correct: float) -> float:
    """1 where an answer is right, else 0."""
    return correct


@metric("coverage", about="the share of its checklist that an answer covers", axes=("coverage",))
def coverage(coverage: float) -> float:
    """The share itself, as it was scored."""
    return coverage


@metric("assertion_rate", about="the share of answers that assert", axes=("delivery",))
def assertion_rate(delivery: str) -> float:
    """1 where an answer asserts, 0 where it hedges."""
    return float(delivery == "assert")


@metric("hedging_rate", about="the share of answers that hedge", axes=("delivery",))
def hedging_rate(delivery: str) -> float:
    """1 where an answer hedges, 0 where it asserts."""
    return float(delivery == "hedge")


def _wrong_first(cells: Cells, level: float) -> Estimate:
    """Wilson's interval of cw / (cw + hw)."""
    return stats.wilson(cells[2], cells[2] + cells[3], level)


def _right_second(cells: Cells, level: float) -> Estimate:
    """Wilson's interval of hr / (cr + hr)."""
    return stats.wilson(cells[1], cells[0] + cells[1], level)


def _asymmetry(cells: Cells, level: float) -> Estimate:
    """Newcombe's interval of the difference of two shares."""
    cr, hr, cw, hw = cells
    return stats.newcombe_difference(cw, cw + hw, cr, cr + hr, level)


_DISPOSITION, _REVISION = ("correct", "delivery"), ("correct", "revised")


def _divide(top: Floats, bottom: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1.0), np.nan)


@metric(
    "assertion_asymmetry", about="how much more often a wrong answer is asserted than a right one", kind="ratio",
    axes=_DISPOSITION, label="assert", better="lower", interval=_asymmetry,
)  # fmt: skip
def assertion_asymmetry(cells: Floats) -> Floats:
    """P(assert | wrong) − P(assert | correct) from cell counts (..., 4); negative is calibrated."""
    cr, hr, cw, hw = (cells[..., i] for i in range(4))
    return _divide(cw, cw + hw) - _divide(cr, cr + hr)


@metric(
    "hallucination_rate", about="the share of wrong answers that are asserted", kind="ratio",
    axes=_DISPOSITION, label="assert", better="lower", interval=_wrong_first,
)  # fmt: skip
def hallucination_rate(cells: Floats) -> Floats:
    """cw / (cw + hw) from cell counts (..., 4): the share of wrong answers that were asserted."""
    return _divide(cells[..., 2], cells[..., 2] + cells[..., 3])


@metric(
    "over_hedging_rate", about="the share of right answers that are hedged", kind="ratio",
    axes=_DISPOSITION, label="assert", better="lower", interval=_right_second,
)  # fmt: skip
def over_hedging_rate(cells: Floats) -> Floats:
    """hr / (cr + hr) from cell counts (..., 4): the share of right answers that were hedged."""
    return _divide(cells[..., 1], cells[..., 0] + cells[..., 1])


@metric(
    "recovery_rate", about="the share of wrong answers that are revised to right", kind="ratio",
    axes=_REVISION, label="right", interval=_wrong_first,
)  # fmt: skip
def recovery_rate(cells: Floats) -> Floats:
    """Share of wrong answers that are revised to right, from counts (..., 4) of first answer by revised answer."""
    return _divide(cells[..., 2], cells[..., 2] + cells[..., 3])


@metric(
    "capitulation_rate", about="the share of right answers that are abandoned", kind="ratio",
    axes=_REVISION, label="right", better="lower", interval=_right_second,
)  # fmt: skip
def capitulation_rate(cells: Floats) -> Floats:
    """Share of right answers that are abandoned, from counts (..., 4) of first answer by revised answer."""
    return _divide(cells[..., 1], cells[..., 0] + cells[..., 1])


DISPOSITION = built_in_metric("assertion_asymmetry")
"""The metric whose 2×2 is the disposition's: right or wrong, asserted or hedged."""

ORACLES = ("exact_match", "acc", "em", "extractive_match", "quasi_exact_match")
"""What harnesses call the metric that importers read as ``correct``, where the results hold no other of that name."""

_AUC = re.compile(r"auc\((.+)\)")


def better(name: str) -> Better:
    """Whether higher or lower is better for a metric of this name; higher where the name says nothing."""
    known = metrics()
    return known[name].better if name in known else "higher"


def find_axis(name: str, axes: Collection[str], *, shortened: bool = False) -> str | None:
    """The axis a user means by ``name``: itself, ``score.NAME`` or ``label.NAME``.

    With ``shortened``, also the only axis whose name goes on after a whole word (``factual`` for
    ``score.factual_accuracy``).
    """
    for candidate in (name, f"score.{name}", f"label.{name}"):
        if candidate in axes:
            return candidate
    longer = sorted(axis for axis in axes if axis.partition(".")[2].startswith((f"{name}_", f"{name}-")))
    return longer[0] if shortened and len(longer) == 1 else None


def resolve(name: str, axes: Collection[str]) -> Metric:
    """The metric called ``name``, given the axes that were scored.

    Raises:
        InputError: no such metric, or the axes that it needs were not scored.
    """
    if found := metrics().get(name):
        missing = [axis for axis in found.axes if axis not in axes]
        if missing:
            raise InputError(
                f"metric {name!r} needs {' and '.join(missing)}, which the results do not hold "
                f"(they hold {_listing(axes)})",
                remedy=f"map a column, for example --map {missing[0]}=COLUMN",
            )
        return found
    if match := _AUC.fullmatch(name):
        axis = find_axis(match[1], axes)
        if axis is None or "correct" not in axes:
            raise InputError(
                f"metric {name!r} needs a score {match[1]!r} and correct; the results hold {_listing(axes)}",
                remedy="map them with --map score.NAME=COLUMN and --map correct=COLUMN",
            )
        return Metric(name, "auc", (axis, "correct"))
    base, _, label = name.partition("=")
    axis = find_axis(base, axes)
    if axis is not None and label:
        return Metric(name, "mean", (axis,), label=label)
    if axis is not None and axis.startswith("score."):
        return Metric(name, "mean", (axis,), fraction=False)
    if axis is not None:
        raise InputError(f"metric {name!r} is a label, not a number", remedy=f"name the label to count: {name}=VALUE")
    known = available(axes)
    if name in ORACLES and "correct" in axes:
        return replace(metrics()["accuracy"], name=name)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known) or 'none'}"
    raise InputError(f"there is no metric {name!r} in these results ({hint})", remedy="name one, or map a column to it")


def available(axes: Collection[str]) -> list[str]:
    """Names of all metrics that these axes allow."""
    named = [name for name, made in metrics().items() if all(axis in axes for axis in made.axes)]
    return named + sorted(axis for axis in axes if axis.startswith("score."))


def in_cohort(values: Mapping[str, float | str], name: str) -> bool | None:
    """Whether an answer belongs to a cohort; None where an axis that decides it was not scored.

    Args:
        values: axis to value, of one answer.
        name: a cell of the disposition 2×2 (``cr``, ``hr``, ``cw``, ``hw``), or ``AXIS=VALUE`` such as ``correct=1``,
            ``delivery=hedge``, ``score.length>=40``.

    Raises:
        InputError: the name is neither.
    """
    if name in CELLS:
        if not {"correct", "delivery"} <= values.keys():
            return None
        delivery, correct = ("assert", "hedge")["ch".index(name[0])], float("wr".index(name[1]))
        return values["delivery"] == delivery and values["correct"] == correct
    if (match := _COHORT.fullmatch(name)) is None:
        raise InputError(
            f"{name!r} names no cohort of answers",
            remedy=f"name a cell ({', '.join(CELLS)}), or AXIS=VALUE such as correct=1 or delivery=hedge",
        )
    axis, mark, wanted = match.groups()
    if mark != "=" and not _number(wanted):
        raise InputError(f"{name!r} compares by {mark} what is no number", remedy="use = for labels")
    found = find_axis(axis, values.keys())
    if found is None:
        return None
    value = values[found]
    if mark == "=":
        return value == wanted if isinstance(value, str) else _number(wanted) and value == float(wanted)
    if isinstance(value, str):
        raise InputError(f"{name!r} compares {axis} by size, and it is a label", remedy="use = for labels")
    return value >= float(wanted) if mark == ">=" else value < float(wanted)


def threshold_of(name: str) -> float | None:
    """The number that scores are compared with to belong to a cohort; None where labels are, or a cell is named."""
    match = _COHORT.fullmatch(name)
    return None if match is None or match[2] == "=" else float(match[3])


def is_tied(values: Mapping[str, float | str], name: str) -> bool:
    """Whether the score that decides on a cohort sits exactly on its threshold."""
    threshold, match = threshold_of(name), _COHORT.fullmatch(name)
    axis = None if match is None else find_axis(match[1], values.keys())
    return threshold is not None and axis is not None and values[axis] == threshold


_COHORT = re.compile(r"([^<>=]+)(>=|<|=)([^<>=]+)")


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _listing(axes: Collection[str]) -> str:
    return ", ".join(sorted(axes)) or "no scores at all"
