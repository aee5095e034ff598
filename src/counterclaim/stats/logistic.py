"""Probes: standardised features and L2-regularised logistic regression, for many label vectors and folds at once.

The objective is that of scikit-learn's ``make_pipeline(StandardScaler(), LogisticRegression(C=C))``, solved to the end:
0.5 w'w + C sum log(1 + exp(-s (w'z + b))), z the features standardised on the training items, b free, s = +-1.

With no more items than features it is solved in the dual: w = Z'beta, so that all label vectors and all C share the Gram
matrix of a training fold, which is made once, and a step for all of them is a matrix product. With more items than
features it is solved in the primal, in the coordinates in which Z'Z is diagonal. Both are Newton's method with conjugate
gradients inside, batched over label vectors. What preconditions them is shared by all label vectors of a training fold: in
the dual the inverse at one resistance where items are few, else the largest eigenvalues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from counterclaim.errors import InputError
from counterclaim.stats.weights import Floats

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Singles = NDArray[np.float32]
Each = Callable[..., Iterable[Any]]
"""As ``map``: calls a function with every argument, perhaps several at a time."""

_TOLERANCE = 1e-6  # of a decision, at an item of average length
_NEWTON_STEPS = 25  # in the dual; what is not solved then is left to the primal
_CG_STEPS = 60  # within one of them
_LOOSE, _TIGHT = 0.1, 1e-3  # how far a step's residual is brought down, at first and near the end
_STRIDE, _FARTHEST = 4.0, 40.0  # how far a margin moves in one step, and at all
_PRIMAL_STEPS = 100
_HALVINGS = 40
_MAIN = 32  # eigenvalues of a Gram matrix that are known apart, at most
_FEW = 128  # items; with fewer, one inverse serves all label vectors
_SMALL = 1_000  # items whose matrices are multiplied by one thread
_WORKERS = 8  # such threads at a time, at most: Python itself is one
_CELLS = 1 << 15  # items x label vectors that are worked on at once: a few arrays of them stay in cache
_ROWS = 128  # label vectors, at least, so that a product with a Gram matrix is worth reading it
_GRAM_CELLS = 1 << 25  # cells of the Gram matrices held at once, and of their dual coefficients: 256 MiB
_BLOCK_CELLS = 1 << 24  # cells of features standardised at once: 128 MiB


@dataclass(frozen=True, slots=True, eq=False)
class Logistic:
    """A fitted probe.

    Attributes:
        mean: (d,), of the training features.
        scale: (d,), their population standard deviations; 1 for a column that never changed.
        coef: (d,), on standardised features.
        intercept: added to the decision.
    """

    mean: Floats
    scale: Floats
    coef: Floats
    intercept: float

    def decision(self, x: ArrayLike) -> Floats:
        """Log odds of the positive class: (m, d) features to (m,)."""
        weights = self.coef / self.scale
        return np.asarray(np.asarray(x, np.float64) @ weights + (self.intercept - float(self.mean @ weights)))

    def probability(self, x: ArrayLike) -> Floats:
        """P(positive) as the probe has it: (m, d) features to (m,)."""
        return _sigmoid(self.decision(x))


def fit_logistic(x: ArrayLike, labels: ArrayLike, C: float = 1.0) -> Logistic:
    """Fit one probe.

    Args:
        x: (n, d), finite.
        labels: bool (n,), both classes present.
        C: inverse strength of the L2 penalty, as scikit-learn has it.

    Raises:
        InputError: the labels are of one class only.
        ValueError: shapes do not fit together, or C is not above 0.
    """
    features, positive = x if isinstance(x, np.ndarray) else np.asarray(x, np.float64), np.asarray(labels, bool)
    if features.ndim != 2 or positive.shape != features.shape[:1]:
        raise ValueError("x is (n, d) and labels (n,)")
    _check(positive, C)
    n, d = features.shape
    mean, scale, coef = np.empty(d), np.empty(d), np.empty(d)
    gram = np.zeros((n, n) if n <= d else (0, 0))
    for columns in _column_blocks(n, d):
        block = np.asarray(features[:, columns], np.float64)
        mean[columns], scale[columns] = standardisation(block)
        if n <= d:
            z = (block - mean[columns]) / scale[columns]
            gram += z @ z.T
    if n > d:
        weights, intercepts = _fit_primal((np.asarray(features, np.float64) - mean) / scale, positive[:, None], (C,))
        return Logistic(mean, scale, weights[0, :, 0], float(intercepts[0, 0]))
    dual, intercept = fit_gram(gram, positive, C)
    for columns in _column_blocks(n, d):
        coef[columns] = dual @ ((np.asarray(features[:, columns], np.float64) - mean[columns]) / scale[columns])
    return Logistic(mean, scale, coef, intercept)


def fit_gram(gram: Floats, labels: ArrayLike, C: float = 1.0) -> tuple[Floats, float]:
    """Fit a probe of which only the inner products between training items are known: kernel logistic regression.

    Args:
        gram: (n, n), symmetric and positive semi-definite.
        labels: bool (n,), both classes present.
        C: inverse strength of the penalty.

    Returns:
        dual coefficients (n,) and the intercept: a new item's decision is its inner products with the training items
        times the coefficients, plus the intercept.

    Raises:
        InputError: the labels are of one class only.
        ValueError: shapes do not fit together, or C is not above 0.
    """
    positive = np.asarray(labels, bool)
    if gram.shape != (len(positive), len(positive)):
        raise ValueError("gram is (n, n) and labels (n,)")
    _check(positive, C)
    beta, intercepts = _fit_dual(gram[None], np.where(positive, 1.0, -1.0)[None, None], (C,))
    return beta[0, 0, 0], float(intercepts[0, 0, 0])


def _check(positive: Bools, C: float) -> None:
    if not C > 0:
        raise ValueError("C is above 0")
    if positive.all() or not positive.any():
        raise InputError("all labels are of one class", remedy="a probe needs items of both")


def stratified_folds(labels: ArrayLike, k: int, seed: int) -> Ints:
    """Deal items to k folds at random, so that the counts of each class differ by at most one between folds.

    Args:
        labels: bool (n,).
        k: folds, 2 or more.
        seed: of a PCG64.

    Returns:
        int64 (n,), each item's fold, 0 to k - 1.

    Raises:
        InputError: a class has fewer than k items.
    """
    positive = np.asarray(labels, bool)
    if k < 2:
        raise InputError(f"cross-validation in {k} folds leaves nothing to train on", remedy="ask for 2 folds or more")
    rng = np.random.Generator(np.random.PCG64(seed))
    folds = np.empty(len(positive), np.int64)
    dealt = 0
    for kind, name in ((True, "positive"), (False, "negative")):
        members = rng.permutation(np.flatnonzero(positive == kind))
        if len(members) < k:
            raise InputError(
                f"{k} folds need {k} items of each class, and {len(members)} are {name}",
                remedy=f"use {len(members)} folds" if len(members) > 1 else "collect more items of that class",
            )
        folds[members] = (dealt + np.arange(len(members))) % k  # on from where the last class ended: even fold sizes
        dealt += len(members)
    return folds


def cross_decisions(x: ArrayLike, labels: ArrayLike, folds: ArrayLike, C: Sequence[float] = (1.0,)) -> Floats:
    """Out-of-fold decisions: standardised and fitted on the training folds, applied to the fold that was held out.

    Args:
        x: (n, d), finite. It is read in blocks of columns, so that a memory-mapped file may be larger than memory as long
            as (n, n) matrices are not.
        labels: bool (L, n), or (L, S, n) where they differ between splits.
        folds: int (n,), or (S, n) for several splits; items with equal numbers are held out together.
        C: inverse strengths of the penalty.

    Returns:
        float64 (L, S, len(C), n), log odds; NaN where the training folds hold one class only.

    Raises:
        ValueError: shapes do not fit together, or a C is not above 0.
    """
    features = x if isinstance(x, np.ndarray) else np.asarray(x, np.float64)
    splits = np.atleast_2d(np.asarray(folds, np.int64))
    sets = np.asarray(labels, bool)
    if sets.ndim == 2:
        sets = np.broadcast_to(sets[:, None], (len(sets), len(splits), sets.shape[1]))
    if features.ndim != 2 or splits.shape[1:] != features.shape[:1] or sets.shape[1:] != splits.shape:
        raise ValueError("x is (n, d), folds (n,) or (S, n), labels (L, n) or (L, S, n)")
    if not all(strength > 0 for strength in C):
        raise ValueError("C is above 0")
    out = np.full((len(sets), len(splits), len(C), len(features)), np.nan)
    with _workers(len(features)) as each:
        for s, split in enumerate(splits):
            order = np.argsort(split, kind="stable")
            starts = np.flatnonzero(np.diff(split[order], prepend=split[order[0]] - 1)) if len(order) else order
            ends = np.append(starts, len(order))
            held = [slice(int(a), int(b)) for a, b in pairwise(ends) if b - a < len(order)]
            positive = sets[:, s][:, order]
            for fold, decisions in _folds_decided(features, order, held, positive, C, each):
                trained_on = len(order) - (fold.stop - fold.start)
                known = np.count_nonzero(positive, axis=1) - np.count_nonzero(positive[:, fold], axis=1)
                decisions[:, (known == 0) | (known == trained_on)] = np.nan
                out[:, s, :, order[fold]] = decisions.transpose(2, 1, 0)
    return out


@contextmanager
def _workers(n: int) -> Iterator[Each]:
    """What calls a function with every argument: where matrices are small, on as many threads as BLAS would have.

    The threads of one product wait for each other busily. Where other work holds the processors, many small products are ten
    times slower with two of them than with one. Products that wait for nobody are not, and come out the same to the bit.
    """
    threads = max((library.num_threads for library in _blas().lib_controllers), default=1)
    if n > _SMALL:
        yield map
        return
    with _blas().limit(limits=1), ThreadPoolExecutor(min(threads, _WORKERS)) as pool:
        yield pool.map if threads > 1 else map


@cache
def _blas() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def _folds_decided(
    x: NDArray[np.generic], order: Ints, held: list[slice], positive: Bools, C: Sequence[float], each: Each
) -> Iterator[tuple[slice, Floats]]:
    """Each fold with its decisions (len(C), L, held items).

    Args:
        x: (n, d).
        order: (n,), in which the items of a fold lie together.
        held: the folds, in that order.
        positive: (L, n), in that order.
        C: inverse strengths.
        each: calls a function with every argument.
    """
    n, d = x.shape
    small = [fold for fold in held if n - (fold.stop - fold.start) <= d]
    together = max(1, _GRAM_CELLS // max(n**2, positive.size * len(C)))
    for first in range(0, len(small), together):
        group = small[first : first + together]
        grams = np.zeros((len(group), n, n))
        for columns in _column_blocks(n, d):
            block = np.asarray(x[:, columns], np.float64)[order]
            for gram, more in zip(grams, each(partial(_inner_products, block), group), strict=True):
                gram += more
        yield from zip(group, _decided_by_gram(grams, group, positive, C, each), strict=True)
    for fold in held:
        if fold not in small:
            z = _standardised(np.asarray(x, np.float64)[order], fold)
            weights, intercepts = _fit_primal(np.delete(z, fold, axis=0), np.delete(positive, fold, axis=1).T, C)
            yield fold, (z[fold] @ weights + intercepts[:, None]).transpose(0, 2, 1)


def _inner_products(x: Floats, held: slice) -> Floats:
    z = _standardised(x, held)
    return z @ z.T


def _decided_by_gram(grams: Floats, held: list[slice], positive: Bools, C: Sequence[float], each: Each) -> list[Floats]:
    """Decisions (len(C), L, held items) of each fold, from the inner products (F, n, n) standardised for it."""
    n = grams.shape[1]
    trained_on = [np.delete(np.arange(n), fold) for fold in held]
    m = max(len(items) for items in trained_on)
    within = np.zeros((len(held), m, m))
    signs = np.zeros((len(held), len(positive), m))
    for f, items in enumerate(trained_on):
        within[f, : len(items), : len(items)] = grams[f][np.ix_(items, items)]
        signs[f, :, : len(items)] = np.where(positive[:, items], 1.0, -1.0)
    beta, intercepts = _fit_dual(within, signs, C, each)
    return [
        beta[:, f, :, : len(items)] @ grams[f][items, fold] + intercepts[:, f, :, None]
        for f, (fold, items) in enumerate(zip(held, trained_on, strict=True))
    ]


def _fit_dual(gram: Floats, signs: Floats, C: Sequence[float], each: Each = map) -> tuple[Floats, Floats]:
    """Solve for all label vectors of some training sets; where a set has one class only, some finite numbers come out.

    Args:
        gram: (F, m, m), inner products of each set's items; a smaller set is filled up with zeros.
        signs: (F, L, m), +1 and -1; 0 where nothing is there.
        C: inverse strengths.
        each: calls a function with every argument. What is worked on at once does not depend on how many at a time.

    Returns:
        dual coefficients (len(C), F, L, m), 0 where nothing is there, and intercepts (len(C), F, L).
    """
    sets, vectors, m = signs.shape
    beta, intercepts = np.zeros((len(C), *signs.shape)), np.zeros((len(C), sets, vectors))
    count = np.count_nonzero(signs[:, 0], axis=1)
    one_class = np.abs(signs.sum(axis=2)) == count[:, None]
    signs = signs.copy()
    signs[..., 0] = np.where(one_class, -signs[..., 0], signs[..., 0])
    together, width = max(1, _CELLS // (vectors * m)), max(_ROWS, _CELLS // m)

    def solve(part: tuple[int, slice, slice, _Shared | _Main]) -> None:
        c, some, rows, near = part
        found, shift, solved = _newton_dual(gram[some], near, signs[some, rows], C[c])
        for f in np.flatnonzero(~solved.all(axis=1)):
            left, items = ~solved[f], slice(0, int(count[some][f]))
            positive = signs[some, rows][f, left, items].T > 0
            slow, shift[f, left] = _dual_by_primal(gram[some][f, items, items], positive, C[c])
            found[f, left, items] = slow.T
        beta[c, some, rows], intercepts[c, some, rows] = found, shift

    parts = []
    for some in (slice(first, first + together) for first in range(0, sets, together)):
        main = _Main.of(gram[some].astype(np.float32)) if m >= _FEW else None
        for c, strength in enumerate(C):
            near = main or _Shared.of(gram[some], count[some], strength)
            parts += [(c, some, slice(first, first + width), near) for first in range(0, vectors, width)]
    list(each(solve, parts))
    return beta, intercepts


def _newton_dual(gram: Floats, near: _Shared | _Main, signs: Floats, C: float) -> tuple[Floats, Floats, Bools]:
    """Newton's method on the conditions of optimality: beta = s C sigma(-margin), margin = s (gram beta + b), sum beta = 0.

    Each step makes the first condition linear at one margin for each item, and solves the rest for beta and b. Then the
    margin moves on: to s (gram beta + b), or, where the item is pushed into the tail of the logistic function, to the
    margin that has this beta, whichever is farther. (The first alone gains one unit of margin a step in the tail; the
    second alone leaves the box 0 < s beta < C.) Steps are solved by conjugate gradients in single precision, and what they
    leave is made good by the next one, whose right-hand side is in double precision.

    Args:
        gram: (F, m, m).
        near: what is easily inverted in its place.
        signs: (F, L, m), +1 and -1, both in each row; 0 where nothing is there.
        C: inverse strength.

    Returns:
        beta (F, L, m), b (F, L), and which are solved (F, L): not all, where items are alike and C is large.
    """
    rough, there = gram.astype(np.float32), np.abs(signs)
    beta, product, margin = _all_margins_equal(gram, signs, C)
    length = np.sqrt(np.einsum("fii->f", gram) / _sum(there[:, 0]))
    tolerance = _TOLERANCE / np.maximum(length, 1e-150)[:, None]
    found, shifts, done = np.zeros_like(beta), np.zeros(beta.shape[:2]), np.zeros(beta.shape[:2], bool)
    rows = np.arange(beta.shape[1])  # those that are not solved yet in every set
    with np.errstate(all="ignore"):  # a row that breaks is caught as not finite, and left to the primal
        for _ in range(_NEWTON_STEPS):
            odds = np.exp(margin)
            more = 1 + odds
            alpha = C / more
            resist = more / (alpha * odds)
            weight = there / resist
            total = _sum(weight)
            residual = signs * (resist * (alpha - signs * beta) + margin) - product
            shift = _dot(weight, residual) / total
            residual -= shift[..., None]
            residual *= there
            error = np.sqrt(_dot(weight * residual, residual))  # bounds the distance of w from the optimum
            solved = error <= tolerance
            found[:, rows], shifts[:, rows], done[:, rows] = beta, shift, solved
            unsolved = np.isfinite(error) & ~solved
            if not unsolved.any():
                break
            if 4 * np.count_nonzero(kept := unsolved.any(axis=0)) < 3 * len(rows):
                rows, total, unsolved, error, shift = (
                    array[..., kept] for array in (rows, total, unsolved, error, shift)
                )
                signs, there, margin, resist, weight, residual, beta = (
                    array[:, kept] for array in (signs, there, margin, resist, weight, residual, beta)
                )
            goal = np.clip(np.maximum(error, 0.5 * tolerance / error), _TIGHT, _LOOSE)
            residual *= unsolved[..., None]
            step, rise = _conjugate_gradients(rough, near, resist, there, residual, goal)
            step -= weight * (_sum(step) / total)[..., None]  # single precision missed the constraint by a little
            beta = beta + step
            product = beta @ gram
            reached = signs * (product + (shift + rise)[..., None])
            margin += unsolved[..., None] * (_next_margin(margin, reached, signs * beta, C) - margin)
    return found, shifts, done


def _next_margin(margin: Floats, reached: Floats, alpha: Floats, C: float) -> Singles:
    """Where the logistic function is made linear next: alpha is s beta, and may have left (0, C).

    Any point near the solution does, so single precision is enough.
    """
    old, new, share = margin.astype(np.float32), reached.astype(np.float32), (alpha / C).astype(np.float32)
    side = np.copysign(np.float32(1), old)
    old *= side  # from here on the tail is to the right
    new *= side
    np.clip(share, 1e-30, 1, out=share)
    implied = np.log((1 - share) / share) * side
    implied -= np.float32(1e9) * (new <= old)  # where the item does not go further out
    onward = np.maximum(new, implied)
    np.clip(onward, old - _STRIDE, old + _STRIDE, out=onward)
    np.clip(onward, -_FARTHEST, _FARTHEST, out=onward)
    return np.asarray(onward * side)


def _all_margins_equal(gram: Floats, signs: Floats, C: float) -> tuple[Floats, Floats, Floats]:
    """A start: beta equal within each class, beta gram, and the margins that go with beta."""
    positive = signs > 0
    ones, zeros = np.count_nonzero(positive, axis=2), np.count_nonzero(signs < 0, axis=2)
    half = (ones + zeros) / 2
    direction = np.where(positive, (half / ones)[..., None], (half / zeros)[..., None]) * signs
    product = direction @ gram
    high = _common_margin(C * _dot(direction, product) / _dot(direction, direction))
    amount = np.minimum(C / (1 + np.exp(high)), 0.9 * C / np.maximum(half / ones, half / zeros))[..., None]
    alpha = np.where(signs == 0, 0.5 * C, np.abs(direction) * amount)
    return amount * direction, amount * product, np.log((C - alpha) / alpha)


def _common_margin(curvature: Floats) -> Floats:
    """About the margin = curvature sigma(-margin), from above."""
    high = np.log1p(np.maximum(curvature, 0))
    low = np.zeros_like(high)
    for _ in range(8):
        middle = (low + high) / 2
        below = middle * (1 + np.exp(middle)) < curvature
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return high


@dataclass(frozen=True, slots=True, eq=False)
class _Shared:
    """The inverse of a Gram matrix plus one resistance for all items and label vectors.

    Attributes:
        level: (F, 1, 1), that resistance.
        own: (F, 1, m), what of an item's squared length the other items do not explain.
        across: (F, m, m), the inverse.
    """

    level: Singles
    own: Singles
    across: Singles

    @classmethod
    def of(cls, gram: Floats, count: Ints, C: float) -> _Shared:
        """At four times the resistance that an item by itself has: the more resistances differ, the more a low one misleads."""
        odds = np.exp(_common_margin(C * np.einsum("fii->f", gram) / count))
        level = (4 * (1 + odds) ** 2 / (C * odds))[:, None, None]
        across = np.linalg.inv(gram + level * np.eye(gram.shape[1]))
        own = np.maximum(1 / np.einsum("fii->fi", across)[:, None] - level, 0)
        return cls(level.astype(np.float32), own.astype(np.float32), across.astype(np.float32))

    def scale(self, resist: Singles) -> Singles:
        """(F, L, m), by which rows and columns of the Gram matrix plus ``resist`` (F, L, m) become about those inverted."""
        return np.asarray(np.sqrt((self.own + self.level) / (self.own + resist)))

    def inverse(self, scale: Singles) -> Callable[[Singles], Singles]:
        """The same for every scale."""
        return lambda vectors: vectors @ self.across


@dataclass(frozen=True, slots=True, eq=False)
class _Main:
    """A Gram matrix, about: its largest eigenvalues, and one for all the others.

    Attributes:
        rest: (F, 1, 1), the mean of the other eigenvalues.
        excess: (F, k), the largest ones, less ``rest``.
        across: (F, m, k), their eigenvectors.
        pairs: (F, m, k k), the products of every two of these.
    """

    rest: Singles
    excess: Singles
    across: Singles
    pairs: Singles

    @classmethod
    def of(cls, gram: Singles) -> _Main:
        """By subspace iteration, which need not be exact."""
        sets, m, _ = gram.shape
        k = min(_MAIN, m // 16)
        basis = np.random.Generator(np.random.PCG64(0)).standard_normal((sets, m, k), np.float32)
        for _ in range(3):
            basis = np.linalg.qr(gram @ basis)[0]
        values, turn = np.linalg.eigh(basis.transpose(0, 2, 1) @ gram @ basis)
        trace = np.einsum("fii->f", gram).astype(np.float64)
        rest = np.maximum(trace - values.sum(axis=1), 1e-6 * trace) / (m - k)
        excess = np.maximum(values - rest[:, None], 1e-6 * trace[:, None]).astype(np.float32)
        across = basis @ turn
        pairs = (across[..., None] * across[:, :, None]).reshape(sets, m, k * k)
        return cls(rest[:, None, None].astype(np.float32), excess, across, pairs)

    def scale(self, resist: Singles) -> Singles:
        """(F, L, m), by which rows and columns of the Gram matrix plus ``resist`` (F, L, m) have a diagonal of about 1."""
        return np.asarray(1 / np.sqrt(resist + self.rest))

    def inverse(self, scale: Singles) -> Callable[[Singles], Singles]:
        """Of 1 + scale (main part) scale, for each row of scale (F, L, m)."""
        sets, _, k = self.across.shape
        inner = (scale**2 @ self.pairs).reshape(sets, -1, k, k)
        inner = np.linalg.inv(inner + (np.eye(k, dtype=np.float32) / self.excess[:, :, None])[:, None])
        back = np.ascontiguousarray(self.across.transpose(0, 2, 1))

        def apply(vectors: Singles) -> Singles:
            inward = (scale * vectors) @ self.across
            out = (inner @ inward[..., None])[..., 0] @ back
            out *= scale
            return np.subtract(vectors, out, out=out)

        return apply


def _conjugate_gradients(
    gram: Singles, near: _Shared | _Main, resist: Floats, there: Floats, residual: Floats, goal: Floats
) -> tuple[Floats, Floats]:
    """Solve (diag(resist) + gram) step + rise = residual, sum step = 0.

    Both sides are scaled and preconditioned as ``near`` knows. The constraint is kept by the preconditioner, whose results
    have no part across it, so that what remains of the residual along it is the rise.

    Args:
        gram: (F, m, m).
        near: of the same.
        resist: (F, L, m).
        there: (F, L, m), 0 where nothing is.
        residual: (F, L, m); rows of zeros stay zeros.
        goal: (F, L), of which part of what it was a row's residual may remain.

    Returns:
        steps (F, L, m) and rises (F, L).
    """
    heavy = resist.astype(np.float32)
    scale = near.scale(heavy) * there.astype(np.float32)
    own = heavy * scale
    own *= scale
    right = scale * residual
    norm = np.sqrt(_dot(right, right))
    left = np.divide(right, norm[..., None], out=np.zeros_like(right), where=norm[..., None] > 0).astype(np.float32)
    inverse = near.inverse(scale)
    edge = inverse(scale)
    edge /= _dot(scale, edge)[..., None]

    def within(vectors: Singles) -> Singles:
        vectors -= edge * _dot(scale, vectors)[..., None]
        return vectors

    along = within(inverse(left))
    solution = np.zeros_like(left)
    remains = _dot(left, along)
    enough = (goal**2).astype(np.float32) * remains
    for _ in range(_CG_STEPS):
        image = np.matmul(scale * along, gram)
        image *= scale
        image += own * along
        moving = remains > enough
        length = np.where(moving, remains / _dot(along, image), 0)[..., None]
        solution += length * along
        image *= length
        left -= image
        ready = within(inverse(left))
        now = _dot(left, ready)
        if not (now > enough).any():
            break
        along *= np.where(moving, now / remains, 0)[..., None]
        along += ready
        remains = now
    return solution * scale * norm[..., None], _dot(scale, left) / _dot(scale, scale) * norm


def _dot(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Row by row."""
    return np.asarray(np.vecdot(a, b))


