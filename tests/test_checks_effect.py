"""Each effect check: a planted case that it must catch, a clean one that it must let pass, and evidence that is missing."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conftest import DECODE, MODEL, arm_of, bits, counts_only, evidence_of, two_arms
from counterclaim.audit.evidence import Evidence
from counterclaim.checks import ONE_ARM, required, run_all
from counterclaim.checks.arms import dose_response, identity, placebo, prompt_baseline
from counterclaim.checks.effect import multiplicity, paired_effect, power, seeds
from counterclaim.records import ArmId, Outcome
from counterclaim.registry import Finding, checks
from counterclaim.stats import holm

RNG = np.random.default_rng(11)
PASS, FAIL, WARN = Outcome.PASS, Outcome.FAIL, Outcome.WARN
INCONCLUSIVE, NOT_RUN = Outcome.INCONCLUSIVE, Outcome.NOT_RUN


def first(n: int, share: float) -> list[float]:
    return [float(i < share * n) for i in range(n)]


def test_paired_effect_says_for_against_or_open_with_its_numbers() -> None:
    clear = paired_effect.run(two_arms(100, 0.4, 0.8))
    assert clear.outcome is PASS
    assert clear.because.startswith("accuracy changed by 0.400 [")
    assert "exact McNemar" in clear.because
    assert clear.figure == {
        "kind": "pairs", "cells": {"both": 40, "only_control": 0, "only_treated": 40, "neither": 20},
    }  # fmt: skip
    wrong = paired_effect.run(two_arms(100, 0.8, 0.4))
    assert wrong.outcome is FAIL
    assert "on the wrong side of zero" in wrong.because
    none = paired_effect.run(two_arms(400, 0.5, 0.5))
    assert none.outcome is FAIL
    assert "below the margin 0.100" in none.because
    small = evidence_of(arm_of("control", {"correct": bits(6, 15)}), arm_of("treated", {"correct": bits(8, 15)}))
    assert paired_effect.run(small).outcome is INCONCLUSIVE


def test_a_suggestive_effect_is_not_enough() -> None:
    finding = paired_effect.run(two_arms(40, 0.3, 0.45))  # 6 discordant pairs: p = .031
    assert finding.outcome is INCONCLUSIVE
    assert "suggestive" in finding.because
    assert "0.01" in finding.because
    many = int(re.findall(r"about (\d+) paired prompts", finding.remedy)[0])
    assert 40 < many < 120
    assert paired_effect.run(two_arms(2 * many, 0.3, 0.45)).outcome is PASS


def test_paired_effect_of_counts_needs_the_worst_pairing() -> None:
    assert paired_effect.run(counts_only(40, 55)).outcome is INCONCLUSIVE
    assert paired_effect.run(counts_only(40, 60, both=38)).outcome is PASS
    finding = paired_effect.run(counts_only(40, 55))
    assert "depending on the pairing" in finding.because


def test_values_that_are_no_yes_or_no_are_drawn_pair_by_pair_and_four_hundred_at_most() -> None:
    for n, shown in ((30, 30), (900, 400)):
        c, t = np.arange(n, dtype=float), np.arange(n) / 2
        c[3] = np.nan
        arms = [
            arm_of(name, {"score.x": [None if np.isnan(v) else v for v in x.tolist()]})
            for name, x in (("control", c), ("treated", t))
        ]
        figure = paired_effect.run(evidence_of(*arms, metric="score.x")).figure
        assert figure is not None
        assert figure["kind"] == "paired_values"
        assert len(figure["control"]) == len(figure["treated"]) == shown - (n == 30)
        assert [v / 2 for v in figure["control"]] == figure["treated"]
        assert len(set(figure["control"])) == len(figure["control"])


def test_pairs_of_yes_and_no_are_counted_by_which_arm_was_right() -> None:
    evidence = evidence_of(
        arm_of("control", {"correct": [1.0] * 9 + [0.0] * 11}),
        arm_of("treated", {"correct": [0.0] * 2 + [1.0] * 11 + [0.0] * 7}),
    )
    figure = paired_effect.run(evidence).figure
    assert figure == {"kind": "pairs", "cells": {"both": 7, "only_control": 2, "only_treated": 4, "neither": 7}}


def test_one_set_of_results_has_no_effect_and_no_power() -> None:
    for check in (paired_effect, power):
        alone = check.run(evidence_of(arm_of("control", {"correct": bits(6, 15)})))
        assert alone.outcome is NOT_RUN
        assert alone.because == "There is only one set of results."
        assert alone.remedy == "Compare two sets with counterclaim audit."


def test_power_without_an_interval_or_with_too_few_pairs_asks_for_more() -> None:
    one = power.run(
        evidence_of(
            *(arm_of(name, {"score.x": [v]}) for name, v in (("control", 1.0), ("treated", 2.0))), metric="score.x"
        )
    )
    assert one.outcome is INCONCLUSIVE
    assert one.because.startswith("The effect has no interval: ")
    assert one.remedy == "Give more scored pairs."
    assert one.n == 1


def test_power_of_a_decrease_is_that_of_an_increase() -> None:
    up = power.run(two_arms(40, 0.3, 0.4))
    down = power.run(two_arms(40, 0.4, 0.3, evidence={"direction": "decrease"}))
    assert up.outcome is down.outcome is INCONCLUSIVE
    assert up.details["n_to_settle"] == down.details["n_to_settle"]
    assert up.details["minimum_detectable_effect"] == pytest.approx(down.details["minimum_detectable_effect"])
    assert power.run(two_arms(400, 0.4, 0.4, evidence={"direction": "decrease"})).outcome is PASS


def test_power_says_what_would_settle_it() -> None:
    open_ = power.run(
        evidence_of(arm_of("control", {"correct": bits(6, 15)}), arm_of("treated", {"correct": bits(8, 15)}))
    )
    assert open_.outcome is INCONCLUSIVE
    needed = open_.details["n_to_settle"]
    assert needed > 15
    assert str(needed) in open_.remedy
    clear = power.run(two_arms(400, 0.5, 0.5))
    assert clear.outcome is PASS
    assert clear.details["equivalence"]["equivalent"] is True
    assert 0 < clear.details["minimum_detectable_effect"] < 0.1


def test_n_to_settle_settles() -> None:
    def with_n(n: int) -> Finding:
        c = RNG.normal(size=n)
        t = c + np.where(np.arange(n) % 2, 1.0, -1.0)
        return power.run(evidence_of(
            arm_of("control", {"score.x": c.tolist()}), arm_of("treated", {"score.x": t.tolist()}),
            metric="score.x", margin=0.3,
        ))  # fmt: skip

    small = with_n(20)
    assert small.outcome is INCONCLUSIVE
    assert with_n(2 * ((small.details["n_to_settle"] + 1) // 2)).outcome is PASS


def by_seed(*shares: float, n: int = 80, control: float = 0.4, direction: str = "increase") -> Evidence:
    """Shares of right answers; of wrong ones where a decrease is claimed."""

    def values(share: float) -> dict[str, list[float]]:
        return {"correct": [x if direction == "increase" else 1 - x for x in first(n, share)]}

    arms = [arm_of("control", values(control))]
    for seed, share in enumerate(shares):
        arms.append(arm_of("treated", values(share), sample=seed, replicate=str(seed + 1)))
    return evidence_of(*arms, direction=direction)


def test_seeds_that_agree_pass_and_one_lucky_seed_fails() -> None:
    steady = seeds.run(by_seed(0.7, 0.72, 0.69, 0.71))
    assert steady.outcome is PASS
    assert steady.because.startswith("4 of 4 seeds move in the claimed direction")
    lucky = seeds.run(by_seed(1.0, 0.42, 0.2))
    assert lucky.outcome is FAIL
    assert "seeds contradict each other" in lucky.because
    assert lucky.figure is not None
    assert [row["name"] for row in lucky.figure["rows"]] == ["seed 1", "seed 2", "seed 3"]


@pytest.mark.parametrize("direction", ["increase", "decrease"])
def test_one_seed_that_surely_moves_the_other_way_contradicts_the_others(direction: str) -> None:
    """Though the prompts together settle nothing; where its interval still holds zero, so does the finding."""

    def moved(*shares: float, n: int = 80) -> tuple[Finding, str]:
        evidence = by_seed(*shares, n=n, direction=direction)
        return seeds.run(evidence), evidence.effect.conclusion(evidence.claim.sign, 0.1, 0.01)

    surely, of_prompts = moved(0.6, 0.55, 0.3)
    assert of_prompts == "open"
    assert surely.outcome is FAIL
    assert surely.because.startswith("2 of 3 seeds move in the claimed direction")
    assert "seeds contradict each other" in surely.because
    perhaps, of_prompts = moved(0.55, 0.45, 0.375, n=40)
    assert of_prompts == "open"
    assert perhaps.outcome is INCONCLUSIVE
    assert perhaps.because.startswith("2 of 3 seeds move in the claimed direction")
    assert "contradict" not in perhaps.because


def test_where_prompts_speak_for_the_claim_every_seed_has_to_move_that_way() -> None:
    """No seed's interval lies on the other side of zero, and yet one of three was not taken along."""
    evidence = by_seed(1.0, 0.9, 0.385)
    assert evidence.effect.conclusion(1, 0.1, 0.01) == "for"
    left_behind = seeds.run(evidence)
    assert left_behind.figure is not None
    assert min(row["high"] for row in left_behind.figure["rows"]) > 0
    assert left_behind.because.startswith("2 of 3 seeds")
    assert left_behind.outcome is FAIL
    assert seeds.run(by_seed(1.0, 0.9, 0.42)).outcome is INCONCLUSIVE


