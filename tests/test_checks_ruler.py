"""Each ruler check: a planted fault that it must catch, a clean case that it must let pass, and missing evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conftest import DECODE, MODEL, answer, arm_of, bits, counts_only, evidence_of, question, two_arms
from counterclaim.audit.evidence import Evidence
from counterclaim.checks.endings import AtBudget, clip, truncation
from counterclaim.checks.joins import alignment, contamination, ledger
from counterclaim.checks.judging import judge_cards, parser, saturation, unscored
from counterclaim.checks.labels import label_agreement, label_ties
from counterclaim.checks.parity import decode_parity, judge_parity, label_parity, roles
from counterclaim.records import CONTROL, TREATED, ArmId, Claim, Decode, Estimate, Guard, ModelRef, Outcome, Quote
from counterclaim.stats import wilson
from counterclaim.testing.worlds.study import Knobs, Study
from counterclaim.text.overlap import scan

RNG = np.random.default_rng(17)
PASS, FAIL, WARN, INCONCLUSIVE, NOT_RUN = (
    Outcome.PASS, Outcome.FAIL, Outcome.WARN, Outcome.INCONCLUSIVE, Outcome.NOT_RUN,
)  # fmt: skip


def first(n: int, share: float) -> list[float]:
    return [float(i < share * n) for i in range(n)]


def ending(n: int = 100, *, control: range = range(0), treated: range = range(0), **more: Any) -> Evidence:
    """Accuracy 0.4 against 0.8, with the given answers of each arm cut."""
    return evidence_of(
        arm_of("control", {"correct": first(n, 0.4)}, cut=control, **more),
        arm_of("treated", {"correct": first(n, 0.8)}, cut=treated),
    )


def test_truncation_passes_finished_answers_and_gives_shares_per_arm() -> None:
    finding = truncation.run(ending(treated=range(90, 92)))
    assert finding.outcome is PASS
    assert finding.details["known"] is True
    arms = finding.details["arms"]
    assert arms["treated"]["cut"] == 0.02
    assert arms["control"] == {**arms["control"], "cut": 0.0, "finished": 1.0, "unknown": 0.0}
    assert arms["control"]["provenance"] == {"recorded": 1.0}
    assert finding.estimate == wilson(2, 100, 0.95)
    assert len(finding.evidence) == 2


def test_truncation_fails_when_many_answers_are_cut_in_both_arms() -> None:
    both = truncation.run(ending(control=range(40), treated=range(40)))
    assert both.outcome is FAIL
    assert "control 40 % cut" in both.because
    assert "budget" in both.remedy


def test_truncation_fails_when_one_arm_is_cut_more_often() -> None:
    finding = truncation.run(ending(control=range(85, 100)))
    assert finding.outcome is FAIL
    assert "One arm was cut more often than the other" in finding.because
    assert "on the 85 prompts that both arms finished" in finding.because
    assert finding.because.endswith(", not 0.400.")


def test_truncation_warns_when_the_finished_answers_say_the_same() -> None:
    finding = truncation.run(ending(control=range(96, 100), treated=range(95, 100)))
    assert finding.outcome is WARN
    assert "which leads to the same conclusion" in finding.because


def test_truncation_is_not_known_where_nobody_recorded_it() -> None:
    finding = truncation.run(ending(unknown=range(30)))
    assert finding.outcome is INCONCLUSIVE
    assert finding.details["known"] is False
    assert finding.n_unscored == 30
    assert "--map finish_reason=COLUMN" in finding.remedy


@pytest.mark.parametrize("arm", ["control", "treated"])
def test_five_unknown_endings_of_a_hundred_are_allowed_and_six_are_not(arm: str) -> None:
    """In either arm: the share is that of the worse one, not of both together."""

    def with_unknown(many: int) -> Any:
        rows = {"control": {"correct": first(100, 0.4)}, "treated": {"correct": first(100, 0.8)}}
        return truncation.run(evidence_of(*(
            arm_of(name, values, unknown=range(many if name == arm else 0)) for name, values in rows.items()
        )))  # fmt: skip

    allowed, too_many, far_too_many = (with_unknown(many) for many in (5, 6, 19))
    assert allowed.details["known"] is True
    assert allowed.outcome is WARN
    for finding in (too_many, far_too_many):
        assert finding.details["known"] is False
        assert finding.outcome is INCONCLUSIVE
        assert finding.because.startswith("Finish reasons are unknown for too many answers")


def test_two_of_a_hundred_cut_are_next_to_none_and_three_are_some() -> None:
    assert truncation.run(ending(treated=range(2), control=range(2))).outcome is PASS
    assert truncation.run(ending(treated=range(3), control=range(3))).outcome is WARN


def test_a_fifth_cut_in_each_arm_can_still_be_judged_and_more_cannot() -> None:
    fifth, more = (truncation.run(ending(control=range(k, k + k), treated=range(k, k + k))) for k in (20, 21))
    assert "Too many answers were cut" not in fifth.because
    assert more.outcome is FAIL
    assert more.because.startswith("Too many answers were cut")


def test_truncation_sees_an_effect_that_turns_at_another_budget() -> None:
    n = 100
    evidence = evidence_of(
        arm_of("control", {"correct": first(n, 0.2)}), arm_of("treated", {"correct": first(n, 0.6)}),
        arm_of("control@2048", {"correct": first(n, 0.7)}), arm_of("treated@2048", {"correct": first(n, 0.5)}),
    )  # fmt: skip
    finding = truncation.run(evidence)
    assert finding.outcome is FAIL
    assert "changes sign with the token budget: 0.400 here, -0.200" in finding.because


def at_budgets(
    *budgets: tuple[int, float, float], control: float = 0.2, treated: float = 0.6, cut: range = range(0)
) -> Any:
    """Accuracy of whole answers (of 256 tokens at most), and of the same arms at other budgets, with these many cut."""
    n = 100
    arms = [arm_of(name, {"correct": first(n, share)}) for name, share in (("control", control), ("treated", treated))]
    for tokens, c, t in budgets:
        arms += [
            arm_of(f"{name}@{tokens}", {"correct": first(n, share)}, cut=cut if name == "control" else ())
            for name, share in (("control", c), ("treated", t))
        ]
    return truncation.run(evidence_of(*arms))


def test_a_smaller_budget_that_turns_the_effect_round_is_told_and_no_fault_of_whole_answers() -> None:
    finding = at_budgets((64, 0.5, 0.3), (128, 0.3, 0.65), cut=range(30))
    assert finding.outcome is PASS
    assert "At 64 tokens (control 30 %, treated 0 % cut) the same answers would have shown -0.200" in finding.because
    assert [row["budget"] for row in finding.details["budgets"]] == [64, 128]
    assert finding.figure is not None
    assert [row["name"] for row in finding.figure["rows"]] == ["64 tokens", "128 tokens", "whole answers"]
    assert [round(row["estimate"], 9) for row in finding.figure["rows"]] == [-0.2, 0.35, 0.4]
    assert (finding.figure["margin"], finding.figure["label"]) == (0.1, "change of accuracy by token budget")
    for tokens in (256, 300):
        assert at_budgets((tokens, 0.5, 0.3)).outcome is FAIL, "this one cannot claim to be the right one"


def test_budgets_that_show_the_same_effect_are_not_told() -> None:
    finding = at_budgets((64, 0.2, 0.59))
    assert finding.outcome is PASS
    assert "tokens" not in finding.because
    assert at_budgets((2048, 0.3, 0.28), control=0.4, treated=0.42).outcome is PASS, "none of the two is an effect"


def test_truncation_of_counts_is_what_was_stated() -> None:
    from counterclaim.audit.effect import ArmCounts, Counts

    def stated(control: int | None, treated: int | None) -> Any:
        counts = Counts(ArmCounts(40, 120, control), ArmCounts(55, 120, treated))
        return truncation.run(Evidence(Claim("accuracy", "increase", 0.05), {}, counts=counts))

    assert stated(0, 1).outcome is PASS
    assert stated(0, 30).outcome is FAIL
    half = stated(0, None)
    assert half.outcome is INCONCLUSIVE
    assert half.details["known"] is False
    assert half.details["arms"]["treated"]["unknown"] == 1.0
    assert "--cut" in half.remedy


def test_choosing_among_given_answers_cannot_be_cut() -> None:
    rows = [arm_of(a, {"correct": bits(5, 10)}, unknown=range(10)) for a in ("control", "treated")]
    evidence = evidence_of(*rows, sources=[{"no_generation": True}] * 2)
    assert truncation.run(evidence).outcome is PASS


def test_clip_finds_one_exact_length_and_a_judge_that_saw_less() -> None:
    long = [answer(i) * (1 + i % 9) for i in range(80)]
    whole = evidence_of(arm_of("control", {"correct": bits(40, 80)}, text=lambda i: long[i]))
    assert clip.run(whole).outcome is PASS
    cut = evidence_of(arm_of("control", {"correct": bits(40, 80)}, text=lambda i: long[i][:300]))
    finding = clip.run(cut)
    assert finding.outcome is FAIL
    assert "exactly 300 characters" in finding.because
    seen = evidence_of(arm_of("control", {"correct": bits(40, 80)}, text=lambda i: long[i], scorer="judge@1#view=200"))
    assert "saw only the first 200 characters" in clip.run(seen).because
    mute = evidence_of(arm_of("control", {"correct": bits(4, 8)}, text=lambda i: None))
    assert "--map response=COLUMN" in clip.run(mute).remedy


def with_decode(control: Decode, treated: Decode, *, varies: tuple[str, ...] = (), models: Any = (MODEL, MODEL)) -> Any:
    rows = {"correct": bits(5, 10)}
    return decode_parity.run(evidence_of(
        arm_of("control", rows, decode=control, model=models[0]), arm_of("treated", rows, decode=treated, model=models[1]),
        claim={"varies": varies},
    ))  # fmt: skip


def test_arms_must_be_sampled_alike() -> None:
    assert with_decode(DECODE, DECODE).outcome is PASS
    hot = with_decode(DECODE, replace(DECODE, temperature=0.7))
    assert hot.outcome is FAIL
    assert "temperature: control 0.0, treated 0.7" in hot.because
    assert with_decode(DECODE, replace(DECODE, temperature=0.7), varies=("temperature",)).outcome is PASS
    one_sided = with_decode(DECODE, replace(DECODE, thinking=True))
    assert one_sided.outcome is INCONCLUSIVE
    assert "thinking (only treated records True)" in one_sided.because
    assert with_decode(replace(DECODE, temperature=None), replace(DECODE, temperature=None)).outcome is INCONCLUSIVE
    coarse = with_decode(DECODE, DECODE, models=(MODEL, replace(MODEL, dtype="int4")))
    assert coarse.outcome is FAIL
    silent = with_decode(Decode(None), Decode(None), models=(ModelRef(), ModelRef()))
    assert silent.outcome is NOT_RUN
    assert "--map decode.temperature=COLUMN" in silent.remedy


def judged(control: str, treated: str, axis: str = "correct") -> Evidence:
    return evidence_of(
        arm_of("control", {"correct": bits(5, 10), axis: bits(5, 10)}, scorer={axis: control}),
        arm_of("treated", {"correct": bits(5, 10), axis: bits(5, 10)}, scorer={axis: treated}),
    )


def test_both_arms_must_have_one_judge() -> None:
    assert judge_parity.run(judged("judge@1#p", "judge@1#p")).outcome is PASS
    two = judge_parity.run(judged("judge@1#p", "judge@2#p"))
    assert two.outcome is FAIL
    assert "correct was scored by judge@1#p in control and judge@2#p in treated" in two.because
    nobody = judge_parity.run(judged("correct@unversioned", "correct@unversioned"))
    assert nobody.outcome is NOT_RUN
    assert "judge_version" in nobody.remedy


def test_labels_must_come_from_one_scorer_throughout() -> None:
    assert label_parity.run(judged("judge@1", "judge@1")).outcome is PASS
    assert label_parity.run(judged("judge@1", "judge@2")).outcome is FAIL
    assert label_parity.run(judged("judge@1", "judge@2", "coverage")).outcome is WARN
    nobody = evidence_of(arm_of("control", {"correct": bits(5, 10)}, scorer="correct@unversioned"))
    assert "judge_version" in label_parity.run(nobody).remedy


def lacking(control: int, treated: int, *, before: float = 0.4, after: float = 0.8, n: int = 100) -> Evidence:
    """The last answers of each arm unscored."""
    return evidence_of(
        arm_of("control", {"correct": [*first(n, before)[: n - control], *[None] * control]}),
        arm_of("treated", {"correct": [*first(n, after)[: n - treated], *[None] * treated]}),
    )


def test_unscored_items_cannot_be_wished_away() -> None:
    assert unscored.run(lacking(0, 0)).outcome is PASS
    assert unscored.run(lacking(0, 3)).outcome is PASS
    assert unscored.run(lacking(10, 10)).outcome is WARN
    flipped = unscored.run(lacking(45, 30))
    assert flipped.outcome is FAIL
    assert "control 45 %, treated 30 %" in flipped.because
    assert "no reply (75)" in flipped.because
    assert flipped.n_unscored == 75
    # 0.40 with 45 more right at most, against 0.70 with 30 more wrong at most
    assert "ranges from -0.150 to 0.600" in flipped.because


def test_unscored_failures_that_could_hide_an_effect_are_caught_too() -> None:
    evidence = lacking(0, 40, before=0.5, after=0.5)
    assert evidence.effect.conclusion(1, 0.1, 0.01) == "against"
    assert unscored.run(evidence).outcome is FAIL


def test_unscored_on_a_ratio_has_no_bound() -> None:
    labels: list[Any] = ["assert", "hedge"] * 50
    holed = [None] * 20 + labels[20:]
    evidence = evidence_of(
        arm_of("control", {"correct": bits(50, 100), "delivery": labels}),
        arm_of("treated", {"correct": bits(50, 100), "delivery": holed}),
        metric="assertion_asymmetry", direction="decrease",
    )  # fmt: skip
    finding = unscored.run(evidence)
    assert finding.outcome is FAIL
    assert "has no bound" in finding.because


def test_a_dozen_prompts_are_too_few_to_call_an_axis_stuck() -> None:
    """Two arms that agree on twelve prompts give 24 values, and have seen twelve."""
    few = saturation.run(two_arms(12, 1.0, 1.0))
    assert few.outcome is INCONCLUSIVE
    assert "on 12 prompts: too few" in few.because
    assert saturation.run(two_arms(20, 1.0, 1.0)).outcome is FAIL


def test_a_stuck_target_cannot_move() -> None:
    assert saturation.run(two_arms(100)).outcome is PASS
    stuck = saturation.run(two_arms(100, 0.99, 0.99))
    assert stuck.outcome is FAIL
    assert "99 % of 200 values of accuracy are 1" in stuck.because
    assert saturation.run(two_arms(100, 0.97, 0.95)).outcome is FAIL  # 0.085 of room at most, margin 0.1
    assert saturation.run(two_arms(8)).outcome is INCONCLUSIVE


def test_a_stuck_axis_beside_the_target_is_named() -> None:
    rows = {"correct": bits(40, 100), "label.cert": ["CERTAIN"] * 100}
    finding = saturation.run(
        evidence_of(arm_of("control", rows), arm_of("treated", {**rows, "correct": bits(60, 100)}))
    )
    assert finding.outcome is WARN
    assert "label.cert (200 of 200 are CERTAIN)" in finding.because
    flat = {"correct": bits(40, 100), "delivery": ["assert"] * 100}
    evidence = evidence_of(arm_of("control", flat), arm_of("treated", flat), metric="assertion_asymmetry")
    assert saturation.run(evidence).outcome is FAIL


def labelled(*labels: str, metric: str = "assertion_rate", cards: Any = ()) -> Any:
    values = [labels[i % len(labels)] for i in range(60)]
    arms = [arm_of(a, {"delivery": values, "label.cert": values}) for a in ("control", "treated")]
    return parser.run(evidence_of(*arms, metric=metric, cards=cards))


def test_a_label_that_never_comes_back_is_a_deaf_parser() -> None:
    deaf = labelled("assert")
    assert deaf.outcome is FAIL
    assert "hedge never came back in 120 items" in deaf.because
    assert "--judge-cards FILE" in deaf.remedy
    rows = {"correct": bits(30, 60), "delivery": ["assert", "hedge"] * 30}
    assert parser.run(evidence_of(arm_of("control", rows), arm_of("treated", rows))).outcome is PASS
    certain = {"correct": bits(30, 60), "label.cert": ["CERTAIN", "AMBIGUOUS"] * 30}
    beside = parser.run(evidence_of(arm_of("control", certain), arm_of("treated", certain)))
    assert beside.outcome is WARN
    assert "UNCERTAIN contains CERTAIN" in beside.because
    strange = {"delivery": ["assert", "hedge", "error"] * 20}
    failed = parser.run(evidence_of(arm_of("control", strange), arm_of("treated", strange), metric="hedging_rate"))
    assert failed.outcome is FAIL
    assert "parse failures kept as labels" in failed.because
    assert "--map delivery=COLUMN" in parser.run(two_arms()).remedy


def test_a_card_can_show_that_the_missing_label_is_reachable() -> None:
    rows = {"delivery": ["assert"] * 60}
    cards = [{"expected": "hedge", "returned": "hedge"}]
    evidence = evidence_of(arm_of("control", rows), arm_of("treated", rows), metric="assertion_rate", cards=cards)
    assert parser.run(evidence).outcome is PASS


def carded(*cards: tuple[str, str, str]) -> Any:
    rows = [{"expected": expected, "returned": returned, "kind": kind} for expected, returned, kind in cards]
    return judge_cards.run(two_arms(evidence={"cards": rows}))


def test_a_judge_must_know_its_own_labels() -> None:
    good = [("yes", "yes", "label"), ("no", "no", "label")] * 10
    assert carded(*good, ("no", "no", "injection")).outcome is PASS
    deaf = carded(*good, ("maybe", "yes", "label"), ("maybe", "no", "label"))
    assert deaf.outcome is FAIL
    assert "never returned maybe" in deaf.because
    swayed = carded(*good, *[("no", "yes", "injection")] * 3, ("no", "no", "injection"))
    assert swayed.outcome is FAIL
    assert "injection 25 %" in swayed.because
    assert "--judge-cards FILE" in judge_cards.run(two_arms()).remedy


def joined(shift_text: int = 0, shift_gold: int = 0, n: int = 60) -> Any:
    rows = [
        arm_of(a, {"correct": bits(30, n)}, text=lambda i, a=a: answer((i + shift_text) % n, a))  # type: ignore[misc]  # default
        for a in ("control", "treated")
    ]
    return alignment.run(evidence_of(*rows, gold=lambda i: f"The answer key reads: {answer((i + shift_gold) % n)}"))


def test_answers_and_golds_must_belong_to_their_prompts() -> None:
    fine = joined()
    assert fine.outcome is PASS
    assert fine.because.startswith("60 prompts paired, 0 answered by one arm only.")
    assert fine.details["pairing"]["paired"] == 60
    wrong_answers = joined(shift_text=7)
    assert wrong_answers.outcome is FAIL
    assert "control answers and their prompts share no more words" in wrong_answers.because
    wrong_golds = joined(shift_gold=7)
    assert wrong_golds.outcome is FAIL
    assert "golds and their prompts" in wrong_golds.because


def test_alignment_without_texts_and_with_few_pairs() -> None:
    mute = evidence_of(*(arm_of(a, {"correct": bits(30, 60)}, text=lambda i: None) for a in ("control", "treated")))
    assert "--map prompt=COLUMN,response=COLUMN" in alignment.run(mute).remedy
    half = evidence_of(
        arm_of("control", {"correct": bits(30, 60)}), arm_of("treated", {"correct": bits(30, 60)}, ids=range(30, 90))
    )
    finding = alignment.run(half)
    assert finding.outcome is WARN
    assert "30 prompts paired, 60 answered by one arm only" in finding.because


def trained_on(leaked: int, *, only_gains: bool = False, n: int = 200) -> Any:
    control, treated = first(n, 0.4), first(n, 0.6)
    if only_gains:
        treated = [1.0 if 80 <= i < 80 + leaked else c for i, c in enumerate(control)]
    evidence = evidence_of(
        arm_of("control", {"correct": control}), arm_of("treated", {"correct": treated}), margin=0.03
    )
    start = 80 if only_gains else 0
    rows = [f"### Instruction\n{question(i)}\n{answer(i)}" for i in range(start, start + leaked)]
    rows += [f"Some other row {k} about the weather in another town and what people said of it." for k in range(50)]
    prompts = {key: prompt.text for key, prompt in evidence.prompts.items()}
    evidence.overlap = scan(prompts, rows)
    return contamination.run(evidence)


def test_prompts_must_not_be_in_the_training_data() -> None:
    assert trained_on(0).outcome is PASS
    leaky = trained_on(60)
    assert leaky.outcome is FAIL
    assert "60 of 200 prompts (30 %) occur in the 110 training texts" in leaky.because
    few = trained_on(3)
    assert few.outcome is WARN
    assert len(few.evidence) == 3
    carried = trained_on(9, only_gains=True)
    assert carried.outcome is FAIL
    assert "without them the effect is 0.000" in carried.because
    assert "--train-data FILE" in contamination.run(two_arms()).remedy


def quoted(*quotes: Quote) -> Any:
    return ledger.run(two_arms(100, 0.4, 0.79, evidence={"quotes": quotes}))


def test_quoted_numbers_are_recomputed() -> None:
    right = quoted(Quote(CONTROL, "accuracy", 0.4, 100), Quote(TREATED, "accuracy", 0.79))
    assert right.outcome is PASS
    assert "control accuracy" in right.because
    rounded = quoted(Quote(TREATED, "accuracy", 0.8))
    assert rounded.outcome is PASS
    wrong = quoted(Quote(TREATED, "accuracy", 0.87))
    assert wrong.outcome is FAIL
    assert "quoted as 0.87 by the claim, the records give 0.79" in wrong.because
    percent = quoted(Quote(TREATED, "accuracy", 79.0))
    assert "fractions, not percent" in percent.because
    counted = quoted(Quote(TREATED, "accuracy", 0.79, 90))
    assert "quoted with n = 90, the records hold 100" in counted.because
    assert "[[quotes]]" in quoted().remedy
    assert quoted(Quote(TREATED, "coverage", 0.5), Quote(ArmId("nobody"), "accuracy", 0.5)).outcome is NOT_RUN


def agreeing(share: float, n: int = 200) -> Any:
    a = np.array(bits(n // 2, n))
    b = np.where(np.arange(n) < share * n, a, 1 - a)
    rows = {"correct": a.tolist(), "score.factual": (1 + 4 * b).tolist()}
    return label_agreement.run(
        evidence_of(arm_of("control", rows), claim={"same_construct": (("correct", "factual"),)})
    )


def test_labels_of_one_construct_must_agree() -> None:
    good = agreeing(0.95)
    assert good.outcome is PASS
    assert good.estimate is not None
    assert good.estimate.estimate == pytest.approx(0.9)  # 2 x .95 - 1 at even base rates
    assert good.details["ceiling_auc"] == pytest.approx(0.95)
    poor = agreeing(0.6)
    assert poor.outcome is FAIL
    assert "agree on 60 % of 200 responses, Cohen's kappa 0.200" in poor.because
    assert agreeing(0.75).outcome is WARN
    assert "--same-construct" in label_agreement.run(two_arms()).remedy
    unknown = two_arms(evidence={"claim": {"same_construct": (("correct", "nothing"),)}})
    assert "no label 'nothing'" in label_agreement.run(unknown).because


def tied(ties: int, *, arms: int = 2, n: int = 100) -> Any:
    coverage = [0.5] * ties + [0.25] * (n // 2 - ties // 2) + [0.75] * (n - n // 2 - (ties + 1) // 2)
    rows = {"coverage": coverage, "correct": [float(x >= 0.5) for x in coverage]}
    low = [0.25] * ties + coverage[ties:]
    control = {"coverage": low, "correct": [float(x >= 0.5) for x in low]}
    if arms == 1:
        return label_ties.run(evidence_of(arm_of("control", rows)))
    return label_ties.run(evidence_of(arm_of("control", control), arm_of("treated", rows)))


def test_ties_at_the_threshold_must_not_decide() -> None:
    decided = tied(31)
    assert decided.outcome is FAIL
    assert "31 of 200 items (16 %) have coverage exactly 0.5" in decided.because
    assert "0.310" in decided.because
    assert tied(0).outcome is PASS
    alone = tied(31, arms=1)
    assert alone.outcome is FAIL
    assert "31 of 100 items" in alone.because
    assert tied(4, arms=1).outcome is PASS


def test_ties_need_the_score_behind_the_label() -> None:
    assert "--map coverage=COLUMN" in label_ties.run(two_arms()).remedy
    rows = {"correct": bits(50, 100), "coverage": [0.5] * 100}
    own_oracle = label_ties.run(evidence_of(arm_of("control", rows), arm_of("treated", rows)))
    assert own_oracle.outcome is NOT_RUN
    assert "correctness has its own oracle" in own_oracle.remedy


def in_roles(**models: str) -> Any:
    return roles.run(two_arms(evidence={"claim": {"roles": models, "guards": (Guard("accuracy", 0.1),)}}))


def test_a_judge_must_not_grade_its_own_family() -> None:
    assert in_roles(teacher="aster/aster-2", judge="borage/borage-7b", student="clover-1b").outcome is PASS
    own = in_roles(teacher="aster/aster-2", judge="other-host/aster-2.5-pro")
    assert own.outcome is FAIL
    assert "aster is judge and teacher" in own.because
    assert in_roles(prompt_writer="aster-1", checklist_author="aster-2").outcome is WARN
    assert "[roles]" in roles.run(two_arms()).remedy


def test_ruler_checks_of_counts_ask_for_results() -> None:
    for check in (clip, alignment, unscored, saturation, parser, judge_parity, decode_parity, label_ties, ledger):
        finding = check.run(counts_only())
        assert finding.outcome is NOT_RUN
        assert "--control FILE --treated FILE" in finding.remedy


def at_smaller_budget(*, cut_here: bool) -> Evidence:
    """A rise of 0.1 in answers that ended on their own; cut to 64 tokens, the same arms show a fall of 0.1."""
    study = Study(Knobs(np.random.default_rng(3), 200, 0.1, 0.0), shift=0.1)
    study.treated.cut[:40] = cut_here
    for name, shift in (("control@64", 0.0), ("treated@64", -0.1)):
        draft = study.add(study.draft(name, shift=shift))
        draft.decode = replace(draft.decode, max_new_tokens=64)
        draft.cut[:150] = name == "treated@64"
    return study.evidence(1_000)


def test_a_smaller_budget_that_turns_the_effect_around_is_told_and_held_against_nobody() -> None:
    found = truncation(at_smaller_budget(cut_here=False))
    assert found.outcome is Outcome.PASS
    assert "At 64 tokens (control 0 %, treated 75 % cut) the same answers would have shown -0.1" in found.because
    (row,) = found.details["budgets"]
    assert (row["budget"], row["cut"]["treated"]) == (64, 0.75)
    assert found.figure is not None
    assert [r["name"] for r in found.figure["rows"]] == ["64 tokens", "whole answers"]


def test_where_answers_were_cut_here_too_no_budget_is_the_right_one() -> None:
    found = truncation(at_smaller_budget(cut_here=True))
    assert found.outcome is Outcome.FAIL
    assert "changes sign with the token budget" in found.because


@pytest.mark.parametrize(
    ("value", "low", "high", "contradicts"),
    [(-0.1, -0.3, 0.09, True), (-0.1, -0.3, 0.1, False), (0.1, 0.0, 0.05, False), (-0.1, None, None, False)],
)
def test_another_budget_contradicts_where_its_interval_leaves_the_effect_out(
    value: float, low: float | None, high: float | None, contradicts: bool
) -> None:
    found = Estimate(value, low, high, 0.95, "m", 9, None if low is not None else "no spread")
    assert AtBudget(64, {}, found).contradicts(0.1) is contradicts
    mirrored = Estimate(
        -value, None if high is None else -high, None if low is None else -low, 0.95, "m", 9, found.reason
    )
    assert AtBudget(64, {}, mirrored).contradicts(-0.1) is contradicts
