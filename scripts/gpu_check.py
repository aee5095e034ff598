"""Training, reading and editing Qwen3-0.6B at full size, with random weights: seconds, tokens per second and peak memory.

python scripts/gpu_check.py [--small] [--steps 50] [--tokens 1024] [--device auto] [--only training|reading|sweep]

Nothing is downloaded. The architecture is Qwen3-0.6B's, its vocabulary of 151,936 included; the tokenizer is a small one
made here, whose ids are the first of that vocabulary, so that every layer has its full size. Each recipe trains ``--steps``
steps of every stage with its own settings, on made-up rows of about ``--tokens`` tokens. Then activations are read (every layer
and all heads, against the bare forward pass over the same batches), heads are attributed, and four scales of some heads are
swept in one batch, against one run for each. One JSON object is printed; ``--only`` does a part.
``--small`` is a few short steps of a tiny network, to see on any machine that the script works.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import resource
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from pydantic import TypeAdapter
from transformers import PreTrainedTokenizerBase, Qwen3Config, Qwen3ForCausalLM

from benchmarks.activations import bare_pass
from counterclaim.lab.config import Sft, TunePlan
from counterclaim.lab.config.training import with_recipe
from counterclaim.lab.models import open_model
from counterclaim.lab.models.hf.activations import Capture, CaptureSpec
from counterclaim.lab.models.hf.devices import device_named, dtype_named, give_back
from counterclaim.lab.models.hf.edits import Edit, Piece, base_of, save_edit
from counterclaim.lab.models.hf.model import HfModel
from counterclaim.lab.models.hf.sites import layers_of
from counterclaim.lab.models.tiny.tokenizer import train_tokenizer
from counterclaim.lab.operators.attribution import attribute
from counterclaim.lab.operators.reading import exchange_of, readable
from counterclaim.lab.operators.training import fit, quiet
from counterclaim.records import Decode, Example, FinishReason, Message, ModelRef, Prompt, Provenance, Response
from counterclaim.registry import Applied, Ask, Fitting, Labelled, ModelSpec, Runtime

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
SCALES = (1.0, 0.9, 0.8, 0.5)
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

    def text_of(share: float) -> str:
        return " ".join(chance.choices(WORDS, k=max(1, int(share * tokens))))

    def answer() -> str:
        return f"<think>\n{text_of(0.25)}\n</think>\n\n{text_of(0.5)}"

    return [Example((Message("user", text_of(0.25)),), answer(), answer()) for _ in range(n)]


def plan_of(recipe: str, steps: int) -> TunePlan:
    """The recipe with nothing changed but how many steps it takes."""
    plan = TypeAdapter(TunePlan).validate_python(with_recipe({"recipe": recipe, "data": "made-up"}))
    return replace(plan, **{type(stage).__name__.lower(): replace(stage, max_steps=steps) for stage in plan.stages})


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
    with TemporaryDirectory() as out:
        card = fit(
            Fitting(ModelSpec(str(model)), plan, 0, examples, runtime=Runtime(device=str(device))),
            Path(out) / "adapter",
        )
    stages = []
    for stage, entry in zip(plan.stages, card["stages"], strict=True):
        per_row = sum(length(row, tokenizer, both=not isinstance(stage, Sft)) for row in examples) / len(examples)
        done = entry["steps"] * stage.rows_per_step * per_row
        loss = entry["log"]["loss"]
        stages.append({
            "method": entry["method"], "steps": entry["steps"], "seconds": entry["seconds"],
            "tokens_per_s": round(done / entry["seconds"]), "first_loss": loss[0], "last_loss": loss[-1],
        })  # fmt: skip
    give_back(device)
    return {"recipe": recipe, "parameters": card["parameters"], "stages": stages, "peak_gib": peak_gib(device)}


def answers(n: int, tokens: int) -> list[Labelled]:
    """Made-up answers of about ``tokens`` tokens with their prompts, every other one right."""
    chance = random.Random(1)

    def text_of(share: float) -> str:
        return " ".join(chance.choices(WORDS, k=max(1, int(share * tokens))))

    out = []
    for number in range(n):
        prompt = Prompt.of_text(text_of(0.25))
        made = Response(
            prompt.id, "control", 0, text_of(chance.uniform(0.4, 0.7)), FinishReason.STOP, Provenance.RECORDED, Decode(tokens),
            ModelRef(),
        )  # fmt: skip
        out.append(Labelled(prompt, made, {"correct": float(number % 2), "delivery": "assert"}))
    return out


def measure_reading(model: Path, tokens: int, turns: int, device: torch.device) -> dict[str, Any]:
    """Read the last token of every layer and the norms of all heads, the decoder alone, and an attribution."""
    with closing(open_model(ModelSpec(str(model)), Runtime(device=str(device)))) as opened:
        hf = readable(opened)
        rows = answers(96, tokens)
        layers = len(layers_of(hf.network))
        reading = Capture(
            hf,
            [exchange_of(row) for row in rows],
            CaptureSpec((*range(layers), "last"), ("last", "mean"), head_norms=32),
        )
        sides = {"bare": lambda: bare_pass(hf, reading), "capture": lambda: list(reading.batches())}
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        peaks: dict[str, float] = {}
        for turn in range(turns + 1):  # the first sets things up
            for side, run in sides.items():
                took, peaks[side] = timed(run, device)
                seconds[side] += [took] if turn else []
        took, peak = timed(lambda: attribute(hf, rows, permutations=1_000), device)
        bare, ours = median(seconds["bare"]), median(seconds["capture"])
        return {
            "answers": len(rows), "tokens": sum(len(ids) for ids, _ in reading.rows.values()), "batches": len(reading.planned()),
            "bare_s": bare, "capture_s": ours, "capture_over_bare": ours / bare, "bare_peak_gib": peaks["bare"],
            "capture_peak_gib": peaks["capture"], "attribute_s": took, "attribute_peak_gib": peak,
            "heads": layers * hf.network.config.num_attention_heads,
        }  # fmt: skip


def measure_sweep(model: Path, tokens: int, device: torch.device) -> list[dict[str, Any]]:
    """Four scales of some heads as rows of one batch, and one run for each."""
    out = []
    decode = Decode(max(8, tokens // 8))
    with (
        closing(open_model(ModelSpec(str(model)), Runtime(device=str(device)))) as opened,
        TemporaryDirectory() as made,
    ):
        hf, folder = readable(opened), Path(made)
        pieces = tuple(Piece(layer, "o_proj", "temper", (0, 3)) for layer in range(0, len(layers_of(hf.network)), 2))
        save_edit(Edit("temper", pieces, "all", base_of(hf.ref, hf.network), folder))
        for n in (4, 16, 64):
            asked = [(str(at), row.prompt.messages) for at, row in enumerate(answers(n, tokens))]
            sweep = [
                Ask(key, messages, applied=Applied("temper", folder, 1 - scale))
                for scale in SCALES
                for key, messages in asked
            ]
            runs = [sweep[at * n : (at + 1) * n] for at in range(len(SCALES))]
            one, each = (
                {"s": took, "peak_gib": peak}
                for took, peak in (
                    timed(lambda sweep=sweep: text_of(hf, sweep, decode), device),  # type: ignore[misc]
                    timed(lambda runs=runs: [text_of(hf, asks, decode) for asks in runs], device),  # type: ignore[misc]
                )
            )
            together, apart = text_of(hf, sweep, decode), [text for asks in runs for text in text_of(hf, asks, decode)]
            differ = sum(here != there for here, there in zip(together, apart, strict=True))
            out.append(
                {
                    "prompts": n,
                    "one_batch": one,
                    "four_runs": each,
                    "ratio": each["s"] / one["s"],
                    "answers_that_differ": differ,
                }
            )
    return out


def text_of(model: HfModel, asks: list[Ask], decode: Decode) -> list[str | None]:
    """The texts of all answers."""
    got = dict(pair for batch in model.answer(asks, decode) for pair in batch)
    return [got[at].text for at in range(len(asks))]


def timed(run: Callable[[], Any], device: torch.device) -> tuple[float, float]:
    """Seconds of a run, and its peak memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, peak_gib(device)


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
    parser.add_argument("--only", choices=("training", "reading", "sweep"), help="one part; all three when left out")
    args = parser.parse_args()
    device = device_named(args.device)
    steps, tokens = args.steps or (2 if args.small else 50), args.tokens or (48 if args.small else 1024)
    parts: dict[str, Callable[[Path, PreTrainedTokenizerBase], Any]] = {
        "training": lambda model, tokenizer: [
            measure(recipe, model, tokenizer, steps, tokens, device) for recipe in RECIPES
        ],
        "reading": lambda model, _: measure_reading(model, tokens, 1 if args.small else 5, device),
        "sweep": lambda model, _: measure_sweep(model, tokens, device),
    }
    with TemporaryDirectory() as place:
        model = Path(place) / "model"
        tokenizer = save_model(model, SMALL if args.small else QWEN3_06B, device)
        found = {name: run(model, tokenizer) for name, run in parts.items() if args.only in (None, name)}
    print(
        json.dumps(
            {
                "device": torch.cuda.get_device_name(device)
                if device.type == "cuda"
                else platform.processor() or "cpu",
                "dtype": str(dtype_named("auto", device)).removeprefix("torch."),
                "size": "small" if args.small else "Qwen3-0.6B",
                "rows": f"about {tokens} tokens",
                "libraries": {name: version(name) for name in ("torch", "transformers", "peft", "trl")},
                **found,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
