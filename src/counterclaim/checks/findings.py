"""What many checks share: missing evidence and how to provide it, conclusions, figures, the worse of two findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from counterclaim.audit.effect import Effect
from counterclaim.audit.evidence import Evidence
from counterclaim.audit.probing import ProbeResult
from counterclaim.records import Estimate, Json, Outcome
from counterclaim.registry import Finding

FEW = 10
"""Answers of a class below which a rate or an AUC within it is uninformative."""

NO_TEXTS = Finding(
    Outcome.NOT_RUN, "The files keep no response texts.", "Map the text column with --map response=COLUMN."
)
SETTLE_FIRST = "Settle the effect first: the check paired-effect says how many prompts that takes."

ProbeRule = Callable[[ProbeResult], Finding]
"""A check of a probe on fresh items."""

_SEVERITY = (Outcome.FAIL, Outcome.ERROR, Outcome.INCONCLUSIVE, Outcome.WARN, Outcome.PASS, Outcome.NOT_RUN)


def severity(outcome: Outcome) -> int:
    """Rank of an outcome, the worst first."""
    return _SEVERITY.index(outcome)


def how_to_pass(evidence: Evidence, flag: str, table: str) -> str:
    """How to provide something: with a flag of ``audit``, or in the study file where the study is one's own."""
    return f"set {table} in the study file" if evidence.generated else f"pass {flag}"


def not_run(because: str, remedy: str) -> Finding:
    """Evidence is missing: never a silent PASS."""
    return Finding(Outcome.NOT_RUN, because, remedy)


def conclusion(evidence: Evidence, effect: Effect | None = None) -> str:
    """What an effect (the target's where None) says of the claim: ``for``, ``against``, ``open``."""
    claim = evidence.claim
    return (effect or evidence.effect).conclusion(claim.sign, claim.margin, claim.alpha)


def forest(
    label: str, rows: Iterable[tuple[str, Estimate]], *, margin: float | None = None, pooled: Json = None
) -> dict[str, Json]:
    """Figure of estimates with their intervals; those that are undefined are left out."""
    defined = [
        {"name": name, "estimate": estimate.estimate, "low": estimate.low, "high": estimate.high}
        for name, estimate in rows
        if estimate.estimate is not None
    ]
    return {"kind": "forest", "label": label, "rows": defined, "pooled": pooled, "margin": margin}


def bars(label: str, values: Mapping[str, float], top: float = 1.0) -> dict[str, Json]:
    """Figure of one bar for each name, up to ``top``."""
    rows = [{"name": name, "value": value} for name, value in values.items()]
    return {"kind": "bars", "label": label, "max": top, "rows": rows}


def needs_responses(evidence: Evidence, what: str) -> Finding | None:
    """NOT_RUN when only counts are known, else None."""
    if evidence.counts is None:
        return None
    return not_run(
        f"Only counts are known, and {what} is computed from single responses.",
        "Give the per-item results with --control FILE --treated FILE.",
    )


def needs_two_sets(evidence: Evidence) -> Finding | None:
    """NOT_RUN when there is only one set of results, else None; counts have two."""
    if evidence.counts is not None or len(evidence.pair) == 2:
        return None
    return not_run("There is only one set of results.", "Compare two sets with counterclaim audit.")


def needs_two_arms(evidence: Evidence) -> Finding | None:
    """NOT_RUN when there is only one set of results or only counts, else None."""
    return needs_responses(evidence, "this") or needs_two_sets(evidence)


def with_probe(evidence: Evidence, found: Finding, rule: ProbeRule) -> Finding:
    """What a check found of the arms, or of the study's probe, whichever is worse, with both sentences.

    A finding that was not run adds nothing to one that was.
    """
    if evidence.probing is None:
        return found
    of_probe = rule(evidence.probing)
    if of_probe.outcome is Outcome.NOT_RUN:
        return found
    if found.outcome is Outcome.NOT_RUN:
        return of_probe
    first, second = sorted((found, of_probe), key=lambda finding: severity(finding.outcome))
    because, remedy = f"{first.because} {second.because}", first.remedy or second.remedy
    return replace(first, because=because, remedy=remedy, figure=first.figure or second.figure)
