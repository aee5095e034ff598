"""Subjects of the five steps whose features are made up, so that what a probe can find in them is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from counterclaim.audit.metrics import Floats
from counterclaim.lab.config import FiveSteps, Layer, Position, ProbePlan
from counterclaim.lab.probing.steps import Subject, five_steps

RIGHT, HEDGED = "correct=1", "delivery=hedge"
PLAN = FiveSteps(positions=("last",), averages=(1,), C=(1.0,), splits=2, permutations=39)


def planted(
    seed: int,
    distances: Mapping[str, tuple[float, float]],
    *,
    n: tuple[int, int] = (90, 193),
    shares: tuple[float, float] = (0.55, 0.3),
    layers: int = 2,
    only: Sequence[Layer] | None = None,
    width: int = 5,
    **changes: Any,
) -> Subject:
    """Answers whose features hold each axis in a column of its own, so far apart in training and on fresh prompts.

    Args:
        seed: of everything.
        distances: axis to the distance of its classes on either side, in standard deviations.
        n: training and fresh answers.
        shares: of positives of ``RIGHT``, rounded to whole answers; other axes have a half.
        layers: decoder layers beside the last state.
        only: layers that hold anything; all where None.
        width: features.
        changes: fields of the subject.
    """
    rng = np.random.default_rng(seed)
    labels: dict[str, tuple[Floats, Floats]] = {}
    for axis in distances:
        sides = [
            rng.permutation(np.arange(size) < round((share if axis == RIGHT else 0.5) * size)).astype(np.float64)
            for size, share in zip(n, shares, strict=True)
        ]
        labels[axis] = sides[0], sides[1]
    read: dict[object, tuple[Floats, Floats]] = {}
    for layer in (*range(layers), "last"):
        features = [rng.standard_normal((size, width)) for size in n]
        for column, (axis, apart) in enumerate(distances.items()):
            for side in (0, 1):
                features[side][:, column] += apart[side] * labels[axis][side] * (only is None or layer in only)
        read[layer] = features[0], features[1]

    def at(layer: Layer, average: int, position: Position) -> tuple[Floats, Floats]:
        return read[layer]

    ids = tuple([f"{side}-{i}" for i in range(size)] for side, size in zip(("train", "fresh"), n, strict=True))
    made = Subject("planted", tuple(range(layers)), layers, at, labels, (ids[0], ids[1]))
    return replace(made, **changes)


def put_through(first: Subject, second: Subject | None = None, *, probe: ProbePlan | None = None, **plan: Any) -> Any:
    """What the five steps find, with a plan as small as it may be."""
    return five_steps(first, second, probe or ProbePlan(), replace(PLAN, **plan), seed=7).to_json()
