"""What can be claimed about: metrics by name, and the axes of scores that each one is made of.

Three kinds. A *mean* averages one number per response. A *ratio* is a function of the four cells of the disposition
2×2 (confident-right, hedged-right, confident-wrong, hedged-wrong). An *auc* asks how well a score ranks right above
wrong answers. Definitions: design, measures.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from counterclaim.errors import InputError

Floats = npt.NDArray[np.float64]

CELLS = ("cr", "hr", "cw", "hw")
"""Columns of a cell-count array, in this order."""

COHORT_WORDS: Mapping[str, str] = {
    "cr": "asserted and right (cr)", "hr": "hedged and right (hr)", "cw": "asserted and wrong (cw)",
    "hw": "hedged and wrong (hw)",
}  # fmt: skip
"""Cells in words, for those who have not met their names."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A quantity of one arm.

    Attributes:
        name: as the user wrote it.
        kind: ``mean``, ``ratio`` or ``auc``.
        axes: the score axes that it needs.
        better: whether higher or lower is better.
        fraction: whether its values lie in [0, 1] by definition.
        label: the label that counts: as 1 in a mean over a label axis, as the first column of a ratio's cells.
        statistic: for a ratio: cell counts, float array (..., 4) in the order of ``CELLS``, to values (...,);
            NaN where undefined. Rows of the 2×2 are right and wrong answers, columns are ``label`` of the second axis
            and the rest.
    """

    name: str
    kind: Literal["mean", "ratio", "auc"]
    axes: tuple[str, ...]
    better: Literal["higher", "lower"] = "higher"
    fraction: bool = True
    label: str | None = None
    statistic: Callable[[Floats], Floats] | None = None


def _divide(top: Floats, bottom: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1.0), np.nan)


def assertion_asymmetry(cells: Floats) -> Floats:
    """P(assert | wrong) − P(assert | correct) from cell counts (..., 4); negative is calibrated."""
    cr, hr, cw, hw = (cells[..., i] for i in range(4))
    return _divide(cw, cw + hw) - _divide(cr, cr + hr)


def hallucination_rate(cells: Floats) -> Floats:
    """cw / (cw + hw) from cell counts (..., 4): the share of wrong answers that were asserted."""
    return _divide(cells[..., 2], cells[..., 2] + cells[..., 3])


def over_hedging_rate(cells: Floats) -> Floats:
    """hr / (cr + hr) from cell counts (..., 4): the share of right answers that were hedged."""
    return _divide(cells[..., 1], cells[..., 0] + cells[..., 1])


def recovery_rate(cells: Floats) -> Floats:
    """Share of wrong answers that are revised to right, from counts (..., 4) of first answer by revised answer."""
    return _divide(cells[..., 2], cells[..., 2] + cells[..., 3])


def capitulation_rate(cells: Floats) -> Floats:
    """Share of right answers that are abandoned, from counts (..., 4) of first answer by revised answer."""
    return _divide(cells[..., 1], cells[..., 0] + cells[..., 1])


_DISPOSITION = ("correct", "delivery")
_REVISION = ("correct", "revised")

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "mean", ("correct",)),
        Metric("correct", "mean", ("correct",)),
        Metric("pass@1", "mean", ("correct",)),
        Metric("coverage", "mean", ("coverage",)),
        Metric("assertion_rate", "mean", ("delivery",), label="assert"),
        Metric("hedging_rate", "mean", ("delivery",), label="hedge"),
        Metric("assertion_asymmetry", "ratio", _DISPOSITION, "lower", label="assert", statistic=assertion_asymmetry),
        Metric("hallucination_rate", "ratio", _DISPOSITION, "lower", label="assert", statistic=hallucination_rate),
        Metric("over_hedging_rate", "ratio", _DISPOSITION, "lower", label="assert", statistic=over_hedging_rate),
        Metric("recovery_rate", "ratio", _REVISION, label="right", statistic=recovery_rate),
        Metric("capitulation_rate", "ratio", _REVISION, "lower", label="right", statistic=capitulation_rate),
    )
}
"""Metrics with a name of their own; ``score.NAME``, ``label.NAME=VALUE`` and ``auc(NAME)`` come beside them."""

ORACLES = ("exact_match", "acc", "em", "extractive_match", "quasi_exact_match")
"""What harnesses call the metric that importers read as ``correct``, where the results hold no other of that name."""

_AUC = re.compile(r"auc\((.+)\)")


def better(name: str) -> Literal["higher", "lower"]:
    """Whether higher or lower is better for a metric of this name; higher where the name says nothing."""
    return METRICS[name].better if name in METRICS else "higher"


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
    if name in METRICS:
        metric = METRICS[name]
        missing = [axis for axis in metric.axes if axis not in axes]
        if missing:
            raise InputError(
                f"metric {name!r} needs {' and '.join(missing)}, which the results do not hold "
                f"(they hold {_listing(axes)})",
                remedy=f"map a column, for example --map {missing[0]}=COLUMN",
            )
        return metric
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
        return Metric(name, "mean", ("correct",))
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known) or 'none'}"
    raise InputError(f"there is no metric {name!r} in these results ({hint})", remedy="name one, or map a column to it")


def available(axes: Collection[str]) -> list[str]:
    """Names of all metrics that these axes allow."""
    named = [name for name, metric in METRICS.items() if all(axis in axes for axis in metric.axes)]
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


_COHORT = re.compile(r"([^<>=]+)(>=|<|=)([^<>=]+)")


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _listing(axes: Collection[str]) -> str:
    return ", ".join(sorted(axes)) or "no scores at all"
