"""The claim file: what is claimed, in TOML, read into a Claim; every error names the key and the line."""

from __future__ import annotations

import json
import re
import tomllib
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterclaim.config.written import Written
from counterclaim.errors import InputError, RecordError
from counterclaim.records import Claim, Guard, Quote

if TYPE_CHECKING:
    from pydantic import BaseModel

TEMPLATE = """\
# What is claimed, written down before the test is looked at.
# Freeze it with:  counterclaim claim --freeze {name}
# Then test it:    counterclaim audit --claim {name} --control BASE --treated NEW --out run/

[target]
metric = {metric}          # accuracy, coverage, assertion_asymmetry, hallucination_rate, score.NAME, auc(NAME), ...
direction = "{direction}"    # increase or decrease: treated minus control
margin = {margin}            # the smallest change that matters, in the metric's own unit (fractions, not percent)

# What must not be lost, and how much of it may be. One table for each guard.
{guards}
[test]
alpha = {alpha}              # a supported claim needs p <= alpha (two-sided)
level = {level}              # of the intervals that are reported
# seeds = [1, 2, 3]          # training seeds that the claim is made over
# required_checks = ["seeds", "contamination", "judge-cards"]   # without these the claim cannot stand
# looked_at = 1              # how many metrics, doses, layers or thresholds were tried before this one was picked
# thresholds_chosen_on = "train"     # train, dev, test or fresh; leave out where there is no threshold
# varies = ["system_prompt"]         # decode settings that are the treatment itself
# same_construct = [["correct", "factual"]]   # labels that claim to measure one thing

# Which model family filled which role. One family in two roles is reported.
# [roles]
# teacher = "..."
# prompt_writer = "..."
# checklist_author = "..."
# judge = "..."
# student = "..."

# Numbers that you quote elsewhere; they are recomputed from the records.
# [[quotes]]
# arm = "treated"
# metric = {metric}
# value = 0.379
# n = 100
"""


def template(claim: Claim, name: str) -> str:
    """A commented claim file that says what ``claim`` says."""
    guards = (
        "".join(
            f'[[guards]]\nmetric = {json.dumps(g.metric)}\nallowed_loss = {g.allowed}\nbetter = "{g.better}"\n\n'
            for g in claim.guards
        )
        or '# [[guards]]\n# metric = "accuracy"\n# allowed_loss = 0.02\n# better = "higher"\n\n'
    )
    return TEMPLATE.format(
        name=name, metric=json.dumps(claim.metric), direction=claim.direction, margin=claim.margin, guards=guards,
        alpha=claim.alpha, level=claim.level,
    )  # fmt: skip


def load_claim(path: Path) -> Claim:
    """Read a claim file.

    Raises:
        InputError: the file is missing, is not TOML, or a key is unknown, missing or malformed (names key and line).
    """
    data, text = read_toml(path, "claim file", "write one with counterclaim claim")
    tables: Any = validated(claim_schema(), data, text, path, "see the file that counterclaim claim writes")
    return to_claim(tables, path)


