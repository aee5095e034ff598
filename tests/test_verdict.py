"""The truth table of the verdict, row by row, and against an independent statement of it."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from counterclaim.records import CheckResult, Claim, Group, Outcome, VerdictOutcome
from counterclaim.verdict import decide

CLAIM = Claim("accuracy", "increase", 0.05)
P, F, W, U, N, E = (Outcome[name] for name in ("PASS", "FAIL", "WARN", "INCONCLUSIVE", "NOT_RUN", "ERROR"))
SUPPORTED, REFUTED, INCONCLUSIVE, INVALID = (
    VerdictOutcome[name] for name in ("SUPPORTED", "REFUTED", "INCONCLUSIVE", "INVALID")
)


def result(name: str, group: Group, outcome: Outcome, *, required: bool = False, **details: Any) -> CheckResult:
    return CheckResult(
        name, group, outcome, f"{name} said {outcome}.", f"mend {name}.", required=required, details=details
    )


def checks(
    truncation: Outcome = P,
    effect: Outcome = P,
    *more: CheckResult,
    known: bool = True,
) -> list[CheckResult]:
    return [
        result("truncation", "ruler", truncation, required=True, known=known),
        result("paired-effect", "effect", effect, required=True),
        *more,
    ]


ROWS = [
    # 1: an invalid measurement silences everything
    (checks(F), INVALID),
    (checks(E), INVALID),
    (checks(P, F, result("clip", "ruler", F)), INVALID),
    (checks(P, P, result("clip", "ruler", E)), INVALID),
    (checks(F, F, result("content", "cost", F, required=True)), INVALID),
    (checks(U, P, known=False), INVALID),
    (checks(N, P), INVALID),
    (checks(U, E, known=False), INVALID),
    # a ruler check that warns, or that could not be run, does not make the measurement invalid
    (checks(W, P), SUPPORTED),
    (checks(P, P, result("clip", "ruler", N), result("decode-parity", "ruler", U)), SUPPORTED),
    # 2: required and open, even beside a clear effect or a clear cost
    (checks(U, P), INCONCLUSIVE),
    (checks(P, P, result("seeds", "effect", N, required=True)), INCONCLUSIVE),
    (checks(P, P, result("seeds", "effect", E, required=True)), INCONCLUSIVE),
    (checks(P, P, result("seeds", "effect", U, required=True)), INCONCLUSIVE),
    (checks(P, F, result("seeds", "effect", U, required=True)), INCONCLUSIVE),
    (checks(P, U, result("content", "cost", F)), INCONCLUSIVE),
    # 3: positive evidence against
    (checks(P, F), REFUTED),
    (checks(P, P, result("content", "cost", F, required=True)), REFUTED),
    (checks(P, P, result("threshold", "transfer", F)), REFUTED),
    # an effect check that fails casts doubt, and refutes nothing
    (checks(P, P, result("multiplicity", "effect", F)), INCONCLUSIVE),
    (checks(P, P, result("placebo", "effect", F, required=True)), INCONCLUSIVE),
    (checks(P, P, result("content", "cost", E)), INCONCLUSIVE),
    # 4: everything else passes
    (checks(P, P), SUPPORTED),
    (checks(P, P, result("content", "cost", W), result("shift", "transfer", W)), SUPPORTED),
    (checks(P, P, result("content", "cost", U), result("power", "effect", U)), SUPPORTED),
    # 5: a difference that is not significant is never refuted by itself
    (checks(P, U), INCONCLUSIVE),
    (checks(P, W), INCONCLUSIVE),
]  # fmt: skip


@pytest.mark.parametrize(("results", "expected"), ROWS)
def test_truth_table(results: list[CheckResult], expected: VerdictOutcome) -> None:
    verdict = decide(CLAIM, results)
    assert verdict.outcome is expected
    assert verdict.claim_hash == CLAIM.hash
    assert verdict.because.endswith(".")


def by_the_table(truncation: Outcome, effect: Outcome, cost: Outcome, other: Outcome, required: bool) -> VerdictOutcome:
    """The design's table, said once more and otherwise: truncation, paired-effect, a cost and an effect check."""
    if truncation in {F, E, N}:
        return INVALID
    settled = {truncation, effect} | ({cost, other} if required else set())
    if settled & {N, E, U}:
        return INCONCLUSIVE
    if F in (effect, cost):
        return REFUTED
    if effect is P and not {cost, other} & {F, E}:
        return SUPPORTED
    return INCONCLUSIVE


def test_every_combination_of_four_checks_follows_the_table() -> None:
    for truncation, effect, cost, other in product(Outcome, repeat=4):
        for required in (False, True):
            results = checks(
                truncation, effect,
                result("content", "cost", cost, required=required),
                result("multiplicity", "effect", other, required=required),
            )  # fmt: skip
            expected = by_the_table(truncation, effect, cost, other, required)
            assert decide(CLAIM, results).outcome is expected, (truncation, effect, cost, other, required)


