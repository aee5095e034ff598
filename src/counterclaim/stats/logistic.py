"""Probes: standardised features and L2-regularised logistic regression, for many label vectors and folds at once.

The objective is that of scikit-learn's ``make_pipeline(StandardScaler(), LogisticRegression(C=C))``, solved to the end:
0.5 w'w + C sum log(1 + exp(-s (w'z + b))), z the features standardised on the training items, b free, s = +-1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from counterclaim.errors import InputError
from counterclaim.stats.weights import Floats

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


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
    features, positive = np.asarray(x, np.float64), np.asarray(labels, bool)
    if features.ndim != 2 or positive.shape != features.shape[:1]:
        raise ValueError("x is (n, d) and labels (n,)")
    if positive.all() or not positive.any():
        raise InputError("all labels are of one class", remedy="a probe needs items of both")
    mean, scale = standardisation(features)
    z = (features - mean) / scale
    beta, intercept = _newton(z @ z.T, positive, C)
    return Logistic(mean, scale, beta @ z, intercept)


def fit_gram(gram: Floats, labels: ArrayLike, C: float = 1.0) -> tuple[Floats, float]:
    """Fit a probe of which only the inner products between training items are known: kernel logistic regression.

    Args:
        gram: (n, n), symmetric and positive semi-definite.
        labels: bool (n,), both classes present.
        C: inverse strength of the penalty.

    Returns:
        dual coefficients (n,) and the intercept: a new item's decision is its inner products with the training items
        times the coefficients, plus the intercept.
    """
    return _newton(gram, np.asarray(labels, bool), C)


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
        x: (n, d), finite.
        labels: bool (L, n), or (L, S, n) where they differ between splits.
        folds: int (n,), or (S, n) for several splits; items with equal numbers are held out together.
        C: inverse strengths of the penalty.

    Returns:
        float64 (L, S, len(C), n), log odds; NaN where the training folds hold one class only.

    Raises:
        ValueError: shapes do not fit together, or a C is not above 0.
    """
    features = np.asarray(x, np.float64)
    splits = np.atleast_2d(np.asarray(folds, np.int64))
    sets = np.asarray(labels, bool)
    if sets.ndim == 2:
        sets = np.broadcast_to(sets[:, None], (len(sets), len(splits), sets.shape[1]))
    if features.ndim != 2 or splits.shape[1:] != features.shape[:1] or sets.shape[1:] != splits.shape:
        raise ValueError("x is (n, d), folds (n,) or (S, n), labels (L, n) or (L, S, n)")
    out = np.full((len(sets), len(splits), len(C), len(features)), np.nan)
    for s, split in enumerate(splits):
        for fold in np.unique(split):
            held = split == fold
            mean, scale = standardisation(features[~held])
            z = (features - mean) / scale
            gram, across = z[~held] @ z[~held].T, z[held] @ z[~held].T
            for which, positive in enumerate(sets[:, s, ~held]):
                if positive.all() or not positive.any():
                    continue
                for c, strength in enumerate(C):
                    beta, intercept = _newton(gram, positive, strength)
                    out[which, s, c, held] = across @ beta + intercept
    return out


def _newton(gram: Floats, positive: Bools, C: float) -> tuple[Floats, float]:
    """Dual coefficients (n,) and intercept."""
    if not C > 0:
        raise ValueError("C is above 0")
    n = len(gram)
    beta, intercept, value = np.zeros(n), 0.0, np.inf
    value = n * C * float(np.log(2))
    for _ in range(100):
        decision = gram @ beta + intercept
        chance = _sigmoid(decision)
        pull, weight = C * (positive - chance), np.maximum(C * chance * (1 - chance), 1e-300)
        root = np.sqrt(weight)
        system = np.eye(n) + root[:, None] * gram * root
        right = np.column_stack([root * (gram @ pull - decision), root])
        solved = np.linalg.solve(system, right)
        rise = (pull.sum() - root @ solved[:, 0]) / (root @ solved[:, 1])
        step = pull - root * (solved[:, 0] + rise * solved[:, 1]) - beta
        size = 1.0
        while True:
            new, shift = beta + size * step, intercept + size * (rise - intercept)
            moved = gram @ new + shift
            loss = 0.5 * float(new @ gram @ new) + C * float(np.logaddexp(0, np.where(positive, -moved, moved)).sum())
            if loss <= value + 1e-12 * abs(value) or size < 1e-9:
                break
            size /= 2
        done = float(np.abs(moved - decision).max()) < 1e-9
        beta, intercept, value = new, float(shift), loss
        if done:
            break
    return beta, intercept


def standardisation(x: Floats) -> tuple[Floats, Floats]:
    """Mean and population standard deviation of each column of (n, d); a column that rounding alone moves has scale 1."""
    n, mean = len(x), x.mean(axis=0)
    variance = x.var(axis=0)
    eps = np.finfo(np.float64).eps
    constant = variance <= n * eps * variance + (n * mean * eps) ** 2
    return mean, np.where(constant, 1.0, np.sqrt(variance))


def _sigmoid(value: Floats) -> Floats:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * value))
