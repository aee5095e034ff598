"""Bootstrap weights: how often each of n items is drawn in one resample, and the sums that follow from them.

A resample of n items with replacement is a multinomial count vector with n trials and equal cells. Everything
that is resampled together shares one vector, so fifty metrics cost one matrix product more than one metric.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Weights = NDArray[np.float32]

_BLOCK = 400_000  # weights made at once: they stay in a core's second-level cache
_CELLS = 1 << 16


def bootstrap_weights(n: int, draws: int, seed: int) -> Iterator[Weights]:
    """Multinomial(n; 1/n, ..., 1/n) count vectors, in blocks.

    Exact, although no index is drawn: independent Poisson counts are multinomial given their sum S, whatever S
    is. Rows with S > n are drawn anew (which depends on S alone), and n - S further items are drawn uniformly,
    which turns multinomial(S) into multinomial(n).

    Args:
        n: items, >= 1.
        draws: count vectors in total, >= 1.
        seed: of a PCG64. The blocks are a function of n alone, so equal arguments give equal bits.

    Yields:
        float32 arrays (rows, n) of whole numbers; every row sums to n; the rows of all blocks add up to draws.
        A block lives in memory that the next one overwrites: use it, or copy it, before going on.
    """
    if n < 1 or draws < 1:
        raise ValueError("a bootstrap needs at least one item and one draw")
    rng = np.random.Generator(np.random.PCG64(seed))
    rows = min(draws, max(1, _BLOCK // n))
    ones = np.ones(n, np.float32)
    buffer = np.empty((rows * n + 1) // 2, np.complex64)
    for start in range(0, draws, rows):
        block = _poisson_counts(rng, min(rows, draws - start), n, buffer)
        missing = np.float32(n) - block @ ones
        while (over := np.flatnonzero(missing < 0)).size:
            again = _poisson_counts(rng, over.size, n)
            block[over] = again
            missing[over] = np.float32(n) - again @ ones
        where = np.repeat(np.arange(0, block.size, n), missing.astype(np.int64))
        where += rng.integers(0, n, where.size, dtype=np.uint16 if n <= _CELLS else np.uint32)
        np.add.at(block.reshape(-1), where, np.float32(1))
        yield block


def bootstrap_means(x: Floats, draws: int = 10_000, seed: int = 0) -> Floats:
    """Means of resampled rows, for all columns at once.

    Args:
        x: float (n, m) or (n,): one row per independent item (average within clusters first). Finite.
        draws: resamples.
        seed: as in ``bootstrap_weights``.

    Returns:
        float64 (draws, m). Columns are centred and scaled before the float32 product, so the rounding error is
        of the order of 1e-6 of a column's spread.
    """
    table = np.asarray(x, np.float64)
    table = table.reshape(len(table), -1)
    centre = table.mean(axis=0)
    scale = np.abs(table - centre).max(axis=0)
    scale[scale == 0] = 1.0
    small = ((table - centre) / scale).astype(np.float32)
    out = np.empty((draws, table.shape[1]))
    start = 0
    for block in bootstrap_weights(len(table), draws, seed):
        part = out[start : start + len(block)]
        np.multiply(block @ small, scale / len(table), out=part)
        part += centre
        start += len(block)
    return out


def cell_weights(multiplicity: NDArray[np.int64], draws: int, seed: int) -> Iterator[Floats]:
    """Resamples of items of which many are alike: how often each *kind* of item is drawn.

    Args:
        multiplicity: int (k,), how many items there are of each kind; they add up to n.
        draws: count vectors in total.
        seed: of a PCG64.

    Yields:
        float64 (rows, k) of whole numbers, every row summing to n. With few kinds the price does not depend on n.
    """
    n, kinds = int(multiplicity.sum()), len(multiplicity)
    if kinds * 20 <= n:  # a binomial per kind costs about as much as twenty items
        rng = np.random.Generator(np.random.PCG64(seed))
        share = multiplicity / n
        rows = max(1, _BLOCK // kinds)
        for start in range(0, draws, rows):
            yield rng.multinomial(n, share, size=min(rows, draws - start)).astype(np.float64)
        return
    first = np.concatenate(([0], np.cumsum(multiplicity)[:-1]))
    for block in bootstrap_weights(n, draws, seed):
        yield np.add.reduceat(block, first, axis=1).astype(np.float64)


def kinds_of(rows: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Distinct rows of an (n, c) array in sorted order, (k, c), and how often each occurs, int (k,)."""
    order = np.lexsort(rows.T[::-1])
    ordered = rows[order]
    fresh = np.ones(len(ordered), bool)
    fresh[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first = np.flatnonzero(fresh)
    return ordered[first], np.diff(np.append(first, len(ordered)))


def _poisson_counts(
    rng: np.random.Generator, rows: int, n: int, buffer: NDArray[np.complex64] | None = None
) -> Weights:
    """Independent Poisson counts (rows, n) of a mean a little below 1; two counts from each 16 random bits."""
    pure, mixed, values, cumulative = _pair_table(n)
    pairs = (rows * n + 1) // 2
    bits = rng.integers(0, 1 << 64, (pairs + 3) // 4, dtype=np.uint64).view(np.uint16)[:pairs]
    # Memory that is used again: a fresh block would cost five times as much in page faults as in look-ups.
    out = np.empty(pairs, np.complex64) if buffer is None else buffer[:pairs]
    pure.take(bits, out=out, mode="clip")
    again = np.flatnonzero(bits < mixed)
    out[again] = values[np.searchsorted(cumulative, rng.random(again.size), side="right")]
    return out.view(np.float32)[: rows * n].reshape(rows, n)


@lru_cache(maxsize=4)
def _pair_table(n: int) -> tuple[NDArray[np.complex64], int, NDArray[np.complex64], Floats]:
    """The joint law of two Poisson counts, split over 65,536 equally likely cells.

    Each pair of counts owns as many whole cells as its probability fills; what is left over of all pairs shares
    the first ``mixed`` cells, which are drawn once more from the law of the left-overs: the mixture is the law.
    A pair of float32 travels as one complex64.
    """
    # The mean keeps most sums S at or below n: too low costs top-ups, too high costs rows drawn anew.
    mean = max(1.0 - 1.5 / np.sqrt(n), 1.0 / (n + 1))
    counts = np.arange(24)
    log_factorial = np.concatenate(([0.0], np.cumsum(np.log(counts[1:]))))
    law = np.exp(counts * np.log(mean) - mean - log_factorial)
    law /= law.sum()
    share = np.outer(law, law).ravel() * _CELLS
    whole = np.floor(share).astype(np.int64)
    values = (counts[:, None] + 1j * counts[None, :]).ravel().astype(np.complex64)
    mixed = _CELLS - int(whole.sum())
    pure = np.concatenate((np.zeros(mixed, np.complex64), np.repeat(values, whole)))
    cumulative = np.cumsum(share - whole)
    return pure, mixed, values, cumulative[:-1] / cumulative[-1]
