"""Permutation tests: exact where they can be, at their level where they are drawn, and blind to order."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterclaim import stats


def test_sign_flip_is_exact_for_few_pairs() -> None:
    from scipy.stats import permutation_test

    d = np.random.default_rng(0).normal(0.4, 1, 9)
    every = [np.mean(d * signs) for signs in itertools.product((1, -1), repeat=9)]
    expected = np.mean(np.abs(every) >= abs(d.mean()) - 1e-12)
    assert stats.sign_flip_test(d) == pytest.approx(expected)
    peer = permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert stats.sign_flip_test(d) == pytest.approx(peer.pvalue)


@pytest.mark.parametrize("n", [13, 60, 500])
def test_sign_flip_agrees_with_the_t_test_on_normal_data(n: int) -> None:
    from scipy.stats import ttest_1samp

    d = np.random.default_rng(n).normal(2 / math.sqrt(n), 1, n)
    expected = ttest_1samp(d, 0).pvalue
    draws = 20_000
    noise = 4 * math.sqrt(expected * (1 - expected) / draws)
    assert stats.sign_flip_test(d, draws) == pytest.approx(expected, abs=noise + 0.15 * expected)


@pytest.mark.parametrize("discrete", [False, True])
def test_sign_flip_holds_its_level(discrete: bool) -> None:
    rng = np.random.default_rng(1)
    runs, n = 600, 40
    p = np.empty(runs)
    for run in range(runs):
        d = rng.choice([-1.0, 0, 0, 1.0], n) if discrete else rng.standard_t(3, n)
        p[run] = stats.sign_flip_test(d, 499, seed=run)
    for alpha in (0.05, 0.2):
        assert np.mean(p <= alpha) <= alpha + 4 * math.sqrt(alpha * (1 - alpha) / runs)
    if not discrete:
        assert np.mean(p <= 0.2) >= 0.2 - 4 * math.sqrt(0.16 / runs)


def test_sign_flip_of_a_hundred_thousand_pairs_is_near_the_normal_answer() -> None:
    n = 100_000
    d = np.random.default_rng(0).normal(0, 1, n)
    d += 2 / math.sqrt(n) - d.mean()  # two standard errors from zero: p = 0.0455
    assert stats.sign_flip_test(d, 2000) == pytest.approx(0.0455, abs=4 * math.sqrt(0.0455 / 2000))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=0, max_size=30))
def test_sign_flip_p_is_a_p(d: list[float]) -> None:
    p = stats.sign_flip_test(d, 99)
    assert 0 < p <= 1
    assert stats.sign_flip_test([-x for x in d], 99) == pytest.approx(p, abs=0.35)


@pytest.mark.parametrize("draws", [9, 99, 499])
def test_a_drawn_p_is_never_below_one_in_its_draws_and_the_data(draws: int) -> None:
    """What was seen is itself one of the arrangements: p is (b + 1) / (draws + 1), and never 0."""
    d = np.ones(60)
    assert stats.sign_flip_test(d, draws) == pytest.approx(1 / (draws + 1), abs=0)
    everything = np.column_stack([d, d])
    nothing = np.column_stack([0 * d, d])
    assert stats.arm_swap_test(nothing, everything, _accuracy, draws) == pytest.approx(1 / (draws + 1), abs=0)
    assert stats.arm_swap_test(everything, nothing, _accuracy, draws) == pytest.approx(1 / (draws + 1), abs=0)


def test_where_every_arrangement_is_as_extreme_p_is_one() -> None:
    alone = np.r_[3.0, np.zeros(40)]  # one difference, and 40 prompts that say nothing
    assert stats.sign_flip_test(alone, 99) == 1.0
    assert stats.sign_flip_test(-alone, 99) == 1.0


def test_no_difference_is_never_significant() -> None:
    for n in (0, 5, 50):
        assert stats.sign_flip_test(np.zeros(n)) == 1.0


def test_half_sums_have_the_law_of_fair_coins() -> None:
    for rows in (
        np.random.default_rng(0).normal(size=(77, 2)),  # distinct rows: bytes
        np.repeat([[1.0, 2.0], [0.0, -1.0]], 100, axis=0),  # two kinds: binomials
    ):
        sums = stats.random_half_sums(rows, 40_000, 3)
        sd = np.sqrt(np.sum(rows**2, axis=0)) / 2
        assert np.abs(sums.mean(axis=0) - rows.sum(axis=0) / 2).max() <= 5 * sd.max() / 200
        assert sums.std(axis=0) == pytest.approx(sd, rel=0.03)
        assert (stats.random_half_sums(rows, 50, 3) == stats.random_half_sums(rows, 50, 3)).all()


def test_half_sums_take_each_row_whole() -> None:
    sums = stats.random_half_sums(np.diag(2.0 ** np.arange(10)), 500, 0)
    assert set(np.unique(sums / 2.0 ** np.arange(10))) == {0.0, 1.0}
    patterns = np.unique(sums @ np.ones(10)).size
    assert patterns > 350  # of 1,024 subsets, 500 draws


def _accuracy(sums: np.ndarray) -> np.ndarray:
    return sums[:, 0] / sums[:, 1]


def _one_each(hits: np.ndarray) -> np.ndarray:
    return np.column_stack([hits, np.ones(len(hits))]).astype(float)


def test_arm_swap_of_a_rate_is_mcnemar() -> None:
    control = np.repeat([1, 1, 0, 0], [31, 9, 24, 56])
    treated = np.repeat([1, 0, 1, 0], [31, 9, 24, 56])
    p = stats.arm_swap_test(_one_each(control), _one_each(treated), _accuracy, draws=40_000)
    exact = stats.mcnemar_exact(24, 9)
    assert p == pytest.approx(exact, abs=4 * math.sqrt(exact / 40_000))


def _hallucination(sums: np.ndarray) -> np.ndarray:
    return sums[:, 2] / (sums[:, 2] + sums[:, 3])


def test_arm_swap_holds_its_level_for_a_ratio() -> None:
    rng = np.random.default_rng(4)
    runs = 400
    p = np.empty(runs)
    for run in range(runs):
        ease = rng.random((60, 1)) < 0.5
        cells = np.where(ease, rng.choice(4, (60, 2), p=[0.6, 0.1, 0.2, 0.1]), rng.choice(4, (60, 2)))
        control, treated = np.eye(4)[cells[:, 0]], np.eye(4)[cells[:, 1]]
        p[run] = stats.arm_swap_test(control, treated, _hallucination, draws=399, seed=run)
    for alpha in (0.05, 0.2):
        assert np.mean(p <= alpha) <= alpha + 4 * math.sqrt(alpha * (1 - alpha) / runs)
        assert np.mean(p <= alpha) >= alpha - 4 * math.sqrt(alpha * (1 - alpha) / runs)


def test_arm_swap_finds_a_planted_difference() -> None:
    rng = np.random.default_rng(4)
    control = np.eye(4)[rng.choice(4, 200, p=[0.5, 0.1, 0.35, 0.05])]
    treated = np.eye(4)[rng.choice(4, 200, p=[0.5, 0.1, 0.2, 0.2])]
    assert stats.arm_swap_test(control, treated, _hallucination) < 0.001
    assert stats.arm_swap_test(control, control, _hallucination) == 1.0


def test_arm_swap_of_an_undefined_statistic_is_no_evidence() -> None:
    assert stats.arm_swap_test(np.zeros((5, 2)), np.ones((5, 2)), _accuracy) == 1.0
    with pytest.raises(ValueError):
        stats.arm_swap_test(np.zeros((5, 2)), np.ones((4, 2)), _accuracy)


def test_a_swap_that_leaves_the_statistic_undefined_counts_as_extreme() -> None:
    """Against every one of the 2^6 swaps: half of those that matter leave an arm without wrong answers."""
    control = np.eye(4)[[3, 3, 0, 0, 0, 0]]  # both wrong answers hedged
    treated = np.eye(4)[[0, 0, 2, 2, 1, 1]]  # both wrong answers, to other prompts, asserted
    both = np.stack([control, treated])
    undefined = extreme = 0
    for swapped in itertools.product((0, 1), repeat=6):
        one, other = (both[np.array(swapped) ^ side, np.arange(6)].sum(axis=0) for side in (0, 1))
        wrong = [sums[2] + sums[3] for sums in (one, other)]
        undefined += min(wrong) == 0
        extreme += min(wrong) > 0 and abs(other[2] / wrong[1] - one[2] / wrong[0]) == 1.0
    assert (undefined, extreme) == (8, 8)
    p = stats.arm_swap_test(control, treated, _hallucination, draws=20_000)
    assert p == pytest.approx((undefined + extreme) / 64, abs=4 * math.sqrt(0.25 * 0.75 / 20_000))


def test_cohen_d_by_its_definition() -> None:
    rng = np.random.default_rng(0)
    x, labels = rng.normal(5, 2, (40, 6)), np.arange(40) < 15
    one, other = x[labels], x[~labels]
    pooled = np.sqrt((14 * one.var(axis=0, ddof=1) + 24 * other.var(axis=0, ddof=1)) / 38)
    assert stats.cohen_d(x, labels) == pytest.approx((one.mean(axis=0) - other.mean(axis=0)) / pooled)


def test_cohen_d_of_constants() -> None:
    labels = np.arange(6) < 3
    d = stats.cohen_d(np.column_stack([np.full(6, 0.1), labels]), labels)
    assert d[0] == 0
    assert d[1] == np.inf
    with pytest.raises(ValueError):
        stats.cohen_d(np.zeros((3, 1)), [True, False, False])


def test_the_null_of_the_largest_d_is_that_of_shuffled_labels() -> None:
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(30, 8)), np.arange(30) < 12
    null = stats.permuted_max_d(x, labels, draws=3000, seed=1)
    slow = [np.abs(stats.cohen_d(x, rng.permutation(labels))).max() for _ in range(3000)]
    from scipy.stats import ks_2samp

    assert ks_2samp(null, slow).pvalue > 1e-3


def test_the_best_of_many_heads_is_judged_against_the_best_of_many() -> None:
    rng = np.random.default_rng(2)
    runs, alpha = 200, 0.1
    hits = naive = 0
    labels = np.arange(60) < 30
    for run in range(runs):
        x = rng.normal(size=(60, 40))
        observed = stats.cohen_d(x, labels)
        adjusted = stats.max_null(stats.permuted_max_d(x, labels, 199, run), observed)
        assert adjusted.shape == (40,)
        hits += adjusted.min() <= alpha
        naive += np.abs(observed).max() > 1.67 * math.sqrt(2 / 30)  # a t test of the best head alone
    assert hits / runs == pytest.approx(alpha, abs=4 * math.sqrt(alpha * (1 - alpha) / runs))
    assert naive / runs > 0.9
    planted = rng.normal(size=(60, 40))
    planted[:30, 7] += 2
    found = stats.max_null(stats.permuted_max_d(planted, labels, 999), stats.cohen_d(planted, labels))
    assert found[7] == 0.001
    assert np.sum(found < 0.05) == 1


def test_max_null_by_hand() -> None:
    permuted = np.array([[1.0, -3.0], [2.0, 0.5], [0.1, -0.2]])
    assert stats.max_null(permuted, [3.0, -2.5, 0.0]) == pytest.approx([2 / 4, 2 / 4, 1.0])
    assert stats.max_null([3.0, 2.0, 0.2], [5.0]) == pytest.approx([1 / 4])