def test_a_seed_that_nobody_scored_is_left_out_and_not_counted() -> None:
    arms = [arm_of("control", {"correct": first(80, 0.4)})]
    for seed, values in enumerate(([None] * 80, first(80, 0.7), first(80, 0.72), first(80, 0.71))):
        arms.append(arm_of("treated", {"correct": values}, sample=seed, replicate=str(seed + 1)))
    found = seeds.run(evidence_of(*arms))
    assert found.because.startswith("3 of 3 seeds move in the claimed direction")
    assert found.figure is not None
    assert [row["name"] for row in found.figure["rows"]] == ["seed 2", "seed 3", "seed 4"]
    alone = seeds.run(evidence_of(*arms[:3]))
    assert alone.outcome is INCONCLUSIVE
    assert alone.because == "Fewer than two seeds have a defined effect."


def test_one_seed_is_not_run_and_two_that_differ_settle_nothing() -> None:
    alone = seeds.run(two_arms())
    assert alone.outcome is NOT_RUN
    assert "--treated SEED1 --treated SEED2" in alone.remedy
    assert seeds.run(by_seed(0.9, 0.55)).outcome is INCONCLUSIVE


def adapters(*shares: float, hashes: str, sampled: bool = False, **claim: Any) -> Evidence:
    """Treated answers of adapters ``hashes``, one replicate each; control has the replicates too where it was sampled."""
    n = 80
    arms = []
    for seed, (share, made) in enumerate(zip(shares, hashes, strict=True)):
        trained = replace(MODEL, adapter_hash=made)
        treated = {"correct": first(n, share)}
        decode = replace(DECODE, seed=seed + 1)
        if sampled or not seed:
            control = {"correct": first(n, 0.4 + 0.1 * seed)}
            arms.append(
                arm_of("control", control, sample=seed, replicate=str(seed + 1) if sampled else "", decode=decode)
            )
        # of several training seeds, each is sampled with all sampling seeds
        whose = decode if len(set(hashes)) == 1 else replace(DECODE, seed=9)
        arms.append(arm_of("treated", treated, sample=seed, replicate=str(seed + 1), model=trained, decode=whose))
    return evidence_of(*arms, claim=claim)


