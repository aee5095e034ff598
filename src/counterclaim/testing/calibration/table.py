"""The table of worlds: what came of each draw, counted, and what the counts promise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from counterclaim import checks, stats
from counterclaim.audit.evidence import Evidence
from counterclaim.lab.suite.naive import PROTOCOLS
from counterclaim.records import Json, Outcome, VerdictOutcome
from counterclaim.registry import Check
from counterclaim.registry import checks as registered
from counterclaim.verdict import decide

CAUGHT = (Outcome.FAIL, Outcome.INCONCLUSIVE)
"""What a check may say in a world that it must catch: too little evidence is caught by saying so."""

LEVEL = 0.95
"""Of the intervals of shares of draws."""


# one draw -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Judged:
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
        """Plain JSON; ``Judged(**json)`` gives it back."""
        return asdict(self)


def judge(evidence: Evidence) -> Judged:
    """Run every check on a study, decide, and ask the naive protocols, too."""
    results = checks.run_all(evidence)
    verdict = decide(evidence.claim, results).outcome.value
    outcomes = {result.check: result.outcome.value for result in results}
    return Judged(verdict, outcomes, {name: protocol(evidence) for name, protocol in PROTOCOLS.items()})


# one world ------------------------------------------------------------------------------------------------------


def row_of(
    name: str,
    judged: Sequence[Judged],
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


def _share(judged: Sequence[Judged], protocol: str) -> float | None:
    said = [one.naive[protocol] for one in judged if one.naive[protocol] is not None]
    return sum(map(bool, said)) / len(said) if said else None


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
        bound: what ``measured`` is held against.
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
    def told(self) -> str:
        """In words: ``kept``, ``kept so far`` where the draws are too few to be sure, or ``BROKEN``."""
        return "BROKEN" if not self.holds else "kept" if self.settled else "kept so far"

    def to_json(self) -> dict[str, Json]:
        """Plain JSON."""
        return {**asdict(self), "interval": list(self.interval), "told": self.told}


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
    hollow = [row for row in rows if row["truth"] in ("no effect", "artefact")]
    honest = [row for row in rows if row["truth"] == "true effect"]
    trained = [row for row in honest if row["trained"]]  # whose effect is as large as it came out; the others' is set
    large = [row for row in honest if not row["trained"]]
    null = [row for row in rows if row["truth"] == "no effect" and row["expected"] == [VerdictOutcome.REFUTED.value]]
    small = [row for row in rows if row["truth"] == "underpowered"]
    found = [
        _held("without an effect, or with an artefact, SUPPORTED is rare", hollow, "SUPPORTED", "at most", 0.01),
        _held("a true effect of twice the margin is SUPPORTED", large, "SUPPORTED", "at least", 0.95),
        _held("a true effect on a trained model is SUPPORTED", trained, "SUPPORTED", "at least", 0.95),
        _held("a true null, measured straight and with prompts enough, is REFUTED", null, "REFUTED", "at least", 0.90),
        _held("too small a study is not REFUTED", small, "REFUTED", "at most", 0.05),
        _held("too small a study is INCONCLUSIVE", small, "INCONCLUSIVE", "at least", 0.90),
    ]
    return [promise for promise in found if promise is not None]


def _held(
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
