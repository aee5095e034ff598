"""Means: one arm, paired, over seeds, at equal style."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterclaim import stats


def test_paired_mean_matches_scipy() -> None:
    from scipy.stats import ttest_rel

    rng = np.random.default_rng(0)
    control, treated = rng.normal(size=(2, 30))
    peer = ttest_rel(treated, control).confidence_interval(0.9)
    found = stats.paired_mean(treated - control, 0.9)
    assert (found.low, found.high) == pytest.approx((peer.low, peer.high))
    assert (found.method, found.n, found.level) == ("paired t", 30, 0.9)
    assert stats.mean(treated - control, 0.9).interval == found.interval


def test_mean_without_a_spread_has_no_interval() -> None:
    assert stats.mean([]).estimate is None
    one = stats.paired_mean([0.4])
    assert (one.estimate, one.low) == (0.4, None)
    same = stats.paired_mean([0.1] * 50)
    assert (same.estimate, same.low) == (0.1, None)
    assert "equal" in (same.reason or "")


def test_equal_values_on_a_bounded_scale_follow_the_rule_of_three() -> None:
    found = stats.paired_mean(np.zeros(300), 0.9, scale=(-1.0, 1.0))
    assert found.estimate == 0.0
    assert found.high == pytest.approx(3 / 300, rel=0.01)
    assert found.low == -found.high  # type: ignore[operator]
    exact = 1 - 0.05 ** (1 / 300)
    assert found.high == pytest.approx(exact)


def test_an_interval_keeps_to_the_scale() -> None:
    perfect = stats.mean(np.ones(30), scale=(0.0, 1.0))
    assert (perfect.low, perfect.high) == (pytest.approx(0.025 ** (1 / 30)), 1.0)
    few = stats.mean([1.0, 0.0, 1.0, 0.0, 1.0], scale=(0.0, 1.0))
    assert (few.low, few.high) == (0.0, 1.0)
    assert stats.paired_mean([1.0, 0.0, 1.0], scale=(-1.0, 1.0)).high == 1.0
    wide = stats.mean([1.0, 0.0, 1.0, 0.0, 1.0])
    assert wide.low is not None
    assert wide.low < 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20), st.randoms())
def test_mean_is_inside_and_blind_to_order(x: list[float], random: object) -> None:
    found = stats.mean(x)
    assert found.estimate is not None
    if found.interval is not None:
        assert found.interval[0] <= found.estimate <= found.interval[1]
    assert stats.mean(sorted(x)).estimate == pytest.approx(found.estimate, abs=1e-9)


def test_one_seed_says_nothing_of_others() -> None:
    found = stats.random_effects([0.3], shared_se=0.05)
    assert (found.estimate, found.low, found.n) == (0.3, None, 1)
    assert stats.random_effects([]).estimate is None
    assert stats.random_effects([0.2, 0.2]).low is None
    with pytest.raises(ValueError):
        stats.random_effects([0.1, 0.2], shared_se=-1)


def test_seeds_alone_are_a_t_interval_over_seeds() -> None:
    effects = [0.1, 0.25, -0.05, 0.3]
    assert stats.random_effects(effects).interval == pytest.approx(stats.mean(effects).interval)


def test_shared_prompts_widen_and_known_noise_is_a_floor() -> None:
    effects = [0.10, 0.11, 0.12]
    plain = stats.random_effects(effects)
    floored = stats.random_effects(effects, [0.2, 0.2, 0.2])
    assert floored.high - floored.low > 5 * (plain.high - plain.low)  # type: ignore[operator]
    shared = stats.random_effects(effects, shared_se=1.0)
    # The shared part is known, so it brings normal quantiles: Satterthwaite's degrees of freedom are huge.
    assert shared.high - 0.11 == pytest.approx(1.96, rel=0.001)  # type: ignore[operator]


def test_ancova_matches_statsmodels_hc3() -> None:
    import statsmodels.api as sm

    rng = np.random.default_rng(0)
    style = rng.normal(1, [1, 50], (40, 2))
    d = 0.3 + style @ [0.5, -0.01] + rng.normal(size=40) * (1 + np.abs(style[:, 0]))
    peer = sm.OLS(d, sm.add_constant(style)).fit(cov_type="HC3", use_t=True)
    effect, slopes, r2 = stats.ancova(d, style)
    low, high = peer.conf_int()[0]
    assert effect.estimate == pytest.approx(peer.params[0])
    assert (effect.low, effect.high) == pytest.approx((low, high))
    assert slopes == pytest.approx(peer.params[1:])
    assert r2 == pytest.approx(peer.rsquared)


def test_ancova_tells_style_from_effect() -> None:
    rng = np.random.default_rng(1)
    longer = rng.normal(2, 1, 200)
    style_only, _, r2 = stats.ancova(0.5 * longer + rng.normal(0, 0.3, 200), longer)
    assert style_only.low is not None
    assert style_only.low < 0 < style_only.high  # type: ignore[operator]
    assert r2 > 0.5
    real, _, _ = stats.ancova(0.5 + 0.5 * longer + rng.normal(0, 0.3, 200), longer)
    assert real.low is not None
    assert 0.3 < real.low < 0.5 < real.high  # type: ignore[operator]


def test_ancova_says_what_cannot_be_told_apart() -> None:
    rng = np.random.default_rng(1)
    d = rng.normal(size=20)
    constant, _, _ = stats.ancova(d, np.full(20, 3.0))
    assert constant.estimate is None
    assert "told apart" in (constant.reason or "")
    few, _, _ = stats.ancova(d[:2], rng.normal(size=(2, 3)))
    assert few.estimate is None
    alone, _, _ = stats.ancova(d, np.eye(20)[0])
    assert alone.estimate is not None
    assert alone.low is None
    exact, _, r2 = stats.ancova(2 * np.arange(9.0), np.arange(9.0))
    assert exact.low is None
    assert r2 == pytest.approx(1)


def test_ancova_survives_repeated_and_empty_columns() -> None:
    rng = np.random.default_rng(1)
    x, d = rng.normal(size=(30, 1)), rng.normal(size=30)
    plain, slopes, _ = stats.ancova(d, x)
    doubled, halves, _ = stats.ancova(d, np.hstack([x, x, np.zeros_like(x)]))
    assert doubled.interval == pytest.approx(plain.interval)
    assert halves == pytest.approx([slopes[0] / 2, slopes[0] / 2, 0], abs=1e-12)
    none, nothing, _ = stats.ancova(d, np.zeros((30, 0)))
    assert none.estimate == pytest.approx(d.mean())
    assert nothing.shape == (0,)
    assert math.isfinite(none.low or math.nan)


def test_tails_of_the_normal_law_are_those_of_scipy() -> None:
    from scipy.stats import norm

    z = np.array([-2.5, 0.0, 0.7, 1.959964, 6.0])
    assert [stats.distributions.normal_tail(float(each)) for each in z] == pytest.approx(norm.sf(z))
    assert stats.distributions.normal_tails(z) == pytest.approx(norm.sf(z))
