"""What every rendering is made from, and the order in which it is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from counterclaim.records import Json, Outcome, VerdictOutcome
from counterclaim.report.words import cleaned

GROUPS: Mapping[str, str] = {
    "ruler": "Is the measurement straight?",
    "effect": "Did it move?",
    "cost": "What did it break?",
    "transfer": "Does it hold elsewhere?",
}
"""Groups of checks in reading order, with the question that each answers."""

_READING = (
    Outcome.ERROR,
    Outcome.FAIL,
    Outcome.INCONCLUSIVE,
    Outcome.WARN,
    Outcome.PASS,
    Outcome.NOT_RUN,
)

ITEM_OUTCOMES = ("lost", "gained", "lower", "higher", "both wrong", "both right", "equal", "unscored")
"""Outcomes of a paired item, in the order of the filter."""

_MEANING: Mapping[str, str] = {
    VerdictOutcome.SUPPORTED: "The effect is there, and no check that could have killed the claim did.",
    VerdictOutcome.REFUTED: "There is positive evidence against the claim.",
    VerdictOutcome.INCONCLUSIVE: "The evidence neither carries the claim nor refutes it.",
    VerdictOutcome.INVALID: "The measurement cannot be trusted, so nothing is said about the effect.",
}
"""What each verdict says, in one line."""


def meaning(word: str, because: str) -> str:
    """What a verdict's word means, in one sentence; "" where ``because`` begins by saying so."""
    told = _MEANING.get(word, "")
    return "" if because.startswith(told[:15]) else told


@dataclass(frozen=True)
class Page:
    """Everything that a rendering shows; plain JSON throughout.

    Attributes:
        verdict: the contract's ``verdict.json``; its ``effect`` may also hold ``p_range``, ``direction``, ``alpha``.
        checks: check records (``CheckResult.to_record()``): the contract's C with its ``figure``.
        items: paired items ``{"prompt_id", "prompt", "outcome", "control", "treated", "delta"}`` with sides ``{"text",
            "value", "labels", "finish", "provenance", "n_tokens", "chars", "error"}``.
        n_items_total: how many paired items the run holds; ``items`` may be a part of them.
        meta: ``title``, ``claim``, ``sources`` (arm, path, format, rows, sha256), ``pairing`` (paired, only_control,
            only_treated), ``version``, ``study_hash``, ``notes``; optionally ``questions`` (check name to the question
            that it asks), ``arms`` (pairs of an arm's name and what was done in it) and ``training`` (one object for
            every trained adapter, with its stages and their logs).
    """

    verdict: dict[str, Any]
    checks: list[dict[str, Any]]
    items: list[dict[str, Any]]
    n_items_total: int
    meta: dict[str, Any]


def clean_page(page: Page) -> Page:
    """The page with no unseen character and no infinite number anywhere: what every rendering starts from."""
    return Page(
        verdict=cleaned(page.verdict),
        checks=cleaned(page.checks),
        items=cleaned(page.items),
        n_items_total=page.n_items_total,
        meta=cleaned(page.meta),
    )


def in_reading_order(checks: Iterable[Mapping[str, Json]]) -> list[Mapping[str, Json]]:
    """Checks by group, what went wrong first, required before optional, then as given (the sort is stable)."""
    groups, outcomes = list(GROUPS), [str(outcome) for outcome in _READING]

    def place(check: Mapping[str, Json]) -> tuple[int, int, bool]:
        group, outcome = check.get("group"), check.get("outcome")
        return (
            groups.index(group) if group in groups else len(groups),
            outcomes.index(outcome) if outcome in outcomes else len(outcomes),
            not check.get("required"),
        )

    return sorted(checks, key=place)


def question(page: Page, check: Mapping[str, Json]) -> str:
    """The question a check asks, where the run says it; else ""."""
    questions = page.meta.get("questions")
    asked = questions.get(check.get("check")) if isinstance(questions, Mapping) else None
    return asked if isinstance(asked, str) else ""


def direction_sign(page: Page) -> int | None:
    """+1 for a claimed increase, -1 for a claimed decrease, None where the page does not say."""
    for holder in (page.verdict.get("effect"), page.meta.get("claim")):
        stated = holder.get("direction") if isinstance(holder, Mapping) else None
        if stated in ("increase", 1):
            return 1
        if stated in ("decrease", -1):
            return -1
    return None


def claim_line(page: Page) -> str:
    """The claim as one sentence, as far as the page states it; "" where it states no metric."""
    effect = page.verdict.get("effect")
    claim = page.meta.get("claim")
    known = {**(claim if isinstance(claim, Mapping) else {}), **(effect if isinstance(effect, Mapping) else {})}
    metric, margin, sign = known.get("metric"), known.get("margin"), direction_sign(page)
    if not metric:
        return ""
    verb = {1: "raises", -1: "lowers", None: "changes"}[sign]
    by = f"; a change below {margin:g} does not matter" if isinstance(margin, int | float) else ""
    return f"the treated arm {verb} {metric} over the control arm{by}"
