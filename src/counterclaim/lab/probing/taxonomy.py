"""Why a probe fails on fresh prompts: failure modes, each with the number behind it. More than one may hold.

single output distribution  right and wrong fresh answers look alike, to a probe trained on them and in style
capability cliff            the model is hardly ever right on fresh prompts, so that there is little to tell
distribution shift          fresh features can be told from training features
unfinished responses        what was read as the last token is where the budget cut the answer
underpowered                too few fresh answers: the interval still contains the bar
label disagreement          another label of the same construct disagrees, which caps what any probe can reach
"""

from __future__ import annotations

import numpy as np

from counterclaim import stats
from counterclaim.audit.probing import POOR, TELLING, TOO_MANY_CUT, Agreement, BarTest, Endings, Mode
from counterclaim.lab.config import Bars
from counterclaim.lab.probing.crossval import Bools, CrossValidated, Floats, TwoSample, cross_validate
from counterclaim.records import Estimate
from counterclaim.stats.proportion import wilson_ends
from counterclaim.wording import number, percent, with_interval

HEALTHY = 20
"""Items that the rarer class needs before two classes can be said to look alike. With fewer, the interval of an AUC is wider
than the way from chance to the bar (0.5 to 0.63), however many there are of the other class."""

COLLAPSED = 0.5
"""A fresh positive rate below this share of the training rate, its interval included, is a cliff. The source paper called
55 of 193 after 58 of 100 healthy, and 9 of 193 a collapse."""

ALIKE_LEVEL = 0.95
"""One-sided level at which a probe trained within the fresh answers has to stay below the bar."""


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


def failure_modes(
    fresh_auc: Estimate,
    labels: tuple[Bools, Bools],
    features: Floats | None,
    style: Floats | None,
    shift: TwoSample | None,
    cut: Endings | None,
    agreement: Agreement | None,
    *,
    bar: float,
    level: float,
    permutations: int,
    seed: int,
) -> tuple[Mode, ...]:
    """``taxonomy`` of a probe with its fresh items at hand; nothing is fitted where it passes.

    Args:
        fresh_auc: of the probe on the fresh items.
        labels: (n,) in training and (m,) on fresh items.
        features: (m, d), what it reads; None for classifiers that read tokens.
        style: (m, k) style features of the fresh answers.
        shift: of ``c2st``.
        cut: endings of the fresh answers.
        agreement: of the fresh labels with others of the same construct.
        bar: of the fresh AUC.
        level: of the intervals.
        permutations: at most, of every null.
        seed: of splits and shuffles.
    """
    if _passes(fresh_auc, bar):
        return ()
    train, fresh = labels
    shuffles = min(permutations, 200)
    within = None if features is None else within_fresh(features, fresh, seed=seed, permutations=shuffles)
    by_style = None if style is None else within_fresh(style, fresh, seed=seed, permutations=shuffles)
    known = None if cut is None or cut.n == cut.unknown else (cut.cut, cut.n - cut.unknown)
    return taxonomy(
        fresh_auc, (int(train.sum()), len(train)), (int(fresh.sum()), len(fresh)), within=within, style=by_style,
        shift=shift, cut=known, labels=agreement, bar=bar, level=level,
    )  # fmt: skip


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
    bar: float = Bars().fresh_auc,
    level: float = 0.95,
) -> tuple[Mode, ...]:
    """Every failure mode that holds; none where the probe passes on fresh prompts.

    A probe passes where its AUC on fresh prompts reaches the bar and its interval lies above one half.

    Args:
        fresh_auc: of the probe on the fresh items; undefined where a class is missing.
        train: positives and items of the training set.
        fresh: positives and items of the fresh set.
        within: of ``within_fresh`` on what the probe reads.
        style: of ``within_fresh`` on style features; None where there are none.
        shift: of ``c2st``; None where it was not run.
        cut: cut answers and answers of the fresh set; None where that is not known.
        labels: agreement of the fresh labels with others of the same construct; None where there are none.
        bar: of the fresh AUC.
        level: of the intervals.
    """
    if _passes(fresh_auc, bar):
        return ()
    found = (
        _alike(fresh, within, style, bar),
        _cliff(train, fresh, level),
        _shift(shift),
        _unfinished(cut, level),
        _underpowered(fresh_auc, fresh, bar),
        _disagreement(labels, level),
    )
    return tuple(mode for mode in found if mode is not None)


def _passes(fresh_auc: Estimate, bar: float) -> bool:
    return BarTest.against("fresh_auc", "", fresh_auc, bar).passed is True


def _alike(
    fresh: tuple[int, int], within: CrossValidated | None, style: CrossValidated | None, bar: float
) -> Mode | None:
    if within is None or any(not _below(found, bar) for found in (within, style) if found is not None):
        return None
    text = f"style tells them with AUC {_bounded(style)}" if style is not None else "style was not looked at"
    because = (
        f"{fresh[0]} of {fresh[1]} fresh answers are positive, which is enough to tell them, and a probe trained on fresh "
        f"answers themselves tells them with AUC {_bounded(within)}, less than the bar of {bar:g}; {text}."
    )
    return Mode("single output distribution", because, within.mean)


def _below(found: CrossValidated, bar: float) -> bool:
    top = found.bound(ALIKE_LEVEL)
    return top is not None and top < bar


def _bounded(found: CrossValidated) -> str:
    top = found.bound(ALIKE_LEVEL)
    return number(found.mean) if top is None else f"{number(found.mean)} (at most {number(top)})"


def _cliff(train: tuple[int, int], fresh: tuple[int, int], level: float) -> Mode | None:
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
    return Mode("capability cliff", because, moved.estimate)


def _shift(shift: TwoSample | None) -> Mode | None:
    if shift is None or not shift.apart:
        return None
    because = (
        f"A probe tells fresh from training features with AUC {with_interval(shift.auc)}, at or above {TELLING:g}."
    )
    return Mode("distribution shift", because, shift.auc.estimate)


def _unfinished(cut: tuple[int, int] | None, level: float) -> Mode | None:
    if cut is None or not cut[1] or cut[0] <= TOO_MANY_CUT * cut[1]:
        return None
    share = stats.wilson(*cut, level)
    because = (
        f"The budget cut {cut[0]} of {cut[1]} fresh answers ({with_interval(share)}): their last token is not an end."
    )
    return Mode("unfinished responses", because, share.estimate)


def _underpowered(fresh_auc: Estimate, fresh: tuple[int, int], bar: float) -> Mode | None:
    text = f"With {fresh[0]} positives of {fresh[1]} fresh answers the AUC is {with_interval(fresh_auc)}"
    if fresh_auc.high is None:
        return Mode("underpowered", f"{text}: it cannot be compared with the bar of {bar:g}.", None)
    if fresh_auc.high < bar:
        return None
    return Mode("underpowered", f"{text}, which still contains the bar of {bar:g}.", fresh_auc.high)


def _disagreement(labels: Agreement | None, level: float) -> Mode | None:
    if labels is None:
        return None
    kappa, ceiling = labels.kappa(level), labels.ceiling(level)
    if kappa.high is None or kappa.high >= POOR:
        return None
    because = (
        f"The two labels of the fresh answers agree with kappa {with_interval(kappa)}; a perfect predictor of the "
        f"other one would reach AUC {with_interval(ceiling)} on this one."
    )
    return Mode("label disagreement", because, ceiling.estimate)
