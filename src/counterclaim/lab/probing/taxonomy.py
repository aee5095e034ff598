"""Why a probe fails on fresh prompts: failure modes, each with the number behind it. More than one may hold.

single output distribution  right and wrong fresh answers look alike, to a probe trained on them and in style
capability cliff            the model is hardly ever right on fresh prompts, so that there is little to tell
distribution shift          fresh features can be told from training features
unfinished responses        what was read as the last token is where the budget cut the answer
underpowered                too few fresh answers: the interval still contains the bar
label disagreement          another label of the same construct disagrees, which caps what any probe can reach
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from counterclaim import stats
from counterclaim.lab.config import Bars
from counterclaim.lab.probing.crossval import CrossValidated, cross_validate
from counterclaim.lab.probing.twosample import TELLING, TwoSample
from counterclaim.records import Estimate, Json
from counterclaim.stats.proportion import wilson_ends
from counterclaim.wording import number, percent, with_interval

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Mode = Literal[
    "single output distribution",
    "capability cliff",
    "distribution shift",
    "unfinished responses",
    "underpowered",
    "label disagreement",
]

HEALTHY = 20
"""Items that the rarer class needs before two classes can be said to look alike. With fewer, the interval of an AUC is wider
than the way from chance to the bar (0.5 to 0.63), however many there are of the other class."""

COLLAPSED = 0.5
"""A fresh positive rate below this share of the training rate, its interval included, is a cliff. The source paper called
55 of 193 after 58 of 100 healthy, and 9 of 193 a collapse."""

CUT = 0.1
"""Share of cut answers above which a reading at the last token is not one at the end; the check ``endpoint`` has the same."""

DISAGREE = 0.4
"""Cohen's kappa below which, interval included, two labels are not of one construct; ``label-agreement`` has the same."""

ALIKE_LEVEL = 0.95
"""One-sided level at which a probe trained within the fresh answers has to stay below the bar."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far another label of the same construct agrees on the same fresh answers.

    Attributes:
        kappa: Cohen's kappa.
        ceiling: AUC that a perfect predictor of the other label reaches on the probe's own.
    """

    kappa: Estimate
    ceiling: Estimate

    @property
    def disagree(self) -> bool:
        """Whether kappa lies wholly below ``DISAGREE``."""
        return self.kappa.high is not None and self.kappa.high < DISAGREE


def agreement(labels: Bools, other: Bools, level: float = 0.95) -> Agreement:
    """Kappa and ceiling of two labels, (n,) each, of the same items in the same order."""
    labels, other = np.asarray(labels, bool), np.asarray(other, bool)
    table = [
        [int((~labels & ~other).sum()), int((~labels & other).sum())],
        [int((labels & ~other).sum()), int((labels & other).sum())],
    ]
    return Agreement(stats.cohen_kappa(table, level), stats.delong(other.astype(np.float64), labels, level))


def within_fresh(
    fresh: Floats, labels: Bools, *, C: float = 0.1, permutations: int = 200, seed: int = 0
) -> CrossValidated | None:
    """A probe that is trained and cross-validated within the fresh items themselves, on any features of them.

    Args:
        fresh: (n, d) hidden states, or what shows of style.
        labels: (n,).
        C: inverse strength of the L2 penalty.
        permutations: of its null, which says how far chance moves it.
        seed: of splits and shuffles.

    Returns:
        None where the rarer class has fewer than ``HEALTHY`` items.
    """
    if min(int(labels.sum()), int((~labels).sum())) < HEALTHY:
        return None
    return cross_validate(fresh, labels, C=(C,), splits=5, permutations=permutations, seed=seed)[0]


def taxonomy(
    fresh_auc: Estimate,
    train: tuple[int, int],
    fresh: tuple[int, int],
    *,
    within: CrossValidated | None = None,
    style: CrossValidated | None = None,
    shift: TwoSample | None = None,
    cut: tuple[int, int] | None = None,
    labels: Agreement | None = None,
    bars: Bars | None = None,
    level: float = 0.95,
) -> list[dict[str, Json]]:
    """Every failure mode that holds, as ``{"mode", "because", "value"}``; none where the probe passes on fresh prompts.

    A probe passes where its AUC on fresh prompts reaches ``bars.fresh_auc`` and its interval lies above one half.

    Args:
        fresh_auc: of the probe on the fresh items; undefined where a class is missing.
        train: positives and items of the training set.
        fresh: positives and items of the fresh set.
        within: of ``within_fresh`` on what the probe reads.
        style: of ``within_fresh`` on what shows of style; None where nobody looked.
        shift: of ``c2st``; None where nobody looked.
        cut: cut answers and answers of the fresh set; None where that is not known.
        labels: of ``agreement`` between the fresh labels and others of the same construct; None where there are none.
        bars: ``fresh_auc`` is the one that counts.
        level: of the intervals.
    """
    bar = (bars or Bars()).fresh_auc
    if passes(fresh_auc, bar):
        return []
    found = (
        _alike(fresh, within, style, bar),
        _cliff(train, fresh, level),
        _shift(shift),
        _unfinished(cut, level),
        _underpowered(fresh_auc, fresh, bar),
        _disagreement(labels),
    )
    return [mode for mode in found if mode is not None]


