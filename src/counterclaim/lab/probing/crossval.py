"""Cross-validation of a probe over many splits, its permutation null, and a classifier two-sample test (Lopez-Paz and Oquab 2017)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from counterclaim import stats
from counterclaim.audit.probing import TELLING, CrossAuc
from counterclaim.errors import InputError
from counterclaim.records import Estimate

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Watch = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

NULL_SPLITS = 5
"""Splits that the permutation test looks at: each costs as many fits as there are shuffles, and more hardly sharpen it."""

TWO_SAMPLE_FOLDS = 5
MOST_ROWS = 1_000
"""Rows of a set that are looked at: more sharpen nothing that ``TELLING`` could turn on."""

_TWO_SAMPLE_C = 0.1  # many more columns than rows: the stronger of the two usual penalties

_CELLS = 1 << 22  # decision values in memory at once: 32 MiB


class Decide(Protocol):
    """Out-of-fold decision values, as ``stats.cross_decisions`` gives them."""

    def __call__(self, x: Any, labels: Bools, folds: Ints, C: Sequence[float]) -> Floats:
        """(L, S, len(C), n) from features (n, d), labels (L, n) and folds (S, n)."""


@dataclass(frozen=True, slots=True)
class Splits:
    """Folds that are stratified, and stay so when labels are shuffled within blocks.

    Attributes:
        folds: (S, n), the fold of every item in each split.
        blocks: (n,), the block of every item: one item of the rarer class with its share of the other.
    """

    folds: Ints
    blocks: Ints

    def shuffle(self, labels: Bools, permutations: int, seed: int) -> Bools:
        """(permutations, n) labels shuffled within blocks, each arrangement equally likely."""
        random = np.random.default_rng([seed, 1])
        order = np.argsort(self.blocks, kind="stable")
        first = np.flatnonzero(np.diff(self.blocks[order], prepend=-1))
        sizes = np.diff(np.append(first, len(order)))
        rare = _rarer(labels)
        out = np.full((permutations, len(labels)), not rare)
        chosen = order[first + np.floor(random.random((permutations, len(first))) * sizes).astype(np.int64)]
        np.put_along_axis(out, chosen, rare, axis=1)
        return out


@dataclass(frozen=True, slots=True)
class CrossValidated:
    """What cross-validation with one C found.

    Attributes:
        C: inverse strength of the L2 penalty.
        aucs: (S,), of each split the mean over folds of the AUC on the held-out fold.
        decisions: (S, n), out-of-fold decision values.
        observed: mean AUC over the splits of the permutation test.
        null: (P,), the same mean with labels shuffled; empty without a permutation test.
        null_sd: standard deviation over shuffles of the AUC of a single split; NaN without a permutation test.
    """

    C: float
    aucs: Floats
    decisions: Floats
    observed: float
    null: Floats
    null_sd: float

    @property
    def mean(self) -> float:
        """Mean AUC over splits."""
        return float(self.aucs.mean())

    @property
    def p(self) -> float | None:
        """(1 + shuffles that do as well) / (1 + shuffles), one-sided; None without a permutation test."""
        if not len(self.null):
            return None
        return float((1 + (self.null >= self.observed - 1e-12).sum()) / (1 + len(self.null)))

    def bound(self, level: float) -> float | None:
        """AUC that lies above the mean of the splits by the null's one-sided spread at ``level``; at most 1.

        How far chance moves the mean is taken from the shuffles, which is right near an AUC of one half and too wide
        far above it.
        """
        if not len(self.null):
            return None
        return min(1.0, self.mean + float(np.quantile(self.null, level) - self.null.mean()))

    def summary(self, interval: Estimate | None = None) -> CrossAuc:
        """As it is recorded."""
        null, shuffled = self.null, len(self.null) > 0
        return CrossAuc(
            self.mean, len(self.aucs), float(self.aucs.min()), float(self.aucs.max()), self.p,
            float(self.null_sd) if shuffled else None, float(null.mean()) if shuffled else None, len(null), interval,
        )  # fmt: skip


def cross_validate(
    x: Floats,
    labels: Bools,
    *,
    C: Sequence[float] = (1.0,),
    folds: int = 5,
    splits: int = 20,
    permutations: int = 1_000,
    seed: int = 0,
    decide: Decide | None = None,
    watch: Watch | None = None,
) -> tuple[CrossValidated, ...]:
    """AUC of a probe on items that it was not fitted on, over many splits, with its permutation null.

    A split's AUC is the mean over its folds of the AUC within the held-out fold, so that decision values of different
    fits are never compared. The permutation test compares the mean AUC over the first ``NULL_SPLITS`` splits with the
    same mean, over the same splits, of labels that are shuffled within blocks (``blocked_splits``). A shuffle leaves
    every fold as it was, class counts included, and one label vector goes through all of these splits, as the true one
    does; so under the null every arrangement is equally likely, and p is exact.

    Args:
        x: (n, d), finite; may be memory-mapped.
        labels: (n,), true for positives.
        C: inverse strengths of the L2 penalty; all share the splits and the shuffles.
        folds: of each split.
        splits: random splits.
        permutations: shuffles; 0 leaves the test out.
        seed: of splits and shuffles. They go with the rows' content, so the order of rows changes nothing.
        decide: another classifier; ``stats.cross_decisions`` where None.
        watch: called with the splits that are done.

    Raises:
        InputError: a class has fewer items than there are folds.
    """
    labels = np.asarray(labels, bool)
    decide = stats.cross_decisions if decide is None else decide
    made = blocked_splits(labels, folds, splits, seed, order=order_of_rows(x, labels))
    shuffled = _in_rows_order(made, labels, permutations, seed, order_of_rows(x, labels))
    tested = min(NULL_SPLITS, splits)
    aucs = np.empty((len(C), splits))
    decisions = np.empty((len(C), splits, len(labels)))
    null = np.empty((len(C), tested, permutations))
    step = max(1, _CELLS // (len(C) * len(labels)))
    for at, fold in enumerate(made.folds):
        if watch is not None:
            watch("cross-validating", at, splits)
        values = decide(x, labels[None], fold[None], C)[0, 0]
        decisions[:, at], aucs[:, at] = values, fold_auc(values, labels[None], fold)
        for start in range(0, permutations if at < tested else 0, step):
            part = shuffled[start : start + step]
            values = decide(x, part, fold[None], C)[:, 0]
            null[:, at, start : start + step] = fold_auc(values, part[:, None], fold).T
    if watch is not None:
        watch("cross-validating", splits, splits)
    spread = null.std(axis=2).mean(axis=1) if permutations else np.full(len(C), np.nan)
    return tuple(
        CrossValidated(
            strength, aucs[at], decisions[at], float(aucs[at, :tested].mean()), null[at].mean(axis=0), spread[at]
        )
        for at, strength in enumerate(C)
    )


def blocked_splits(labels: Bools, folds: int, splits: int, seed: int, *, order: Ints | None = None) -> Splits:
    """Random stratified splits into folds, whose folds are unions of blocks.

    Items of the rarer class each get an equal share of the other class, at random: a block. Every split deals whole
    blocks to folds, large ones first. Class counts of folds therefore differ by a block at most, and do not change when
    labels are shuffled within blocks, which makes one label vector comparable across all splits.

    Args:
        labels: (n,), true for positives.
        folds: of each split.
        splits: how many.
        seed: of a PCG64.
        order: (n,), a permutation of the rows in which random numbers are dealt to them; their own order where None.

    Raises:
        InputError: a class has fewer items than there are folds, or there are fewer than two folds.
    """
    positives, n = int(labels.sum()), len(labels)
    rarer = min(positives, n - positives)
    if folds < 2 or rarer < folds:
        raise InputError(
            f"{folds} folds cannot be made from {positives} positives and {n - positives} negatives",
            remedy=f"use {rarer} folds, or label more items" if rarer > 1 else "label more items of the rarer class",
        )
    random = np.random.default_rng([seed, 0])
    order = np.arange(n) if order is None else order
    rare = labels[order] == _rarer(labels)
    blocks = np.empty(n, np.int64)
    blocks[order[rare]] = random.permutation(rarer)
    blocks[order[~rare]] = random.permutation(n - rarer) % rarer
    sizes = np.bincount(blocks)
    fold_of_block = np.empty((splits, rarer), np.int64)
    for split in range(splits):
        dealt = random.permutation(rarer)
        dealt = dealt[np.argsort(-sizes[dealt], kind="stable")]
        fold_of_block[split, dealt] = np.arange(rarer) % folds
    return Splits(fold_of_block[:, blocks], blocks)


def fold_auc(decisions: Floats, labels: Bools, folds: Ints) -> Floats:
    """Mean over folds of the AUC within the fold, ties counted half.

    Args:
        decisions: (..., n).
        labels: (..., n), broadcast against ``decisions``; every fold has both classes.
        folds: (n,).

    Returns:
        (...,).
    """
    labels = np.broadcast_to(labels, decisions.shape)
    names = np.unique(folds)
    areas = [_area(decisions[..., folds == name], labels[..., folds == name]) for name in names]
    return np.asarray(np.mean(areas, axis=0), np.float64)


def order_of_rows(x: Floats, labels: Bools) -> Ints:
    """(n,) rows in an order that depends on their content and not on their position."""
    keys = [hash_of_row(row, bool(label)) for row, label in zip(x, labels, strict=True)]
    return np.argsort(np.array(keys, np.uint64), kind="stable").astype(np.int64)


def hash_of_row(row: Floats, label: bool = False) -> int:
    """64-bit hash of a row (d,) and its label, whatever the floating-point type they are stored in."""
    content = np.ascontiguousarray(row, np.float64).tobytes() + bytes([label])
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())


def _in_rows_order(made: Splits, labels: Bools, permutations: int, seed: int, order: Ints) -> Bools:
    """Shuffles that are dealt in ``order`` and lie in the order of rows."""
    ordered = Splits(made.folds[:, order], made.blocks[order]).shuffle(labels[order], permutations, seed)
    out = np.empty_like(ordered)
    out[:, order] = ordered
    return out


def _rarer(labels: Bools) -> bool:
    """The rarer class; true where both are equally common."""
    return bool(2 * labels.sum() <= len(labels))


def _area(decisions: Floats, labels: Bools) -> Floats:
    """AUC along the last axis, from average ranks."""
    n = decisions.shape[-1]
    order = np.argsort(decisions, axis=-1, kind="stable")
    ordered = np.take_along_axis(decisions, order, axis=-1)
    place = np.arange(n)
    starts = np.ones(ordered.shape, bool)
    starts[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    ends = np.ones(ordered.shape, bool)
    ends[..., :-1] = starts[..., 1:]
    first = np.maximum.accumulate(np.where(starts, place, 0), axis=-1)
    last = np.minimum.accumulate(np.where(ends, place, n - 1)[..., ::-1], axis=-1)[..., ::-1]
    positive = np.take_along_axis(labels, order, axis=-1)
    count = positive.sum(axis=-1)
    ranks = ((first + last) / 2 + 1) * positive
    return np.asarray((ranks.sum(axis=-1) - count * (count + 1) / 2) / (count * (n - count)), np.float64)


# two samples ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TwoSample:
    """How well a probe tells the two sets apart.

    Attributes:
        auc: cross-validated AUC; 0.5 where the sets could be of one source.
        p: of the permutation test, one-sided; None where there was none.
    """

    auc: Estimate
    p: float | None

    @property
    def apart(self) -> bool:
        """Whether the sets are told apart: reliably, and well enough to matter."""
        return (self.auc.estimate or 0.0) >= TELLING and self.auc.low is not None and self.auc.low > 0.5


def c2st(
    train: Floats,
    fresh: Floats,
    *,
    splits: int = 5,
    permutations: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> TwoSample:
    """Cross-validate a probe that tells fresh features from training features.

    The interval is DeLong's for one split's out-of-fold scores, around the mean AUC of the splits, and widened by what
    these share (``stats.widen_auc``).

    Args:
        train: (n, d), finite. Of more than ``MOST_ROWS`` rows some are drawn, of ``fresh`` likewise.
        fresh: (m, d).
        splits: of the cross-validation.
        permutations: shuffles; without any, DeLong's interval stands as it is.
        seed: of draws, splits and shuffles.
        level: of the interval.

    Returns:
        The test; undefined where a set has fewer than ``TWO_SAMPLE_FOLDS`` rows.
    """
    n = len(train) + len(fresh)
    if min(len(train), len(fresh)) < TWO_SAMPLE_FOLDS:
        reason = f"one of the sets has fewer than {TWO_SAMPLE_FOLDS} rows"
        return TwoSample(Estimate.undefined(reason, n=n, level=level, method=stats.WIDENED), None)
    sets = [_sample(rows, seed) for rows in (train, fresh)]
    x = np.concatenate(sets)
    labels = np.repeat([False, True], [len(rows) for rows in sets])
    found = cross_validate(
        x, labels, C=(_TWO_SAMPLE_C,), folds=TWO_SAMPLE_FOLDS, splits=splits, permutations=permutations, seed=seed
    )[0]
    return TwoSample(interval_of(found, labels, level), found.p)


def interval_of(found: CrossValidated, labels: NDArray[np.bool_], level: float = 0.95) -> Estimate:
    """The mean cross-validated AUC with an interval that knows what out-of-fold scores share (see ``c2st``)."""
    plain, positives = stats.delong(found.decisions[0], labels, level), int(labels.sum())
    null_sd = float(found.null.std()) if len(found.null) else None
    return stats.widen_auc(plain, found.mean, null_sd, positives, len(labels) - positives)


def _sample(rows: Floats, seed: int) -> Floats:
    if len(rows) <= MOST_ROWS:
        return rows
    return rows[np.sort(np.random.default_rng([seed, 3]).choice(len(rows), MOST_ROWS, replace=False))]
