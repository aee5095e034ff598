"""Worlds in which the measurement is not valid: whatever the numbers say, nothing can be said about the effect."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from counterclaim.records import Json
from counterclaim.testing.worlds.sound import cards, other_questions, rank_answers, search_training, second_opinion
from counterclaim.testing.worlds.study import CHECKLIST_JUDGE, Axis, Draft, Knobs, Study


def _lose(draft: Draft, harmed: np.ndarray[tuple[int], np.dtype[np.bool_]], loss: float) -> None:
    draft.coverage = np.where(harmed, np.clip(draft.coverage - loss, 0.01, 0.99), draft.coverage)


def _terser(study: Study) -> None:
    study.control.asides = study.lengths(9.0)
    study.treated.asides = study.lengths(5.0)


def cut_short_one(knobs: Knobs) -> Study:
    study = Study(knobs)
    _terser(study)
    budget = study.length_quantile(study.control, 1 - knobs.severity)
    for draft in (study.control, study.treated):
        study.cut(draft, budget)
        _lose(draft, draft.cut, knobs.effect / max(knobs.severity, 0.01))
    return study


def cut_short_both(knobs: Knobs) -> Study:
    study = Study(knobs)
    budget = study.length_quantile(study.control, 1 - knobs.severity)
    for draft in (study.control, study.treated):
        study.cut(draft, budget)
    _lose(study.control, study.control.cut, knobs.effect / max(knobs.severity, 0.01))
    return study


def endings_unknown(knobs: Knobs) -> Study:
    study = cut_short_one(knobs)
    for draft in (study.control, study.treated):
        draft.endings_kept = False
    return study


def budget_flip(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    for name, shift in (("control@2048", 0.0), ("treated@2048", -knobs.effect)):
        draft = study.add(study.draft(name, shift=shift))
        draft.decode = replace(draft.decode, max_new_tokens=2048)
    return study


def judge_asymmetry(knobs: Knobs) -> Study:
    study = Study(knobs)
    kinder = np.clip(study.treated.coverage + knobs.effect, 0.01, 0.99).round(4)
    study.treated.axes["coverage"] = Axis(kinder.tolist(), CHECKLIST_JUDGE.replace("prompt-a", "prompt-b"))
    return study


def deaf_judge(knobs: Knobs) -> Study:
    study = Study(knobs, metric="label.cert=CERTAIN", margin=0.1)
    for draft, uncertain in ((study.control, 0.15), (study.treated, 0.15 + knobs.effect)):
        drawn = study.rng.random(study.n)
        replies = np.where(drawn < uncertain, "UNCERTAIN", np.where(drawn < 0.6, "AMBIGUOUS", "CERTAIN")).tolist()
        parsed = ["CERTAIN" if "CERTAIN" in reply else reply for reply in replies]
        draft.axes["label.cert"] = Axis(parsed, "cert-judge@1#prompt-a", [f"Class: {reply}" for reply in replies])
    return study


def deaf_judge_cards(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    study.cards = cards(deaf=True)
    return study


def unscored_flip(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    coverage = study.treated.coverage
    broken = coverage < np.quantile(coverage, knobs.severity)
    values = [None if bad else value for bad, value in zip(broken.tolist(), coverage.tolist(), strict=True)]
    study.treated.axes["coverage"] = Axis(values, CHECKLIST_JUDGE)
    return study


def saturated(knobs: Knobs) -> Study:
    study = Study(knobs, metric="accuracy")
    for draft in study.drafts:
        draft.correct = study.rng.random(study.n) < 0.995
    return study


def shuffled_gold(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    study.golds = list(_rolled(study.golds, knobs.severity))
    return study


def shuffled_answers(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    study.write(study.treated)
    study.treated.texts = [str(text) for text in _rolled(study.treated.texts, knobs.severity)]
    return study


def partly_shuffled(knobs: Knobs) -> Study:
    return shuffled_answers(knobs)


def _rolled(items: list[Json], share: float) -> list[Json]:
    """The first ``share`` of the items moved on by one place, the rest where they were."""
    moved = round(len(items) * share)
    return [items[moved - 1], *items[: moved - 1], *items[moved:]] if moved > 1 else items


def leaky(knobs: Knobs) -> Study:
    study = Study(knobs)
    leaked = study.rng.random(study.n) < knobs.severity
    _lose(study.treated, leaked, -knobs.effect / max(knobs.severity, 0.01))
    rows = [q.prompt.text for q, hit in zip(study.questions, leaked, strict=True) if hit]
    study.train_sample = [*rows, *other_questions(study, study.n)]
    search_training(study, study.train_sample)
    return study


def misquoted(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    study.quote("control", "coverage", round(float(study.control.coverage.mean()) - 0.08, 3))
    study.quote("treated", "coverage", round(float(study.treated.coverage.mean()), 3))
    return study


def disagreeing_labels(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    second_opinion(study, knobs.severity)
    return study


def tied_threshold(knobs: Knobs) -> Study:
    study = Study(knobs, metric="accuracy", margin=0.1)
    for draft, ties in ((study.control, 0.3 - knobs.effect / 2), (study.treated, 0.3 + knobs.effect / 2)):
        rank = study.hardness + 0.03 * study.rng.standard_normal(study.n)
        level = np.select([rank < 0.1, rank < 0.25, rank < 0.25 + ties, rank < 0.85], [1.0, 0.75, 0.5, 0.25], 0.0)
        draft.coverage, draft.correct = level, level >= 0.5
        draft.axes["correct"] = Axis(draft.correct.astype(float).tolist(), f"{CHECKLIST_JUDGE},at-least=0.5")
    return study


def label_drift(knobs: Knobs) -> Study:
    study = Study(knobs, metric="accuracy")
    new = study.rng.random(study.n) < knobs.severity
    kind = study.rng.random(study.n) < min(1.0, knobs.effect / max(knobs.severity * 0.42, 0.01))
    study.treated.correct |= new & kind
    for draft in study.drafts:
        renewed = new if draft is study.treated else np.zeros(study.n, dtype=bool)
        scorers = np.where(renewed, "answer-judge@2#prompt-a", "answer-judge@1#prompt-a").tolist()
        draft.axes["correct"] = Axis(draft.correct.astype(float).tolist(), scorers)
    return study


def identity_drift(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    study.add(study.draft("do-nothing", shift=1.2 * knobs.effect))
    return study


def same_file_twice(knobs: Knobs) -> Study:
    study = Study(knobs)
    study.write(study.control)
    study.treated = study.control.twin("treated")
    return study


def decode_mismatch(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    study.control.decode = replace(study.control.decode, temperature=0.7)
    return study


def clipped(knobs: Knobs) -> Study:
    study = Study(knobs)
    _terser(study)
    study.write(study.control)
    study.write(study.treated)
    limit = int(np.quantile([len(text) for text in study.control.texts], 1 - knobs.severity))
    for draft in (study.control, study.treated):
        lost = np.array([len(text) > limit for text in draft.texts])
        draft.texts = [text[:limit] for text in draft.texts]
        _lose(draft, lost, knobs.effect / max(knobs.severity, 0.01))
    return study


def same_family(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    study.claim = replace(study.claim, roles={"teacher": "owl-9b", "student": "base-1b", "judge": "owl-30b"})
    return study


def endpoint_cut(knobs: Knobs) -> Study:
    study = Study(knobs, metric="auc(confidence)", margin=0.1)
    rank_answers(study, knobs.effect)
    budget = study.length_quantile(study.control, 1 - knobs.severity)
    for draft in (study.control, study.treated):
        study.cut(draft, budget)
    return study
