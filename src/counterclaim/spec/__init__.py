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
from counterclaim.spec._edits import Bars, FiveSteps, OwnAnswers, ProbePlan, SidecarPlan, SteerPlan, TemperPlan
from counterclaim.spec._models import model_json
from counterclaim.spec._pipeline import ALLOWED_LICENCES, FilterPlan, PipelinePlan, StagePlan, load_pipeline
from counterclaim.spec._study import ArmPlan, StudyPlan, arms_hash, load_study, training_hash
from counterclaim.spec._tune import RECIPES, Dpo, Grpo, Lora, Sft, Stage, TunePlan, training_told, tune_json

__all__ = [
    "ALLOWED_LICENCES",
    "RECIPES",
    "ArmPlan",
    "Bars",
    "Dpo",
    "FilterPlan",
    "FiveSteps",
    "Grpo",
    "Lora",
    "OwnAnswers",
    "PipelinePlan",
    "ProbePlan",
    "PromptChoice",
    "Sft",
    "SidecarPlan",
    "Stage",
    "StagePlan",
    "SteerPlan",
    "StudyPlan",
    "TemperPlan",
    "TunePlan",
    "arms_hash",
    "line_of",
    "load_claim",
    "load_pipeline",
    "load_study",
    "lock_path",
    "lock_text",
    "model_json",
    "read_lock",
    "read_toml",
    "template",
    "training_hash", "training_told",
    "tune_json",
    "validated",
]  # fmt: skip
