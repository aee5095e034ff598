"""The tiny models by name: an architecture of the paper each, small enough to train in about a minute on two cores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from counterclaim.errors import InputError
from counterclaim.lab.models.tiny.tokenizer import BOS, CONTEXT, END, PAD

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a tiny model is made.

    Attributes:
        about: what it is, in a phrase.
        architecture: ``model_type`` of its configuration in transformers.
        config: what its configuration sets beside vocabulary and special tokens.
        steps: batches of training.
        batch: conversations in a batch.
        rate: highest learning rate.
        spread: standard deviation of the first embeddings; names that start far apart are told apart sooner.
        seed: of initial weights, of the conversations and of their order.
    """

    about: str
    architecture: str
    config: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 1000
    batch: int = 16
    rate: float = 5e-3
    spread: float = 0.1
    seed: int = 0


def _softmax_attention(width: int, layers: int, heads: int, mlp: int = 3) -> dict[str, Any]:
    """Sizes of a decoder with grouped-query attention, two heads to a group; ``mlp`` in widths.

    Weights start with variance 1 / width, with which Qwen learns sooner; Gemma and Llama do with the usual 0.02.
    """
    return {
        "hidden_size": width,
        "intermediate_size": mlp * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // 2,
        "head_dim": width // heads,
        "initializer_range": width**-0.5,
        "tie_word_embeddings": True,
    }


RECIPES: Mapping[str, Recipe] = {
    "qwen3": Recipe("Qwen3 of width 96 with 2 layers; the default", "qwen3", _softmax_attention(96, 2, 4)),
    "qwen3-small": Recipe("Qwen3 of width 64 with 2 layers", "qwen3", _softmax_attention(64, 2, 4)),
    "qwen3-medium": Recipe(
        "Qwen3 of width 128 with 4 layers of 8 heads",
        "qwen3",
        _softmax_attention(128, 4, 8, mlp=2),
        steps=800,
        rate=3e-3,
    ),
    "llama": Recipe(
        "Llama, as SmolLM2 is, of width 96 with 2 layers",
        "llama",
        {**_softmax_attention(96, 2, 4), "initializer_range": 0.02},
        steps=1400,
    ),
    "gemma4": Recipe(
        "Gemma 4 of width 64 with 3 layers: sliding and full attention, per-layer embeddings, shared keys and values",
        "gemma4_text",
        {
            **_softmax_attention(64, 3, 4, mlp=2),
            "initializer_range": 0.02,
            "global_head_dim": 16,
            "layer_types": ["sliding_attention", "full_attention", "full_attention"],
            "sliding_window": 512,
            "hidden_size_per_layer_input": 16,
            "num_kv_shared_layers": 1,
        },
        steps=1500,
    ),
    "qwen3.5": Recipe(
        "Qwen3.5 of width 96: one layer of softmax attention, one of gated linear attention",
        "qwen3_5_text",
        {
            **_softmax_attention(96, 2, 4, mlp=2),
            "layer_types": ["full_attention", "linear_attention"],  # the other way round, no facts in 500 steps
            "linear_key_head_dim": 24,
            "linear_value_head_dim": 24,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 2,
        },
        steps=1200,
    ),
}
"""Recipes by the NAME in ``tiny:NAME``."""


def recipe_of(name: str) -> Recipe:
    """The recipe of a tiny model.

    Raises:
        InputError: there is no tiny model of this name.
    """
    if name not in RECIPES:
        raise InputError(f"there is no tiny model named {name!r}", remedy=f"choose one of {', '.join(RECIPES)}")
    return RECIPES[name]


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Any:
    """The model of a recipe with random weights, in float32; the caller seeds torch."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    size = len(tokenizer)
    sizes = dict(recipe.config)
    if recipe.architecture == "gemma4_text":
        sizes["vocab_size_per_layer_input"] = size
    marks = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(mark) for name, mark in _MARKS.items()}
    config = AutoConfig.for_model(
        recipe.architecture, vocab_size=size, max_position_embeddings=CONTEXT, **marks, **sizes
    )
    from_config: Any = AutoModelForCausalLM.from_config
    model = from_config(config, dtype=torch.float32)
    with torch.no_grad():
        model.get_input_embeddings().weight.normal_(0.0, recipe.spread)
    return model


_MARKS = {"pad": PAD, "bos": BOS, "eos": END}
