"""Area under the ROC curve: how often a positive item scores above a negative one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from counterclaim.records import Estimate
from counterclaim.stats.distributions import t_quantile, two_sided
from counterclaim.stats.resample import percentile_interval
from counterclaim.stats.weights import Floats, Weights, bootstrap_weights

ONE_CLASS = "all items are of one class"
_CACHED = 40_000  # weights looked at together: their temporaries stay in cache
_BOOTSTRAP = "bootstrap, percentile"


WIDENED = "cross-validated; DeLong, widened to the spread of shuffled labels"
"""The method of ``widen_auc``."""


def auc(scores: ArrayLike, labels: ArrayLike) -> float | None:
    """P(score of a positive > score of a negative), ties counted half; None when a class is empty.

    Args:
        scores: (n,), finite.
        labels: (n,), true for positives.
    """
    value, labelled = _arrays(scores, labels)
    return _auc(value, labelled) if 0 < labelled.sum() < len(labelled) else None


def delong(scores: ArrayLike, labels: ArrayLike, level: float = 0.95) -> Estimate:
    """AUC with the interval of DeLong, DeLong and Clarke-Pearson (1988) on the logit scale.

    The quantile is Student's t with Satterthwaite's degrees of freedom for the two classes' parts of the variance:
    with 9 positives of 193 at an AUC of .75 that covers 93 % where the normal quantile covers 91 %.
    Where DeLong's variance is 0 or unknown (classes perfectly separated, or a class of one item) the interval is
    the score interval of Newcombe (2006, method 5), which needs the class sizes only. Undefined when a class is
    empty.
    """
    value, labelled = _arrays(scores, labels)
    n, method = len(value), "DeLong, logit t"
    positives = int(labelled.sum())
    if not 0 < positives < n:
        return Estimate.undefined(ONE_CLASS, n=n, level=level, method=method)
    area = _auc(value, labelled)
    squares = _influence(value, labelled) ** 2 * _unbias(labelled)
    parts = np.array([squares[labelled].sum(), squares[~labelled].sum()])
    variance = float(parts.sum())
    if variance <= 0 or not 0 < area < 1 or min(positives, n - positives) < 2:
        return auc_of_sizes(area, positives, n - positives, level)
    df = variance**2 / float(np.sum(parts**2 / [positives - 1, n - positives - 1]))
    half = t_quantile(level, df) * math.sqrt(variance) / (area * (1 - area))
    odds = area / (1 - area)
    low, high = (1 / (1 + math.exp(side) / odds) for side in (half, -half))
    return Estimate(area, low, high, level, method, n)


def widen_auc(plain: Estimate, area: float, null_sd: float | None, positives: int, negatives: int) -> Estimate:
    """DeLong's interval of out-of-fold scores, widened: scores of different folds share training items, and are not independent.

    DeLong alone covers 82 to 85 % where there is nothing to find (n 120 to 293, 32 to 2,048 features). The half-width, on the
    logit scale, grows by the factor by which AUCs of shuffled labels spread more than those of independent scores would,
    which is a standard deviation of sqrt((n + 1) / (12 positives negatives)) (Mann and Whitney 1947); it never shrinks.

    Args:
        plain: of ``delong`` on the out-of-fold scores of one split.
        area: around which the interval lies: the AUC itself, or the mean of several splits.
        null_sd: standard deviation, over label shuffles, of an AUC that is made as ``area`` is; None leaves the width as it is.
        positives: items of the one class.
        negatives: of the other.
    """
    n, low, high = positives + negatives, plain.low, plain.high
    if low is None or high is None or not 0 < low <= high < 1 or not 0 < area < 1:
        return Estimate(area, low, high, plain.level, WIDENED, n, plain.reason)
    half = (_logit(high) - _logit(low)) / 2
    if null_sd is not None:
        half *= max(1.0, null_sd / math.sqrt((n + 1) / (12 * positives * negatives)))
    center = _logit(area)
    return Estimate(area, _share(center - half), _share(center + half), plain.level, WIDENED, n)


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _share(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def auc_of_sizes(area: float, positives: int, negatives: int, level: float = 0.95) -> Estimate:
    """A published AUC with the interval that its class sizes give: Newcombe's score interval (2006, method 5).

    Undefined when a class is empty.
    """
    if not 0 <= area <= 1:
        raise ValueError("an area lies between 0 and 1")
    n, method = positives + negatives, "Newcombe score (AUC)"
    if min(positives, negatives) < 1:
        return Estimate.undefined(ONE_CLASS, n=n, level=level, method=method)
    return Estimate(area, *_newcombe_ends(area, positives, negatives, level), level, method, n)


def delong_paired(
    scores_treated: ArrayLike,
    labels_treated: ArrayLike,
    scores_control: ArrayLike,
    labels_control: ArrayLike,
    level: float = 0.95,
) -> Estimate:
    """AUC(treated) - AUC(control) on the same items in the same order.

    DeLong's covariance where both arms have the same labels. Where labels differ between the arms, an item is a
    cluster that may be positive in one arm and negative in the other, and the variance is that of Obuchowski
    (1997). Undefined when an arm has one class only; the interval is undefined when an arm separates its classes
    perfectly or has a class of one item.
    """
    treated, labelled1 = _arrays(scores_treated, labels_treated)
    control, labelled0 = _arrays(scores_control, labels_control)
    n = len(treated)
    if len(control) != n:
        raise ValueError("paired arms have the same items")
    same = bool((labelled1 == labelled0).all())
    method = "DeLong paired" if same else "DeLong paired, clustered by item"
    sizes = [count for labelled in (labelled1, labelled0) for count in (labelled.sum(), (~labelled).sum())]
    if min(sizes) == 0:
        return Estimate.undefined(f"in one arm {ONE_CLASS}", n=n, level=level, method=method)
    area1, area0 = _auc(treated, labelled1), _auc(control, labelled0)
    difference = area1 - area0
    if min(sizes) < 2 or area1 in (0.0, 1.0) or area0 in (0.0, 1.0):
        reason = "in one arm the classes are perfectly separated or a class has one item only"
        return Estimate(difference, None, None, level, method, n, reason)
    pull = _influence(treated, labelled1) - _influence(control, labelled0)
    unbias = _unbias(labelled1) if same else np.full(n, n / (n - 1))
    variance = float(np.sum(pull**2 * unbias))
    if variance <= 1e-20:
        reason = "both arms rank the items alike, so the spread of the difference is unknown"
        return Estimate(difference, None, None, level, method, n, reason)
    half = two_sided(level) * float(np.sqrt(variance))
    return Estimate(difference, max(-1.0, difference - half), min(1.0, difference + half), level, method, n)


def bootstrap_auc(
    scores: ArrayLike,
    labels: ArrayLike,
    level: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
    clusters: ArrayLike | None = None,
) -> Estimate:
    """AUC with a percentile bootstrap interval; items are resampled, or clusters where they are given.

    Args:
        scores: (n,), finite.
        labels: (n,), true for positives.
        level: of the interval.
        draws: resamples. Those without one of the classes are undefined and dropped.
        seed: of a PCG64; equal arguments give equal bits.
        clusters: (n,), any ids (prompts); items of one cluster are drawn together.
    """
    value, labelled = _arrays(scores, labels)
    method = _BOOTSTRAP if clusters is None else f"cluster {_BOOTSTRAP}"
    area = auc(value, labelled)
    if area is None:
        return Estimate.undefined(ONE_CLASS, n=len(value), level=level, method=method)
    groups, unit = _units(clusters, len(value))
    ranked = _Ranked(value, labelled, unit)
    values = np.concatenate([ranked.areas(weights) for weights in bootstrap_weights(groups, draws, seed)])
    return percentile_interval(area, values, groups, level, method)


def bootstrap_auc_difference(
    scores_treated: ArrayLike,
    labels_treated: ArrayLike,
    scores_control: ArrayLike,
    labels_control: ArrayLike,
    level: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
    clusters: ArrayLike | None = None,
    clusters_control: ArrayLike | None = None,
) -> Estimate:
    """AUC(treated) - AUC(control) with a percentile bootstrap interval, both arms resampled together.

    Items are paired by position, or by cluster where ``clusters`` (of the treated items) and ``clusters_control``
    are given; both arms then hold the same clusters, each as often as it likes. Labels may differ between the arms.
    Other arguments as in ``bootstrap_auc``.
    """
    treated, labelled1 = _arrays(scores_treated, labels_treated)
    control, labelled0 = _arrays(scores_control, labels_control)
    if clusters_control is None and len(control) != len(treated):
        raise ValueError("paired arms have the same items")
    method = f"{'' if clusters is None else 'cluster '}{_BOOTSTRAP}, paired"
    area1, area0 = auc(treated, labelled1), auc(control, labelled0)
    if area1 is None or area0 is None:
        return Estimate.undefined(f"in one arm {ONE_CLASS}", n=len(treated), level=level, method=method)
    groups, unit = _units(clusters, len(treated))
    groups0, unit0 = (groups, unit) if clusters_control is None else _units(clusters_control, len(control))
    if groups0 != groups:
        raise ValueError("paired arms have the same clusters")
    arms = _Ranked(treated, labelled1, unit), _Ranked(control, labelled0, unit0)
    values = np.concatenate([_difference(arms, w) for w in bootstrap_weights(groups, draws, seed)])
    return percentile_interval(area1 - area0, values, groups, level, method)


class _Ranked:
    """Items sorted once; the AUC of any number of weightings follows from cumulative weights of the negatives."""

    def __init__(self, scores: Floats, labels: NDArray[np.bool_], unit: NDArray[np.intp]) -> None:
        order = np.argsort(scores, kind="stable")
        ordered, labelled = scores[order], labels[order]
        negative = ordered[~labelled]
        self.positive_units = unit[order][labelled]
        self.negative_units = unit[order][~labelled]
        self.below = np.searchsorted(negative, ordered[labelled], side="left")
        self.up_to = np.searchsorted(negative, ordered[labelled], side="right")

    def areas(self, weights: Weights) -> Floats:
        """(rows,) AUCs for weights (rows, units); NaN where a class has no weight."""
        step = max(1, _CACHED // (len(self.positive_units) + len(self.negative_units)))
        return np.concatenate([self._areas(weights[at : at + step]) for at in range(0, len(weights), step)])

    def _areas(self, weights: Weights) -> Floats:
        positive = weights.take(self.positive_units, axis=1)
        cumulative = np.zeros((len(weights), len(self.negative_units) + 1), np.float32)
        cumulative[:, 1:] = weights.take(self.negative_units, axis=1)
        # One running sum over all rows is three times as fast as one a row, and whole numbers below 2^24 are
        # exact in float32.
        np.cumsum(cumulative.reshape(-1), out=cumulative.reshape(-1))
        cumulative -= cumulative[:, :1].copy()
        beaten = cumulative.take(self.below, axis=1)
        beaten += cumulative.take(self.up_to, axis=1)
        won = np.einsum("ij,ij->i", positive, beaten, dtype=np.float64)
        pairs = positive.sum(axis=1, dtype=np.float64) * cumulative[:, -1]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(won / (2 * pairs), np.float64)


def _difference(arms: tuple[_Ranked, _Ranked], weights: Weights) -> Floats:
    return arms[0].areas(weights) - arms[1].areas(weights)


def _units(clusters: ArrayLike | None, n: int) -> tuple[int, NDArray[np.intp]]:
    if clusters is None:
        return n, np.arange(n)
    names, unit = np.unique(np.asarray(clusters), return_inverse=True)
    if len(unit) != n:
        raise ValueError("every item has a cluster")
    return len(names), unit


def _arrays(scores: ArrayLike, labels: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    value, labelled = np.asarray(scores, np.float64), np.asarray(labels, bool)
    if value.ndim != 1 or value.shape != labelled.shape:
        raise ValueError("there is one label per score")
    if not np.isfinite(value).all():
        raise ValueError("scores are finite")
    return value, labelled


def _beaten(value: Floats, against: Floats) -> Floats:
    """How many of ``against`` (sorted) each value exceeds, ties half."""
    both = np.searchsorted(against, value, "left") + np.searchsorted(against, value, "right")
    return np.asarray(both / 2, np.float64)


def _auc(value: Floats, labelled: NDArray[np.bool_]) -> float:
    negative = np.sort(value[~labelled])
    return float(_beaten(value[labelled], negative).mean() / len(negative))


def _influence(value: Floats, labelled: NDArray[np.bool_]) -> Floats:
    """Each item's share in the error of the AUC (DeLong's structural components, centred, over class sizes)."""
    positive, negative = np.sort(value[labelled]), np.sort(value[~labelled])
    out = np.empty(len(value))
    wins = _beaten(value[labelled], negative) / len(negative)
    losses = 1 - _beaten(value[~labelled], positive) / len(positive)
    out[labelled] = (wins - wins.mean()) / len(positive)
    out[~labelled] = (losses - losses.mean()) / len(negative)
    return out


def _unbias(labelled: NDArray[np.bool_]) -> Floats:
    """m / (m - 1) of each item's class; 0 for a class of one."""
    m = np.where(labelled, labelled.sum(), (~labelled).sum()).astype(np.float64)
    return np.asarray(np.where(m > 1, m / np.maximum(m - 1, 1), 0.0), np.float64)


def _newcombe_ends(area: float, positives: int, negatives: int, level: float) -> tuple[float, float]:
    """Newcombe (2006), method 5: the areas t whose own Hanley-McNeil variance puts ``area`` z errors away."""
    z = two_sided(level)
    typical = (positives + negatives) / 2 - 1

    def distance(t: float) -> float:
        variance = t * (1 - t) * (1 + typical * ((1 - t) / (2 - t) + t / (1 + t))) / (positives * negatives)
        return abs(area - t) - z * float(np.sqrt(variance))

    return _crossing(distance, area, 0.0), _crossing(distance, area, 1.0)


def _crossing(distance: Callable[[float], float], inside: float, outside: float) -> float:
    """Where the distance turns positive between a point inside the interval and the end of the scale."""
    for _ in range(60):
        middle = (inside + outside) / 2
        if distance(middle) > 0:
            outside = middle
        else:
            inside = middle
    return inside
