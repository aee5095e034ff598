"""The five steps of a sidecar's probe within a study: the answers, what is read off them, and the labels.

The probe is trained on the model's own answers to training prompts, as the sidecar is, and tested on those of the control to the
prompts of the claim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterclaim.audit.metrics import in_cohort, is_tied, threshold_of
from counterclaim.errors import InputError
from counterclaim.folder import Records
from counterclaim.lab.answers import Progress, labelled
from counterclaim.lab.config import FiveSteps, Layer, Position, ProbePlan, SidecarPlan, StudyPlan, model_identity
from counterclaim.lab.fits import own_answers
from counterclaim.lab.models import open_model
from counterclaim.lab.prompts.select import choose_prompts
from counterclaim.lab.scorers.scoring import ChosenScorer, ScoringContext
from counterclaim.records import FinishReason, Json, Prompt, content_hash, to_json
from counterclaim.registry import Labelled, ModelSpec, Runtime
from counterclaim.text import STYLE_FEATURES, style

Floats = NDArray[np.float64]
VERSION = 2
"""Changes whenever the same answers would give another result, so that an earlier version's is not taken for it."""

_ASSERTED = "delivery=assert"


def five_steps(
    plan: StudyPlan,
    answers_hash: str,
    records: Records,
    prompts: Sequence[Prompt],
    folder: Path,
    runtime: Runtime,
    progress: Progress,
    chosen: Sequence[ChosenScorer],
    context: ScoringContext,
    earlier: Mapping[str, Any] | None = None,
) -> dict[str, Json]:
    """Put the probe of a study's sidecar through the five steps.

    Args:
        plan: the study; its treatment is a sidecar, and ``steps`` is set.
        answers_hash: what determines the study's answers, what its sidecar learns from included.
        records: the study's answers and scores.
        prompts: what the claim is tested on.
        folder: the run folder.
        runtime: how models are run.
        progress: is called with how far things are.
        chosen: what scores the model's own answers.
        context: what they are scored with.
        earlier: what an earlier run of the same study found, if it did; taken over where nothing has changed since.

    Returns:
        ``extras["probing"]`` of the run folder (``ProbeResult.to_json``).

    Raises:
        InputError: a layer is not there, or the answers are all of one class.
        ModelError: a model cannot be read.
    """
    control, treated, steps = plan.arms[0], plan.arms[1], plan.steps
    sidecar = treated.change
    assert isinstance(sidecar, SidecarPlan)
    assert sidecar.prompts is not None
    assert steps is not None
    train_prompts = choose_prompts(sidecar.prompts)

    def own(model: ModelSpec, asked: Sequence[Prompt]) -> list[Labelled]:
        return own_answers(model, treated.decode, asked, sidecar.samples, chosen, folder, runtime, progress, context)

    as_control = (control.model, control.decode) == (treated.model, treated.decode)
    other = None
    if steps.second_model is not None:
        other = replace(
            treated.model, name=steps.second_model, revision=None, adapter=None, dose=1.0, chat_template=None
        )
    identity = content_hash([
        VERSION, answers_hash, to_json(steps), plan.claim.level, None if other is None else model_identity(other),
        _findings_input(labelled(records)),
    ])  # fmt: skip
    if earlier is not None and earlier.get("identity") == identity:
        return dict(earlier)
    train = own(treated.model, train_prompts)
    fresh = labelled(records) if as_control else own(treated.model, prompts)
    from counterclaim.lab.probing import steps as probing

    progress.stage("reading what the model computes", None)
    first = _subject(treated.model, train, fresh, sidecar.probe, steps, runtime, progress)
    second = None
    if other is not None:
        second = _subject(
            other,
            own(other, train_prompts),
            own(other, prompts),
            sidecar.probe,
            None,
            runtime,
            progress,
            first.n_layers,
        )
    found = probing.five_steps(
        first, second, sidecar.probe, steps, seed=sidecar.seeds[0], level=plan.claim.level,
        watch=lambda doing: progress.stage(doing, None),
    )  # fmt: skip
    return replace(found, identity=identity).to_json()


def _findings_input(answers: Sequence[Labelled]) -> list[Json]:
    """What of some answers decides what is found."""
    return [
        [each.prompt.id, each.response.sample, each.response.text, dict(sorted(each.values.items()))]
        for each in answers
    ]


