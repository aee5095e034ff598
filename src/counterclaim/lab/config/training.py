"""``[treatment.tune]`` of a study file: what is trained, on what, how, and with which seeds; recipes by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from counterclaim.errors import InputError
from counterclaim.lab.config.prompts import Doses, PromptChoice, prompts_schema

if TYPE_CHECKING:
    from pydantic import BaseModel

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
        packing: several examples in one row, where the model keeps them apart (it is tried out before training).
        max_length: tokens of an example; longer ones are left out.
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
        max_length: tokens of prompt and answer; longer pairs are left out.
    """

    beta: float = 0.1
    max_length: int = 2048


@dataclass(frozen=True, slots=True)
class Grpo(Stage):
    """Group relative policy optimisation (Shao et al. 2024) on rewards from oracles.

    Attributes:
        reward: a registered reward (``counterclaim list rewards``).
        oracle: scorer that says whether an answer is right, for rewards that ask.
        prompts: what is answered while training; never the split on which the claim is tested.
        generations: answers per prompt that are compared with each other.
        temperature: of these answers.
        max_new_tokens: of these answers.
        beta: weight of the Kullback-Leibler divergence from the model before.
        scale: over what the spread of rewards is taken that advantages are divided by: each group of answers to one prompt,
            the whole batch, or nothing. With groups, a prompt on which nearly all answers agree weighs as much as one
            on which they differ.
        system_prompt: put before every prompt while training.
    """

    reward: str = "ordered-outcome"
    oracle: str = "exact"
    prompts: PromptChoice | None = None
    generations: int = 8
    temperature: float = 1.0
    max_new_tokens: int = 256
    beta: float = 0.0
    scale: Literal["group", "batch", "none"] = "group"
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

    operator: ClassVar[str] = "tune"

    stages: tuple[Sft | Dpo | Grpo, ...]
    lora: Lora = Lora()
    data: Path | None = None
    seeds: tuple[int, ...] = (0,)
    recipe: str | None = None
    gradient_checkpointing: bool = False
    placebo: bool = False


_PAPER: Mapping[str, Any] = {
    "lora": {"targets": "all-linear", "rank": 64, "alpha": 128.0, "rslora": True, "dropout": 0.05},
    "sft": {
        "learning_rate": 2e-4, "epochs": 3.0, "schedule": "cosine", "warmup": 0.1, "batch_size": 4, "effective_batch": 32,
        "optimiser": "apollo-mini", "mask_think": True,
    },
    "dpo": {"learning_rate": 5e-6, "epochs": 2.0, "beta": 0.1, "batch_size": 2, "effective_batch": 32},
    "gradient_checkpointing": True,
}  # fmt: skip

RECIPES: Mapping[str, Mapping[str, Any]] = {
    "paper-sft-dpo": _PAPER,
    "paper-attention": {**_PAPER, "lora": {**_PAPER["lora"], "targets": "attention"}},
    "paper-all-modules": {**_PAPER, "lora": {**_PAPER["lora"], "rank": 32, "alpha": 64.0}},
    "sft": {"sft": {}},
    "sft-dpo": {"sft": {}, "dpo": {"learning_rate": 5e-6, "epochs": 2.0}},
    "outcome": {"grpo": {"learning_rate": 1e-5, "steps": 200, "batch_size": 8, "effective_batch": 64}},
}
"""Recipes by the name that a study file gives under ``tune.recipe``; what the file says itself goes before."""

_METHODS: Mapping[str, type[Sft | Dpo | Grpo]] = {"sft": Sft, "dpo": Dpo, "grpo": Grpo}
_TARGETS: Mapping[str, tuple[str, ...]] = {"attention": ATTENTION, "all-linear": (*ATTENTION, *MLP)}


