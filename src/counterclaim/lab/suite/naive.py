"""What is done in place of an audit, each protocol as a function of the same evidence.

    mean_test       two unpaired samples, two-sided p < 0.05, the sign as claimed, nothing else looked at
    single_seed     the same test on the first training seed alone
    cv_only         a probe whose cross-validated AUC passes its permutation test
    best_threshold  of all thresholds the one that does best on the very answers that it is reported on

A protocol that has nothing to look at in a study (one seed, no probe, no threshold) says None and not no.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from scipy.special import ndtr, stdtr

from counterclaim import stats
from counterclaim.audit.evidence import Arm, Evidence, Mask
from counterclaim.audit.metrics import Floats
from counterclaim.checks.labels import THRESHOLD
from counterclaim.lab.probing.gates import SWEEP
from counterclaim.registry import Metric

ALPHA = 0.05
SAME = 0.95
"""Share of answers on which 'correct' has to be coverage at ``THRESHOLD`` to count as a label cut from a score."""

Moments = tuple[float, float, int]
"""Value, squared standard error and n of one arm, every answer taken as independent; NaN where undefined."""

UNDEFINED: Moments = (math.nan, math.nan, 0)


def naive_test(evidence: Evidence) -> tuple[float, float]:
    """What most comparisons report: the difference of two unpaired samples, treated minus control, and its two-sided p.

    Welch's t-test for means; for ratios of counts and AUCs a z-test with the delta method's and Hanley and McNeil's
    (1982) standard errors. NaN where the metric is undefined in an arm; p is NaN, too, where nothing varies.

    Raises:
        KeyError: there is no control or no treated arm.
    """
    if evidence.counts is not None:
        control, treated = (_share(arm.k, arm.n) for arm in (evidence.counts.control, evidence.counts.treated))
        return _compared(evidence.metric, control, treated)
    metric = evidence.metric
    return _compared(metric, _moments(metric, evidence.control), _moments(metric, evidence.treated))


def naive_positive(evidence: Evidence) -> bool:
    """Whether ``naive_test`` finds p < 0.05 in the claimed direction."""
    return _positive(evidence, *naive_test(evidence))


def single_seed_positive(evidence: Evidence) -> bool | None:
    """The same test on the first training seed alone; None where there is one seed only."""
    if evidence.counts is not None:
        return None
    metric, masks = evidence.metric, []
    seeds = sorted(set(evidence.treated.replicates.tolist()), key=lambda name: (len(name), name))
    if len(seeds) < 2:
        return None
    for arm in (evidence.control, evidence.treated):
        own = arm.replicates == seeds[0]
        masks.append(own if own.any() else np.ones(len(arm), dtype=bool))
    found = _compared(
        metric, _moments(metric, evidence.control, masks[0]), _moments(metric, evidence.treated, masks[1])
    )
    return _positive(evidence, *found)


def cv_only_positive(evidence: Evidence) -> bool | None:
    """A probe is believed because cross-validation beats shuffled labels at 5 %; None where the claim is not about a probe.

    Where labels were not shuffled, its bar has to be reached instead.
    """
    if evidence.probing is None:
        return None
    cv = evidence.probing.reading.cv_auc
    if cv is None:
        return False
    p = cv.permutation_p
    return cv.mean >= evidence.probing.bars["cv_auc"] if p is None else p <= ALPHA


def best_threshold_positive(evidence: Evidence) -> bool | None:
    """The best threshold is reported as if it were the only one; None where the claim hangs on no threshold.

    A gate's threshold: the best one on the fresh answers reaches the bar; or the claim states that its threshold was
    chosen on the test split, and ``naive_test`` takes it in. A label cut from a score: with some cut the test takes it in.
    """
    found = [_peeked_gate(evidence), _chosen_on_test(evidence), _best_cut(evidence)]
    return any(found) if any(one is not None for one in found) else None


PROTOCOLS: Mapping[str, Callable[[Evidence], bool | None]] = {
    "mean_test_positive": naive_positive,
    "single_seed_positive": single_seed_positive,
    "cv_only_positive": cv_only_positive,
    "best_threshold_positive": best_threshold_positive,
}
"""The naive protocols by the names that the table gives them."""


# two samples ----------------------------------------------------------------------------------------------------


def _positive(evidence: Evidence, difference: float, p: float) -> bool:
    return bool(p < ALPHA and difference * evidence.claim.sign > 0)


def _compared(metric: Metric, control: Moments, treated: Moments) -> tuple[float, float]:
    difference, variance = treated[0] - control[0], control[1] + treated[1]
    if not variance > 0 or not math.isfinite(difference):
        return difference, math.nan
    z = abs(difference) / variance**0.5
    if metric.kind != "mean":
        return difference, float(2 * ndtr(-z))
    df = variance**2 / sum(part[1] ** 2 / (part[2] - 1) for part in (control, treated))
    return difference, float(2 * stdtr(df, -z))


def _share(k: int, n: int) -> Moments:
    return (k / n, k / n * (1 - k / n) / (n - 1), n) if n > 1 else UNDEFINED


def _moments(metric: Metric, arm: Arm, keep: Mask | None = None, correct: Floats | None = None) -> Moments:
    """One arm's moments; ``keep`` (n,) leaves answers out, ``correct`` (n,) stands in for the scores of that axis."""
    chosen = np.ones(len(arm), dtype=bool) if keep is None else keep
    right = arm.numbers("correct") if correct is None else correct
    if metric.kind == "mean":
        x = (right if metric.axes == ("correct",) else arm.values(metric))[chosen]
        x = x[~np.isnan(x)]
        return (float(x.mean()), float(x.var(ddof=1)) / len(x), len(x)) if len(x) > 1 else UNDEFINED
    if metric.kind == "auc":
        scores = arm.numbers(metric.axes[0])
        both = chosen & ~np.isnan(scores) & ~np.isnan(right)
        labels = right[both] == 1
        area = stats.auc(scores[both], labels)
        if area is None:
            return UNDEFINED
        return area, _auc_variance(area, int(labels.sum()), int((~labels).sum())), len(labels)
    return _ratio(metric, arm.cells(right, metric)[chosen].sum(axis=0))


