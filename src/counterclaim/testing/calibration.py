"""How often the verdicts are right: every planted world drawn many times, and every verdict and check counted.

The table is the tool's own known-answer card. Beside each row stand the naive protocols, on the same draws.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from counterclaim import checks, stats
from counterclaim.audit.evidence import Evidence
from counterclaim.errors import InputError
from counterclaim.lab.suite.naive import PROTOCOLS
from counterclaim.lab.workers import each_done
from counterclaim.records import Json, Outcome, VerdictOutcome
from counterclaim.registry import Check, load_plugins
from counterclaim.registry import checks as registered
from counterclaim.testing.worlds import WORLDS
from counterclaim.verdict import decide

CAUGHT = (Outcome.FAIL, Outcome.INCONCLUSIVE)
"""What a check may say in a world that it must catch: too little evidence is caught by saying so."""

LEVEL = 0.95
"""Of the intervals of shares of draws."""


# the table -----------------------------------------------------------------------------------------------------------

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
        The contract's table ``{"draws", "worlds": [...]}`` (``row_of``), with ``check_rates`` and ``promises``
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
    judged: dict[str, list[DrawResult]] = {name: [] for name in names}
    done = 0
    for name, part in each_done(jobs, _draw_some, tasks):
        judged[name] += part
        done += len(part)
        if progress is not None:
            progress(done, draws * len(names))
    rows = [
        row_of(
            name, judged[name], n=WORLDS[name].n if n is None else n, truth=WORLDS[name].truth, story=WORLDS[name].story,
            expected=WORLDS[name].expected,
        )
        for name in names
    ]  # fmt: skip
    table: dict[str, Json] = {"draws": draws, "worlds": rows}
    table["check_rates"] = [rates.to_json() for rates in check_rates(table)]
    table["promises"] = [promise.to_json() for promise in promises(table)]
    return table


def _draw_some(name: str, start: int, stop: int, knobs: Knob) -> tuple[str, list[DrawResult]]:
    n, effect, severity = knobs
    drawn = (WORLDS[name].draw(seed, n=n, effect=effect, severity=severity) for seed in range(start, stop))
    return name, [judge_draw(evidence) for evidence in drawn]


# one draw -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DrawResult:
    """What came of one draw of a world.

    Attributes:
        verdict: what the tool said.
        checks: outcome by check.
        naive: what each of ``naive.PROTOCOLS`` said; None where it has nothing to look at.
    """

    verdict: str
    checks: Mapping[str, str]
    naive: Mapping[str, bool | None]

    def to_json(self) -> dict[str, Json]:
        """Plain JSON; ``DrawResult(**json)`` gives it back."""
        return asdict(self)


def judge_draw(evidence: Evidence) -> DrawResult:
    """Run every check on a study, decide, and ask the naive protocols, too."""
    results = checks.run_all(evidence)
    verdict = decide(evidence.claim, results).outcome.value
    outcomes = {result.check: result.outcome.value for result in results}
    return DrawResult(verdict, outcomes, {name: protocol(evidence) for name, protocol in PROTOCOLS.items()})


# one world ------------------------------------------------------------------------------------------------------


def row_of(
    name: str,
    judged: Sequence[DrawResult],
    *,
    n: int,
    truth: str,
    story: str,
    expected: Collection[VerdictOutcome],
    trained: bool = False,
) -> dict[str, Json]:
    """One row of the table.

    Args:
        name: of the world.
        judged: its draws, at least one.
        n: prompts in each.
        truth: what is true in it.
        story: what happens in it.
        expected: verdicts that do justice to it.
        trained: whether real models answered.

    Returns:
        plain JSON. Shares are fractions of draws, ``intervals`` of verdicts are Wilson's at 95 %. Outcomes that never came
        are left out of ``checks``. A naive protocol's share is over the draws in which it has something to look at, and
        null where it never has.
    """
    draws = len(judged)
    verdicts = Counter(one.verdict for one in judged)
    found: dict[str, dict[str, float]] = {}
    for (check, outcome), count in sorted(Counter(item for one in judged for item in one.checks.items()).items()):
        found.setdefault(check, {})[outcome] = count / draws
    return {
        "world": name,
        "n": n,
        "truth": truth,
        "story": story,
        "trained": trained,
        "expected": sorted(outcome.value for outcome in expected),
        "verdicts": {outcome.value: verdicts[outcome.value] / draws for outcome in VerdictOutcome},
        "intervals": {outcome.value: _interval(verdicts[outcome.value], draws) for outcome in VerdictOutcome},
        "checks": found,
        "naive": {protocol: _share(judged, protocol) for protocol in PROTOCOLS},
    }


def _interval(k: int, draws: int) -> list[float | None]:
    share = stats.wilson(k, draws, LEVEL)
    return [share.low, share.high]


def _share(judged: Sequence[DrawResult], protocol: str) -> float | None:
    known = [one.naive[protocol] for one in judged if one.naive[protocol] is not None]
    return sum(map(bool, known)) / len(known) if known else None


# what the table promises -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise about the table.

    Attributes:
        name: the promise in words.
        holds: whether the worst share is on the right side of the bound.
        settled: whether its whole interval is on the same side of the bound as the share.
        measured: the worst share over the worlds that it is about.
        interval: of that share, Wilson's at 95 %.
        bound: what ``measured`` is compared with.
        worst: the world with the worst share.
        verdict: whose share it is.
        rule: whether the share has to be ``at most`` or ``at least`` the bound.
    """

    name: str
    holds: bool
    settled: bool
    measured: float
    interval: tuple[float, float]
    bound: float
    worst: str
    verdict: str
    rule: Literal["at most", "at least"]

    @property
    def status(self) -> str:
        """In words: ``kept``, ``kept so far`` where the draws are too few to be sure, or ``BROKEN``."""
        return "BROKEN" if not self.holds else "kept" if self.settled else "kept so far"

    def to_json(self) -> dict[str, Json]:
        """Plain JSON."""
        return {**asdict(self), "interval": list(self.interval), "told": self.status}


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
        return asdict(self)


