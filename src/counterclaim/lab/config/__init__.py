"""The TOML tables of studies, training, pipelines and suites: one dataclass each; every error names the key and the line."""

from __future__ import annotations

from counterclaim.lab.config.common import PromptChoice, TrainingPrompts, model_identity, model_json
from counterclaim.lab.config.edits import (
    Bars,
    CustomPlan,
    Edit,
    FiveSteps,
    Layer,
    Position,
    ProbePlan,
    SidecarPlan,
    SteerPlan,
    TemperPlan,
)  # fmt: skip
from counterclaim.lab.config.pipeline import ALLOWED_LICENCES, FilterPlan, PipelinePlan, StagePlan, load_pipeline
from counterclaim.lab.config.reported import (
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
)  # fmt: skip
from counterclaim.lab.config.study import ArmPlan, Change, StudyPlan, arms_hash, change_hash, change_json, load_study
from counterclaim.lab.config.suite import Chapter, Series, is_series, load_series
from counterclaim.lab.config.training import RECIPES, Dpo, Grpo, Lora, Sft, Stage, TunePlan

__all__ = [
    "ALLOWED_LICENCES", "RECIPES", "ArmPlan", "Bars", "Change", "Chapter", "CustomPlan", "Direction", "Dpo", "Edit",
    "FilterPlan", "FiveSteps", "Grpo", "Layer", "Lora", "Numbers", "PipelinePlan", "Position", "ProbePlan",
    "PromptChoice", "Reported", "ReportedAsymmetry", "ReportedAuc", "ReportedCells", "ReportedCosine", "ReportedCounts",
    "ReportedDirection", "ReportedFiltering", "ReportedLargestD", "ReportedMeans", "Series", "Sft", "SidecarPlan", "Stage",
    "StagePlan", "SteerPlan", "StudyPlan", "TemperPlan", "TrainingPrompts", "TunePlan", "arms_hash", "change_hash",
    "change_json", "is_series", "load_pipeline", "load_reported", "load_series", "load_study", "model_identity", "model_json",
]  # fmt: skip
