"""Planted statistical worlds: studies made up without a model, whose truth is known.

A verdict tool that has never been shown a study with a known answer is itself a scorer without a card. Each world
draws an ``Evidence`` in milliseconds from a seed; ``counterclaim worlds`` counts the verdicts over many draws.
"""

from __future__ import annotations

import tomllib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Literal

import numpy as np

from counterclaim.audit.evidence import Evidence
from counterclaim.errors import InputError
from counterclaim.records import VerdictOutcome
from counterclaim.testing.worlds.study import Knobs, Study

Truth = Literal["true effect", "no effect", "artefact", "underpowered"]
DRAWS = 2000
"""Resamples per interval in a drawn world: enough for a verdict, cheap enough for hundreds of draws."""

SMALLEST, LARGEST = 10, 20_000
"""Prompts that a planted study may have: enough for nine right answers, few enough for the pool of questions."""


@dataclass(frozen=True, slots=True)
class World:
    """A study whose truth is known because it was made up.

    Attributes:
        name: how checks and the table call it.
        truth: ``true effect`` (as large as claimed, guards kept), ``no effect`` (none, one in the wrong direction, or
            one far below the margin), ``artefact`` (numbers move for a reason that is not the claimed one, or at a
            cost that the claim rules out), ``underpowered`` (too little data to say).
        story: what happens in it, in one sentence.
        expected: verdicts that do justice to it.
        build: makes the study.
        n: prompts, by default.
        effect: size of the true (or apparent) change in the target metric's unit, by default.
        severity: how bad the planted fault is, 0 to 1, by default; 0 where there is none.
    """

    name: str
    truth: Truth
    story: str
    expected: frozenset[VerdictOutcome]
    build: Callable[[Knobs], Study]
    n: int = 200
    effect: float = 0.0
    severity: float = 0.0

    def draw(
        self,
        seed: int,
        *,
        n: int | None = None,
        effect: float | None = None,
        severity: float | None = None,
        draws: int = DRAWS,
    ) -> Evidence:
        """One study from this world; the same arguments give the same study, bit for bit.

        Args:
            seed: any integer >= 0.
            n: prompts, ``SMALLEST`` to ``LARGEST``.
            effect: size of the change, 0 to 1.
            severity: 0 to 1.
            draws: resamples and permutations that checks may take.

        Raises:
            InputError: a knob is out of its range.
        """
        knobs = Knobs(
            np.random.default_rng([zlib.crc32(self.name.encode()), seed]),
            self.n if n is None else n,
            self.effect if effect is None else effect,
            self.severity if severity is None else severity,
        )
        if not SMALLEST <= knobs.n <= LARGEST:
            raise InputError(f"a planted study has {SMALLEST} to {LARGEST} prompts, not {knobs.n}")
        if not (0 <= knobs.effect <= 1 and 0 <= knobs.severity <= 1):
            raise InputError("effect and severity of a planted study lie between 0 and 1")
        return self.build(knobs).evidence(draws)


def _build(module: str, name: str, knobs: Knobs) -> Study:
    study: Study = getattr(import_module(f"{__name__}.{module}"), name)(knobs)
    return study


def _shipped() -> dict[str, World]:
    """The worlds of ``worlds.toml``, each with the function of its name in the module that its table is named after."""
    tables = tomllib.loads((Path(__file__).parent / "worlds.toml").read_text(encoding="utf-8"))
    return {
        name: World(name, expected=frozenset(map(VerdictOutcome, row.pop("expected"))), build=partial(_build, module, name), **row)
        for module, rows in tables.items()
        for name, row in rows.items()
    }  # fmt: skip


WORLDS = _shipped()
"""Every planted world by name, in the order of the table; a plug-in may add some."""


def draw(
    name: str,
    seed: int,
    *,
    n: int | None = None,
    effect: float | None = None,
    severity: float | None = None,
    draws: int = DRAWS,
) -> Evidence:
    """One study from the world ``name``; see ``World.draw``.

    Raises:
        InputError: there is no such world.
    """
    if name not in WORLDS:
        raise InputError(f"there is no planted world {name!r}", remedy=f"choose one of {', '.join(WORLDS)}")
    return WORLDS[name].draw(seed, n=n, effect=effect, severity=severity, draws=draws)
