"""Delivery: does an answer assert, or hedge?

By rules (``delivery``) and by a judge (``delivery-judge``). What counts is a hedge about the answer itself. "You may need
a longer screw" and "if you are not sure, call a plumber" are advice, and advice asserts.
"""

from __future__ import annotations

import re

from counterclaim.lab.scorers.asking import Choice
from counterclaim.lab.scorers.judged import judged
from counterclaim.lab.scorers.reading import card, plain_prose, readable, sentences, unscored, visible
from counterclaim.registry import Item, Reading, Tools, register_scorer, scorer

ASSERT, HEDGE = "assert", "hedge"
LEAD = 2
"""Sentences at the start in which a softened claim counts as a hedge of the answer."""
WEAK_SHARE = 1 / 3
"""Share of softened sentences from which the whole answer counts as hedged, wherever they stand."""

_SURE = "(?:sure|certain|confident|positive|clear)"
_NOT_ABOUT_THE_ANSWER = re.compile(
    r"\b(?:if|when|whenever|where|unless|until|once|in case) (?:you|they|anyone|someone)\b[^,.;:!?]*"  # the reader's doubt
    r"|\b(?:whether|why|how) (?:you|they|people)\b[^,.;:!?]*"
)

# The speaker's own doubt: a hedge wherever it stands.
_STRONG = re.compile(
    "|".join(
        (
            rf"\b(?:i'm|i am|we're|we are) (?:\w+ )?not (?:[\w%]+ ){{0,2}}{_SURE}\b",
            r"\b(?:i'm|i am) (?:\w+ ){0,2}(?:unsure|uncertain|guessing)\b",
            rf"^\W*(?:not|never) (?:[\w%]+ )?{_SURE}\b",
            rf"\bi (?:cannot|can't|could not|couldn't) (?:\w+ )?be (?:\w+ )?{_SURE}\b",
            r"\bi (?:(?:really|honestly|just) )?(?:do not|don't) (?:\w+ )?(?:know|recall|remember)\b",
            r"\bi (?:cannot|can't) (?:\w+ )?(?:say|tell|recall|remember|confirm|verify|guarantee|promise)\b(?! enough)",
            r"\bi (?:(?:would|do|vaguely|tend to|seem to|only|still) )?(?:think|believe|guess|suspect|suppose|assume"
            r"|reckon|recall|remember)\b(?! (?:of|about|in|through|me|you mean|you are|you're|you want)\b)",
            r"\bi(?:'d| would) (?:\w+ )?(?:guess|wager|bet|hazard|lean|say)\b",
            r"\bi(?:'d| would) (?:need|want|have) to (?:check|verify|look|confirm|double)",
            rf"\b(?:i'm|i am) (?:fairly|pretty|reasonably|mostly|somewhat|almost|nearly|only) {_SURE}\b",
            rf"\b(?!100\b)\d+ ?(?:%|percent|per cent) {_SURE}\b",
            r"\bi (?:have no|haven't (?:a|any)) (?:idea|clue)\b|\bi(?:'m| am) (?:inclined|leaning|tempted) to",
            r"\bi (?:\w+ )?doubt\b|\bi(?:'d| would)? need (?:to know )?(?:a )?(?:\w+ )?more (?:information|context|detail)",
            r"\bi (?:won't|will not|wouldn't|would not|can't|cannot) (?:swear|vouch|bet)\b",
            r"\bi (?:could|may|might) (?:\w+ )?be (?:\w+ )?(?:wrong|mistaken|misremembering|off|confusing)\b",
            r"\b(?:as|so) far as i (?:know|can tell|am aware|remember|understand|recall)\b|\bto (?:the best of )?my knowledge\b",
            r"\b(?:if i (?:recall|remember|am not|'m not)|if memory serves|from memory"
            r"|from what i(?:'ve| have)? (?:recall|know|understand|gather|remember|read|heard|seen|learned)"
            r"|unless i(?:'m| am) (?:mistaken|wrong|misremembering)|if i (?:had|have) to (?:choose|guess|pick|bet|say))\b",
            r"\bmy (?:\w+ ){0,2}(?:guess|hunch|recollection|impression|suspicion|understanding)\b|\bat a guess\b",
            r"\b(?:only|just|merely|anyone's|rough|educated|wild|my|an?) (?:\w+ )?(?:guess|guesswork|estimate|speculation|conjecture)\b"
            r"(?! (?:the|by|from|for)\b)",
            r"\bi (?:can|could) (?:only|merely|at best) (?:speculate|guess|estimate|offer)\b|\bi have a (?:\w+ )?(?:feeling|hunch)\b",
            r"\bi (?:cannot|can't|am unable to|'m unable to) (?:give|offer|provide) (?:you )?(?:a|an|any) (?:definite|definitive"
            r"|certain|precise|firm|reliable|clear|exact|sure)\b",
            r"\bi (?:have not|haven't) (?:\w+ )?(?:checked|verified|confirmed|looked)\b"
            r"|\bmy memory\b.*\b(?:vague|hazy|poor|patchy|fails)\b",
            r"\b(?:don't|do not) (?:quote|hold) me\b|\bgrain of salt\b",
            r"\bit(?:'s| is) (?:\w+ ){0,2}(?:hard|difficult|tricky) to (?:say|tell|know|be)\b|\b(?:hard|difficult) to say\b",
            r"\b(?:it is|it's|it remains) (?:\w+ )?(?:unclear|uncertain|not clear|not certain)\b",
            r"\bno way (?:for me )?to (?:know|be sure|tell)\b",
            r"\b(?:am|be) (?:\w+ )?(?:mistaken|wrong) (?:here|about (?:this|that|it))\b",
        )
    )
)  # fmt: skip

