"""What a probe reads of a model's answers: one row of features for each, or one for every token of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterclaim.errors import InputError
from counterclaim.lab.config import Layer, Position, ProbePlan
from counterclaim.lab.models.hf.activations import COUNT, Activations, CaptureSpec, Exchange, read
from counterclaim.lab.models.hf.model import HfModel
from counterclaim.lab.models.hf.sites import layers_of

Floats = NDArray[np.float64]
TOKENS = 64
"""Response tokens, from the end, that a probe over single tokens reads."""


def read_for(
    model: HfModel,
    told: Sequence[Exchange],
    probes: Sequence[ProbePlan],
    watch: Callable[[int, int], None] | None = None,
) -> Activations:
    """Everything that some probes read of the answers, in one pass.

    Raises:
        InputError: a layer, or as many layers up to it, is not there.
        ModelError: the model cannot be read, or no answer can.
    """
    n = len(layers_of(model.network))
    layers = {layer for probe in probes for layer in _layers(probe.layer, probe.average, n)}
    tokens = TOKENS if any(probe.reads_tokens for probe in probes) else 0
    ordered = sorted(layers, key=lambda layer: n if layer == "last" else layer)
    positions = tuple(dict.fromkeys(probe.position for probe in probes))
    return read(model, told, CaptureSpec(tuple(ordered), positions, tokens=tokens), watch)


def rows_of(
    blocks: Mapping[str, NDArray[Any]], layer: Layer, average: int, position: Position, n_layers: int
) -> Floats:
    """Features (n, d): the mean over so many layers up to this one, at a position."""
    parts = [blocks[f"{_block(each)}/{position}"] for each in _layers(layer, average, n_layers)]
    return np.asarray(np.mean(parts, axis=0, dtype=np.float64) if average > 1 else parts[0], np.float64)


def tokens_of(blocks: Mapping[str, NDArray[Any]], layer: Layer) -> list[Floats]:
    """Features of every token that was kept, one (tokens, d) for each answer."""
    states = blocks[f"{_block(layer)}/tokens"]
    return [np.asarray(row[: int(count)], np.float64) for row, count in zip(states, blocks[COUNT], strict=True)]


def probe_features(found: Activations, probe: ProbePlan, n_layers: int) -> Floats | list[Floats]:
    """What one probe reads, of the answers that could be read."""
    if probe.reads_tokens:
        return tokens_of(found.blocks, probe.layer)
    return rows_of(found.blocks, probe.layer, probe.average, probe.position, n_layers)


def _block(layer: Layer) -> str:
    return "h_last" if layer == "last" else f"layer.{layer}"


def _layers(layer: Layer, average: int, n_layers: int) -> list[Layer]:
    """The layers of which the mean is taken; ``last`` stands for the output of the last layer after the final norm."""
    top = n_layers - 1 if layer == "last" else layer
    if not 0 <= top < n_layers or average > top + 1:
        raise InputError(
            f"the model has {n_layers} layers, so there is no mean of {average} up to layer {layer}"
            if average > 1
            else f"the model has no layer {layer}, for it has {n_layers}",
            remedy=f"name a layer from 0 to {n_layers - 1}, and fewer layers to take the mean of",
        )
    below: list[Layer] = list(range(top - average + 1, top))
    return [*below, layer]
