"""Probes that are not linear in one vector, for the objection that a linear probe looked in the wrong way.

Each standardises its features on what it is trained on, and takes ``C``, the inverse strength of an L2 penalty, as
logistic regression does: 0.5 |parameters|^2 + C sum log(1 + exp(-s f)).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike

from counterclaim import stats
from counterclaim.errors import InputError
from counterclaim.lab.probing.crossval import Bools, Decide, Floats, Ints

Pooling = Literal["attention", "max"]

HIDDEN = 32
"""Units of the multilayer perceptron's one hidden layer."""

_ITERATIONS = 200  # of L-BFGS, for the perceptron and for pooling
_STARTS = 3  # of pooling, whose objective has local minima; the best is kept


class Fitted(Protocol):
    """A classifier that has been trained."""

    def decision(self, x: Any) -> Floats:
        """(m,) log odds of the positive class, of m items as the classifier takes them."""


class Classifier(Protocol):
    """A kind of classifier."""

    def fit(self, x: Any, labels: ArrayLike, C: float, seed: int) -> Fitted:
        """Train on n items: (n, d) features, or for pooling a list of n arrays (tokens, d); bool (n,) labels.

        Raises:
            InputError: the labels are of one class, or the features are not of the kind that it takes.
        """


@dataclass(frozen=True, slots=True)
class Kernel:
    """Logistic regression in the space of the kernel exp(-|z - z'|^2 / d), z the standardised features."""

    def fit(self, x: Any, labels: ArrayLike, C: float, seed: int) -> Fitted:
        rows, positive = _rows(x), _both_classes(labels)
        mean, scale = stats.standardisation(rows)
        z = (rows - mean) / scale
        dual, intercept = stats.fit_gram(_rbf(z, z), positive, C)
        return _OnRows(mean, scale, lambda rows: _rbf(rows, z) @ dual + intercept)


@dataclass(frozen=True, slots=True)
class Perceptron:
    """scikit-learn's MLPClassifier with one hidden layer of ``HIDDEN`` rectified units, by L-BFGS from a seeded start."""

    def fit(self, x: Any, labels: ArrayLike, C: float, seed: int) -> Fitted:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier

        rows, positive = _rows(x), _both_classes(labels)
        mean, scale = stats.standardisation(rows)
        net = MLPClassifier((HIDDEN,), solver="lbfgs", alpha=1 / C, max_iter=_ITERATIONS, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the bound on iterations is meant
            net.fit((rows - mean) / scale, positive)
        (inner, outer), (shift, intercept) = net.coefs_, net.intercepts_

        def forward(z: Floats) -> Floats:  # predict_proba saturates at 0 and 1, where ranks are lost
            return np.asarray(np.maximum(z @ inner + shift, 0) @ outer[:, 0] + intercept[0])

        return _OnRows(mean, scale, forward)


@dataclass(frozen=True, slots=True)
class Pooled:
    """One logit w'z + b for each token, pooled over an item's tokens.

    Attributes:
        pooling: ``attention`` weighs tokens by softmax(q'z), q fitted beside w under the same penalty; ``max`` takes the
            largest logit.
    """

    pooling: Pooling

    def fit(self, x: Any, labels: ArrayLike, C: float, seed: int) -> Fitted:
        from scipy.optimize import minimize

        items, positive = _tokens(x), _both_classes(labels)
        tokens, starts = np.concatenate(items), _starts(items)
        mean, scale = stats.standardisation(tokens)
        z = (tokens - mean) / scale
        means = np.add.reduceat(z, starts) / np.diff(np.append(starts, len(z)))[:, None]
        linear = stats.fit_logistic(means, positive, C)
        rng = np.random.Generator(np.random.PCG64(seed))
        best, lowest = np.empty(0), np.inf
        for _ in range(_STARTS):
            start = rng.normal(0, 1 / np.sqrt(z.shape[1]), 2 * z.shape[1] + 1)
            start[: z.shape[1]] += linear.coef / linear.scale
            found = minimize(
                pooled_objective,
                start,
                (z, starts, positive, C, self.pooling),
                method="L-BFGS-B",
                jac=True,
                options={"maxiter": _ITERATIONS},
            )
            if found.fun < lowest:
                best, lowest = found.x, float(found.fun)
        return _OnTokens(mean, scale, best, self.pooling)


def classifier(name: str) -> Classifier:
    """The classifier of that name.

    Raises:
        InputError: there is none.
    """
    if name not in CLASSIFIERS:
        raise InputError(f"no classifier is called {name!r}", remedy=f"choose of {', '.join(CLASSIFIERS)}")
    return CLASSIFIERS[name]


def cross_decisions_with(name: str, x: Any, labels: ArrayLike, folds: ArrayLike, C: float, seed: int) -> Floats:
    """Out-of-fold decisions, one fit for each fold of each split.

    Args:
        name: of a classifier.
        x: (n, d) features, or for pooling a list of n arrays (tokens, d).
        labels: bool (n,).
        folds: int (n,), or (S, n) for several splits.
        C: inverse strength of the penalty.
        seed: of classifiers that draw.

    Returns:
        float64 (S, n), log odds; NaN where the training folds hold one class only.

    Raises:
        InputError: there is no such classifier, or the features are not of the kind that it takes.
        ValueError: shapes do not fit together.
    """
    kind, positive = classifier(name), np.asarray(labels, bool)
    splits = np.atleast_2d(np.asarray(folds, np.int64))
    if splits.shape[1:] != positive.shape or len(x) != len(positive):
        raise ValueError("x has n items, labels are (n,), folds (n,) or (S, n)")
    out = np.full(splits.shape, np.nan)
    for split, row in zip(splits, out, strict=True):
        for fold in np.unique(split):
            held_out = split == fold
            if len(np.unique(positive[~held_out])) == 2:
                fitted = kind.fit(_taken(x, ~held_out), positive[~held_out], C, seed)
                row[held_out] = fitted.decision(_taken(x, held_out))
    return out


def decider(name: str, seed: int) -> Decide:
    """How out-of-fold decisions of a classifier are computed, for ``cross_validate``.

    Args:
        name: of a classifier, or ``logistic``.
        seed: of classifiers that draw.
    """
    if name == "logistic":
        return stats.cross_decisions

    def decide(x: Any, labels: Bools, folds: Ints, C: Sequence[float]) -> Floats:
        values = [[cross_decisions_with(name, x, one, folds, strength, seed) for strength in C] for one in labels]
        return np.stack([np.stack(each, axis=1) for each in values])

    return decide


def pooled_objective(
    parameters: Floats, z: Floats, starts: Ints, positive: Bools, C: float, pooling: Pooling
) -> tuple[float, Floats]:
    """Penalised loss of a pooled probe, and its gradient.

    Args:
        parameters: (2 d + 1,), w, q and b; ``max`` leaves q alone, which the penalty takes to 0.
        z: (tokens of all items, d), standardised.
        starts: (n,), where each item's tokens begin.
        positive: (n,).
        C: inverse strength of the penalty.
        pooling: how an item's logits become one.
    """
    d = z.shape[1]
    w, q = parameters[:d], parameters[d:-1]
    logits, share = _logits_and_shares(z, starts, w, q, pooling)
    item = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(z))))
    pooled = np.add.reduceat(share * logits, starts)
    decision = pooled + parameters[-1]
    sign = np.where(positive, 1.0, -1.0)
    loss = C * float(np.logaddexp(0, -sign * decision).sum()) + 0.5 * float(w @ w + q @ q)
    slope = -C * sign * (0.5 - 0.5 * np.tanh(0.5 * sign * decision))
    of_token = slope[item] * share
    gradient = np.empty_like(parameters)
    gradient[:d] = of_token @ z + w
    gradient[d:-1] = q if pooling == "max" else (of_token * (logits - pooled[item])) @ z + q
    gradient[-1] = slope.sum()
    return loss, gradient