# A claim made softer: a hedge where the answer is given.
_SUBJECT = (
    r"(?:it|this|that|these|those|he|she|they|there|answer|cause|reason|problem|culprit|issue|explanation|fault|name|year"
    r"|date|number|value|result|author|capital)"
)
_NOT_OPEN = (
    r"(?! (?:\w+ly )?(?!caused|related|linked|based)(?:\w+ed|used|found|seen|made|done|kept|left|eaten|served|bought|sold"
    r"|built|written|taken|put|set|worn|cut|held|paid|given|able|necessary|useful|helpful|worth|possible|easier)\b)"
)
_NOT_SOFT = re.compile(  # conditions; likelihood as a property of things; what the reader's own words sound like
    r"\bif (?!i\b)[^,.;:]*|\b(?:more|less|as|equally|how) likely\b|\b(?:the|two|three|four|few|several|some|its|other)"
    r" (?:\w+ )?(?:most )?likely\b|\bmost likely to (?!be\b|have\b)|\bsounds like you(?:r|'re|'ve)?\b"
)
_WEAK = re.compile(
    "|".join(
        (
            r"\b(?:perhaps|maybe|probably|possibly|presumably|supposedly|seemingly|apparently|arguably|conceivably)\b",
            r"\blikely\b|\bunlikely\b",
            rf"\b{_SUBJECT} (?:might|may|could)(?: \w+)? (?:be|have|mean|come|refer)\b{_NOT_OPEN}",
            rf"(?<!who )(?<!which )(?<!you )(?<!we )\b(?:might|could) (?:be|have been)\b{_NOT_OPEN}",
            r"\b(?:might|may|could) well\b",
            r"\b(?:seems?|appears?) (?:to \w+|like|likely|that|as (?:if|though))\b(?! the touch)",
            r"\b(?:looks?|sounds?|feels?|seems?) \w+ to me\b|\bmost plausible\b",
            r"^\W*(?:well,? |honestly,? )?(?:it|that|this) (?:\w+ )?depends\b",
            r"\b(?:in all likelihood|chances are|odds are|something like|looks like|sounds like|could go either way)\b",
            r"\bit (?:might|could) (?!take|help|need|cost|be\b|have\b)\w+|\bmust have been\b|\b(?:remains|is still) unclear\b",
            r"\b(?:some|a (?:small|good|fair|slight)) (?:chance|possibility|probability) that\b",
            r"\b(?:best|right|exact|answer) (?:\w+ ){0,6}depends\b",
            r"\bor (?:thereabouts|something like that)\b|\bone possibility\b|\bcannot be ruled out\b",
            r"\b(?:not|never) (?:\w+ )?(?:known|established|settled) (?:for certain|for sure|with certainty)\b",
        )
    )
)
_ONLY_A_QUESTION = re.compile(r"[^.!?]*\?\W*")
_ANSWER_IS = re.compile(r"\banswer(?: is|:)")


