"""Equivalence: is the difference shown to be smaller than the margin that matters?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from counterclaim.records import Estimate
from counterclaim.stats.distributions import t_quantile, t_tail


@dataclass(frozen=True, slots=True)
class Equivalence:
    """Two one-sided tests (Schuirmann 1987) of |difference| >= margin.

    Attributes:
        p_lower: p of "the difference is -margin or less".
        p_upper: p of "the difference is +margin or more".
        p: the larger of the two.
        equivalent: p < alpha.
        method: in words.
        margin: > 0, in the unit of the difference.
        alpha: of each one-sided test.
    """

    p_lower: float
    p_upper: float
    p: float
    equivalent: bool
    method: str
    margin: float
    alpha: float


def tost(
    effect: Estimate | ArrayLike, margin: float, *, alpha: float = 0.05, df: float | None = None
) -> Equivalence | None:
    """Equivalence of a difference to 0 within the margin.

    Args:
        effect: paired differences (n,), tested with Student's t; or an Estimate, whose interval gives the
            standard error on either side (so an asymmetric interval is used as it is).
        margin: > 0.
        alpha: of each one-sided test.
        df: degrees of freedom behind an Estimate's interval; normal quantiles when not given.

    Returns:
        None where there is no interval (an undefined Estimate, fewer than two differences, or no spread).
    """
    _check_margin(margin)
    if isinstance(effect, Estimate):
        if effect.estimate is None or effect.low is None or effect.high is None:
            return None
        freedom = np.inf if df is None else df
        quantile = t_quantile(effect.level, freedom)
        centre = effect.estimate
        se_low, se_high = (centre - effect.low) / quantile, (effect.high - centre) / quantile
        method = f"TOST on the interval ({effect.method})"
    else:
        d = np.asarray(effect, np.float64).ravel()
        if len(d) < 2 or np.ptp(d) == 0:
            return None
        centre, freedom = float(d.mean()), len(d) - 1.0
        se_low = se_high = float(d.std(ddof=1) / np.sqrt(len(d)))
        method = "TOST, paired t"
    if min(se_low, se_high) <= 0:
        return None
    lower = t_tail((centre + margin) / se_low, freedom)
    upper = t_tail((margin - centre) / se_high, freedom)
    return _decide(lower, upper, margin, alpha, method)


def tost_proportions(k1: int, n1: int, k0: int, n0: int, margin: float, *, alpha: float = 0.05) -> Equivalence | None:
    """Equivalence of two independent proportions, k1 of n1 and k0 of n0, within the margin.

    Score tests with the variance under each null (Farrington and Manning 1990), which hold their level where the
    plain normal test does not. None when a group is empty.
    """
    _check_margin(margin)
    if not (0 <= k1 <= n1 and 0 <= k0 <= n0):
        raise ValueError("counts do not exceed their totals")
    if n1 == 0 or n0 == 0:
        return None
    difference = k1 / n1 - k0 / n0
    lower = t_tail((difference + margin) / _null_se(k1, n1, k0, n0, -margin), np.inf)
    upper = t_tail((margin - difference) / _null_se(k1, n1, k0, n0, margin), np.inf)
    return _decide(lower, upper, margin, alpha, "TOST, Farrington-Manning score")


def _decide(lower: float, upper: float, margin: float, alpha: float, method: str) -> Equivalence:
    p = max(lower, upper)
    return Equivalence(lower, upper, p, p < alpha, method, margin, alpha)


def _check_margin(margin: float) -> None:
    if not margin > 0:
        raise ValueError("a margin is a positive number")


def _null_se(k1: int, n1: int, k0: int, n0: int, gap: float) -> float:
    """Standard error of the difference at the likeliest pair of proportions that differ by ``gap``."""
    p1, p0 = k1 / n1, k0 / n0
    ratio = n0 / n1
    a = 1 + ratio
    b = -(1 + ratio + p1 + ratio * p0 + gap * (ratio + 2))
    c = gap**2 + gap * (2 * p1 + ratio + 1) + p1 + ratio * p0
    d = -p1 * gap * (1 + gap)
    v = (b / (3 * a)) ** 3 - b * c / (6 * a**2) + d / (2 * a)
    size = np.sqrt(max((b / (3 * a)) ** 2 - c / (3 * a), 0.0))
    u = size if v >= 0 else -size
    angle = 0.0 if u == 0 else (np.pi + np.arccos(np.clip(v / u**3, -1, 1))) / 3
    q1 = float(np.clip(2 * u * np.cos(angle) - b / (3 * a), max(0.0, gap), min(1.0, 1 + gap)))
    q0 = q1 - gap
    variance = q1 * (1 - q1) / n1 + q0 * (1 - q0) / n0
    return float(np.sqrt(max(variance, np.finfo(float).tiny)))
