"""The planted worlds, drawn many times, in as many processes as there are to spare."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context

from counterclaim.calibration.table import Judged, check_rates, judge, promises, row_of
from counterclaim.errors import InputError
from counterclaim.records import Json
from counterclaim.worlds import WORLDS

CHUNK = 10  # draws per task: small enough to share out evenly, large enough to hide the hand-over

Knob = tuple[int | None, float | None, float | None]
Task = tuple[str, int, int, Knob]


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
    """
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
    for name, part in _run(tasks, jobs):
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


def _run(tasks: Sequence[Task], jobs: int) -> Iterator[tuple[str, list[Judged]]]:
    if jobs == 1 or len(tasks) == 1:
        yield from (_draw_some(*task) for task in tasks)
        return
    with (
        threads_each(),
        ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=get_context("spawn")) as pool,
    ):
        for future in as_completed([pool.submit(_draw_some, *task) for task in tasks]):
            yield future.result()


@contextmanager
def threads_each(many: int = 1) -> Iterator[None]:
    """Keep linear algebra of child processes to so many threads each: the processes together have the cores already."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(many)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _draw_some(name: str, start: int, stop: int, knobs: Knob) -> tuple[str, list[Judged]]:
    n, effect, severity = knobs
    drawn = (WORLDS[name].draw(seed, n=n, effect=effect, severity=severity) for seed in range(start, stop))
    return name, [judge(evidence) for evidence in drawn]
