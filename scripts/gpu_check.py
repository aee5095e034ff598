"""Tokens per second and peak memory of the paper's recipes on Qwen3-0.6B at full size, with random weights: what a GPU takes.

python scripts/gpu_check.py [--small] [--steps 50] [--tokens 1024] [--device auto]

Nothing is downloaded. The architecture is Qwen3-0.6B's, its vocabulary of 151,936 included; the tokenizer is a small one
made here, whose ids are the first of that vocabulary, so that every layer has its full size. Each recipe trains ``--steps``
steps of every stage with its own settings, on made-up rows of about ``--tokens`` tokens. One JSON object is printed.
``--small`` is a few short steps of a tiny network, to see on any machine that the script works.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import resource
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, Qwen3Config, Qwen3ForCausalLM

from counterclaim.models.hf.devices import device_named, dtype_named, give_back
from counterclaim.models.tiny.tokenizer import train_tokenizer
from counterclaim.operators.training import fit, quiet
from counterclaim.records import Example, Message
from counterclaim.registry import Fitting, ModelSpec, Runtime
from counterclaim.spec import Sft, TunePlan
from counterclaim.spec._tune import to_tune, tune_schema

RECIPES = ("paper-sft-dpo", "paper-attention", "paper-all-modules")
WORDS = [f"word{i}" for i in range(2_000)]
QWEN3_06B = {
    "vocab_size": 151_936, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
    "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 40_960,
    "rope_theta": 1e6, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
}  # fmt: skip
SMALL = {
    **QWEN3_06B, "vocab_size": 4_096, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
}  # fmt: skip
GIB = 1024**3


def save_model(folder: Path, sizes: dict[str, Any], device: torch.device) -> PreTrainedTokenizerBase:
    """The network with random weights, in the precision in which it is trained, and the tokenizer; returns the latter."""
    tokenizer = train_tokenizer([" ".join(WORDS)])
    assert len(tokenizer) <= sizes["vocab_size"]
    torch.manual_seed(0)
    config = Qwen3Config(
        **sizes, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with torch.device(device):
        network: Any = Qwen3ForCausalLM(config)
    with quiet():
        network.to(dtype_named("auto", device)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return tokenizer


def pairs(n: int, tokens: int) -> list[Example]:
    """Preference pairs whose two sides have about ``tokens`` tokens each, a quarter of them thoughts."""
    chance = random.Random(0)

    def said(share: float) -> str:
        return " ".join(chance.choices(WORDS, k=max(1, int(share * tokens))))

    def answer() -> str:
        return f"<think>\n{said(0.25)}\n</think>\n\n{said(0.5)}"

    return [Example((Message("user", said(0.25)),), answer(), answer()) for _ in range(n)]


def plan_of(recipe: str, steps: int) -> TunePlan:
    """The recipe with nothing changed but how many steps it takes."""
    plan, _ = to_tune(tune_schema()(recipe=recipe, data="made-up"), Path("gpu_check"), "tune")
    return replace(plan, data=None, stages=tuple(replace(stage, steps=steps) for stage in plan.stages))


def length(example: Example, tokenizer: Any, *, both: bool) -> int:
    """Tokens that a step computes for an example; of a pair, both sides."""
    asked = [{"role": turn.role, "content": turn.content} for turn in example.prompt]
    sides = [example.chosen, *([example.rejected] if both else [])]
    whole = ([*asked, {"role": "assistant", "content": side}] for side in sides)
    return sum(len(tokenizer(tokenizer.apply_chat_template(turns, tokenize=False)).input_ids) for turns in whole)


def measure(recipe: str, model: Path, tokenizer: Any, steps: int, tokens: int, device: torch.device) -> dict[str, Any]:
    """Train one recipe: seconds, tokens per second and losses of each stage, and the peak memory of the whole."""
    plan = plan_of(recipe, steps)
    examples = pairs(64, tokens)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with tempfile.TemporaryDirectory() as out:
        card = fit(
            Fitting(ModelSpec(str(model)), plan, 0, examples, runtime=Runtime(device=str(device))),
            Path(out) / "adapter",
        )
    stages = []
    for stage, told in zip(plan.stages, card["stages"], strict=True):
        per_row = sum(length(row, tokenizer, both=not isinstance(stage, Sft)) for row in examples) / len(examples)
        done = told["steps"] * stage.effective_batch * per_row
        loss = told["log"]["loss"]
        stages.append({
            "method": told["method"], "steps": told["steps"], "seconds": told["seconds"],
            "tokens_per_s": round(done / told["seconds"]), "first_loss": loss[0], "last_loss": loss[-1],
        })  # fmt: skip
    give_back(device)
    return {"recipe": recipe, "parameters": card["parameters"], "stages": stages, "peak_gib": peak_gib(device)}


def peak_gib(device: torch.device) -> float:
    """Most memory that was held: on a GPU since the last reset, else by this process so far."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / GIB, 2)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a tiny network and few short steps")
    parser.add_argument("--steps", type=int, help="of every stage; 50, or 2 with --small")
    parser.add_argument("--tokens", type=int, help="of a row; 1024, or 48 with --small")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1")
    said = parser.parse_args()
    device = device_named(said.device)
    steps, tokens = said.steps or (2 if said.small else 50), said.tokens or (48 if said.small else 1024)
    with tempfile.TemporaryDirectory() as place:
        model = Path(place) / "model"
        tokenizer = save_model(model, SMALL if said.small else QWEN3_06B, device)
        recipes = [measure(recipe, model, tokenizer, steps, tokens, device) for recipe in RECIPES]
    print(
        json.dumps(
            {
                "device": torch.cuda.get_device_name(device)
                if device.type == "cuda"
                else platform.processor() or "cpu",
                "dtype": str(dtype_named("auto", device)).removeprefix("torch."),
                "size": "small" if said.small else "Qwen3-0.6B",
                "rows": f"about {tokens} tokens",
                "libraries": {name: version(name) for name in ("torch", "transformers", "peft", "trl")},
                "recipes": recipes,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
