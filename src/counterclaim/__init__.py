"""Counterclaim tries to refute a claim about a language model's behaviour before a reviewer does.

    from pathlib import Path
    import counterclaim as cc

    files = {"control": [Path("base.jsonl")], "treated": [Path("tuned.jsonl")]}
    records = cc.import_study(files, cc.Wanted(metric="accuracy"), cc.Options())
    judged = cc.judge(records)
    print(judged.verdict["verdict"], judged.verdict["because"])

Names are resolved when they are first used, so that ``import counterclaim`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

__version__ = "0.1.0"

if TYPE_CHECKING:
    from counterclaim.errors import (
        CounterclaimError,
        HostileInputError,
        InputError,
        RecordError,
        RegistryError,
    )
    from counterclaim.evidence import Evidence
    from counterclaim.importers import Imported, load
    from counterclaim.intake import Options, Wanted, evidence_of, import_study
    from counterclaim.records import (
        CheckResult,
        Claim,
        Decode,
        Estimate,
        FinishReason,
        Guard,
        Message,
        ModelRef,
        Outcome,
        Prompt,
        Provenance,
        Quote,
        Response,
        Score,
        Verdict,
        VerdictOutcome,
    )
    from counterclaim.registry import Check, Finding, check
    from counterclaim.spec import load_claim
    from counterclaim.store import Records, read_run
    from counterclaim.study import Judged, judge, profile, write

_ROOMS: Final = {
    "errors": ("CounterclaimError", "HostileInputError", "InputError", "RecordError", "RegistryError"),
    "records": (
        "CheckResult", "Claim", "Decode", "Estimate", "FinishReason", "Guard", "Message", "ModelRef", "Outcome",
        "Prompt", "Provenance", "Quote", "Response", "Score", "Verdict", "VerdictOutcome",
    ),
    "registry": ("Check", "Finding", "check"),
    "spec": ("load_claim",),
    "store": ("Records", "read_run"),
    "importers": ("Imported", "load"),
    "evidence": ("Evidence",),
    "intake": ("Options", "Wanted", "evidence_of", "import_study"),
    "study": ("Judged", "judge", "profile", "write"),
}  # fmt: skip
_HOME: Final = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "Check",
    "CheckResult",
    "Claim",
    "CounterclaimError",
    "Decode",
    "Estimate",
    "Evidence",
    "Finding",
    "FinishReason",
    "Guard",
    "HostileInputError",
    "Imported",
    "InputError",
    "Judged",
    "Message",
    "ModelRef",
    "Options",
    "Outcome",
    "Prompt",
    "Provenance",
    "Quote",
    "RecordError",
    "Records",
    "RegistryError",
    "Response",
    "Score",
    "Verdict",
    "VerdictOutcome",
    "Wanted",
    "__version__",
    "check",
    "evidence_of",
    "import_study",
    "judge",
    "load",
    "load_claim",
    "profile",
    "read_run",
    "write",
]


def __getattr__(name: str) -> object:
    room = _HOME.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{room}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
