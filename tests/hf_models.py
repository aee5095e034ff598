"""Tiny models with random weights, one of each architecture family, and two tokenizers, all made here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

torch.set_num_threads(1)  # nothing here is large enough for more to help

CONTEXT = 256
SPECIAL = ("<pad>", "<bos>", "<eos>", "<turn>", "<end>")
TEXTS = [
    "The mill by the river turns seed into oil, and the oil is sold in the town.",
    "Wie heißt der Müller? Er heißt Jörg, und er kommt aus Köln am Rhein.",
    "日本語の文章は短いです。絵文字もあります 🙂🎉 — ça va très bien, señor!",
    "def add(a, b):\n    return a + b\n\nprint(add(2, 3))\n",
] * 3
TEMPLATE = (
    "<bos>{% for message in messages %}<turn>{{ message['role'] }}\n{{ message['content'] }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}[no thoughts]\n{% endif %}{% endif %}"
)
PLAIN_TEMPLATE = TEMPLATE.replace(
    "{% if enable_thinking is defined and not enable_thinking %}[no thoughts]\n{% endif %}", ""
)
FAMILIES = ("llama", "qwen3", "qwen3_5", "gemma4")


def byte_level_tokenizer(**more: Any) -> PreTrainedTokenizerFast:
    """Byte-level BPE, as in Qwen and SmolLM: characters of several bytes fall apart into tokens."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    made.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(TEXTS, trainer)
    named = {"eos_token": "<end>", "pad_token": "<pad>", "bos_token": "<bos>", "chat_template": TEMPLATE, **more}
    return PreTrainedTokenizerFast(tokenizer_object=made, additional_special_tokens=["<turn>", "<eos>"], **named)


def sentencepiece_tokenizer() -> PreTrainedTokenizerFast:
    """BPE with marked spaces, byte fallback and a space in front that decoding drops, as in Llama 2 and Mistral."""
    made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])  # type: ignore[assignment]
    made.pre_tokenizer = pre_tokenizers.Split(Regex("▁(?=[^▁])"), "merged_with_next")  # type: ignore[assignment]
    made.decoder = decoders.Sequence(  # type: ignore[assignment]
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=[*SPECIAL, "<unk>", *bytes_], limit_alphabet=60, show_progress=False
    )
    made.train_from_iterator(TEXTS, trainer)
    # The trainer has to be told of the bytes as special tokens; in the model they are ordinary ones.
    import json

    plain = json.loads(made.to_str())
    plain["added_tokens"] = [token for token in plain["added_tokens"] if not token["content"].startswith("<0x")]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(plain)), eos_token="<end>", pad_token="<pad>", bos_token="<bos>"
    )


def network(family: str, seed: int = 0, n_tokens: int = 400) -> Any:
    """A causal language model with random weights, large enough apart to choose tokens clearly."""
    torch.manual_seed(seed)
    common = {
        "vocab_size": n_tokens, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": CONTEXT, "tie_word_embeddings": False,
        "bos_token_id": 1, "eos_token_id": 4, "pad_token_id": 0, "initializer_range": 0.4,
    }  # fmt: skip
    if family == "llama":
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(num_hidden_layers=2, **common)).eval()
    if family == "qwen3":
        return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(num_hidden_layers=2, **common)).eval()
    if family == "qwen3_5":
        return transformers.Qwen3_5ForCausalLM(qwen3_5_text(common)).eval()
    config = transformers.Gemma4TextConfig(
        num_hidden_layers=4, num_kv_shared_layers=2, sliding_window=16, hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=n_tokens, layer_types=["sliding_attention", "full_attention"] * 2,
        global_head_dim=8, **common,
    )  # fmt: skip
    return transformers.Gemma4ForCausalLM(config).eval()


def qwen3_5_text(common: dict[str, Any]) -> Any:
    """Three linear-attention layers and one with softmax attention."""
    return transformers.Qwen3_5TextConfig(
        num_hidden_layers=4, linear_key_head_dim=8, linear_value_head_dim=8, linear_num_key_heads=2,
        linear_num_value_heads=4, **common,
    )  # fmt: skip


def save(folder: Path, family: str, seed: int = 0, **tokenizer: Any) -> Path:
    """A folder with a model and its tokenizer."""
    network(family, seed).save_pretrained(folder)
    byte_level_tokenizer(**tokenizer).save_pretrained(folder)
    return folder