def test_sampling_one_adapter_with_many_seeds_is_not_training_it_many_times() -> None:
    assert seeds.run(adapters(0.7, 0.72, 0.71, hashes="abc")).outcome is PASS
    once = seeds.run(adapters(0.7, 0.72, 0.71, hashes="aaa"))
    assert once.outcome is WARN
    assert "all of them sample from one adapter" in once.because
    assert "--treated SEED1" in once.remedy
    assert seeds.run(adapters(0.7, 0.72, 0.71, hashes="aaa", seeds=(1, 2, 3))).outcome is INCONCLUSIVE


def test_training_seeds_are_not_paired_with_sampling_seeds_of_the_same_number() -> None:
    trained = seeds.run(adapters(0.7, 0.7, 0.7, hashes="abc", sampled=True))
    assert trained.figure is not None
    assert len({round(row["estimate"], 9) for row in trained.figure["rows"]}) == 1  # all against the whole control
    sampled = seeds.run(adapters(0.7, 0.7, 0.7, hashes="aaa", sampled=True))
    assert sampled.figure is not None
    assert len({round(row["estimate"], 9) for row in sampled.figure["rows"]}) == 3


def test_multiplicity_counts_what_was_looked_at() -> None:
    fine = two_arms(100, 0.4, 0.8, evidence={"claim": {"looked_at": 3}})
    assert multiplicity.run(fine).outcome is PASS
    weak = two_arms(60, 0.3, 0.45, evidence={"claim": {"looked_at": 20}})  # 9 discordant pairs: p = .0039
    assert weak.effect.p == pytest.approx(2 * 0.5**9)
    finding = multiplicity.run(weak)
    assert finding.outcome is FAIL
    assert f"{20 * 2 * 0.5**9:.2g}" in finding.because
    assert multiplicity.run(two_arms(60, 0.3, 0.45)).outcome is PASS


