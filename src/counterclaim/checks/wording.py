"""What many checks say in the same words: that evidence is missing, and how to hand it in."""

from __future__ import annotations

from counterclaim.audit.evidence import Evidence
from counterclaim.records import Outcome
from counterclaim.registry import Finding


def pass_on(evidence: Evidence, flag: str, table: str) -> str:
    """How to hand something in: with a flag of ``audit``, or in the study file where the study is one's own."""
    return f"say {table} in the study file" if evidence.generated else f"pass {flag}"


def not_run(because: str, remedy: str) -> Finding:
    """Evidence is missing: never a silent PASS."""
    return Finding(Outcome.NOT_RUN, because, remedy)


def needs_responses(evidence: Evidence, what: str) -> Finding | None:
    """NOT_RUN when only counts are known, else None."""
    if evidence.counts is None:
        return None
    return not_run(
        f"Only counts are known, and {what} is read off single responses.",
        "Give the per-item results with --control FILE --treated FILE.",
    )


def needs_two_arms(evidence: Evidence) -> Finding | None:
    """NOT_RUN when there is only one set of results or only counts, else None."""
    if evidence.counts is not None:
        return needs_responses(evidence, "this")
    if len(evidence.pair) < 2:
        return not_run("There is only one set of results.", "Compare two sets with counterclaim audit.")
    return None
