"""Equivalence, power and families of tests."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterclaim import stats
from counterclaim.records import Estimate


def test_tost_matches_statsmodels_on_paired_differences() -> None:
    from statsmodels.stats.weightstats import DescrStatsW

    d = np.random.default_rng(0).normal(0.02, 0.2, 60)
    p, (_, p_lower, _), (_, p_upper, _) = DescrStatsW(d).ttost_mean(-0.1, 0.1)
    found = stats.tost(d, 0.1)
    assert found is not None
    assert (found.p, found.p_lower, found.p_upper) == pytest.approx((p, p_lower, p_upper))
    assert found.equivalent == (p < 0.05)
    from_interval = stats.tost(stats.paired_mean(d), 0.1, df=59)
    assert from_interval is not None
    assert from_interval.p == pytest.approx(p)


def test_the_papers_asymmetry_is_not_shown_to_be_nothing() -> None:
    found = stats.tost_proportions(38, 42, 53, 58, 0.05)
    assert found is not None
    assert found.p == pytest.approx(0.25, abs=0.01)
    assert not found.equivalent


@pytest.mark.parametrize("counts", [(38, 42, 53, 58), (5, 10, 20, 30), (90, 100, 180, 200), (1, 20, 1, 25)])
@pytest.mark.parametrize("margin", [0.05, 0.2])
def test_tost_of_proportions_uses_the_likeliest_pair_on_the_margin(
    counts: tuple[int, int, int, int], margin: float
) -> None:
    from scipy.special import xlog1py, xlogy

    k1, n1, k0, n0 = counts
    found = stats.tost_proportions(*counts, margin)
    assert found is not None
    for gap, p in ((-margin, found.p_lower), (margin, found.p_upper)):
        q1 = np.linspace(max(0, gap), min(1, 1 + gap), 200_001)
        q0 = np.clip(q1 - gap, 0, 1)
        likelihood = xlogy(k1, q1) + xlog1py(n1 - k1, -q1) + xlogy(k0, q0) + xlog1py(n0 - k0, -q0)
        best = int(np.argmax(likelihood))
        se = math.sqrt(q1[best] * (1 - q1[best]) / n1 + q0[best] * (1 - q0[best]) / n0)
        z = abs(k1 / n1 - k0 / n0 - gap) / se
        beyond = abs(k1 / n1 - k0 / n0) > margin and (k1 / n1 - k0 / n0) * gap > 0
        expected = math.erfc(z / math.sqrt(2)) / 2
        assert p == pytest.approx(1 - expected if beyond else expected, abs=1e-4)


@pytest.mark.parametrize(("n1", "n0", "p0"), [(42, 58, 0.9), (100, 100, 0.5), (400, 100, 0.2)])
def test_tost_of_proportions_holds_its_level_on_the_margin(n1: int, n0: int, p0: float) -> None:
    rng = np.random.default_rng(1)
    margin, runs = 0.1, 1500
    shown = 0
    for _ in range(runs):
        k1, k0 = int(rng.binomial(n1, p0 - margin)), int(rng.binomial(n0, p0))
        found = stats.tost_proportions(k1, n1, k0, n0, margin)
        assert found is not None
        shown += found.equivalent
    assert shown / runs <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / runs)


def test_tost_holds_its_level_and_finds_equality() -> None:
    rng = np.random.default_rng(2)
    runs = 1500
    at_margin = sum(stats.tost(rng.normal(0.1, 0.3, 80), 0.1).equivalent for _ in range(runs))  # type: ignore[union-attr]
    equal = sum(stats.tost(rng.normal(0, 0.3, 200), 0.1).equivalent for _ in range(200))  # type: ignore[union-attr]
    assert at_margin / runs == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / runs))
    assert equal > 190


def test_tost_uses_each_side_of_an_asymmetric_interval() -> None:
    found = stats.tost(Estimate(0.0, -0.2, 0.1, 0.95, "any", 50), 0.1)
    assert found is not None
    assert found.p_upper == pytest.approx(0.025, abs=1e-9)
    assert found.p_lower == pytest.approx(0.1635, abs=1e-3)  # 0.1 is 0.98 errors of 0.2 / 1.96


def test_tost_of_nothing_is_nothing() -> None:
    assert stats.tost(Estimate.undefined("no items"), 0.1) is None
    assert stats.tost([0.1], 0.1) is None
    assert stats.tost(np.zeros(5), 0.1) is None
    assert stats.tost(Estimate(0.0, 0.0, 0.1, 0.95, "any", 5), 0.1) is None
    assert stats.tost_proportions(0, 0, 1, 2, 0.1) is None
    for call in (lambda: stats.tost([1.0, 2.0], 0.0), lambda: stats.tost_proportions(3, 2, 1, 2, 0.1)):
        with pytest.raises(ValueError):
            call()


@pytest.mark.parametrize(("n", "alpha"), [(8, 0.05), (50, 0.01), (900, 0.05)])
def test_mde_matches_statsmodels(n: int, alpha: float) -> None:
    from statsmodels.stats.power import TTestPower

    effect = TTestPower().solve_power(nobs=n, alpha=alpha, power=0.8)
    assert stats.mde(2.0, n, alpha) == pytest.approx(2 * effect, rel=1e-4)
    assert stats.n_for(2.0, stats.mde(2.0, n, alpha) * 1.00001, alpha) == n


@pytest.mark.parametrize("n", [6, 40, 2000])
def test_power_of_the_t_test_is_what_simulation_finds(n: int) -> None:
    from scipy.special import stdtr

    rng = np.random.default_rng(n)
    runs = 3000
    x = rng.normal(stats.mde(1.0, n), 1.0, (runs, n))
    t = x.mean(axis=1) / (x.std(axis=1, ddof=1) / math.sqrt(n))
    share = np.mean(2 * stdtr(n - 1, -np.abs(t)) < 0.05)
    assert share == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / runs))


@pytest.mark.parametrize(("n", "rate", "effect"), [(40, 0.3, 0.2), (200, 0.1, 0.05), (25, 0.5, -0.4)])
def test_power_of_mcnemar_is_what_simulation_finds(n: int, rate: float, effect: float) -> None:
    rng = np.random.default_rng(0)
    runs = 3000
    expected = stats.power_mcnemar(rate, n, effect)
    m = rng.binomial(n, rate, runs)
    b = rng.binomial(m, (rate + effect) / (2 * rate))
    share = np.mean([stats.mcnemar_exact(int(x), int(y - x)) <= 0.05 for x, y in zip(b, m, strict=True)])
    assert share == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / runs))


def test_binary_design_and_its_inverse_agree() -> None:
    effect = stats.mde_binary_paired(0.2, 150)
    assert stats.power_mcnemar(0.2, 150, effect) == pytest.approx(0.8, abs=1e-3)
    n = stats.n_for_binary_paired(0.2, effect)
    assert 140 <= n <= 150  # exact power has teeth
    assert stats.power_mcnemar(0.2, n, effect) >= 0.8
    assert stats.mde_binary_paired(0.0, 100) < 0.12  # a difference implies disagreement
    assert stats.mde_binary_paired(0.5, 5) == math.inf  # five pairs cannot reach p <= .05
    assert stats.power_mcnemar(0.0, 6, 1.0) == 1.0


def test_degenerate_designs() -> None:
    assert stats.mde(1.0, 1) == math.inf
    assert stats.mde(0.0, 10) == 0.0
    assert stats.power_paired_t(1.0, 1, 5.0) == 0.0
    assert stats.power_paired_t(0.0, 5, 0.1) == 1.0
    assert stats.power_mcnemar(0.0, 10, 0.0) == 0.0
    for call in (
        lambda: stats.n_for(1.0, 0.0),
        lambda: stats.n_for_binary_paired(0.1, 0.0),
        lambda: stats.mde(1.0, 10, alpha=0.0),
        lambda: stats.n_to_settle(0.1, 10, 0.0),
    ):
        with pytest.raises(ValueError):
            call()


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5000), st.floats(0.01, 0.5), st.floats(0.005, 0.5))
def test_n_to_settle_leaves_no_room_for_both(n: int, half: float, margin: float) -> None:
    needed = stats.n_to_settle(half, n, margin)
    assert needed >= n
    assert half * math.sqrt(n / needed) <= margin / 2 or needed == n
    if needed > n:
        assert half * math.sqrt(n / (needed - 1)) >= margin / 2 * (1 - 1e-9)


def test_n_to_settle_is_what_simulation_finds() -> None:
    rng = np.random.default_rng(0)
    first = stats.paired_mean(rng.normal(0.02, 0.4, 400))
    assert first.interval is not None
    n = stats.n_to_settle((first.interval[1] - first.interval[0]) / 2, 400, 0.05)
    widths = [stats.paired_mean(rng.normal(0.02, 0.4, n)).interval for _ in range(50)]
    assert np.mean([high - low for low, high in widths if low is not None]) == pytest.approx(0.05, rel=0.1)  # type: ignore[misc]


def test_n_for_is_what_simulation_finds() -> None:
    rng = np.random.default_rng(0)
    n = stats.n_for(0.4, 0.08, 0.01)
    found = np.array([stats.paired_mean(rng.normal(0.08, 0.4, n), 0.99).low for _ in range(2000)])
    assert np.mean(found > 0) == pytest.approx(0.8, abs=0.03)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_matches_statsmodels(p: list[float]) -> None:
    from statsmodels.stats.multitest import multipletests

    assert stats.holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_holm_controls_the_family() -> None:
    rng = np.random.default_rng(0)
    any_hit = np.mean([stats.holm(rng.random(10)).min() <= 0.05 for _ in range(3000)])
    assert any_hit <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 3000)
    assert stats.holm([]).shape == (0,)
    with pytest.raises(ValueError):
        stats.holm([0.2, np.nan])


def test_equivalence_is_not_tested_without_an_interval_of_some_width() -> None:
    assert stats.tost([0.5], 0.1) is None
    assert stats.tost([0.5, 0.5, 0.5], 0.1) is None
    for low, high in ((None, None), (0.1, 0.1), (0.1, 0.2), (0.0, 0.1)):
        reason = None if low is not None else "no spread"
        assert stats.tost(Estimate(0.1, low, high, 0.95, "m", 9, reason), 0.1) is None
    assert stats.tost(Estimate.undefined("nothing", level=0.95, method="m"), 0.1) is None
    assert stats.tost(Estimate(0.1, 0.0, 0.2, 0.95, "m", 9), 0.1) is not None
