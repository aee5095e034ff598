"""Worlds in which the measurement is straight and the claim is hollow: luck, style, a price not told, another cause."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from counterclaim.lab.probing.gates import KEEP, SWEEP
from counterclaim.testing.worlds.builder import GUARDS, TUNED, Axis, Knobs, Study
from counterclaim.testing.worlds.fair import (
    SEEDS,
    calibrated,
    deliver,
    prompted,
    speak_and_mend,
    think,
    use_adapter_doses,
    use_doses,
    use_seeds,
)
from counterclaim.testing.worlds.questions import pool_size, question
from counterclaim.testing.worlds.world import world

AXES = 20
JUST_SIGNIFICANT = (2.8, 3.3)


@world(
    "lucky_seed", "no effect", "INCONCLUSIVE REFUTED",
    "Of five training seeds one shines and four do nothing; their mean passes for an effect.", n=100, effect=0.3,
)  # fmt: skip
def lucky_seed(knobs: Knobs) -> Study:
    study = Study(knobs)
    shifts = 0.02 * study.rng.standard_normal(SEEDS) - 0.02
    shifts[study.rng.integers(SEEDS)] = knobs.effect
    use_seeds(study, shifts)
    return study


@world(
    "noisy_seeds", "no effect", "INCONCLUSIVE REFUTED",
    "Seeds differ more than the treatment moves anything, up and down alike; five of them are a small sample.", n=100,
    severity=0.1,
)  # fmt: skip
def noisy_seeds(knobs: Knobs) -> Study:
    study = Study(knobs)
    use_seeds(study, knobs.effect + knobs.severity * study.rng.standard_normal(SEEDS))
    return study


@world(
    "double_dipped", "no effect", "INCONCLUSIVE REFUTED",
    "Twenty axes were scored, none moved, and the one that came out just significant is claimed.", n=120,
)  # fmt: skip
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


@world(
    "style_only", "artefact", "REFUTED", "The judge likes long answers; the treatment makes them longer and no better.",
    severity=0.8,
)  # fmt: skip
def style_only(knobs: Knobs) -> Study:
    study = Study(knobs, metric="score.depth", margin=0.2)
    study.treated.asides = study.lengths(5.0 * (1 + knobs.severity))
    for draft in (study.control, study.treated):
        study.write(draft)
        words = np.array([len(text.split()) for text in draft.texts], dtype=np.float64)
        depth = 3.0 + 2.0 * np.log(words / 80) + 0.3 * study.rng.standard_normal(study.n)
        draft.axes["score.depth"] = Axis(depth.round(3).tolist(), "depth-judge@1#prompt-a")
    return study


@world(
    "uniform_hedge", "artefact", "REFUTED",
    "Fewer wrong answers are asserted because everything is hedged, right or wrong.",
    n=300, effect=0.4,
)  # fmt: skip
def uniform_hedge(knobs: Knobs) -> Study:
    right, wrong = 0.95, 0.9
    rates = ((right, wrong), (right - knobs.effect, wrong - knobs.effect))
    return Study(knobs, metric="hallucination_rate", direction="decrease", margin=0.1, asserts=rates)


@world(
    "content_loss",
    "artefact",
    "REFUTED",
    "Coverage rises as claimed, and accuracy pays for it.",
    effect=0.1,
    severity=0.25,
)
def content_loss(knobs: Knobs) -> Study:
    return Study(knobs, shift=knobs.effect, accuracy_shift=-knobs.severity, guards=GUARDS)


@world(
    "collapse", "artefact", "REFUTED", "Answers shrink to the length of the training data and get worse.", effect=0.6,
    severity=0.2,
)  # fmt: skip
def collapse(knobs: Knobs) -> Study:
    study = Study(knobs, metric="score.directness", margin=0.3, accuracy_shift=-knobs.severity)
    study.control.asides, study.treated.asides = study.lengths(10.0), study.lengths(0.5)
    for draft, shift in ((study.control, 0.0), (study.treated, knobs.effect)):
        drawn = 3.0 + shift + 0.5 * study.rng.standard_normal(study.n)
        draft.axes["score.directness"] = Axis(drawn.round(3).tolist(), "directness-judge@1#prompt-a")
    return study


@world(
    "wrong_variant", "artefact", "REFUTED",
    "The gain comes from one adapter, the assurance that nothing broke from another.",
    effect=0.1,
)  # fmt: skip
def wrong_variant(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect, guards=GUARDS)
    other = study.add(study.draft("treated", shift=knobs.effect))
    other.sample, other.model = 1, replace(other.model, adapter_hash="adapter-b")
    study.treated.silent = ("correct",)
    return study


@world(
    "placebo_equal",
    "artefact",
    "INCONCLUSIVE REFUTED",
    "Training on shuffled labels moves the metric just as far.",
    effect=0.1,
)
def placebo_equal(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    study.add(study.draft("placebo", shift=knobs.effect))
    return study


@world(
    "prompt_does_it",
    "artefact",
    "INCONCLUSIVE REFUTED",
    "A one-line system prompt on the base model does as much.",
    effect=0.1,
)
def prompt_does_it(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    prompted(study, study.draft("prompt-baseline", shift=knobs.effect))
    return study


@world("dose_flat", "artefact", "INCONCLUSIVE REFUTED", "The effect comes and goes with the dose.", effect=0.1)
def dose_flat(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    use_doses(study, {0.25: 1.2 * knobs.effect, 0.5: -0.2 * knobs.effect, 0.75: 0.0})
    return study


@world(
    "dose_flat_asymmetry", "artefact", "INCONCLUSIVE REFUTED",
    "Wrong answers are asserted less at a quarter of the adapter and at all of it, and as before at half of it.",
    n=400, effect=0.3,
)  # fmt: skip
def dose_flat_asymmetry(knobs: Knobs) -> Study:
    study = calibrated(knobs)
    use_adapter_doses(study, {0.25: knobs.effect, 0.5: 0.0})
    return study


@world(
    "threshold_peeked", "artefact", "REFUTED INCONCLUSIVE",
    "Of twenty confidences that know nothing, each with 91 thresholds, the gate that did best on the test set is claimed.",
)  # fmt: skip
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


@world(
    "best_cut", "no effect", "REFUTED INCONCLUSIVE",
    "Right and wrong are a score of pure noise, cut in two; whoever may choose the cut finds one at which accuracy rises.",
    n=300,
)  # fmt: skip
def best_cut(knobs: Knobs) -> Study:
    study = Study(knobs, metric="accuracy", margin=0.15)
    for draft in study.drafts:
        draft.coverage = study.rng.random(study.n).round(4)
        deliver(study, draft, 0.9, 0.6)
    return study


@world(
    "shifted", "artefact", "REFUTED INCONCLUSIVE",
    "Trained on hard questions about trips, tested on easier ones about repairs.",
    n=300, effect=0.1,
)  # fmt: skip
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


@world(
    "talk_alone",
    "artefact",
    "REFUTED",
    "Answers say more often that they check themselves, and mend fewer of their errors.",
    n=400,
    effect=0.4,
    severity=0.15,
)
def talk_alone(knobs: Knobs) -> Study:
    study = Study(knobs, metric="score.svr", margin=0.1)
    speak_and_mend(study, more_talk=knobs.effect, more_mended=-knobs.severity)
    return study


@world(
    "thoughts_cut", "artefact", "REFUTED",
    "Think blocks shrink to the length of the training data and take accuracy along; the visible answers stay as they were.",
    effect=0.1, severity=0.2,
)  # fmt: skip
def thoughts_cut(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect, accuracy_shift=-knobs.severity)
    think(study, 12.0, 3.0)
    return study
