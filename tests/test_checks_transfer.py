"""Does it hold elsewhere: shifted prompts, peeked thresholds, tiny classes, endings of what is read at the end."""

from __future__ import annotations

from typing import Any

import numpy as np

from conftest import arm_of, bits, evidence_of, question, two_arms
from counterclaim.checks.transfer import base_rate, endpoint, shift, threshold
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
