"""``sidecar``: a gate beside a frozen model, which hedges an answer, or asks for it again, where a probe has little confidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from counterclaim.records import Json
from counterclaim.registry import Fitting, Model, operator


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
