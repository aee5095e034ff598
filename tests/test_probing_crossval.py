"""Cross-validation of probes: what shuffled labels give, how exact the test is, and that order changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from counterclaim import InputError
from counterclaim.lab.probing.crossval import (
    Bools,
    CrossValidated,
    Floats,
    Ints,
    blocked_splits,
    cross_validate,
    fold_auc,
)
from counterclaim.lab.probing.taxonomy import within_fresh


def noise(n: int, d: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal((n, d))


def centroids(x: Floats, labels: Bools, folds: Ints, C: Sequence[float]) -> Floats:
    """A cheap stand-in for the probe: the projection on the difference of the training classes' means."""
    out = np.empty((len(labels), len(folds), len(C), len(x)))
    for split, fold in enumerate(folds):
        for name in np.unique(fold):
            held = fold == name
            positive = labels[:, ~held].astype(float)
            up = positive / positive.sum(axis=1, keepdims=True)
            down = (1 - positive) / (1 - positive).sum(axis=1, keepdims=True)
            out[:, split, :, held] = ((up - down) @ x[~held] @ x[held].T).T[:, :, None]
    return out


def test_one_split_of_pure_noise_spreads_more_than_the_mann_whitney_formula_says() -> None:
    labels = np.arange(100) < 58
    found = cross_validate(noise(100, 2_048), labels, splits=1, permutations=300)[0]
    assert 0.070 < found.null_sd < 0.092  # 0.076 to 0.086 were measured; Mann-Whitney says 0.059
    assert abs(found.null.mean() - 0.5) < 0.02


@pytest.mark.parametrize(("n", "positives"), [(60, 30), (60, 14), (90, 9)])
def test_the_permutation_test_is_exact_on_noise(n: int, positives: int) -> None:
    labels = np.arange(n) < positives
    p = [
        cross_validate(noise(n, 20, seed), labels, splits=5, permutations=99, seed=seed, decide=centroids)[0].p
        for seed in range(300)
    ]
    for level in (0.05, 0.2, 0.5):
        rejected = np.mean([value is not None and value <= level for value in p])
        assert abs(rejected - level) < 3.3 * (level * (1 - level) / 300) ** 0.5


def test_a_direction_of_known_strength_is_found() -> None:
    labels = np.arange(200) % 2 == 0
    x = noise(200, 8)
    x[:, 0] += 1.0 * labels  # d' 1: the best AUC is Phi(1 / sqrt 2) = 0.76
    found = cross_validate(x, labels, C=(1.0, 0.01), splits=4, permutations=60)
    assert all(0.68 < each.mean < 0.82 for each in found)
    assert all(each.p == 1 / 61 for each in found)
    none = cross_validate(noise(200, 8, 5), labels, splits=4, permutations=60)[0]
    assert none.p is not None
    assert none.p > 0.05


def test_shuffles_leave_every_fold_as_it_was() -> None:
    labels = np.random.default_rng(0).random(83) < 0.3
    made = blocked_splits(labels, 5, 7, seed=3)
    shuffled = made.shuffle(labels, 200, seed=3)
    for folds in made.folds:
        for fold in range(5):
            assert (shuffled[:, folds == fold].sum(axis=1) == labels[folds == fold].sum()).all()
            assert abs(int((folds == fold).sum()) - 83 / 5) <= 4
    share = shuffled.mean(axis=0)
    assert share.std() < 0.06  # every item is positive about equally often


@pytest.mark.parametrize("positives", [9, 184, 58])
def test_folds_have_equal_counts_of_the_rarer_class(positives: int) -> None:
    labels = np.arange(193) < positives
    rare = labels if positives < 97 else ~labels
    for folds in blocked_splits(labels, 5, 3, seed=0).folds:
        counts = np.bincount(folds[rare])
        assert counts.max() - counts.min() <= 1


def test_too_few_of_a_class_for_the_folds_is_refused() -> None:
    with pytest.raises(InputError, match=r"5 folds cannot be made from 3 positives and 97 negatives; use 3 folds"):
        blocked_splits(np.arange(100) < 3, 5, 1, seed=0)


def test_the_order_of_rows_changes_nothing() -> None:
    labels = np.random.default_rng(1).random(60) < 0.4
    x = noise(60, 12)
    mixed = np.random.default_rng(2).permutation(60)
    here, there = (
        cross_validate(a, b, splits=3, permutations=30, seed=4)[0] for a, b in ((x, labels), (x[mixed], labels[mixed]))
    )
    np.testing.assert_allclose(here.aucs, there.aucs, atol=1e-12)
    np.testing.assert_allclose(here.null, there.null, atol=1e-12)
    np.testing.assert_allclose(here.decisions[:, mixed], there.decisions, atol=1e-6)
    assert here.p == there.p


def test_the_auc_of_folds_is_that_of_scikit_learn_with_ties() -> None:
    random = np.random.default_rng(0)
    decisions = np.round(random.standard_normal((3, 60)), 1)
    labels, folds = random.random((3, 60)) < 0.5, np.arange(60) % 4
    expected = [
        np.mean([roc_auc_score(y[folds == f], s[folds == f]) for f in range(4)])
        for y, s in zip(labels, decisions, strict=True)
    ]
    np.testing.assert_allclose(fold_auc(decisions, labels, folds), expected, atol=1e-12)


def test_without_shuffles_there_is_no_p() -> None:
    found = cross_validate(noise(40, 3), np.arange(40) < 20, splits=2, permutations=0)[0]
    assert found.p is None
    assert found.summary().null_sd is None
    assert found.bound(0.95) is None


def test_few_items_are_not_searched_within() -> None:
    assert within_fresh(noise(193, 4), np.arange(193) < 9) is None


def test_a_shuffle_that_does_as_well_to_the_last_bit_counts() -> None:
    def p_of(null: Sequence[float]) -> float | None:
        return CrossValidated(1.0, np.array([0.7]), np.zeros((1, 4)), 0.7, np.array(null), 0.1).p

    assert p_of([0.7, 0.6, 0.5]) == 2 / 4
    assert p_of([0.7 - 1e-15, 0.7 + 1e-15, 0.8]) == 4 / 4
    assert p_of([0.69, 0.6, 0.5]) == 1 / 4
