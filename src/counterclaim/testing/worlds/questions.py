"""Questions with golds and the sentences that answers to them are made of: made-up household repairs and trips.

Nothing here is true of any house. What matters is that every question has content words of its own, that its gold
shares words with the question, and that right and wrong answers can be told apart by reading them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Literal

from counterclaim.records import Prompt

Kind = Literal["repair", "trip"]


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


_THINGS = _listed(
    "letterbox, drawer, kettle, lantern, bicycle, shutter, tap, radiator, sewing-machine, bookshelf, umbrella, "
    "gate, wheelbarrow, teapot, hinge, skylight, ladder, hammock, stove, pump, sledge, accordion, curtain, "
    "chimney, canoe, trolley, mailbox, mower, doorbell, aquarium, toaster, fountain, piano, loom, greenhouse, "
    "telescope, suitcase, stapler, birdhouse, clock, fan, blender, awning, workbench, thermostat, swing, "
    "pulley, barrel"
)
_MATERIALS = _listed("brass, oak, enamel, copper, bamboo, steel, walnut, linen, iron, plastic, marble, rubber")
_FAULTS = _listed(
    "rattle, squeak, leak, jam, wobble, rust, overheat, drip, stall, sag, crack, hum, stick, flicker, smell of "
    "smoke, lose pressure"
)
_TIMES = _listed(
    "on cold mornings, after heavy rain, when the cellar floods, during long summers, whenever guests arrive, "
    "right after cleaning, in windy weather, when nobody uses it, after moving house, under full load, every "
    "second week, near the sea"
)
_CAUSES = _listed(
    "worn felt, loose rivet, dried grease, bent axle, clogged filter, cracked gasket, warped frame, frayed "
    "cable, mineral scale, swollen timber, missing washer, blocked vent, stripped thread, weak spring, rotten "
    "seal, trapped grit, corroded contact, stretched belt, shifted bearing, hairline fracture, hardened glue, "
    "tilted base, snapped pin, damp lining"
)
_SUPPLIES = _listed(
    "beeswax, lemon oil, silicone paste, graphite powder, white vinegar, linseed oil, epoxy resin, talcum, "
    "boiled starch, copper tape, cork sheet, teflon thread, bone glue, felt strips, zinc primer, rosin"
)
_WAITS = _listed(
    "for ten minutes, for one hour, overnight, for two full days, until noon, for half a week, for forty "
    "seconds, until it cools, for a whole weekend, for three evenings, for fifteen minutes, until the paint "
    "dries"
)
_DANGERS = _listed(
    "pinched fingers, hot steam, sharp burrs, live wires, falling tiles, toxic dust, sudden recoil, slippery "
    "floors, broken glass, loose sleeves, open flames, tight corners"
)
_TOWNS = _listed(
    "Velmora, Ostrin, Quillfort, Hadderby, Marunde, Soltviken, Brascola, Ynderfall, Karsholm, Tiverne, "
    "Lompeda, Grusk, Pellinor, Zaventra, Ulbrook, Fennmark"
)
_RIDES = _listed("ferry, night train, cable car, postal bus, rowing boat, mountain tram, hired donkey, steam railway")
_SIGHTS = _listed(
    "salt museum, glass market, drowned abbey, clockmakers' quarter, amber beach, lighthouse stairs, mushroom "
    "festival, paper theatre, tulip auction, bell foundry, moss garden, chess cafe"
)
_TRAVELLERS = _listed("grandparents, toddlers, cyclists, students, musicians, photographers, pilgrims, botanists")

_SIZES = {
    "repair": len(_THINGS) * len(_MATERIALS) * len(_FAULTS) * len(_TIMES),
    "trip": len(_TOWNS) * len(_RIDES) * len(_SIGHTS) * len(_TRAVELLERS),
}
CLAIMS = 4
"""Required claims of a gold checklist."""


def pool_size(kind: Kind) -> int:
    """How many different questions of a kind there are."""
    return _SIZES[kind]


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


ASIDES = 16
"""Sentences without a claim that every question has."""


@lru_cache(maxsize=32_768)
def question(kind: Kind, index: int) -> Question:
    """Question number ``index`` of a kind, 0 <= index < ``pool_size(kind)``; the same one every time."""
    return _repair(index) if kind == "repair" else _trip(index)


def _pick(words: tuple[str, ...], index: int, salt: int) -> str:
    digest = blake2b(b"%d of %d" % (index, salt), digest_size=4).digest()
    return words[int.from_bytes(digest) % len(words)]


def _repair(index: int) -> Question:
    rest, a = divmod(index, len(_THINGS))
    rest, b = divmod(rest, len(_MATERIALS))
    d, c = divmod(rest, len(_FAULTS))
    topic = f"{_MATERIALS[b]} {_THINGS[a]}"
    ask = f"Why does my {topic} {_FAULTS[c]} {_TIMES[d]}?"
    return _assemble(index, ask, topic, f"what makes the {topic} {_FAULTS[c]} {_TIMES[d]}")


def _trip(index: int) -> Question:
    rest, a = divmod(index, len(_TOWNS))
    rest, b = divmod(rest, len(_RIDES))
    d, c = divmod(rest, len(_SIGHTS))
    topic = f"{_RIDES[b]} to {_TOWNS[a]}"
    ask = f"Plan a {topic} for {_TRAVELLERS[d]} who want to see the {_SIGHTS[c]}."
    return _assemble(index, ask, topic, f"what {_TRAVELLERS[d]} say of the {topic} and the {_SIGHTS[c]}")


def _facts(index: int, salt: int) -> tuple[str, str, str, str]:
    return (
        _pick(_CAUSES, index, salt),
        _pick(_SUPPLIES, index, salt + 1),
        _pick(_WAITS, index, salt + 2),
        _pick(_DANGERS, index, salt + 3),
    )


def _sentences(topic: str, facts: tuple[str, ...]) -> tuple[str, ...]:
    cause, supply, wait, danger = facts
    return (
        f"The {topic} has a {cause}.",
        f"Treat that part of the {topic} with {supply}.",
        f"Leave it alone {wait} before the next attempt.",
        f"Watch out for {danger} while you work.",
    )


def _assemble(index: int, text: str, topic: str, restate: str) -> Question:
    facts = _facts(index, 10)
    claims = _sentences(topic, facts)
    other = tuple(_pick_other(words, index, fact) for words, fact in zip(_FACT_LISTS, facts, strict=True))
    asides = (
        f"A {topic} deserves some patience.",
        "Work slowly and keep good light.",
        "Take a photograph of every step.",
        f"Most owners of a {topic} meet this sooner or later.",
        "Keep small parts in a labelled jar.",
        "A neighbour with steady hands helps a lot.",
        "Cheap spares rarely last a season.",
        f"Write the date inside the {topic} when you finish.",
        "Old newspapers protect the table.",
        "The shop around the corner sells what you need.",
        "Nothing here calls for special strength.",
        "Children should stay in another room meanwhile.",
        f"Compare it with a second {topic} if there is one.",
        "Rainy afternoons suit this kind of job.",
        "Stop at once when something bends.",
        "Clear the floor before starting.",
    )
    prompt = Prompt.of_text(
        text,
        gold={"answer": f"{facts[0]} in the {topic}", "checklist": list(claims)},
        tags=(f"source-id:{index}",),
    )
    return Question(prompt, topic, restate, claims, _sentences(topic, other), asides)


_FACT_LISTS = (_CAUSES, _SUPPLIES, _WAITS, _DANGERS)


def _pick_other(words: tuple[str, ...], index: int, taken: str) -> str:
    place = words.index(taken)
    return words[(place + 1 + (index * 31 + 7) % (len(words) - 1)) % len(words)]
