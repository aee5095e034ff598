"""What a backend is: something that opens a model by name and gets answers from it.

A backend is a function from a ``ModelSpec`` and a ``Runtime`` to a ``Model``. The spec holds what can change an answer,
the runtime what can only change its price and speed.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Literal, Protocol

from counterclaim.errors import InputError
from counterclaim.records import Decode, FinishReason, Message, ModelRef
from counterclaim.registry._checks import check_name

Capability = Literal["generate", "logprobs", "activations", "edit", "train"]


@dataclass(frozen=True, slots=True)
class Applied:
    """What an operator has fitted, laid over a model by a dose.

    Attributes:
        operator: name of the operator.
        folder: what its ``fit`` has left, with its card.
        dose: 0 is the model without it, 1 the whole of it.
    """

    operator: str
    folder: Path
    dose: float = 1.0


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Which model answers: everything about it that can change an answer.

    Attributes:
        name: a hub repository or a folder, ``tiny:NAME``, ``world:NAME``, or ``URL#model`` of an OpenAI-compatible
            endpoint.
        revision: commit, branch or tag of a repository.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        quantisation: ``4bit`` or None.
        adapter: folder of a PEFT adapter laid over the model.
        chat_template: file with a chat template (Jinja) instead of the model's own.
        raw: put the text of the prompt to the model as it is, without a chat template.
        dose: by how much the adapter is scaled: 1 as it was trained, 0.5 half of it, 0 the model without it.
        applied: an inference-time operator laid over the model with its adapter; backends open the model without it.
    """

    name: str
    revision: str | None = None
    dtype: str = "auto"
    quantisation: Literal["4bit"] | None = None
    adapter: Path | None = None
    chat_template: Path | None = None
    raw: bool = False
    dose: float = 1.0
    applied: Applied | None = None


@dataclass(slots=True)
class Ledger:
    """What endpoints have billed so far, over all models of one run: arms and judge share the budget.

    Attributes:
        tokens: prompt and answer together.
        cost: in the currency of the prices.
    """

    tokens: int = 0
    cost: float = 0.0
    _lock: Lock = field(default_factory=Lock, repr=False)

    def add(self, tokens: int, cost: float) -> None:
        """Count a bill; safe with threads."""
        with self._lock:
            self.tokens += tokens
            self.cost += cost


@dataclass(frozen=True, slots=True)
class Runtime:
    """How a model is run: nothing here may change an answer.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        batch_size: rows per batch; chosen from the memory at hand when None.
        concurrency: requests under way at once, for endpoints.
        timeout_s: seconds before a request counts as failed.
        most_tokens: stop cleanly when endpoints have billed this many tokens (prompt and answer together).
        most_cost: stop cleanly when endpoints have billed this much, in the currency of the prices.
        price_in: price of a million prompt tokens.
        price_out: price of a million answered tokens.
        cache: file of kept replies; the user's own cache folder when None.
        use_cache: whether kept replies may be used and kept.
        token_ends: ask an endpoint where its tokens end, so that smaller budgets can be cut from one answer.
        progress: told of tokens as they are made, where the backend can.
        ledger: what was billed so far; copies of a runtime share it.
    """

    device: str = "auto"
    batch_size: int | None = None
    concurrency: int = 8
    timeout_s: float = 120.0
    most_tokens: int | None = None
    most_cost: float | None = None
    price_in: float = 0.0
    price_out: float = 0.0
    cache: Path | None = None
    use_cache: bool = True
    token_ends: bool = False
    progress: Callable[[int], None] | None = None
    ledger: Ledger = field(default_factory=Ledger, compare=False)


@dataclass(frozen=True, slots=True)
class Ask:
    """One answer that is wanted.

    Attributes:
        key: what names the row's own random numbers, together with ``Decode.seed`` and ``sample``: the prompt's id.
            Arms of one experiment use equal keys, so they share their random numbers.
        messages: the whole conversation, system prompt included.
        sample: 0-based index among the answers to this prompt.
        applied: what is laid over the model for this row alone, by an operator that works ``by_row``; rows of one batch may
            differ in it.
    """

    key: str
    messages: tuple[Message, ...]
    sample: int = 0
    applied: Applied | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model returned for one ``Ask``.

    Attributes:
        text: the answer without special tokens; None where there is none.
        finish_reason: never ``unknown``, unless an endpoint does not say.
        n_tokens: generated tokens, the end-of-turn token included.
        prompt_tokens: tokens of the prompt as the model saw it.
        token_chars: how many characters of ``text`` each generated token added; their sum is ``len(text)``.
        error: what went wrong, exactly when ``finish_reason`` is ``error``.
    """

    text: str | None
    finish_reason: FinishReason
    n_tokens: int | None = None
    prompt_tokens: int | None = None
    token_chars: tuple[int, ...] | None = None
    error: str | None = None


class Model(Protocol):
    """An opened model."""

    @property
    def ref(self) -> ModelRef:
        """Its fingerprint, kept with every answer."""

    @property
    def chat_template(self) -> str | None:
        """Hash of the chat template in use (16 hex digits), ``raw`` where there is none, None where unknown."""

    def answer(
        self, asks: Sequence[Ask], decode: Decode, done: Container[int] = ()
    ) -> Iterator[list[tuple[int, Answer]]]:
        """Answers in finished batches, as (index in ``asks``, answer).

        How rows are batched depends on ``asks`` and not on ``done``, so that a resumed run batches as the first did.

        Args:
            asks: everything that is wanted.
            decode: how to sample; ``decode.system_prompt`` is in the messages already.
            done: indices that need no answer any more.

        Raises:
            ModelError: nothing can be answered at all (the message says why and what to do).
            BudgetSpent: the token or money budget of the runtime is used up; answers given so far stand.
        """

    def close(self) -> None:
        """Give back memory, files and connections."""


@dataclass(frozen=True, slots=True)
class Backend:
    """A registered backend.

    Attributes:
        name: how it is listed.
        about: which models it opens, in one sentence.
        can: what it can do; a study that needs more is refused before any model is loaded.
        opens: whether a model of this name is its own.
        open: opens a model.
        concurrent: whether several threads may ask one opened model at once.
    """

    name: str
    about: str
    can: frozenset[Capability]
    opens: Callable[[str], bool]
    open: Callable[[ModelSpec, Runtime], Model]
    concurrent: bool = False


_BACKENDS: dict[str, Backend] = {}


def backend(
    name: str,
    *,
    about: str,
    can: tuple[Capability, ...],
    opens: Callable[[str], bool],
    concurrent: bool = False,
) -> Callable[[Callable[[ModelSpec, Runtime], Model]], Backend]:
    """Register a function that opens models as a backend.

    Raises:
        RegistryError: the name is malformed or taken.
    """

    def register(function: Callable[[ModelSpec, Runtime], Model]) -> Backend:
        check_name("backend", name, _BACKENDS)
        made = Backend(name, about, frozenset(can), opens, function, concurrent)
        _BACKENDS[name] = made
        return made

    return register


def backends() -> Mapping[str, Backend]:
    """All registered backends by name."""
    return dict(_BACKENDS)


def backend_of(model: str) -> Backend:
    """The backend that opens a model of this name; one that was registered for a scheme goes before the general one.

    Raises:
        InputError: none does.
    """
    mine = [made for made in _BACKENDS.values() if made.opens(model)]
    if not mine:
        raise InputError(
            f"no backend opens a model named {model!r}", remedy="name a repository, a folder, tiny:NAME or URL#model"
        )
    return min(mine, key=lambda made: made.name == "hf")  # hf opens any name
