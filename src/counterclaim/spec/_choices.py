"""Which prompts are chosen from a set or a file."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PromptChoice:
    """Which prompts are put to the models.

    Attributes:
        source: a file, or the name of a set that ships (``tiny``, ``mcas``, ``world:NAME``, ...).
        split: only prompts of this split; all where None.
        tags: only prompts that carry every one of these tags.
        limit: at most so many, evenly spread over the source.
    """

    source: str
    split: str | None = "test"
    tags: tuple[str, ...] = ()
    limit: int | None = None

    @property
    def name(self) -> str:
        """The source without the folders that it lies in: they say where somebody works, and change from machine to machine."""
        return re.split(r"[/\\]", self.source)[-1]
