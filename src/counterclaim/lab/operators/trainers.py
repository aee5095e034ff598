"""The trainers of TRL for the three kinds of stages: what each is given to learn, and with which arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

import torch
from datasets import Dataset
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from counterclaim.errors import InputError, ModelError
from counterclaim.lab.config import Dpo, Grpo, Sft, Stage, TunePlan
from counterclaim.lab.operators import placebo, processes
from counterclaim.lab.operators.rewards import RewardScorer, conversations
from counterclaim.lab.operators.tokens import answered, asked, rows_of
from counterclaim.records import Decode, Example, FinishReason, Message, Prompt, prompt_from_json, to_json
from counterclaim.registry import Answer, Ask, Fitting, reward_named


class Job(Protocol):
    """What a stage is trained with.

    Attributes:
        fitting: what is to be fitted.
        plan: how.
        opened: the model as it was opened; it answers.
        base: its network without an adapter.
        model: the network with the adapter of the stage before over it.
        tokenizer: its tokenizer.
        device: where it is.
        template: a chat template that marks the turns of the assistant, where a stage needs one.
        notes: what a reader of the page must know.
    """

    fitting: Fitting
    plan: TunePlan
    opened: Any
    base: Any
    model: Any
    tokenizer: Any
    device: Any
    template: str | None
    notes: list[str]


OURS = ("loss_on", "mask_think", "reward", "oracle", "prompts", "system_prompt")
"""Settings that TRL does not know; all others are handed to it as they are."""


def _arguments(job: Job, stage: Stage, work: Path) -> dict[str, Any]:
    """The arguments of TRL's trainers: the settings of the stage, and what depends on the machine."""
    on_gpu = torch.device(job.device).type == "cuda" or processes.computes_on_gpu(job.fitting.runtime.device)
    stated = {item.name: getattr(stage, item.name) for item in fields(stage)}
    return {
        **{name: value for name, value in stated.items() if name not in OURS and value is not None},
        "output_dir": str(work),
        "gradient_accumulation_steps": stage.gradient_accumulation_steps // processes.count(),
        "optim": "adamw_torch_fused" if stage.optim == "apollo-mini" else stage.optim,
        "seed": job.fitting.seed,
        "data_seed": job.fitting.seed,
        "use_cpu": not on_gpu,
        "bf16": on_gpu and job.base.dtype == torch.bfloat16,
        "gradient_checkpointing": job.plan.gradient_checkpointing,
        "dataloader_pin_memory": on_gpu,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_total_limit": 2,  # where a loss is no number, the newest is not sound
        "log_level_replica": "error",
        "report_to": "none",
        "disable_tqdm": True,
    }


def _sft(job: Job, stage: Sft, work: Path, tools: ExitStack) -> Any:
    # the better side of a pair stands among the other examples already, and would count twice
    examples = [example for example in job.fitting.examples if example.rejected is None]
    if not examples:
        examples = list(job.fitting.examples)
        job.notes.append(
            f"sft learnt the better sides of {len(examples)} preference pairs: there are no other examples"
        )
    if job.fitting.placebo:
        examples = placebo.exchanged(examples, job.fitting.seed)
    rows = rows_of(examples, job.tokenizer, stage, job.template)
    if rows.too_long:
        job.notes.append(
            f"sft left out {rows.too_long} of {len(examples)} examples: they are longer than {stage.max_length} tokens"
        )
    if rows.unlearnt:
        job.notes.append(f"sft left out {rows.unlearnt} of {len(examples)} examples: nothing in them is learnt")
    data = Dataset.from_dict(
        {"input_ids": [row.input_ids for row in rows.kept], "labels": [row.labels for row in rows.kept]}
    )
    settings = SFTConfig(**_arguments(job, stage, work))
    trainer = SFTTrainer(job.model, settings, train_dataset=data, processing_class=job.tokenizer)
    if stage.packing:
        _check_packing(job, trainer.data_collator)
    return trainer


def _dpo(job: Job, stage: Dpo, work: Path, tools: ExitStack) -> Any:
    pairs = [example for example in job.fitting.examples if example.rejected is not None]
    if job.fitting.placebo:
        pairs = placebo.turned(pairs, job.fitting.seed)

    def length(pair: Example) -> int:
        return max(len(answered(pair.prompt, side, job.tokenizer)) for side in (pair.chosen, pair.rejected or ""))

    lengths = [length(pair) for pair in pairs]
    fitting = [pair for pair, tokens in zip(pairs, lengths, strict=True) if tokens <= stage.max_length]
    if not fitting:
        raise InputError(
            f"none of the {len(pairs)} pairs has at most {stage.max_length} tokens; the shortest has {min(lengths)}",
            remedy=f"raise tune.dpo.max_length to {min(lengths)} or more",
        )
    if left_out := len(pairs) - len(fitting):
        job.notes.append(
            f"dpo left out {left_out} of {len(pairs)} pairs: they are longer than {stage.max_length} tokens"
        )
    data = Dataset.from_list(
        [
            {
                "prompt": _turns(pair.prompt),
                "chosen": [{"role": "assistant", "content": pair.chosen}],
                "rejected": [{"role": "assistant", "content": pair.rejected}],
            }
            for pair in fitting
        ]
    )
    settings = DPOConfig(**_arguments(job, stage, work))
    return DPOTrainer(job.model, args=settings, train_dataset=data, processing_class=job.tokenizer)


