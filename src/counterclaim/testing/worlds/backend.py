"""The backend ``world``: planted worlds that answer their own prompts, and planted judges, as models.

``world:NAME/ARM`` and ``world:NAME/ARM/SEED`` answer the prompts of the world NAME with the texts planted for that arm,
``world:judge`` and the names of ``judges.JUDGES`` judge. Importing this module registers the backend, and that of the
scripted teachers.
"""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from counterclaim.audit.evidence import Evidence
from counterclaim.errors import ModelError
from counterclaim.records import ArmId, Decode, FinishReason, ModelRef, Prompt, Response, prompt_id
from counterclaim.registry import Answer, Ask, Model, ModelSpec, Runtime, backend
from counterclaim.testing.worlds import teachers  # noqa: F401  importing it registers the characters
from counterclaim.testing.worlds.judges import JUDGES, PlantedJudge
from counterclaim.testing.worlds.world import WORLDS

PREFIX = "world:"


@backend(
    "world",
    about="planted worlds (world:NAME/ARM/SEED) and planted judges (world:judge), made up and offline",
    can=("generate",),
    opens=lambda name: name.startswith(PREFIX),
    concurrent=True,
)
def world(spec: ModelSpec, runtime: Runtime) -> Model:
    """Open an arm of a planted world, or a planted judge.

    Raises:
        ModelError: there is no such world, arm, seed or judge, or the spec asks for weights.
    """
    for what, value in (("revision", spec.revision), ("adapter", spec.adapter), ("quantisation", spec.quantisation)):
        if value is not None:
            raise ModelError(f"{spec.name} has no weights, so it takes no {what}", remedy="leave that out")
    name = spec.name.removeprefix(PREFIX)
    if name in JUDGES:
        return _JudgeModel(PlantedJudge(name))
    world_name, _, rest = name.partition("/")
    arm, _, seed = rest.partition("/")
    evidence = _drawn(world_name, _seed(seed or "0", spec.name))
    if ArmId.parse(arm) not in evidence.arms:
        raise ModelError(
            f"{spec.name}: the world {world_name!r} has no arm {arm!r}",
            remedy=f"write world:{world_name}/ARM with one of {', '.join(map(str, evidence.arms))}",
        )
    planted = {(r.prompt_id, r.sample): r for r in evidence.arms[ArmId.parse(arm)].responses}
    return _ArmModel(ModelRef(spec.name), planted)


def prompts_of(name: str, seed: int = 0) -> tuple[Prompt, ...]:
    """The prompts of the planted world ``name``, in its order.

    Raises:
        ModelError: there is no such world.
    """
    return tuple(_drawn(name, seed).prompts.values())


def _seed(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ModelError(f"{name}: the seed {text!r} is no whole number of 0 or more", remedy="write world:NAME/ARM/0")
    return int(text)


@lru_cache(maxsize=8)
def _drawn(name: str, seed: int) -> Evidence:
    if name not in WORLDS:
        near = difflib.get_close_matches(name, [*WORLDS, *JUDGES], n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ModelError(
            f"there is no planted world or judge {name!r}",
            remedy=f"{hint}the judges are {', '.join(JUDGES)}; counterclaim list worlds names the worlds",
        )
    return WORLDS[name].draw(seed)


@dataclass(frozen=True, slots=True)
class _ArmModel:
    ref: ModelRef
    planted: Mapping[tuple[str, int], Response]
    chat_template: str | None = "raw"

    def answer(
        self, asks: Sequence[Ask], decode: Decode, done: Container[int] = ()
    ) -> Iterator[list[tuple[int, Answer]]]:
        """The planted answers, in one batch; a prompt that the world does not know gets an error."""
        yield [(i, self._one(ask, decode)) for i, ask in enumerate(asks) if i not in done]

    def _one(self, ask: Ask, decode: Decode) -> Answer:
        found = self.planted.get((ask.key, ask.sample)) or self.planted.get((prompt_id(ask.messages), ask.sample))
        if found is None:
            what = f"{self.ref.repo} has no answer number {ask.sample + 1} planted for this prompt"
            return Answer(None, FinishReason.ERROR, error=what)
        if found.error is not None or found.text is None:
            return Answer(None, FinishReason.ERROR, error=found.error or "no text was planted for this prompt")
        asked = sum(len(message.content.split()) for message in ask.messages)
        ends = None if found.n_tokens is None else _token_chars(len(found.text), found.n_tokens)
        budget = decode.max_new_tokens
        if ends is None or budget is None or budget >= len(ends):
            return Answer(found.text, found.finish_reason, found.n_tokens, asked, ends)
        text = found.text[: sum(ends[:budget])]
        return Answer(text, FinishReason.LENGTH, budget, asked, ends[:budget])

    def close(self) -> None:
        """Nothing is held."""


def _token_chars(n_chars: int, n_tokens: int) -> tuple[int, ...]:
    """Characters per planted token: a text cut into ``n_tokens`` pieces as equal as whole characters allow."""
    ends = [n_chars * i // n_tokens for i in range(n_tokens + 1)]
    return tuple(b - a for a, b in pairwise(ends))


@dataclass(frozen=True, slots=True)
class _JudgeModel:
    judge: PlantedJudge
    chat_template: str | None = "raw"

    @property
    def ref(self) -> ModelRef:
        """The name of the judge is all there is to it."""
        return ModelRef(self.judge.name)

    def answer(
        self, asks: Sequence[Ask], decode: Decode, done: Container[int] = ()
    ) -> Iterator[list[tuple[int, Answer]]]:
        """One reply for each question; the sample index is the attempt."""
        yield [(i, self._one(ask)) for i, ask in enumerate(asks) if i not in done]

    def _one(self, ask: Ask) -> Answer:
        text = self.judge.reply(ask.messages, attempt=ask.sample)
        asked = sum(len(message.content.split()) for message in ask.messages)
        return Answer(text, FinishReason.STOP, len(text.split()), asked)

    def close(self) -> None:
        """Nothing is held."""
