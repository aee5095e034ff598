"""``[treatment.tune]`` of a study file: what is trained, on what, how, and with which seeds; recipes by name.

Settings have the names that TRL and PEFT give them, and are handed on under these names.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Lt, MinLen

from counterclaim.config import Before, Beside, TableError, table
from counterclaim.lab.config.common import Ascending, Count, Seeds, TrainingPrompts

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
_MODULES: Mapping[Any, tuple[str, ...]] = {"attention": ATTENTION, "all-linear": (*ATTENTION, *MLP)}


def _modules(value: Any) -> Any:
    return _MODULES.get(value, value) if isinstance(value, str) else value


@table
class Lora:
    """The adapter, by the names of PEFT.

    Attributes:
        target_modules: `attention`, `all-linear` (attention and MLP), or a list of module names. They are named here because
            what PEFT itself takes for all linear modules differs between architectures
        r: rank of the two factors
        lora_alpha: scale, divided by the rank
        use_rslora: divide by the square root of the rank instead (Kalajdzievski 2023)
        lora_dropout: on the adapter's input during training
    """

    target_modules: Annotated[tuple[str, ...], MinLen(1), Before(_modules)] = _MODULES["all-linear"]
    r: Count = 16
    lora_alpha: Annotated[float, Gt(0)] = 32.0
    use_rslora: bool = False
    lora_dropout: Annotated[float, Ge(0), Lt(1)] = 0.0


@table
class Stage:
    """What every kind of training has, by the names of TRL.

    Attributes:
        learning_rate: the highest
        num_train_epochs: passes over the data, where `max_steps` is not set
        max_steps: optimiser steps; goes before `num_train_epochs`
        per_device_train_batch_size: rows at once on one device
        gradient_accumulation_steps: batches per optimiser step on one device; of several processes each takes its share of
            them, so that a step has as many rows as on one
        lr_scheduler_type: `cosine`, `linear` or `constant`, after the warm-up
        warmup_steps: steps in which the learning rate rises; below 1 their share of all
        optim: `adamw_torch_fused`, `adamw_bnb_8bit` (8-bit states; CUDA, bitsandbytes) or `apollo-mini` (rank 1, scale 128)
        weight_decay: decoupled
        max_grad_norm: largest norm of the gradient
        save_steps: optimiser steps between checkpoints, from which a killed training goes on
    """

    learning_rate: Annotated[float, Gt(0)] = 2e-4
    num_train_epochs: Annotated[float, Gt(0)] = 3.0
    max_steps: Count | None = None
    per_device_train_batch_size: Count = 8
    gradient_accumulation_steps: Count = 4
    lr_scheduler_type: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_steps: Annotated[float, Ge(0)] = 0.1
    optim: Literal["adamw_torch_fused", "adamw_bnb_8bit", "apollo-mini"] = "adamw_torch_fused"
    weight_decay: Annotated[float, Ge(0)] = 0.0
    max_grad_norm: Annotated[float, Gt(0)] = 1.0
    save_steps: Count = 50

    @property
    def rows_per_step(self) -> int:
        """Rows per optimiser step, over all devices."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps


@table
class Sft(Stage):
    """Supervised fine-tuning on chosen answers.

    Attributes:
        loss_on: `completion` (the last answer), `assistant` (all its turns) or `everything`
        mask_think: leave thoughts (`<think>...</think>`) out of the loss
        packing: several examples in one row, where the model keeps them apart (tested before training)
        max_length: tokens of an example; longer ones are left out and counted
    """

    loss_on: Literal["completion", "assistant", "everything"] = "completion"
    mask_think: bool = False
    packing: bool = False
    max_length: Annotated[int, Ge(2)] = 2048


@table
class Dpo(Stage):
    """Direct preference optimisation (Rafailov et al. 2023), on top of the stage before.

    Attributes:
        beta: how strongly the model is held to what it was
        max_length: tokens of prompt and answer; longer pairs are left out
    """

    beta: Annotated[float, Gt(0)] = 0.1
    max_length: Annotated[int, Ge(2)] = 2048


@table
class Grpo(Stage):
    """Group relative policy optimisation (Shao et al. 2024) on rewards from oracles.

    Attributes:
        reward: a registered reward: `counterclaim list rewards`
        oracle: the scorer that decides whether an answer is right, for rewards that need it
        prompts: what is answered during training; never the split on which the claim is tested
        num_generations: answers per prompt that are compared with each other
        temperature: of these answers
        max_completion_length: token budget of these answers
        beta: weight of the Kullback-Leibler divergence from the model before
        scale_rewards: divide advantages by the spread of rewards in each `group`, in the `batch`, or by `none`. With groups, a
            prompt on which nearly all answers agree weighs as much as one on which they differ
        system_prompt: put before every prompt during training
    """

    reward: str = "ordered-outcome"
    oracle: str = "exact"
    prompts: TrainingPrompts | None = None
    num_generations: Annotated[int, Ge(2)] = 8
    temperature: Annotated[float, Gt(0)] = 1.0
    max_completion_length: Count = 256
    beta: Annotated[float, Ge(0)] = 0.0
    scale_rewards: Literal["group", "batch", "none"] = "group"
    system_prompt: str | None = None


