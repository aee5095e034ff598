"""Does it hold elsewhere: shifted prompts, peeked thresholds, tiny classes, endings of what is read at the end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conftest import arm_of, bits, evidence_of, question, two_arms
from counterclaim.checks.transfer import _shuffled, base_rate, endpoint, shift, threshold
from counterclaim.records import Outcome

RNG = np.random.default_rng(23)
PASS, FAIL, WARN, INCONCLUSIVE, NOT_RUN = (
    Outcome.PASS, Outcome.FAIL, Outcome.WARN, Outcome.INCONCLUSIVE, Outcome.NOT_RUN,
)  # fmt: skip


def trained(texts: list[str]) -> Any:
    return shift.run(two_arms(60, evidence={"train_sample": texts}))


def test_prompts_of_another_kind_are_told_apart() -> None:
    same = trained([question(i) for i in range(60, 120)])
    assert same.outcome is PASS
    assert "AUC 0." in same.because
    other = trained([f"Translate sentence {i} into French: the weather was fine that day." for i in range(60)])
    assert other.outcome is WARN
    assert other.estimate is not None
    assert other.estimate.estimate is not None
    assert other.estimate.estimate > 0.95
    assert "--train-data FILE" in shift.run(two_arms()).remedy


def by_split(train_right: float, test_right: float, *, n: int = 80) -> Any:
    correct = [float(i < train_right * 40) if i < 40 else float(i - 40 < test_right * 40) for i in range(n)]
    rows = {"correct": correct}
    evidence = evidence_of(
        arm_of("control", rows), arm_of("treated", rows), split=lambda i: "train" if i < 40 else "test"
    )
    return shift.run(evidence)


def test_a_moved_base_rate_is_seen_between_splits() -> None:
    assert by_split(0.5, 0.5).outcome is PASS
    moved = by_split(0.9, 0.2)
    assert moved.outcome in (WARN, FAIL)
    assert "accuracy differs by -0.700" in moved.because


def test_a_threshold_must_not_be_chosen_on_the_test() -> None:
    def chosen(on: str | None) -> Any:
        return threshold.run(two_arms(evidence={"claim": {"thresholds_chosen_on": on}}))

    assert chosen("train").outcome is PASS
    assert chosen("dev").outcome is PASS
    peeked = chosen("test")
    assert peeked.outcome is FAIL
    assert "upper bound" in peeked.because
    assert chosen("fresh").outcome is FAIL
    assert "thresholds_chosen_on" in chosen(None).remedy


def asymmetric(right: int, n: int = 100, *, hedge_wrong: float = 0.0, metric: str = "assertion_asymmetry") -> Any:
    correct = [float(i < right) for i in range(n)]
    # of the wrong answers every k-th is hedged by the treated arm; right ones are asserted
    treated = ["hedge" if not c and RNG.random() < hedge_wrong else "assert" for c in correct]
    control = ["hedge" if i % 10 == 0 else "assert" for i in range(n)]
    return base_rate.run(evidence_of(
        arm_of("control", {"correct": correct, "delivery": control}),
        arm_of("treated", {"correct": correct, "delivery": treated}),
        metric=metric, direction="decrease",
    ))  # fmt: skip


def test_a_rate_needs_only_the_class_that_it_is_within() -> None:
    assert asymmetric(9, hedge_wrong=0.5, metric="hallucination_rate").outcome is PASS
    assert asymmetric(9, hedge_wrong=0.5, metric="over_hedging_rate").outcome is INCONCLUSIVE
    assert "at least 10 right answers" in asymmetric(9, metric="over_hedging_rate").remedy
    assert asymmetric(95, hedge_wrong=0.5, metric="hallucination_rate").outcome is INCONCLUSIVE


def test_a_rate_within_nine_answers_says_nothing() -> None:
    tiny = asymmetric(9, hedge_wrong=0.5)
    assert tiny.outcome is INCONCLUSIVE
    assert "The smaller class has 9 answers (control 9 right and 91 wrong" in tiny.because
    healthy = asymmetric(50, hedge_wrong=0.8)
    assert healthy.outcome is PASS
    assert "labels shuffled within each arm" in healthy.because
    assert base_rate.run(two_arms()).outcome is NOT_RUN


def disposed(control: tuple[int, int, int, int], treated: tuple[int, int, int, int], metric: str) -> Any:
    """Evidence of two arms with these counts of cr, hr, cw and hw."""

    def rows(cells: tuple[int, int, int, int]) -> dict[str, list[Any]]:
        cr, hr, cw, hw = cells
        delivery = ["assert"] * cr + ["hedge"] * hr + ["assert"] * cw + ["hedge"] * hw
        return {"correct": [1.0] * (cr + hr) + [0.0] * (cw + hw), "delivery": delivery}

    arms = arm_of("control", rows(control)), arm_of("treated", rows(treated))
    return evidence_of(*arms, metric=metric, direction="decrease")


def test_no_shuffle_as_large_gives_the_least_p_that_two_thousand_can_give() -> None:
    found = base_rate.run(disposed((58, 0, 42, 0), (58, 0, 0, 42), "assertion_asymmetry"))
    assert "as large as -1.000 has p = 0.0005 (" in found.because


def test_shuffled_labels_keep_how_many_are_right_and_how_many_are_asserted() -> None:
    """So each rate of an arm is on average its share of asserted answers, whatever the 2×2 was."""
    for metric, expected in (
        ("hallucination_rate", 0.2 - 0.9),
        ("over_hedging_rate", 0.8 - 0.1),
        ("assertion_asymmetry", 0),
    ):
        evidence = disposed((30, 0, 60, 10), (5, 15, 15, 65), metric)
        right = [arm.numbers("correct") for arm in evidence.pair]
        null = _shuffled(evidence, evidence.pair, right)
        assert len(null) == 2_000
        assert null.mean() == pytest.approx(expected, abs=0.01)
        asserted = np.random.default_rng(3).permuted(np.tile(np.arange(100) < 90, (2_000, 1)), axis=1)
        other = np.random.default_rng(4).permuted(np.tile(np.arange(100) < 20, (2_000, 1)), axis=1)
        slow = {
            "hallucination_rate": other[:, 20:].mean(axis=1) - asserted[:, 30:].mean(axis=1),
            "over_hedging_rate": asserted[:, :30].mean(axis=1) - other[:, :20].mean(axis=1),
        }
        if metric in slow:
            assert null.std() == pytest.approx(slow[metric].std(), rel=0.08)


def test_a_rate_that_no_shuffle_defines_settles_nothing() -> None:
    """All wrong answers lack a delivery: enough of them were scored, and none counts."""
    rows = {"correct": [1.0] * 20 + [0.0] * 20, "delivery": [*["assert", "hedge"] * 10, *[None] * 20]}
    evidence = evidence_of(arm_of("control", rows), arm_of("treated", rows), metric="assertion_asymmetry")
    assert len(_shuffled(evidence, evidence.pair, [arm.numbers("correct") for arm in evidence.pair])) == 0
    found = base_rate.run(evidence)
    assert found.outcome is INCONCLUSIVE
    assert "The rate is undefined" in found.because


def ranked(cut: range, unknown: range = range(0), n: int = 100) -> Any:
    correct = bits(50, n)
    scores = (np.array(correct) + RNG.normal(0, 1, n)).tolist()
    rows = {"correct": correct, "score.probe": scores}
    return endpoint.run(
        evidence_of(
            arm_of("control", rows), arm_of("treated", rows, cut=cut, unknown=unknown), metric="auc(probe)", draws=50
        )
    )


def test_what_is_read_at_the_last_token_needs_a_last_token() -> None:
    assert ranked(range(0)).outcome is PASS
    assert ranked(range(3), range(10, 20)).outcome is WARN
    cut = ranked(range(40))
    assert cut.outcome is FAIL
    assert "20 % of 200 answers were cut" in cut.because
    assert endpoint.run(two_arms()).outcome is NOT_RUN
