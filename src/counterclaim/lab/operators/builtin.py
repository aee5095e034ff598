"""The operators that ship: ``tune``, ``temper``, ``steer`` and ``sidecar``; importing them imports no torch."""

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
    check_batches(fitting.plan)
    check_training_set(fitting.plan, fitting.examples, fitting.prompts)
    from counterclaim.lab.operators.training import fit

    return fit(fitting, folder)


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


def check_training_set(plan: TunePlan, examples: Sequence[Example], prompts: Sequence[Prompt]) -> None:
    """Raise InputError where there is nothing to train a stage on."""
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


@contextmanager
def edited(model: Model, folder: Path, dose: float) -> Iterator[Model]:
    """The model with an edit over it, by a dose; without it again when the block ends, however it ends.

    Raises:
        ModelError: the model is none of transformers, or the edit was made for another one.
    """
    editable: Any = model
    if not hasattr(model, "edited"):
        raise ModelError(
            f"{model.ref.repo} cannot be edited", remedy="use a model of transformers: a folder, a repository"
        )
    with editable.edited(folder, dose):
        yield model


@operator(
    "temper",
    about="Scales attention heads down that go with a cohort of answers, by λ = 1 − dose at the input of o_proj.",
    needs=("generate", "activations", "edit"),
    on=edited,
    by_row=True,
)
def temper(fitting: Fitting, folder: Path) -> Mapping[str, Json]:
    """Choose the heads, leave the edit in the folder, and return the card.

    Raises:
        InputError: a cohort has too few answers, or there are fewer heads than are to be tempered.
        ModelError: the model has no such heads, or cannot be read.
    """
    from counterclaim.lab.operators.edits import fit_temper

    return fit_temper(fitting, folder)


@operator(
    "steer",
    about="Adds the difference between two cohorts of answers to activations, or takes its direction out of them.",
    needs=("generate", "activations", "edit"),
    on=edited,
    by_row=True,
)
def steer(fitting: Fitting, folder: Path) -> Mapping[str, Json]:
    """Estimate the directions, leave the edit in the folder, and return the card.

    Raises:
        InputError: a cohort has too few answers, or there is no direction between the two.
        ModelError: the model has no such layer or site, or cannot be read.
    """
    from counterclaim.lab.operators.edits import fit_steer

    return fit_steer(fitting, folder)


@contextmanager
def gated(model: Model, folder: Path, dose: float) -> Iterator[Model]:
    """The model behind its gate, whose threshold is scaled by a dose: at 0 it lets every answer pass as it is.

    Raises:
        ModelError: the model's activations cannot be read, or the gate was fitted on another model.
    """
    from counterclaim.lab.operators.gating import Gated

    yield Gated(model, folder, dose)


@operator(
    "sidecar",
    about="Hedges an answer, or asks for it again with care, where a probe on the frozen model has little confidence in it.",
    needs=("generate", "activations"),
    on=gated,
)
def sidecar(fitting: Fitting, folder: Path) -> Mapping[str, Json]:
    """Train the probe, choose its threshold out of fold, leave ``gate.json`` and ``gate.safetensors``, and return the card.

    Raises:
        InputError: answers were cut, were not scored, or are all of one class.
        ModelError: the model's activations cannot be read.
    """
    from counterclaim.lab.operators.gating import fit

    return fit(fitting, folder)