@table
class TunePlan:
    """How an arm is trained: SFT, DPO and GRPO, in this order, each with the adapter of the one before.

    Attributes:
        recipe: where to start from: `counterclaim list recipes`. What the file says itself goes before
        data: examples to imitate: a folder of `counterclaim teach`, a file in a format of TRL, or a [pipeline file](teach.md),
            which is run first
        seeds: training seeds; each is an adapter of its own and a replicate of the arm
        doses: other scales of the adapters: 0 is the arm `do-nothing`, others are `dose:VALUE`
        placebo: add an arm `placebo`, trained by the same recipe on shuffled data
        gradient_checkpointing: save memory, pay time
        lora: the adapter
        sft: supervised fine-tuning
        dpo: preference optimisation
        grpo: training on rewards
    """

    operator: ClassVar[str] = "tune"

    recipe: str | None = None
    data: Annotated[Path, Beside()] | None = None
    seeds: Seeds = (0,)
    doses: Ascending = ()
    placebo: bool = False
    gradient_checkpointing: bool = False
    lora: Lora = Lora()
    sft: Sft | None = None
    dpo: Dpo | None = None
    grpo: Grpo | None = None

    def __post_init__(self) -> None:
        if not self.stages:
            raise TableError("nothing is trained", remedy="name a recipe, or add a table sft, dpo or grpo to it")
        imitates = bool(self.sft or self.dpo)
        if imitates and self.data is None:
            raise TableError(
                "sft and dpo learn from examples", key=("data",), remedy="name a training set or a pipeline file"
            )
        if self.data is not None and not imitates:
            raise TableError(
                "grpo learns from rewards, not from examples", key=("data",),
                remedy="leave data out; name prompts under grpo",
            )  # fmt: skip
        if self.grpo and self.grpo.prompts is None:
            raise TableError(
                "no prompts are named to be answered during training", key=("grpo",),
                remedy='add prompts = { set = "tiny", split = "train" }, or file = "prompts.jsonl"',
            )  # fmt: skip

    @classmethod
    def of(cls, *stages: Sft | Dpo | Grpo, **more: Any) -> TunePlan:
        """A plan of stages, with what ``more`` says."""
        more |= {type(stage).__name__.lower(): stage for stage in stages}
        return cls(**more)

    @property
    def stages(self) -> tuple[Sft | Dpo | Grpo, ...]:
        """Those that are there, in their order."""
        return tuple(stage for stage in (self.sft, self.dpo, self.grpo) if stage is not None)


def with_recipe(stated: Any) -> Any:
    """A ``tune`` table laid over the recipe that it names.

    Raises:
        TableError: there is no such recipe.
    """
    if not isinstance(stated, dict):
        return stated
    name = stated.get("recipe")
    if name is not None and name not in RECIPES:
        raise TableError(f"there is no recipe {name!r}", key=("recipe",), remedy=f"choose among {', '.join(RECIPES)}")
    merged = _laid_over({} if name is None else RECIPES[name], stated)
    for stage in ("sft", "dpo", "grpo"):
        if isinstance(merged.get(stage), dict) and "max_steps" in merged[stage]:
            # they do not count, and two files that differ in them alone are one recipe
            merged[stage].pop("num_train_epochs", None)
    return merged


def _laid_over(recipe: Mapping[str, Any], stated: Mapping[str, Any]) -> dict[str, Any]:
    merged = {key: dict(value) if isinstance(value, Mapping) else value for key, value in recipe.items()}
    for key, value in stated.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, dict):
            if "num_train_epochs" in value:
                below.pop("max_steps", None)  # they would go before the epochs that the file asks for
            merged[key] = {**below, **value}
        else:
            merged[key] = dict(value) if isinstance(value, Mapping) else value
    return merged


def _recipes() -> dict[str, Mapping[str, Any]]:
    read = tomllib.loads(Path(__file__).with_name("recipes.toml").read_text(encoding="utf-8"))
    return {name: _laid_over(read.get(table.pop("like", ""), {}), table) for name, table in read.items()}


RECIPES: Mapping[str, Mapping[str, Any]] = _recipes()
"""Recipes by the name that a study file gives under ``tune.recipe``."""
