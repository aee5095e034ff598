"""The claim file: what is claimed, in TOML, read into a Claim."""

from __future__ import annotations

import json
from dataclasses import field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt, MinLen

from counterclaim.config.tables import read_toml, table, validated
from counterclaim.errors import InputError, RecordError
from counterclaim.records import ArmId, Claim, Guard, Quote, Split


@table
class TargetTable:
    """``[target]``: the metric, and how it is claimed to change.

    Attributes:
        metric: `counterclaim list metrics` names them
        direction: `increase` or `decrease`: treated minus control
        margin: the smallest change that matters, as a fraction
    """

    metric: Annotated[str, MinLen(1)]
    direction: Literal["increase", "decrease"]
    margin: Annotated[float, Gt(0)]


@table
class GuardTable:
    """One of ``[[guards]]``.

    Attributes:
        metric: what must not be lost
        allowed_loss: how much of it may be
        better: `higher` or `lower`
    """

    metric: str
    allowed_loss: Annotated[float, Ge(0)]
    better: Literal["higher", "lower"] = "higher"


@table
class TestTable:
    """``[test]``: how strict the test is, and what is known of how the claim was arrived at.

    Attributes:
        alpha: a supported claim needs p ≤ alpha, two-sided
        level: level of the intervals that are reported
        seeds: training seeds that the claim is made over
        required_checks: checks without which the claim cannot stand
        looked_at: how many metrics, doses or thresholds were tried before this one was picked
        thresholds_chosen_on: `train`, `dev`, `test` or `fresh`
        varies: settings that are the treatment, besides those in which the arms differ
        same_construct: groups of labels that claim to measure one thing
    """

    alpha: Annotated[float, Gt(0), Lt(1)] = 0.01
    level: Annotated[float, Gt(0), Lt(1)] = 0.95
    seeds: tuple[int, ...] = ()
    required_checks: tuple[str, ...] = ()
    looked_at: Annotated[int, Ge(1)] | None = None
    thresholds_chosen_on: Split | None = None
    varies: tuple[str, ...] = ()
    same_construct: tuple[tuple[str, ...], ...] = ()


@table
class QuoteTable:
    """One of ``[[quotes]]``: a number that is stated elsewhere, and is recomputed from the records.

    Attributes:
        arm: the arm it belongs to
        metric: its metric
        value: the number
        n: over how many answers
    """

    arm: str
    metric: str
    value: float
    n: Annotated[int, Ge(1)] | None = None


@table
class ClaimFile:
    """A whole claim file.

    Attributes:
        target: what is claimed
        guards: what must not be lost
        test: how strict the test is
        roles: which model family filled which role: `teacher`, `prompt_writer`, `checklist_author`, `judge`, `student`. In a study
            file the last two are taken from the models' names when not set; teachers and what else `counterclaim teach` knows, from
            the pipeline file or the training set's card
        quotes: numbers that are stated elsewhere
    """

    target: TargetTable
    guards: tuple[GuardTable, ...] = ()
    test: TestTable = TestTable()
    roles: dict[str, str] = field(default_factory=dict)
    quotes: tuple[QuoteTable, ...] = ()


def template(claim: Claim, name: str) -> str:
    """A commented claim file that says what ``claim`` says."""
    guards = "".join(
        f'[[guards]]\nmetric = {json.dumps(g.metric)}\nallowed_loss = {g.allowed}\nbetter = "{g.better}"\n\n'
        for g in claim.guards
    )
    none = '# [[guards]]\n# metric = "accuracy"\n# allowed_loss = 0.02\n# better = "higher"\n\n'
    text = Path(__file__).with_name("claim.template.toml").read_text(encoding="utf-8")
    return text.format(
        name=name, metric=json.dumps(claim.metric), direction=claim.direction, margin=claim.margin,
        guards=guards or none, alpha=claim.alpha, level=claim.level,
    )  # fmt: skip


def load_claim(path: Path) -> Claim:
    """Read a claim file.

    Raises:
        InputError: the file is missing, is not TOML, or a key is unknown, missing or malformed (names key and line).
    """
    data, text = read_toml(path, "claim file", "write one with counterclaim claim")
    return to_claim(validated(ClaimFile, data, text, path, "see the file that counterclaim claim writes"), path)


def to_claim(tables: Any, path: Path) -> Claim:
    """The claim that the tables of a ``ClaimFile`` (or of a study file, which has them too) state.

    Raises:
        InputError: they state something that no claim can say.
    """
    target, test = tables.target, tables.test
    try:
        return Claim(
            metric=target.metric,
            direction=target.direction,
            margin=target.margin,
            guards=tuple(Guard(g.metric, g.allowed_loss, g.better) for g in tables.guards),
            required=test.required_checks,
            alpha=test.alpha,
            level=test.level,
            seeds=test.seeds,
            quotes=tuple(Quote(ArmId.parse(q.arm), q.metric, q.value, q.n) for q in tables.quotes),
            same_construct=test.same_construct,
            looked_at=test.looked_at,
            thresholds_chosen_on=test.thresholds_chosen_on,
            varies=test.varies,
            roles=dict(tables.roles),
        )
    except RecordError as error:
        raise InputError(str(error), path=path, remedy="fix that key") from error


def lock_path(path: Path) -> Path:
    """Where the lock of a claim file lies."""
    return path.with_name(path.name + ".lock")


def lock_text(claim: Claim) -> str:
    """A lock: the claim's hash and the time at which it was frozen."""
    return json.dumps({"claim_hash": claim.hash, "frozen_at": datetime.now(UTC).isoformat(timespec="seconds")}) + "\n"


def read_lock(path: Path) -> dict[str, str] | None:
    """The lock beside a claim file, or None where there is none.

    Raises:
        InputError: the lock is damaged.
    """
    lock = lock_path(path)
    if not lock.is_file():
        return None
    try:
        row = json.loads(lock.read_text(encoding="utf-8"))
        if datetime.fromisoformat(row["frozen_at"]).tzinfo is None:
            raise ValueError("a time without a zone")
        return {"claim_hash": str(row["claim_hash"]), "frozen_at": row["frozen_at"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("the lock file is damaged", path=lock, remedy="freeze the claim again") from error