def promises(table: Mapping[str, Json]) -> list[Promise]:
    """Whether a table (of worlds with their own n, effect and severity) keeps what the tool promises.

    Promises about worlds that the table does not hold are left out.
    """
    rows: list[Mapping[str, Json]] = table["worlds"]
    untrue = [row for row in rows if row["truth"] in ("no effect", "artefact")]
    true = [row for row in rows if row["truth"] == "true effect"]
    trained = [row for row in true if row["trained"]]  # whose effect is as large as it came out; the others' is set
    large = [row for row in true if not row["trained"]]
    null = [row for row in rows if row["truth"] == "no effect" and row["expected"] == [VerdictOutcome.REFUTED.value]]
    small = [row for row in rows if row["truth"] == "underpowered"]
    found = [
        _promise("without an effect, or with an artefact, SUPPORTED is rare", untrue, "SUPPORTED", "at most", 0.01),
        _promise("a true effect of twice the margin is SUPPORTED", large, "SUPPORTED", "at least", 0.95),
        _promise("a true effect on a trained model is SUPPORTED", trained, "SUPPORTED", "at least", 0.95),
        _promise(
            "a true null, measured straight and with prompts enough, is REFUTED", null, "REFUTED", "at least", 0.90
        ),
        _promise("too small a study is not REFUTED", small, "REFUTED", "at most", 0.05),
        _promise("too small a study is INCONCLUSIVE", small, "INCONCLUSIVE", "at least", 0.90),
    ]
    return [promise for promise in found if promise is not None]


def _promise(
    name: str, rows: Sequence[Mapping[str, Json]], verdict: str, rule: Literal["at most", "at least"], bound: float
) -> Promise | None:
    if not rows:
        return None
    sign = 1 if rule == "at most" else -1
    worst = max(rows, key=lambda row: sign * row["verdicts"][verdict])
    share, (low, high) = worst["verdicts"][verdict], worst["intervals"][verdict]
    inside = [sign * end <= sign * bound for end in (low, high)]
    return Promise(
        name, sign * share <= sign * bound, inside[0] == inside[1], share, (low, high), bound, worst["world"], verdict, rule
    )  # fmt: skip


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
