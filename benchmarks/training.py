"""Steps of ``fit`` side by side with those of a bare TRL script, on a Qwen3 of five million random weights.

The script is what people write: the same model, adapter, data, settings, seed and number of threads, and TRL's own logging
every ten steps where ours logs every one. Both sides take turns, and medians are compared. What is timed is the steps, from
the end of the first to the end of the last, so neither loading nor tokenizing counts; a checkpoint in the middle does. A
turn takes seconds, in which the load of a shared machine changes by more than there is to measure, so what is counted is
the processor's time; as there is one thread only, that is the time of a quiet machine.
"""

from __future__ import annotations

import random
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PrinterCallback,
    Qwen3Config,
    Qwen3ForCausalLM,
    TrainerCallback,
)
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from benchmarks.generation import word_tokenizer
from benchmarks.timing import row
from counterclaim.lab.config import Dpo, Lora, Sft, TunePlan
from counterclaim.lab.models.hf.devices import threads_for
from counterclaim.lab.operators.training import fit, quiet
from counterclaim.records import Example, Json, Message
from counterclaim.registry import Fitting, ModelSpec, Runtime

_WORDS = 2_000
_MARKS = ("<pad>", "<turn>", "<end>", "user", "assistant")
_TEMPLATE = (
    "{% for message in messages %}<turn> {{ message['role'] }} {{ message['content'] }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<turn> assistant {% endif %}"
)
_LORA = Lora(r=16, lora_alpha=32.0)
_SEED = 0

Stamps = list[float]
Side = Callable[[], tuple[Stamps, float]]


