"""Generation side by side with plain ``generate`` of transformers, on the same rows of a model with random weights.

The peer is what people write: tokenize a slice of the prompts with padding, generate, decode, next slice. Both sides
take turns, and medians are compared. ``agreement`` is the share of answers that are not equal token for token, so 0 where
all are (each token is spelled by a word of its own, so equal texts are equal tokens).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.timing import differing, row, take_turns
from counterclaim.lab.models.hf.loading import Loaded, settings
from counterclaim.lab.models.hf.model import HfModel
from counterclaim.records import CONTROL, Decode, FinishReason, Message, ModelRef, Provenance, Response
from counterclaim.registry import Ask, Runtime

WORDS = 2_000
_ROWS_PER_BATCH = 16
_BUDGETS = (4, 8, 16, 32)
_Texts = list[str]


@dataclass(frozen=True, slots=True)
class _Size:
    rows: int
    longest: int
    budget: int
    turns: int


def generation_duels(quick: bool = False) -> list[dict[str, Any]]:
    """Time generation against plain ``generate``, and a sweep of budgets against one run for each.

    Args:
        quick: few rows and one turn each: for a smoke test, not for numbers to quote.

    Returns:
        Rows of ``name``, ``ours`` and ``peer_s`` (seconds, medians), ``peer`` (its name), ``ratio`` (peer_s / ours) and
        ``agreement`` (share of answers that differ; of two independent samplers it is None).
    """
    size = _Size(32, 64, 8, 1) if quick else _Size(64, 256, 32, 5)
    model = _model()
    uniform = random_prompts(size.rows, [size.longest // 4])
    mixed = random_prompts(size.rows, [size.longest // 32, size.longest // 16, size.longest // 8, size.longest])
    greedy, sampled = Decode(size.budget), Decode(size.budget, temperature=0.8, seed=1)
    peer = "transformers generate"
    budgets = tuple(budget for budget in _BUDGETS if budget <= size.budget)
    return [
        _duel(
            f"{size.rows} prompts of one length, {size.budget} new tokens, greedy",
            lambda: _ours(model, uniform, greedy),
            peer,
            lambda: _plain(model, uniform, greedy),
            size.turns,
        ),
        _duel(
            f"{size.rows} prompts of mixed length, {size.budget} new tokens, greedy",
            lambda: _ours(model, mixed, greedy),
            peer,
            lambda: _plain(model, mixed, greedy),
            size.turns,
        ),
        {
            **_duel(
                f"{size.rows} prompts of one length, {size.budget} new tokens, temperature 0.8",
                lambda: _ours(model, uniform, sampled),
                f"{peer}, do_sample",
                lambda: _plain(model, uniform, sampled),
                size.turns,
            ),
            "agreement": None,
        },
        _duel(
            f"{size.rows} prompts at {len(budgets)} budgets up to {budgets[-1]}, cut from one run",
            lambda: _swept(model, uniform, budgets),
            "one run for each budget",
            lambda: [text for budget in budgets for text in _ours(model, uniform, Decode(budget))],
            size.turns,
        ),
    ]


def _duel(name: str, ours: Callable[[], _Texts], peer: str, theirs: Callable[[], _Texts], turns: int) -> dict[str, Any]:
    texts, seconds = take_turns({"ours": ours, peer: theirs}, turns)
    return row(name, seconds["ours"], peer, seconds[peer], differing(texts["ours"], texts[peer]))


def _ours(model: HfModel, prompts: _Texts, decode: Decode) -> _Texts:
    asks = [Ask(str(i), (Message("user", prompt),)) for i, prompt in enumerate(prompts)]
    got = dict(pair for batch in model.answer(asks, decode) for pair in batch)
    return [str(got[i].text) for i in range(len(asks))]


def _plain(model: HfModel, prompts: _Texts, decode: Decode) -> _Texts:
    tokenizer: Any = model.tokenizer
    how: dict[str, Any] = {"do_sample": False}
    if decode.temperature:
        torch.manual_seed(1)
        how = {"do_sample": True, "temperature": decode.temperature, "top_k": 0}
    texts = []
    for start in range(0, len(prompts), _ROWS_PER_BATCH):
        batch = tokenizer(prompts[start : start + _ROWS_PER_BATCH], padding=True, return_tensors="pt")
        ids = batch["input_ids"]
        tokens = model.network.generate(
            ids, attention_mask=batch["attention_mask"], max_new_tokens=decode.max_new_tokens, **how
        )
        texts += tokenizer.batch_decode(tokens[:, ids.shape[1] :], skip_special_tokens=True)
    return texts


def _swept(model: HfModel, prompts: _Texts, budgets: tuple[int, ...]) -> _Texts:
    """Texts at every budget, all of them prefixes of one run at the largest."""
    decode = Decode(budgets[-1])
    asks = [Ask(str(i), (Message("user", prompt),)) for i, prompt in enumerate(prompts)]
    got = dict(pair for batch in model.answer(asks, decode) for pair in batch)
    whole = [
        Response(
            str(i), CONTROL, 0, got[i].text, FinishReason.LENGTH, Provenance.RECORDED, decode, model.ref,
            got[i].n_tokens, token_chars=got[i].token_chars,
        )
        for i in range(len(asks))
    ]  # fmt: skip
    return [str(answer.cut_to(budget).text) for budget in budgets for answer in whole]


def random_prompts(n: int, lengths: list[int]) -> _Texts:
    """Prompts of random words, whose lengths take turns."""
    chance = random.Random(0)
    return [" ".join(f"w{chance.randrange(WORDS)}" for _ in range(lengths[i % len(lengths)])) for i in range(n)]


def _model() -> HfModel:
    """A Llama with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=WORDS + 1, hidden_size=128, intermediate_size=352, num_hidden_layers=2, num_attention_heads=8,
            num_key_value_heads=4, max_position_embeddings=2048, bos_token_id=None, eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
        return opened(LlamaForCausalLM(config), _ROWS_PER_BATCH)


def word_tokenizer(n_words: int, marks: Sequence[str], **settings: Any) -> Any:
    """A tokenizer of one token per word: some marks, ``<pad>`` among them, and then ``w0``, ``w1``, ..."""
    words = {word: at for at, word in enumerate([*marks, *(f"w{i}" for i in range(n_words))])}
    made = Tokenizer(WordLevel(words, unk_token="<pad>"))
    made.pre_tokenizer = WhitespaceSplit()
    fast: Any = PreTrainedTokenizerFast  # typed loosely by transformers
    return fast(tokenizer_object=made, pad_token="<pad>", **settings)


def opened(network: Any, batch_size: int) -> HfModel:
    """A network with a vocabulary of ``WORDS`` + 1 behind a tokenizer of one token per word; no token ends an answer."""
    tokenizer = word_tokenizer(WORDS, ("<pad>",), padding_side="left")
    network.eval()
    network.generation_config = settings(frozenset(), 0)
    loaded = Loaded(network, tokenizer, torch.device("cpu"), ModelRef("random"), None, frozenset(), 0)
    return HfModel(loaded, Runtime(device="cpu", batch_size=batch_size))