def test_the_order_of_checks_does_not_matter() -> None:
    results = checks(P, F, result("clip", "ruler", F), result("content", "cost", F), result("seeds", "effect", U))
    assert decide(CLAIM, results).outcome is decide(CLAIM, results[::-1]).outcome


def test_no_truncation_check_at_all_is_invalid() -> None:
    assert decide(CLAIM, checks()[1:]).outcome is INVALID


def test_a_check_that_the_claim_requires_and_nobody_ran_leaves_it_open() -> None:
    claim = Claim("accuracy", "increase", 0.05, required=("seeds",))
    verdict = decide(claim, checks())
    assert verdict.outcome is INCONCLUSIVE
    assert "seeds" in verdict.because


def test_the_verdict_names_what_decided_and_what_to_do() -> None:
    verdict = decide(CLAIM, checks(P, P, result("clip", "ruler", F), result("decode-parity", "ruler", F)))
    assert verdict.decided_by == ("clip", "decode-parity")
    assert verdict.next[:2] == ("clip: mend clip.", "decode-parity: mend decode-parity.")
    assert len(decide(CLAIM, checks(F, F, *(result(f"c-{i}", "ruler", F) for i in range(9)))).next) == 5


def test_the_effect_is_not_judged_when_the_measurement_is_invalid() -> None:
    verdict = decide(CLAIM, checks(F, P, result("content", "cost", F)))
    assert verdict.decided_by == ("truncation",)
    assert not any("content" in step for step in verdict.next)


def test_a_measurement_of_unknown_validity_is_not_called_invalid() -> None:
    invalid = decide(CLAIM, checks(U, P, result("clip", "ruler", F), known=False))
    assert invalid.because.startswith("The measurement is not valid, so the effect is not judged. truncation:")
    for results in (checks(U, P, known=False), checks(N), checks(P, P, result("clip", "ruler", E))):
        assert decide(CLAIM, results).because.startswith("Whether the measurement is valid is unknown")


def test_an_open_claim_tells_what_already_speaks_against_it() -> None:
    results = checks(P, F, result("seeds", "effect", U, required=True), result("content", "cost", F))
    assert decide(CLAIM, results).because == (
        "The claim is not settled. seeds: seeds said INCONCLUSIVE. Known evidence against it: paired-effect, content."
    )
    nothing = decide(CLAIM, checks(P, P, result("seeds", "effect", U, required=True), result("content", "cost", W)))
    assert "speaks against" not in nothing.because


def test_an_unknown_ending_is_the_ruler_s_and_no_other_check_s() -> None:
    other = result("clip", "ruler", U, known=False)
    assert decide(CLAIM, checks(P, P, other)).outcome is SUPPORTED


def test_more_than_three_reasons_are_told_by_name_alone() -> None:
    three = decide(CLAIM, checks(F, P, *(result(f"c-{i}", "ruler", F) for i in (1, 2))))
    assert three.because.endswith("c-2: c-2 said FAIL.")
    five = decide(CLAIM, checks(F, P, *(result(f"c-{i}", "ruler", F) for i in (1, 2, 3, 4))))
    assert five.because.endswith("c-2: c-2 said FAIL. (and 2 more: c-3, c-4)")


def test_a_supported_claim_tells_how_many_checks_were_left_open_and_which_are_worth_running() -> None:
    open_ = [result(name, "effect", N) for name in ("seeds", "dose-response")]
    verdict = decide(CLAIM, checks(P, P, *open_, result("ledger", "ruler", U), result("clip", "ruler", W)))
    assert verdict.because == "paired-effect said PASS. 3 optional checks could not be run or settled."
    assert verdict.decided_by == ("paired-effect",)
    assert verdict.next == ("paired-effect: mend paired-effect.", "clip: mend clip.", "seeds: mend seeds.")
    assert decide(CLAIM, checks(P, P, result("placebo", "effect", P))).next == ("paired-effect: mend paired-effect.",)
    assert decide(CLAIM, checks()).because == "paired-effect said PASS."
    refuted = decide(CLAIM, checks(P, F, *open_))
    assert refuted.next == ("paired-effect: mend paired-effect.",)


def test_what_fails_beside_what_decided_is_to_be_mended_next() -> None:
    verdict = decide(CLAIM, checks(P, U, result("content", "cost", F), result("seeds", "effect", W)))
    assert verdict.next == ("paired-effect: mend paired-effect.", "content: mend content.", "seeds: mend seeds.")
    assert decide(CLAIM, checks(P, W)).because == "No check shows an effect, and none rules it out."