def training_duels(quick: bool = False) -> list[dict[str, Json]]:
    """Time SFT and DPO against bare scripts.

    Args:
        quick: few steps and one turn each: for a smoke test, not for numbers to quote.

    Returns:
        Rows of ``name``, ``ours`` and ``peer_s`` (processor seconds a step, medians over the turns), ``peer`` (its name), ``ratio``
        (peer_s / ours) and ``agreement`` (absolute difference of the two losses, means over all steps).
    """
    steps, turns = (4, 1) if quick else (12, 5)
    common: dict[str, Any] = {"max_steps": steps, "save_steps": steps // 2}
    sft = Sft(
        per_device_train_batch_size=4, gradient_accumulation_steps=1, learning_rate=1e-3, max_length=256, **common
    )
    dpo = Dpo(
        per_device_train_batch_size=2, gradient_accumulation_steps=2, learning_rate=1e-4, max_length=256, **common
    )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _save_model(folder / "model")
        examples = _examples(4 * steps)
        return [
            _duel(
                f"a step of SFT, {sft.rows_per_step} rows of about 50 tokens, processor time",
                folder,
                examples,
                sft,
                _bare_sft,
                turns,
            ),
            _duel(
                f"a step of DPO, {dpo.rows_per_step} pairs of about 50 tokens, processor time",
                folder,
                examples,
                dpo,
                _bare_dpo,
                turns,
            ),
        ]


def _duel(
    name: str, folder: Path, examples: Sequence[Example], stage: Sft | Dpo, bare: Callable[..., Any], turns: int
) -> dict[str, Json]:
    def ours() -> tuple[Stamps, float]:
        stamps: Stamps = []
        plan = TunePlan.of(stage, data=folder, lora=_LORA)

        def watch(doing: str, done: int, total: int) -> None:
            if done:
                stamps.append(time.process_time())

        with tempfile.TemporaryDirectory(dir=folder) as out:
            card = fit(
                Fitting(
                    ModelSpec(str(folder / "model")), plan, _SEED, examples, runtime=Runtime(device="cpu"), watch=watch
                ),
                Path(out),
            )
        return stamps, fmean(card["stages"][0]["log"]["loss"])

    def theirs() -> tuple[Stamps, float]:
        stamped = _Stamped()
        with tempfile.TemporaryDirectory(dir=folder) as out, quiet(), warnings.catch_warnings():
            trainer = bare(folder / "model", examples, stage, out, stamped)
            trainer.remove_callback(PrinterCallback)
            with threads_for(trainer.model, torch.device("cpu")):
                loss = trainer.train().training_loss
        return stamped.stamps, float(loss)

    seconds: tuple[list[float], list[float]] = ([], [])
    losses = [0.0, 0.0]
    for _ in range(turns):
        for side, run in enumerate((ours, theirs)):
            stamps, losses[side] = run()
            seconds[side].append((stamps[-1] - stamps[0]) / (len(stamps) - 1))
    peer = f"a bare {type(stage).__name__.upper()}Trainer of TRL"
    return row(name, median(seconds[0]), peer, median(seconds[1]), abs(losses[0] - losses[1]))


class _Stamped(TrainerCallback):
    """Notes when each step of the bare script ends."""

    def __init__(self) -> None:
        self.stamps: Stamps = []

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self.stamps.append(time.process_time())


def _bare_sft(model: Path, examples: Sequence[Example], stage: Sft, out: str, stamped: _Stamped) -> Any:
    network, tokenizer = _bare_model(model)
    rows = [{"prompt": _turns(row), "completion": _conversation(row.chosen)} for row in examples]
    args = SFTConfig(**_bare_settings(stage, out), max_length=stage.max_length)
    return SFTTrainer(
        network, args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, callbacks=[stamped]
    )


def _bare_dpo(model: Path, examples: Sequence[Example], stage: Dpo, out: str, stamped: _Stamped) -> Any:
    network, tokenizer = _bare_model(model)
    rows = [
        {"prompt": _turns(row), "chosen": _conversation(row.chosen), "rejected": _conversation(row.rejected or "")}
        for row in examples
    ]
    args = DPOConfig(**_bare_settings(stage, out), max_length=stage.max_length, beta=stage.beta)
    return DPOTrainer(
        network, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, callbacks=[stamped]
    )


def _bare_model(folder: Path) -> tuple[Any, Any]:
    load: Any = AutoModelForCausalLM.from_pretrained
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    network = load(folder, dtype=torch.float32)
    torch.manual_seed(_SEED)
    config: Any = LoraConfig
    lora = config(
        r=_LORA.r,
        lora_alpha=_LORA.lora_alpha,
        target_modules=list(_LORA.target_modules),
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(network, lora), tokenizer


def _bare_settings(stage: Sft | Dpo, out: str) -> dict[str, Any]:
    return {
        "output_dir": out, "max_steps": stage.max_steps, "learning_rate": stage.learning_rate, "seed": _SEED,
        "data_seed": _SEED, "per_device_train_batch_size": stage.per_device_train_batch_size,
        "gradient_accumulation_steps": stage.gradient_accumulation_steps, "lr_scheduler_type": stage.lr_scheduler_type,
        "warmup_steps": stage.warmup_steps, "max_grad_norm": stage.max_grad_norm, "save_steps": stage.save_steps,
        "save_total_limit": 2, "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "report_to": "none",
        "disable_tqdm": True, "dataloader_pin_memory": False,
    }  # fmt: skip


def _turns(row: Example) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in row.prompt]


def _conversation(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _examples(n: int) -> list[Example]:
    """Pairs of random words: 16 are asked, about 28 answered."""
    chance = random.Random(0)

    def words(most: int) -> str:
        return " ".join(f"w{chance.randrange(_WORDS)}" for _ in range(most))

    return [
        Example((Message("user", words(16)),), words(chance.randint(24, 32)), words(chance.randint(24, 32)))
        for _ in range(n)
    ]


def _save_model(folder: Path) -> None:
    """A Qwen3 of about five million random weights, and a tokenizer of one token per word."""
    tokenizer = word_tokenizer(_WORDS, _MARKS, eos_token="<end>", chat_template=_TEMPLATE)
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(0)
        config = Qwen3Config(
            vocab_size=len(tokenizer), hidden_size=256, intermediate_size=768, num_hidden_layers=6, num_attention_heads=4,
            num_key_value_heads=2, head_dim=64, max_position_embeddings=512, tie_word_embeddings=True,
            bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        network: Any = Qwen3ForCausalLM(config)
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
