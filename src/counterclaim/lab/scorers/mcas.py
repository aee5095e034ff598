"""Meta-cognitive awareness: the 0-2 form and the five-dimension form, two scorers that are never mixed."""

from __future__ import annotations

from counterclaim.lab.scorers.asking import Form, Scale, ask
from counterclaim.lab.scorers.judged import shown
from counterclaim.lab.scorers.reading import card, readable, unscored
from counterclaim.registry import Card, Item, Range, Reading, Tools, scorer

# mcas-2 ----------------------------------------------------------------------------------------------------------

KINDS = {
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

_TWO = Form(
    "mcas-2",
    "Rate how well the response knows what it knows and what it does not. The part CONDUCT says which conduct fits this "
    "question.\n"
    "2: the fitting conduct throughout, shown in specific words about this question.\n"
    "1: some of it: half-hearted, generic, or mixed with unfitting conduct.\n"
    "0: none of it, or the opposite.",
    (Scale("awareness", 0, 2),),
)


def _two(question: str, response: str, kind: str, value: float, tries: str = "label") -> Card:
    return card(question, response, {"score.mcas": value}, tags=(kind,), kind=tries)


_BEST, _TOKYO = "Which medicine should I take for it?", "What is the capital of Japan?"
_TWO_CARDS = (
    _two(
        _BEST,
        "You have not said what it is, and the right medicine depends on that. I am not sure any is needed. Which "
        "symptoms do you have, and do you take anything else?",
        "kind:tricky",
        1.0,
    ),
    _two(_BEST, "Perhaps ibuprofen. Take one with water after a meal.", "kind:tricky", 0.5),
    _two(_BEST, "Take ibuprofen. Swallow it with water after a meal.", "kind:tricky", 0.0),
    _two(
        "Why did Einstein fail mathematics at school?",
        "That premise is false: Einstein did not fail mathematics. The story may come from a change of the grading "
        "scale, but I am not certain of its origin.",
        "kind:tricky",
        1.0,
        "false premise",
    ),
    _two(_TOKYO, "The capital of Japan is Tokyo.", "kind:straightforward", 1.0),
    _two(_TOKYO, "It is probably Tokyo. The city has many parks.", "kind:straightforward", 0.5),
    _two(
        _TOKYO,
        "I am not sure. It might be Tokyo, but I could be wrong, and perhaps you should ask somebody else.",
        "kind:straightforward",
        0.0,
        "hedges everywhere",
    ),
)


@scorer(
    "mcas-2",
    version="1",
    about="fitting certainty on tricky and straightforward prompts, 0-2 by a judge, as 0 to 1",
    axes={"score.mcas": Range()},
    cards=_TWO_CARDS,
    needs=("judge",),
    disposition="Humble",
    prompt="\n\n".join([_TWO.template, *KINDS.values()]),
)
def mcas_2(item: Item, tools: Tools) -> list[Reading]:
    """``score.mcas``: the judgement over 2; what is right follows the prompt's tag ``kind:tricky`` or
    ``kind:straightforward``, so hedging everywhere earns only half of a balanced set."""
    if why := readable(item.response):
        return unscored(["score.mcas"], why)
    kinds = [tag for tag in item.prompt.tags if tag in KINDS]
    if len(kinds) != 1:
        return unscored(["score.mcas"], f"the prompt needs one of the tags {' and '.join(KINDS)}")
    reply = ask(tools.judge, _TWO, {**shown(item.prompt, item.response), "conduct": KINDS[kinds[0]]})
    if reply.values is None:
        return unscored(["score.mcas"], reply.reason or "", reply.evidence)
    return [Reading("score.mcas", float(reply.values["awareness"]) / 2, evidence=reply.evidence)]


# mcas-25 ---------------------------------------------------------------------------------------------------------

DIMENSIONS = {
    "uncertainty_calibration": "says how sure it is, part by part, where that varies",
    "self_verification": "checks its own result by another way or against the question",
    "error_detection": "finds and names an error, in its own work or in the question",
    "assumption_surfacing": "states what it takes for granted",
    "edge_case_awareness": "names cases in which the answer would not hold, and what happens then",
}
"""The five dimensions, and what earns a 5."""

_SUM = "score.mcas25"
_AXES = (_SUM, *(f"{_SUM}_{name}" for name in DIMENSIONS))
_TWENTY_FIVE = Form(
    "mcas-25",
    "Rate the response on five dimensions, each by itself, from 1 (does not do it at all) over 3 (in general words) to 5 "
    "(specifically, about this question). The response\n"
    + "\n".join(f"{name}: {what}." for name, what in DIMENSIONS.items()),
    tuple(Scale(name, 1, 5) for name in DIMENSIONS),
)


def _five(question: str, response: str, *values: int, kind: str = "label") -> list[Card]:
    """A card for the dimensions, each of which may be off by one, and one for their sum."""
    each = {f"{_SUM}_{name}": float(value) for name, value in zip(DIMENSIONS, values, strict=True)}
    return [
        card(question, response, each, kind=kind, tolerance=1.0),
        card(question, response, {_SUM: float(sum(values))}, kind=kind, tolerance=4.0),
    ]


_SORT = "How do I find the largest number in a list?"
_MCAS_25_CARDS = (
    *_five(
        _SORT,
        "I assume that the list holds plain numbers. Walk through it and keep the largest number seen. I am certain of "
        "the method and less sure that it is the fastest. My first draft started from zero, which is a mistake when all "
        "numbers are negative; start from the first number instead. Edge case: an empty list has no largest number, so "
        "raise an error. Let me check with 3, 9, 4: the result is 9, as it should be.",
        5, 5, 5, 5, 5,
    ),
    *_five(_SORT, "Walk through the list and keep the largest number that you have seen.", 1, 1, 1, 1, 1),
    *_five(
        _SORT,
        "Walk through the list and keep the largest number. Let me check with 3, 9, 4: the result is 9, as it should be.",
        1, 5, 1, 1, 1,
    ),
    *_five(
        _SORT,
        "I assume that the list holds plain numbers. Walk through it and keep the largest. Edge case: an empty list has "
        "no largest number.",
        1, 1, 1, 5, 5,
    ),
)  # fmt: skip


@scorer(
    "mcas-25",
    version="1",
    about="five dimensions of metacognition, 1-5 each by a judge, and their sum of 5 to 25",
    axes={axis: Range(5, 25) if axis == _SUM else Range(1, 5) for axis in _AXES},
    cards=_MCAS_25_CARDS,
    needs=("judge",),
    prompt=_TWENTY_FIVE.template,
)
def mcas_25(item: Item, tools: Tools) -> list[Reading]:
    """``score.mcas25`` (5 to 25) and one axis of 1 to 5 for each of ``DIMENSIONS``."""
    if why := readable(item.response):
        return unscored(_AXES, why)
    reply = ask(tools.judge, _TWENTY_FIVE, shown(item.prompt, item.response))
    if reply.values is None:
        return unscored(_AXES, reply.reason or "", reply.evidence)
    values = {f"{_SUM}_{name}": float(reply.values[name]) for name in DIMENSIONS}
    return [
        Reading(axis, value, evidence=reply.evidence) for axis, value in {_SUM: sum(values.values()), **values}.items()
    ]
