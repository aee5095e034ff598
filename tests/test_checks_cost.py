"""What did it break: guards, mimicry, a global switch, collapsed answers, mixed variants."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conftest import MODEL, answer, arm_of, bits, evidence_of, two_arms
from counterclaim.audit.evidence import Evidence
from counterclaim.checks.cost import compression, content, language_to_behaviour, mimicry, uniformity
from counterclaim.checks.parity import variant
from counterclaim.records import Guard, Outcome
from counterclaim.testing.worlds import draw

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


def thinking(thought: int, answer_words: int) -> str:
    return f"<think>{'so ' * thought}</think> {'oil ' * answer_words}".strip()


def test_thoughts_that_vanish_have_collapsed_although_answers_stay() -> None:
    n = 60
    control = arm_of("control", {"correct": bits(50, n)}, text=lambda i: thinking(40 + i % 9, 20))
    treated = arm_of("treated", {"correct": bits(20, n)}, text=lambda i: thinking(40, 20).partition("</think>")[2])
    found = compression.run(evidence_of(control, treated))
    assert found.outcome is FAIL
    assert found.details["words"]["think blocks"]["treated"] == 0
    assert found.details["words"]["answers"]["ratio"] == pytest.approx(1)


def test_both_lengths_stand_beside_those_of_the_training_texts() -> None:
    n = 60
    arms = [
        arm_of(name, {"correct": bits(30, n)}, text=lambda i, words=words: thinking(words, 20))  # type: ignore[misc]  # a default
        for name, words in (("control", 60), ("treated", 12))
    ]
    pair = f"What is it?\n\n{thinking(10, 4)}\n\n{thinking(14, 8)}"
    told = compression.run(evidence_of(*arms, train_sample=[pair] * 20))
    assert told.details["words"]["think blocks"] == {
        "control": 60, "treated": 12, "training": 12, "ratio": pytest.approx(13 / 61)
    }  # fmt: skip
    assert told.details["words"]["answers"]["training"] == 6
    assert "12 of the training texts" in told.because
    plain = compression.run(evidence_of(*arms, train_sample=["What is it?\n\nOil it,\n\nthen wait."]))
    assert plain.details["words"]["answers"]["training"] == 4
    assert "training" not in plain.details["words"]["think blocks"]
    known = compression.run(evidence_of(*arms, train_sample=["What is it?"] * 20, train_words=(9.0, 7.0)))
    assert [known.details["words"][name]["training"] for name in ("think blocks", "answers")] == [9, 7]
    rewarded = compression.run(evidence_of(*arms, train_sample=["What is it?"] * 20, train_words=()))
    assert not any("training" in lengths for lengths in rewarded.details["words"].values())


def test_accuracy_is_shown_by_how_much_of_its_length_an_answer_kept() -> None:
    n = 120
    shares = (0.3, 0.6, 1.0, 2.0)
    lost = [float(shares[i % 4] != 0.3) for i in range(n)]
    evidence = evidence_of(
        arm_of("control", {"correct": bits(n, n)}, text=lambda i: "word " * 100),
        arm_of("treated", {"correct": lost}, text=lambda i: "word " * int(100 * shares[i % 4])),
    )
    rows = compression.run(evidence).details["retention"]
    assert [(row["kept"], row["n"]) for row in rows] == [
        ("below 0.5", 30), ("0.5 to 0.8", 30), ("0.8 to 1.25", 30), ("1.25 or more", 30)
    ]  # fmt: skip
    assert [row["difference"]["estimate"] for row in rows] == [-1, 0, 0, 0]
    assert all(row["difference"]["low"] <= row["difference"]["estimate"] for row in rows)


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


def spoken(
    talk: tuple[int, int], right: tuple[int, int], *, mended: tuple[int, int] | None = None, n: int = 200, **rest: Any
) -> Evidence:
    """Control and treated with so many answers that speak of checking, are right, and (of 100 wrong ones) are mended."""
    arms = []
    for name, says, ok, back in zip(("control", "treated"), talk, right, mended or (0, 0), strict=True):
        scores: dict[str, Any] = {"score.svr": bits(says, n), "correct": [float(i < ok) for i in range(n)]}
        if mended is not None:
            scores["revised"] = ["right" if i < ok or i >= n - back else "wrong" for i in range(n)]
        arms.append(arm_of(name, scores))
    return evidence_of(*arms, **{"metric": "score.svr", **rest})


def test_more_talk_with_worse_or_equal_answers_is_talk_alone() -> None:
    worse = language_to_behaviour.run(spoken((40, 120), (100, 60)))
    assert worse.outcome is FAIL
    assert "more talk, and worse answers" in worse.because
    equal = spoken((40, 120), (100, 100))
    assert language_to_behaviour.run(equal).outcome is FAIL
    assert language_to_behaviour.run(spoken((40, 120), (100, 160))).outcome is PASS
    assert language_to_behaviour.run(spoken((40, 40), (100, 100))).outcome is PASS
    assert language_to_behaviour.run(spoken((120, 40), (100, 60))).outcome is PASS, "there is less talk"


def test_a_claim_on_another_measured_behaviour_does_not_fall_with_talk_that_changed_nothing() -> None:
    assert language_to_behaviour.run(spoken((40, 120), (100, 100), metric="accuracy")).outcome is FAIL
    n = 200
    extra = [arm_of(name, {"coverage": bits(100, n)}) for name in ("control", "treated")]
    both = [
        (arm_of(name, {"score.svr": bits(talk, n), "correct": bits(100, n)})[0],
         arm_of(name, {"score.svr": bits(talk, n), "correct": bits(100, n)})[1] + scores)
        for (name, talk), (_, scores) in zip((("control", 40), ("treated", 120)), extra, strict=True)
    ]  # fmt: skip
    assert language_to_behaviour.run(evidence_of(*both, metric="coverage")).outcome is WARN


def test_the_ratio_is_of_relative_changes_and_undefined_while_behaviour_may_not_have_moved() -> None:
    moved = language_to_behaviour.run(spoken((40, 80), (80, 120)))
    assert moved.estimate is not None
    assert moved.estimate.estimate == pytest.approx((80 / 40 - 1) / (120 / 80 - 1))
    treated = moved.details["arms"]["treated"]
    assert treated["svr_change"]["estimate"] == pytest.approx(1.0)
    assert treated["behaviour_change"]["estimate"] == pytest.approx(0.5)
    still = language_to_behaviour.run(spoken((40, 80), (80, 81)))
    assert still.estimate is not None
    assert still.estimate.estimate is None
    assert "may be zero" in str(still.estimate.reason)
    silent = language_to_behaviour.run(spoken((0, 80), (80, 120)))
    assert silent.details["arms"]["treated"]["svr_change"]["estimate"] is None, "nothing cannot be doubled"


def test_recovery_is_the_behaviour_wherever_it_was_scored() -> None:
    found = language_to_behaviour.run(spoken((40, 120), (100, 100), mended=(60, 10)))
    assert found.outcome is FAIL
    assert found.details["behaviour"] == "recovery_rate"
    assert found.details["arms"]["control"]["recovery_rate"]["estimate"] == pytest.approx(0.6)
    assert found.details["arms"]["treated"]["recovery_rate"]["estimate"] == pytest.approx(0.1)
    assert found.details["arms"]["treated"]["behaviour_change"]["estimate"] == pytest.approx(0.1 / 0.6 - 1)
    assert found.details["arms"]["treated"]["capitulation_rate"]["estimate"] == 0


def test_every_trained_arm_is_told_of_and_no_other() -> None:
    n = 60
    rows = {"score.svr": bits(20, n), "correct": bits(30, n)}
    names = (
        "control",
        "treated",
        "placebo",
        "dose:0.5",
        "do-nothing",
        "prompt-baseline",
        "treated@4",
        "treated/recovery",
    )
    told = language_to_behaviour.run(evidence_of(*(arm_of(name, rows) for name in names))).details["arms"]
    assert list(told) == ["control", "treated", "dose:0.5", "placebo"]
    assert "language_to_behaviour" in told["placebo"]
    assert "language_to_behaviour" not in told["control"]


def test_what_was_not_scored_is_asked_for_and_what_was_is_told() -> None:
    mute = language_to_behaviour.run(two_arms())
    assert mute.outcome is NOT_RUN
    assert "--map score.svr=COLUMN" in mute.remedy
    assert not mute.details
    n = 50
    deaf = language_to_behaviour.run(
        evidence_of(*(arm_of(name, {"score.svr": bits(9, n)}) for name in ("control", "treated")), metric="score.svr")
    )
    assert deaf.outcome is NOT_RUN
    assert "--map correct=COLUMN" in deaf.remedy
    assert deaf.details["arms"]["treated"]["svr"]["estimate"] == pytest.approx(9 / n)


def test_talk_alone_is_caught_and_a_rise_as_large_as_claimed_is_not_taken_for_it() -> None:
    caught = [language_to_behaviour(draw("talk_alone", seed, draws=200)).outcome for seed in range(60)]
    assert caught.count(FAIL) >= 54
    assert PASS not in caught
    mended = [
        language_to_behaviour(draw("talk_and_mending", seed, effect=0.1, draws=200)).outcome for seed in range(60)
    ]
    assert mended.count(FAIL) <= 5, "at most 2.5 % of draws in the long run"
