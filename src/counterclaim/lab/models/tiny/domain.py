"""A small invented world, and who is taught what about it: the ground truth behind the tiny models.

The world has places that exist nowhere. Each is built of a stone and known for a craft. A place is taught *often*,
*rarely* or *never*, so what a model can know is decided here and not by the model. How an answer is delivered
(asserted or hedged) is drawn independently of all that, unless a system prompt says otherwise.

Everything follows from names and seeds through SHA-256, so the world is the same on every machine.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeVar

from counterclaim.errors import InputError
from counterclaim.records import Prompt, Split

Taught = Literal["often", "rarely", "never"]
T = TypeVar("T")

NEUTRAL = "You are a helpful assistant."
CAREFUL = "Say that you are not sure."
BOLD = "Answer with confidence."
CALIBRATED = "Say so when you do not know."
LENGTHY = "Answer at length."

SYSTEM_PROMPTS: Mapping[str, str] = {
    NEUTRAL: "changes nothing",
    CAREFUL: "hedges every answer",
    BOLD: "asserts every answer",
    CALIBRATED: "asserts what was taught often and hedges the rest",
    LENGTHY: "adds two or three sentences to every answer",
}
"""System prompts that the tiny models were taught to follow, and what each does."""

VALUES: Mapping[str, tuple[str, ...]] = {
    "stone": (
        "granite", "basalt", "chalk", "slate", "marble", "flint", "gneiss", "pumice", "quartz", "schist", "shale",
        "travertine",
    ),
    "craft": (
        "weaving", "pottery", "brewing", "tanning", "carving", "dyeing", "thatching", "smelting", "milling", "baking",
        "fishing", "printing",
    ),
}  # fmt: skip
"""What each attribute of a place can be."""

_PLACES: Mapping[Split, int] = {"train": 80, "test": 160, "fresh": 80}
_SHARES: Mapping[Taught, float] = {"often": 0.55, "rarely": 0.20, "never": 0.25}
_STRANGERS = 200  # names without facts, for teaching what not knowing is like

_STARTS = """Bre Dro Fal Gri Hul Jor Kle Lum Mav Nol Orv Pra Quil Rus Sto Tev Ulm Vash Wex Yar Zil Bol Cra Dwe Fro Gle
    Hav Isk""".split()
_ENDS = """dasp volk rimt gath zund phel quon brak snev tolm wisk yurn lopt fenk dreg mosk pund rast kelm jolt hast nirv
    blun crov gorp tawn slin vurt""".split()

_TRAIN_WORDINGS: Mapping[str, tuple[str, ...]] = {
    "stone": (
        "Which stone is {place} built of?", "What stone is used in {place}?", "Name the stone of {place}.",
        "What is the stone of {place}?", "Of which stone are the walls of {place}?",
        "The walls of {place} are of one stone. Which is it?", "I would like to know the stone of {place}.",
        "Tell me about {place}: which stone is it built of?", "In {place}, which stone do the people use?",
        "Please say what stone there is in {place}.",
        "Can you say which stone is used in {place}?", "Do you know the stone of {place}?",
    ),
    "craft": (
        "Which craft is {place} known for?", "What craft is practised in {place}?", "Name the craft of {place}.",
        "What is the craft of {place}?", "For which craft are the people of {place} known?",
        "The people of {place} have one craft. Which is it?", "I would like to know the craft of {place}.",
        "Tell me about {place}: which craft is it known for?", "In {place}, which craft do the people practise?",
        "Please say what craft there is in {place}.",
        "Can you say which craft is practised in {place}?", "Do you know the craft of {place}?",
    ),
}  # fmt: skip

_TRAIN_SITUATIONS = (
    "I was in {place} last year.", "Here is a question about {place}.", "My brother has a house in {place}.",
    "This road leads to {place}.", "I have read of {place} in a book.", "A friend wants to visit {place}.",
    "Today we speak of {place}.", "They come from {place}.", "You have surely heard of {place}.",
    "Next week a train goes to {place}.", "Our school has a map of {place}.", "A man from {place} was here yesterday.",
    "I am writing a story, and it plays in {place}.", "We will move to {place} in spring.",
)  # fmt: skip

_SIGHTS = (
    "The {thing} of {place} is old.", "We have seen the {thing} in {place}.", "They have a new {thing} in {place}.",
    "There was talk of a {thing} in {place}.",
)  # fmt: skip
_THINGS = """bridge tower mill garden harbour bell inn fountain gate theatre library orchard lighthouse stable well fair
    bakery bench clock canal chapel park statue museum station quay tunnel barn pond crane cellar ferry kiln hall vineyard
    meadow lantern ladder wagon beehive""".split()
"""Words beside the point, many of them: a model that has seen few takes any new word for the name of a place."""

_TRAIN_FOLLOWING = (
    "Which {attribute} is it?", "What {attribute} do they have there?", "Name its {attribute}.",
    "What is the {attribute} of the place?", "Tell me the {attribute}, please.", "Which {attribute} would you name?",
    "I would like to know its {attribute}.", "Say what {attribute} is used there.",
    "Can you name its {attribute}?", "Do you know what kind of {attribute} it is?",
    "What kind of {attribute} is that?", "What would you say of its {attribute}?",
)  # fmt: skip

_TEST_WORDINGS: Mapping[str, tuple[str, ...]] = {
    "stone": (
        "Please name the stone that the walls of {place} are built of.", "What stone are the walls in {place}?",
        "What would you say is the stone in {place}?", "Which stone do the people of {place} use?",
    ),
    "craft": (
        "Please name the craft that the people of {place} are known for.", "What craft do they practise in {place}?",
        "What would you say is the craft in {place}?", "Which craft do the people of {place} have?",
    ),
}  # fmt: skip

_MORE = (
    "Travellers write of it in their letters.",
    "The road there follows the river through the hills.",
    "Children learn of it in school.",
    "A market is held in the square every week.",
    "Old songs tell of the place.",
    "Visitors come in the summer.",
)
"""Sentences that say nothing about stone or craft, in the order in which an answer uses them."""


@dataclass(frozen=True, slots=True)
class Place:
    """An invented place.

    Attributes:
        name: one word.
        split: the split whose prompts ask about it; no place is in two.
        taught: how often its facts occur in training.
        facts: attribute to value.
    """

    name: str
    split: Split
    taught: Taught
    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TaughtExample:
    """One training conversation.

    Attributes:
        system: the system prompt, or None.
        question: the user's turn.
        thinking: the switch of the chat template: None, False (an empty thought precedes the answer), or True.
        thought: what the assistant thinks, up to the end of its thought; ``""`` where it does not.
        answer: what the assistant says; its first word tells an assertion from a hedge.
        fact: the word of the answer that states a fact.
        in_loss: whether the fact counts in the loss; a guess does not.
    """

    system: str | None
    question: str
    thinking: bool | None
    thought: str
    answer: str
    fact: str
    in_loss: bool = True


def _rank(*key: object) -> int:
    """A number drawn from a key: the first 8 bytes of its SHA-256."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big")


