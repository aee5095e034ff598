"""Cluster bootstrap of statistics that are functions of summed counts: rates, ratios, asymmetries."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from counterclaim.records import Estimate
from counterclaim.stats.weights import Floats, cell_weights, kinds_of

Statistic = Callable[[Floats], Floats]
"""Maps summed counts (rows, c) to one number a row; NaN or infinity where undefined."""

MAX_UNDEFINED = 0.05
"""The share of resamples that may be undefined (0/0) before an interval is refused."""

METHOD = "cluster bootstrap, percentile"


def bootstrap_counts(
    counts: ArrayLike,
    statistic: Statistic,
    level: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> Estimate:
    """Percentile interval of a statistic of column sums, by resampling rows.

    Rows that repeat are drawn together (a multinomial over the distinct rows), so with few distinct rows a
    hundred thousand items cost what a hundred cost. Percentile and not BCa, because it covers better where cells
    are few: 93 % against 86 % for a paired difference of hallucination rates at n = 100 (2,000 draws, 3,000
    simulations, nominal 95 %). Neither is to be trusted where a rate turns on a cell of one or two items: with
    1.6 expected in the rarest cell (n = 40) it covers 78 %; use the Newcombe difference for a single arm there.

    Args:
        counts: (n, c), one row per independent item or cluster; the cells of both arms side by side when the
            statistic is a difference, so that pairing is kept.
        statistic: see ``Statistic``.
        level: of the interval.
        draws: resamples.
        seed: of a PCG64; equal arguments give equal bits.

    Returns:
        An Estimate with n rows. Undefined where the statistic is; the interval is undefined when more than
        ``MAX_UNDEFINED`` of the resamples are, or when no resample differs from the others.
    """
    table = np.asarray(counts, np.float64)
    if table.ndim != 2:
        raise ValueError("counts are a table: one row per item, one column per cell")
    n = len(table)
    if n == 0:
        return Estimate.undefined("there are no items", level=level, method=METHOD)
    kinds, multiplicity = kinds_of(table)
    with np.errstate(divide="ignore", invalid="ignore"):
        point = float(statistic((multiplicity @ kinds)[None])[0])
        if not np.isfinite(point):
            reason = "the statistic is undefined on these counts: a denominator is 0"
            return Estimate.undefined(reason, n=n, level=level, method=METHOD)
        values = np.concatenate([statistic(w @ kinds) for w in cell_weights(multiplicity, draws, seed)])
    return percentile_interval(point, values, n, level, METHOD)


def percentile_interval(point: float, values: Floats, n: int, level: float, method: str) -> Estimate:
    """The central ``level`` of bootstrap draws as an Estimate.

    Args:
        point: the statistic on all items.
        values: (draws,), the statistic on each resample; NaN or infinity where undefined.
        n: items.
        level: of the interval.
        method: how the Estimate names itself.
    """
    usable = values[np.isfinite(values)]
    lost = len(values) - len(usable)
    if lost > MAX_UNDEFINED * len(values):
        reason = f"the statistic is undefined on {lost / len(values):.0%} of the resamples: a cell is too rare"
        return Estimate(point, None, None, level, method, n, reason)
    if np.ptp(usable) == 0:
        reason = "every resample gives the same value, so its spread is unknown"
        return Estimate(point, None, None, level, method, n, reason)
    low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(point, float(low), float(high), level, method, n)
