"""Who is told how far a study of one's own is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from counterclaim.audit.intake import OnStage, silent
from counterclaim.lab import generation
from counterclaim.lab.scorers.scoring import ScoreTally


@dataclass(frozen=True, slots=True)
class Progress:
    """Who is told how far things are.

    Attributes:
        stage: what is being done.
        part: what is being done, how much of it is done, how much there is.
        answers: after every batch of answers, and as tokens are made.
        scores: as readings come in.
    """

    stage: OnStage = silent
    part: Callable[[str, int, int], None] = field(default=lambda name, done, total: None)
    answers: generation.Watch = field(default=lambda tally: None)
    scores: Callable[[ScoreTally], None] = field(default=lambda tally: None)
