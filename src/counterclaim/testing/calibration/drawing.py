"""The planted worlds, drawn many times, in as many processes as there are to spare."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from counterclaim.errors import InputError
from counterclaim.lab.workers import each_done
from counterclaim.records import Json
from counterclaim.registry import load_plugins
from counterclaim.testing.calibration.table import Judged, check_rates, judge, promises, row_of
from counterclaim.testing.worlds import WORLDS

CHUNK = 10  # draws per task: small enough to share out evenly, large enough to hide the hand-over

Knob = tuple[int | None, float | None, float | None]


def tally(
    draws: int,
    worlds: Sequence[str] | None = None,
    *,
    n: int | None = None,
    effect: float | None = None,
    severity: float | None = None,
    jobs: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Json]:
    """Draw worlds and count verdicts, check outcomes and naive positives.

    Args:
        draws: studies per world; draw number i of a world is seeded by the world's name and i, so that the table
            depends neither on ``jobs`` nor on which other worlds are drawn.
        worlds: names; all when None.
        n: prompts per study, in place of each world's own number.
        effect: size of the change, in place of each world's own.
        severity: how bad the planted fault is, in place of each world's own.
        jobs: processes; 1 draws in this one.
        progress: called with (studies done, studies in all).

    Returns:
        The contract's table ``{"draws", "worlds": [...]}`` (``table.row_of``), with ``check_rates`` and ``promises``
        beside it.

    Raises:
        InputError: an unknown world, or fewer than one draw or job.
        CounterclaimError: the system killed a process.
    """
    load_plugins()  # which may have worlds of their own
    names = list(WORLDS) if worlds is None else list(dict.fromkeys(worlds))
    unknown = [name for name in names if name not in WORLDS]
    if unknown:
        raise InputError(f"there is no planted world {unknown[0]!r}", remedy=f"choose from {', '.join(WORLDS)}")
    if draws < 1 or jobs < 1:
        raise InputError("draws and jobs count from 1")
    knobs = (n, effect, severity)
    tasks = [(name, at, min(at + CHUNK, draws), knobs) for name in names for at in range(0, draws, CHUNK)]
    judged: dict[str, list[Judged]] = {name: [] for name in names}
    done = 0
    for name, part in each_done(jobs, _draw_some, tasks):
        judged[name] += part
        done += len(part)
        if progress is not None:
            progress(done, draws * len(names))
    rows = [_row(name, judged[name], n) for name in names]
    table: dict[str, Json] = {"draws": draws, "worlds": rows}
    table["check_rates"] = [rates.to_json() for rates in check_rates(table)]
    table["promises"] = [promise.to_json() for promise in promises(table)]
    return table


def _row(name: str, judged: Sequence[Judged], n: int | None) -> dict[str, Json]:
    world = WORLDS[name]
    asked = world.n if n is None else n
    return row_of(name, judged, n=asked, truth=world.truth, story=world.story, expected=world.expected)


def _draw_some(name: str, start: int, stop: int, knobs: Knob) -> tuple[str, list[Judged]]:
    n, effect, severity = knobs
    drawn = (WORLDS[name].draw(seed, n=n, effect=effect, severity=severity) for seed in range(start, stop))
    return name, [judge(evidence) for evidence in drawn]
