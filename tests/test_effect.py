"""Effects against scipy, brute force and the laws that a paired comparison obeys."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from conftest import arm_of, bits, evidence_of
from counterclaim import stats
from counterclaim.audit.effect import (
    ArmCounts,
    Counts,
    Effect,
    as_counts,
    auc_effect,
    counts_effect,
    mean_effect,
    ratio_effect,
    ratio_estimate,
)
from counterclaim.audit.metrics import resolve
from counterclaim.records import Estimate, to_json
from counterclaim.registry import metrics

RNG = np.random.default_rng(5)
SCORE = resolve("score.x", {"score.x"})
ACCURACY = resolve("accuracy", {"correct"})
ASYMMETRY = resolve("assertion_asymmetry", {"correct", "delivery"})


def mean(c: Any, t: Any, ic: Any = None, it: Any = None, metric: Any = SCORE, level: float = 0.95) -> Effect:
    c, t = np.asarray(c, float), np.asarray(t, float)
    ic = np.arange(len(c)) if ic is None else np.asarray(ic)
    it = np.arange(len(t)) if it is None else np.asarray(it)
    n = int(max(ic.max(), it.max())) + 1
    return mean_effect(metric, (c, ic), (t, it), n, level=level, draws=2_000)


def test_a_paired_mean_is_scipys_paired_t() -> None:
    c = RNG.normal(size=60)
    t = c + RNG.normal(0.3, 1, size=60)
    effect = mean(c, t)
    expected = scipy_stats.ttest_rel(t, c)
    low, high = expected.confidence_interval(0.95)
    assert effect.difference.estimate == pytest.approx((t - c).mean())
    assert effect.difference.interval == pytest.approx((low, high))
    assert effect.p == pytest.approx(expected.pvalue, abs=0.03)
    assert (effect.control.estimate, effect.treated.estimate) == pytest.approx((c.mean(), t.mean()))


def test_a_binary_pair_is_exact_mcnemar_with_newcombes_interval() -> None:
    c = np.array([1] * 30 + [0] * 30)
    t = np.array([1] * 25 + [0] * 5 + [1] * 15 + [0] * 15)
    effect = mean(c, t, metric=ACCURACY)
    assert effect.p_method == "exact McNemar"
    assert effect.p == pytest.approx(scipy_stats.binomtest(5, 20).pvalue)
    assert effect.difference == stats.newcombe_paired(25, 15, 5, 15, 0.95)
    assert effect.difference.estimate == pytest.approx(10 / 60)


def test_more_samples_of_the_same_prompts_do_not_narrow_the_interval() -> None:
    c, t = RNG.normal(size=40), RNG.normal(0.4, 1, size=40)
    once = mean(c, t)
    index = np.repeat(np.arange(40), 5)
    five = mean(np.repeat(c, 5), np.repeat(t, 5), index, index)
    assert five.n_paired == once.n_paired == 40
    assert five.difference.interval == pytest.approx(once.difference.interval)
    assert five.p == pytest.approx(once.p)


def test_repeated_samples_of_a_binary_score_are_not_tested_as_if_independent() -> None:
    c, t = np.array(bits(20, 40)), np.array(bits(28, 40))
    index = np.repeat(np.arange(40), 4)
    effect = mean(np.repeat(c, 4), np.repeat(t, 4), index, index, metric=ACCURACY)
    assert effect.n_paired == 40
    assert effect.p_method.startswith("sign-flip")
    once = mean(c, t, metric=ACCURACY)
    assert effect.difference.estimate == pytest.approx(once.difference.estimate)
    width = np.subtract(*effect.difference.interval[::-1])  # type: ignore[index]  # it has one
    assert width > 0.9 * np.subtract(*once.difference.interval[::-1])  # type: ignore[index]


def test_prompts_of_one_arm_only_are_left_out() -> None:
    c, t = RNG.normal(size=30), RNG.normal(size=30)
    whole = mean(c[10:], t[:20], np.arange(10, 30), np.arange(20))
    part = mean(c[10:20], t[10:20])
    assert whole.n_paired == 10
    assert whole.difference.interval == pytest.approx(part.difference.interval)
    assert whole.control.n == whole.treated.n == 10


def test_unscored_answers_are_left_out_not_counted_as_zero() -> None:
    c, t = RNG.normal(5, 1, size=30), RNG.normal(5, 1, size=30)
    holed = t.copy()
    holed[:10] = np.nan
    effect = mean(c, holed)
    assert effect.n_paired == 20
    assert effect.difference.estimate == pytest.approx((t - c)[10:].mean())
    twice = mean(np.r_[c, c], np.r_[t, np.full(30, np.nan)], np.r_[0:30, 0:30], np.r_[0:30, 0:30])
    assert twice.difference.estimate == pytest.approx((t - c).mean())


def test_nothing_paired_is_undefined_and_open() -> None:
    effect = mean([1.0, 2.0], [np.nan, np.nan])
    assert effect.difference.estimate is None
    assert effect.difference.reason
    assert effect.p is None
    assert effect.conclusion(1, 0.1, 0.01) == "open"
    one = mean([1.0], [2.0])
    assert one.difference.interval is None
    assert one.conclusion(1, 0.1, 0.01) == "open"


@pytest.mark.parametrize(
    ("low", "high", "p", "sign", "said"),
    [
        (0.02, 0.3, 0.001, 1, "for"),
        (0.02, 0.3, 0.02, 1, "open"),  # the interval excludes zero, the test level is stricter
        (-0.1, 0.3, 0.4, 1, "open"),
        (-0.1, 0.09, 0.9, 1, "against"),  # the margin is excluded
        (0.01, 0.09, 0.0001, 1, "against"),  # real, but too small to matter
        (-0.4, -0.2, 0.0001, 1, "against"),  # the wrong side
        (-0.4, -0.2, 0.0001, -1, "for"),
        (-0.09, 0.3, 0.5, -1, "against"),
        (-0.3, -0.02, None, -1, "open"),
    ],
)
def test_what_an_interval_says_of_a_claim(low: float, high: float, p: float | None, sign: int, said: str) -> None:
    e = Estimate((low + high) / 2, low, high, 0.95, "t", 50)
    assert Effect("m", e, e, e, p, "t", 50).conclusion(sign, 0.1, 0.01) == said


def one_hot(cells: Any) -> Any:
    return np.eye(4)[np.asarray(cells)]


def test_asymmetry_of_one_arm_has_newcombes_interval() -> None:
    cells = one_hot([0] * 53 + [1] * 5 + [2] * 38 + [3] * 4)
    effect = ratio_effect(ASYMMETRY, (cells, np.arange(100)), (cells, np.arange(100)), 100, level=0.95, draws=500)
    assert effect.control.estimate == pytest.approx(-0.00903, abs=5e-6)
    assert effect.control.interval == pytest.approx((-0.1436, 0.1066), abs=5e-5)
    assert effect.difference.estimate == 0.0
    assert effect.p == 1.0


def test_a_ratio_resamples_items_with_both_arms_together() -> None:
    before = RNG.choice(4, size=200, p=[0.5, 0.08, 0.38, 0.04])
    after = np.where((before == 2) & (RNG.random(200) < 0.8), 3, before)  # wrong answers learn to hedge
    arms = [(one_hot(x), np.arange(200)) for x in (before, after)]
    effect = ratio_effect(ASYMMETRY, *arms, 200, level=0.95, draws=2_000)  # type: ignore[arg-type]  # two of them
    rate = [np.mean(x[x >= 2] == 2) - np.mean(x[x < 2] == 0) for x in (before, after)]
    assert effect.difference.estimate == pytest.approx(rate[1] - rate[0])
    assert effect.difference.interval is not None
    assert effect.difference.interval[1] < -0.5
    assert effect.p is not None
    assert effect.p < 0.002
    shuffled = RNG.permutation(200)
    again = ratio_effect(
        ASYMMETRY, (arms[0][0][shuffled], shuffled), (arms[1][0][shuffled], shuffled), 200, level=0.95, draws=2_000
    )
    assert again.difference == effect.difference


def test_an_auc_that_sinks_is_seen() -> None:
    labels = np.array(bits(60, 120))
    sharp = labels + RNG.normal(0, 0.5, 120)
    blunt = RNG.normal(0, 1, 120)
    metric = resolve("auc(x)", {"score.x", "correct"})
    index = np.arange(120)
    effect = auc_effect(metric, (sharp, labels, index), (blunt, labels, index), level=0.95, draws=500)
    assert effect.control.estimate == pytest.approx(
        scipy_stats.mannwhitneyu(sharp[labels == 1], sharp[labels == 0]).statistic / 3_600
    )
    assert effect.conclusion(1, 0.05, 0.01) == "against"
    assert effect.conclusion(-1, 0.05, 0.01) == "for"
    holed = sharp.copy()
    holed[:20] = np.nan
    assert auc_effect(metric, (holed, labels, index), (blunt, labels, index), level=0.95, draws=200).n_paired == 100


def test_counts_range_over_every_feasible_pairing() -> None:
    for c, t, n in ((40, 55, 120), (3, 9, 12), (0, 5, 10), (10, 10, 10)):
        effect = counts_effect("accuracy", Counts(ArmCounts(c, n), ArmCounts(t, n)), level=0.95)
        feasible = range(max(0, c + t - n), min(c, t) + 1)
        ps = [scipy_stats.binomtest(t - b, t + c - 2 * b).pvalue if t + c > 2 * b else 1.0 for b in feasible]
        assert effect.p_range == pytest.approx((min(ps), max(ps)))
        assert effect.p == pytest.approx(max(ps))
        widths = [stats.newcombe_paired(b, t - b, c - b, n - t - c + b, 0.95).interval for b in feasible]
        assert effect.difference.interval is not None
        low, high = effect.difference.interval
        assert all(w is not None and low <= w[0] + 1e-12 and w[1] <= high + 1e-12 for w in widths)


def test_counts_with_a_known_pairing_are_the_exact_paired_analysis() -> None:
    effect = counts_effect("accuracy", Counts(ArmCounts(40, 120), ArmCounts(55, 120), 31), level=0.95)
    assert effect.p == pytest.approx(scipy_stats.binomtest(9, 33).pvalue)
    assert effect.difference == stats.newcombe_paired(31, 24, 9, 56, 0.95)
    assert effect.n_paired == 120


def test_counts_of_unequal_arms_are_independent() -> None:
    effect = counts_effect("accuracy", Counts(ArmCounts(40, 120), ArmCounts(55, 100)), level=0.95)
    assert effect.p == pytest.approx(scipy_stats.fisher_exact([[55, 45], [40, 80]]).pvalue)
    assert effect.p_range is None
    assert effect.n_paired == 0


def test_counts_survive_json() -> None:
    for counts in (Counts(ArmCounts(1, 2), ArmCounts(2, 2)), Counts(ArmCounts(1, 2, 1), ArmCounts(2, 2, 0), 1)):
        assert as_counts(to_json(counts)) == counts


def test_the_worst_pairing_has_to_be_significant() -> None:
    unpaired = counts_effect("accuracy", Counts(ArmCounts(40, 120), ArmCounts(60, 120)), level=0.95)
    paired = counts_effect("accuracy", Counts(ArmCounts(40, 120), ArmCounts(60, 120), 38), level=0.95)
    assert unpaired.conclusion(1, 0.05, 0.01) == "open"
    assert paired.conclusion(1, 0.05, 0.01) == "for"


def test_the_contracts_block() -> None:
    evidence = evidence_of(arm_of("control", {"correct": bits(3, 10)}), arm_of("treated", {"correct": bits(6, 10)}))
    block = evidence.effect.to_json(0.1)
    assert set(block) == {"metric", "control", "treated", "difference", "p", "p_method", "n_paired", "margin"}


def test_differences_that_are_all_alike_still_leave_room_for_the_unseen() -> None:
    coverage = resolve("coverage", {"coverage"})
    c = RNG.uniform(0.3, 0.7, 200)
    same = mean(c, c, metric=coverage)
    unseen = 1 - 0.025 ** (1 / 200)  # a larger share of prompts that differ would have shown itself
    assert same.difference.interval == pytest.approx((-unseen, unseen))
    assert same.conclusion(1, 0.05, 0.01) == "against"
    shifted = mean(c, c + 0.1, metric=coverage)  # equal up to rounding
    assert shifted.difference.interval == pytest.approx((0.1 - 1.1 * unseen, 0.1 + 0.9 * unseen))
    assert mean(c, c + 0.1).difference.interval is None  # a scale without bounds


@pytest.mark.parametrize("name", [name for name, metric in metrics().items() if metric.kind == "ratio"])
@pytest.mark.parametrize("copies", [1, 2], ids=["one answer a prompt", "two answers a prompt"])
def test_the_rate_of_one_arm_is_the_metric_s_own_statistic(name: str, copies: int) -> None:
    metric = metrics()[name]
    cells = np.repeat(np.eye(4), [10, 5, 8, 2], axis=0) * copies
    assert metric.statistic is not None
    found = ratio_estimate(metric, cells, level=0.95, draws=200)
    assert found.estimate == pytest.approx(float(metric.statistic(cells.sum(axis=0))))


def test_an_arm_of_equal_fractions_leaves_room_for_the_unseen_between_0_and_1() -> None:
    c = np.full(200, 0.6)
    effect = mean(c, np.full(200, 0.5), metric=resolve("coverage", {"coverage"}))
    unseen = 1 - 0.025 ** (1 / 200)
    assert effect.control.interval == pytest.approx((0.6 - 0.6 * unseen, 0.6 + 0.4 * unseen))
    assert effect.treated.interval == pytest.approx((0.5 - 0.5 * unseen, 0.5 + 0.5 * unseen))


@pytest.mark.parametrize("name", [name for name, metric in metrics().items() if metric.kind == "ratio"])
def test_a_rate_of_no_answers_is_undefined(name: str) -> None:
    found = ratio_estimate(metrics()[name], np.zeros((0, 4)), level=0.95, draws=200)
    assert (found.estimate, found.n) == (None, 0)
    one = (one_hot([0]), np.arange(1))
    assert ratio_effect(metrics()[name], one, one, 1, level=0.95, draws=99).p is None
    two = (one_hot([0, 2]), np.arange(2))
    assert ratio_effect(metrics()[name], two, two, 2, level=0.95, draws=99).p == 1.0


def test_two_pairs_are_tested_and_one_is_not() -> None:
    two = mean([1.0, 2.0], [3.0, 5.0])
    assert (two.p, two.p_method) == (0.5, "sign-flip permutation by prompt")
    one = mean([1.0], [3.0])
    assert (one.p, one.p_method) == (None, "fewer than two pairs")


def test_an_auc_s_p_is_that_of_its_interval_s_width() -> None:
    labels = np.array(bits(60, 120))
    sharp, blunt = (labels + RNG.normal(0, spread, 120) for spread in (0.6, 0.9))
    metric = resolve("auc(x)", {"score.x", "correct"})
    effect = auc_effect(metric, (sharp, labels, np.arange(120)), (blunt, labels, np.arange(120)), level=0.9, draws=500)
    low, high = effect.difference.interval or (0.0, 0.0)
    z = abs(effect.difference.estimate or 0.0) / ((high - low) / 2 / scipy_stats.norm.ppf(0.95))
    assert effect.p == pytest.approx(2 * scipy_stats.norm.sf(z))
    assert effect.difference.estimate == pytest.approx((effect.treated.estimate or 0) - (effect.control.estimate or 0))


def test_answers_to_prompts_of_one_arm_are_no_part_of_its_auc() -> None:
    labels = np.array(bits(30, 60))
    scores = labels + RNG.normal(0, 0.7, 60)
    metric = resolve("auc(x)", {"score.x", "correct"})
    whole = auc_effect(
        metric,
        (scores[:40], labels[:40], np.arange(40)),
        (scores[10:], labels[10:], np.arange(10, 60)),
        level=0.95,
        draws=99,
    )
    assert whole.n_paired == 30
    assert (
        whole.control.estimate == whole.treated.estimate == pytest.approx(stats.auc(scores[10:40], labels[10:40] == 1))
    )


def test_counts_tell_each_arm_s_own_rate() -> None:
    for counts in (Counts(ArmCounts(40, 120), ArmCounts(55, 120)), Counts(ArmCounts(40, 120), ArmCounts(55, 100))):
        effect = counts_effect("accuracy", counts, level=0.9)
        assert effect.control == stats.wilson(40, 120, 0.9)
        assert effect.treated == stats.wilson(55, counts.treated.n, 0.9)
    apart = counts_effect("accuracy", Counts(ArmCounts(40, 120), ArmCounts(55, 120)), level=0.95, same_items=False)
    assert apart.difference == stats.newcombe_difference(55, 120, 40, 120, 0.95)
    assert apart.p_range is None


def test_an_auc_without_an_interval_has_no_p() -> None:
    labels = np.r_[1.0, np.zeros(19)]  # a third of the resamples hold no positive
    metric = resolve("auc(x)", {"score.x", "correct"})
    arms = [(RNG.normal(size=20), labels, np.arange(20)) for _ in range(2)]
    effect = auc_effect(metric, *arms, level=0.95, draws=200)  # type: ignore[arg-type]  # two of them
    assert effect.difference.estimate is not None
    assert (effect.difference.interval, effect.p) == (None, None)
