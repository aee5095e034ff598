"""A sweep of four scales of some heads as rows of one batch, against one run for each scale.

The peers are what people write: hooks that scale the heads, put on before each run and taken off after it; and weights whose
columns are scaled, one model folded for each run. All sides make the same tokens, greedily, on a Qwen3 with random weights.
They take turns, and medians are compared; a turn takes seconds, in which the load of a shared machine changes by more than there
is to measure, so what is counted is the processor's time, on one thread. ``agreement`` is the share of answers that are not equal token for token.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from benchmarks.generation import WORDS, opened, random_prompts
from benchmarks.timing import differing, row, take_turns
from counterclaim.lab.models.hf.edits import Edit, Piece, base_of, save_edit
from counterclaim.lab.models.hf.model import HfModel
from counterclaim.lab.models.hf.sites import heads_of, place
from counterclaim.records import Decode, Json, Message
from counterclaim.registry import Applied, Ask

_PROMPT = 24  # tokens
_SCALES = (1.0, 0.9, 0.5, 0.0)
_Texts = list[str]
_Heads = dict[int, tuple[int, ...]]


def edit_duels(quick: bool = False) -> list[dict[str, Json]]:
    """Time the sweep for 1, 4 and 16 prompts.

    Args:
        quick: a small model and one turn each: for a smoke test, not for numbers to quote.

    Returns:
        Rows of ``name``, ``ours`` and ``peer_s`` (processor seconds, medians), ``peer`` (its name), ``ratio`` (peer_s / ours) and
        ``agreement`` (share of answers that differ).
    """
    turns, budget = (1, 4) if quick else (3, 16)
    model = _model(64, 2) if quick else _model(512, 12)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _sweeps(model, turns, budget)
    finally:
        torch.set_num_threads(threads)


def _sweeps(model: HfModel, turns: int, budget: int) -> list[dict[str, Json]]:
    heads: _Heads = dict.fromkeys(range(0, len(model.network.model.layers), 3), (0, 3))
    rows: list[dict[str, Json]] = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        pieces = tuple(Piece(layer, "o_proj", "temper", those) for layer, those in heads.items())
        save_edit(Edit("temper", pieces, "all", base_of(model.ref, model.network), folder))
        for n in (1, 4, 16):
            prompts, decode = random_prompts(n, [_PROMPT]), Decode(budget)
            sides: dict[str, Callable[[], _Texts]] = {
                "ours": partial(_swept, model, folder, prompts, decode),
                "a run with hooks for each": partial(_run_each, model, _hooked, heads, prompts, decode),
                "a run with folded weights for each": partial(_run_each, model, _folded, heads, prompts, decode),
            }  # fmt: skip
            rows += _duel(
                f"{len(_SCALES)} scales of heads, {n} prompt{'s' * (n > 1)}, {budget} new tokens, processor time",
                sides,
                turns,
            )
    return rows


def _duel(name: str, sides: dict[str, Callable[[], _Texts]], turns: int) -> list[dict[str, Json]]:
    answers, seconds = take_turns(sides, turns, time.process_time)
    return [
        row(name, seconds["ours"], side, seconds[side], differing(answers["ours"], answers[side]))
        for side in list(sides)[1:]
    ]


def _swept(model: HfModel, folder: Path, prompts: _Texts, decode: Decode) -> _Texts:
    """Answers at every scale, those of one scale together, all from one batch."""
    asks = [
        Ask(str(at), (Message("user", prompt),), applied=Applied("temper", folder, 1 - scale))
        for scale in _SCALES
        for at, prompt in enumerate(prompts)
    ]
    return _answers(model, asks, decode)


def _run_each(model: HfModel, changed: Any, heads: _Heads, prompts: _Texts, decode: Decode) -> _Texts:
    texts = []
    asks = [Ask(str(at), (Message("user", prompt),)) for at, prompt in enumerate(prompts)]
    for scale in _SCALES:
        with changed(model, heads, scale):
            texts += _answers(model, asks, decode)
    return texts


def _answers(model: HfModel, asks: list[Ask], decode: Decode) -> _Texts:
    got = dict(pair for batch in model.answer(asks, decode) for pair in batch)
    return [str(got[at].text) for at in range(len(asks))]


@contextmanager
def _hooked(model: HfModel, heads: _Heads, scale: float) -> Iterator[None]:
    def scaling(those: tuple[int, ...], width: int) -> Callable[..., tuple[Tensor]]:
        def before(module: Any, given: tuple[Tensor, ...]) -> tuple[Tensor]:
            x = given[0].clone()
            for head in those:
                x[..., head * width : (head + 1) * width] *= scale
            return (x,)

        return before

    hooks = [
        place(model.network, layer, "o_proj").module.register_forward_pre_hook(
            scaling(those, heads_of(model.network, layer)[1])
        )
        for layer, those in heads.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _folded(model: HfModel, heads: _Heads, scale: float) -> Iterator[None]:
    kept = {}
    for layer, those in heads.items():
        weight = place(model.network, layer, "o_proj").module.weight
        width = heads_of(model.network, layer)[1]
        kept[layer] = weight.detach().clone()
        with torch.no_grad():
            for head in those:
                weight[:, head * width : (head + 1) * width] *= scale
    try:
        yield
    finally:
        with torch.no_grad():
            for layer, weight in kept.items():
                place(model.network, layer, "o_proj").module.weight.copy_(weight)


def _model(width: int, layers: int) -> HfModel:
    """A Qwen3 of 8 heads with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = Qwen3Config(
            vocab_size=WORDS + 1, hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers,
            num_attention_heads=8, num_key_value_heads=4, head_dim=width // 8, max_position_embeddings=512,
            bos_token_id=None, eos_token_id=None, pad_token_id=0, tie_word_embeddings=False, initializer_range=0.1,
        )  # fmt: skip
        return opened(Qwen3ForCausalLM(config), 16 * len(_SCALES))
