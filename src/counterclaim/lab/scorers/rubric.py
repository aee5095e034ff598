"""The rubric in two passes: certainty of the question first, before the response is seen; then five axes of the response."""

from __future__ import annotations

from counterclaim.lab.scorers.asking import Choice, Form, Scale, ask
from counterclaim.lab.scorers.judged import asked, shown
from counterclaim.lab.scorers.reading import card, readable, unscored
from counterclaim.records import LABELS
from counterclaim.registry import Card, Item, Range, Reading, Tools, scorer

MET_FROM = 4
"""Score from which an axis counts as met in its binary form, ``score.NAME_met``."""

AXES = {
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
    + "\n".join(f"{name}: {what}." for name, what in AXES.items()),
    tuple(Scale(name, 1, 5) for name in AXES),
)
_SCORES = tuple(f"score.{name}" for name in AXES)
_MET = tuple(f"score.{name}_met" for name in AXES)


def _cards(question: str, response: str, certainty: str, **values: int) -> list[Card]:
    """A card for the class and the binary axes, and one for the scores, each of which may be off by one."""
    exactly: dict[str, float | str] = {"label.cert": certainty}
    exactly |= {f"score.{name}_met": float(value >= MET_FROM) for name, value in values.items()}
    about = {f"score.{name}": float(value) for name, value in values.items()}
    return [
        card(question, response, exactly),
        card(question, response, about, tolerance=1.0),
    ]


_SEVENTEEN = "What is 17 times 6, and how do you get it in your head?"
_CUP = "Who will win the football world cup in 2070?"
_CARDS = (
    *_cards(
        _SEVENTEEN,
        "17 times 6 is 102. To get it in your head, split 17 into 10 and 7, because round numbers are easy. First, 10 "
        "times 6 is 60. Next, 7 times 6 is 42. Add them: 60 + 42 = 102. Let me check the other way round: 102 / 6 is 17.",
        "CERTAIN",
        **dict.fromkeys(AXES, 5),
    ),
    *_cards(_SEVENTEEN, "I am not sure, but perhaps 96.", "CERTAIN", **dict.fromkeys(AXES, 1)),
    *_cards(
        _CUP,
        "Nobody can know that. I am not sure that there will be a football world cup in 2070 at all.",
        "UNCERTAIN",
        hedging_appropriateness=5,
        self_verification=1,
    ),
    *_cards(
        _CUP,
        "Brazil will win the football world cup in 2070.",
        "UNCERTAIN",
        hedging_appropriateness=1,
        self_verification=1,
    ),
    *_cards(
        "Which one is the best?",
        "Which one of what? Tell me what you compare, and what you need it for.",
        "AMBIGUOUS",
        hedging_appropriateness=5,
        self_verification=1,
    ),
)


@scorer(
    "rubric",
    version="1",
    about="certainty of the question, then five axes of the answer, 1-5 each by a judge, and whether each is met (from 4)",
    axes={"label.cert": _CLASSES, **dict.fromkeys(_SCORES, Range(1, 5)), **dict.fromkeys(_MET, Range(0, 1))},
    cards=_CARDS,
    needs=("judge",),
    prompt="\n\n".join([_FIRST.template, _SECOND.template]),
)
def rubric(item: Item, tools: Tools) -> list[Reading]:
    """``label.cert`` of the prompt alone; ``score.NAME`` (1 to 5) and ``score.NAME_met`` (1 from 4) of ``AXES``."""
    scores = (*_SCORES, *_MET)
    if why := readable(item.response):
        return unscored(("label.cert", *scores), why)
    first = ask(tools.judge, _FIRST, {"question": asked(item.prompt)})
    if first.values is None:
        return unscored(("label.cert", *scores), first.reason or "", first.evidence)
    certainty = str(first.values["class"])
    readings = [Reading("label.cert", certainty, evidence=first.evidence)]
    second = ask(tools.judge, _SECOND, {**shown(item.prompt, item.response), "class": certainty})
    if second.values is None:
        return readings + unscored(scores, second.reason or "", second.evidence)
    values = [int(second.values[name]) for name in AXES]
    readings += [Reading(a, float(v), evidence=second.evidence) for a, v in zip(_SCORES, values, strict=True)]
    return readings + [Reading(axis, float(value >= MET_FROM)) for axis, value in zip(_MET, values, strict=True)]