def passes(fresh_auc: Estimate, bar: float) -> bool:
    """Whether an AUC reaches the bar with an interval above one half."""
    return (fresh_auc.estimate or 0.0) >= bar and fresh_auc.low is not None and fresh_auc.low > 0.5


def _mode(mode: Mode, because: str, value: float | None) -> dict[str, Json]:
    return {"mode": mode, "because": because, "value": value}


def _alike(
    fresh: tuple[int, int], within: CrossValidated | None, style: CrossValidated | None, bar: float
) -> dict[str, Json] | None:
    if within is None or any(not _below(found, bar) for found in (within, style) if found is not None):
        return None
    told = f"style tells them with AUC {_bounded(style)}" if style is not None else "style was not looked at"
    because = (
        f"{fresh[0]} of {fresh[1]} fresh answers are positive, which is enough to tell them, and a probe trained on fresh "
        f"answers themselves tells them with AUC {_bounded(within)}, less than the bar of {bar:g}; {told}."
    )
    return _mode("single output distribution", because, within.mean)


def _below(found: CrossValidated, bar: float) -> bool:
    top = found.bound(ALIKE_LEVEL)
    return top is not None and top < bar


def _bounded(found: CrossValidated) -> str:
    top = found.bound(ALIKE_LEVEL)
    return number(found.mean) if top is None else f"{number(found.mean)} (at most {number(top)})"


def _cliff(train: tuple[int, int], fresh: tuple[int, int], level: float) -> dict[str, Json] | None:
    if not train[1] or not fresh[1]:
        return None
    (before, after), (low, _), (_, high) = (
        (train[0] / train[1], fresh[0] / fresh[1]),
        *wilson_ends([train[0], fresh[0]], [train[1], fresh[1]], level),
    )
    # Newcombe's hybrid of the two score intervals, for the difference fresh - COLLAPSED * train
    gap = after - COLLAPSED * before
    if gap + np.hypot(high - after, COLLAPSED * (before - low)) >= 0:
        return None
    moved = stats.newcombe_difference(*fresh, *train, level)
    because = (
        f"{fresh[0]} of {fresh[1]} fresh answers are positive ({percent(after)}) after {train[0]} of {train[1]} in "
        f"training ({percent(before)}), a difference of {with_interval(moved)}: an asymmetry there is about the base rate."
    )
    return _mode("capability cliff", because, moved.estimate)


def _shift(shift: TwoSample | None) -> dict[str, Json] | None:
    if shift is None or not shift.apart:
        return None
    because = (
        f"A probe tells fresh from training features with AUC {with_interval(shift.auc)}, at or above {TELLING:g}."
    )
    return _mode("distribution shift", because, shift.auc.estimate)


def _unfinished(cut: tuple[int, int] | None, level: float) -> dict[str, Json] | None:
    if cut is None or not cut[1] or cut[0] <= CUT * cut[1]:
        return None
    share = stats.wilson(*cut, level)
    because = (
        f"The budget cut {cut[0]} of {cut[1]} fresh answers ({with_interval(share)}): their last token is not an end."
    )
    return _mode("unfinished responses", because, share.estimate)


def _underpowered(fresh_auc: Estimate, fresh: tuple[int, int], bar: float) -> dict[str, Json] | None:
    told = f"With {fresh[0]} positives of {fresh[1]} fresh answers the AUC is {with_interval(fresh_auc)}"
    if fresh_auc.high is None:
        return _mode("underpowered", f"{told}: nothing can be said against the bar of {bar:g}.", None)
    if fresh_auc.high < bar:
        return None
    return _mode("underpowered", f"{told}, which still contains the bar of {bar:g}.", fresh_auc.high)


def _disagreement(labels: Agreement | None) -> dict[str, Json] | None:
    if labels is None or not labels.disagree:
        return None
    because = (
        f"The two labels of the fresh answers agree with kappa {with_interval(labels.kappa)}; a perfect predictor of the "
        f"other one would reach AUC {with_interval(labels.ceiling)} on this one."
    )
    return _mode("label disagreement", because, labels.ceiling.estimate)
