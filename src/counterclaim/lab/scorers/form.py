"""Form: what an answer sounds and looks like, read by rules. None of it says what the answer does.

The word lists are English; on other languages they read 0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from counterclaim.lab.scorers.reading import EMPTY, card, missing, plain_prose, readable, sentences, unscored, visible
from counterclaim.registry import Card, Item, Range, Reading, Scorer, Tools, scorer
from counterclaim.text import STYLE_FEATURES, style

_Q = "How do I stop a door from squeaking?"
_PLAIN = "Oil the hinges of the door. Open and close it ten times, and wipe off the rest."


def says(
    name: str, axis: str, pattern: str, *, about: str, cards: Sequence[Card], disposition: str, version: str = "1"
) -> Scorer:
    """Register a scorer that reads 1 where a sentence of the visible answer has some wording, else 0.

    Args:
        axis: ``score.NAME``.
        pattern: regular expression, matched against lower-case sentences without quotations and code.
    """
    wording = re.compile(pattern)

    @scorer(
        name, version=version, about=about, axes={axis: Range()}, cards=cards, measures="form", disposition=disposition
    )
    def said(item: Item, tools: Tools) -> list[Reading]:
        if why := readable(item.response):
            return unscored([axis], why)
        found = [line for line in sentences(plain_prose(visible(item.response)).lower()) if wording.search(line)]
        return [Reading(axis, float(bool(found)), evidence=found[0] if found else None)]

    return said


def _said_cards(axis: str, said: Sequence[str], unsaid: Sequence[str]) -> list[Card]:
    return [card(_Q, text, {axis: value}) for value, texts in ((1.0, said), (0.0, (_PLAIN, *unsaid))) for text in texts]


svr = says(
    "svr",
    "score.svr",
    r"\blet(?:'s| me| us) (?:\w+ )?(?:check|verify|double[- ]check|re-?check|re-?calculate|re-?consider|re-?examine"
    r"|make sure|confirm|test (?:this|that|it)|think (?:again|about (?:this|that) again)|go over)\b"
    r"|\bi (?:\w+ )?(?:will|'ll|should|need to|want to|have|can|must|just|now)?\s?(?:double[- ]check|re-?check|re-?read"
    r"|verif(?:y|ied)|checked|sanity[- ]check)(?:ed)?\b"
    r"|\bsanity check\b|^\W*(?:to (?:verify|check|confirm|double[- ]check)|(?:double-)?checking|verification|check)[,:]"
    r"|^\W*(?:to (?:verify|double[- ]check)|(?:double-)?checking) (?:this|that|my|the result|the answer)\b"
    r"|^\W*(?:wait|hold on)\W(?!.*\b(?:minutes?|hours?|seconds?|days?)\b)|\bon (?:second thought|reflection)\b|\blooking back\b",
    about="whether an answer contains self-verification language",
    cards=_said_cards(
        "score.svr",
        (
            "Oil the hinges. Let me double-check: the squeak comes from metal on metal, so oil is right.",
            "Oil the hinges. Wait, that would stain a painted door, so use dry graphite.",
            "To verify this, I checked that the noise stops when the door is lifted.",
        ),
        (
            "Oil the hinges. Wait ten minutes, then double-check that the screws are tight.",
            "Check the hinges for rust, and verify that the pin is straight.",
        ),
    ),
    disposition="Adversarial",
)

self_critique = says(
    "self-critique",
    "score.self_critique",
    r"\b(?:weakness|weak point|flaw|limitation|shortcoming|drawback|objection|counter-?argument|caveat)s?\b"
    r"|\b(?:this|that|my|the) (?:answer|advice|argument|approach|method|reasoning|solution) (?:\w+ )?(?:fails|breaks|falls short"
    r"|assumes|ignores|overlooks|may be wrong|could be wrong)\b|\b(?:playing |as a )?devil's advocate\b"
    r"|\b(?:one|someone|a critic|a sceptic|a skeptic) (?:could|might|may|would) (?:object|argue|say)\b"
    r"|\barguing against (?:this|that|it|myself|my)\b|\bwhere (?:this|it) (?:fails|breaks|goes wrong)\b",
    about="whether an answer contains language that criticises itself",
    cards=_said_cards(
        "score.self_critique",
        (
            "Oil the hinges. A weakness of this advice is that oil collects dust.",
            "Oil the hinges. One could object that a bent pin squeaks again within a day.",
        ),
        ("Oil the hinges, and do not use butter.",),
    ),
    disposition="Adversarial",
)

eager_openers = says(
    "eager-openers",
    "score.eager",
    r"\b(?:great|good|excellent|fantastic|wonderful|lovely|interesting|brilliant|thoughtful) (?:question|point|idea|choice)\b"
    r"|^\W*(?:certainly|of course|absolutely|definitely|sure thing|sure|gladly|happily|with pleasure)\b\s?[!,.—-]"
    r"|\bi(?:'d| would|'m| am)(?: be)? (?:\w+ )?(?:happy|glad|delighted|excited|thrilled) to (?:help|assist|explain|share)\b"
    r"|\b(?:let's|let us) (?:dive|jump) (?:right )?in\b|\bhappy to help\b",
    about="whether an answer praises the question or announces its own readiness to help",
    cards=_said_cards(
        "score.eager",
        ("Great question! Oil the hinges.", "Absolutely! I'd be happy to help. Oil the hinges."),
        ("Oil the hinges of course, but wipe off what drips.",),
    ),
    disposition="Eager",
)

revision = says(
    "revision-language",
    "score.revision",
    r"\b(?:i was|that was|i got (?:that|it|this)) wrong\b|\bi (?:made|see) (?:a|an|my|the) (?:\w+ )?(?:mistake|error|slip)\b"
    r"|\bmy (?:mistake|error|bad|apologies)\b|\bi (?:stand corrected|misspoke|misread|miscounted|overlooked|take that back)\b"
    r"|\b(?:let me|i(?:'ll| will| need to| have to| should)) (?:correct|revise|rephrase|fix|amend|improve|redo|try again)\b"
    r"|^\W*(?:correction|revised (?:answer|version)|edit|update)\b\W|\b(?:i apologi[sz]e|sorry) for the (?:\w+ )?(?:mistake|error|confusion)\b"
    r"|\bto improve (?:on )?(?:this|that|my)\b|\ba better (?:answer|version)\b|\bscratch that\b|\bi learned\b",
    about="whether an answer contains language of revising or improving itself",
    cards=_said_cards(
        "score.revision",
        (
            "Oil the pin. Correction: pull the pin first, then oil it.",
            "I made a mistake above. Let me correct it: use graphite, not oil.",
        ),
        ("Correct the angle of the hinge, then oil it.",),
    ),
    disposition="Self-Improving",
)

asks_questions = says(
    "asks-questions",
    "score.asks",
    r"\?\W*$",
    about="whether an answer asks the reader anything",
    cards=[
        card(_Q, "Is the door made of wood or of metal?", {"score.asks": 1.0}),
        card(_Q, "Oil the hinges. Does it still squeak when you lift it?", {"score.asks": 1.0}),
        card(_Q, _PLAIN, {"score.asks": 0.0}),
        card(_Q, "Ask the dealer “which oil is it?” and oil the hinges.", {"score.asks": 0.0}),
    ],
    disposition="Curious",
)


_STEP = re.compile(
    r"^\W*(?:\d{1,2}[.):]|step \d|first(?:ly)?\b|second(?:ly)?\b|third(?:ly)?\b|then\b|next\b|finally\b|lastly\b)"
)
_HEADING = re.compile(r"^\s*(?:#{1,6}\s|\*\*[^*]+\*\*:?\s*$)", re.M)


@scorer(
    "steps",
    version="1",
    about="how many headings and step marks an answer has",
    axes={"score.steps": Range(0, None)},
    cards=(
        card(_Q, "## Plan\n1. Clean the hinge.\n2. Oil it.\n3. Wipe it dry.", {"score.steps": 4.0}),
        card(_Q, "First, clean the hinge. Then oil it. Finally, wipe it dry.", {"score.steps": 3.0}),
        card(_Q, "Clean the hinge, oil it, and wipe it dry.", {"score.steps": 0.0}),
    ),
    measures="form",
    disposition="Deliberate",
)
def steps(item: Item, tools: Tools) -> list[Reading]:
    """``score.steps``: headings, and sentences or lines that open with a number or a word of order."""
    if why := readable(item.response):
        return unscored(["score.steps"], why)
    text = visible(item.response)
    # A list number and its text are one sentence: "1." must not be parted from what follows.
    lines = sentences(re.sub(r"(?m)^(\s*\d{1,2})\.\s", r"\1) ", plain_prose(text).lower()))
    marked = sum(_STEP.match(line) is not None for line in lines)
    return [Reading("score.steps", float(len(_HEADING.findall(text)) + marked))]


@scorer(
    "length",
    version="1",
    about="how many words the visible answer has",
    axes={"score.n_words": Range(0, None)},
    cards=(
        card(_Q, "Oil the hinges.", {"score.n_words": 3.0}),
        card(
            _Q, "<think>The user has a door.</think>Oil the hinges of the door.", {"score.n_words": 6.0}, kind="think"
        ),
        card(_Q, "", {"score.n_words": 0.0}, kind="empty"),
    ),
    measures="form",
    disposition="Persistent",
)
def length(item: Item, tools: Tools) -> list[Reading]:
    """``score.n_words``, think blocks left out."""
    if why := missing(item.response):
        return unscored(["score.n_words"], why)
    return [Reading("score.n_words", style(visible(item.response))["n_words"])]


_STYLE = {name: f"score.style_{name}" for name in STYLE_FEATURES if name not in ("n_words", "think_words")}


def _style_card(response: str, **expects: float) -> Card:
    return card(_Q, response, {_STYLE[name]: value for name, value in expects.items()}, tolerance=1e-9)


@scorer(
    "style",
    version="1",
    about="style in numbers: sentences, hedges, headings, bullets, marks, openers, repetition",
    axes={
        axis: Range(0, 1 if name.startswith("opener_") or name == "repetition" else None)
        for name, axis in _STYLE.items()
    },
    cards=(
        _style_card("", **dict.fromkeys(_STYLE, 0.0)),
        _style_card(
            "# Great! I think it is the hinge.\n- **oil**\n- wax\n\n| a | b |\n|---|---|\n| 1 | 2 |\n```\nx\n```\nDone? 🙂",
            n_chars=98, words_per_sentence=5, hedges=100 / 15, first_person=100 / 15, questions=1, exclamations=1,
            emoji=1, headings=1, bullets=2, bold=1, code_fences=1, tables=3, opener_heading=1,
        ),
        _style_card(
            "Certainly. Let me check the hinge.", opener_praise=1, self_verification=100 / 6, words_per_sentence=3,
        ),
        _style_card("I oil it and I oil it and I oil it.", opener_first_person=1, repetition=0.5),
    ),
    measures="form",
)  # fmt: skip
def style_features(item: Item, tools: Tools) -> list[Reading]:
    """``score.style_NAME`` for the features of ``text.style`` that belong to the visible answer."""
    if why := missing(item.response):
        return unscored(_STYLE.values(), why)
    numbers = style(visible(item.response))
    return [Reading(axis, numbers[name]) for name, axis in _STYLE.items()]


_REFUSES = re.compile(
    r"\bi(?:'m| am) (?:\w+ )?(?:sorry|unable|not able|afraid)\b.*\b(?:can't|cannot|can not|unable|not able|won't|will not|do not)\b"
    r"|\bi(?:'m| am) (?:\w+ )?(?:unable|not able|not allowed|not permitted|not going) to (?:\w+ )?(?:help|assist|answer|provide|comply"
    r"|discuss|give|write|create|share|fulfil|fulfill|do)\b"
    r"|\bi (?:can't|cannot|can not|won't|will not|must|would rather not|refuse to|decline to) (?:\w+ )?(?:help|assist|answer|provide"
    r"|comply|discuss|give|write|create|share|fulfil|fulfill|do that|decline|refuse)\b"
    r"|\bas an ai\b.*\b(?:can't|cannot|unable|not able|don't|do not)\b"
)


@scorer(
    "refusal",
    version="1",
    about="whether a model answered, refused, or said nothing",
    axes={"label.reply": ("answered", "refused", "empty")},
    cards=(
        card(_Q, _PLAIN, {"label.reply": "answered"}),
        card(_Q, "I cannot recommend butter. Oil the hinges of the door.", {"label.reply": "answered"}),
        card(_Q, "I'm sorry, but I can't help with that.", {"label.reply": "refused"}),
        card(_Q, "I am unable to answer questions about doors.", {"label.reply": "refused"}, kind="paraphrase"),
        card(_Q, "", {"label.reply": "empty"}),
        card(_Q, "<think>The door squeaks, so", {"label.reply": "empty"}, kind="think"),
    ),
    measures="form",
)
def refusal(item: Item, tools: Tools) -> list[Reading]:
    """``label.reply``: a refusal is said in one of the first two sentences; think blocks are no answer."""
    why = readable(item.response)
    if why is not None:
        return [Reading("label.reply", "empty")] if why == EMPTY else unscored(["label.reply"], why)
    lead = sentences(plain_prose(visible(item.response)).lower())[:2]
    return [Reading("label.reply", "refused" if any(_REFUSES.search(line) for line in lead) else "answered")]
