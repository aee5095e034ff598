"""Worlds with a probe: what the five steps find where a direction is planted in made-up features, and where it is not.

The study around the probe is that of a sidecar which works: it hedges more of its wrong answers. What differs is whether the
probe behind it reads correctness off answers to fresh prompts, too. The control's answers are the fresh ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

from counterclaim.audit.metrics import Floats
from counterclaim.lab.config import FiveSteps, Layer, Position, ProbePlan
from counterclaim.testing.worlds.sound import calibrated, nine_right
from counterclaim.testing.worlds.study import ACCURACY, Bools, Knobs, Study

if TYPE_CHECKING:
    from counterclaim.lab.probing.steps import Subject

RIGHT, HEDGED, DEEP, LONG = "correct=1", "delivery=hedge", "score.depth>=3", "score.length>=40"
WIDTH = 6
"""Features of every layer: one for each axis, the rest noise."""

TRAINED = 120
"""Training answers."""

STRONG = 2**0.5 * float(ndtri(0.9))
"""Distance of the classes along a planted direction, in its standard deviation: an AUC of 0.9."""

PLAN = FiveSteps(positions=("last",), averages=(1,), C=(1.0,), splits=2, permutations=39)
"""As small as the five steps may be and still tell what is planted."""


@dataclass(frozen=True, slots=True)
class Planted:
    """How far the classes of each axis lie apart in the features, in training and on fresh prompts."""

    train: Mapping[str, float]
    fresh: Mapping[str, float]


def holds(*axes: str) -> Planted:
    """The same distance on both sides."""
    return Planted(dict.fromkeys(axes, STRONG), dict.fromkeys(axes, STRONG))


def forgets(planted: Planted, *axes: str) -> Planted:
    """No distance on fresh prompts."""
    return replace(planted, fresh={**planted.fresh, **dict.fromkeys(axes, 0.0)})


def probe_study(
    study: Study,
    planted: Planted,
    *,
    second: Planted | None = None,
    layers: int = 2,
    plan: FiveSteps = PLAN,
    cut: float = 0.0,
    lucky: bool = False,
) -> Study:
    """Put a probe for correctness through the five steps on made-up features, and leave what they find in the study.

    Args:
        study: whose control answers are the fresh ones.
        planted: in the features of the first model.
        second: in those of a model of another family; None leaves it out.
        layers: decoder layers beside the last state; each has noise of its own.
        plan: of the steps; its axes are those that are planted.
        cut: share of the training answers that the budget ended.
        lucky: claim the layer that happens to do best on the fresh answers.
    """
    from counterclaim.lab.probing.steps import five_steps

    on_fresh(study, study.n)
    rng = study.rng
    labels = {RIGHT: ((rng.random(TRAINED) < ACCURACY), study.control.correct)}
    labels |= {axis: (rng.random(TRAINED) < 0.5, rng.random(study.n) < 0.5) for axis in planted.train if axis != RIGHT}
    first = _subject(study, "planted-a", labels, planted, layers, rng.random(TRAINED) < cut)
    plan = replace(plan, axes=tuple(axis for axis in planted.train if axis != RIGHT))
    other = None
    if second is not None:
        other = _subject(study, "planted-b", {RIGHT: labels[RIGHT]}, second, layers, np.zeros(TRAINED, bool))
    probe = ProbePlan(layer=_luckiest(first)) if lucky else ProbePlan()
    study.probing = five_steps(first, other, probe, plan, seed=int(rng.integers(2**31)), level=study.claim.level)
    return study


def _subject(
    study: Study,
    name: str,
    labels: Mapping[str, tuple[Bools, Bools]],
    planted: Planted,
    layers: int,
    cut: Bools,
) -> Subject:
    from counterclaim.lab.probing.steps import Subject

    read: dict[object, tuple[Floats, Floats]] = {}
    for layer in (*range(layers), "last"):
        sides = [study.rng.standard_normal((n, WIDTH)) for n in (TRAINED, study.n)]
        for column, (axis, marks) in enumerate(labels.items()):
            for side, mark, distance in zip(sides, marks, (planted.train, planted.fresh), strict=True):
                side[:, column] += distance.get(axis, 0.0) * mark
        read[layer] = sides[0], sides[1]

    def features(layer: Layer, average: int, position: Position) -> tuple[Floats, Floats]:
        return read[layer]

    train_ids: Sequence[str] = [f"{name}-{i}" for i in range(TRAINED)]
    return Subject(
        model=name,
        layers=tuple(range(layers)),
        n_layers=layers,
        read=features,
        labels={axis: (a.astype(np.float64), b.astype(np.float64)) for axis, (a, b) in labels.items()},
        ids=(train_ids, [q.prompt.id for q in study.questions]),
        cut=(cut.tolist(), [False] * study.n),
    )


def _luckiest(subject: Subject) -> Layer:
    """The layer whose probe happens to do best on the fresh answers: what must not be done."""
    from counterclaim import stats

    train, fresh = subject.labels[RIGHT]

    def area(layer: Layer) -> float:
        x, z = subject.read(layer, 1, "last")
        return stats.auc(stats.fit_logistic(x, train == 1).decision(z), fresh == 1) or 0.0

    return max(subject.layers, key=area)


def probe_holds(knobs: Knobs) -> Study:
    return probe_study(calibrated(knobs), holds(RIGHT, HEDGED), second=holds(RIGHT))


def probe_forgets(knobs: Knobs) -> Study:
    return probe_study(calibrated(knobs), forgets(holds(RIGHT), RIGHT))


def axes_forget(knobs: Knobs) -> Study:
    others = (HEDGED, DEEP, LONG)
    return probe_study(calibrated(knobs), forgets(holds(RIGHT, *others), *others))


def lucky_layer(knobs: Knobs) -> Study:
    plan = replace(PLAN, splits=2, permutations=19)
    return probe_study(calibrated(knobs), Planted({}, {}), layers=16, plan=plan, lucky=True)


def one_family(knobs: Knobs) -> Study:
    return probe_study(calibrated(knobs), holds(RIGHT), second=forgets(holds(RIGHT), RIGHT))


def probe_cut(knobs: Knobs) -> Study:
    return probe_study(calibrated(knobs), holds(RIGHT), cut=knobs.severity)


def few_fresh(knobs: Knobs) -> Study:
    study = nine_right(knobs, "hallucination_rate", ((0.9, 0.9), (0.9, 0.9 - knobs.effect)))
    return probe_study(study, holds(RIGHT))


def effect_holds(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    return on_fresh(study, study.n // 2)


def effect_forgets(knobs: Knobs) -> Study:
    study = Study(knobs)
    own = np.arange(study.n) >= study.n // 2
    study.treated = study.draft("treated", shift=np.where(own, knobs.effect, 0.0))
    return on_fresh(study, study.n // 2)


def on_fresh(study: Study, many: int) -> Study:
    """Mark the first ``many`` prompts as written independently."""
    for at in range(many):
        question = study.questions[at]
        study.questions[at] = replace(question, prompt=replace(question.prompt, split="fresh"))
    return study
