"""Reading activations side by side with the bare forward pass, with ``output_hidden_states`` and with nnsight.

One model with random weights, one set of conversations, and the last token of every layer with the norms of all heads to be
read. Sides take turns on one thread, and medians of processor time are compared, so that other work on the machine counts
little; of both, the largest memory that tensors held at once is exchanges, weights left out.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Qwen3Config, Qwen3ForCausalLM

from benchmarks.generation import word_tokenizer
from benchmarks.timing import row, take_turns
from counterclaim.lab.models.hf.activations import Capture, CaptureSpec, Exchange
from counterclaim.lab.models.hf.devices import threads_for
from counterclaim.lab.models.hf.loading import Loaded
from counterclaim.lab.models.hf.model import HfModel
from counterclaim.lab.models.hf.sites import core_of, layers_of
from counterclaim.records import Message, ModelRef
from counterclaim.registry import Runtime

_WORDS = 2_000
_TEMPLATE = "{% for message in messages %}<turn> {{ message['content'] }} {% endfor %}<turn> "
_ROWS_PER_BATCH = 16
_LAST_TOKENS = 32
_Features = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class _Size:
    layers: int
    hidden: int
    vocabulary: int
    rows: int
    longest: int
    turns: int


_QUICK = _Size(2, 64, 4_000, 16, 48, 1)
_WHOLE = _Size(12, 512, 32_000, 32, 96, 7)


def capture_duels(quick: bool = False) -> list[dict[str, Any]]:
    """Time reading the last token of every layer and the norms of all heads.

    Args:
        quick: a small model, few rows and one turn each: for a smoke test, not for numbers to quote.

    Returns:
        Rows of ``name`` (which also tells peak memory of both sides), ``ours`` and ``peer_s`` (seconds of the processor, medians), ``peer``,
        ``ratio`` and ``agreement`` (largest absolute difference of what both have read).
    """
    model, exchanges = _made(_QUICK if quick else _WHOLE)
    turns = (_QUICK if quick else _WHOLE).turns
    layers = len(layers_of(model.network))
    wanted = CaptureSpec((*range(layers - 1), "last"), ("last",), head_norms=_LAST_TOKENS)
    reading = Capture(model, exchanges, wanted)
    what = f"last token of {layers} layers and all head norms of {len(exchanges)} answers"
    return [
        _duel(f"{what} (price)", lambda: _ours(reading), "the bare forward pass", lambda: bare_pass(model, reading), turns),
        _duel(
            what, lambda: _ours(reading), "output_hidden_states of the causal model", lambda: _typed(model, reading), turns
        ),
    ]  # fmt: skip


def nnsight_duels(quick: bool = False) -> list[dict[str, Any]]:
    """The same against nnsight, which must be importable; rows as of ``capture_duels``."""
    model, exchanges = _made(_QUICK if quick else _WHOLE)
    turns = (_QUICK if quick else _WHOLE).turns
    layers = len(layers_of(model.network))
    reading = Capture(model, exchanges, CaptureSpec((*range(layers - 1), "last"), ("last",), head_norms=_LAST_TOKENS))
    what = f"last token of {layers} layers and all head norms of {len(exchanges)} answers"
    return [_duel(what, lambda: _ours(reading), "nnsight", _nnsight(model, reading), turns)]


def _ours(reading: Capture) -> _Features:
    rows: list[int] = []
    parts: list[_Features] = []
    for indices, blocks in reading.batches():
        rows += indices
        parts.append(blocks)
    order = np.argsort(rows)
    return {name: np.concatenate([part[name] for part in parts])[order] for name in parts[0]}


@torch.inference_mode()
def bare_pass(model: HfModel, reading: Capture) -> _Features:
    """The decoder over the very batches of a reading, and nothing taken out but the last token of what it returns."""
    core = core_of(model.network)
    last = np.empty((len(reading.rows), model.network.config.hidden_size), np.float32)
    place = {index: at for at, index in enumerate(sorted(reading.rows))}
    for batch in reading.planned():
        rows = [reading.rows[index][0] for index in batch]
        width = max(map(len, rows))
        ids = torch.tensor([row + [model.pad] * (width - len(row)) for row in rows], device=model.device)
        ends = torch.tensor([len(row) - 1 for row in rows], device=model.device)
        with threads_for(model.network, model.device):
            states = core(input_ids=ids, use_cache=False).last_hidden_state
        last[[place[index] for index in batch]] = (
            states[torch.arange(len(rows), device=model.device), ends].float().cpu().numpy()
        )
    return {"h_last/last": last}


@torch.no_grad()
def _typed(model: HfModel, reading: Capture) -> _Features:
    """As people type it: slices of the rows as they come, the causal model, every hidden state returned."""
    parts: list[list[Tensor]] = []
    rows = [reading.rows[index][0] for index in sorted(reading.rows)]
    for start in range(0, len(rows), _ROWS_PER_BATCH):
        batch = rows[start : start + _ROWS_PER_BATCH]
        width = max(map(len, batch))
        ids = torch.tensor([row + [model.pad] * (width - len(row)) for row in batch])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in batch])
        states = model.network(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        at = mask.sum(1) - 1
        parts.append([state[torch.arange(len(batch)), at] for state in states[1:]])
    stacked = [torch.cat(layer).numpy() for layer in zip(*parts, strict=True)]
    names = [*(f"layer.{layer}/last" for layer in range(len(stacked) - 1)), "h_last/last"]
    return dict(zip(names, stacked, strict=True))


def _nnsight(model: HfModel, reading: Capture) -> Callable[[], _Features]:
    """The last token of every layer by nnsight's own tracing, over the same batches as ``_typed``."""
    import importlib

    traced = importlib.import_module("nnsight").NNsight(model.network)
    rows = [reading.rows[index][0] for index in sorted(reading.rows)]

    def run() -> _Features:
        parts: list[list[Tensor]] = []
        for start in range(0, len(rows), _ROWS_PER_BATCH):
            batch = rows[start : start + _ROWS_PER_BATCH]
            width = max(map(len, batch))
            ids = torch.tensor([row + [model.pad] * (width - len(row)) for row in batch])
            mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in batch])
            at = mask.sum(1) - 1
            which = torch.arange(len(batch))
            saved: list[Any] = []
            with torch.no_grad(), traced.trace(input_ids=ids, attention_mask=mask):
                for layer in traced.model.layers:
                    out = layer.output
                    saved.append((out[0] if isinstance(out, tuple) else out)[which, at].save())
            parts.append([getattr(each, "value", each) for each in saved])
        stacked = [torch.cat(layer).numpy() for layer in zip(*parts, strict=True)]
        return {f"layer.{layer}/last": rows for layer, rows in enumerate(stacked[:-1])}

    return run


