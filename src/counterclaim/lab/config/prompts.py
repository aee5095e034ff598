"""Which prompts are chosen from a set or a file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from counterclaim.errors import InputError

if TYPE_CHECKING:
    from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class PromptChoice:
    """Which prompts are put to the models.

    Attributes:
        source: a file, or the name of a set that ships (``tiny``, ``mcas``, ``world:NAME``, ...).
        split: only prompts of this split; all where None.
        tags: only prompts that carry every one of these tags.
        limit: at most so many, evenly spread over the source.
        without: no prompts that carry any of these tags.
    """

    source: str
    split: str | None = "test"
    tags: tuple[str, ...] = ()
    limit: int | None = None
    without: tuple[str, ...] = ()

    @classmethod
    def of_table(cls, said: Mapping[str, Any], path: Path, where: str, line: int | None = None) -> Self:
        """What a table of a file names; a file in it is found from the folder of the file that names it.

        Args:
            said: ``set`` or ``file``, ``split`` (``all`` for any), ``tags`` ``without`` and ``limit``, as ``prompts_schema`` has them.
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
        return cls(source, split, tuple(said["tags"]), said.get("limit"), tuple(said["without"]))

    @property
    def name(self) -> str:
        """The source without the folders that it lies in: they say where somebody works, and change from machine to machine."""
        return re.split(r"[/\\]", self.source)[-1]


def prompts_schema(*, learnt: bool) -> type[BaseModel]:
    """The schema of a table of prompts.

    Args:
        learnt: whether something is learnt from them; the splits test and fresh are for testing.
    """
    from pydantic import BaseModel, ConfigDict, Field

    class Prompts(BaseModel):
        model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

        set: str | None = None
        file: str | None = None
        tags: list[str] = Field(default_factory=list)
        without: list[str] = Field(default_factory=list)
        limit: int | None = Field(default=None, ge=1)

    class Learnt(Prompts):
        split: Literal["train", "dev"] = "train"

    class Tested(Prompts):
        split: Literal["train", "dev", "test", "fresh", "all"] = "test"

    return Learnt if learnt else Tested


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
