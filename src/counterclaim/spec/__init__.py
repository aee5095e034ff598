"""What the user writes down in TOML: a claim, or a whole study; every error names the key and the line."""

from __future__ import annotations

from counterclaim.spec._choices import PromptChoice
from counterclaim.spec._claim import (
    line_of,
    load_claim,
    lock_path,
    lock_text,
    read_lock,
    read_toml,
    template,
    validated,
)
from counterclaim.spec._edits import (
    Bars,
    CustomPlan,
    Edit,
    FiveSteps,
    Layer,
    OwnAnswers,
    Position,
    ProbePlan,
    SidecarPlan,
    SteerPlan,
    TemperPlan,
)
from counterclaim.spec._models import model_identity, model_json
from counterclaim.spec._pipeline import ALLOWED_LICENCES, FilterPlan, PipelinePlan, StagePlan, load_pipeline
from counterclaim.spec._reported import (
    Direction,
    Numbers,
    Reported,
    ReportedAsymmetry,
    ReportedAuc,
    ReportedCells,
    ReportedCosine,
    ReportedCounts,
    ReportedDirection,
    ReportedFiltering,
    ReportedLargestD,
    ReportedMeans,
    load_reported,
)
from counterclaim.spec._series import Chapter, Series, is_series, load_series
from counterclaim.spec._study import (
    ArmPlan,
    Change,
    StudyPlan,
    arms_hash,
    change_hash,
    change_json,
    change_told,
    load_study,
)
from counterclaim.spec._tune import RECIPES, Dpo, Grpo, Lora, Sft, Stage, TunePlan
from counterclaim.spec._written import Written, as_told, decimals_of, rounds_to

__all__ = [
    "ALLOWED_LICENCES",
    "RECIPES",
    "ArmPlan",
    "Bars", "Change", "Chapter", "CustomPlan",
    "Direction",
    "Dpo", "Edit",
    "FilterPlan",
    "FiveSteps",
    "Grpo",
    "Layer",
    "Lora",
    "Numbers",
    "OwnAnswers",
    "PipelinePlan",
    "Position",
    "ProbePlan",
    "PromptChoice",
    "Reported", "ReportedAsymmetry", "ReportedAuc", "ReportedCells", "ReportedCosine", "ReportedCounts",
    "ReportedDirection", "ReportedFiltering", "ReportedLargestD", "ReportedMeans",
    "Series",
    "Sft",
    "SidecarPlan",
    "Stage",
    "StagePlan",
    "SteerPlan",
    "StudyPlan",
    "TemperPlan",
    "TunePlan",
    "Written",
    "arms_hash", "as_told", "change_hash", "change_json", "change_told",
    "decimals_of",
    "is_series",
    "line_of",
    "load_claim",
    "load_pipeline", "load_reported", "load_series",
    "load_study",
    "lock_path",
    "lock_text",
    "model_identity",
    "model_json",
    "read_lock",
    "read_toml",
    "rounds_to",
    "template",
    "validated",
]  # fmt: skip