def _duel(
    name: str, ours: Callable[[], _Features], peer: str, theirs: Callable[[], _Features], turns: int
) -> dict[str, Any]:
    held = [_most_held(side) / 1e6 for side in (ours, theirs)]  # and set up what first calls set up
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found, seconds = take_turns({"ours": ours, peer: theirs}, turns, time.process_time)
    torch.set_num_threads(threads)
    apart = max(float(np.abs(found["ours"][key] - theirs_read).max()) for key, theirs_read in found[peer].items())
    price = name.endswith("(price)")
    title = (
        f"{name.removesuffix(' (price)')}; peak memory {held[0]:.0f} and {held[1]:.0f} MB{' (price)' if price else ''}"
    )
    return row(title, seconds["ours"], peer, seconds[peer], apart, price=price)


_Mode: Any = TorchDispatchMode  # these are typed loosely by torch
_Weak: Any = StorageWeakRef


class _Held(_Mode):  # type: ignore[misc]
    """Counts the bytes of all tensors that are made and not gone yet, weights left out.

    Attributes:
        most: the largest count.
    """

    def __init__(self) -> None:
        super().__init__()
        self.most: int = 0
        self._live: dict[int, tuple[Any, int]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        own = {each.untyped_storage()._cdata for each in _tensors([args, kwargs])} - self._live.keys()
        for tensor in _tensors(out):
            storage = tensor.untyped_storage()
            if storage._cdata not in own:  # what was there before is no work of this pass
                self._live[storage._cdata] = _Weak(storage), storage.nbytes()
        self._live = {key: value for key, value in self._live.items() if not value[0].expired()}
        self.most = max(self.most, sum(size for _, size in self._live.values()))
        return out


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return []
    return [tensor for each in value for tensor in _tensors(each)]


def _most_held(run: Callable[[], Any]) -> int:
    """Most bytes that tensors held at once during a run, weights left out."""
    held = _Held()
    with held:
        run()
    return held.most


def _made(size: _Size) -> tuple[HfModel, list[Exchange]]:
    """A Qwen3 with random weights behind a tokenizer of one token per word, and conversations of mixed length."""
    wrapped = word_tokenizer(_WORDS, ("<pad>", "<end>", "<turn>"), eos_token="<end>", chat_template=_TEMPLATE)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = Qwen3Config(
            vocab_size=size.vocabulary, hidden_size=size.hidden, intermediate_size=3 * size.hidden,
            num_hidden_layers=size.layers, num_attention_heads=8, num_key_value_heads=4, head_dim=size.hidden // 8,
            max_position_embeddings=1_024, tie_word_embeddings=True, bos_token_id=None, eos_token_id=1, pad_token_id=0,
        )  # fmt: skip
        network: Any = Qwen3ForCausalLM(config)
    network.eval()
    loaded = Loaded(network, wrapped, torch.device("cpu"), ModelRef(repo="random"), _TEMPLATE, frozenset({1}), 0)
    chance = random.Random(0)

    def text_of(n: int) -> str:
        return " ".join(f"w{chance.randrange(_WORDS)}" for _ in range(n))

    exchanges = [
        Exchange(
            (Message("user", text_of(size.longest // 3)),), text_of(chance.randint(size.longest // 4, size.longest))
        )
        for _ in range(size.rows)
    ]
    return HfModel(loaded, Runtime(device="cpu", batch_size=_ROWS_PER_BATCH)), exchanges
