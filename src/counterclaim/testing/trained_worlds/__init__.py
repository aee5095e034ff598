"""Planted studies on tiny real models, drawn many times: what ``worlds`` does with made-up answers, with trained ones.

The truth of a world holds by construction, since what the tiny models were taught is known (``models.tiny.domain``). A draw
is a replication: other prompts, other sampling seeds, other training seeds and folds, all derived from the world's name and
the draw's number.
"""

from __future__ import annotations

import tomllib
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np

from counterclaim import __version__
from counterclaim import folder as store
from counterclaim.audit.evidence import Evidence
from counterclaim.audit.intake import evidence_of
from counterclaim.errors import InputError
from counterclaim.folder import Records
from counterclaim.lab import operators
from counterclaim.lab import prompts as promptsets
from counterclaim.lab.answers import Progress
from counterclaim.lab.config import ArmPlan, PromptChoice, StudyPlan, TunePlan, load_study
from counterclaim.lab.models import tiny
from counterclaim.lab.prompts.select import choose_prompts
from counterclaim.lab.run import make_records
from counterclaim.lab.workers import each_done
from counterclaim.records import CONTROL, TREATED, Json, VerdictOutcome, content_hash
from counterclaim.testing.calibration import DrawResult, judge_draw, promises, row_of
from counterclaim.testing.worlds import Truth

FOLDER = Path(__file__).parent / "studies"
TRUTHS = "truths.toml"
Choice = TypeVar("Choice", bound=PromptChoice)


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
    return {name: _world(name, row) for name, row in truths.items()}


def _world(name: str, row: Mapping[str, Json]) -> TrainedWorld:
    file = FOLDER / f"{name}.toml"
    story = file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("#").strip()
    return TrainedWorld(
        name, row["truth"], story, frozenset(VerdictOutcome(word) for word in row["expected"]), row["prompts"],
        row.get("apart", False), row.get("shuffled", False), file,
    )  # fmt: skip


# draws --------------------------------------------------------------------------------------------------------------

JOURNAL = "draws.journal"
LEARNT = 7 / 8
"""Share of the prompts of the train split whose answers a draw learns from, where it learns from the model's own answers."""


def tally(
    draws: int,
    worlds: Sequence[str] | None = None,
    *,
    out: Path,
    jobs: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Json]:
    """Draw trained worlds and count as ``calibration.tally`` does; killed and called again, it goes on where it stopped.

    Args:
        draws: studies per world; what draw number i of a world is depends on the world and on i alone.
        worlds: names; all when None.
        out: folder that keeps the draws that are done, and what the others need.
        jobs: processes; 1 draws in this one.
        progress: called with what is being done, how many draws are done, and how many there are.

    Returns:
        The table of ``calibration.tally``, without ``check_rates``: trained worlds are named by no check.

    Raises:
        InputError: an unknown world, fewer than one draw or job, or ``out`` cannot be written.
        ModelError: torch, or TRL where a world trains, is missing; or a model cannot be used.
    """
    known = trained_worlds()
    names = list(known) if worlds is None else list(dict.fromkeys(worlds))
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"there is no trained world {unknown[0]!r}", remedy=f"choose from {', '.join(known)}")
    if draws < 1 or jobs < 1:
        raise InputError("draws and jobs count from 1")
    report = progress or (lambda doing, done, total: None)
    total = draws * len(names)
    identity = {name: known[name].identity for name in names}
    if any(known[name].trains for name in names):
        operators.builtin.check_installed()
    with store.Journal(out / JOURNAL, "trained worlds") as journal:
        done = {
            (row["world"], row["draw"]): DrawResult(**row["judged"])
            for row in journal.rows
            if identity.get(row["world"]) == row["identity"] and row["draw"] < draws
        }
        for model in dict.fromkeys(model for name in names for model in known[name].models):
            tiny.ensure(model, report)
        report("drawing", len(done), total)
        wanted = [(name, at, out) for name in names for at in range(draws) if (name, at) not in done]
        for name, at, judged in each_done(jobs, _draw_one, wanted):
            journal.append([{"world": name, "draw": at, "identity": identity[name], "judged": judged.to_json()}])
            store.remove_folder(_folder(out, name, at))
            done[name, at] = judged
            report(f"drawing {name}", len(done), total)
    rows = [_row(known[name], [done[name, at] for at in range(draws)]) for name in names]
    table: dict[str, Json] = {"draws": draws, "worlds": rows}
    table["promises"] = [promise.to_json() for promise in promises(table)]
    return table


