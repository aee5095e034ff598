"""Permutation tests: sign flips, arms swapped within prompts, labels shuffled over many heads at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from counterclaim.stats.resample import Statistic
from counterclaim.stats.weights import Floats, kinds_of

EXACT_UP_TO = 12
"""Pairs up to which every one of the 2^n sign flips is looked at."""

_BLOCK_CELLS = 4_000_000


def sign_flip_test(d: ArrayLike, draws: int = 10_000, seed: int = 0) -> float:
    """Two-sided paired permutation p of a mean difference: could each d as well have had the other sign?

    Args:
        d: (n,), one difference per prompt (averaged within the prompt first), finite.
        draws: random flips, when n > ``EXACT_UP_TO``; p is then (b + 1) / (draws + 1).
        seed: of a PCG64.

    Returns:
        p in (0, 1]; 1 for no differences at all.
    """
    gaps = np.asarray(d, np.float64).ravel()
    n = len(gaps)
    if n <= EXACT_UP_TO:
        chosen = (np.arange(1 << n)[:, None] >> np.arange(n)) & 1
        flipped = gaps.sum() - 2 * (chosen @ gaps)
        return float(np.mean(_as_large(flipped, gaps.sum(), np.abs(gaps).sum())))
    flipped = gaps.sum() - 2 * random_half_sums(gaps[:, None], draws, seed)[:, 0]
    extreme = np.count_nonzero(_as_large(flipped, gaps.sum(), np.abs(gaps).sum()))
    return (extreme + 1) / (draws + 1)


def arm_swap_test(
    control_counts: ArrayLike,
    treated_counts: ArrayLike,
    statistic: Statistic,
    draws: int = 10_000,
    seed: int = 0,
) -> float:
    """Two-sided permutation p of statistic(treated sums) - statistic(control sums), arms swapped within prompts.

    Args:
        control_counts: (n, c) cell counts of each prompt under control.
        treated_counts: (n, c), the same prompts in the same order.
        statistic: maps sums (rows, c) to one number a row.
        draws: random swaps.
        seed: of a PCG64.

    Returns:
        p = (b + 1) / (draws + 1). A swap that leaves the statistic undefined counts as extreme; 1 when it is
        undefined on the data.
    """
    control = np.asarray(control_counts, np.float64)
    treated = np.asarray(treated_counts, np.float64)
    if control.shape != treated.shape or control.ndim != 2:
        raise ValueError("both arms have one row per prompt and the same columns")
    moved = random_half_sums(control - treated, draws, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        sums1, sums0 = treated.sum(axis=0), control.sum(axis=0)
        observed = float((statistic(sums1[None]) - statistic(sums0[None]))[0])
        if not np.isfinite(observed):
            return 1.0
        swapped = statistic(sums1 + moved) - statistic(sums0 - moved)
    undefined = ~np.isfinite(swapped)
    swapped[undefined] = 0.0
    extreme = np.count_nonzero(undefined | _as_large(swapped, observed, 1.0))
    return (extreme + 1) / (draws + 1)


def random_half_sums(rows: Floats, draws: int, seed: int) -> Floats:
    """Column sums over a random subset of rows, each row in it with probability 1/2, independently.

    Few distinct rows: a binomial for each. Many: eight rows share one random byte, which looks their partial
    sum up in a table of 256, so 100,000 rows cost 12,500 look-ups a draw and no matrix of signs is ever made.

    Args:
        rows: float (n, c).
        draws: subsets.
        seed: of a PCG64; the sums are added in a fixed order, so equal arguments give equal bits.

    Returns:
        float64 (draws, c).
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    rows = rows[rows.any(axis=1)]
    out = np.zeros((draws, rows.shape[1]))
    if not len(rows):
        return out
    kinds, multiplicity = kinds_of(rows)
    if len(kinds) * 20 <= len(rows):
        for kind, count in zip(kinds, multiplicity, strict=True):
            out += rng.binomial(count, 0.5, size=(draws, 1)) * kind
        return out
    bytes_ = -(-len(rows) // 8)
    padded = np.zeros((bytes_ * 8, rows.shape[1]))
    padded[: len(rows)] = rows
    subset = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float64)
    step = max(1, _BLOCK_CELLS // draws)
    total = np.zeros((rows.shape[1], draws))
    part = np.empty(draws)
    for start in range(0, bytes_, step):
        stop = min(bytes_, start + step)
        words = rng.integers(0, 1 << 64, ((stop - start) * draws + 7) // 8, dtype=np.uint64)
        picks = words.view(np.uint8)[: (stop - start) * draws].reshape(stop - start, draws)
        for offset, pick in enumerate(picks):
            eight = (start + offset) * 8
            for column, table in enumerate((subset @ padded[eight : eight + 8]).T):
                table.take(pick, out=part, mode="clip")
                total[column] += part
    return total.T


def max_null(permuted: ArrayLike, observed: ArrayLike) -> Floats:
    """p-values adjusted for having looked at m statistics: against the permutation null of the largest.

    Args:
        permuted: (draws, m) statistics under permutation, or (draws,) their largest absolute values.
        observed: (m,) statistics on the data.

    Returns:
        (m,), (1 + #{max |permuted| >= |observed|}) / (draws + 1) (Westfall and Young 1993, single step).
    """
    null = np.abs(np.asarray(permuted, np.float64))
    top = np.sort(null.reshape(len(null), -1).max(axis=1))
    size = np.abs(np.asarray(observed, np.float64))
    as_large = len(top) - np.searchsorted(top, size * (1 - 1e-12), side="left")
    return np.asarray((1 + as_large) / (len(top) + 1), np.float64)


def cohen_d(x: ArrayLike, labels: ArrayLike) -> Floats:
    """Cohen's d of each column: (mean where labels are true - mean elsewhere) / pooled standard deviation.

    Args:
        x: (n, m), finite.
        labels: bool (n,), with two of each at least.

    Returns:
        (m,); 0 for a column that never changes, infinite for one that the labels separate into two constants.
    """
    table, chosen = _cohorts(x, labels)
    centred, total = _centred(table)
    sums = chosen.astype(np.float64)[None] @ centred
    return np.ravel(_d_of_sums(sums, total, int(chosen.sum()), len(chosen)))


def permuted_max_d(x: ArrayLike, labels: ArrayLike, draws: int = 10_000, seed: int = 0) -> Floats:
    """The null of the largest |Cohen's d| over columns, when labels are shuffled.

    Since the total sum of squares stays, d is a function of one sum per column: a matrix product per block.

    Args:
        x: (n, m), finite.
        labels: bool (n,).
        draws: shuffles.
        seed: of a PCG64.

    Returns:
        (draws,), each the largest |d| of the m columns under one shuffle.
    """
    table, chosen = _cohorts(x, labels)
    centred, total = _centred(table)
    rng = np.random.Generator(np.random.PCG64(seed))
    rows = max(1, _BLOCK_CELLS // max(table.shape))
    out = np.empty(draws)
    for start in range(0, draws, rows):
        stop = min(draws, start + rows)
        shuffled = rng.permuted(np.tile(chosen, (stop - start, 1)), axis=1)
        sums = shuffled.astype(np.float64) @ centred
        out[start:stop] = np.abs(_d_of_sums(sums, total, int(chosen.sum()), len(chosen))).max(axis=1)
    return out


def _cohorts(x: ArrayLike, labels: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    table, chosen = np.asarray(x, np.float64), np.asarray(labels, bool)
    if table.ndim != 2 or chosen.shape != (len(table),):
        raise ValueError("x has one row per label")
    if min(chosen.sum(), (~chosen).sum()) < 2:
        raise ValueError("Cohen's d needs two items on each side")
    return table, chosen


def _centred(table: Floats) -> tuple[Floats, Floats]:
    constant = np.ptp(table, axis=0) == 0
    centred = np.where(constant, 0.0, table - table.mean(axis=0))
    return centred, np.sum(centred**2, axis=0)


def _d_of_sums(sums: Floats, total: Floats, n1: int, n: int) -> Floats:
    """d from the sums of centred columns over the chosen n1 of n rows and the total sums of squares."""
    n0 = n - n1
    gap = sums * (1 / n1 + 1 / n0)
    within = np.maximum(total - sums**2 * (1 / n1 + 1 / n0), 0.0)
    within = np.where(within < 1e-13 * total, 0.0, within)
    with np.errstate(divide="ignore", invalid="ignore"):
        d = gap / np.sqrt(within / (n - 2))
    return np.asarray(np.where(gap == 0, 0.0, d), np.float64)


def _as_large(values: Floats, observed: float, scale: float) -> NDArray[np.bool_]:
    """Is |value| >= |observed|? Sums that are equal on paper may differ by rounding of the terms' size."""
    return np.asarray(np.abs(values) >= abs(observed) - 1e-12 * scale)
