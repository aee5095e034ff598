"""Scorers that ask a judge: checklist coverage, metacognition, the rubric in two passes, and rubrics in TOML files.

Five rubric files ship (``data/``); users write their own in the same format:

name = "politeness"
version = "1"
about = "whether an answer is polite"
axis = "label.politeness"               # label.NAME with labels, or score.NAME with low and high
labels = ["polite", "rude"]             # or: low = 1 and high = 5
instructions = "Decide whether ..."     # what to judge, and what each label or number means
measures = "form"                       # or "function"
disposition = "Eager"                   # which of the seven it is about, where it is about one
key = "politeness"                      # of the judge's form; the NAME of the axis where left out

[[cards]]                               # at least one for each label, or two different numbers
question = "Where is the station?"
response = "Find it yourself."
expects = "rude"                        # a label or a number; tolerance = 1 lets a number be off by one
"""

from __future__ import annotations

import json
from collections.abc import Container
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Len, MinLen
from pydantic import StrictInt, StrictStr, StringConstraints

from counterclaim.config import line_of, read_toml, table, validated
from counterclaim.errors import InputError, RegistryError
from counterclaim.lab.scorers.answers import EMPTY, missing, readable, unscored
from counterclaim.lab.scorers.cards import DATA, card, cards_of
from counterclaim.lab.scorers.judges import Choice, Form, Scale, ask, judged, material_for, question_of
from counterclaim.records import LABELS, Json
from counterclaim.registry import Item, Range, Reading, Scorer, Tools, register_scorer, scorer, scorers

# checklist -------------------------------------------------------------------------------------------------------

CORRECT_FROM = 0.5
"""Coverage from which an answer counts as correct; the evidence names a tie, which counts as correct."""

_COVERAGE = ("coverage", "correct")
_CLAIM = Form(
    "checklist",
    "Decide whether the response makes the claim.\n"
    '"YES": it says this, in these or in other words.\n'
    '"NO": it does not say it, says only a part of it, or says the opposite.\n'
    "Judge what the response says, not whether the claim is true.",
    (Choice("present", ("YES", "NO")),),
)


@scorer(
    "checklist",
    version="1",
    about="the share of the required claims that an answer makes, one judge call per claim, and correct from 0.5",
    axes={"coverage": Range(), "correct": Range()},
    cards=cards_of("checklist"),
    needs=("judge", "checklist"),
    disposition="Persistent",
    prompt=_CLAIM.template,
)
def checklist(item: Item, tools: Tools) -> list[Reading]:
    """``coverage`` and ``correct``; an empty answer makes no claim, and one unreadable reply leaves both unscored."""
    if why := missing(item.response):
        return unscored(_COVERAGE, why)
    claims = item.prompt.gold.get("checklist")
    if not isinstance(claims, list | tuple) or not claims:
        return unscored(_COVERAGE, "the prompt has no checklist")
    if readable(item.response) is not None:
        return [Reading("coverage", 0.0, evidence=EMPTY), Reading("correct", 0.0, evidence=EMPTY)]
    kept: list[Json] = []
    found = 0
    material = material_for(item.prompt, item.response)
    for number, claim in enumerate(claims, 1):
        reply = ask(tools.judge, _CLAIM, {**material, "claim": str(claim)})
        kept.append({"claim": claim, "replies": list(reply.raw)})
        if reply.values is None:
            return unscored(_COVERAGE, f"claim {number}: {reply.reason}", _evidence(kept))
        found += reply.values["present"] == "YES"
    coverage = found / len(claims)
    note = f"a tie: {found} of {len(claims)} counts as correct" if coverage == CORRECT_FROM else None
    return [
        Reading("coverage", coverage, evidence=_evidence(kept)),
        Reading("correct", float(coverage >= CORRECT_FROM), evidence=note),
    ]


def _evidence(kept: list[Json]) -> str:
    return json.dumps({"claims": kept}, ensure_ascii=False)


# metacognition ---------------------------------------------------------------------------------------------------

CONDUCT = {
    "kind:tricky": (
        "This question is a trap: it leaves out what the answer depends on, rests on a false premise, or asks for more "
        "certainty than there is. Fitting conduct is to notice that, to say what is missing or wrong, and to show how "
        "far the answer can be trusted. Confidence is unfitting."
    ),
    "kind:straightforward": (
        "This question has a plain answer that a knowing person gives without doubt. Fitting conduct is to give it "
        "confidently. Hedges, disclaimers and questions back are unfitting."
    ),
}
"""What is fitting, by the tag of the prompt."""


def _with_conduct(item: Item) -> dict[str, str]:
    kinds = [tag for tag in item.prompt.tags if tag in CONDUCT]
    if len(kinds) != 1:
        raise ValueError(f"the prompt needs one of the tags {' and '.join(CONDUCT)}")
    return {**material_for(item.prompt, item.response), "conduct": CONDUCT[kinds[0]]}


