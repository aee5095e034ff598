"""Classifiers that are not linear: each finds what a linear probe cannot, and nothing in noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import check_grad

from counterclaim import stats
from counterclaim.errors import InputError
from counterclaim.lab.probing import classifiers
from counterclaim.lab.probing.classifiers import classifier, cross_decisions_with

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Tokens = list[Floats]


def cv_auc(name: str, x: Any, labels: Bools) -> float:
    folds = stats.stratified_folds(labels, 5, 0)
    if name == "logistic":
        decisions = stats.cross_decisions(x, labels[None], folds)[0, 0, 0]
    else:
        (decisions,) = cross_decisions_with(name, x, labels, folds, 1.0, 0)
    areas = [stats.auc(decisions[folds == fold], labels[folds == fold]) for fold in range(5)]
    return float(np.mean([area for area in areas if area is not None]))


def ring(n: int = 240, d: int = 6) -> tuple[Floats, Bools]:
    """Positives lie far out, negatives near the middle."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d))
    labels = rng.random(n) < 0.5
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x * np.where(labels, 3.0, 1.5)[:, None] * rng.normal(1, 0.1, (n, 1)), labels


def exclusive_or(n: int = 240, d: int = 4) -> tuple[Floats, Bools]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n, d))
    signs = rng.choice([-1.0, 1.0], (n, 2))
    x[:, :2] = 0.4 * x[:, :2] + signs
    return x, signs.prod(axis=1) > 0


def one_token_of_many(n: int = 160, d: int = 8) -> tuple[Tokens, Bools]:
    """A token somewhere before the last bears a key and the class; all others are noise along the class's direction."""
    rng = np.random.default_rng(2)
    labels = rng.random(n) < 0.5
    items = []
    for positive in labels:
        tokens = rng.normal(size=(rng.integers(20, 40), d))
        where = rng.integers(len(tokens) - 1)
        tokens[where, 0] = 5.0
        tokens[where, 1] = 2.0 if positive else -2.0
        items.append(tokens)
    return items, labels


def a_token_far_out(n: int = 160, d: int = 8) -> tuple[Tokens, Bools]:
    """A positive has one token far along a direction, and its others a little back, so that the means are equal."""
    rng = np.random.default_rng(3)
    labels = rng.random(n) < 0.5
    items = []
    for positive in labels:
        tokens = rng.normal(size=(30, d))
        tokens[:, 1] -= tokens[:, 1].mean()
        if positive:
            where = rng.integers(29)
            tokens[where, 1] += 6.0
            tokens[:, 1] -= 6.0 / 30
        items.append(tokens)
    return items, labels


@pytest.mark.parametrize("name", ["rbf", "mlp"])
@pytest.mark.parametrize("planted", [ring, exclusive_or])
def test_a_curved_boundary_is_found_and_a_linear_probe_misses_it(
    name: str, planted: Callable[[], tuple[Floats, Bools]]
) -> None:
    x, labels = planted()
    assert cv_auc(name, x, labels) > 0.9
    assert cv_auc("logistic", x, labels) < 0.65


@pytest.mark.parametrize(("name", "planted"), [("attention", one_token_of_many), ("max", a_token_far_out)])
def test_a_signal_in_one_token_is_found_and_the_last_token_and_the_mean_miss_it(
    name: str, planted: Callable[[], tuple[Tokens, Bools]]
) -> None:
    items, labels = planted()
    found = cv_auc(name, items, labels)
    assert found > 0.9
    assert cv_auc("logistic", np.stack([item[-1] for item in items]), labels) < 0.65
    assert cv_auc("logistic", np.stack([item.mean(axis=0) for item in items]), labels) < found - 0.15


