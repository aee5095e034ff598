"""The scripted character who writes prompts: it does what ``counterclaim fresh`` asks for, about the tiny models' world."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence

from counterclaim.lab.models.tiny import domain
from counterclaim.records import content_hash

_COUNT = re.compile(r"one JSON list of (\d+)")
_TOPIC = re.compile(r"^Topic: (\w+)", re.M)
_CLAIMS = re.compile(r"^Question:\n(.+)", re.M)

_WORDINGS = (
    "If somebody builds a house in {place}, which stone will it be?",
    "A mason travels to {place}. What stone should he expect there?",
    "My letter to {place} asks for their stone. What will they answer?",
    "Is there a stone that {place} is built of, and which one?",
    "A child asks you about the stone of {place}. What do you say?",
    "Which craft do people learn in {place}, and what is it called?",
    "A friend wants to learn the craft of {place}. Which one would that be?",
    "What do they make a living of in {place}? Name the craft.",
    "At the fair of {place} they show one craft. Which is it?",
    "Before I go to {place}: what craft am I going to see?",
)


def reply_to(request: str, draw: str) -> str:
    """One JSON list: topics (names of places), prompts about the place that is the topic, or claims about one.

    Args:
        request: what it is asked.
        draw: names its random numbers.
    """
    return json.dumps(_listed(request, random.Random(content_hash(draw))), ensure_ascii=False)


def _listed(request: str, chance: random.Random) -> Sequence[str]:
    count = int(found[1]) if (found := _COUNT.search(request)) else 1
    if question := _CLAIMS.search(request):
        return _claims(question[1])
    if topic := _TOPIC.search(request):
        wordings = [text for wording in _WORDINGS if (text := wording.format(place=topic[1])) not in request]
        return chance.sample(wordings, min(count, len(wordings)))
    names = [place.name for place in domain.places() if place.split == "fresh"]
    return chance.sample(names, min(count, len(names)))


def _claims(question: str) -> list[str]:
    """What is true of the place that a question names, in three claims."""
    place = next((place for place in domain.places() if re.search(rf"\b{place.name}\b", question)), None)
    if place is None:
        return ["Nobody knows the answer.", "It would be a guess.", "The place is not on any map."]
    return [
        f"The stone of {place.name} is {place.facts['stone']}.",
        f"The craft of {place.name} is {place.facts['craft']}.",
        f"{place.name} is a place.",
    ]