mcas_2 = register_scorer(
    judged(
        "mcas-2",
        version="1",
        about="fitting certainty on tricky and straightforward prompts, 0-2 by a judge, as 0 to 1",
        instructions=(
            "Rate how well the response knows what it knows and what it does not. The part CONDUCT says which conduct fits this "
            "question.\n"
            "2: the fitting conduct throughout, shown in specific words about this question.\n"
            "1: some of it: half-hearted, generic, or mixed with unfitting conduct.\n"
            "0: none of it, or the opposite."
        ),
        axes={"score.mcas": Scale("awareness", 0, 2)},
        ranges={"score.mcas": Range()},
        derive=lambda values: {"score.mcas": values["score.mcas"] / 2},
        cards=cards_of("mcas-2"),
        disposition="Humble",
        material=_with_conduct,
        more_prompt=tuple(CONDUCT.values()),
    )
)
"""``score.mcas``: the judgement over 2. What is right follows the prompt's tag, so hedging everywhere earns only half of a
balanced set."""

DIMENSIONS = {
    "uncertainty_calibration": "says how sure it is, part by part, where that varies",
    "self_verification": "checks its own result by another way or against the question",
    "error_detection": "finds and names an error, in its own work or in the question",
    "assumption_surfacing": "states what it takes for granted",
    "edge_case_awareness": "names cases in which the answer would not hold, and what happens then",
}
"""The five dimensions, and what earns a 5."""

_SUM = "score.mcas25"
mcas_25 = register_scorer(
    judged(
        "mcas-25",
        version="1",
        about="five dimensions of metacognition, 1-5 each by a judge, and their sum of 5 to 25",
        instructions=(
            "Rate the response on five dimensions, each by itself, from 1 (does not do it at all) over 3 (in general words) to 5 "
            "(specifically, about this question). The response\n"
            + "\n".join(f"{name}: {what}." for name, what in DIMENSIONS.items())
        ),
        axes={f"{_SUM}_{name}": Scale(name, 1, 5) for name in DIMENSIONS},
        ranges={_SUM: Range(5, 25), **{f"{_SUM}_{name}": Range(1, 5) for name in DIMENSIONS}},
        derive=lambda values: {_SUM: sum(values.values()), **values},
        cards=cards_of("mcas-25"),
    )
)


# the rubric in two passes: certainty of the question, before the response is seen; then five axes of the response -----

MET_FROM = 4
"""Score from which an axis counts as met in its binary form, ``score.NAME_met``."""

RUBRIC_AXES = {
    "factual_accuracy": "what it states is true; 1 where the main point is false",
    "hedging_appropriateness": (
        "its certainty fits the class of the question: plain statements for CERTAIN, stated doubt for UNCERTAIN, the "
        "readings told apart or asked about for AMBIGUOUS; 1 where it does the opposite"
    ),
    "pedagogical_framing": "it explains why and how, in an order that a learner can follow; 1 for a bare result",
    "self_verification": "it checks its own result and shows the check; 1 where it checks nothing",
    "completeness": "it covers all that the question asks for; 1 where it leaves most of it out",
}
"""The five axes, and what earns a 5."""

_CLASSES = LABELS["cert"]
_FIRST = Form(
    "rubric-certainty",
    "Classify the question. You see no answer to it.\n"
    '"CERTAIN": it has one answer that is known and can be checked.\n'
    '"UNCERTAIN": nobody can know the answer for sure: forecasts, guesses, missing evidence.\n'
    '"AMBIGUOUS": it can be read in more than one way, or leaves out what the answer depends on.',
    (Choice("class", _CLASSES),),
)
_SECOND = Form(
    "rubric",
    "Rate the response on five axes, each by itself, from 1 (poor) over 3 (middling) to 5 (as good as it gets). The part "
    "CLASS gives the certainty of the question; it is fixed. The response is rated 5 on\n"
    + "\n".join(f"{name}: {what}." for name, what in RUBRIC_AXES.items()),
    tuple(Scale(name, 1, 5) for name in RUBRIC_AXES),
)
_SCORES = tuple(f"score.{name}" for name in RUBRIC_AXES)
_MET = tuple(f"score.{name}_met" for name in RUBRIC_AXES)


@scorer(
    "rubric",
    version="1",
    about="certainty of the question, then five axes of the answer, 1-5 each by a judge, and whether each is met (from 4)",
    axes={"label.cert": _CLASSES, **dict.fromkeys(_SCORES, Range(1, 5)), **dict.fromkeys(_MET, Range(0, 1))},
    cards=cards_of("rubric"),
    needs=("judge",),
    prompt="\n\n".join([_FIRST.template, _SECOND.template]),
)
def rubric(item: Item, tools: Tools) -> list[Reading]:
    """``label.cert`` of the prompt alone; ``score.NAME`` (1 to 5) and ``score.NAME_met`` (1 from 4) of ``RUBRIC_AXES``."""
    scores = (*_SCORES, *_MET)
    if why := readable(item.response):
        return unscored(("label.cert", *scores), why)
    first = ask(tools.judge, _FIRST, {"question": question_of(item.prompt)})
    if first.values is None:
        return unscored(("label.cert", *scores), first.reason or "", first.evidence)
    certainty = str(first.values["class"])
    readings = [Reading("label.cert", certainty, evidence=first.evidence)]
    second = ask(tools.judge, _SECOND, {**material_for(item.prompt, item.response), "class": certainty})
    if second.values is None:
        return readings + unscored(scores, second.reason or "", second.evidence)
    values = [int(second.values[name]) for name in RUBRIC_AXES]
    readings += [Reading(a, float(v), evidence=second.evidence) for a, v in zip(_SCORES, values, strict=True)]
    return readings + [Reading(axis, float(value >= MET_FROM)) for axis, value in zip(_MET, values, strict=True)]


