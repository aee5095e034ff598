"""What all scorers share: the text of an answer, readings without a value, cards, and sentences."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from counterclaim.records import Decode, FinishReason, Json, ModelRef, Prompt, Provenance, Response
from counterclaim.registry import Card, Item, Reading, Scorer, Tools
from counterclaim.text import split_think

EMPTY = "the answer is empty"

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.S)
_QUOTED = re.compile(r"“[^”]*”|\"[^\"\n]*\"|«[^»]*»|(?<!\w)'[^'\n]*'(?!\w)")
_SENTENCE_BREAK = re.compile(r"(?<=[.!?。！？])[\"'”’)\]*_]*\s+|\n+")
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")


def missing(response: Response | None) -> str | None:
    """Why a response cannot be scored at all: it is an error record, or its text was not kept; None where it can."""
    if response is None:
        return "there is no response"
    if response.error is not None:
        return f"the model gave no answer: {response.error}"
    if response.text is None:
        return "the text of the answer was not kept"
    return None


def visible(response: Response) -> str:
    """The answer without its think blocks, outer white space gone."""
    return split_think(response.text or "")[1].strip()


def readable(response: Response) -> str | None:
    """Why nothing can be read off an answer: ``missing``, or nothing visible in it; None where something can."""
    why = missing(response)
    if why is None and not _LETTER_OR_DIGIT.search(visible(response)):
        why = EMPTY
    return why


def unscored(axes: Iterable[str], reason: str, evidence: str | None = None) -> list[Reading]:
    """One reading without a value for each axis."""
    return [Reading(axis, unscored=reason, evidence=evidence) for axis in axes]


def plain_prose(text: str) -> str:
    """``text`` with straight apostrophes, and without code and quotations: what its author says in person."""
    return _QUOTED.sub(" ", _CODE.sub(" ", text.replace("’", "'").replace("‘", "'")))


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text that hold a letter or digit, outer marks of lists and headings kept."""
    return [part.strip() for part in _SENTENCE_BREAK.split(text) if _LETTER_OR_DIGIT.search(part)]


def oracle_by(scorer: Scorer, tools: Tools, axis: str = "correct") -> Callable[[Prompt, Response], Reading]:
    """What says whether an answer is right, by the reading of one scorer on one of its axes; filed as ``correct``."""

    def right(prompt: Prompt, response: Response) -> Reading:
        for reading in scorer.read(Item(prompt, response), tools):
            if reading.axis == axis:
                return replace(reading, axis="correct")
        return Reading("correct", unscored=f"{scorer.name} did not say whether it is right")

    return right


def card(
    question: str,
    response: str,
    expects: Mapping[str, float | str],
    *,
    gold: Mapping[str, Json] | None = None,
    tags: tuple[str, ...] = (),
    follow_up: str | None = None,
    kind: str = "label",
    tolerance: float = 0.0,
) -> Card:
    """A card about a question of one turn."""
    prompt = Prompt.of_text(question, gold=gold or {}, tags=tags)
    return Card(prompt, response, expects, follow_up, kind, tolerance)


def item_of(card: Card) -> Item:
    """A card as an item to be scored: its texts as finished answers."""
    follow_up = None if card.follow_up is None else _answered(card.prompt, card.follow_up)
    return Item(card.prompt, _answered(card.prompt, card.response), follow_up)


def _answered(prompt: Prompt, text: str) -> Response:
    return Response(prompt.id, "card", 0, text, FinishReason.STOP, Provenance.RECORDED, Decode(None), ModelRef("card"))
