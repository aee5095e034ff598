"""Checklist coverage: which of the required claims an answer makes, one YES/NO call of the judge per claim."""

from __future__ import annotations

import json

from counterclaim.lab.scorers.asking import Choice, Form, ask
from counterclaim.lab.scorers.judged import shown
from counterclaim.lab.scorers.reading import EMPTY, card, missing, readable, unscored
from counterclaim.records import Json
from counterclaim.registry import Card, Item, Range, Reading, Tools, scorer

CORRECT_FROM = 0.5
"""Coverage from which an answer counts as correct; the evidence names a tie, which counts as correct."""

_AXES = ("coverage", "correct")
_FORM = Form(
    "checklist",
    "Decide whether the response makes the claim.\n"
    '"YES": it says this, in these or in other words.\n'
    '"NO": it does not say it, says only a part of it, or says the opposite.\n'
    "Judge what the response says, not whether the claim is true.",
    (Choice("present", ("YES", "NO")),),
)


def _bread(response: str, coverage: float, kind: str = "label") -> Card:
    claims = [
        "Keep the loaf in a paper bag.",
        "Do not store bread in the fridge.",
        "Freeze slices for longer storage.",
        "Slice bread only when you need it.",
    ]
    expects = {"coverage": coverage, "correct": float(coverage >= CORRECT_FROM)}
    return card("How do I keep a loaf of bread fresh?", response, expects, gold={"checklist": claims}, kind=kind)


_CARDS = (
    _bread(
        "Keep the loaf in a paper bag. Do not store bread in the fridge, where it turns stale. Freeze slices for longer "
        "storage. Slice bread only when you need it.",
        1.0,
    ),
    _bread("Keep the loaf in a paper bag. Slice bread only when you need it, so that the crumb stays moist.", 0.5),
    _bread("Keep the loaf in a paper bag, on a shelf away from the stove.", 0.25),
    _bread("A knife with teeth makes clean cuts, and a wooden board is kind to its edge.", 0.0),
    _bread("Always store bread in the fridge. Do not freeze slices for longer storage.", 0.0, "opposite"),
    _bread(
        "A bag made of paper is where you should keep the loaf. For storage over a longer time, put slices in the "
        "freezer and freeze them. The fridge is not a place to store bread. Slice only as much bread as you need.",
        1.0,
        "paraphrase",
    ),
)


@scorer(
    "checklist",
    version="1",
    about="the share of the required claims that an answer makes, one judge call per claim, and correct from 0.5",
    axes={"coverage": Range(), "correct": Range()},
    cards=_CARDS,
    needs=("judge", "checklist"),
    disposition="Persistent",
    prompt=_FORM.template,
)
def checklist(item: Item, tools: Tools) -> list[Reading]:
    """``coverage`` and ``correct``; an empty answer makes no claim, and one unreadable reply leaves both unscored."""
    if why := missing(item.response):
        return unscored(_AXES, why)
    claims = item.prompt.gold.get("checklist")
    if not isinstance(claims, list | tuple) or not claims:
        return unscored(_AXES, "the prompt has no checklist")
    if readable(item.response) is not None:
        return [Reading("coverage", 0.0, evidence=EMPTY), Reading("correct", 0.0, evidence=EMPTY)]
    kept: list[Json] = []
    found = 0
    material = shown(item.prompt, item.response)
    for number, claim in enumerate(claims, 1):
        reply = ask(tools.judge, _FORM, {**material, "claim": str(claim)})
        kept.append({"claim": claim, "replies": list(reply.raw)})
        if reply.values is None:
            return unscored(_AXES, f"claim {number}: {reply.reason}", _evidence(kept))
        found += reply.values["present"] == "YES"
    coverage = found / len(claims)
    note = f"a tie: {found} of {len(claims)} counts as correct" if coverage == CORRECT_FROM else None
    return [
        Reading("coverage", coverage, evidence=_evidence(kept)),
        Reading("correct", float(coverage >= CORRECT_FROM), evidence=note),
    ]


def _evidence(kept: list[Json]) -> str:
    return json.dumps({"claims": kept}, ensure_ascii=False)
