"""Worlds in which the measurement is valid and the claim does not hold: luck, style, a hidden cost, another cause."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from counterclaim.lab.probing.gates import KEEP, SWEEP
from counterclaim.testing.worlds.questions import pool_size, question
from counterclaim.testing.worlds.sound import (
    SEEDS,
    calibrated,
    deliver,
    prompted,
    self_correct,
    think,
    use_adapter_doses,
    use_doses,
    use_seeds,
)
from counterclaim.testing.worlds.study import GUARDS, TUNED, Axis, Knobs, Study

AXES = 20
JUST_SIGNIFICANT = (2.8, 3.3)


def lucky_seed(knobs: Knobs) -> Study:
    study = Study(knobs)
    shifts = 0.02 * study.rng.standard_normal(SEEDS) - 0.02
    shifts[study.rng.integers(SEEDS)] = knobs.effect
    use_seeds(study, shifts)
    return study


def noisy_seeds(knobs: Knobs) -> Study:
    study = Study(knobs)
    use_seeds(study, knobs.effect + knobs.severity * study.rng.standard_normal(SEEDS))
    return study


def double_dipped(knobs: Knobs) -> Study:
    study = Study(knobs)
    low, high = JUST_SIGNIFICANT
    while True:
        scores = 3.0 + 0.5 * study.hardness[:, None] + 0.7 * study.rng.standard_normal((2, study.n, AXES))
        change = scores[1] - scores[0]
        t = change.mean(axis=0) / (change.std(axis=0, ddof=1) / study.n**0.5)
        best = int(t.argmax())
        if low < t[best] < high:
            break
    for draft, values in zip((study.control, study.treated), scores.round(3), strict=True):
        for i in range(AXES):
            draft.axes[f"score.axis-{i:02d}"] = Axis(values[:, i].tolist(), "rubric-judge@1#prompt-a")
    study.claim = replace(study.claim, metric=f"score.axis-{best:02d}", margin=0.2)
    return study


def style_only(knobs: Knobs) -> Study:
    study = Study(knobs, metric="score.depth", margin=0.2)
    study.treated.asides = study.lengths(5.0 * (1 + knobs.severity))
    for draft in (study.control, study.treated):
        study.write(draft)
        words = np.array([len(text.split()) for text in draft.texts], dtype=np.float64)
        depth = 3.0 + 2.0 * np.log(words / 80) + 0.3 * study.rng.standard_normal(study.n)
        draft.axes["score.depth"] = Axis(depth.round(3).tolist(), "depth-judge@1#prompt-a")
    return study


def uniform_hedge(knobs: Knobs) -> Study:
    right, wrong = 0.95, 0.9
    rates = ((right, wrong), (right - knobs.effect, wrong - knobs.effect))
    return Study(knobs, metric="hallucination_rate", direction="decrease", margin=0.1, asserts=rates)


def content_loss(knobs: Knobs) -> Study:
    return Study(knobs, shift=knobs.effect, accuracy_shift=-knobs.severity, guards=GUARDS)


def collapse(knobs: Knobs) -> Study:
    study = Study(knobs, metric="score.directness", margin=0.3, accuracy_shift=-knobs.severity)
    study.control.asides, study.treated.asides = study.lengths(10.0), study.lengths(0.5)
    for draft, shift in ((study.control, 0.0), (study.treated, knobs.effect)):
        drawn = 3.0 + shift + 0.5 * study.rng.standard_normal(study.n)
        draft.axes["score.directness"] = Axis(drawn.round(3).tolist(), "directness-judge@1#prompt-a")
    return study


def wrong_variant(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect, guards=GUARDS)
    other = study.add(study.draft("treated", shift=knobs.effect))
    other.sample, other.model = 1, replace(other.model, adapter_hash="adapter-b")
    study.treated.silent = ("correct",)
    return study


def placebo_equal(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    study.add(study.draft("placebo", shift=knobs.effect))
    return study


def prompt_does_it(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    prompted(study, study.draft("prompt-baseline", shift=knobs.effect))
    return study


def dose_flat(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    use_doses(study, {0.25: 1.2 * knobs.effect, 0.5: -0.2 * knobs.effect, 0.75: 0.0})
    return study


def dose_flat_asymmetry(knobs: Knobs) -> Study:
    study = calibrated(knobs)
    use_adapter_doses(study, {0.25: knobs.effect, 0.5: 0.0})
    return study


def threshold_peeked(knobs: Knobs) -> Study:
    study = Study(knobs, metric="assertion_asymmetry", direction="decrease", margin=0.1, asserts=((0.95, 0.95),) * 2)
    confidence = study.rng.random((AXES, 1, study.n))
    right = study.control.correct
    gates = study.control.asserts & (confidence >= SWEEP[:, None])
    asserted = [(gates & row).sum(axis=2) / max(int(row.sum()), 1) for row in (right, ~right)]
    asymmetry = np.where(asserted[0] >= KEEP, asserted[1] - asserted[0], np.inf)
    best = np.unravel_index(int(asymmetry.argmin()), asymmetry.shape)
    study.treated = study.control.twin("treated", asserts=gates[best], model=TUNED)
    study.claim = replace(study.claim, thresholds_chosen_on="test")
    return study


def best_cut(knobs: Knobs) -> Study:
    study = Study(knobs, metric="accuracy", margin=0.15)
    for draft in study.drafts:
        draft.coverage = study.rng.random(study.n).round(4)
        deliver(study, draft, 0.9, 0.6)
    return study


def shifted(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    train = np.arange(study.n) < study.n // 3
    chosen = study.rng.choice(pool_size("trip"), int(train.sum()), replace=False)
    for i, index in enumerate(chosen):
        other = question("trip", int(index))
        study.questions[i] = replace(other, prompt=replace(other.prompt, split="train"))
        study.golds[i] = other.prompt.gold
    study.control.correct &= ~train | (study.rng.random(study.n) < 0.4)
    study.treated.answered = ~train
    study.train_sample = [q.prompt.text for q in study.questions[: int(train.sum())]]
    return study


def talk_alone(knobs: Knobs) -> Study:
    study = Study(knobs, metric="score.svr", margin=0.1)
    self_correct(study, more_talk=knobs.effect, more_corrected=-knobs.severity)
    return study


def thoughts_cut(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect, accuracy_shift=-knobs.severity)
    think(study, 12.0, 3.0)
    return study