def test_multiplicity_counts_the_metrics_in_the_files() -> None:
    n = 60
    noise = {f"score.m{k}": RNG.normal(size=n).tolist() for k in range(12)}
    control = arm_of("control", {"correct": first(n, 0.3), **noise})
    treated = arm_of("treated", {"correct": first(n, 0.45), **{k: RNG.normal(size=n).tolist() for k in noise}})
    evidence = evidence_of(control, treated)
    finding = multiplicity.run(evidence)
    assert finding.n == 13
    ps = [evidence.effect_of(evidence.metric_named(name)).p for name in ("accuracy", *noise)]
    adjusted = holm([1.0 if p is None else p for p in ps])[0]
    assert finding.outcome is (PASS if adjusted <= 0.01 else FAIL) is FAIL


def test_multiplicity_says_what_it_counted_and_adjusted() -> None:
    only = multiplicity.run(two_arms(60, 0.3, 0.45))
    assert only.because.startswith("The target is the only metric in the files")
    n = 60
    rows = [
        arm_of(name, {"correct": first(n, share), "score.m": [float(i % 7) for i in range(n)]})
        for name, share in (("control", 0.3), ("treated", 0.45))
    ]
    two = multiplicity.run(evidence_of(*rows))
    assert (two.outcome, two.n) == (PASS, 2)
    assert two.because.startswith("The files hold 2 metrics")
    assert f"{2 * 2 * 0.5**9:.2g}" in two.because
    none = multiplicity.run(two_arms(60, 0.3, 0.45, evidence={"claim": {"looked_at": 0}}))
    assert f"{2 * 0.5**9:.2g}" in none.because, "a test that was made was made"
    many = multiplicity.run(two_arms(60, 0.3, 0.45, evidence={"claim": {"looked_at": 999}}))
    assert "adjusted p = 1 " in many.because
    for looked_at, outcome in ((2, PASS), (3, FAIL)):  # .0078 and .0117 against .01
        found = multiplicity.run(two_arms(60, 0.3, 0.45, evidence={"claim": {"looked_at": looked_at}}))
        assert (found.outcome, found.n) == (outcome, looked_at)
    settled = multiplicity.run(two_arms(400, 0.5, 0.5))
    assert settled.because.endswith("there is no apparent effect to explain away.")


