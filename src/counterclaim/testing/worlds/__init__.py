"""Planted statistical worlds: studies made up without a model, whose truth is known.

A verdict tool that has never been shown a study with a known answer is itself a scorer without a card. Each world
draws an ``Evidence`` in milliseconds from a seed; ``counterclaim worlds`` counts the verdicts over many draws.
"""

from __future__ import annotations

from counterclaim.audit.evidence import Evidence
from counterclaim.errors import InputError
from counterclaim.testing.worlds import crooked, fair, hollow, probed
from counterclaim.testing.worlds.world import DRAWS, WORLDS, Truth, World

__all__ = ["DRAWS", "WORLDS", "Truth", "World", "crooked", "draw", "fair", "hollow", "probed"]


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
