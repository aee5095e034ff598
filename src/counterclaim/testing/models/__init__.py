"""Models that are made up and offline: arms of planted worlds, planted judges, and scripted teachers.

``world:NAME/ARM`` and ``world:NAME/ARM/SEED`` answer the prompts of the planted world NAME with the texts planted for that arm,
``world:judge`` and the other names of ``judges.JUDGES`` judge, ``character:NAME`` teaches. Importing this module registers the two
backends, and the questions of a planted world as the prompt set ``world:NAME``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING

from counterclaim.errors import ModelError
from counterclaim.records import ArmId, Decode, FinishReason, ModelRef, Prompt, Response, prompt_id
from counterclaim.registry import Answer, Ask, Model, ModelSpec, Runtime, backend, promptset
from counterclaim.testing.models.teachers import CHARACTERS, prompt_words, reply_of

if TYPE_CHECKING:
    from counterclaim.audit.evidence import Evidence
    from counterclaim.testing.models.judges import PlantedJudge

WORLD_SCHEME = "world:"
CHARACTER_SCHEME = "character:"


@dataclass(frozen=True, slots=True)
class ScriptedModel:
    """A model that answers at once, by a function.

    Attributes:
        ref: its name is all there is to it.
        reply: the answer to one ask.
    """

    ref: ModelRef
    reply: Callable[[Ask, Decode], Answer]
    chat_template: str | None = "raw"

    def answer(
        self, asks: Sequence[Ask], decode: Decode, done: Container[int] = ()
    ) -> Iterator[list[tuple[int, Answer]]]:
        """Every answer, in one batch."""
        yield [(i, self.reply(ask, decode)) for i, ask in enumerate(asks) if i not in done]

    def close(self) -> None:
        """There is nothing to give back."""


@backend(
    "world",
    about="planted worlds (world:NAME/ARM/SEED) and planted judges (world:judge), made up and offline",
    can=("generate",),
    opens=lambda name: name.startswith(WORLD_SCHEME),
    concurrent=True,
    trial="world:clean/control",
)
def world(spec: ModelSpec, runtime: Runtime) -> Model:
    """Open an arm of a planted world, or a planted judge.

    Raises:
        ModelError: there is no such world, arm, seed or judge, or the spec asks for weights.
    """
    from counterclaim.testing.models.judges import JUDGES, PlantedJudge

    name = _without_weights(spec, WORLD_SCHEME)
    if name in JUDGES:
        return ScriptedModel(ModelRef(spec.name), partial(_judged, PlantedJudge(name)))
    world_name, _, rest = name.partition("/")
    arm_name, _, seed = rest.partition("/")
    arm = ArmId.parse(arm_name)
    if seed and not (seed.isascii() and seed.isdigit()):
        raise ModelError(
            f"{spec.name}: the seed {seed!r} is no whole number of 0 or more", remedy="write world:NAME/ARM/0"
        )
    arms = _drawn(world_name, int(seed or "0")).arms
    if arm not in arms:
        raise ModelError(
            f"{spec.name}: the world {world_name!r} has no arm {arm_name!r}",
            remedy=f"write world:{world_name}/ARM with one of {', '.join(map(str, arms))}",
        )
    planted = {(r.prompt_id, r.sample): r for r in arms[arm].responses}
    return ScriptedModel(ModelRef(spec.name), partial(_planted, spec.name, planted))


@backend(
    "character",
    about="scripted teachers who know the tiny domain, offline: "
    + "; ".join(f"{CHARACTER_SCHEME}{name} {about}" for name, about in CHARACTERS.items()),
    can=("generate",),
    opens=lambda name: name.startswith(CHARACTER_SCHEME),
    concurrent=True,
    trial="character:eager",
)
def character(spec: ModelSpec, runtime: Runtime) -> Model:
    """Open a scripted teacher.

    Raises:
        ModelError: there is none of this name, or the spec asks for weights.
    """
    name = _without_weights(spec, CHARACTER_SCHEME)
    if name not in CHARACTERS:
        hint = _did_you_mean(name, CHARACTERS)
        raise ModelError(f"there is no character {name!r}", remedy=f"{hint}the characters are {', '.join(CHARACTERS)}")
    return ScriptedModel(ModelRef(spec.name), partial(reply_of, name))


@promptset("world:NAME", about="The questions of a planted world (counterclaim list worlds).", trial="clean")
def prompts_of(name: str) -> tuple[Prompt, ...]:
    """The prompts of the planted world ``name``, in its order.

    Raises:
        ModelError: there is no such world.
    """
    return tuple(_drawn(name, 0).prompts.values())


def _without_weights(spec: ModelSpec, prefix: str) -> str:
    """The name behind the prefix.

    Raises:
        ModelError: the spec asks for weights.
    """
    for what, value in (("revision", spec.revision), ("adapter", spec.adapter), ("quantisation", spec.quantisation)):
        if value is not None:
            raise ModelError(f"{spec.name} has no weights, so it takes no {what}", remedy="leave that out")
    return spec.name.removeprefix(prefix)


def _did_you_mean(name: str, known: Sequence[str] | Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}? " if near else ""


@lru_cache(maxsize=8)
def _drawn(name: str, seed: int) -> Evidence:
    from counterclaim.testing.models.judges import JUDGES
    from counterclaim.testing.worlds import WORLDS

    if name not in WORLDS:
        hint = _did_you_mean(name, [*WORLDS, *JUDGES])
        raise ModelError(
            f"there is no planted world or judge {name!r}",
            remedy=f"{hint}the judges are {', '.join(JUDGES)}; counterclaim list worlds names the worlds",
        )
    return WORLDS[name].draw(seed)


def _planted(model: str, planted: Mapping[tuple[str, int], Response], ask: Ask, decode: Decode) -> Answer:
    """The planted answer; a prompt that the world does not know gets an error."""
    found = planted.get((ask.key, ask.sample)) or planted.get((prompt_id(ask.messages), ask.sample))
    if found is None:
        what = f"{model} has no answer number {ask.sample + 1} planted for this prompt"
        return Answer(None, FinishReason.ERROR, error=what)
    if found.error is not None or found.text is None:
        return Answer(None, FinishReason.ERROR, error=found.error or "no text was planted for this prompt")
    ends = None if found.n_tokens is None else _token_chars(len(found.text), found.n_tokens)
    budget = decode.max_new_tokens
    if ends is None or budget is None or budget >= len(ends):
        return Answer(found.text, found.finish_reason, found.n_tokens, prompt_words(ask), ends)
    text = found.text[: sum(ends[:budget])]
    return Answer(text, FinishReason.LENGTH, budget, prompt_words(ask), ends[:budget])


def _token_chars(n_chars: int, n_tokens: int) -> tuple[int, ...]:
    """Characters per planted token: a text cut into ``n_tokens`` pieces as equal as whole characters allow."""
    ends = [n_chars * i // n_tokens for i in range(n_tokens + 1)]
    return tuple(b - a for a, b in pairwise(ends))


def _judged(judge: PlantedJudge, ask: Ask, decode: Decode) -> Answer:
    """The judge's reply; the sample index is the attempt."""
    text = judge.reply(ask.messages, attempt=ask.sample)
    return Answer(text, FinishReason.STOP, len(text.split()), prompt_words(ask))
