"""What a model computes while it reads its own answers: hidden states and attention heads, at the tokens that are wanted.

One forward pass of the decoder per batch, without logits. Hooks take the wanted tokens out of each layer as it runs, so the
hidden states of all layers are never held together. Rows are padded on the right: under causal attention no token sees what
comes after it, so nothing has to be masked, and a row reads the same in any batch, up to the rounding that depends on shapes.

An answer is read as its text: the prompt as the model renders it, then the tokens of the text. The token with which the
model ended its turn is not part of it.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from jinja2 import TemplateError
from numpy.typing import NDArray
from torch import Tensor

from counterclaim.errors import ModelError
from counterclaim.lab.models.hf.batching import halves, plan
from counterclaim.lab.models.hf.devices import give_back, is_out_of_memory, threads_for
from counterclaim.lab.models.hf.model import HfModel
from counterclaim.lab.models.hf.sites import Site, core_of, heads_of, layers_with, place
from counterclaim.records import Message

Position = Literal["last", "mean", "prompt-end"]
Blocks = dict[str, NDArray[Any]]
Batch = tuple[list[int], Blocks]

H_LAST = "the residual stream after the last decoder layer and the final norm"
"""What ``layer "last"`` means; layer i is the output of decoder layer i, before the final norm."""

COUNT = "tokens/count"
"""Block that says how many response tokens each row of the ``tokens`` blocks holds."""

_MOST_TOKENS = {"cuda": 65_536, "mps": 8_192, "cpu": 8_192}  # of a batch; more are no faster, and need their memory


@dataclass(frozen=True, slots=True)
class Exchange:
    """A conversation and the answer that was given to it.

    Attributes:
        messages: the whole conversation, system prompt included.
        answer: the text of the answer.
        thinking: the chat template's thinking switch with which it was asked for; None left it alone.
    """

    messages: tuple[Message, ...]
    answer: str | None
    thinking: bool | None = None


@dataclass(frozen=True, slots=True)
class CaptureSpec:
    """What is to be read. Blocks have one row per answer, and are float32.

    Attributes:
        layers: decoder layers, or ``last`` for ``h_last``.
        positions: at which tokens each of them is read: ``last`` and ``mean`` of the response, ``prompt-end``. Blocks
            ``layer.12/last``, ``h_last/mean``, … of shape (width,); at another site ``layer.12/o_proj/last``.
        site: the residual stream after the layer, the input of its ``o_proj``, or the output of its ``v_proj`` or its MLP's
            ``down_proj``.
        head_norms: read the L2 norm of every head's slice of the input of ``o_proj``, averaged over that many last response
            tokens, in every layer that has one: blocks ``layer.12/head_norm`` (heads,). 0 leaves it out.
        head_means: the mean slice of every head over that many last response tokens: ``layer.12/head_mean`` (heads, head_dim).
        tokens: read each of that many last response tokens in ``layers``: blocks ``layer.12/tokens`` (tokens, width), in order,
            zeros where the response is shorter, and ``COUNT`` ().
    """

    layers: tuple[int | Literal["last"], ...] = ("last",)
    positions: tuple[Position, ...] = ("last",)
    site: Site = "residual"
    head_norms: int = 0
    head_means: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Activations:
    """What was read off several answers.

    Attributes:
        rows: which of the answers could be read, in their order.
        blocks: name to an array with one row for each of ``rows``.
        refused: why the others could not.
    """

    rows: tuple[int, ...]
    blocks: Blocks
    refused: Mapping[int, str]


class Capture:
    """A pass over answers, planned: which rows there are and in which batches they are read.

    Batches depend on the answers alone, so a pass that was interrupted gives the same numbers when it goes on.

    Args:
        model: an opened model, with whatever lies over it at the time when batches are read.
        exchanges: the answers.
        wanted: what to read.

    Attributes:
        rows: token ids of prompt and answer, and where the answer starts, of each answer that can be read.
        refused: answers that cannot be read, and why: no text, too long for the context, not for this chat template.
        n_tokens: tokens of the text of each answer that can be read.

    Raises:
        ModelError: the model has no such layer or site, or is built in a way that cannot be read.
    """

    def __init__(self, model: HfModel, exchanges: Sequence[Exchange], wanted: CaptureSpec) -> None:
        self._model = model
        self._core = core_to_read(model)
        self._wanted = wanted
        _check(model.network, wanted)
        self.rows, self.refused = _tokenised(model, exchanges)
        self.n_tokens = {index: len(tokens) - start for index, (tokens, start) in self.rows.items()}

    def planned(self) -> list[list[int]]:
        """The answers of each batch, longest first."""
        needs = self._model.needs
        room = min(needs.room, _MOST_TOKENS[self._model.device.type] * (needs.cached + needs.computed))
        return plan(self._lengths(), 0, replace(needs, room=room, row=0), self._model.batch_size)

    def _lengths(self) -> dict[int, int]:
        return {index: len(tokens) for index, (tokens, _) in self.rows.items()}

    def batches(self, done: Container[int] = ()) -> Iterator[Batch]:
        """Finished batches: indices of answers, and blocks with one row for each of them.

        A batch of which all rows are done is skipped; any other is read whole, and yields its other rows.

        Raises:
            ModelError: an answer does not fit into memory even alone, or the model computes no numbers for it.
        """
        lengths = self._lengths()
        too_large = math.inf
        for batch in self.planned():
            parts = [batch]
            while parts:
                part = parts.pop(0)
                if all(index in done for index in part):
                    continue
                size = len(part) * max(lengths[index] for index in part)
                blocks = None if len(part) > 1 and size >= too_large else self._read_if_it_fits(part)
                if blocks is None:
                    too_large = min(too_large, size)
                    parts[:0] = halves(part)
                    continue
                _check_numbers(part, blocks)
                new = [at for at, index in enumerate(part) if index not in done]
                yield [part[at] for at in new], {name: rows[new] for name, rows in blocks.items()}

    def _read_if_it_fits(self, part: list[int]) -> Blocks | None:
        """The blocks of a batch; None where it did not fit into memory and can be halved."""
        try:
            with threads_for(self._model.network, self._model.device):
                return self._read(part)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        gc.collect()  # only here does no exception hold the frames and their tensors
        give_back(self._model.device)
        if len(part) == 1:
            raise ModelError(
                f"an answer of {len(self.rows[part[0]][0]):,} tokens with its prompt does not fit into the memory of "
                f"{self._model.device}, even alone",
                remedy="leave it out, or use a device with more memory",
            )
        return None

    @torch.inference_mode()
    def _read(self, part: list[int]) -> Blocks:
        rows = [self.rows[index] for index in part]
        width = max(len(tokens) for tokens, _ in rows)
        device = self._model.device
        ids = torch.tensor([tokens + [self._model.pad] * (width - len(tokens)) for tokens, _ in rows], device=device)
        places = _Tokens(rows, width, self._wanted, device)
        found: dict[str, Tensor] = {}
        with ExitStack() as hooks:
            hooks.enter_context(self._model.responses_from([start - 1 for _, start in rows]))
            _hook(self._model.network, hooks, self._wanted, places, found)
            output = self._core(input_ids=ids, use_cache=False)
        if "last" in self._wanted.layers:
            places.take("h_last", self._wanted, found, output.last_hidden_state)
        if self._wanted.tokens:
            found[COUNT] = places.token_count
        return {name: value.cpu().numpy() for name, value in found.items()}


def read(
    model: HfModel, exchanges: Sequence[Exchange], wanted: CaptureSpec, watch: Callable[[int, int], None] | None = None
) -> Activations:
    """Everything that is wanted of all answers, in memory.

    Args:
        model: an opened model.
        exchanges: the answers.
        wanted: what to read.
        watch: called with how many answers are read, and how many there are.

    Raises:
        ModelError: the model cannot be read as wanted, or no answer can.
    """
    capture = Capture(model, exchanges, wanted)
    if exchanges and len(capture.refused) == len(exchanges):
        raise ModelError(f"none of the {len(exchanges)} answers can be read; the first: {capture.refused[0]}")
    rows: list[int] = []
    found: dict[str, list[NDArray[Any]]] = {}
    for indices, blocks in capture.batches():
        rows += indices
        for name, block in blocks.items():
            found.setdefault(name, []).append(block)
        if watch is not None:
            watch(len(rows), len(exchanges) - len(capture.refused))
    order = np.argsort(rows)
    joined = {name: np.concatenate(parts)[order] for name, parts in found.items()}
    return Activations(tuple(sorted(rows)), joined, capture.refused)


def core_to_read(model: HfModel) -> Any:
    """The decoder of an opened model, seen to do all that the model does but logits.

    Raises:
        ModelError: an adapter lies over it that works on prompts, or it is built in another way.
    """
    adapters = getattr(model.network, "peft_config", {})
    if any(getattr(config, "is_prompt_learning", False) for config in adapters.values()):
        raise ModelError("an adapter that learns prompts cannot be read", remedy="use a LoRA")
    return core_of(model.network)


def _check(network: Any, wanted: CaptureSpec) -> None:
    """Raise ModelError where something is wanted that the model does not have."""
    for layer in wanted.layers:
        if layer != "last":
            place(network, layer, wanted.site)
        elif wanted.site != "residual":
            raise ModelError(f"h_last has no {wanted.site}", remedy="name layers by their numbers")
    if (wanted.head_norms or wanted.head_means) and not layers_with(network, "o_proj"):
        raise ModelError(
            "no layer of this model has an o_proj, so there are no heads to read",
            remedy="use a model with softmax attention of which the output projection is called o_proj",
        )


def _hook(network: Any, hooks: ExitStack, wanted: CaptureSpec, tokens: _Tokens, found: dict[str, Tensor]) -> None:
    """Let every wanted place fill ``found`` while the decoder runs, until ``hooks`` is closed."""

    def on(layer: int, site: Site, take: Callable[[Tensor], None]) -> None:
        there = place(network, layer, site)
        if there.reads_input:
            hooks.callback(there.module.register_forward_pre_hook(lambda module, given: take(given[0])).remove)
        else:
            handle = there.module.register_forward_hook(
                lambda module, given, out: take(out[0] if isinstance(out, tuple) else out)
            )
            hooks.callback(handle.remove)

    if wanted.head_norms or wanted.head_means:
        for index in layers_with(network, "o_proj"):
            n_heads = heads_of(network, index)[0]
            on(index, "o_proj", partial(tokens.take_heads, f"layer.{index}", n_heads, wanted, found))
    for layer in wanted.layers:
        if layer != "last":
            name = f"layer.{layer}" if wanted.site == "residual" else f"layer.{layer}/{wanted.site}"
            on(layer, wanted.site, partial(tokens.take, name, wanted, found))


class _Tokens:
    """Where the wanted tokens of a batch are.

    Args:
        rows: token ids of each row, and where its response starts; at least one token of it.
        width: columns of the batch.
        wanted: what is read.
        device: of the batch.
    """

    def __init__(
        self, rows: Sequence[tuple[list[int], int]], width: int, wanted: CaptureSpec, device: torch.device
    ) -> None:
        start = torch.tensor([start for _, start in rows], device=device)
        self._ends = torch.tensor([len(tokens) for tokens, _ in rows], device=device)
        self._n = self._ends - start
        self._row = torch.arange(len(rows), device=device)
        self._prompt_end = start - 1
        column = torch.arange(width, device=device)
        inside = (column >= start[:, None]) & (column < self._ends[:, None])
        self._mean = (inside / self._n[:, None]).float()[:, None]  # (rows, 1, columns)
        self._window: dict[int, tuple[Tensor, Tensor]] = {
            n: self._last(n) for n in {wanted.head_norms, wanted.head_means, wanted.tokens} if n
        }
        self.token_count = self._n.clamp(max=wanted.tokens).to(torch.int32)

    def _last(self, n: int) -> tuple[Tensor, Tensor]:
        """Columns of the last n response tokens of each row, in order, and which of them there are: (rows, n) each."""
        n = min(n, int(self._n.max()))
        held = self._n.clamp(max=n)[:, None]
        step = torch.arange(n, device=held.device)
        return (self._ends[:, None] - held + step).clamp(max=int(self._ends.max()) - 1), step < held

    def take(self, name: str, wanted: CaptureSpec, found: dict[str, Tensor], states: Tensor) -> None:
        """Take what is wanted out of states (rows, columns, width)."""
        for position in wanted.positions:
            if position == "mean":
                taken = torch.bmm(self._mean, states.float())[:, 0]
            else:
                taken = states[self._row, self._ends - 1 if position == "last" else self._prompt_end].float()
            found[f"{name}/{position}"] = taken
        if wanted.tokens:
            columns, there = self._window[wanted.tokens]
            kept = torch.zeros(len(self._row), wanted.tokens, states.shape[-1], device=states.device)
            kept[:, : columns.shape[1]] = states[self._row[:, None], columns].float() * there[..., None]
            found[f"{name}/tokens"] = kept

    def take_heads(
        self, name: str, n_heads: int, wanted: CaptureSpec, found: dict[str, Tensor], states: Tensor
    ) -> None:
        """Take norms and means of heads out of the input of ``o_proj`` (rows, columns, heads × head_dim)."""
        for n, what in ((wanted.head_norms, "head_norm"), (wanted.head_means, "head_mean")):
            if not n:
                continue
            columns, there = self._window[n]
            kept = states[self._row[:, None], columns].float()
            slices = kept.view(*kept.shape[:2], n_heads, -1)
            share = there / there.sum(1, keepdim=True)
            taken = torch.linalg.vector_norm(slices, dim=-1) if what == "head_norm" else slices.flatten(2)
            mean = torch.bmm(share.float()[:, None], taken)[:, 0]
            found[f"{name}/{what}"] = mean if what == "head_norm" else mean.view(len(mean), n_heads, -1)


def _tokenised(
    model: HfModel, exchanges: Sequence[Exchange]
) -> tuple[dict[int, tuple[list[int], int]], dict[int, str]]:
    """Token ids of prompt and answer with the index at which the answer starts, of every answer that can be read; and why not."""
    prompts: dict[int, str] = {}
    refused: dict[int, str] = {}
    for index, one in enumerate(exchanges):
        if not one.answer:
            refused[index] = "the answer has no text"
            continue
        try:
            prompts[index] = model.rendered(one.messages, one.thinking)
        except (TemplateError, ValueError, TypeError) as error:
            refused[index] = f"the chat template does not take this conversation ({error})"
    alone_ids = model.encoded(list(prompts.values()))
    whole = model.encoded([prompt + (exchanges[index].answer or "") for index, prompt in prompts.items()])
    context = getattr(model.network.config.get_text_config(), "max_position_embeddings", None)
    rows: dict[int, tuple[list[int], int]] = {}
    for index, prompt, both in zip(prompts, alone_ids, whole, strict=True):
        tokens = both
        if both[: len(prompt)] != prompt:  # the two run together; the model was given the prompt's own tokens
            alone = model.tokenizer(exchanges[index].answer, add_special_tokens=False, verbose=False)["input_ids"]
            tokens = prompt + list(alone)
        if not prompt or len(tokens) == len(prompt):
            refused[index] = "the prompt has no tokens" if not prompt else "the answer has no tokens"
        elif context is not None and len(tokens) > context:
            refused[index] = (
                f"prompt and answer have {len(tokens):,} tokens, more than the {context:,} of the model's context"
            )
        else:
            rows[index] = (tokens, len(prompt))
    return rows, dict(sorted(refused.items()))


def _check_numbers(part: Sequence[int], blocks: Blocks) -> None:
    for name, rows in blocks.items():
        fine = np.isfinite(rows).reshape(len(rows), -1).all(axis=1)
        if not fine.all():
            raise ModelError(
                f"the model computed no numbers (NaN or infinity) at {name} for answer {part[int(np.argmin(fine))]}",
                remedy="load it with another dtype (float16 overflows where bfloat16 and float32 do not), or check its weights",
            )