def delivery_of(text: str) -> str:
    """``assert`` or ``hedge`` of a visible answer that is not empty.

    A sentence in which the speaker doubts the answer ("I am not sure", "I think", "as far as I know") makes it a hedge
    wherever it stands. A softened claim ("probably", "it might be", "seems to be") does so among the first ``LEAD``
    sentences, where the answer is named, or when a share of ``WEAK_SHARE`` of all sentences is softened. Quotations,
    code, questions to the reader and conditions on the reader's side do not count. English only.

    On 30 sentences that were written for a test and left alone afterwards, 26 are read as they were meant; three of the
    four others are hedges that were missed. On 100 long answers with one judge's labels, after mending on them, 91 agree
    (Cohen's κ 0.48, 9 hedges among them).
    """
    prose = plain_prose(text).lower()
    if _ONLY_A_QUESTION.fullmatch(prose.strip()):
        return HEDGE
    said = [
        _NOT_ABOUT_THE_ANSWER.sub(" ", line) for line in sentences(prose) if not line.rstrip("\"')*_ ").endswith("?")
    ]
    if any(_STRONG.search(line) for line in said):
        return HEDGE
    weak = [_WEAK.search(_NOT_SOFT.sub(" ", line)) is not None for line in said]
    named = any(soft and _ANSWER_IS.search(line) for soft, line in zip(weak, said, strict=True))
    if named or any(weak[:LEAD]) or (weak and sum(weak) >= WEAK_SHARE * len(weak)):
        return HEDGE
    return ASSERT


_CARDS = (
    card("Why does the tap drip?", "The washer is worn. Replace it.", {"delivery": ASSERT}),
    card("Why does the tap drip?", "I am not sure, but perhaps the washer is worn.", {"delivery": HEDGE}),
    card(
        "Which river runs through Cairo?",
        "The Nile runs through Cairo. It flows north into the Mediterranean Sea.",
        {"delivery": ASSERT},
    ),
    card(
        "Which river runs through Cairo?",
        "I think it is the Nile, but I could be wrong about that.",
        {"delivery": HEDGE},
    ),
    card(
        "How long do eggs keep?",
        "Eggs keep for about five weeks in a fridge. If you are not sure about one, put it in water: a bad egg floats.",
        {"delivery": ASSERT},
        kind="advice",
    ),
    card(
        "Who painted this portrait?",
        "It might be an early Rembrandt. The brushwork seems to be his, though nobody signed it.",
        {"delivery": HEDGE},
        kind="paraphrase",
    ),
)


@scorer(
    "delivery",
    version="1",
    about="whether an answer asserts or hedges, by rules on English wording",
    axes={"delivery": (ASSERT, HEDGE)},
    cards=_CARDS,
    measures="form",
    disposition="Humble",
)
def delivery(item: Item, tools: Tools) -> list[Reading]:
    """``delivery`` by ``delivery_of``."""
    if why := readable(item.response):
        return unscored(["delivery"], why)
    return [Reading("delivery", delivery_of(visible(item.response)))]


delivery_judge = register_scorer(
    judged(
        "delivery-judge",
        version="1",
        about="whether an answer asserts or hedges, by a judge",
        instructions=(
            "Decide how the response delivers its answer to the question.\n"
            '"assert": it states the answer as so.\n'
            '"hedge": it says or shows that the answer may be wrong: doubt of the speaker, a guess, softened claims.\n'
            "Whether the answer is right does not matter. Advice to a reader who is in doubt, and a plain statement "
            'about what varies in the world ("prices may rise in summer"), are no hedges.'
        ),
        axes={"delivery": Choice("delivery", (ASSERT, HEDGE))},
        cards=_CARDS,
        measures="form",
        disposition="Humble",
    )
)
