"""The text of an answer as scorers see it: what is visible, its sentences, and why nothing can be read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from counterclaim.records import Prompt, Response
from counterclaim.registry import Item, Reading, Scorer, Tools
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
