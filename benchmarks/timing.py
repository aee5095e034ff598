"""Two or more ways to the same answer, timed in turns in one run; and the row that says what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, TypeVar

from counterclaim.records import Json

T = TypeVar("T")


def take_turns(
    sides: Mapping[str, Callable[[], T]], turns: int, clock: Callable[[], float] = time.perf_counter
) -> tuple[dict[str, T], dict[str, float]]:
    """Call every side in turn, so that a busy machine slows all; the order is reversed from turn to turn.

    Args:
        sides: name to what is timed; the first call of each, which also pays for imports and tables, is not.
        turns: calls of each side that are timed.
        clock: gives seconds; ``time.process_time`` counts those of this process's own work.

    Returns:
        The last answer of every side, and the median of its seconds.
    """
    answers = {name: side() for name, side in sides.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(turns):
        for name in list(sides)[:: -1 if turn % 2 else 1]:
            start = clock()
            answers[name] = sides[name]()
            seconds[name].append(clock() - start)
    return answers, {name: median(found) for name, found in seconds.items()}


def row(
    name: str, ours: float, peer: str, peer_s: float, agreement: float | None, *, price: bool = False
) -> dict[str, Json]:
    """A row of the table, as ``run_bench`` describes it; of a price the ratio is ours over the peer's."""
    ratio = ours / peer_s if price else peer_s / ours
    return {"name": name, "ours": ours, "peer": peer, "peer_s": peer_s, "ratio": ratio, "agreement": agreement}


def differing(ours: Sequence[Any], theirs: Sequence[Any]) -> float:
    """Share of answers that differ."""
    return sum(bool(one != two) for one, two in zip(ours, theirs, strict=True)) / len(ours)
