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
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_ROOMS = {
    "errors": "BudgetSpent CounterclaimError HostileInputError InputError ModelError RecordError RegistryError SandboxError",
    "records": (
        "CheckResult Claim Decode Estimate Example FinishReason Guard Message ModelRef Outcome Prompt Provenance "
        "Quote Response Score Verdict VerdictOutcome"
    ),
    "registry": (
        "Answer Ask Backend Card Check Finding Fitting Importer Item Judge Metric Model ModelSpec Operator PromptSet Range "
        "Reading Reward Runtime Scorer Tools backend check importer load_plugins metric operator promptset reward scorer"
    ),
    "config": "load_claim",
    "folder": "Records read_run",
    "importers": "AnswerRow Collector Imported InputFile load",
    "audit.evidence": "Evidence",
    "audit.intake": "AuditRequest Options evidence_of import_study",
    "audit.judging": "Judged judge profile write",
    "lab.config": "PipelinePlan StudyPlan load_pipeline load_study",
    "lab.models": "open_model",
    "lab.run": "run_study",
    "testing.server": "Fault serve",
}
"""Module to the public names that it holds."""

_HOME = {name: room for room, names in _ROOMS.items() for name in names.split()}
__all__ = ["__version__", *_HOME]

if TYPE_CHECKING:  # the same names for type checkers, which do not run the table above; a test holds both together
    # fmt: off
    # isort: off
    from counterclaim.errors import BudgetSpent as BudgetSpent, CounterclaimError as CounterclaimError
    from counterclaim.errors import HostileInputError as HostileInputError, InputError as InputError, ModelError as ModelError
    from counterclaim.errors import RecordError as RecordError, RegistryError as RegistryError, SandboxError as SandboxError
    from counterclaim.records import CheckResult as CheckResult, Claim as Claim, Decode as Decode, Estimate as Estimate
    from counterclaim.records import Example as Example, FinishReason as FinishReason, Guard as Guard, Message as Message
    from counterclaim.records import ModelRef as ModelRef, Outcome as Outcome, Prompt as Prompt, Provenance as Provenance
    from counterclaim.records import Quote as Quote, Response as Response, Score as Score, Verdict as Verdict
    from counterclaim.records import VerdictOutcome as VerdictOutcome
    from counterclaim.registry import Answer as Answer, Ask as Ask, Backend as Backend, Card as Card, Check as Check, Finding as Finding
    from counterclaim.registry import Fitting as Fitting, Item as Item, Judge as Judge, Metric as Metric, Model as Model
    from counterclaim.registry import ModelSpec as ModelSpec, Operator as Operator, Range as Range, Reading as Reading, Reward as Reward
    from counterclaim.registry import Runtime as Runtime, Scorer as Scorer, Tools as Tools, backend as backend, check as check
    from counterclaim.registry import Importer as Importer, importer as importer
    from counterclaim.registry import PromptSet as PromptSet, load_plugins as load_plugins, metric as metric, operator as operator
    from counterclaim.registry import promptset as promptset, reward as reward, scorer as scorer
    from counterclaim.config import load_claim as load_claim
    from counterclaim.folder import Records as Records, read_run as read_run
    from counterclaim.importers import AnswerRow as AnswerRow, Collector as Collector, Imported as Imported
    from counterclaim.importers import InputFile as InputFile, load as load
    from counterclaim.audit.evidence import Evidence as Evidence
    from counterclaim.audit.intake import AuditRequest as AuditRequest, Options as Options, evidence_of as evidence_of
    from counterclaim.audit.intake import import_study as import_study
    from counterclaim.audit.judging import Judged as Judged, judge as judge, profile as profile, write as write
    from counterclaim.lab.config import PipelinePlan as PipelinePlan, StudyPlan as StudyPlan, load_pipeline as load_pipeline
    from counterclaim.lab.config import load_study as load_study
    from counterclaim.lab.models import open_model as open_model
    from counterclaim.lab.run import run_study as run_study
    from counterclaim.testing.server import Fault as Fault, serve as serve
    # isort: on
    # fmt: on


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
