"""Bootstrap weights follow the multinomial law exactly; bootstrap draws agree with theory and with themselves."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, chisquare

from counterclaim import stats
from counterclaim.stats.resample import percentile_interval
from counterclaim.stats.weights import cell_weights, kinds_of


def _all_weights(n: int, draws: int, seed: int = 0) -> np.ndarray:
    return np.concatenate([block.copy() for block in stats.bootstrap_weights(n, draws, seed)])


@pytest.mark.parametrize("n", [1, 2, 3, 7, 164, 1000])
def test_weights_are_whole_and_sum_to_n(n: int) -> None:
    weights = _all_weights(n, 2003)
    assert weights.shape == (2003, n)
    assert (weights == np.round(weights)).all()
    assert (weights >= 0).all()
    assert (weights.sum(axis=1) == n).all()


@pytest.mark.parametrize("n", [2, 3, 10, 101])
def test_each_weight_is_binomial(n: int) -> None:
    draws = 60_000
    weights = _all_weights(n, draws, seed=5)
    for column in (0, n // 2, n - 1):
        seen = np.bincount(weights[:, column].astype(int), minlength=n + 1)
        expected = draws * binom.pmf(np.arange(n + 1), n, 1 / n)
        rare = int(np.argmax(expected < 20)) if (expected < 20).any() else n + 1
        folded = [np.append(x[:rare], x[rare:].sum()) for x in (seen, expected)]
        keep = folded[1] > 5
        ratio = folded[0][keep].sum() / folded[1][keep].sum()
        assert chisquare(folded[0][keep], folded[1][keep] * ratio).pvalue > 1e-4


def test_the_joint_law_of_three_items_is_multinomial() -> None:
    draws = 200_000
    rows, seen = np.unique(_all_weights(3, draws, seed=9), axis=0, return_counts=True)
    law = [6 / math.prod(math.factorial(int(k)) for k in row) / 27 for row in rows]
    assert len(rows) == 10
    assert chisquare(seen, np.array(law) * draws).pvalue > 1e-4


def test_weights_of_neighbours_are_correlated_as_the_multinomial_says() -> None:
    n, draws = 20, 100_000
    correlation = np.corrcoef(_all_weights(n, draws, seed=2).T)
    off = correlation[~np.eye(n, dtype=bool)]
    assert off == pytest.approx(-1 / (n - 1), abs=6 / math.sqrt(draws))


def test_weights_need_an_item_and_a_draw() -> None:
    for n, draws in ((0, 5), (5, 0)):
        with pytest.raises(ValueError):
            next(stats.bootstrap_weights(n, draws, 0))


def test_means_have_the_bootstraps_own_mean_and_spread() -> None:
    x = np.random.default_rng(1).normal(3, 2, (200, 2)) * [1, 1000]
    draws = stats.bootstrap_means(x, 20_000)
    assert draws.shape == (20_000, 2)
    spread = x.std(axis=0) / math.sqrt(200)
    assert draws.mean(axis=0) == pytest.approx(x.mean(axis=0), abs=5 * spread.max() / math.sqrt(20_000))
    assert draws.std(axis=0) == pytest.approx(spread, rel=0.03)


def test_columns_share_their_resamples() -> None:
    x = np.random.default_rng(1).normal(size=(50, 1))
    draws = stats.bootstrap_means(np.hstack([x, -2 * x, np.ones_like(x)]), 500)
    assert draws[:, 1] == pytest.approx(-2 * draws[:, 0], abs=1e-5)
    assert (draws[:, 2] == 1).all()


def test_equal_seeds_give_equal_bits_and_others_do_not() -> None:
    x = np.random.default_rng(1).normal(size=(300, 3))
    assert (stats.bootstrap_means(x, 400, 7) == stats.bootstrap_means(x, 400, 7)).all()
    assert (stats.bootstrap_means(x, 400, 7) != stats.bootstrap_means(x, 400, 8)).any()


@pytest.mark.parametrize("multiplicity", [[3, 1, 2], [60, 40], [1] * 30, [500, 3, 497]])
def test_kinds_are_drawn_as_often_as_items_would_be(multiplicity: list[int]) -> None:
    counts = np.array(multiplicity)
    n, draws = int(counts.sum()), 40_000
    weights = np.concatenate(list(cell_weights(counts, draws, 4)))
    assert weights.shape == (draws, len(counts))
    assert (weights.sum(axis=1) == n).all()
    spread = np.sqrt(counts * (1 - counts / n))
    assert np.abs(weights.mean(axis=0) - counts).max() <= 5 * spread.max() / math.sqrt(draws)
    assert weights.std(axis=0) == pytest.approx(spread, rel=0.05)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-1, 1)), min_size=1, max_size=30))
def test_kinds_count_every_row_once(rows: list[tuple[int, int]]) -> None:
    table = np.array(rows, float)
    kinds, multiplicity = kinds_of(table)
    expected, times = np.unique(table, axis=0, return_counts=True)
    assert (kinds == expected).all()
    assert (multiplicity == times).all()


def _rate(sums: np.ndarray) -> np.ndarray:
    return sums[:, 0] / sums[:, 1]


def test_a_rate_bootstraps_like_scipys() -> None:
    from scipy.stats import bootstrap

    hits = (np.random.default_rng(0).random(150) < 0.3).astype(float)
    ours = stats.bootstrap_counts(np.column_stack([hits, np.ones(150)]), _rate, draws=40_000)
    peer = bootstrap(
        (hits,), np.mean, n_resamples=40_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((peer.low, peer.high), abs=1 / 150 + 1e-9)
    assert ours.method == "cluster bootstrap, percentile"


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(12)))
def test_the_order_of_items_does_not_matter(order: list[int]) -> None:
    counts = np.column_stack([np.arange(12) % 3, np.full(12, 2)])
    one = stats.bootstrap_counts(counts, _rate, draws=200)
    assert stats.bootstrap_counts(counts[order], _rate, draws=200) == one


def test_clusters_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    per_prompt = np.where(rng.random(50) < 0.5, 8, 0)  # eight samples that always agree
    clustered = stats.bootstrap_counts(np.column_stack([per_prompt, np.full(50, 8)]), _rate)
    items = np.repeat(per_prompt > 0, 8).astype(float)
    naive = stats.bootstrap_counts(np.column_stack([items, np.ones(400)]), _rate)
    assert clustered.interval is not None
    assert naive.interval is not None
    ratio = (clustered.interval[1] - clustered.interval[0]) / (naive.interval[1] - naive.interval[0])
    assert ratio == pytest.approx(math.sqrt(8), rel=0.12)


def test_resamples_that_are_undefined_are_left_out_while_they_are_few() -> None:
    """One in twenty at most; they are no zeros, and do not shift the quantiles of the others."""
    whole = np.linspace(0.2, 0.8, 1_901)
    for lost in (np.nan, np.inf):
        found = percentile_interval(0.5, np.r_[whole, np.full(99, lost)], 30, 0.9, "m")
        assert found.interval == pytest.approx((0.23, 0.77))
        assert found.reason is None
    refused = percentile_interval(0.5, np.r_[whole, np.full(101, np.nan)], 30, 0.95, "m")
    assert (refused.estimate, refused.low, refused.high) == (0.5, None, None)
    assert "undefined on 5% of the resamples" in (refused.reason or "")


def test_exactly_one_resample_in_twenty_may_be_undefined() -> None:
    for n in (20, 60, 140, 2_000, 10_000):
        values = np.r_[np.linspace(0.2, 0.8, n - n // 20), np.full(n // 20, np.nan)]
        assert percentile_interval(0.5, values, 30, 0.95, "m").interval is not None, n
        values[0] = np.nan
        assert percentile_interval(0.5, values, 30, 0.95, "m").interval is None, n


def test_a_rate_within_two_answers_is_undefined_on_one_resample_in_eight_and_refused() -> None:
    rare = stats.bootstrap_counts(np.repeat(np.eye(4), [52, 6, 1, 1], axis=0), _hallucination, draws=4_000)
    assert (rare.estimate, rare.low) == (0.5, None)
    share = re.findall(r"undefined on (\d+)% of the resamples", rare.reason or "")
    assert float(share[0]) / 100 == pytest.approx((58 / 60) ** 60, abs=0.02)
    enough = stats.bootstrap_counts(np.repeat(np.eye(4), [50, 6, 2, 2], axis=0), _hallucination, draws=4_000)
    assert enough.interval is not None


def _hallucination(sums: np.ndarray) -> np.ndarray:
    return sums[:, 2] / (sums[:, 2] + sums[:, 3])


def test_counts_that_cannot_support_an_interval_say_so() -> None:
    never = stats.bootstrap_counts(np.zeros((5, 2)), _rate)
    assert never.estimate is None
    assert "denominator" in (never.reason or "")
    rare = stats.bootstrap_counts(np.eye(20, 2) * [1, 1] + [[0, 0]], lambda s: s[:, 0] / (s[:, 1] > 0))
    assert rare.estimate == 1.0
    assert rare.low is None
    assert "too rare" in (rare.reason or "")
    flat = stats.bootstrap_counts(np.ones((5, 2)), _rate)
    assert flat.estimate == 1.0
    assert flat.low is None
    assert flat.reason
    assert stats.bootstrap_counts(np.zeros((0, 2)), _rate).estimate is None
    with pytest.raises(ValueError):
        stats.bootstrap_counts(np.zeros(3), _rate)