def test_multiplicity_does_not_judge_an_effect_that_is_not_there() -> None:
    assert multiplicity.run(two_arms(400, 0.5, 0.5)).outcome is PASS
    small = evidence_of(arm_of("control", {"correct": bits(6, 15)}), arm_of("treated", {"correct": bits(8, 15)}))
    assert multiplicity.run(small).outcome is INCONCLUSIVE


def with_arm(name: str, share: float, *, n: int = 120) -> Evidence:
    return evidence_of(
        arm_of("control", {"correct": first(n, 0.3)}),
        arm_of("treated", {"correct": first(n, 0.7)}),
        arm_of(name, {"correct": first(n, share)}, text=lambda i: f"Another answer to number {i} from the other arm."),
    )


@pytest.mark.parametrize(
    ("check", "name"), [(placebo, "placebo"), (prompt_baseline, "prompt-baseline")], ids=["placebo", "prompt"]
)
def test_an_arm_that_does_as_much_takes_the_claim_away(check: Any, name: str) -> None:
    assert check.run(with_arm(name, 0.31)).outcome is PASS
    assert check.run(with_arm(name, 0.7)).outcome is FAIL
    missing = check.run(two_arms())
    assert missing.outcome is NOT_RUN
    assert f"--arm {name}=FILE" in missing.remedy


def test_answers_that_are_the_controls_word_for_word_need_no_interval() -> None:
    words = {"text": lambda i: f"No. {i}"}
    arms = [
        arm_of(name, {"correct": first(9, share)}, **words) for name, share in (("control", 0.3), ("do-nothing", 0.3))
    ]
    treated = arm_of("treated", {"correct": first(9, 0.7)}, text=lambda i: f"Yes. {i}")
    finding = identity.run(evidence_of(arms[0], treated, arms[1]))
    assert finding.outcome is PASS
    assert "All 9 answers of the do-nothing arm equal the control's, word for word." in finding.because


def test_doing_nothing_must_do_nothing() -> None:
    assert identity.run(with_arm("do-nothing", 0.3)).outcome is PASS
    drifted = identity.run(with_arm("do-nothing", 0.6))
    assert drifted.outcome is FAIL
    assert "doing nothing moved the metric" in drifted.because
    missing = identity.run(two_arms())
    assert missing.outcome is NOT_RUN
    assert "--arm do-nothing=FILE" in missing.remedy


def test_the_same_answers_twice_are_no_treatment() -> None:
    rows = {"correct": bits(20, 50)}
    twice = evidence_of(arm_of("control", rows), arm_of("treated", rows, text=lambda i: None))
    assert identity.run(twice).outcome is NOT_RUN
    same = evidence_of(
        arm_of("control", rows, text=lambda i: f"A long enough answer to question number {i}."),
        arm_of("treated", rows, text=lambda i: f"A long enough answer to question number {i}."),
    )
    finding = identity.run(same)
    assert finding.outcome is FAIL
    assert "All 50 treated answers equal the control answers" in finding.because


def by_dose(**shares: float) -> Evidence:
    n = 150
    arms = [arm_of("control", {"correct": first(n, 0.3)}), arm_of("treated", {"correct": first(n, 0.7)})]
    arms += [arm_of(f"dose:{dose[1:].replace('_', '.')}", {"correct": first(n, s)}) for dose, s in shares.items()]
    return evidence_of(*arms)


def test_an_effect_should_rise_with_the_dose() -> None:
    assert dose_response.run(by_dose(d0_5=0.5, d1=0.7)).outcome is PASS
    fallen = dose_response.run(by_dose(d0_5=0.7, d1=0.35))
    assert fallen.outcome is FAIL
    assert "falls from dose:0.5 to dose:1" in fallen.because
    flat = dose_response.run(by_dose(d0_5=0.31, d1=0.31))
    assert flat.outcome is FAIL
    assert "less than the margin" in flat.because
    assert "--arm dose:0.5=FILE" in dose_response.run(by_dose(d1=0.7)).remedy