def _auc_variance(a: float, n_pos: int, n_neg: int) -> float:
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    return (a * (1 - a) + (n_pos - 1) * (q1 - a * a) + (n_neg - 1) * (q2 - a * a)) / (n_pos * n_neg)


def _ratio(metric: Metric, cells: Floats) -> Moments:
    assert metric.statistic is not None
    step = 1e-4 * max(float(cells.sum()), 1.0)
    moves = step * np.eye(4)
    # central differences; a ratio of counts does not change with their scale, so the mean gradient is zero
    gradient = (metric.statistic(cells + moves) - metric.statistic(np.maximum(cells - moves, 0.0))) / (2 * step)
    return float(metric.statistic(cells)), float((cells * gradient**2).sum()), int(cells.sum())


# thresholds -----------------------------------------------------------------------------------------------------


def _peeked_gate(evidence: Evidence) -> bool | None:
    """Whether the best gate on a probe's fresh answers reaches the bar."""
    if evidence.probing is None:
        return None
    peeked = evidence.probing.reading.asymmetry_peeked
    if peeked is None or peeked.estimate is None:
        return False
    return peeked.estimate <= evidence.probing.bars["fresh_asymmetry"]


def _chosen_on_test(evidence: Evidence) -> bool | None:
    """Where the claimed threshold is the best one already: whether the test takes it in."""
    return naive_positive(evidence) if evidence.claim.thresholds_chosen_on in ("test", "fresh") else None


def _best_cut(evidence: Evidence) -> bool | None:
    """Where 'correct' is coverage above a threshold: whether the test takes in any threshold of ``SWEEP``."""
    if evidence.counts is not None:
        return None
    metric, arms = evidence.metric, (evidence.control, evidence.treated)
    if "correct" not in metric.axes or "coverage" not in evidence.axes:
        return None
    coverage = [arm.numbers("coverage") for arm in arms]
    for arm, score in zip(arms, coverage, strict=True):
        right = arm.numbers("correct")
        both = ~np.isnan(right) & ~np.isnan(score)
        if not both.any() or ((score >= THRESHOLD) == right)[both].mean() < SAME:
            return None

    def taken_in(cut: float) -> bool:
        labels = [np.where(np.isnan(score), np.nan, score >= cut) for score in coverage]
        control, treated = (_moments(metric, arm, correct=label) for arm, label in zip(arms, labels, strict=True))
        return _positive(evidence, *_compared(metric, control, treated))

    return any(taken_in(cut) for cut in SWEEP.tolist())
