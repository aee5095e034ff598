"""The probe solver: scikit-learn's objective solved to the end, whatever the shape, the penalty and the labels."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from counterclaim import stats
from counterclaim.errors import InputError
from counterclaim.stats import logistic

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
KINDS = ("noise", "decaying", "twins", "constant", "far")
GRID = (1e-4, 0.01, 1.0, 100.0, 1e4)


def features(kind: str, n: int, d: int, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    if kind == "decaying":  # as hidden states are: few directions carry most of the variance
        x = (x * np.arange(1, d + 1) ** -0.5) @ rng.normal(size=(d, d))
    elif kind == "twins":  # every item twice, with labels that may differ
        x[n // 2 :] = x[: n - n // 2]
    elif kind == "constant":
        x[:, ::2] = 7.3
    elif kind == "far":
        x = 1000 * x + 500
    return x


def labels_of(n: int, count: int, seed: int = 0) -> Bools:
    labels = np.random.default_rng([seed, 1]).random((count, n)) < 0.4
    labels[:, :2], labels[:, 2:4] = True, False
    return labels


def peer(C: float) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=C, tol=1e-12, max_iter=100_000))


def slope(fitted: stats.Logistic, x: Floats, labels: Bools, C: float) -> tuple[float, float]:
    """Of the objective at the solution: its length in the weights, and in the intercept, over C n."""
    z = (x - x.mean(axis=0)) / np.where(x.std(axis=0) < 1e-9, 1.0, x.std(axis=0))
    pull = C * (labels - 1 / (1 + np.exp(-fitted.decision(x))))
    return float(np.linalg.norm(fitted.coef - pull @ z)), abs(float(pull.sum())) / (C * len(x))


@pytest.mark.parametrize(("n", "d"), [(30, 200), (60, 60), (61, 50), (200, 12)])
@pytest.mark.parametrize("kind", KINDS)
def test_decisions_are_scikit_learns_at_tight_tolerance(kind: str, n: int, d: int) -> None:
    x, labels = features(kind, n, d), labels_of(n, 2)
    folds = np.arange(n) % 3
    ours = stats.cross_decisions(x, labels, folds, GRID[:4])
    assert ours.shape == (2, 1, 4, n)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lbfgs complains when its line search meets rounding
        for c, strength in enumerate(GRID[:4]):
            for which, label in enumerate(labels):
                for fold in range(3):
                    held = folds == fold
                    theirs = peer(strength).fit(x[~held], label[~held]).decision_function(x[held])
                    found = ours[which, 0, c, held]
                    # lbfgs stops on a slope, which is farther from the optimum the flatter the loss is
                    np.testing.assert_allclose(found, theirs, atol=1e-4 if strength <= 1 else 3e-3)
                    if strength <= 1 and kind != "twins":  # rounding decides between twins
                        area = stats.auc(theirs, label[held])
                        assert stats.auc(found, label[held]) == pytest.approx(area, abs=1e-12)


@pytest.mark.parametrize(("n", "d"), [(40, 300), (90, 100), (100, 60)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_slope_is_zero_at_the_solution_however_weak_the_penalty(kind: str, n: int, d: int) -> None:
    x, labels = features(kind, n, d, 1), labels_of(n, 1)[0]
    for C in GRID:
        of_weights, of_intercept = slope(stats.fit_logistic(x, labels, C), x, labels, C)
        # The slope's own rounding grows with C and with the length of an item's features.
        assert of_weights < 1e-5 * max(1.0, C), C
        assert of_intercept < 1e-8, C


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 40), st.integers(1, 60), st.sampled_from(KINDS), st.sampled_from(GRID[:4]), st.integers(0, 99))
def test_the_slope_is_zero_at_the_solution_of_any_shape(n: int, d: int, kind: str, C: float, seed: int) -> None:
    x, labels = features(kind, n, d, seed), labels_of(n, 1, seed)[0]
    of_weights, of_intercept = slope(stats.fit_logistic(x, labels, C), x, labels, C)
    assert of_weights < 1e-5 * max(1.0, C)
    assert of_intercept < 1e-7


@pytest.mark.parametrize(("n", "d"), [(40, 100), (100, 40)])
def test_what_cannot_matter_does_not(n: int, d: int) -> None:
    x, labels = features("decaying", n, d), labels_of(n, 3)
    folds = stats.stratified_folds(labels[0], 4, 0)
    base = stats.cross_decisions(x, labels, folds, (1.0, 0.1))
    np.testing.assert_allclose(stats.cross_decisions(x, ~labels, folds, (1.0, 0.1)), -base, atol=1e-6)
    stretched = x * np.random.default_rng(0).uniform(0.01, 100, d) + 3
    np.testing.assert_allclose(stats.cross_decisions(stretched, labels, folds, (1.0, 0.1)), base, atol=1e-6)
    order = np.random.default_rng(1).permutation(n)
    shuffled = stats.cross_decisions(x[order], labels[:, order], folds[order], (1.0, 0.1))
    np.testing.assert_allclose(shuffled, base[..., order], atol=1e-6)
    np.testing.assert_allclose(stats.cross_decisions(x, labels, 7 - 3 * folds, (1.0, 0.1)), base, atol=1e-6)
    for which, label in enumerate(labels):  # alone, and with the others
        np.testing.assert_allclose(
            stats.cross_decisions(x, label[None], folds, [0.1])[0, :, 0], base[which, :, 1], atol=1e-6
        )


@pytest.mark.parametrize(("n", "d"), [(40, 100), (100, 40)])
def test_folds_are_held_out(n: int, d: int) -> None:
    x, labels = features("noise", n, d), labels_of(n, 1)
    folds = stats.stratified_folds(labels[0], 4, 0)
    decisions = stats.cross_decisions(x, labels, folds)[0, 0, 0]
    held = folds == 2
    alone = stats.fit_logistic(x[~held], labels[0, ~held]).decision(x[held])
    np.testing.assert_allclose(decisions[held], alone, atol=1e-6)
    other = labels.copy()
    other[0, held] ^= True
    blind = stats.cross_decisions(x, other, folds)[0, 0, 0]
    np.testing.assert_allclose(blind[held], decisions[held], atol=1e-7)
    assert not np.allclose(blind[~held], decisions[~held])
    moved = x.copy()
    moved[held] *= 50
    assert not np.allclose(stats.cross_decisions(moved, labels, folds)[0, 0, 0, ~held], decisions[~held])
    np.testing.assert_allclose(stats.fit_logistic(x, labels[0]).probability(x).mean(), labels.mean(), atol=1e-9)


@pytest.mark.parametrize(("n", "d"), [(40, 100), (100, 30)])
def test_labels_and_folds_may_differ_between_splits(n: int, d: int) -> None:
    x, labels = features("noise", n, d), labels_of(n, 6).reshape(3, 2, n)
    folds = np.stack([np.arange(n) % 4, np.arange(n) // 10 % 3])
    together = stats.cross_decisions(x, labels, folds, [1.0])
    assert together.shape == (3, 2, 1, n)
    for s in range(2):
        alone = stats.cross_decisions(x, labels[:, s], folds[s], [1.0])
        np.testing.assert_allclose(together[:, s], alone[:, 0], atol=1e-7)


@pytest.mark.parametrize(("n", "d"), [(30, 50), (50, 20)])
def test_working_in_pieces_changes_nothing(n: int, d: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    x, labels = features("decaying", n, d), labels_of(n, 17)
    folds = np.arange(n) % 5
    whole = stats.cross_decisions(x, labels, folds)
    fitted = stats.fit_logistic(x, labels[0])
    monkeypatch.setattr(logistic, "_CELLS", 4 * n)
    monkeypatch.setattr(logistic, "_GRAM_CELLS", 2 * n * n)
    monkeypatch.setattr(logistic, "_BLOCK_CELLS", 7 * n)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_allclose(stats.cross_decisions(mapped, labels, folds), whole, atol=2e-7)
    np.testing.assert_allclose(stats.fit_logistic(mapped, labels[0]).coef, fitted.coef, atol=1e-9)
    assert np.array_equal(stats.cross_decisions(x, labels, folds), stats.cross_decisions(x, labels, folds))


def test_what_the_dual_does_not_finish_the_primal_does(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = features("decaying", 50, 80), labels_of(50, 5)
    folds = np.arange(50) % 5
    dual = stats.cross_decisions(x, labels, folds, GRID[:4])
    monkeypatch.setattr(logistic, "_NEWTON_STEPS", 1)
    np.testing.assert_allclose(stats.cross_decisions(x, labels, folds, GRID[:4]), dual, atol=1e-6)


@pytest.mark.parametrize("few", [0, 1000])
def test_either_preconditioner_arrives_without_the_primal(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a fit was left to the primal")

    fits = []
    for kind, n, d in (("noise", 40, 300), ("decaying", 100, 120), ("far", 150, 160), ("twins", 50, 200)):
        x, labels = features(kind, n, d), labels_of(n, 20)
        fits.append((x, labels, stats.cross_decisions(x, labels, np.arange(n) % 5, GRID[:3])))
    monkeypatch.setattr(logistic, "_FEW", few)
    monkeypatch.setattr(logistic, "_dual_by_primal", refuse)
    for x, labels, found in fits:
        again = stats.cross_decisions(x, labels, np.arange(len(x)) % 5, GRID[:3])
        np.testing.assert_allclose(again, found, atol=1e-6)


def test_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = features("decaying", 60, 90), labels_of(60, 300)
    folds = np.arange(60) % 5
    ran: set[str] = set()
    solve = logistic._newton_dual

    def watched(*given: Any) -> Any:
        ran.add(threading.current_thread().name)
        return solve(*given)

    monkeypatch.setattr(logistic, "_CELLS", 48 * 60)
    monkeypatch.setattr(logistic, "_newton_dual", watched)
    with threadpool_limits(1):
        alone = stats.cross_decisions(x, labels, folds, (1.0, 0.1))
    assert ran == {threading.current_thread().name}
    ran.clear()
    with threadpool_limits(3):
        together = stats.cross_decisions(x, labels, folds, (1.0, 0.1))
    assert threading.current_thread().name not in ran
    assert np.array_equal(alone, together)


def test_one_class_in_training_has_no_decision() -> None:
    for n, d in ((9, 20), (9, 2)):
        x, folds = features("noise", n, d), np.arange(n) // 3
        labels = np.zeros((2, n), bool)
        labels[0, :2] = True  # only the first fold has positives
        labels[1, ::2] = True
        decisions = stats.cross_decisions(x, labels, folds, (1.0, 0.1))
        assert np.isnan(decisions[0, 0, :, :3]).all()
        assert np.isfinite(decisions[0, 0, :, 3:]).all()
        assert np.isfinite(decisions[1]).all()
        alone = stats.cross_decisions(x, labels[1:], folds, (1.0, 0.1))
        np.testing.assert_allclose(decisions[1], alone[0], atol=1e-6)
        assert np.isnan(stats.cross_decisions(x, labels, np.zeros(n, int))).all()  # nothing is left to learn from


def test_single_precision_and_wide_features_are_taken() -> None:
    x, labels = features("noise", 30, 20_000), labels_of(30, 1)
    half = x.astype(np.float32)
    np.testing.assert_allclose(
        stats.cross_decisions(half, labels, np.arange(30) % 3),
        stats.cross_decisions(half.astype(np.float64), labels, np.arange(30) % 3),
        atol=1e-9,
    )


def test_a_kernels_gram_matrix_is_enough() -> None:
    x, labels = features("decaying", 40, 90), labels_of(40, 1)[0]
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    dual, intercept = stats.fit_gram(z @ z.T, labels, 0.5)
    np.testing.assert_allclose(z @ z.T @ dual + intercept, stats.fit_logistic(x, labels, 0.5).decision(x), atol=1e-7)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 6), st.integers(0, 30), st.integers(0, 30), st.integers(0, 5))
def test_folds_are_stratified_and_even(k: int, more: int, others: int, seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.arange(2 * k + more + others) < k + more)
    folds = stats.stratified_folds(labels, k, seed)
    for part in (labels, ~labels, np.ones(len(labels), bool)):
        counts = np.bincount(folds[part], minlength=k)
        assert len(counts) == k
        assert counts.max() - counts.min() <= 1
    assert np.array_equal(folds, stats.stratified_folds(labels, k, seed))


def test_folds_depend_on_the_seed() -> None:
    labels = np.arange(60) < 20
    assert not np.array_equal(stats.stratified_folds(labels, 5, 0), stats.stratified_folds(labels, 5, 1))


def test_what_cannot_be_folded_or_fitted_is_said() -> None:
    labels = np.arange(20) < 3
    with pytest.raises(InputError, match=r"5 folds need 5 items of each class, and 3 are positive; use 3 folds\."):
        stats.stratified_folds(labels, 5, 0)
    with pytest.raises(InputError, match=r"and 1 are negative; collect more"):
        stats.stratified_folds(np.arange(9) < 8, 2, 0)
    with pytest.raises(InputError, match="2 folds or more"):
        stats.stratified_folds(labels, 1, 0)
    x = features("noise", 20, 4)
    with pytest.raises(InputError, match="one class"):
        stats.fit_logistic(x, np.ones(20, bool))
    with pytest.raises(InputError, match="one class"):
        stats.fit_gram(x @ x.T, np.zeros(20, bool))
    for bad in (
        lambda: stats.fit_logistic(x, labels, 0.0),
        lambda: stats.fit_logistic(x, labels[:-1]),
        lambda: stats.fit_gram(x, labels),
        lambda: stats.cross_decisions(x, labels[None], np.arange(20) % 2, [1.0, -1.0]),
        lambda: stats.cross_decisions(x, labels[None, :-1], np.arange(20) % 2),
        lambda: stats.cross_decisions(x, labels[None], np.arange(19) % 2),
    ):
        with pytest.raises(ValueError):
            bad()


@pytest.mark.parametrize("positives", [3, 5, 10, 12, 20, 22])
def test_dual_coefficients_are_what_each_item_pulls(positives: int) -> None:
    """At the optimum: C times the sign times the probability of the other class, and they add up to nothing."""
    x, labels = np.random.default_rng(positives).normal(size=(25, 40)), np.arange(25) < positives
    gram = x @ x.T / 40
    dual, intercept = stats.fit_gram(gram, labels, 2.0)
    sign = np.where(labels, 1.0, -1.0)
    decision = gram @ dual + intercept
    assert dual == pytest.approx(2.0 * sign / (1 + np.exp(sign * decision)), abs=1e-5)
    assert dual.sum() == pytest.approx(0, abs=1e-6)
