"""``[treatment.tune]`` of a study file: what is trained, on what, how, and with which seeds; recipes by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from counterclaim.spec._choices import PromptChoice

Optimiser = Literal["adamw", "adamw-8bit", "apollo-mini"]
Schedule = Literal["cosine", "linear", "constant"]
LossOn = Literal["completion", "assistant", "everything"]

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Lora:
    """The adapter.

    Attributes:
        targets: names of the linear modules it is laid on; ``attention`` and ``all-linear`` in a file stand for
            ``ATTENTION`` and for ``ATTENTION`` with ``MLP``. Named, because what peft itself takes for all linear modules differs
            between architectures.
        rank: of the two factors.
        alpha: scale; divided by the rank, or by its square root with ``rslora``.
        rslora: rank-stabilised scaling (Kalajdzievski 2023).
        dropout: on the adapter's input while it is trained.
    """

    targets: tuple[str, ...] = (*ATTENTION, *MLP)
    rank: int = 16
    alpha: float = 32.0
    rslora: bool = False
    dropout: float = 0.0


@dataclass(frozen=True, slots=True)
class Stage:
    """What every kind of training has.

    Attributes:
        learning_rate: the highest.
        epochs: passes over the data, where ``steps`` is None.
        steps: optimiser steps; goes before ``epochs``.
        batch_size: rows at once on one device.
        effective_batch: rows per optimiser step, over all devices; a multiple of ``batch_size``.
        schedule: of the learning rate, after the warm-up.
        warmup: share of the steps in which the learning rate rises.
        optimiser: AdamW, the same with 8-bit states (CUDA, bitsandbytes), or APOLLO-Mini (rank 1, scale 128).
        weight_decay: decoupled.
        clip: largest norm of the gradient.
        checkpoint_every: optimiser steps between checkpoints.
    """

    learning_rate: float = 2e-4
    epochs: float = 3.0
    steps: int | None = None
    batch_size: int = 8
    effective_batch: int = 32
    schedule: Schedule = "cosine"
    warmup: float = 0.1
    optimiser: Optimiser = "adamw"
    weight_decay: float = 0.0
    clip: float = 1.0
    checkpoint_every: int = 50


@dataclass(frozen=True, slots=True)
class Sft(Stage):
    """Supervised fine-tuning on chosen answers.

    Attributes:
        loss_on: the completion that is to be learnt; every turn of the assistant; or everything.
        mask_think: leave thoughts (``<think>...</think>``) out of the loss.
        packing: several examples in one row.
        max_length: tokens of an example; longer ones are cut at the end.
    """

    loss_on: LossOn = "completion"
    mask_think: bool = False
    packing: bool = False
    max_length: int = 2048


@dataclass(frozen=True, slots=True)
class Dpo(Stage):
    """Direct preference optimisation (Rafailov et al. 2023), on top of what was trained before.

    Attributes:
        beta: how strongly the model is held to what it was.
        max_length: tokens of prompt and answer.
    """

    beta: float = 0.1
    max_length: int = 2048


@dataclass(frozen=True, slots=True)
class Grpo(Stage):
    """Group relative policy optimisation (Shao et al. 2024) on rewards from oracles.

    Attributes:
        reward: a registered reward (``counterclaim list rewards``).
        oracle: instrument that says whether an answer is right, for rewards that ask.
        prompts: what is answered while training; never the split on which the claim is tested.
        generations: answers per prompt that are compared with each other.
        temperature: of these answers.
        max_new_tokens: of these answers.
        beta: weight of the Kullback-Leibler divergence from the model before.
        system_prompt: put before every prompt while training.
    """

    reward: str = "ordered-outcome"
    oracle: str = "exact"
    prompts: PromptChoice | None = None
    generations: int = 8
    temperature: float = 1.0
    max_new_tokens: int = 256
    beta: float = 0.0
    system_prompt: str | None = None


@dataclass(frozen=True, slots=True)
class TunePlan:
    """How an arm is trained.

    Attributes:
        stages: in order; each goes on with the adapter of the one before.
        lora: the adapter.
        data: a training set (folder of ``counterclaim teach``, or a file), or a pipeline file that makes one; None where
            answers are learnt from rewards only.
        seeds: training seeds; each is a replicate of the arm.
        recipe: name of the recipe it started from, for the record.
        gradient_checkpointing: save memory, pay time.
        placebo: shuffle what there is to be learnt.
    """

    stages: tuple[Sft | Dpo | Grpo, ...]
    lora: Lora = Lora()
    data: Path | None = None
    seeds: tuple[int, ...] = (0,)
    recipe: str | None = None
    gradient_checkpointing: bool = False
    placebo: bool = False
