"""A study of one's own, up to the door: prompts chosen, claim frozen, adapters trained, answers generated and scored, records out.

    plan ─> prompts ─> lessons ─> frozen claim ─> train ─> generate ─> cut to budgets ─> score ─> Records

Everything is written down as it is made. Killed at any moment and run again, it goes on where it stopped; run again when
it is finished, it trains and generates nothing and scores only what is new.
"""

from __future__ import annotations

from counterclaim.lab.experiment.answering import Answering, Work, answer, cut_to_budgets
from counterclaim.lab.experiment.fitting import follow
from counterclaim.lab.experiment.scores import Scoring, judging, score
from counterclaim.lab.experiment.steps import (
    generate_run,
    judge_report,
    score_run,
    score_table,
    scripted_turns,
    take_in,
)
from counterclaim.lab.experiment.watching import Progress
from counterclaim.lab.experiment.whole import outline, perform
from counterclaim.lab.prompts.select import choose_prompts

__all__ = [
    "Answering",
    "Progress",
    "Scoring",
    "Work",
    "answer",
    "choose_prompts",
    "cut_to_budgets",
    "follow",
    "generate_run",
    "judge_report",
    "judging",
    "outline",
    "perform",
    "score",
    "score_run",
    "score_table",
    "scripted_turns",
    "take_in",
]  # fmt: skip