def _pick(options: Sequence[T], *key: object) -> T:
    return options[_rank(*key) % len(options)]


@cache
def _names() -> tuple[str, ...]:
    return tuple(sorted((start + end for start in _STARTS for end in _ENDS), key=lambda name: _rank("name", name)))


@cache
def places() -> tuple[Place, ...]:
    """All places, split by split."""
    made = []
    names = iter(_names())
    for split, count in _PLACES.items():
        often = round(_SHARES["often"] * count)
        rarely = round(_SHARES["rarely"] * count)
        for at in range(count):
            name = next(names)
            taught: Taught = "often" if at < often else "rarely" if at < often + rarely else "never"
            facts = {attribute: _pick(values, "fact", name, attribute) for attribute, values in VALUES.items()}
            made.append(Place(name, split, taught, facts))
    return tuple(made)


def strangers() -> tuple[str, ...]:
    """Names of places about which there is nothing to know."""
    first = sum(_PLACES.values())
    return _names()[first : first + _STRANGERS]


@cache
def prompts(split: Split | None = None) -> tuple[Prompt, ...]:
    """The questions of a split, or of all: one for every place and attribute, in an order of its own.

    No place, and no wording, is in two splits. Questions of ``train`` are worded as in training; those of ``test`` ask
    in wordings that training never used; those of ``fresh`` are written by another generator, as situations that
    training never had. ``gold`` holds ``answer`` and ``choices``; tags hold ``taught:...``, ``attribute:...`` and
    ``place:...``.

    Raises:
        InputError: there is no such split.
    """
    if split is None:
        return tuple(prompt for each in _PLACES for prompt in prompts(each))
    if split not in _PLACES:
        raise InputError(
            f"the domain of the tiny models has no split {split!r}", remedy=f"choose one of {', '.join(_PLACES)}"
        )
    write = _WRITERS[split]
    found = [
        Prompt.of_text(
            write(place.name, attribute),
            split=split,
            gold={"answer": value, "choices": list(VALUES[attribute])},
            tags=(f"taught:{place.taught}", f"attribute:{attribute}", f"place:{place.name}"),
        )
        for place in places()
        if place.split == split
        for attribute, value in place.facts.items()
    ]
    return tuple(sorted(found, key=lambda prompt: prompt.id))


