"""A planted world: what is true in it, what an honest verdict may say of it, and how to draw it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from counterclaim.audit.evidence import Evidence
from counterclaim.errors import InputError
from counterclaim.records import VerdictOutcome
from counterclaim.testing.worlds.builder import Knobs, Study

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
        n: prompts, by default.
        effect: size of the true (or apparent) change in the target metric's unit, by default.
        severity: how bad the planted fault is, 0 to 1, by default; 0 where there is none.
        build: makes the study.
    """

    name: str
    truth: Truth
    story: str
    expected: frozenset[VerdictOutcome]
    n: int
    effect: float
    severity: float
    build: Callable[[Knobs], Study]

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


WORLDS: dict[str, World] = {}
"""Every planted world by name, in the order of the table."""

_VERDICTS = {outcome.value: outcome for outcome in VerdictOutcome}


def world(
    name: str, truth: Truth, expected: str, story: str, *, n: int = 200, effect: float = 0.0, severity: float = 0.0
) -> Callable[[Callable[[Knobs], Study]], Callable[[Knobs], Study]]:
    """Register a builder as a world; ``expected`` names the fair verdicts, separated by spaces."""

    def register(build: Callable[[Knobs], Study]) -> Callable[[Knobs], Study]:
        verdicts = frozenset(_VERDICTS[word] for word in expected.split())
        WORLDS[name] = World(name, truth, story, verdicts, n, effect, severity, build)
        return build

    return register
