"""Proportions, their differences (independent and paired) and agreement of labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from counterclaim.records import Estimate
from counterclaim.stats.distributions import Floats, binomial_cdf, two_sided

NEWCOMBE_PAIRED = "Newcombe paired difference"


def wilson(k: int, n: int, level: float = 0.95) -> Estimate:
    """A proportion k of n with Wilson's (1927) score interval; undefined for n = 0."""
    _check_count(k, n)
    if n == 0:
        return Estimate.undefined("there are no items", level=level, method="Wilson")
    low, high = wilson_ends(np.float64(k), np.float64(n), level)
    return Estimate(k / n, float(low), float(high), level, "Wilson", n)


def wilson_ends(k: ArrayLike, n: ArrayLike, level: float) -> tuple[Floats, Floats]:
    """Ends of Wilson's interval, elementwise; n > 0."""
    hits, trials = np.asarray(k, np.float64), np.asarray(n, np.float64)
    z = two_sided(level)
    centre = (hits + z * z / 2) / (trials + z * z)
    half = z / (trials + z * z) * np.sqrt(hits * (trials - hits) / trials + z * z / 4)
    # At k = 0 and k = n the end is 0 or 1 exactly; rounding must not say otherwise.
    low = np.where(hits == 0, 0.0, np.maximum(centre - half, 0.0))
    high = np.where(hits == trials, 1.0, np.minimum(centre + half, 1.0))
    return low, high


def newcombe_difference(k1: int, n1: int, k0: int, n0: int, level: float = 0.95) -> Estimate:
    """k1/n1 - k0/n0 of two independent groups, with Newcombe's (1998) hybrid score interval, method 10.

    Undefined when a group is empty. n is the size of both groups together.
    """
    _check_count(k1, n1)
    _check_count(k0, n0)
    method = "Newcombe difference"
    if n1 == 0 or n0 == 0:
        return Estimate.undefined("one of the two groups is empty", n=n1 + n0, level=level, method=method)
    (low1, low0), (high1, high0) = wilson_ends([k1, k0], [n1, n0], level)
    p1, p0 = k1 / n1, k0 / n0
    low = p1 - p0 - np.hypot(p1 - low1, high0 - p0)
    high = p1 - p0 + np.hypot(high1 - p1, p0 - low0)
    return Estimate(p1 - p0, max(-1.0, float(low)), min(1.0, float(high)), level, method, n1 + n0)


def newcombe_paired(both: int, only_treated: int, only_control: int, neither: int, level: float = 0.95) -> Estimate:
    """Treated minus control of paired binary outcomes, with Newcombe's (1998) paired method 10.

    Args:
        both: items right under both arms.
        only_treated: right under treated alone.
        only_control: right under control alone.
        neither: right under neither.
        level: of the interval.
    """
    if min(both, only_treated, only_control, neither) < 0:
        raise ValueError("counts are not negative")
    n = both + only_treated + only_control + neither
    if n == 0:
        return Estimate.undefined("there are no pairs", level=level, method=NEWCOMBE_PAIRED)
    low, high = _paired_ends(np.asarray(both, np.float64), both + only_treated, both + only_control, n, level)
    return Estimate((only_treated - only_control) / n, float(low), float(high), level, NEWCOMBE_PAIRED, n)


def paired_difference_range(k_control: int, k_treated: int, n: int, level: float = 0.95) -> tuple[Estimate, Estimate]:
    """The narrowest and the widest ``newcombe_paired`` interval over all pairings that the margins allow.

    For summary counts whose pairing is lost: k_control of n against k_treated of n on the same n items.
    """
    both = _feasible_both(k_control, k_treated, n)
    if n == 0:
        nothing = Estimate.undefined("there are no pairs", level=level, method=NEWCOMBE_PAIRED)
        return nothing, nothing
    low, high = _paired_ends(both.astype(np.float64), k_treated, k_control, n, level)
    difference = (k_treated - k_control) / n
    narrow, wide = (
        Estimate(difference, float(low[at]), float(high[at]), level, f"{NEWCOMBE_PAIRED}, {which} feasible pairing", n)
        for at, which in ((np.argmin(high - low), "narrowest"), (np.argmax(high - low), "widest"))
    )
    return narrow, wide


def widest_mean_difference(control: float, treated: float, n: int, level: float = 0.95) -> Estimate:
    """Treated minus control of two means on [0, 1] over the same n items, where neither spread nor pairing is known.

    A mean spreads most where every value lies at an end of the scale (Bhatia and Davis 2000: variance at most
    (M - mean)(mean - m)), and a difference where, besides, as few items as possible lie at the same end under both arms. That
    is the widest of ``paired_difference_range`` with a k that need not be whole.
    """
    if not (0 <= control <= 1 and 0 <= treated <= 1):
        raise ValueError("means lie between 0 and 1")
    method = f"{NEWCOMBE_PAIRED}, widest spread that the scale allows"
    if n == 0:
        return Estimate.undefined("there are no pairs", level=level, method=method)
    both = np.asarray(max(0.0, control + treated - 1) * n)
    low, high = _paired_ends(both, treated * n, control * n, n, level)
    return Estimate(treated - control, float(low), float(high), level, method, n)


