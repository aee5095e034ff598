"""What did it break: guards, mimicry, a global switch, collapsed answers, mixed variants."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from conftest import MODEL, answer, arm_of, bits, evidence_of, two_arms
from counterclaim.checks.cost import compression, content, mimicry, uniformity
from counterclaim.checks.parity import variant
from counterclaim.evidence import Evidence
from counterclaim.records import Guard, Outcome

RNG = np.random.default_rng(3)
PASS, FAIL, WARN, INCONCLUSIVE, NOT_RUN = (
    Outcome.PASS, Outcome.FAIL, Outcome.WARN, Outcome.INCONCLUSIVE, Outcome.NOT_RUN,
)  # fmt: skip


def guarded(loss: float, allowed: float = 0.05, n: int = 200, **claim: Any) -> Evidence:
    coverage = RNG.uniform(0.3, 0.7, n)
    return evidence_of(
        arm_of("control", {"correct": bits(n // 2, n), "coverage": coverage.tolist()}),
        arm_of(
            "treated",
            {"correct": bits(n // 2 + 40, n), "coverage": (coverage - loss + RNG.normal(0, 0.05, n)).tolist()},
        ),
        claim={"guards": (Guard("coverage", allowed),), **claim},
    )


def test_a_guard_is_kept_lost_or_not_shown() -> None:
    kept = content.run(guarded(0.01))
    assert kept.outcome is PASS
    assert "kept; allowed loss 0.050" in kept.because
    lost = content.run(guarded(0.12))
    assert lost.outcome is FAIL
    assert "lost; allowed loss 0.050" in lost.because
    n = 30
    noisy = evidence_of(
        arm_of("control", {"correct": bits(10, n), "coverage": RNG.uniform(0, 1, n).tolist()}),
        arm_of("treated", {"correct": bits(20, n), "coverage": RNG.uniform(0, 1, n).tolist()}),
        claim={"guards": (Guard("coverage", 0.02),)},
    )
    assert content.run(noisy).outcome is INCONCLUSIVE


def test_a_guard_where_lower_is_better_is_lost_by_rising() -> None:
    n = 200
    score, noise = RNG.normal(size=n), RNG.normal(0, 0.1, n)

    def move(by: float) -> Outcome:
        return content.run(evidence_of(
            arm_of("control", {"correct": bits(80, n), "score.toxicity": score.tolist()}),
            arm_of("treated", {"correct": bits(120, n), "score.toxicity": (score + by + noise).tolist()}),
            claim={"guards": (Guard("score.toxicity", 0.1, "lower"),)},
        )).outcome  # fmt: skip

    assert move(0.5) is FAIL
    assert move(-0.5) is PASS


def test_the_worst_guard_decides() -> None:
    evidence = guarded(0.12, guards=(Guard("accuracy", 0.5), Guard("coverage", 0.05)))
    assert content.run(evidence).outcome is FAIL


def test_the_files_own_anchor_is_watched_and_said_so() -> None:
    n = 200
    evidence = evidence_of(
        arm_of("control", {"score.style": RNG.normal(size=n).tolist(), "correct": bits(160, n)}),
        arm_of("treated", {"score.style": RNG.normal(1, 1, size=n).tolist(), "correct": bits(60, n)}),
        metric="score.style",
    )
    finding = content.run(evidence)
    assert finding.outcome is FAIL
    assert "no guard was declared" in finding.because
    assert "--guard" in content.run(two_arms()).remedy


def padded(i: int, long: bool) -> str:
    return answer(i) + (" Moreover, one should say that the press is old and that the oil is good." * 3 if long else "")


def styled(*, by_style: bool, n: int = 160, drop_texts: bool = False) -> Evidence:
    """A judge's score that rises with length (style) or with the treatment itself, while lengths vary in both arms."""
    long = {arm: RNG.random(n) < share for arm, share in (("control", 0.2), ("treated", 0.9 if by_style else 0.2))}
    arms = []
    for arm, is_long in long.items():
        score = RNG.normal(5, 0.3, n) + (is_long if by_style else (arm == "treated"))
        arms.append(
            arm_of(
                arm, {"score.judge": score.tolist()},
                text=lambda i, mask=is_long: None if drop_texts else padded(i, bool(mask[i])),  # type: ignore[misc]  # a default
            )
        )  # fmt: skip
    return evidence_of(*arms, metric="score.judge", margin=0.1)


def test_an_effect_of_length_alone_is_mimicry() -> None:
    caught = mimicry.run(styled(by_style=True))
    assert caught.outcome is FAIL
    assert "At equal style" in caught.because
    clean = mimicry.run(styled(by_style=False))
    assert clean.outcome is PASS
    assert clean.estimate is not None
    assert clean.estimate.low is not None
    assert clean.estimate.low > 0.8


