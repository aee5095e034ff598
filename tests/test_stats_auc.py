"""AUC: against scikit-learn, published variances, and its own resamples."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterclaim import stats
from counterclaim.records import Estimate
from counterclaim.stats.auc import _Ranked

BOTH = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(BOTH)
def test_auc_counts_pairs(rows: list[tuple[int, bool]]) -> None:
    wins = [
        1.0 if p > n else 0.5 if p == n else 0.0 for p, positive in rows if positive for n, other in rows if not other
    ]
    found = stats.auc([score for score, _ in rows], [label for _, label in rows])
    assert found == (pytest.approx(np.mean(wins)) if wins else None)


@settings(max_examples=60, deadline=None)
@given(BOTH)
def test_delong_is_defined_whenever_both_classes_are_there(rows: list[tuple[int, bool]]) -> None:
    scores, labels = [score for score, _ in rows], [label for _, label in rows]
    found = stats.delong(scores, labels)
    if len(set(labels)) < 2:
        assert found.estimate is None
        return
    assert found.interval is not None
    assert 0 <= found.interval[0] <= found.estimate <= found.interval[1] <= 1
    assert found.interval[0] < found.interval[1]
    mirrored = stats.delong([-score for score in scores], labels)
    assert mirrored.estimate == pytest.approx(1 - found.estimate)
    assert mirrored.interval == pytest.approx((1 - found.interval[1], 1 - found.interval[0]))


def _slow_delong(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Structural components straight from DeLong et al. 1988, eq. 5 and 6."""
    x, y = scores[labels], scores[~labels]
    psi = (x[:, None] > y) + 0.5 * (x[:, None] == y)
    return psi.mean(axis=1), psi.mean(axis=0)


def test_delong_paired_by_its_definition() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(50) < 20
    control = np.round(rng.normal(size=50) + labels, 1)
    treated = np.round(control + rng.normal(size=50) + 0.5 * labels, 1)
    v10t, v01t = _slow_delong(treated, labels)
    v10c, v01c = _slow_delong(control, labels)
    variance = np.var(v10t - v10c, ddof=1) / 20 + np.var(v01t - v01c, ddof=1) / 30
    found = stats.delong_paired(treated, labels, control, labels)
    difference = v10t.mean() - v10c.mean()
    half = 1.959964 * np.sqrt(variance)
    assert found.estimate == pytest.approx(difference)
    assert found.interval == pytest.approx((difference - half, difference + half), abs=1e-6)


def test_delong_on_the_logit_scale_by_its_definition() -> None:
    from scipy.special import expit, logit
    from scipy.stats import t

    rng = np.random.default_rng(0)
    labels = np.arange(50) < 20
    scores = np.round(rng.normal(size=50) + labels, 1)
    v10, v01 = _slow_delong(scores, labels)
    a, b = np.var(v10, ddof=1) / 20, np.var(v01, ddof=1) / 30
    df = (a + b) ** 2 / (a**2 / 19 + b**2 / 29)
    area = v10.mean()
    half = t.ppf(0.975, df) * np.sqrt(a + b) / (area * (1 - area))
    found = stats.delong(scores, labels)
    assert found.estimate == pytest.approx(area)
    assert found.interval == pytest.approx((expit(logit(area) - half), expit(logit(area) + half)))


def test_separated_classes_do_not_pass_for_certainty() -> None:
    found = stats.delong([1, 2, 3, 4, 5, 6], [0, 0, 0, 1, 1, 1])
    assert found.estimate == found.high == 1.0
    assert found.low is not None
    assert 0.3 < found.low < 0.7
    assert found.method == "Newcombe score (AUC)"


def test_paired_needs_spread_and_both_classes() -> None:
    scores = np.arange(10.0)
    labels = np.arange(10) % 2 == 0
    same = stats.delong_paired(scores, labels, scores, labels)
    assert (same.estimate, same.low) == (0.0, None)
    one = stats.delong_paired(scores, np.ones(10), scores, labels)
    assert one.estimate is None
    assert one.reason
    apart = stats.delong_paired(scores, scores > 4, scores, labels)
    assert apart.estimate is not None
    assert apart.low is None


def test_bootstrap_areas_equal_the_auc_of_the_resample() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 6, 25).astype(float), rng.random(25) < 0.4
    ranked = _Ranked(scores, labels, np.arange(25))
    weights = np.concatenate([block.copy() for block in stats.bootstrap_weights(25, 40, 0)])
    slow = [stats.auc(np.repeat(scores, w.astype(int)), np.repeat(labels, w.astype(int))) for w in weights]
    assert ranked.areas(weights) == pytest.approx(np.array(slow, float), abs=1e-12)


def test_bootstrap_agrees_with_delong_on_enough_items() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(600) < 0.5
    scores = rng.normal(size=600) + labels
    boot, exact = stats.bootstrap_auc(scores, labels), stats.delong(scores, labels)
    assert boot.estimate == exact.estimate
    assert boot.interval == pytest.approx(exact.interval, abs=0.005)
    treated = scores + 0.3 * labels + 0.5 * rng.normal(size=600)
    pair = stats.bootstrap_auc_difference(treated, labels, scores, labels)
    analytic = stats.delong_paired(treated, labels, scores, labels)
    assert pair.interval == pytest.approx(analytic.interval, abs=0.005)