def read_toml(path: Path, what: str, where_from: str) -> tuple[dict[str, Any], str]:
    """A TOML file, whose floating-point numbers are ``Written``, and its text.

    Raises:
        InputError: it is missing, or is not TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"there is no such {what}", path=path, remedy=where_from) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the {what} cannot be read ({error})", path=path, remedy="save it as UTF-8 text") from error
    try:
        return tomllib.loads(text, parse_float=Written), text
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"not valid TOML: {error}", path=path, remedy="mend that line") from error


def validated(schema: type[BaseModel], data: dict[str, Any], text: str, path: Path, keys_are_in: str) -> BaseModel:
    """The tables of a file, held to a schema.

    Raises:
        InputError: a key is unknown, missing or malformed (names key and line).
    """
    from pydantic import ValidationError

    try:
        return schema.model_validate(data)
    except ValidationError as error:
        # a key that does not exist is most often the misspelt form of one that is missing
        first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
        loc = tuple(first["loc"])
        key = ".".join(str(part) for part in loc)
        said = f"{first['msg'][0].lower()}{first['msg'][1:]}".removeprefix("value error, ")
        problem, remedy = {
            "extra_forbidden": ("there is no such key", f"{_meant(schema, loc)}{keys_are_in}"),
            "missing": ("is missing", "add that key"),
        }.get(first["type"], (said, "mend that key"))
        where = f"{key}: {problem}" if key else problem
        raise InputError(where, path=path, line=line_of(loc, text), remedy=remedy) from error


def _meant(schema: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """The key that an unknown one looks like, as the beginning of a remedy; "" where it looks like none."""
    said = schema.model_json_schema()
    tables = [said, *said.get("$defs", {}).values()]
    keys = {name for table in tables for name in table.get("properties", {})} - {loc[-1]}
    near = get_close_matches(str(loc[-1]), sorted(keys), 1, cutoff=0.65)
    return f"{near[0]} may be meant; " if near else ""


def to_claim(tables: Any, path: Path) -> Claim:
    """The claim that the tables of a claim file or a study file state.

    Raises:
        InputError: they state something that no claim can say.
    """
    try:
        return Claim(
            metric=tables.target.metric,
            direction=tables.target.direction,
            margin=tables.target.margin,
            guards=tuple(Guard(g.metric, g.allowed_loss, g.better) for g in tables.guards),
            required=tuple(tables.test.required_checks),
            alpha=tables.test.alpha,
            level=tables.test.level,
            seeds=tuple(tables.test.seeds),
            quotes=tuple(Quote(q.arm, q.metric, q.value, q.n) for q in tables.quotes),
            same_construct=tuple(tuple(group) for group in tables.test.same_construct),
            looked_at=tables.test.looked_at,
            thresholds_chosen_on=tables.test.thresholds_chosen_on,
            varies=tuple(tables.test.varies),
            roles=dict(tables.roles),
        )
    except RecordError as error:
        raise InputError(str(error), path=path, remedy="mend that key") from error


@cache
def claim_schema() -> type[BaseModel]:
    """The schema of a claim file. Built on call, because importing pydantic costs more than most commands need."""
    from typing import Literal

    from pydantic import BaseModel, ConfigDict, Field

    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    class Target(Strict):
        metric: str = Field(min_length=1)
        direction: Literal["increase", "decrease"]
        margin: float = Field(gt=0)

    class GuardTable(Strict):
        metric: str
        allowed_loss: float = Field(ge=0)
        better: Literal["higher", "lower"] = "higher"

    class Test(Strict):
        alpha: float = Field(default=0.01, gt=0, lt=1)
        level: float = Field(default=0.95, gt=0, lt=1)
        seeds: list[int] = Field(default_factory=list)
        required_checks: list[str] = Field(default_factory=list)
        looked_at: int | None = Field(default=None, ge=1)
        thresholds_chosen_on: Literal["train", "dev", "test", "fresh"] | None = None
        varies: list[str] = Field(default_factory=list)
        same_construct: list[list[str]] = Field(default_factory=list)

    class QuoteTable(Strict):
        arm: str
        metric: str
        value: float
        n: int | None = Field(default=None, ge=1)

    class File(Strict):
        target: Target
        guards: list[GuardTable] = Field(default_factory=list)
        test: Test = Test()
        roles: dict[str, str] = Field(default_factory=dict)
        quotes: list[QuoteTable] = Field(default_factory=list)

    return File


_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?")
_PART = re.compile(r"\"[^\"]*\"|'[^']*'|[^.]+")
_KEY = re.compile(r"\s*([A-Za-z0-9_\-\"']+)\s*=")


def line_of(loc: tuple[int | str, ...], text: str) -> int | None:
    """The 1-based line of a key such as ("guards", 0, "allowed_loss"), or of the nearest table around it."""
    table: tuple[int | str, ...] = ()
    counts: dict[str, int] = {}
    best: tuple[int, int | None] = (0, None)
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#"):
            continue
        if header := _HEADER.match(line):
            name = header[2]
            table = tuple(part.strip().strip("\"'") for part in _PART.findall(name))
            if header[1] == "[[":
                table = (*table, counts.get(name, 0))
                counts[name] = counts.get(name, 0) + 1
            here: tuple[int | str, ...] = table
        elif key := _KEY.match(line):
            here = (*table, key[1].strip("\"'"))
        else:
            continue
        depth = next((i for i, (a, b) in enumerate(zip(here, loc, strict=False)) if a != b), min(len(here), len(loc)))
        if depth == len(here) and depth > best[0]:
            best = (depth, number)
    return best[1]


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
