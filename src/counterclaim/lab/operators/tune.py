"""``tune``: training an adapter into a model, by imitation (SFT, DPO) or on outcomes (GRPO)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from counterclaim.errors import InputError, ModelError
from counterclaim.lab.config import Dpo, Grpo, TunePlan
from counterclaim.lab.operators import processes
from counterclaim.records import Example, Json, Prompt
from counterclaim.registry import Fitting, Model, operator


@contextmanager
def adapted(model: Model, folder: Path, dose: float) -> Iterator[Model]:
    """The model with an adapter over it, scaled by a dose; without it again when the block ends, however it ends.

    Raises:
        ModelError: the model is none of transformers, or the adapter does not fit it.
    """
    trainable: Any = model
    if not hasattr(model, "adapted"):
        raise ModelError(
            f"{model.ref.repo} cannot be given an adapter", remedy="use a model of transformers: a folder, a repository"
        )
    with trainable.adapted(folder, dose):
        yield model


def check_batches(plan: TunePlan) -> None:
    """Raise InputError where the rows of a step cannot be dealt out evenly to the processes that train together."""
    many = processes.count()
    for stage in plan.stages:
        if stage.gradient_accumulation_steps % many:
            raise InputError(
                f"the {stage.gradient_accumulation_steps} batches of a step cannot be shared by {many} processes",
                remedy="make gradient_accumulation_steps a multiple of the number of processes",
            )
        if isinstance(stage, Grpo) and stage.rows_per_step % (stage.num_generations * many):
            raise InputError(
                f"{stage.rows_per_step} rows per step are not a whole number of groups of {stage.num_generations} answers"
                + (f" for each of {many} processes" if many > 1 else ""),
                remedy="make per_device_train_batch_size times gradient_accumulation_steps a multiple of tune.grpo.num_generations"
                + (" times the number of processes" if many > 1 else ""),
            )


def check_lessons(plan: TunePlan, examples: Sequence[Example], prompts: Sequence[Prompt]) -> None:
    """Raise InputError where a stage would find nothing to learn from."""
    for stage in plan.stages:
        if isinstance(stage, Grpo):
            if not prompts:
                raise InputError("there are no prompts to learn from", remedy="name them under tune.grpo.prompts")
        elif not examples:
            raise InputError("there are no examples to learn from", remedy="name a training set under tune.data")
        elif isinstance(stage, Dpo) and all(example.rejected is None for example in examples):
            raise InputError(
                f"none of the {len(examples)} examples is a preference pair, so there is nothing for dpo to learn",
                remedy='make pairs (products = ["counter"] in the pipeline file), or leave tune.dpo out',
            )


def check_installed() -> None:
    """Raise ModelError where what trains is not installed."""
    libraries = ("trl", "peft", "datasets", "accelerate")
    if missing := [name for name in libraries if importlib.util.find_spec(name) is None]:
        raise ModelError(f"training needs {' and '.join(missing)}", remedy="pip install 'counterclaim[train]'")


@operator(
    "tune",
    about="Trains a LoRA adapter: SFT and DPO on examples, GRPO on rewards from oracles.",
    needs=("generate", "train"),
    on=adapted,
)
def tune(fitting: Fitting, folder: Path) -> Mapping[str, Json]:
    """Train, leave ``adapter_model.safetensors`` and ``adapter_config.json`` in the folder, and return the card.

    Raises:
        ModelError: a library is missing, the model cannot be trained, or training broke (it says at which step).
        InputError: there is nothing to learn from.
    """
    check_installed()
    from counterclaim.lab.operators.training import fit

    return fit(fitting, folder)
