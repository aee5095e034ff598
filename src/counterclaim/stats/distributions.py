"""The few distribution functions that the rest needs.

scipy.special takes longer to import than numpy does, so it is imported where it is first called.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_NORMAL = NormalDist()


def normal_quantile(p: float) -> float:
    """The standard normal value below which a share p lies."""
    return _NORMAL.inv_cdf(p)


def normal_tail(z: float) -> float:
    """P(Z > z)."""
    return math.erfc(z / math.sqrt(2)) / 2


def normal_tails(z: Floats) -> Floats:
    """P(Z > z), elementwise."""
    from scipy.special import ndtr

    return np.asarray(ndtr(-z), np.float64)


def two_sided(level: float) -> float:
    """The normal quantile of a two-sided interval: 1.96 for 0.95."""
    return normal_quantile(0.5 + level / 2)


def t_quantile(level: float, df: float) -> float:
    """The two-sided quantile of Student's t: half-widths are this times a standard error. Normal for df = inf."""
    if math.isinf(df):
        return two_sided(level)
    from scipy.special import stdtrit

    return float(stdtrit(df, 0.5 + level / 2))


def t_tail(t: float, df: float) -> float:
    """P(T > t) of Student's t; normal for df = inf."""
    if math.isinf(df):
        return normal_tail(t)
    from scipy.special import stdtr

    return float(stdtr(df, -t))


@lru_cache(maxsize=64)
def chi_ratios(df: int) -> tuple[Floats, Floats]:
    """Nodes and weights (200,) of an integral over s / sigma, s being a standard deviation with df degrees of freedom.

    Gauss-Legendre over the quantiles. It carries the power of a t test for any shift, where scipy's noncentral t
    returns NaN from a shift of about 38.
    """
    from scipy.special import gammaincinv

    nodes, weights = np.polynomial.legendre.leggauss(200)
    return np.sqrt(gammaincinv(df / 2, (nodes + 1) / 2) * 2 / df), weights / 2


def binomial_cdf(k: ArrayLike, n: ArrayLike, p: float) -> Floats:
    """P(K <= k) of K ~ Binomial(n, p), elementwise; 0 for k < 0 and 1 for k >= n."""
    from scipy.special import bdtr

    hits, trials = np.broadcast_arrays(np.asarray(k, np.float64), np.asarray(n, np.int64))
    inside = bdtr(np.clip(hits, 0, trials), trials, p)
    return np.where(hits < 0, 0.0, np.asarray(inside, np.float64))


def binomial_quantile(q: float, n: ArrayLike, p: float) -> Floats:
    """The largest k with P(K <= k) <= q, elementwise; -1 where there is none."""
    from scipy.special import bdtrik

    k: Floats = np.floor(np.nan_to_num(bdtrik(q, np.asarray(n), p), nan=0.0)) + 1
    for _ in range(2):  # bdtrik is off by one where q is hit exactly or n is small
        k -= binomial_cdf(k, n, p) > q
    return k


def log_binomial_law(k: ArrayLike, n: int, p: float) -> Floats:
    """log P(K = k) of K ~ Binomial(n, p), elementwise; 0 < p < 1."""
    from scipy.special import gammaln

    hits = np.asarray(k, np.float64)
    choose = gammaln(n + 1) - gammaln(hits + 1) - gammaln(n - hits + 1)
    return np.asarray(choose + hits * math.log(p) + (n - hits) * math.log1p(-p), np.float64)
