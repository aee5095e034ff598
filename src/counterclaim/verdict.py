"""The truth table: a claim and its check results in, one of four verdicts out, nothing else looked at.

1. A ruler check fails or errors, or truncation is unknown on either arm: INVALID. The measurement is not valid and
   the effect is not judged, however small its p-value.
2. A required check was not run, errored or is inconclusive: INCONCLUSIVE, with what would settle it.
3. Positive evidence against (the interval lies wholly below the margin or on the wrong side; a cost or transfer check
   fails): REFUTED.
4. The interval excludes zero in the claimed direction and everything else passes: SUPPORTED.
5. Else INCONCLUSIVE.
"""

from __future__ import annotations

from collections.abc import Sequence

from counterclaim.records import CheckResult, Claim, Outcome, Verdict, VerdictOutcome

_OPEN = (Outcome.NOT_RUN, Outcome.ERROR, Outcome.INCONCLUSIVE)
_BROKEN = (Outcome.FAIL, Outcome.ERROR)


def decide(claim: Claim, checks: Sequence[CheckResult]) -> Verdict:
    """The verdict on a claim, by the truth table above; ``because`` names the checks that decided it."""

    def verdict(outcome: VerdictOutcome, because: str, by: Sequence[CheckResult]) -> Verdict:
        return Verdict(claim.hash, outcome, because, tuple(c.check for c in by), _next(outcome, by, checks))

    by_name = {c.check: c for c in checks}
    invalid = [c for c in checks if c.group == "ruler" and (c.outcome in _BROKEN or _truncation_unknown(c))]
    if "truncation" not in by_name:
        return verdict(VerdictOutcome.INVALID, "How the answers ended was not checked (truncation).", [])
    if invalid:
        unknown = all(c.outcome is not Outcome.FAIL for c in invalid)
        why = "Whether the measurement is valid is unknown" if unknown else "The measurement is not valid"
        return verdict(VerdictOutcome.INVALID, f"{why}, so the effect is not judged. {_summary(invalid)}", invalid)
    open_checks = [c for c in checks if c.required and c.outcome in _OPEN]
    missing = sorted(set(claim.required) - set(by_name))
    if open_checks or missing:
        named = f" Not run: {', '.join(missing)}." if missing else ""
        adverse = [c.check for c in checks if c.outcome is Outcome.FAIL]
        named += f" Known evidence against it: {', '.join(adverse)}." if adverse else ""
        return verdict(
            VerdictOutcome.INCONCLUSIVE, f"The claim is not settled. {_summary(open_checks)}{named}", open_checks
        )
    effect = by_name.get("paired-effect")
    against = [c for c in checks if c.outcome is Outcome.FAIL and (c is effect or c.group in ("cost", "transfer"))]
    if against:
        return verdict(VerdictOutcome.REFUTED, _summary(against), against)
    doubtful = [c for c in checks if c.outcome in _BROKEN]
    if effect is not None and effect.outcome is Outcome.PASS and not doubtful:
        unseen = sum(c.outcome in _OPEN for c in checks)
        tail = f" {unseen} optional checks could not be run or settled." if unseen else ""
        return verdict(VerdictOutcome.SUPPORTED, f"{effect.because}{tail}", [effect])
    if doubtful:
        return verdict(
            VerdictOutcome.INCONCLUSIVE,
            f"There is an effect, but it cannot be trusted yet. {_summary(doubtful)}",
            doubtful,
        )
    return verdict(VerdictOutcome.INCONCLUSIVE, "No check shows an effect, and none rules it out.", [])


def _truncation_unknown(result: CheckResult) -> bool:
    if result.check != "truncation":
        return False
    return result.outcome is Outcome.NOT_RUN or result.details.get("known") is False


def _summary(results: Sequence[CheckResult]) -> str:
    parts = [f"{c.check}: {c.because}" for c in results[:3]]
    more = len(results) - len(parts)
    return " ".join(parts) + (f" (and {more} more: {', '.join(c.check for c in results[3:])})" if more > 0 else "")


def _next(outcome: VerdictOutcome, by: Sequence[CheckResult], checks: Sequence[CheckResult]) -> tuple[str, ...]:
    """What to do next: the remedies of what decided, then of what else stands open, at most five."""
    order = [*by]
    if outcome is not VerdictOutcome.INVALID:
        order += [c for c in checks if c.outcome is Outcome.FAIL]
    order += [c for c in checks if c.outcome is Outcome.WARN]
    if outcome is VerdictOutcome.SUPPORTED:
        order += [c for c in checks if c.outcome is Outcome.NOT_RUN and c.check in _WORTH_RUNNING]
    steps = [f"{c.check}: {c.remedy}" for c in order if c.remedy]
    return tuple(dict.fromkeys(steps))[:5]


_WORTH_RUNNING = ("seeds", "judge-cards", "contamination", "placebo", "prompt-baseline", "decode-parity")
