"""From records to a verdict: what was given in, the evidence in it, the effect, the checks, the verdict and its pages.

Names are resolved when first used: checks read the evidence of this room, and judging runs the checks.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from counterclaim.audit.evidence import Evidence as Evidence
    from counterclaim.audit.intake import AuditRequest as AuditRequest
    from counterclaim.audit.intake import Options as Options
    from counterclaim.audit.intake import count_study as count_study
    from counterclaim.audit.intake import evidence_of as evidence_of
    from counterclaim.audit.intake import import_study as import_study
    from counterclaim.audit.judging import Judged as Judged
    from counterclaim.audit.judging import check as check
    from counterclaim.audit.judging import example as example
    from counterclaim.audit.judging import judge as judge
    from counterclaim.audit.judging import profile as profile
    from counterclaim.audit.judging import report as report
    from counterclaim.audit.judging import write as write

_HOME = {
    "Evidence": "evidence",
    **dict.fromkeys(("Options", "AuditRequest", "count_study", "evidence_of", "import_study"), "intake"),
    **dict.fromkeys(("Judged", "check", "example", "judge", "profile", "report", "write"), "judging"),
}
__all__ = list(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