def difference_of_estimates(treated: Estimate, control: Estimate, correlation: float = 0.0) -> Estimate:
    """Treated minus control of two estimates whose intervals are known: their variances are recovered from the ends.

    Square-and-add on either side (Zou and Donner 2008), of which Newcombe's intervals are the case of proportions.

    Args:
        treated: with an interval, or undefined.
        control: likewise, of the same level and n.
        correlation: of the two estimates; 0 for independent arms.
    """
    method = f"difference of two estimates ({treated.method}), square-and-add"
    if treated.estimate is None or control.estimate is None or not treated.interval or not control.interval:
        return Estimate.undefined("an arm has no interval", n=treated.n, level=treated.level, method=method)
    t, c = treated.estimate, control.estimate
    down, up = t - treated.interval[0], treated.interval[1] - t
    down0, up0 = c - control.interval[0], control.interval[1] - c
    low, high = t - c - _added(down, up0, correlation), t - c + _added(up, down0, correlation)
    return Estimate(t - c, float(low), float(high), treated.level, method, treated.n)


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided exact McNemar p from the two discordant counts: twice the smaller binomial tail, at most 1."""
    if min(b, c) < 0:
        raise ValueError("counts are not negative")
    return float(_mcnemar(np.float64(b), np.float64(c)))


def mcnemar_range(k_control: int, k_treated: int, n: int) -> tuple[float, float]:
    """The smallest and the largest exact McNemar p over all pairings that the margins allow."""
    both = _feasible_both(k_control, k_treated, n)
    p = _mcnemar(k_treated - both, k_control - both)
    return float(p.min()), float(p.max())


def cohen_kappa(table: ArrayLike, level: float = 0.95) -> Estimate:
    """Cohen's kappa of a square table of counts (k, k): rows are one rater's labels, columns the other's.

    The interval uses the large-sample standard error of Fleiss, Cohen and Everitt (1969) on the table with four
    pseudo-counts spread evenly, as Agresti and Coull do for one proportion: without them it covers 87 % where
    raters agree almost always, and has no width where they always do. It is cut at -1 and 1. Undefined when both
    raters use one label only: chance agreement is then 1.
    """
    counts = np.asarray(table, np.float64)
    method = "Cohen's kappa, Fleiss-Cohen-Everitt"
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or (counts < 0).any():
        raise ValueError("kappa needs a square table of counts")
    total = counts.sum()
    n = int(total)
    if total == 0:
        return Estimate.undefined("there are no items", level=level, method=method)
    chance = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / total**2
    if np.trace(chance) >= 1:
        reason = "both raters give every item the same label, so chance alone agrees perfectly"
        return Estimate.undefined(reason, n=n, level=level, method=method)
    estimate, _ = _kappa(counts)
    centre, se = _kappa(counts + 4 / counts.size)
    half = two_sided(level) * se
    low, high = max(-1.0, centre - half), min(1.0, centre + half)
    return Estimate(estimate, min(low, estimate), max(high, estimate), level, method, n)


def _kappa(counts: Floats) -> tuple[float, float]:
    p = counts / counts.sum()
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    agree, chance = float(np.trace(p)), float(rows @ columns)
    kappa = (agree - chance) / (1 - chance)
    diagonal = np.diag(p) @ (1 - (rows + columns) * (1 - kappa)) ** 2
    spread = (columns[:, None] + rows[None, :]) ** 2
    off = (1 - kappa) ** 2 * (np.sum(p * spread) - np.diag(p) @ np.diag(spread))
    rest = (kappa - chance * (1 - kappa)) ** 2
    variance = max(0.0, float(diagonal + off - rest)) / ((1 - chance) ** 2 * counts.sum())
    return kappa, float(np.sqrt(variance))


def _paired_ends(both: Floats, treated: float, control: float, n: int, level: float) -> tuple[Floats, Floats]:
    """Newcombe's paired method 10, elementwise over ``both``; ``treated`` and ``control`` are the margins."""
    (low1, low0), (high1, high0) = wilson_ends([treated, control], n, level)
    p1, p0 = treated / n, control / n
    determinant = both * (n - treated - control + both) - (treated - both) * (control - both)
    # A positive association is shrunk by n/2, as Newcombe does; a negative one is taken as it is.
    determinant = np.where(determinant > 0, np.maximum(determinant - n / 2, 0.0), determinant)
    scale = np.sqrt(float(treated) * (n - treated) * control * (n - control))
    phi = determinant / scale if scale > 0 else np.zeros_like(determinant)
    down, up0 = p1 - low1, high0 - p0
    up, down0 = high1 - p1, p0 - low0
    low, high = p1 - p0 - _added(down, up0, phi), p1 - p0 + _added(up, down0, phi)
    return np.maximum(low, -1.0), np.minimum(high, 1.0)


def _added(one: ArrayLike, other: ArrayLike, correlation: ArrayLike) -> Floats:
    """The square root of the summed squares of two distances whose estimates are correlated."""
    a, b, r = (np.asarray(value, np.float64) for value in (one, other, correlation))
    return np.asarray(np.sqrt(np.maximum(a**2 - 2 * r * a * b + b**2, 0.0)), np.float64)


def _mcnemar(b: ArrayLike, c: ArrayLike) -> Floats:
    fewer, trials = np.minimum(b, c), np.add(b, c)
    # A tail below the least positive number is small, not impossible.
    return np.clip(2 * binomial_cdf(fewer, trials, 0.5), np.finfo(np.float64).tiny, 1.0)


def _feasible_both(k_control: int, k_treated: int, n: int) -> NDArray[np.int64]:
    _check_count(k_control, n)
    _check_count(k_treated, n)
    return np.arange(max(0, k_control + k_treated - n), min(k_control, k_treated) + 1)


def _check_count(k: int, n: int) -> None:
    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n} is not a proportion")