def _grpo(job: Job, stage: Grpo, work: Path, tools: ExitStack) -> Any:
    prompts = list(job.fitting.prompts)
    if (said := reward_named(stage.reward).follow_up) is not None:
        asking = prompts
        challenged = processes.agree(
            lambda: [to_json(made) for made in conversations(asking, _own_answers(job, stage, asking), said)]
        )
        prompts = [prompt_from_json(row) for row in challenged]
    prompts = _answerable(job, stage, prompts)
    data = Dataset.from_list(
        [{"prompt": _turns((*_head(stage), *prompt.messages)), "prompt_id": prompt.id} for prompt in prompts]
    )
    settings = GRPOConfig(**_arguments(job, stage, work))
    scorer = tools.enter_context(RewardScorer(reward_named(stage.reward), stage.oracle, prompts))
    reward: Any = _Rewarded(job, stage, scorer)
    job.tokenizer.padding_side = "left"
    trainer = GRPOTrainer(
        job.model, reward_funcs=reward, args=settings, train_dataset=data, processing_class=job.tokenizer
    )
    reward.ends = frozenset(trainer.eos_token_ids)
    return trainer


def _head(stage: Grpo) -> tuple[Message, ...]:
    return () if stage.system_prompt is None else (Message("system", stage.system_prompt),)


def _answerable(job: Job, stage: Grpo, prompts: Sequence[Prompt]) -> list[Prompt]:
    """The prompts that leave room for an answer in the model's context; enough of them for a step."""
    context = getattr(job.base.config.get_text_config(), "max_position_embeddings", None) or math.inf
    room = context - stage.max_completion_length
    kept = [prompt for prompt in prompts if len(asked((*_head(stage), *prompt.messages), job.tokenizer)) <= room]
    if left_out := len(prompts) - len(kept):
        job.notes.append(
            f"grpo left out {left_out} of {len(prompts)} prompts: with {stage.max_completion_length} new tokens they are longer than "
            f"the model's context of {context}"
        )
    per_step = stage.rows_per_step // stage.num_generations
    if len(kept) < per_step:
        raise InputError(
            f"a step of grpo takes {per_step} prompts ({stage.rows_per_step} rows in groups of {stage.num_generations}), and there "
            f"are {len(kept)}" + (f", {left_out} being too long" if left_out else ""),
            remedy="lower tune.grpo.gradient_accumulation_steps, or name more prompts under tune.grpo.prompts",
        )
    return kept


def _own_answers(job: Job, stage: Grpo, prompts: Sequence[Prompt]) -> list[Answer]:
    """What the model says to the prompts as this stage finds it, greedily."""
    asks = [Ask(prompt.id, (*_head(stage), *prompt.messages)) for prompt in prompts]
    made = [Answer(None, FinishReason.ERROR, error="no answer was given")] * len(asks)
    job.model.eval()  # the trainer turns dropout on again
    for batch in job.opened.answer(asks, Decode(stage.max_completion_length)):
        for at, answer in batch:
            made[at] = answer
    return made


TRAINERS: Mapping[type, Callable[[Job, Any, Path, ExitStack], Any]] = {Sft: _sft, Dpo: _dpo, Grpo: _grpo}


class _Rewarded:
    """A registered reward as TRL calls one.

    Attributes:
        ends: ids of tokens that end an answer; one that does not end was cut.
    """

    def __init__(self, job: Job, stage: Grpo, scorer: RewardScorer) -> None:
        self.__name__ = stage.reward
        self.ends: frozenset[int] = frozenset()
        self._scorer = scorer
        self._group = stage.num_generations
        self._seed = job.fitting.seed if job.fitting.placebo else None

    def __call__(
        self,
        *,
        completions: Any,
        completion_ids: Any,
        prompt_id: list[str],
        trainer_state: Any,
        log_metric: Any,
        **rest: Any,
    ) -> list[float]:
        texts = [turns[0]["content"] for turns in completions]
        finished = [bool(ids) and ids[-1] in self.ends for ids in completion_ids]
        rewards = self._scorer.score(prompt_id, texts, finished)
        for name, value in self._scorer.components(prompt_id, texts, finished).items():
            log_metric(name, value)
        if self._seed is not None:
            rewards = placebo.exchanged_rewards(rewards, self._group, f"{self._seed} {trainer_state.global_step}")
        return rewards


def _turns(messages: Sequence[Any]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _check_packing(job: Job, collator: Any) -> None:
    """Raise ModelError where examples that share a row see each other.

    It is tried out, since it depends on the architecture and on the attention that is installed: what the model computes
    for an example must not change with the one before it in the row.
    """
    ids = torch.randperm(len(job.tokenizer), generator=torch.Generator().manual_seed(0))[:24].tolist()
    why = "its examples would see each other"
    try:
        one, other = (_after(job, collator, before, ids[16:]) for before in (ids[:8], ids[8:16]))
        if (one - other).abs().max() <= 1e-2 * one.abs().max():
            return
    except ValueError as error:  # of transformers, for kernels without which it cannot keep them apart
        why = str(error)
    raise ModelError(
        f"{job.fitting.model.name} cannot be trained on packed rows here: {why}",
        remedy="set tune.sft.packing = false, or install flash-attn (and flash-linear-attention, causal-conv1d) on a GPU",
    )


def _after(job: Job, collator: Any, before: list[int], ids: list[int]) -> torch.Tensor:
    """Logits (tokens, vocabulary) of an example that stands in one row with the one before it."""
    row = {"input_ids": before + ids, "labels": before + ids, "seq_lengths": [len(before), len(ids)]}
    batch = {key: value.to(job.device) if hasattr(value, "to") else value for key, value in collator([row]).items()}
    del batch["labels"]
    training = job.model.training
    with torch.no_grad():
        logits: torch.Tensor = job.model.eval()(**batch, use_cache=False).logits[0, len(before) :].float()
    job.model.train(training)
    return logits
