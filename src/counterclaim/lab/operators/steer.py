"""``steer``: a direction between two cohorts of answers added to activations, or a subspace taken out, without training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from counterclaim.lab.operators.temper import edited
from counterclaim.records import Json
from counterclaim.registry import Fitting, operator


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
