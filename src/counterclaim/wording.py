"""How numbers are put into sentences, so that checks, probes and pages read alike."""

from __future__ import annotations

from collections.abc import Iterable

from counterclaim.records import Estimate


def percent(share: float) -> str:
    """A share as a percentage: one decimal below 10 %, none above."""
    value = 100 * share
    return f"{value:.0f} %" if value >= 10 or value == round(value) else f"{value:.1f} %"


def number(value: float) -> str:
    """Three significant decimals with a true minus sign left to the page."""
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"


def p_value(p: float) -> str:
    """A p-value in a sentence: two digits, one of those below 0.0001."""
    return f"{p:.2g}" if p >= 0.0001 else f"{p:.0e}"


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
