"""From records to a verdict: what was given in, the evidence in it, the effect, the checks, the verdict and its pages."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from counterclaim.audit.evidence import Evidence
    from counterclaim.audit.intake import AuditRequest, Options, evidence_of, import_study
    from counterclaim.audit.judging import Judged, check, example, judge, profile, report, write

_HOME = {
    "Evidence": "evidence",
    **dict.fromkeys(("Options", "AuditRequest", "evidence_of", "import_study"), "intake"),
    **dict.fromkeys(("Judged", "check", "example", "judge", "profile", "report", "write"), "judging"),
}
"""Resolved when first used: checks read the evidence of this room, and judging runs the checks."""

__all__ = [
    "AuditRequest",
    "Evidence",
    "Judged",
    "Options",
    "check",
    "evidence_of",
    "example",
    "import_study",
    "judge",
    "profile",
    "report",
    "write",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