def test_paired_with_other_labels_agrees_with_the_bootstrap() -> None:
    rng = np.random.default_rng(5)
    control_labels = rng.random(600) < 0.5
    treated_labels = np.where(rng.random(600) < 0.3, ~control_labels, control_labels)
    shared = rng.normal(size=600)
    control, treated = shared + control_labels, shared + 1.3 * treated_labels
    boot = stats.bootstrap_auc_difference(treated, treated_labels, control, control_labels)
    analytic = stats.delong_paired(treated, treated_labels, control, control_labels)
    assert "clustered" in analytic.method
    assert boot.interval == pytest.approx(analytic.interval, abs=0.006)


def test_clusters_are_drawn_whole() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2 == 0
    scores = rng.normal(size=40) + labels
    clusters = np.array([f"p{i}" for i in range(40)])
    alone = stats.bootstrap_auc(scores, labels, clusters=clusters)
    assert alone.n == 40
    repeated = stats.bootstrap_auc(
        np.tile(scores, 5), np.tile(labels, 5), clusters=np.tile(clusters, 5)
    )  # five copies of an item say no more than one
    assert repeated.interval == alone.interval
    assert repeated.method == "cluster bootstrap, percentile"
    naive = stats.bootstrap_auc(np.tile(scores, 5), np.tile(labels, 5))
    assert naive.high - naive.low < 0.6 * (alone.high - alone.low)  # type: ignore[operator]


def test_rare_classes_are_refused_by_the_bootstrap() -> None:
    labels = np.arange(50) < 2
    found = stats.bootstrap_auc(np.arange(50.0), labels)
    assert found.low is None
    assert "too rare" in (found.reason or "")
    assert stats.bootstrap_auc(np.arange(5.0), np.zeros(5)).estimate is None
    pair = stats.bootstrap_auc_difference(np.arange(5.0), np.zeros(5), np.arange(5.0), [0, 1, 0, 1, 0])
    assert pair.estimate is None


@settings(max_examples=20, deadline=None)
@given(BOTH)
def test_delong_is_blind_to_order_and_to_monotone_scores(rows: list[tuple[int, bool]]) -> None:
    one = stats.delong([s for s, _ in rows], [label for _, label in rows])
    other = stats.delong([float(np.exp(s)) for s, _ in rows[::-1]], [label for _, label in rows[::-1]])
    assert (one.estimate is None) == (other.estimate is None)
    if one.interval is not None:
        assert other.interval == pytest.approx(one.interval)


def test_bad_shapes_and_numbers_are_refused() -> None:
    for call in (
        lambda: stats.auc([1.0, 2.0], [True]),
        lambda: stats.delong([1.0, np.nan], [True, False]),
        lambda: stats.delong_paired([1.0], [1], [1.0, 2.0], [1, 0]),
        lambda: stats.bootstrap_auc_difference([1.0], [1], [1.0, 2.0], [1, 0]),
        lambda: stats.bootstrap_auc([1.0, 2.0], [1, 0], clusters=[1]),
    ):
        with pytest.raises(ValueError):
            call()


@pytest.mark.parametrize(("positives", "negatives"), [(55, 138), (9, 184), (40, 40)])
def test_the_auc_that_a_design_can_tell_from_chance_is_told_in_four_draws_of_five(
    positives: int, negatives: int
) -> None:
    area = stats.mde_auc(positives, negatives)
    separation = 2**0.5 * NormalDist().inv_cdf(area)
    rng = np.random.default_rng(positives)
    labels = np.repeat([True, False], [positives, negatives])
    scores = rng.standard_normal((600, len(labels))) + separation * labels
    told = np.mean([(stats.delong(row, labels).low or 0.0) > 0.5 for row in scores])
    assert 0.72 < told < 0.88


def test_an_auc_cannot_be_told_without_two_of_each_class() -> None:
    assert stats.mde_auc(1, 100) == np.inf
    assert stats.mde_auc(50, 50, null_sd=0.08) > stats.mde_auc(50, 50)


def test_an_out_of_fold_interval_is_widened_by_the_spread_of_shuffled_labels_and_never_narrowed() -> None:
    plain = Estimate(0.7, 0.6, 0.8, 0.95, "m", 50)
    alone = math.sqrt(51 / (12 * 20 * 30))

    def half(factor: float | None, area: float = 0.7) -> float:
        found = stats.widen_auc(plain, area, None if factor is None else factor * alone, 20, 30)
        (low, high), odds = found.interval or (0.0, 0.0), area / (1 - area)
        assert high / (1 - high) / odds == pytest.approx(odds / (low / (1 - low)))
        return math.log(high / (1 - high) / odds)

    assert half(2.0) == pytest.approx(2 * half(1.0))
    assert half(0.5) == half(None) == half(1.0) == pytest.approx(half(1.0, area=0.6))
    perfect = stats.widen_auc(Estimate(1.0, 0.9, 1.0, 0.95, "m", 50), 1.0, 2 * alone, 20, 30)
    assert perfect.interval == (0.9, 1.0)
