"""What a scorer is: something that reads one or more scores off an answer, and has shown that it can.

A scorer declares what it can return and its known-answer cards. A label without a card is refused when the
scorer is registered; a scorer that fails its cards cannot score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from counterclaim.errors import InputError, RecordError, RegistryError
from counterclaim.records import Json, Message, Prompt, Response

Need = Literal["judge", "sandbox", "oracle", "answer", "checklist", "tests"]
"""What a scorer cannot do without: a judge model, a sandbox, a scorer that says right or wrong, or gold."""
GOLD_KEYS: Mapping[Need, tuple[str, ...]] = {
    "answer": ("answer",), "checklist": ("checklist",), "tests": ("tests", "test", "test_list"),
}  # fmt: skip
"""Needs that are gold, and the keys of a prompt's gold under which each may stand."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read off one answer on one axis; exactly one of ``value`` and ``unscored``.

    Attributes:
        axis: ``correct``, ``delivery``, ``coverage``, ``revised``, ``score.NAME`` or ``label.NAME``.
        value: a number or a label.
        unscored: why there is none.
        evidence: the judge's raw reply, or what the program printed.
    """

    axis: str
    value: float | str | None = None
    unscored: str | None = None
    evidence: str | None = None

    def __post_init__(self) -> None:
        if (self.value is None) == (self.unscored is None):
            raise RecordError("a reading has exactly one of a value and a reason why there is none")


@dataclass(frozen=True, slots=True)
class Range:
    """A numeric axis: every value lies in [low, high]; None where there is no bound."""

    low: float | None = 0.0
    high: float | None = 1.0


@dataclass(frozen=True, slots=True)
class Item:
    """One answer to be scored.

    Attributes:
        prompt: the question with its gold.
        response: the answer.
        follow_up: the answer to the scorer's scripted next turn, where it has one.
    """

    prompt: Prompt
    response: Response
    follow_up: Response | None = None


class Judge(Protocol):
    """A model that judges."""

    @property
    def name(self) -> str:
        """The model behind it, as it appears in the scorer's name."""

    def reply(self, messages: Sequence[Message], schema: Mapping[str, Json] | None = None, *, attempt: int = 0) -> str:
        """The raw reply.

        Args:
            messages: what the judge sees; nothing in it says which arm answered.
            schema: JSON schema of the reply; held to by servers that can, and part of the messages for those that cannot.
            attempt: 0 for the first call; another number asks again rather than taking a kept reply.

        Raises:
            ModelError: there is no reply to be had.
        """


@dataclass(frozen=True, slots=True)
class Tools:
    """What a scorer may use besides the item.

    Attributes:
        judge: for scorers that need one.
        sandbox: a pool that runs programs (``sandbox.Pool``), for scorers that need one.
        oracle: reads ``correct`` off an answer with the scorer that the study chose for it.
    """

    judge: Judge | None = None
    sandbox: Any = None
    oracle: Callable[[Prompt, Response], Reading] | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """A known answer: a response of which nobody disputes what must be read.

    Attributes:
        prompt: the question with its gold.
        response: the answer.
        expects: axis to the value that must be read.
        follow_up: the answer to the scripted next turn.
        kind: what it tries: ``label``, ``padding``, ``position``, ``paraphrase``, ``orders``, ...
        tolerance: how far a number may be off.
    """

    prompt: Prompt
    response: str
    expects: Mapping[str, float | str]
    follow_up: str | None = None
    kind: str = "label"
    tolerance: float = 0.0


Read = Callable[[Item, Tools], list[Reading]]


@dataclass(frozen=True, slots=True)
class Scorer:
    """A registered scorer.

    Attributes:
        name: how it is called in ``--with``.
        version: changes whenever a value could.
        about: what it reads, in one sentence.
        axes: axis to its labels, or to the range of its numbers.
        read: the function; it returns at most one reading per axis.
        cards: known answers; every label has one, every numeric axis two that differ.
        needs: what it cannot do without.
        measures: ``form`` (what the answer sounds like) or ``function`` (what it does).
        disposition: which of the seven dispositions it is about, or None.
        follow_up: the scripted next turn that is put to the model after its answer, or None.
        prompt: the judge's instructions; their hash is part of the scorer's full name.
    """

    name: str
    version: str
    about: str
    axes: Mapping[str, tuple[str, ...] | Range]
    read: Read
    cards: tuple[Card, ...]
    needs: frozenset[Need] = frozenset()
    measures: Literal["form", "function"] = "function"
    disposition: str | None = None
    follow_up: str | None = None
    prompt: str = ""

    def __post_init__(self) -> None:
        if not self.axes:
            raise RegistryError(f"scorer {self.name!r} reads no axis")
        for axis, allowed in self.axes.items():
            seen = {card.expects[axis] for card in self.cards if axis in card.expects}
            if isinstance(allowed, Range):
                if len(seen) < 2:
                    raise RegistryError(f"scorer {self.name!r} has no two cards that differ on {axis}")
                continue
            if missing := [label for label in allowed if label not in seen]:
                raise RegistryError(f"scorer {self.name!r} has no card for the label {missing[0]!r} of {axis}")
            if strange := sorted(str(label) for label in seen if label not in allowed):
                raise RegistryError(f"a card of scorer {self.name!r} expects {strange[0]!r}, no label of {axis}")


_SCORERS: dict[str, Scorer] = {}


def register(made: Scorer) -> Scorer:
    """Make a scorer known by its name.

    Raises:
        RegistryError: the name is taken.
    """
    if made.name in _SCORERS:
        raise RegistryError(f"a scorer named {made.name!r} is registered already")
    _SCORERS[made.name] = made
    return made


def scorer(
    name: str,
    *,
    version: str,
    about: str,
    axes: Mapping[str, tuple[str, ...] | Range],
    cards: Sequence[Card],
    needs: Sequence[Need] = (),
    measures: Literal["form", "function"] = "function",
    disposition: str | None = None,
    follow_up: str | None = None,
    prompt: str = "",
) -> Callable[[Read], Scorer]:
    """Register a function as a scorer; arguments are those of ``Scorer``.

    Raises:
        RegistryError: the name is taken, or a label has no card.
    """

    def made(read: Read) -> Scorer:
        return register(
            Scorer(
                name,
                version,
                about,
                axes,
                read,
                tuple(cards),
                frozenset(needs),
                measures,
                disposition,
                follow_up,
                prompt,
            )
        )

    return made


def scorers() -> Mapping[str, Scorer]:
    """All registered scorers by name."""
    return dict(_SCORERS)


def scorer_named(name: str) -> Scorer:
    """A registered scorer.

    Raises:
        InputError: there is none of this name.
    """
    if name not in _SCORERS:
        raise InputError(f"there is no scorer {name!r}", remedy=f"choose among {', '.join(sorted(_SCORERS)) or 'none'}")
    return _SCORERS[name]