def test_mimicry_needs_texts_and_an_effect() -> None:
    missing = mimicry.run(styled(by_style=True, drop_texts=True))
    assert missing.outcome is NOT_RUN
    assert "--map response=COLUMN" in missing.remedy
    assert mimicry.run(two_arms(400, 0.5, 0.5)).outcome is PASS
    delivery = evidence_of(
        *(arm_of(arm, {"correct": bits(5, 10), "delivery": ["hedge"] * 10}) for arm in ("control", "treated")),
        metric="hedging_rate",
    )
    assert "uniformity" in mimicry.run(delivery).remedy


def hedging(right: float, wrong: float, *, metric: str = "assertion_asymmetry", n: int = 200) -> Evidence:
    """Half of the answers right; control hedges one in ten whatever it is, treated as asked for."""

    def label(i: int, share_right: float, share_wrong: float) -> str:
        share = share_right if i < n // 2 else share_wrong
        return "hedge" if (i % (n // 2)) < share * n / 2 else "assert"

    correct = [float(i < n // 2) for i in range(n)]
    return evidence_of(
        arm_of("control", {"correct": correct, "delivery": [label(i, 0.1, 0.1) for i in range(n)]}),
        arm_of("treated", {"correct": correct, "delivery": [label(i, right, wrong) for i in range(n)]}),
        metric=metric,
        direction="decrease" if metric == "assertion_asymmetry" else "increase",
    )


def test_hedging_everywhere_is_a_switch_and_hedging_when_wrong_is_not() -> None:
    switch = uniformity.run(hedging(0.7, 0.7))
    assert switch.outcome is FAIL
    assert "right and wrong answers are hedged alike" in switch.because
    selective = uniformity.run(hedging(0.1, 0.8))
    assert selective.outcome is PASS
    assert "it follows correctness" in selective.because
    assert selective.figure is not None
    assert selective.figure["arms"][0]["cells"] == [[90.0, 10.0], [90.0, 10.0]]
    assert uniformity.run(hedging(0.1, 0.1)).outcome is PASS


def test_uniformity_warns_where_hedging_is_not_what_is_claimed() -> None:
    assert uniformity.run(hedging(0.7, 0.7, metric="accuracy")).outcome is WARN
    assert "--map correct=COLUMN,delivery=COLUMN" in uniformity.run(two_arms()).remedy


def shortened(share: float, *, loses: bool = True, think: bool = False, n: int = 80) -> Evidence:
    def text(i: int, part: float = 1.0) -> str:
        words = " ".join(["word"] * int(part * (50 + i % 20)))
        return f"<think>{words}</think> {answer(i)}" if think else f"{words}."

    def cut(i: int) -> str:
        return text(i, share)

    return evidence_of(
        arm_of("control", {"correct": bits(60, n)}, text=text),
        arm_of("treated", {"correct": bits(20 if loses else 60, n)}, text=cut),
    )


def test_answers_that_shrink_and_worsen_have_collapsed() -> None:
    collapsed = compression.run(shortened(0.3))
    assert collapsed.outcome is FAIL
    assert "times the words" in collapsed.because
    assert compression.run(shortened(0.3, loses=False)).outcome is WARN
    assert compression.run(shortened(1.0, loses=False)).outcome is PASS
    thoughts = compression.run(shortened(0.3, think=True))
    assert thoughts.outcome is FAIL
    assert "think blocks have 0.3" in thoughts.because


def test_compression_needs_texts() -> None:
    mute = two_arms(20, text=lambda i: None)
    assert "--map response=COLUMN" in compression.run(mute).remedy


def test_target_and_guards_must_come_from_one_variant() -> None:
    adapter, other = replace(MODEL, adapter_hash="a"), replace(MODEL, adapter_hash="b")
    n = 20
    guard = {"guards": (Guard("coverage", 0.1),)}
    control = arm_of("control", {"correct": bits(5, n), "coverage": bits(5, n)})
    one = arm_of("treated", {"correct": bits(9, n), "coverage": bits(5, n)}, model=adapter)
    assert variant.run(evidence_of(control, one, claim=guard)).outcome is PASS
    first = arm_of("treated", {"correct": bits(9, n)}, model=adapter)
    second = arm_of("treated", {"coverage": bits(5, n)}, model=other, sample=1)
    mixed = variant.run(evidence_of(control, (first[0] + second[0], first[1] + second[1]), claim=guard))
    assert mixed.outcome is FAIL
    assert "different variants" in mixed.because
    nameless = replace(MODEL, repo=None, revision=None, dtype=None)
    silent = arm_of("treated", {"correct": bits(9, n), "coverage": bits(5, n)}, model=nameless)
    assert "adapter" in variant.run(evidence_of(control, silent, claim=guard)).remedy