def _sum(a: NDArray[Any]) -> NDArray[Any]:
    """Of each row; faster than numpy's own along a short axis."""
    return np.asarray(np.einsum("...m->...", a))


def _dual_by_primal(gram: Floats, positive: Bools, C: float) -> tuple[Floats, Floats]:
    """The slower way that always arrives: beta (m, L) and b (L,) by way of a square root of the Gram matrix (m, m)."""
    values, vectors = np.linalg.eigh(gram)
    real = values > len(gram) * np.finfo(np.float64).eps * values[-1]
    length = np.sqrt(values[real])
    weights, shift = _newton_primal(vectors[:, real] * length, values[real], positive, C)
    # Not C (label - probability), which equals this at the optimum but magnifies what is left of the error by C.
    return vectors[:, real] @ (weights / length[:, None]), shift


def _fit_primal(z: Floats, positive: Bools, C: Sequence[float]) -> tuple[Floats, Floats]:
    """Weights (len(C), d, L) and intercepts (len(C), L) of m > d items z (m, d) with labels (m, L)."""
    values, vectors = np.linalg.eigh(z.T @ z)
    root = z @ vectors
    weights = np.zeros((len(C), z.shape[1], positive.shape[1]))
    intercepts = np.zeros((len(C), positive.shape[1]))
    ones = positive.sum(axis=0)
    both = np.flatnonzero((ones > 0) & (ones < len(z)))
    width = max(1, _CELLS // len(z))
    for c, strength in enumerate(C):
        for first in range(0, len(both), width):
            some = both[first : first + width]
            found, shift = _newton_primal(root, np.maximum(values, 0), positive[:, some], strength)
            weights[c][:, some], intercepts[c, some] = vectors @ found, shift
    return weights, intercepts


def _newton_primal(root: Floats, values: Floats, positive: Bools, C: float) -> tuple[Floats, Floats]:
    """Newton's method with a line search, for features whose second moments are diagonal.

    Args:
        root: (m, r), root' root is diagonal.
        values: (r,), that diagonal.
        positive: (m, L), both classes in each column.
        C: inverse strength.

    Returns:
        weights (r, L) and intercepts (L,).
    """
    (m, r), vectors = root.shape, positive.shape[1]
    signs = np.where(positive, 1.0, -1.0)
    ones = positive.sum(axis=0)
    weights, shift = np.zeros((r, vectors)), np.log(ones / (m - ones))
    decision = np.broadcast_to(shift, positive.shape)
    loss = _loss(weights, decision, signs, C)
    slope = C * signs * _sigmoid(-signs * decision)
    first = None
    live = np.ones(vectors, bool)
    for _ in range(_PRIMAL_STEPS):
        chance = np.abs(slope) / C
        curve = np.maximum(C * chance * (1 - chance), 1e-300)
        total, excess = curve.sum(axis=0), slope.sum(axis=0)
        gradient = root.T @ (slope - curve * (excess / total)) - weights
        norm = np.sqrt((gradient**2).sum(axis=0))
        first = np.maximum(norm, 1e-300) if first is None else first
        tolerance = np.maximum(_TOLERANCE / np.sqrt(r), 1e-14 * first)
        live &= (norm > tolerance) | (np.abs(excess) > 0.1 * _TOLERANCE * total)
        if not live.any():
            break
        goal = np.minimum(_LOOSE, np.maximum(norm / first, 0.1 * tolerance / np.maximum(norm, tolerance)))
        step, ahead = _precise_gradients(root, values, curve, total, gradient * live, goal)
        rise = (excess - (curve * ahead).sum(axis=0)) / total * live
        ahead += rise
        size = live.astype(np.float64)
        for _ in range(_HALVINGS):
            new = weights + size * step
            moved = decision + size * ahead
            now = _loss(new, moved, signs, C)
            worse = now > loss + 1e-13 * np.abs(loss)
            if not worse.any():
                break
            size = np.where(worse, size / 2, size)
        live &= ~worse  # no step lowers the loss: rounding is all that is left
        size = np.where(worse, 0.0, size)
        weights, shift, decision = weights + size * step, shift + size * rise, decision + size * ahead
        loss = np.where(worse, loss, now)
        slope = C * signs * _sigmoid(-signs * decision)
    return weights, shift


def _precise_gradients(
    root: Floats, values: Floats, curve: Floats, total: Floats, gradient: Floats, goal: Floats
) -> tuple[Floats, Floats]:
    """Newton's step in the weights (r, L), the intercept eliminated, and what it adds to the decisions (m, L)."""
    inverse = 1 / (1 + values[:, None] * curve.mean(axis=0))
    step, ahead, left = np.zeros_like(gradient), np.zeros_like(curve), gradient.copy()
    ready = inverse * left
    along, remains = ready.copy(), (left * ready).sum(axis=0)
    enough = goal**2 * remains
    for _ in range(10 * len(values) + 10):
        moving = remains > enough
        if not moving.any():
            break
        image = root @ along
        pulled = curve * image
        pulled -= curve * (pulled.sum(axis=0) / total)
        bent = along + root.T @ pulled
        length = np.where(moving, remains / np.maximum((along * bent).sum(axis=0), 1e-300), 0)
        step += length * along
        ahead += length * image
        left -= length * bent
        ready = inverse * left
        now = (left * ready).sum(axis=0)
        along = ready + np.where(moving, now / np.maximum(remains, 1e-300), 0) * along
        remains = np.where(moving, now, remains)
    return step, ahead


def _loss(weights: Floats, decision: Floats, signs: Floats, C: float) -> Floats:
    return np.asarray(0.5 * (weights**2).sum(axis=0) + C * np.logaddexp(0, -signs * decision).sum(axis=0))


def _column_blocks(n: int, d: int) -> Iterator[slice]:
    width = max(1, _BLOCK_CELLS // n)
    yield from (slice(first, min(d, first + width)) for first in range(0, d, width))


def standardisation(x: Floats) -> tuple[Floats, Floats]:
    """Mean and population standard deviation of each column of (n, d); a column that rounding alone moves has scale 1."""
    mean = x.mean(axis=0)
    return mean, _scale(mean, x.var(axis=0), len(x))


def _standardised(x: Floats, held: slice) -> Floats:
    """All items, standardised on those that are not held out."""
    before, after = x[: held.start], x[held.stop :]
    n = len(before) + len(after)
    mean = (before.sum(axis=0) + after.sum(axis=0)) / n
    z = x - mean
    before, after = z[: held.start], z[held.stop :]
    squares = np.einsum("nd,nd->d", before, before) + np.einsum("nd,nd->d", after, after)
    z *= 1 / _scale(mean, squares / n, n)
    return np.asarray(z)


def _scale(mean: Floats, variance: Floats, n: int) -> Floats:
    """As scikit-learn's StandardScaler decides that a column is constant."""
    eps = np.finfo(np.float64).eps
    constant = variance <= n * eps * variance + (n * mean * eps) ** 2
    return np.where(constant, 1.0, np.sqrt(variance))


def _sigmoid(value: Floats) -> Floats:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * value))