def _logits_and_shares(z: Floats, starts: Ints, w: Floats, q: Floats, pooling: Pooling) -> tuple[Floats, Floats]:
    """Of every token: its logit without the intercept, and its weight in its item; weights sum to 1 for each item."""
    logits = z @ w
    lengths = np.diff(np.append(starts, len(z)))
    key = logits if pooling == "max" else z @ q
    top = np.repeat(np.maximum.reduceat(key, starts), lengths)
    share = (key == top).astype(np.float64) if pooling == "max" else np.exp(key - top)
    return logits, share / np.repeat(np.add.reduceat(share, starts), lengths)


@dataclass(frozen=True, slots=True, eq=False)
class _OnRows:
    mean: Floats
    scale: Floats
    of_standardised: Callable[[Floats], Floats] = field(repr=False)

    def decision(self, x: Any) -> Floats:
        return self.of_standardised((_rows(x) - self.mean) / self.scale)


@dataclass(frozen=True, slots=True, eq=False)
class _OnTokens:
    mean: Floats
    scale: Floats
    parameters: Floats = field(repr=False)
    pooling: Pooling

    def decision(self, x: Any) -> Floats:
        items = _tokens(x)
        starts, d = _starts(items), len(self.mean)
        z = (np.concatenate(items) - self.mean) / self.scale
        logits, share = _logits_and_shares(z, starts, self.parameters[:d], self.parameters[d:-1], self.pooling)
        return np.asarray(np.add.reduceat(share * logits, starts) + self.parameters[-1])


CLASSIFIERS: dict[str, Classifier] = {
    "rbf": Kernel(),
    "mlp": Perceptron(),
    "attention": Pooled("attention"),
    "max": Pooled("max"),
}
"""What ``classifier`` finds; ``attention`` and ``max`` read every token, the others one vector for each item."""


def _rbf(a: Floats, b: Floats) -> Floats:
    apart = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * (a @ b.T)
    return np.asarray(np.exp(-np.maximum(apart, 0) / a.shape[1]))


def _both_classes(labels: ArrayLike) -> Bools:
    positive = np.asarray(labels, bool)
    if positive.all() or not positive.any():
        raise InputError("all labels are of one class", remedy="a probe needs items of both")
    return positive


def _rows(x: Any) -> Floats:
    if not isinstance(x, np.ndarray) or x.ndim != 2:
        raise InputError("this classifier reads one vector for each item", remedy="give features of shape (items, d)")
    return x.astype(np.float64, copy=False)


def _tokens(x: Any) -> list[Floats]:
    items = list(x)
    if not all(isinstance(item, np.ndarray) and item.ndim == 2 and len(item) for item in items):
        raise InputError(
            "pooling reads the features of every token", remedy="give one array (tokens, d) for each item, none empty"
        )
    return [item.astype(np.float64, copy=False) for item in items]


def _starts(items: Sequence[Floats]) -> Ints:
    return np.cumsum([0, *(len(item) for item in items[:-1])])


def _taken(x: Any, chosen: Bools) -> Any:
    return x[chosen] if isinstance(x, np.ndarray) else [x[i] for i in np.flatnonzero(chosen)]
