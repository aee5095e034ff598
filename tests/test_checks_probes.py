"""Checks of a probe, and of fresh prompts: what each says of findings that are bent in one place, and in its planted worlds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from conftest import arm_of, counts_only, evidence_of, two_arms
from counterclaim import checks
from counterclaim.audit.evidence import Evidence
from counterclaim.audit.probing import ProbeResult
from counterclaim.checks import required
from counterclaim.checks.probes import axes, fresh, layers, models
from counterclaim.checks.transfer import base_rate, endpoint, shift, threshold
from counterclaim.records import Outcome
from counterclaim.registry import Finding
from counterclaim.testing.worlds import draw
from counterclaim.verdict import decide
from planted_probes import HEDGED, RIGHT, planted, put_through

PASS, FAIL, WARN, INCONCLUSIVE, NOT_RUN = (
    Outcome.PASS, Outcome.FAIL, Outcome.WARN, Outcome.INCONCLUSIVE, Outcome.NOT_RUN,
)  # fmt: skip
FAR = 2.2
Bend = Callable[[Any], object]


@pytest.fixture(scope="module")
def good() -> Any:
    """What the five steps find of a probe that holds everywhere."""
    cut = ([False] * 90, [False] * 193)
    first = planted(1, {RIGHT: (FAR, FAR), HEDGED: (FAR, FAR)}, cut=cut)
    return put_through(first, planted(2, {RIGHT: (FAR, FAR)}, model="second"), axes=(HEDGED,))


def found(check: Any, probing: Any, bend: Bend = lambda _: None, split: str = "fresh") -> Finding:
    """What a check says of findings that are bent, on prompts of a split."""
    bent = copy.deepcopy(probing)
    bend(bent)
    said: Finding = check.run(two_arms(evidence={"probing": ProbeResult.from_json(bent), "split": lambda _: split}))
    return said


def come_out(step: int, of: str, passed: bool | None, at: int = 0) -> Bend:
    """Let a test of a step, and the step, come out so."""

    def bend(probing: Any) -> None:
        here = probing["steps"][step - 1]
        test = [test for test in here["tests"] if test["of"] == of][at]
        test["passed"] = here["passed"] = passed

    return bend


def test_what_holds_everywhere_passes_every_check(good: Any) -> None:
    for check in (fresh, axes, layers, models, threshold, endpoint, base_rate):
        assert found(check, good).outcome is PASS, check.name
    assert found(shift, good).outcome in (PASS, WARN)


def test_a_claim_about_no_probe_has_nothing_to_do_here() -> None:
    for check in (axes, layers, models):
        said = check.run(two_arms())
        assert said.outcome is NOT_RUN
        assert said.remedy == "Nothing to do for this claim."
    assert not {"fresh", "threshold", "endpoint"} & required(two_arms())


def test_a_probe_asks_for_the_checks_without_which_it_cannot_stand(good: Any) -> None:
    assert {"fresh", "threshold", "endpoint", "base-rate"} <= required(
        two_arms(evidence={"probing": ProbeResult.from_json(good)})
    )


def test_a_probe_that_fails_on_fresh_prompts_says_with_what_numbers(good: Any) -> None:
    def bend(probing: Any) -> None:
        come_out(2, "fresh_auc", False)(probing)
        probing["taxonomy"] = [{"mode": "distribution shift", "because": "They are told apart.", "value": 0.9}]

    said = found(fresh, good, bend)
    assert said.outcome is FAIL
    assert said.because.startswith("The AUC on fresh prompts 0.")
    assert "In training the cross-validated AUC" in said.because
    assert said.because.endswith("Distribution shift: They are told apart.")


def test_prompts_that_are_only_held_out_are_not_called_independent(good: Any) -> None:
    said = found(fresh, good, split="test")
    assert said.outcome is WARN
    assert said.because.endswith("They are of the split test, not known to be written by another author.")
    assert found(fresh, good, come_out(2, "fresh_auc", False), split="test").outcome is FAIL


def test_a_probe_that_too_few_answers_test_is_not_settled(good: Any) -> None:
    said = found(fresh, good, come_out(2, "fresh_auc", None))
    assert said.outcome is INCONCLUSIVE
    assert "told from chance" in said.because


@pytest.mark.parametrize("passed", [None, False])
def test_a_probe_that_is_good_on_fresh_answers_alone_looks_chosen_on_them(good: Any, passed: bool | None) -> None:
    said = found(fresh, good, come_out(1, "cv_auc", passed))
    assert said.outcome is INCONCLUSIVE
    assert "was probably chosen on them" in said.because


def test_axes_that_do_not_transfer(good: Any) -> None:
    assert found(axes, good, come_out(3, "axis_transfer", False, 0)).outcome is FAIL, "the claim's own axis"
    half = found(axes, good, come_out(3, "axis_transfer", False, 1))
    assert half.outcome is FAIL
    assert f"1 of 2 axes do not transfer to fresh prompts: {HEDGED} on fresh prompts" in half.because

    def one_of_three(probing: Any) -> None:
        come_out(3, "axis_transfer", False, 1)(probing)
        tests = probing["steps"][2]["tests"]
        third = next(copy.deepcopy(test) for test in tests if test["of"] == "axis_transfer" and test["passed"])
        tests.append({**third, "axis": "score.depth>=3"})

    assert found(axes, good, one_of_three).outcome is WARN
    assert found(axes, good, come_out(3, "axis_correlation", False)).outcome is WARN
    untrained = found(axes, good, come_out(3, "axis_cv", False, 1))
    assert untrained.outcome is WARN, "an axis that misses its bar in training does not hold in training"
    assert f"{HEDGED} cross-validated" in untrained.because
    assert found(axes, good, come_out(3, "axis_cv", None)).outcome is INCONCLUSIVE
    assert "axes in the table [pipeline]" in found(axes, good, lambda p: p["steps"][2].update(tests=[])).remedy


def readings(claimed: bool | None, others: list[bool | None], p: float) -> Bend:
    def bend(probing: Any) -> None:
        row = probing["steps"][3]["rows"][0]
        probing["steps"][3]["rows"] = [
            {**copy.deepcopy(row), "passed": passed, "fresh_p_holm": p} for passed in [claimed, *others]
        ]

    return bend


@pytest.mark.parametrize(
    ("claimed", "others", "p", "outcome"),
    [
        (True, [True, True, False], 0.3, PASS),
        (True, [False, None, False], 0.3, FAIL),
        (True, [False, None, False], 0.001, WARN),
        (False, [False, None, False], 0.9, PASS),
        (False, [False, True, False], 0.9, WARN),
        (None, [False, None, None], 0.9, INCONCLUSIVE),
        (True, [], 0.01, NOT_RUN),
    ],
)
def test_other_readings(good: Any, claimed: bool | None, others: list[bool | None], p: float, outcome: Outcome) -> None:
    said = found(layers, good, readings(claimed, others, p))
    assert said.outcome is outcome
    if others:
        assert f"{others.count(True)} of {len(others)} others meet the bar" in said.because
        assert f"correction for {len(others) + 1} readings" in said.because


def test_a_second_family(good: Any) -> None:
    failed = found(models, good, come_out(5, "fresh_auc", False))
    assert failed.outcome is FAIL
    assert failed.because.startswith("On second: the AUC on fresh prompts")
    assert found(models, good, come_out(5, "fresh_auc", None)).outcome is INCONCLUSIVE
    alone = found(models, good, come_out(2, "fresh_auc", False))
    assert alone.outcome is WARN
    assert alone.because.endswith("It does not on planted.")
    missing = found(models, good, lambda p: p["steps"][4].update(tests=[], passed=None))
    assert missing.outcome is NOT_RUN
    assert "second_model in [pipeline]" in missing.remedy


def ends(train: float | None, on_fresh: float | None, position: str = "last") -> Bend:
    """Shares without counts, as older folders hold them: None where some ending is unknown."""
    return lambda probing: probing.update(endpoint={"position": position, "train_cut": train, "fresh_cut": on_fresh})


def counted(n: int, cut: int, unknown: int) -> Bend:
    return lambda probing: probing["endpoint"].update(fresh={"n": n, "cut": cut, "unknown": unknown})


def test_what_a_probe_read_at_the_end_has_to_be_an_end(good: Any) -> None:
    cut = found(endpoint, good, ends(0.35, 0.0))
    assert cut.outcome is FAIL
    assert (
        "34 % of 90 training answers were cut and 0 % have an unknown ending and 0 % of 193 fresh answers"
        in cut.because
    )
    assert found(endpoint, good, ends(0.0, 0.2)).outcome is FAIL
    assert found(endpoint, good, ends(0.05, 0.0)).outcome is WARN
    assert found(endpoint, good, ends(None, None)).outcome is INCONCLUSIVE
    assert found(endpoint, good, counted(200, 0, 3)).outcome is PASS
    assert found(endpoint, good, counted(200, 2, 8)).outcome is WARN
    unknown = found(endpoint, good, counted(200, 2, 30))
    assert unknown.outcome is INCONCLUSIVE, "they may have been cut"
    assert "1 % of 200 fresh answers were cut and 15 % have an unknown ending" in unknown.because
    assert found(endpoint, good, ends(0.9, 0.9, "prompt-end")).outcome is PASS


def test_a_gate_whose_threshold_was_chosen_in_training_says_what_peeking_would_give(good: Any) -> None:
    said = found(threshold, good)
    assert "chosen on training items out of fold" in said.because
    assert "the best threshold chosen on them gives" in said.because
    told = two_arms(evidence={"probing": ProbeResult.from_json(good), "claim": {"thresholds_chosen_on": "test"}})
    assert threshold.run(told).outcome is FAIL, "what the claim says of itself counts first"


def test_classes_of_a_probe(good: Any) -> None:
    def row(**changes: Any) -> Bend:
        return lambda probing: probing["steps"][1]["rows"][0].update(changes)

    few = found(base_rate, good, row(n_fresh_pos=9))
    assert few.outcome is INCONCLUSIVE
    assert "smaller class has 9 answers" in few.because
    assert found(base_rate, good, row(n_pos=85)).outcome is INCONCLUSIVE
    luck = found(base_rate, good, lambda p: p["steps"][1]["rows"][0]["asymmetry_honest"].update(shuffled_p=0.2))
    assert luck.outcome is INCONCLUSIVE
    assert "has p = 0.2 on shuffled labels: imbalance alone may give that." in luck.because


def test_a_shift_refutes_only_a_probe_that_did_not_stand_it(good: Any) -> None:
    def moved(probing: Any) -> None:
        probing["c2st_auc"].update(estimate=0.9, low=0.85, high=0.95)

    def fails(probing: Any) -> None:
        moved(probing)
        come_out(2, "fresh_auc", False)(probing)

    assert found(shift, good, moved).outcome is WARN
    assert found(shift, good, fails).outcome is FAIL
    assert found(shift, good, lambda p: p.update(c2st_auc=None)).outcome is NOT_RUN


def split(after: float, fresh_after: float, n: int = 200) -> Evidence:
    """Two arms, half of whose prompts are fresh; accuracy 0.3 before, and so much after on either half."""
    half = n // 2
    rows = {
        name: [float(i % half < share * half) for i, share in enumerate([fresh_share] * half + [own] * half)]
        for name, own, fresh_share in (("control", 0.3, 0.3), ("treated", after, fresh_after))
    }
    return evidence_of(
        *(arm_of(name, {"correct": values}) for name, values in rows.items()),
        split=lambda i: "fresh" if i < half else "test",
    )


def test_an_effect_has_to_hold_on_fresh_prompts_by_themselves() -> None:
    assert fresh.run(split(0.8, 0.8)).outcome is PASS
    lost = fresh.run(split(0.8, 0.3))
    assert lost.outcome is FAIL
    assert "On the 100 fresh prompts alone the difference is 0.000" in lost.because
    assert fresh.run(split(0.8, 0.4, n=40)).outcome is INCONCLUSIVE
    assert "counterclaim fresh" in fresh.run(two_arms()).remedy
    assert fresh.run(counts_only()).outcome is NOT_RUN
    every = evidence_of(
        arm_of("control", {"correct": [0.0, 1.0]}), arm_of("treated", {"correct": [1.0, 1.0]}), split=lambda _: "fresh"
    )
    assert "All 2 paired prompts are fresh" in fresh.run(every).because


def test_fresh_prompts_among_others_are_asked_for_the_effect_themselves() -> None:
    """An effect that own prompts carry alone is not supported because the fresh ones are too few to contradict it."""
    open_ = split(0.9, 0.4, n=80)
    assert fresh.run(open_).outcome is INCONCLUSIVE
    assert "fresh" in required(open_)
    assert decide(open_.claim, checks.run_all(open_)).outcome.value == "INCONCLUSIVE"
    assert decide(open_.claim, checks.run_all(split(0.9, 0.9))).outcome.value == "SUPPORTED"


@pytest.mark.parametrize(
    ("world", "check", "verdict"),
    [
        ("probe_holds", None, "SUPPORTED"),
        ("effect_holds", None, "SUPPORTED"),
        ("probe_forgets", "fresh", "REFUTED"),
        ("effect_forgets", "fresh", "REFUTED"),
        ("axes_forget", "axes", "REFUTED"),
        ("one_family", "models", "REFUTED"),
        ("probe_cut", "endpoint", "REFUTED"),
        ("few_fresh", "base-rate", "INCONCLUSIVE"),
    ],
)
def test_a_planted_study_gets_its_verdict_for_the_right_reason(world: str, check: str | None, verdict: str) -> None:
    evidence = draw(world, 0, draws=300)
    decided = decide(evidence.claim, checks.run_all(evidence))
    assert decided.outcome.value == verdict
    if check is not None:
        assert check in decided.decided_by