def draw(world: TrainedWorld, at: int, out: Path, watchers: Progress | None = None) -> Evidence:
    """One study from a trained world; its run folder lies under ``out`` and is gone on with where it is there already.

    Args:
        world: which one.
        at: number of the draw, >= 0.
        out: folder of the draws.
        watchers: told how far things are.

    Raises:
        InputError: the folder holds something else, or cannot be written.
        ModelError: a model cannot be used, or cannot be trained.
    """
    for model in world.models:
        tiny.ensure(model)
    return _studied(world, at, out, watchers or Progress())


def _studied(world: TrainedWorld, at: int, out: Path, watchers: Progress) -> Evidence:
    folder = _folder(out, world.name, at)
    with store.locked(folder):
        # what a draw has left that was stopped before the world changed is of no use
        records = make_records(_drawn(world, at, out), folder / "run", watchers, overwrite=True)
    return evidence_of(_apart(records) if world.apart else records)


def _apart(records: Records) -> Records:
    """The first sample of control and the second of treated, which share no noise."""
    kept = {CONTROL: 0, TREATED: 1}
    return replace(
        records,
        responses=[row for row in records.responses if row.sample == kept[row.arm]],
        scores=[row for row in records.scores if row.sample == kept[row.arm]],
    )


def _folder(out: Path, name: str, at: int) -> Path:
    return out / "draws" / f"{name}-{at}"


def _row(world: TrainedWorld, judged: Sequence[DrawResult]) -> dict[str, Json]:
    return row_of(
        world.name, judged, n=world.prompts, truth=world.truth, story=world.story, expected=world.expected, trained=True
    )


def _draw_one(name: str, at: int, out: Path) -> tuple[str, int, DrawResult]:
    return name, at, judge_draw(_studied(trained_worlds()[name], at, out, Progress()))


# what a draw varies ---------------------------------------------------------------------------------------------


def _drawn(world: TrainedWorld, at: int, out: Path) -> StudyPlan:
    """The study of one draw: its prompts, its sampling seeds, and the seeds and prompts of what is fitted."""
    plan, folder = world.plan(), _folder(out, world.name, at)
    random = np.random.default_rng([zlib.crc32(world.name.encode()), at])
    asked = _some(plan.prompts, world.prompts, random, folder / "asked.jsonl")
    seeds = tuple(_seeds(plan.seeds, random).values())
    change = plan.arms[1].change
    if change is None:
        return replace(plan, prompts=asked, seeds=seeds)
    fits = _seeds(change.seeds, random)
    train_prompts = None
    if not isinstance(change, TunePlan) and change.prompts is not None:
        many = round(LEARNT * len(choose_prompts(change.prompts)))
        train_prompts = _some(change.prompts, many, random, folder / "learnt.jsonl")

    def refitted(arm: ArmPlan) -> ArmPlan:
        """The arm with other seeds, which learns from this draw's prompts."""
        made = arm.change
        if made is None:
            return arm
        made = replace(made, seeds=tuple(fits[seed] for seed in made.seeds))
        if isinstance(made, TunePlan):
            return replace(arm, change=made, placebo=arm.placebo or world.shuffled)
        if made.prompts is not None and train_prompts is not None:
            made = replace(made, prompts=train_prompts)
        return replace(arm, change=made)

    return replace(plan, prompts=asked, seeds=seeds, arms=tuple(map(refitted, plan.arms)))


def _some(choice: Choice, many: int, random: np.random.Generator, file: Path) -> Choice:
    """Prompts of a choice, ``many`` of them, drawn at random into a file."""
    prompts = choose_prompts(choice)
    taken = sorted(random.choice(len(prompts), many, replace=False).tolist())
    store.make_folder(file.parent)
    store.write_new(file, store.dump_lines(promptsets.save(prompts[at] for at in taken)), overwrite=True)
    return replace(choice, set=str(file), file=None, tags=(), limit=None, without=())


def _seeds(named: Sequence[int], random: np.random.Generator) -> dict[int, int]:
    """Another seed for each that the study names."""
    return {seed: int(random.integers(1, 2**31)) for seed in named}
