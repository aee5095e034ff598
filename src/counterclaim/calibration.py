"""How often the verdicts are right: every planted world drawn many times, and every verdict and check counted.

The table is the tool's own known-answer card. Beside each row stands the naive protocol, an unpaired test of two
means at 5 %, on the same draws.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
from scipy.special import ndtr, stdtr

from counterclaim import checks, stats
from counterclaim.errors import InputError
from counterclaim.evidence import Arm, Evidence
from counterclaim.metrics import Floats, Metric
from counterclaim.records import Json, Outcome, VerdictOutcome
from counterclaim.registry import Check
from counterclaim.registry import checks as registered
from counterclaim.verdict import decide
from counterclaim.worlds import WORLDS

NAIVE_ALPHA = 0.05
CHUNK = 10  # draws per task: small enough to share out evenly, large enough to hide the hand-over
CAUGHT = (Outcome.FAIL, Outcome.INCONCLUSIVE)
"""What a check may say in a world that it must catch: too little evidence is caught by saying so."""


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise about the table.

    Attributes:
        name: the promise in words.
        holds: whether the table keeps it.
        measured: the worst share over the worlds that it is about.
        bound: what ``measured`` is held against.
        worst: the world with the worst share.
    """

    name: str
    holds: bool
    measured: float
    bound: float
    worst: str

    def to_json(self) -> dict[str, Json]:
        """Plain JSON."""
        return {
            "name": self.name, "holds": self.holds, "measured": self.measured, "bound": self.bound, "worst": self.worst
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class CheckRates:
    """How often one check erred over the draws of the worlds that it names.

    Attributes:
        check: its name.
        false_alarm: share of FAIL (or ERROR) in worlds where it must pass; None where none of them was drawn.
        withheld: share of anything else than PASS and FAIL there.
        missed: share of outcomes outside ``CAUGHT`` in worlds that it must catch; None where none was drawn.
    """

    check: str
    false_alarm: float | None
    withheld: float | None
    missed: float | None

    def to_json(self) -> dict[str, Json]:
        """Plain JSON."""
        return {
            "check": self.check, "false_alarm": self.false_alarm, "withheld": self.withheld, "missed": self.missed
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What came of some draws of one world."""

    world: str
    verdicts: Counter[str]
    outcomes: Counter[tuple[str, str]]
    naive: int
    draws: int


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
        The contract's table ``{"draws", "worlds": [...]}``, with ``check_rates`` and ``promises`` beside it. Shares
        are fractions of draws; outcomes that never came are left out of ``checks``.

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
    verdicts: dict[str, Counter[str]] = {name: Counter() for name in names}
    outcomes: dict[str, Counter[tuple[str, str]]] = {name: Counter() for name in names}
    naive: Counter[str] = Counter()
    done = 0
    for part in _run(tasks, jobs):
        verdicts[part.world] += part.verdicts
        outcomes[part.world] += part.outcomes
        naive[part.world] += part.naive
        done += part.draws
        if progress is not None:
            progress(done, draws * len(names))
    rows = [_row(name, n, draws, verdicts[name], outcomes[name], naive[name]) for name in names]
    table: dict[str, Json] = {"draws": draws, "worlds": rows}
    table["check_rates"] = [rates.to_json() for rates in check_rates(table)]
    table["promises"] = [promise.to_json() for promise in promises(table)]
    return table


Knob = tuple[int | None, float | None, float | None]
Task = tuple[str, int, int, Knob]


def _run(tasks: Sequence[Task], jobs: int) -> Iterator[_Drawn]:
    if jobs == 1 or len(tasks) == 1:
        yield from (_draw_some(*task) for task in tasks)
        return
    with (
        _one_thread_each(),
        ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=get_context("spawn")) as pool,
    ):
        for future in as_completed([pool.submit(_draw_some, *task) for task in tasks]):
            yield future.result()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Keep linear algebra of child processes to one thread each: they are as many as there are cores already."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _draw_some(name: str, start: int, stop: int, knobs: Knob) -> _Drawn:
    n, effect, severity = knobs
    verdicts: Counter[str] = Counter()
    outcomes: Counter[tuple[str, str]] = Counter()
    naive = 0
    for seed in range(start, stop):
        evidence = WORLDS[name].draw(seed, n=n, effect=effect, severity=severity)
        results = checks.run_all(evidence)
        verdicts[decide(evidence.claim, results).outcome.value] += 1
        outcomes.update((result.check, result.outcome.value) for result in results)
        naive += naive_positive(evidence)
    return _Drawn(name, verdicts, outcomes, naive, stop - start)


def _row(
    name: str, n: int | None, draws: int, verdicts: Counter[str], outcomes: Counter[tuple[str, str]], naive: int
) -> dict[str, Json]:
    world = WORLDS[name]
    found: dict[str, dict[str, float]] = {}
    for (check, outcome), count in sorted(outcomes.items()):
        found.setdefault(check, {})[outcome] = count / draws
    return {
        "world": name,
        "n": world.n if n is None else n,
        "truth": world.truth,
        "story": world.story,
        "expected": sorted(outcome.value for outcome in world.expected),
        "verdicts": {outcome.value: verdicts[outcome.value] / draws for outcome in VerdictOutcome},
        "checks": found,
        "naive": {"mean_test_positive": naive / draws},
    }


# what the table promises -----------------------------------------------------------------------------------------


def promises(table: Mapping[str, Json]) -> list[Promise]:
    """Whether a table (of worlds with their own n, effect and severity) keeps what the tool promises.

    Promises about worlds that the table does not hold are left out.
    """
    rows: list[Mapping[str, Json]] = table["worlds"]
    hollow = [row for row in rows if row["truth"] in ("no effect", "artefact")]
    honest = [row for row in rows if row["truth"] == "true effect"]
    null = [row for row in rows if row["world"] == "null"]
    small = [row for row in rows if row["truth"] == "underpowered"]
    found = [
        _at_most("without an effect, or with an artefact, SUPPORTED is rare", hollow, "SUPPORTED", 0.01),
        _at_least("a true effect of twice the margin is SUPPORTED", honest, "SUPPORTED", 0.95),
        _at_least("a true null with prompts enough is REFUTED", null, "REFUTED", 0.90),
        _at_most("too small a study is not REFUTED", small, "REFUTED", 0.05),
        _at_least("too small a study is INCONCLUSIVE", small, "INCONCLUSIVE", 0.90),
    ]
    return [promise for promise in found if promise is not None]


def _at_most(name: str, rows: Sequence[Mapping[str, Json]], verdict: str, bound: float) -> Promise | None:
    if not rows:
        return None
    worst = max(rows, key=lambda row: row["verdicts"][verdict])
    share = worst["verdicts"][verdict]
    return Promise(name, share <= bound, share, bound, worst["world"])


def _at_least(name: str, rows: Sequence[Mapping[str, Json]], verdict: str, bound: float) -> Promise | None:
    if not rows:
        return None
    worst = min(rows, key=lambda row: row["verdicts"][verdict])
    share = worst["verdicts"][verdict]
    return Promise(name, share >= bound, share, bound, worst["world"])


def check_rates(table: Mapping[str, Json]) -> list[CheckRates]:
    """False alarms and misses of every registered check, over the worlds that it names and the table holds."""
    rows = {row["world"]: row["checks"] for row in table["worlds"]}
    return [_rates(check, rows) for check in registered()]


def _rates(check: Check, rows: Mapping[str, Mapping[str, Mapping[str, float]]]) -> CheckRates:
    def mean(worlds: Sequence[str], outcomes: Sequence[Outcome]) -> float | None:
        found = [rows[world].get(check.name, {}) for world in worlds if world in rows]
        return sum(sum(row.get(o.value, 0.0) for o in outcomes) for row in found) / len(found) if found else None

    alarm = mean(check.must_pass, (Outcome.FAIL, Outcome.ERROR))
    silent = mean(check.must_pass, (Outcome.WARN, Outcome.INCONCLUSIVE, Outcome.NOT_RUN))
    missed = mean(check.must_fail, [outcome for outcome in Outcome if outcome not in CAUGHT])
    return CheckRates(check.name, alarm, silent, missed)


# the naive protocol ----------------------------------------------------------------------------------------------


def naive_positive(evidence: Evidence) -> bool:
    """What most comparisons do: two unpaired samples, two-sided p < 0.05, the sign as claimed, nothing else looked at.

    Welch's t-test for means; for ratios of counts and AUCs a z-test with the delta method's and Hanley and McNeil's
    (1982) standard errors.
    """
    metric = evidence.metric
    control, treated = (_moments(metric, arm) for arm in evidence.pair)
    difference = treated[0] - control[0]
    variance = control[1] + treated[1]
    if not variance > 0 or not math.isfinite(difference) or difference * evidence.claim.sign <= 0:
        return False
    z = abs(difference) / variance**0.5
    if metric.kind != "mean":
        return bool(2 * ndtr(-z) < NAIVE_ALPHA)
    df = variance**2 / sum(part[1] ** 2 / (part[2] - 1) for part in (control, treated))
    return bool(2 * stdtr(df, -z) < NAIVE_ALPHA)


def _moments(metric: Metric, arm: Arm) -> tuple[float, float, int]:
    """(value, squared standard error, n) of one arm, every answer taken as independent; NaN where undefined."""
    undefined = (math.nan, math.nan, 0)
    if metric.kind == "mean":
        x = arm.values(metric)
        x = x[~np.isnan(x)]
        return (float(x.mean()), float(x.var(ddof=1)) / len(x), len(x)) if len(x) > 1 else undefined
    if metric.kind == "auc":
        scores, labels = arm.numbers(metric.axes[0]), arm.numbers("correct")
        keep = ~np.isnan(scores) & ~np.isnan(labels)
        right = labels[keep] == 1
        area = stats.auc(scores[keep], right)
        return (
            undefined
            if area is None
            else (area, _auc_variance(area, int(right.sum()), int((~right).sum())), len(right))
        )
    cells = arm.cells().sum(axis=0)
    return _ratio(metric, cells)


def _auc_variance(a: float, n_pos: int, n_neg: int) -> float:
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    return (a * (1 - a) + (n_pos - 1) * (q1 - a * a) + (n_neg - 1) * (q2 - a * a)) / (n_pos * n_neg)


def _ratio(metric: Metric, cells: Floats) -> tuple[float, float, int]:
    assert metric.statistic is not None
    step = 1e-4 * max(float(cells.sum()), 1.0)
    moves = step * np.eye(4)
    # central differences; a ratio of counts does not change with their scale, so the mean gradient is zero
    gradient = (metric.statistic(cells + moves) - metric.statistic(np.maximum(cells - moves, 0.0))) / (2 * step)
    return float(metric.statistic(cells)), float((cells * gradient**2).sum()), int(cells.sum())