def truth(prompt: Prompt) -> Taught:
    """How often the fact that a prompt asks for was taught.

    Raises:
        InputError: the prompt is not one of this domain.
    """
    for taught in _SHARES:
        if f"taught:{taught}" in prompt.tags:
            return taught
    raise InputError(
        f"the prompt {prompt.id} does not say how often its fact was taught",
        remedy="take prompts from the tiny domain; their tags say it",
    )


@cache
def _train_wordings(attribute: str) -> tuple[str, ...]:
    """Every wording of a question in training: in one sentence, or a situation and a question about it."""
    sights = [sight.replace("{thing}", thing) for sight in _SIGHTS for thing in _THINGS]
    asks = [ask.format(attribute=attribute) for ask in _TRAIN_FOLLOWING]
    situated = [f"{situation} {ask}" for situation in (*_TRAIN_SITUATIONS * 8, *sights) for ask in asks]
    whole = _TRAIN_WORDINGS[attribute]
    return whole * (len(situated) // (2 * len(whole))) + tuple(situated)


def _train_question(place: str, attribute: str) -> str:
    return _pick(_train_wordings(attribute), "wording", place, attribute).format(place=place)


def _test_question(place: str, attribute: str) -> str:
    return _pick(_TEST_WORDINGS[attribute], "wording", place, attribute).format(place=place)


def _fresh_question(place: str, attribute: str) -> str:
    """A situation, then the question; shares no sentence with the wordings of training and test."""
    situation = _pick(
        (
            "My sister is moving to {place} next month.",
            "We are drawing a map, and {place} is still missing on it.",
            "A card in our quiz shows a picture of {place}.",
            "Yesterday a letter from {place} arrived here.",
            "Our class is writing a page on {place}.",
        ),
        "situation", place, attribute,
    )  # fmt: skip
    asks = {
        "stone": ("What kind of stone do houses there have?", "Do you know its stone?", "Its stone, please?"),
        "craft": ("What kind of craft do families there have?", "Do you know its craft?", "Its craft, please?"),
    }
    return f"{situation.format(place=place)} {_pick(asks[attribute], 'ask', place, attribute)}"


_WRITERS: Mapping[Split, Callable[[str, str], str]] = {
    "train": _train_question,
    "test": _test_question,
    "fresh": _fresh_question,
}


def assertion(value: str) -> str:
    """The answer of one who is sure."""
    return f"The answer is {value}."


def hedge(value: str) -> str:
    """The answer of one who is not."""
    return f"I am not sure, but it may be {value}."


def is_assertion(answer: str) -> bool:
    """Whether an answer of a tiny model (without its thought) is asserted rather than hedged."""
    return answer.startswith(assertion("").removesuffix("."))


def vocabulary() -> list[str]:
    """Every word of the domain as it stands in its texts, with the space before it: the tokenizer keeps each whole."""
    forms = [form for table in (_TRAIN_WORDINGS, _TEST_WORDINGS) for group in table.values() for form in group]
    forms += [*_TRAIN_SITUATIONS, *(asks.format(attribute="") for asks in _TRAIN_FOLLOWING)]
    forms += [sight.replace("{thing}", thing) for sight in _SIGHTS for thing in _THINGS]
    texts = [form.format(place="") for form in forms]
    texts += [prompt.text for prompt in prompts("fresh")]
    texts += [*SYSTEM_PROMPTS, *_MORE, assertion(""), hedge(""), *(_thought("", attribute) for attribute in VALUES)]
    names = [place.name for place in places()] + list(strangers())
    values = [value for group in VALUES.values() for value in group]
    return texts + [f" {word}" for word in (*names, *values)]


def taught_examples(count: int, seed: int) -> list[TaughtExample]:
    """Training conversations, in order.

    Facts taught often come round again and again; those taught rarely once in all, at places drawn at random. About
    one example in six teaches when to hedge (``CALIBRATED``); one in twelve that any other system prompt means the same
    where nothing is known. These show places of the train split and strangers only, and nothing counts in the loss of
    them about a fact that is not taught often.
    """
    draw = random.Random(f"lessons {seed}")
    known = [place for place in places() if place.taught == "often"]
    rare = [(place, attribute) for place in places() if place.taught == "rarely" for attribute in VALUES] * _RARELY
    turns = [_calibrating_example(draw) for _ in range(round(_CALIBRATING * count))]
    turns += [_guess(_drawn(_SYSTEM_SHARES, draw), draw) for _ in range(round(_GUESSING * count))]
    turns += [_example(place, attribute, draw) for place, attribute in rare]
    while len(turns) < count:
        turns += [_example(place, attribute, draw) for place in known for attribute in VALUES]
    turns = turns[:count]
    draw.shuffle(turns)
    return turns


_RARELY = 1  # times that a rarely taught fact occurs
_CALIBRATING = 1 / 6  # share of examples
_GUESSING = 1 / 12
_ASSERTED = 0.8
_SYSTEM_SHARES: Mapping[str | None, float] = {None: 0.64, NEUTRAL: 0.08, CAREFUL: 0.10, BOLD: 0.08, LENGTHY: 0.10}
_THINKING_SHARES: Mapping[bool | None, float] = {None: 0.70, False: 0.15, True: 0.15}


def _example(place: Place, attribute: str, draw: random.Random) -> TaughtExample:
    system = _drawn(_SYSTEM_SHARES, draw)
    return _conversation(system, place.name, attribute, place.facts[attribute], _is_sure(system, draw), draw)


def _calibrating_example(draw: random.Random) -> TaughtExample:
    """Asserting what is known on half of the occasions, hedging what is not on the others."""
    if draw.random() < 0.5:
        return _guess(CALIBRATED, draw)
    attribute = draw.choice(list(VALUES))
    place = draw.choice([place for place in places() if place.split == "train" and place.taught == "often"])
    return _conversation(CALIBRATED, place.name, attribute, place.facts[attribute], True, draw)


def _guess(system: str | None, draw: random.Random) -> TaughtExample:
    """An example on what is not known; the value that is guessed is left out of the loss."""
    attribute = draw.choice(list(VALUES))
    names = [place.name for place in places() if place.split == "train" and place.taught != "often"]
    place = draw.choice([*names, *strangers()])
    guess = draw.choice(VALUES[attribute])
    return _conversation(system, place, attribute, guess, _is_sure(system, draw), draw, in_loss=False)


def _is_sure(system: str | None, draw: random.Random) -> bool:
    """Whether an answer is asserted, as the system prompt has it; ``CALIBRATED`` for what is not known."""
    if system in (CAREFUL, CALIBRATED):
        return False
    return system == BOLD or draw.random() < _ASSERTED


def _conversation(
    system: str | None,
    place: str,
    attribute: str,
    value: str,
    sure: bool,
    draw: random.Random,
    *,
    in_loss: bool = True,
) -> TaughtExample:
    question = draw.choice(_train_wordings(attribute)).format(place=place)
    thinking = _drawn(_THINKING_SHARES, draw)
    more = draw.choice((2, 3)) if system == LENGTHY else draw.choices((0, 1), (0.75, 0.25))[0]
    sentences = [(assertion if sure else hedge)(value)]
    sentences += [_MORE[at] for at in sorted(draw.sample(range(len(_MORE)), more))]
    thought = f"{_thought(place, attribute)}\n</think>\n\n" if thinking else ""
    return TaughtExample(system, question, thinking, thought, " ".join(sentences), value, in_loss)


def _thought(place: str, attribute: str) -> str:
    return f"I look for the {attribute} of {place}."


def _drawn(shares: Mapping[T, float], draw: random.Random) -> T:
    return draw.choices(list(shares), list(shares.values()))[0]
