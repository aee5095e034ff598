"""Which prompts are chosen from a set or a file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from counterclaim.errors import InputError


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

    @classmethod
    def of_table(cls, said: Mapping[str, Any], path: Path, where: str, line: int | None = None) -> Self:
        """What a table of a file names; a file in it is found from the folder of the file that names it.

        Args:
            said: ``set`` or ``file``, ``split`` (``all`` for any), ``tags`` and ``limit``, as a schema validated them.
            path: the file that holds the table.
            where: the table's name, for messages.
            line: where it stands.

        Raises:
            InputError: it names both a set and a file, or neither.
        """
        named, file = said.get("set"), said.get("file")
        if (named is None) == (file is None):
            raise InputError(
                f"{where}: name either a set or a file",
                path=path,
                line=line,
                remedy='write set = "tiny" or file = "prompts.jsonl"',
            )
        source = str(path.parent / Path(file).expanduser()) if file is not None else str(named)
        split = None if said["split"] == "all" else said["split"]
        return cls(source, split, tuple(said["tags"]), said.get("limit"))

    @property
    def name(self) -> str:
        """The source without the folders that it lies in: they say where somebody works, and change from machine to machine."""
        return re.split(r"[/\\]", self.source)[-1]


@dataclass(frozen=True, slots=True)
class Doses:
    """The doses of what an operator fits: that of its arm, and those of arms that it brings along.

    Attributes:
        others: doses of further arms; 0 is the arm ``do-nothing``, others are ``dose:VALUE``.
        placebo: an arm ``placebo``, fitted by the same recipe on what was destroyed by shuffling, or on something random.
        treated: dose of the arm itself; an adapter that is trained has that of its model instead.
    """

    others: tuple[float, ...] = ()
    placebo: bool = False
    treated: float = 1.0
