"""The trained worlds that ship: a study file each, and what is true in it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from counterclaim import __version__
from counterclaim.lab.config import StudyPlan, TunePlan, load_study
from counterclaim.lab.models import tiny
from counterclaim.records import Json, VerdictOutcome, content_hash
from counterclaim.testing.worlds import Truth

FOLDER = Path(__file__).parent / "studies"
TRUTHS = "truths.toml"


@dataclass(frozen=True, slots=True)
class TrainedWorld:
    """A study on tiny models whose truth is known, because it is known what they were taught.

    Attributes:
        name: stem of its study file.
        truth: as of a statistical world.
        story: what happens in it, in one sentence: the first line of the study file.
        expected: verdicts that do justice to it.
        prompts: how many of the study's prompts a draw asks.
        apart: of two samples control keeps the first and treated the second, so that the arms share no noise.
        shuffled: the treatment is its own placebo.
        file: the study file.
    """

    name: str
    truth: Truth
    story: str
    expected: frozenset[VerdictOutcome]
    prompts: int
    apart: bool
    shuffled: bool
    file: Path

    def plan(self) -> StudyPlan:
        """The study file, read.

        Raises:
            InputError: it cannot be used.
        """
        return load_study(self.file)

    @property
    def identity(self) -> str:
        """SHA-256 over what a draw depends on beside its number: the study, the models, this version.

        The code of checks is not in it: after a change to it within a version, draw into another folder.

        Raises:
            ModelError: torch or transformers is missing.
        """
        weights = [tiny.folder_of(name).name for name in self.models]
        text = self.file.read_text(encoding="utf-8")
        return content_hash([__version__, [text], weights, self.prompts, self.apart, self.shuffled])

    @property
    def models(self) -> list[str]:
        """The tiny models that answer in it, without ``tiny:``."""
        plan = self.plan()
        named = [arm.model.name for arm in plan.arms]
        named += [] if plan.steps is None or plan.steps.second_model is None else [plan.steps.second_model]
        return [name.removeprefix(tiny.SCHEME) for name in dict.fromkeys(named)]

    @property
    def trains(self) -> bool:
        """Whether an adapter is trained in it."""
        return any(isinstance(arm.change, TunePlan) for arm in self.plan().arms)


@cache
def trained_worlds() -> Mapping[str, TrainedWorld]:
    """Every trained world that ships, by name, in the order of the table."""
    truths = tomllib.loads((FOLDER / TRUTHS).read_text(encoding="utf-8"))
    return {name: _world(name, said) for name, said in truths.items()}


def _world(name: str, said: Mapping[str, Json]) -> TrainedWorld:
    file = FOLDER / f"{name}.toml"
    story = file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("#").strip()
    return TrainedWorld(
        name, said["truth"], story, frozenset(VerdictOutcome(word) for word in said["expected"]), said["prompts"],
        said.get("apart", False), said.get("shuffled", False), file,
    )  # fmt: skip