def to_tune(table: Any, path: Path, where: str) -> tuple[TunePlan, Doses]:
    """The plan that a validated ``tune`` table stands for, and the arms that it brings along.

    Args:
        table: as ``tune_schema`` validated it.
        path: the study file; files that the table names are found from its folder.
        where: the table's name, for messages.

    Raises:
        InputError: the recipe is unknown, nothing is trained, or settings contradict each other.
    """
    said = table.model_dump(exclude_none=True)
    recipe = said.get("recipe")
    if recipe is not None and recipe not in RECIPES:
        raise InputError(
            f"{where}.recipe: there is no recipe {recipe!r}", path=path, remedy=f"choose among {', '.join(RECIPES)}"
        )
    whole = _merged(RECIPES.get(recipe, {}), said)
    stages = tuple(_stage(method, whole[method], path, where) for method in _METHODS if method in whole)
    if not stages:
        raise InputError(
            f"{where}: nothing is trained",
            path=path,
            remedy=f"name a recipe, or add a table [{where}.sft], .dpo or .grpo",
        )
    imitates = any(not isinstance(stage, Grpo) for stage in stages)
    if imitates != ("data" in whole):
        raise InputError(
            f"{where}.data: {'sft and dpo learn from examples' if imitates else 'grpo learns from rewards, not from examples'}",
            path=path,
            remedy="name a training set or a pipeline file" if imitates else "leave data out; name prompts under grpo",
        )
    for stage in stages:
        if isinstance(stage, Grpo) and stage.prompts is None:
            raise InputError(
                f"{where}.grpo: nobody said which prompts are answered while training",
                path=path,
                remedy=f'add [{where}.grpo.prompts] with set = "tiny", split = "train", or file = "prompts.jsonl"',
            )
        if stage.effective_batch % stage.batch_size:
            raise InputError(
                f"{where}: effective_batch {stage.effective_batch} is no multiple of batch_size {stage.batch_size}",
                path=path,
                remedy="change one of them",
            )
    lora = dict(whole.get("lora", {}))
    if "targets" in lora:
        lora["targets"] = (
            tuple(_TARGETS.get(lora["targets"], ())) if isinstance(lora["targets"], str) else tuple(lora["targets"])
        )
    plan = TunePlan(
        stages=stages,
        lora=Lora(**lora),
        data=path.parent / Path(whole["data"]).expanduser() if "data" in whole else None,
        seeds=tuple(whole.get("seeds", (0,))),
        recipe=recipe,
        gradient_checkpointing=whole.get("gradient_checkpointing", False),
    )
    if repeated := [seed for seed in plan.seeds if plan.seeds.count(seed) > 1]:
        raise InputError(
            f"{where}.seeds: {repeated[0]} stands there twice, and each seed is one adapter",
            path=path,
            remedy="name different seeds",
        )
    return plan, Doses(tuple(sorted(set(whole.get("doses", ())))), whole.get("placebo", False))


def _merged(recipe: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe with what the file says itself laid over it, table by table."""
    whole = {key: dict(value) if isinstance(value, Mapping) else value for key, value in recipe.items()}
    for key, value in said.items():
        if not isinstance(value, Mapping):
            whole[key] = value
            continue
        below = whole.get(key, {})
        if "epochs" in value:
            below.pop("steps", None)  # they would go before the epochs that the file asks for
        whole[key] = {**below, **value}
    return whole


def _stage(method: str, said: Mapping[str, Any], path: Path, where: str) -> Sft | Dpo | Grpo:
    kind = _METHODS[method]
    settings = dict(said)
    if (chosen := settings.get("prompts")) is not None:
        settings["prompts"] = PromptChoice.of_table(chosen, path, f"{where}.grpo.prompts")
    if {"steps", "epochs"} <= settings.keys():
        settings.pop("epochs")  # they are not counted, and two files that differ in them alone are one recipe
    return kind(**{item.name: settings[item.name] for item in fields(kind) if item.name in settings})


def tune_schema() -> type[BaseModel]:
    """The schema of a ``tune`` table; what is left out comes from the recipe, or else from the dataclasses above."""
    from pydantic import BaseModel, ConfigDict, Field

    Prompts = prompts_schema(learnt=True)

    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    class LoraTable(Strict):
        targets: Literal["attention", "all-linear"] | Annotated[list[str], Field(min_length=1)] | None = None
        rank: int | None = Field(default=None, ge=1)
        alpha: float | None = Field(default=None, gt=0)
        rslora: bool | None = None
        dropout: float | None = Field(default=None, ge=0, lt=1)

    class StageTable(Strict):
        learning_rate: float | None = Field(default=None, gt=0)
        epochs: float | None = Field(default=None, gt=0)
        steps: int | None = Field(default=None, ge=1)
        batch_size: int | None = Field(default=None, ge=1)
        effective_batch: int | None = Field(default=None, ge=1)
        schedule: Schedule | None = None
        warmup: float | None = Field(default=None, ge=0, lt=1)
        optimiser: Optimiser | None = None
        weight_decay: float | None = Field(default=None, ge=0)
        clip: float | None = Field(default=None, gt=0)
        checkpoint_every: int | None = Field(default=None, ge=1)

    class SftTable(StageTable):
        loss_on: LossOn | None = None
        mask_think: bool | None = None
        packing: bool | None = None
        max_length: int | None = Field(default=None, ge=2)

    class DpoTable(StageTable):
        beta: float | None = Field(default=None, gt=0)
        max_length: int | None = Field(default=None, ge=2)

    class GrpoTable(StageTable):
        reward: str | None = None
        oracle: str | None = None
        prompts: Prompts | None = None  # type: ignore[valid-type]  # a class that is made on call
        generations: int | None = Field(default=None, ge=2)
        temperature: float | None = Field(default=None, gt=0)
        max_new_tokens: int | None = Field(default=None, ge=1)
        beta: float | None = Field(default=None, ge=0)
        scale: Literal["group", "batch", "none"] | None = None
        system_prompt: str | None = None

    class TuneTable(Strict):
        recipe: str | None = None
        data: str | None = None
        seeds: list[int] | None = Field(default=None, min_length=1)
        doses: list[float] | None = None
        placebo: bool | None = None
        gradient_checkpointing: bool | None = None
        lora: LoraTable | None = None
        sft: SftTable | None = None
        dpo: DpoTable | None = None
        grpo: GrpoTable | None = None

    return TuneTable
