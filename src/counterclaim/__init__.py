"""Counterclaim tries to refute a claim about a language model's behaviour before a reviewer does.

    from pathlib import Path
    import counterclaim as cc

    files = {"control": [Path("base.jsonl")], "treated": [Path("tuned.jsonl")]}
    records = cc.import_study(files, cc.AuditRequest(metric="accuracy"), cc.Options())
    judged = cc.judge(records)
    print(judged.verdict["verdict"], judged.verdict["because"])

Names are resolved when they are first used, so that ``import counterclaim`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

__version__ = "0.1.0"

if TYPE_CHECKING:
    from counterclaim.audit.evidence import Evidence
    from counterclaim.audit.intake import AuditRequest, Options, evidence_of, import_study
    from counterclaim.audit.judging import Judged, judge, profile, write
    from counterclaim.config import load_claim
    from counterclaim.errors import (
        BudgetSpent,
        CounterclaimError,
        HostileInputError,
        InputError,
        ModelError,
        RecordError,
        RegistryError,
        SandboxError,
    )
    from counterclaim.folder import Records, read_run
    from counterclaim.importers import Imported, load
    from counterclaim.lab.config import PipelinePlan, StudyPlan, load_pipeline, load_study
    from counterclaim.lab.models import open_model
    from counterclaim.lab.run import run_study
    from counterclaim.records import (
        CheckResult,
        Claim,
        Decode,
        Estimate,
        Example,
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
    from counterclaim.registry import (
        Answer,
        Ask,
        Backend,
        Card,
        Check,
        Finding,
        Fitting,
        Item,
        Judge,
        Model,
        ModelSpec,
        Operator,
        Range,
        Reading,
        Reward,
        Runtime,
        Scorer,
        Tools,
        backend,
        check,
        operator,
        reward,
        scorer,
    )
    from counterclaim.testing.server import Fault, serve

_ROOMS: Final = {
    "errors": (
        "BudgetSpent", "CounterclaimError", "HostileInputError", "InputError", "ModelError", "RecordError", "RegistryError",
        "SandboxError",
    ),
    "records": (
        "CheckResult", "Claim", "Decode", "Estimate", "Example", "FinishReason", "Guard", "Message", "ModelRef", "Outcome",
        "Prompt", "Provenance", "Quote", "Response", "Score", "Verdict", "VerdictOutcome",
    ),
    "registry": (
        "Answer", "Ask", "Backend", "Card", "Check", "Finding", "Fitting", "Scorer", "Item", "Judge", "Model", "ModelSpec",
        "Operator", "Range", "Reading", "Reward", "Runtime", "Tools", "backend", "check", "scorer", "operator", "reward",
    ),
    "config": ("load_claim",),
    "folder": ("Records", "read_run"),
    "importers": ("Imported", "load"),
    "audit.evidence": ("Evidence",),
    "audit.intake": ("Options", "AuditRequest", "evidence_of", "import_study"),
    "audit.judging": ("Judged", "judge", "profile", "write"),
    "lab.config": ("PipelinePlan", "StudyPlan", "load_pipeline", "load_study"),
    "lab.models": ("open_model",),
    "lab.run": ("run_study",),
    "testing.server": ("Fault", "serve"),
}  # fmt: skip
_HOME: Final = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "Answer",
    "Ask",
    "AuditRequest",
    "Backend",
    "BudgetSpent",
    "Card",
    "Check",
    "CheckResult",
    "Claim",
    "CounterclaimError",
    "Decode",
    "Estimate",
    "Evidence",
    "Example",
    "Fault",
    "Finding",
    "FinishReason",
    "Fitting",
    "Guard",
    "HostileInputError",
    "Imported",
    "InputError",
    "Item",
    "Judge",
    "Judged",
    "Message",
    "Model",
    "ModelError",
    "ModelRef",
    "ModelSpec",
    "Operator",
    "Options",
    "Outcome",
    "PipelinePlan",
    "Prompt",
    "Provenance",
    "Quote",
    "Range",
    "Reading",
    "RecordError",
    "Records",
    "RegistryError",
    "Response",
    "Reward",
    "Runtime",
    "SandboxError",
    "Score",
    "Scorer",
    "StudyPlan",
    "Tools",
    "Verdict",
    "VerdictOutcome",
    "__version__",
    "backend",
    "check",
    "evidence_of",
    "import_study",
    "judge",
    "load",
    "load_claim",
    "load_pipeline",
    "load_study",
    "open_model",
    "operator",
    "profile",
    "read_run",
    "reward",
    "run_study",
    "scorer",
    "serve",
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