def _subject(
    model: ModelSpec,
    train: Sequence[Labelled],
    fresh: Sequence[Labelled],
    probe: ProbePlan,
    steps: FiveSteps | None,
    runtime: Runtime,
    progress: Progress,
    planned_for: int | None = None,
) -> Any:
    """A model's answers as probes read them: everything that any of the steps wants, in one pass over each side.

    Args:
        model: who answered.
        train: its answers to training prompts.
        fresh: its answers to the prompts of the claim.
        probe: what is read.
        steps: what else is tried; None where nothing is.
        runtime: how the model is run.
        progress: is called with how far it is.
        planned_for: layers of the model for which the probe was planned; None where this is that model.
    """
    from counterclaim.lab.models.hf.sites import layers_of
    from counterclaim.lab.operators.reading import exchange_of, read_for, readable, rows_of, tokens_of
    from counterclaim.lab.probing.steps import Subject, at_same_depth

    sides = [list(train), list(fresh)]
    read = []
    with closing(open_model(replace(model, applied=None), runtime)) as opened:
        network = readable(opened)
        n_layers = len(layers_of(network.network))
        if planned_for is not None:
            probe = at_same_depth(probe, planned_for, n_layers)
        layers = _layers(steps, probe, n_layers)
        probes = [probe] if steps is None else _probes(probe, steps, layers, n_layers)
        for name, side in zip(("training", "fresh"), sides, strict=True):
            doing = partial(progress.part, f"reading {name} answers of {model.name}")
            read.append(read_for(network, [exchange_of(answer) for answer in side], probes, doing))
    kept = [[side[row] for row in found.rows] for side, found in zip(sides, read, strict=True)]
    wanted = () if steps is None else (*steps.axes, *filter(None, [steps.same_construct]))
    axes = dict.fromkeys([probe.cohort, *wanted])

    def features(layer: Layer, average: int, position: Position) -> tuple[Floats, Floats]:
        a, b = (rows_of(found.blocks, layer, average, position, n_layers) for found in read)
        return a, b

    def tokens(layer: Layer) -> tuple[list[Floats], list[Floats]]:
        a, b = (tokens_of(found.blocks, layer) for found in read)
        return a, b

    asserted = _pair(kept, _ASSERTED)
    return Subject(
        model=model.name,
        layers=layers,
        n_layers=n_layers,
        read=features,
        labels={axis: _pair(kept, axis) for axis in axes},
        ids=(_ids(kept[0]), _ids(kept[1])),
        read_tokens=tokens if any(probe.reads_tokens for probe in probes) else None,
        asserted=None if any(np.isnan(side).all() for side in asserted) else asserted,
        cut=_cut(kept),
        style=(_style(kept[0]), _style(kept[1])),
        tied=_tied(kept, probe.cohort),
        threshold=threshold_of(probe.cohort),
    )


def _layers(steps: FiveSteps | None, probe: ProbePlan, n_layers: int) -> tuple[int, ...]:
    """The decoder layers that are read, from the bottom up."""
    tried: Sequence[int] = () if steps is None else steps.layers or range(n_layers)
    wanted = {*tried, *([] if probe.layer == "last" else [probe.layer])}
    if outside := sorted(layer for layer in wanted if not 0 <= layer < n_layers):
        raise InputError(
            f"the model has no layer {outside[0]}, for it has {n_layers}",
            remedy=f"name layers from 0 to {n_layers - 1}",
        )
    return tuple(sorted(wanted))


def _probes(probe: ProbePlan, steps: FiveSteps, layers: Sequence[int], n_layers: int) -> list[ProbePlan]:
    """Every reading that a step wants, so that one pass serves them all."""
    from counterclaim.lab.probing.steps import averages_of

    positions = dict.fromkeys([probe.position, *steps.positions])
    averages = dict.fromkeys([probe.average, *averages_of(steps.averages, probe, n_layers)])
    classifiers = dict.fromkeys([probe.classifier, *steps.classifiers])
    every: list[Layer] = [*layers, "last"]
    wanted = [replace(probe, layer=layer, average=1, position=at) for layer in every for at in positions]
    wanted += [replace(probe, average=average, position=at) for average in averages for at in positions]
    return wanted + [replace(probe, average=1, classifier=each) for each in classifiers]


def _pair(kept: Sequence[Sequence[Labelled]], axis: str) -> tuple[Floats, Floats]:
    a, b = (np.array([_label(each, axis) for each in side], np.float64) for side in kept)
    return a, b


def _label(answer: Labelled, axis: str) -> float:
    mark = in_cohort(answer.values, axis)
    return np.nan if mark is None else float(mark)


def _ids(side: Sequence[Labelled]) -> list[str]:
    return [f"{each.prompt.id}/{each.response.sample}" for each in side]


def _cut(kept: Sequence[Sequence[Labelled]]) -> tuple[list[bool | None], list[bool | None]]:
    """Which answers the budget ended; None where that is unknown."""
    a, b = (
        [
            None
            if each.response.finish_reason is FinishReason.UNKNOWN
            else each.response.finish_reason is FinishReason.LENGTH
            for each in side
        ]
        for side in kept
    )
    return a, b


def _tied(kept: Sequence[Sequence[Labelled]], cohort: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which scores sit exactly on the threshold of the cohort."""
    a, b = (np.array([is_tied(each.values, cohort) for each in side], bool) for side in kept)
    return a, b


def _style(side: Sequence[Labelled]) -> Floats:
    """Style features (n, k), counts on a log scale."""
    rows = [style(each.response.text or "") for each in side]
    return np.log1p(np.array([[row[name] for name in STYLE_FEATURES] for row in rows], np.float64))