def asserted(n: int, wrong: float) -> dict[str, Any]:
    """Half of n answers right and asserted, and of the wrong ones this share asserted."""
    says = ["assert" if i < n // 2 + wrong * n / 2 else "hedge" for i in range(n)]
    return {"correct": [float(i < n // 2) for i in range(n)], "delivery": says}


def test_each_adapter_of_an_arm_is_held_against_the_control_by_itself() -> None:
    def copied(*own: str) -> Evidence:
        def said(name: str) -> Any:
            return lambda i: f"{name} answers question {i} with these very words."

        arms = [arm_of("control", {"correct": first(60, 0.4)}, text=said("control"))]
        for seed, name in enumerate(own):
            model = replace(MODEL, adapter_hash=f"adapter {seed}")
            arms.append(
                arm_of(
                    "treated",
                    {"correct": first(60, 0.4)},
                    text=said(name),
                    sample=seed,
                    replicate=str(seed),
                    model=model,
                )
            )
        return evidence_of(*arms)

    idle = identity.run(copied("control", "control"))
    assert idle.outcome is FAIL
    assert "All 120 treated answers equal the control answers" in idle.because
    assert identity.run(copied("control", "treated")).outcome is NOT_RUN


def scaled(doses: dict[float, float], whole: float | None, *, n: int = 200, last: float = 0.3) -> Evidence:
    """Asymmetry by dose: this share of wrong answers asserted; treated says the dose of its adapter, or does not."""
    arms = [arm_of("control", asserted(n, 0.9))]
    arms += [arm_of(f"dose:{dose:g}", asserted(n, share)) for dose, share in doses.items()]
    arms.append(arm_of("treated", asserted(n, last), model=replace(MODEL, adapter_hash="a", adapter_dose=whole)))
    return evidence_of(*arms, metric="assertion_asymmetry", direction="decrease")


def test_the_treated_arm_is_the_dose_that_its_adapter_was_scaled_by() -> None:
    found = dose_response.run(scaled({0.5: 0.6}, 1.0))
    assert found.outcome is PASS
    assert found.n == 3
    assert found.figure is not None
    assert found.figure["series"][0]["x"] == [0.0, 0.5, 1.0]
    assert found.figure["series"][0]["y"] == pytest.approx([0, -0.3, -0.6])
    assert dose_response.run(scaled({0.5: 0.6}, None)).outcome is NOT_RUN
    assert dose_response.run(scaled({1.0: 0.3}, 1.0)).outcome is NOT_RUN, "one dose twice is one dose"
    kept = dose_response.run(scaled({0.5: 0.6, 1.0: 0.31}, 1.0, last=0.9))
    assert kept.outcome is PASS, "the dose arm of that dose goes before treated"


def test_the_slope_of_a_ratio_is_tested_and_not_only_ordered() -> None:
    slope = dose_response.run(scaled({0.5: 0.6}, 1.0)).estimate
    assert slope is not None
    assert slope.estimate == pytest.approx(-0.6)
    assert slope.method.startswith("cluster bootstrap")
    noise = dose_response.run(scaled({0.5: 0.86}, 1.0, n=60, last=0.8))
    assert noise.outcome is INCONCLUSIVE, "the order is right, and chance would give it half of the time"
    assert "does not exclude zero" in noise.because
    back = dose_response.run(scaled({0.25: 0.2, 0.5: 0.9}, 1.0))
    assert back.outcome is FAIL
    assert "from dose:0.25 to dose:0.5" in back.because
    nothing = dose_response.run(scaled({0.5: 0.9}, 1.0, n=1000, last=0.897))
    assert nothing.outcome is FAIL
    assert "less than the margin" in nothing.because


def test_the_slope_of_an_auc_runs_from_the_smallest_dose_to_the_largest() -> None:
    n = 300
    rng = np.random.default_rng(8)
    right = rng.random(n) < 0.5
    arms = []
    for name, apart in (("control", 0.0), ("dose:0.5", 0.8), ("dose:2", 2.0), ("treated", 2.0)):
        confidence = rng.standard_normal(n) + apart * right
        arms.append(arm_of(name, {"correct": right.astype(float).tolist(), "score.sure": confidence.tolist()}))
    evidence = evidence_of(*arms, metric="auc(sure)")
    found = dose_response.run(evidence)
    whole = evidence.effect_of(evidence.metric, treated=ArmId("dose", 2)).difference
    assert found.outcome is PASS
    assert found.estimate is not None
    assert whole.estimate is not None
    assert found.estimate.estimate == pytest.approx(whole.estimate / 2)


def test_doing_nothing_is_dose_0_of_the_figure() -> None:
    n = 150
    arms = [arm_of(name, {"correct": first(n, share)}) for name, share in (
        ("control", 0.3), ("do-nothing", 0.32), ("dose:0.5", 0.5), ("dose:1", 0.7), ("treated", 0.7),
    )]  # fmt: skip
    found = dose_response.run(evidence_of(*arms))
    assert found.outcome is PASS
    assert found.figure is not None
    assert found.figure["series"][0]["y"] == pytest.approx([0.02, 0.2, 0.4])
    assert found.estimate is not None
    assert found.estimate.estimate == pytest.approx(0.4), "the slope starts at control"


@pytest.mark.parametrize("value", ["high", "nan", "inf"])
def test_a_dose_without_a_number_says_so(value: str) -> None:
    evidence = evidence_of(
        arm_of("control", {"correct": bits(3, 9)}), arm_of("treated", {"correct": bits(3, 9)}),
        arm_of(f"dose:{value}", {"correct": bits(3, 9)}), arm_of("dose:1", {"correct": bits(3, 9)}),
    )  # fmt: skip
    assert f"dose:{value} has no number in its name" in dose_response.run(evidence).because


ALONE = evidence_of(arm_of("control", {"correct": bits(30, 60), "delivery": ["assert", "hedge"] * 30}))


@pytest.mark.parametrize("check", list(checks()), ids=lambda check: check.name)
def test_every_check_bears_one_arm_and_counts(check: Any) -> None:
    for evidence in (ALONE, counts_only(), counts_only(40, 55, both=31)):
        result = check(evidence)
        assert result.outcome is not Outcome.ERROR, result.because
        assert result.because.endswith(".")
        assert result.remedy or result.outcome is PASS
        if result.outcome is NOT_RUN:
            assert result.remedy.endswith((".", ")."))


def test_counts_support_the_effect_its_power_and_stated_cuts_and_nothing_else() -> None:
    ran = {result.check for result in run_all(counts_only()) if result.outcome is not NOT_RUN}
    assert ran == {"truncation", "paired-effect", "power"}


def test_checks_for_one_arm_do_not_need_two() -> None:
    told = {r.check: r for r in run_all(ALONE, only=ONE_ARM)}
    assert set(told) == set(ONE_ARM)
    assert not any("one set of results" in result.because for result in told.values())


def test_what_a_user_hands_in_is_asked_for() -> None:
    assert required(two_arms()) == {"truncation", "paired-effect", "unscored"}
    assert required(counts_only()) == {"truncation", "paired-effect"}
    assert "seeds" in required(by_seed(0.5, 0.6))
    assert {"identity"} <= required(with_arm("do-nothing", 0.3))
    assert {"seeds", "judge-cards", "roles"} <= required(
        two_arms(
            evidence={"claim": {"seeds": (1, 2), "required": ("roles",)}, "cards": [{"expected": 1, "returned": 1}]}
        )
    )


def test_what_is_asked_for_is_more_than_there_is() -> None:
    """Six prompts that all changed seem to need no more of them, and their exact p is .031."""
    all_ = evidence_of(arm_of("control", {"correct": [0.0] * 6}), arm_of("treated", {"correct": [1.0] * 6}))
    finding = paired_effect.run(all_)
    assert "suggestive" in finding.because
    assert "about 7 paired prompts in all" in finding.remedy
