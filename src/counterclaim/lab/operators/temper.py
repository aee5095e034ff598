"""``temper``: attention heads scaled down at the input of ``o_proj``, without training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from counterclaim.errors import ModelError
from counterclaim.records import Json
from counterclaim.registry import Fitting, Model, operator


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
