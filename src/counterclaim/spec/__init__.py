"""What the user writes down in TOML: a claim, or a whole study; every error names the key and the line."""

from __future__ import annotations

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
from counterclaim.spec._study import ArmPlan, PromptChoice, StudyPlan, arms_hash, load_study, model_json

__all__ = [
    "ArmPlan", "PromptChoice", "StudyPlan", "arms_hash", "line_of", "load_claim", "load_study", "lock_path", "lock_text",
    "model_json", "read_lock", "read_toml", "template", "validated",
]  # fmt: skip
