"""Questions with golds and the sentences that answers to them are made of: made-up household repairs and trips.

Nothing here is true of any house. What matters is that every question has content words of its own, that its gold
shares words with the question, and that right and wrong answers can be told apart by reading them.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Literal

from counterclaim.records import Prompt

Kind = Literal["repair", "trip"]


_DATA = tomllib.loads((Path(__file__).parent / "questions.toml").read_text(encoding="utf-8"))
_WORDS: Mapping[str, Sequence[str]] = _DATA["words"]
_CLAIMS, _ASIDES = _DATA["sentences"]["claims"], _DATA["sentences"]["asides"]
_FACTS = ("causes", "supplies", "waits", "dangers")
CLAIMS = len(_CLAIMS)
"""Required claims of a gold checklist."""


def pool_size(kind: Kind) -> int:
    """How many different questions of a kind there are."""
    return math.prod(len(_WORDS[part]) for part in _DATA[kind]["parts"])


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt and the sentences that answers to it are made of.

    Attributes:
        prompt: with its gold: ``answer`` and a ``checklist`` of ``CLAIMS`` claims.
        topic: what the answer is about, as a noun phrase.
        restate: the question said back, as a noun clause.
        claims: one sentence per claim of the checklist.
        wrong: sentences that take the claims' places in a wrong answer.
        asides: sentences that add length and no claim.
    """

    prompt: Prompt
    topic: str
    restate: str
    claims: tuple[str, ...]
    wrong: tuple[str, ...]
    asides: tuple[str, ...]


ASIDES = len(_ASIDES)
"""Sentences without a claim that every question has."""


@lru_cache(maxsize=32_768)
def question(kind: Kind, index: int) -> Question:
    """Question number ``index`` of a kind, 0 <= index < ``pool_size(kind)``; the same one every time."""
    parts, rest = {}, index
    for name in _DATA[kind]["parts"]:
        rest, at = divmod(rest, len(_WORDS[name]))
        parts[name] = _WORDS[name][at]
    topic = parts["topic"] = _DATA[kind]["topic"].format(**parts)
    facts = {name: _pick(_WORDS[name], index, 10 + at) for at, name in enumerate(_FACTS)}
    others = {name: _pick_other(_WORDS[name], index, fact) for name, fact in facts.items()}
    claims, wrong, asides = (
        tuple(sentence.format(topic=topic, **values) for sentence in sentences)
        for sentences, values in ((_CLAIMS, facts), (_CLAIMS, others), (_ASIDES, {}))
    )
    prompt = Prompt.of_text(
        _DATA[kind]["ask"].format(**parts),
        gold={"answer": f"{facts['causes']} in the {topic}", "checklist": list(claims)},
        tags=(f"source-id:{index}",),
    )
    return Question(prompt, topic, _DATA[kind]["restate"].format(**parts), claims, wrong, asides)


def _pick(words: Sequence[str], index: int, salt: int) -> str:
    digest = blake2b(b"%d of %d" % (index, salt), digest_size=4).digest()
    return words[int.from_bytes(digest) % len(words)]


def _pick_other(words: Sequence[str], index: int, taken: str) -> str:
    place = words.index(taken)
    return words[(place + 1 + (index * 31 + 7) % (len(words) - 1)) % len(words)]