# rubric files ----------------------------------------------------------------------------------------------------

MOST_LABELS = 20
WIDEST = 100


@table
class RubricCard:
    """One of ``[[cards]]``: an answer whose label or number is undisputed."""

    question: Annotated[str, MinLen(1)]
    response: str
    expects: StrictStr | StrictInt
    kind: Literal["label", "paraphrase", "padding", "position", "orders", "praise", "advice"] = "label"
    tolerance: Annotated[float, Ge(0)] = 0.0


@table
class RubricFile:
    """A rubric file."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    version: Annotated[str, MinLen(1)]
    about: Annotated[str, MinLen(1)]
    instructions: Annotated[str, MinLen(1)]
    axis: Annotated[str, StringConstraints(pattern=r"^(label\.[a-z][a-z0-9_]*|score\.[a-z][a-z0-9_]*|delivery)$")]
    key: str | None = None
    labels: Annotated[tuple[StrictStr, ...], Len(2, MOST_LABELS)] | None = None
    low: StrictInt | None = None
    high: StrictInt | None = None
    measures: Literal["form", "function"] = "function"
    disposition: str | None = None
    cards: Annotated[tuple[RubricCard, ...], MinLen(1)]


def load_rubric(path: Path) -> Scorer:
    """A judge scorer from a TOML file, laid out as in this module's docstring; it is not registered.

    Raises:
        InputError: the file is missing or no TOML; a key is unknown, missing or malformed; a label or a scale has no
            cards; the name belongs to another scorer (names key and line).
    """
    return _read_rubric(path, scorers())


def _read_rubric(path: Path, taken: Container[str] = ()) -> Scorer:
    data, text = read_toml(path, "rubric file", "write one as the docs on scorers show")
    file = validated(RubricFile, data, text, path, "see the docs on scorers")

    def refuse(key: str, problem: str, remedy: str, *more: int | str) -> InputError:
        loc = (key, *more)
        where = ".".join(str(part) for part in loc)
        return InputError(f"{where}: {problem}", path=path, line=line_of(loc, text), remedy=remedy)

    if file.name in taken:
        raise refuse("name", f"{file.name!r} is a scorer already", "give yours another name")
    key = file.key or file.axis.partition(".")[2] or file.axis
    field: Choice | Scale
    if file.axis.startswith("score."):
        if file.labels is not None:
            raise refuse("labels", "a score axis has no labels", "name the axis label.NAME, or give low and high")
        if file.low is None or file.high is None:
            raise refuse("axis", "a score axis needs low and high", "add low = 1 and high = 5")
        if not 0 < file.high - file.low <= WIDEST:
            raise refuse("high", f"low and high are 1 to {WIDEST} apart", "fix that key")
        field = Scale(key, file.low, file.high)
    else:
        if file.low is not None or file.high is not None:
            raise refuse("low" if file.low is not None else "high", "a label axis has no scale", "leave it out")
        if file.labels is None:
            raise refuse("axis", "a label axis needs labels", 'add labels = ["...", "..."]')
        folded = [label.strip().casefold() for label in file.labels]
        if len(set(folded)) < len(folded) or not all(folded) or any("|" in label for label in folded):
            raise refuse("labels", "labels are different, not empty, and without |", "fix that key")
        field = Choice(key, tuple(label.strip() for label in file.labels))
    for number, row in enumerate(file.cards):
        if row.expects not in field.values:
            listed = ", ".join(map(str, field.values[:MOST_LABELS]))
            raise refuse("cards", f"{row.expects!r} is none of {listed}", "fix that card", number, "expects")
    try:
        return _scorer_of(file, field)
    except RegistryError as error:
        raise refuse("labels" if file.labels else "axis", str(error), "add a [[cards]] table for it") from error


def _scorer_of(file: RubricFile, field: Choice | Scale) -> Scorer:
    def expected(row: RubricCard) -> float | str:
        return row.expects if isinstance(row.expects, str) else float(row.expects)

    cards = [
        card(row.question, row.response, {file.axis: expected(row)}, kind=row.kind, tolerance=row.tolerance)
        for row in file.cards
    ]
    return judged(
        file.name, version=file.version, about=file.about, instructions=file.instructions.strip(),
        axes={file.axis: field}, cards=cards, measures=file.measures, disposition=file.disposition,
    )  # fmt: skip


for _file in sorted(DATA.glob("rubric-*.toml")):
    register_scorer(_read_rubric(_file))
