"""Proportions and their differences: known answers, every feasible pairing, and laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterclaim import stats


def test_wilson_matches_statsmodels() -> None:
    from statsmodels.stats.proportion import proportion_confint

    for k, n in [(0, 7), (1, 7), (7, 7), (38, 42), (53, 58), (1, 10_000)]:
        low, high = proportion_confint(k, n, method="wilson")
        found = stats.wilson(k, n)
        assert found.estimate == k / n
        assert found.low == pytest.approx(max(low, 0), abs=1e-12)
        assert found.high == pytest.approx(min(high, 1), abs=1e-12)
    assert stats.wilson(0, 7).low == 0.0
    assert stats.wilson(7, 7).high == 1.0


def test_newcombe_difference_of_the_papers_profile() -> None:
    found = stats.newcombe_difference(38, 42, 53, 58)
    assert found.estimate == pytest.approx(-0.00903, abs=5e-6)
    assert found.low == pytest.approx(-0.1436, abs=5e-5)
    assert found.high == pytest.approx(0.1066, abs=5e-5)
    assert found.n == 100


def test_newcombe_difference_matches_statsmodels() -> None:
    from statsmodels.stats.proportion import confint_proportions_2indep

    for k1, n1, k0, n0 in [(5, 10, 2, 12), (0, 10, 2, 12), (56, 70, 48, 80)]:
        low, high = confint_proportions_2indep(k1, n1, k0, n0, method="newcomb")
        found = stats.newcombe_difference(k1, n1, k0, n0)
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)


@pytest.mark.parametrize(
    ("cells", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17, 2635-2650, table II, method 10.
        ((36, 12, 2, 0), 0.0569, 0.3404),
        ((36, 14, 0, 0), 0.1528, 0.4167),
        ((0, 0, 0, 50), -0.0714, 0.0714),
    ],
)
def test_newcombe_paired_published_examples(cells: tuple[int, int, int, int], low: float, high: float) -> None:
    found = stats.newcombe_paired(*cells)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-3)


def test_newcombe_paired_mirrors_when_arms_swap() -> None:
    one, other = stats.newcombe_paired(31, 24, 9, 56), stats.newcombe_paired(31, 9, 24, 56)
    assert one.interval is not None
    assert other.interval is not None
    assert one.interval == pytest.approx((-other.interval[1], -other.interval[0]))


def test_mcnemar_matches_scipy() -> None:
    from scipy.stats import binomtest

    for b, c in [(0, 0), (1, 0), (9, 24), (24, 9), (5, 5), (100, 140)]:
        expected = 1.0 if b + c == 0 else binomtest(b, b + c).pvalue
        assert stats.mcnemar_exact(b, c) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 40), data=st.data())
def test_ranges_hold_every_feasible_pairing(n: int, data: st.DataObject) -> None:
    control, treated = data.draw(st.integers(0, n)), data.draw(st.integers(0, n))
    cells = [
        (both, treated - both, control - both, n - treated - control + both)
        for both in range(n + 1)
        if min(treated - both, control - both, n - treated - control + both) >= 0
    ]
    p = [stats.mcnemar_exact(only_treated, only_control) for _, only_treated, only_control, _ in cells]
    assert stats.mcnemar_range(control, treated, n) == pytest.approx((min(p), max(p)))
    widths = [found.high - found.low for found in (stats.newcombe_paired(*c) for c in cells)]  # type: ignore[operator]
    narrow, wide = stats.paired_difference_range(control, treated, n)
    assert narrow.high - narrow.low == pytest.approx(min(widths))  # type: ignore[operator]
    assert wide.high - wide.low == pytest.approx(max(widths))  # type: ignore[operator]
    assert narrow.estimate == wide.estimate == (treated - control) / n


@settings(max_examples=60, deadline=None)
@given(b=st.integers(0, 3000), c=st.integers(0, 3000))
def test_mcnemar_p_is_a_p(b: int, c: int) -> None:
    p = stats.mcnemar_exact(b, c)
    assert 0 < p <= 1
    assert p == stats.mcnemar_exact(c, b)


def test_mcnemar_holds_its_level() -> None:
    rng = np.random.default_rng(3)
    for n, rate in [(30, 0.3), (200, 0.1)]:
        discordant = rng.binomial(n, rate, 4000)
        b = rng.binomial(discordant, 0.5)
        p = np.array([stats.mcnemar_exact(int(x), int(y - x)) for x, y in zip(b, discordant, strict=True)])
        for alpha in (0.01, 0.05):
            assert np.mean(p <= alpha) <= alpha + 4 * math.sqrt(alpha * (1 - alpha) / len(p))


def test_kappa_matches_statsmodels() -> None:
    from statsmodels.stats.inter_rater import cohens_kappa

    for table in ([[20, 5], [10, 15]], [[53, 5], [38, 4]], [[10, 2, 1], [3, 12, 0], [1, 1, 9]]):
        padded = np.array(table) + 4 / np.size(table)
        found, peer, smooth = stats.cohen_kappa(table), cohens_kappa(np.array(table)), cohens_kappa(padded)
        assert found.estimate == pytest.approx(peer.kappa)
        assert (found.low, found.high) == pytest.approx((smooth.kappa_low, smooth.kappa_upp), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    cells=st.lists(st.integers(0, 30), min_size=4, max_size=9).map(
        lambda x: np.array(x[: math.isqrt(len(x)) ** 2]).reshape(math.isqrt(len(x)), -1)
    )
)
def test_kappa_stays_in_bounds(cells: np.ndarray) -> None:
    found = stats.cohen_kappa(cells)
    if found.estimate is None:
        assert found.reason
        return
    assert found.low is not None
    assert found.high is not None
    assert -1 - 1e-12 <= found.low <= found.estimate <= found.high <= 1 + 1e-12
    shuffled = stats.cohen_kappa(cells[::-1, ::-1])
    assert shuffled.estimate == pytest.approx(found.estimate)


def test_perfect_agreement_on_few_items_is_not_certainty() -> None:
    found = stats.cohen_kappa([[5, 0], [0, 5]])
    assert found.estimate == 1.0
    assert found.low is not None
    assert found.low < 0.8


def test_undefined_says_why() -> None:
    for found in (
        stats.wilson(0, 0),
        stats.newcombe_difference(0, 0, 1, 2),
        stats.newcombe_paired(0, 0, 0, 0),
        stats.paired_difference_range(0, 0, 0)[1],
        stats.cohen_kappa([[0, 0], [0, 0]]),
        stats.cohen_kappa([[7, 0], [0, 0]]),
    ):
        assert found.estimate is None
        assert found.reason


def test_impossible_counts_are_refused() -> None:
    for call in (
        lambda: stats.wilson(3, 2),
        lambda: stats.newcombe_difference(1, 2, -1, 2),
        lambda: stats.newcombe_paired(1, -1, 0, 0),
        lambda: stats.mcnemar_exact(-1, 2),
        lambda: stats.mcnemar_range(5, 1, 4),
        lambda: stats.cohen_kappa([[1, 2, 3]]),
    ):
        with pytest.raises(ValueError):
            call()


def test_kappa_needs_a_square_table_of_counts() -> None:
    for table in ([[1, 2, 3], [4, 5, 6]], [[1, 2], [3, -1]], [1, 2]):
        with pytest.raises(ValueError, match="square table"):
            stats.cohen_kappa(table)
