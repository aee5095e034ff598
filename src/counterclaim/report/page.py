"""What every rendering is made from, and the order in which it is read."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from counterclaim.audit.effect import Effect
from counterclaim.records import CheckResult, Claim, Estimate, Json, Outcome, Verdict
from counterclaim.report.words import cleaned

WORDS: Mapping[str, Any] = tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))
"""Fixed words of the pages: glyphs, tally, meaning, groups, provenance, endings, status, rates, glossary."""

_READING = (Outcome.ERROR, Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.WARN, Outcome.PASS, Outcome.NOT_RUN)

ITEM_OUTCOMES = ("lost", "gained", "lower", "higher", "both wrong", "both right", "equal", "unscored")
"""Outcomes of a paired item, in the order of the filter."""


@dataclass(frozen=True, slots=True)
class Side:
    """One arm's answer to a paired prompt, as it is read; ``value`` is what is compared, None where unscored."""

    text: str | None
    value: float | None
    labels: Mapping[str, float | str]
    finish: str
    provenance: str | None
    n_tokens: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class PairedItem:
    """A prompt with both answers; ``delta`` is treated minus control, None where one of them is unscored."""

    prompt_id: str
    prompt: str
    outcome: str
    control: Side
    treated: Side
    delta: float | None

    @property
    def sides(self) -> tuple[tuple[str, Side], ...]:
        """(arm, answer) of both arms."""
        return (("control", self.control), ("treated", self.treated))

    @property
    def is_cut(self) -> bool:
        """Whether the budget cut one of the answers."""
        return "length" in (self.control.finish, self.treated.finish)


@dataclass(frozen=True, slots=True)
class GuardEffect:
    """What became of a metric that must not get worse by more than ``allowed``."""

    metric: str
    difference: Estimate
    allowed: float


@dataclass(frozen=True, slots=True)
class Source:
    """Where an arm's answers came from."""

    arm: str
    path: str
    format: str = ""
    rows: int | None = None
    sha256: str = ""


@dataclass(frozen=True)
class Page:
    """Everything that a rendering shows. No text on it has an unseen character: each is spelt out when a page is made.

    Attributes:
        claim: what is claimed.
        verdict: on the claim.
        status: confirmatory or exploratory.
        effect: the target metric in both arms; None where none could be computed.
        guards: what must not be lost.
        checks: what every check found.
        items: paired items; they may be a part of ``n_items_total``.
        n_items_total: how many paired items the run holds.
        sources: files, or models, that the answers came from.
        pairing: counts of prompts: paired, only_control, only_treated.
        arms: an arm's name and what was done in it, where a study of one's own was run.
        notes: what was noticed while results were read.
        questions: check name to the question that it asks.
        training: one JSON object for every trained adapter, with its stages and their logs, as ``extras.json`` holds it.
        edits: likewise for every fit of an operator without training.
        probing: likewise, what the five steps found of a probe.
        version: of the package that made the records.
        study_hash: what identifies the study.
    """

    claim: Claim
    verdict: Verdict
    status: str = ""
    effect: Effect | None = None
    guards: tuple[GuardEffect, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    items: tuple[PairedItem, ...] = ()
    n_items_total: int = 0
    sources: tuple[Source, ...] = ()
    pairing: Mapping[str, int] = field(default_factory=dict)
    arms: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    questions: Mapping[str, str] = field(default_factory=dict)
    training: Json = None
    edits: Json = None
    probing: Json = None
    version: str = ""
    study_hash: str = ""

    def __post_init__(self) -> None:
        for item in fields(self):
            object.__setattr__(self, item.name, cleaned(getattr(self, item.name)))

    @property
    def title(self) -> str:
        """What is compared, in a few words."""
        return f"{self.claim.metric}: treated against control"

    @property
    def claim_line(self) -> str:
        """The claim as one sentence."""
        verb = {1: "raises", -1: "lowers"}[self.claim.sign]
        small = f"a change below {self.claim.margin:g} does not matter"
        return f"the treated arm {verb} {self.claim.metric} over the control arm; {small}"

    @property
    def meaning(self) -> str:
        """What the verdict's word means; "" where ``because`` says so already."""
        means = meaning(self.verdict.outcome)
        return "" if means.rpartition(", ")[2] in self.verdict.because else means


def meaning(word: str) -> str:
    """What a verdict's word means, in one sentence; "" for any other word."""
    return str(WORDS["meaning"].get(word, ""))


def glyph_of(word: str) -> str:
    """The mark of a verdict or an outcome."""
    return str(WORDS["glyphs"].get(word, "?"))


def glossary_of(sentences: Iterable[str]) -> list[tuple[str, str]]:
    """Terms of this field that sentences use, each with one plain line."""
    text = " ".join(sentences)
    return [(row["term"], row["means"]) for row in WORDS["glossary"] if re.search(row["found"], text, re.IGNORECASE)]


def in_reading_order(checks: Iterable[CheckResult]) -> list[CheckResult]:
    """Checks by group, what went wrong first, required before optional, then as given (the sort is stable)."""
    groups = list(WORDS["groups"])

    def place(check: CheckResult) -> tuple[int, int, bool]:
        group = groups.index(check.group) if check.group in groups else len(groups)
        return group, _READING.index(check.outcome), not check.required

    return sorted(checks, key=place)