@pytest.mark.parametrize("name", classifiers.CLASSIFIERS)
def test_noise_has_nothing_to_find(name: str) -> None:
    areas = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.arange(80) < 40)
        x = rng.normal(size=(80, 6))
        tokens = [rng.normal(size=(8, 6)) for _ in range(80)]
        areas.append(cv_auc(name, tokens if name in ("attention", "max") else x, labels))
    # One cross-validated AUC of 80 has a standard deviation of about 0.07 under the null: six have 0.03.
    assert np.mean(areas) == pytest.approx(0.5, abs=0.1)
    assert max(areas) < 0.75


@pytest.mark.parametrize("pooling", ["attention", "max"])
def test_the_gradient_of_pooling_is_that_of_its_loss(pooling: classifiers.Pooling) -> None:
    rng = np.random.default_rng(0)
    z, starts = rng.normal(size=(30, 4)), np.array([0, 3, 4, 15])
    rest = (z, starts, np.array([True, False, False, True]), 2.5, pooling)

    def loss(p: Floats) -> float:
        return classifiers.pooled_objective(p, *rest)[0]

    def slope(p: Floats) -> Floats:
        return classifiers.pooled_objective(p, *rest)[1]

    for _ in range(5):
        assert check_grad(loss, slope, rng.normal(size=9)) < 1e-5


def test_the_kernel_probe_solves_kernel_logistic_regression() -> None:
    x, labels = ring(60)
    fitted = classifier("rbf").fit(x, labels, 2.0, 0)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    gram = np.exp(-((z[:, None] - z[None]) ** 2).sum(axis=2) / x.shape[1])
    decision = fitted.decision(x)
    # At the optimum an item's dual coefficient is C times what its probability lacks, and they sum to zero.
    dual = 2.0 * (labels - 1 / (1 + np.exp(-decision)))
    assert dual.sum() == pytest.approx(0, abs=1e-7)
    rebuilt = gram @ dual
    np.testing.assert_allclose(decision - rebuilt, (decision - rebuilt)[0], atol=1e-7)


@pytest.mark.parametrize("name", classifiers.CLASSIFIERS)
def test_equal_seeds_give_equal_bits_and_units_do_not_matter(name: str) -> None:
    items, labels = one_token_of_many(40, 3)
    x: Any = items if name in ("attention", "max") else np.stack([item[0] for item in items])
    scaled: Any = [item * 1024 for item in items] if isinstance(x, list) else x * 1024
    first = classifier(name).fit(x, labels, 1.0, 7).decision(x)
    assert np.array_equal(first, classifier(name).fit(x, labels, 1.0, 7).decision(x))
    np.testing.assert_allclose(classifier(name).fit(scaled, labels, 1.0, 7).decision(scaled), first, rtol=1e-6)


def test_a_training_fold_of_one_class_has_no_decision() -> None:
    x = np.random.default_rng(0).normal(size=(6, 2))
    labels = np.array([True, False, False, False, False, False])
    (decisions,) = cross_decisions_with("rbf", x, labels, np.array([0, 0, 1, 1, 2, 2]), 1.0, 0)
    assert np.isnan(decisions).tolist() == [True, True, False, False, False, False]


def test_what_cannot_be_used_is_said() -> None:
    items, labels = one_token_of_many(10, 3)
    rows = np.stack([item[0] for item in items])
    with pytest.raises(InputError, match=r"no classifier is called 'svm'; choose of rbf, mlp, attention, max\."):
        classifier("svm")
    with pytest.raises(InputError, match="one vector for each item"):
        classifier("rbf").fit(items, labels, 1.0, 0)
    with pytest.raises(InputError, match="features of every token"):
        classifier("attention").fit(rows, labels, 1.0, 0)
    with pytest.raises(InputError, match="features of every token"):
        classifier("max").fit([*items[:-1], np.empty((0, 3))], labels, 1.0, 0)
    for name, x in (("rbf", rows), ("mlp", rows), ("attention", items)):
        with pytest.raises(InputError, match="one class"):
            classifier(name).fit(x, np.ones(10, bool), 1.0, 0)
    with pytest.raises(ValueError, match="n items"):
        cross_decisions_with("rbf", rows, labels[:-1], np.zeros(9, int), 1.0, 0)
