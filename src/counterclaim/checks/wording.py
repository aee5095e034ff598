"""How checks put numbers into sentences, so that all of them read alike."""

from __future__ import annotations

from collections.abc import Iterable

from counterclaim.evidence import Evidence
from counterclaim.records import Estimate, Outcome
from counterclaim.registry import Finding


def percent(share: float) -> str:
    """A share as a percentage: one decimal below 10 %, none above."""
    value = 100 * share
    return f"{value:.0f} %" if value >= 10 or value == round(value) else f"{value:.1f} %"


def number(value: float) -> str:
    """Three significant decimals with a true minus sign left to the page."""
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"


def with_interval(estimate: Estimate) -> str:
    """``0.123 [0.045, 0.201]``, or why there is none."""
    if estimate.estimate is None:
        return f"undefined ({estimate.reason})"
    if estimate.low is None or estimate.high is None:
        return f"{number(estimate.estimate)} (no interval: {estimate.reason})"
    return f"{number(estimate.estimate)} [{number(estimate.low)}, {number(estimate.high)}]"


def listing(items: Iterable[str], most: int = 6) -> str:
    """Comma-joined, cut with a count after ``most``."""
    names = list(items)
    tail = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + tail


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
