"""Gates: the honest threshold, the peeked one, and what shuffled labels make of both."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterclaim import InputError
from counterclaim.audit.probing import BarTest
from counterclaim.lab.probing.gates import BAR, SWEEP, choose_threshold, gate, peek, shuffled_p


def brute(p: np.ndarray, right: np.ndarray, keep: float) -> tuple[float, float]:
    """Best asymmetry, and the lowest threshold that reaches it, over every cut."""
    found = []
    for threshold in np.concatenate(([0.0], np.unique(p), [2.0])):
        asserted = p >= threshold
        if asserted[right].mean() >= keep - 1e-12:
            found.append((round(asserted[~right].mean() - asserted[right].mean(), 12), threshold))
    return min(found)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(4, 40), st.sampled_from([0.0, 0.5, 0.7, 1.0]))
def test_the_threshold_is_the_best_of_all_cuts_that_keep_enough(seed: int, n: int, keep: float) -> None:
    random = np.random.default_rng(seed)
    p, right = np.round(random.random(n), 1), np.arange(n) % 3 == 0
    chosen = choose_threshold(p, right, keep)
    asymmetry, _ = brute(p, right, keep)
    asserted = p >= chosen.value
    assert chosen.asymmetry == pytest.approx(asymmetry)
    assert asserted[~right].mean() - asserted[right].mean() == pytest.approx(chosen.asymmetry)
    assert chosen.p_assert_correct >= keep - 1e-9


def test_a_threshold_lies_between_the_items_that_it_parts() -> None:
    chosen = choose_threshold([0.2, 0.3, 0.6, 0.8], [False, False, True, True])
    assert chosen.value == pytest.approx(0.45)
    assert (chosen.asymmetry, chosen.p_assert_correct) == (-1.0, 1.0)


def test_where_nothing_helps_everything_is_asserted() -> None:
    chosen = choose_threshold([0.9, 0.8, 0.2, 0.1], [False, False, True, True])
    assert (chosen.value, chosen.asymmetry, chosen.p_assert_correct) == (0.0, 0.0, 1.0)


def test_a_gate_is_judged_with_newcombes_interval() -> None:
    # 53/5/38/4 as the paper's baseline: asserted on 53 of 58 correct and 38 of 42 wrong
    asserted = np.repeat([1.0, 0.0, 1.0, 0.0], [53, 5, 38, 4])
    right = np.repeat([True, False], [58, 42])
    found = gate(asserted, right, 0.5)
    assert found.asymmetry.estimate == pytest.approx(-0.00903, abs=1e-5)
    assert found.asymmetry.interval == pytest.approx((-0.1436, 0.1066), abs=1e-4)
    assert found.p_assert_correct.estimate == pytest.approx(53 / 58)
    assert found.asymmetry.estimate is not None
    assert found.asymmetry.estimate > BAR


def test_peeking_finds_what_is_not_there_when_positives_are_few() -> None:
    random = np.random.default_rng(3)
    few, many = np.arange(193) < 9, np.arange(193) < 97
    p = random.uniform(0.05, 0.95, 193)
    assert peek(p, few, permutations=400).null_p_at_bar > 0.35  # nine positives: noise reaches the bar very often
    assert peek(p, many, permutations=400).null_p_at_bar < 0.10
    real = np.clip(np.where(many, 0.65, 0.35) + 0.15 * random.standard_normal(193), 0, 1)
    found = peek(real, many, permutations=400)
    assert found.estimate is not None
    assert found.estimate < -0.5
    assert found.null_p_at_bar < 0.10


def test_the_order_of_items_changes_no_peek() -> None:
    random = np.random.default_rng(0)
    p, right = random.random(80), random.random(80) < 0.3
    mixed = random.permutation(80)
    assert peek(p, right, permutations=50) == peek(p[mixed], right[mixed], permutations=50)


def test_no_threshold_of_the_sweep_may_keep_enough() -> None:
    found = peek(np.full(20, 0.01), np.arange(20) < 10, permutations=10)
    assert (found.threshold, found.estimate, found.null_p_at_bar) == (None, None, 0.0)
    assert len(SWEEP) == 91


def test_shuffled_p_is_the_share_of_shuffles_that_do_as_well() -> None:
    random = np.random.default_rng(0)
    p, right = random.random(40), np.arange(40) < 12
    told = gate(p, right, 0.4).asymmetry.estimate
    drawn = [gate(p, random.permutation(right), 0.4).asymmetry.estimate for _ in range(3_000)]
    share = np.mean([value <= told + 1e-12 for value in drawn if value is not None and told is not None])
    assert shuffled_p(p, right, 0.4) == pytest.approx(share, abs=0.03)


def test_labels_of_one_class_are_refused() -> None:
    for ask in (choose_threshold, peek):
        with pytest.raises(InputError, match="one class"):
            ask([0.1, 0.9], [True, True])


def test_an_answer_at_the_threshold_itself_is_asserted() -> None:
    p, right = [0.2, 0.5, 0.5, 0.8], [False, False, True, True]
    found = gate(p, right, 0.5)
    assert (found.asymmetry.estimate, found.p_assert_correct.estimate) == (-0.5, 1.0)
    # of four answers three are asserted: one place in four for the one that is not leaves the three right ones
    assert shuffled_p(p, [False, True, True, True], 0.5) == pytest.approx(1 / 4)
    swept = peek([0.3, 0.3, 0.6, 0.6], [False, False, True, True], keep=1.0, permutations=10)
    assert (swept.threshold, swept.estimate) == (0.31, -1.0)


@pytest.mark.parametrize(("wrong", "reaches"), [(60, True), (61, False)])
def test_a_gate_reaches_the_bar_at_the_bar_itself(wrong: int, reaches: bool) -> None:
    """An asymmetry of -0.15 at most."""
    asserted = np.repeat([1.0, 0.0, 1.0, 0.0], [75, 25, wrong, 100 - wrong])
    asymmetry = gate(asserted, np.arange(200) < 100, 0.5).asymmetry
    assert (BarTest.against("fresh_asymmetry", "it", asymmetry, BAR).passed is True) is reaches
