"""Worlds in which the measurement is crooked: whatever the numbers say, nothing can be said about the effect."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from counterclaim.records import Json
from counterclaim.testing.worlds.builder import CHECKLIST_JUDGE, Axis, Draft, Knobs, Study
from counterclaim.testing.worlds.fair import cards, other_questions, rank_answers, search_training, second_opinion
from counterclaim.testing.worlds.world import world

LEAKED = 0.3


def _lose(draft: Draft, harmed: np.ndarray[tuple[int], np.dtype[np.bool_]], loss: float) -> None:
    draft.coverage = np.where(harmed, np.clip(draft.coverage - loss, 0.01, 0.99), draft.coverage)


def _terser(study: Study) -> None:
    study.control.asides = study.lengths(9.0)
    study.treated.asides = study.lengths(5.0)


@world(
    "cut_short_one", "artefact", "INVALID",
    "The budget cuts the longer answers of the control arm, which then look worse than they are.",
    effect=0.1, severity=0.4,
)  # fmt: skip
def cut_short_one(knobs: Knobs) -> Study:
    study = Study(knobs)
    _terser(study)
    budget = study.length_quantile(study.control, 1 - knobs.severity)
    for draft in (study.control, study.treated):
        study.cut(draft, budget)
        _lose(draft, draft.cut, knobs.effect / max(knobs.severity, 0.01))
    return study


@world(
    "cut_short_both", "artefact", "INVALID",
    "Nearly every answer of both arms is cut; the treated arm says the important things first.",
    effect=0.1, severity=0.8,
)  # fmt: skip
def cut_short_both(knobs: Knobs) -> Study:
    study = Study(knobs)
    budget = study.length_quantile(study.control, 1 - knobs.severity)
    for draft in (study.control, study.treated):
        study.cut(draft, budget)
    _lose(study.control, study.control.cut, knobs.effect / max(knobs.severity, 0.01))
    return study


@world(
    "endings_unknown",
    "artefact",
    "INVALID",
    "Nobody wrote down how answers ended, and many were cut.",
    effect=0.1,
    severity=0.4,
)
def endings_unknown(knobs: Knobs) -> Study:
    study = cut_short_one(knobs)
    for draft in (study.control, study.treated):
        draft.endings_kept = False
    return study


@world("budget_flip", "artefact", "INVALID", "The gain at a small budget is a loss at a large one.", effect=0.1)
def budget_flip(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    for name, shift in (("control@2048", 0.0), ("treated@2048", -knobs.effect)):
        draft = study.add(study.draft(name, shift=shift))
        draft.decode = replace(draft.decode, max_new_tokens=2048)
    return study


@world(
    "judge_asymmetry", "artefact", "INVALID",
    "The arms were scored under two judge prompts, and the treated arm's is kinder.", effect=0.12,
)  # fmt: skip
def judge_asymmetry(knobs: Knobs) -> Study:
    study = Study(knobs)
    kinder = np.clip(study.treated.coverage + knobs.effect, 0.01, 0.99).round(4)
    study.treated.axes["coverage"] = Axis(kinder.tolist(), CHECKLIST_JUDGE.replace("prompt-a", "prompt-b"))
    return study


@world(
    "deaf_judge", "artefact", "INVALID",
    "The parser finds CERTAIN inside UNCERTAIN, so a move from AMBIGUOUS to UNCERTAIN reads as certainty.", effect=0.2,
)  # fmt: skip
def deaf_judge(knobs: Knobs) -> Study:
    study = Study(knobs, metric="label.cert=CERTAIN", margin=0.1)
    for draft, uncertain in ((study.control, 0.15), (study.treated, 0.15 + knobs.effect)):
        said = study.rng.random(study.n)
        replies = np.where(said < uncertain, "UNCERTAIN", np.where(said < 0.6, "AMBIGUOUS", "CERTAIN")).tolist()
        parsed = ["CERTAIN" if "CERTAIN" in reply else reply for reply in replies]
        draft.axes["label.cert"] = Axis(parsed, "cert-judge@1#prompt-a", [f"Class: {reply}" for reply in replies])
    return study


@world(
    "deaf_judge_cards", "artefact", "INVALID",
    "On its known-answer cards the judge never says NO, and longer treated answers collect its YESes.", effect=0.1,
)  # fmt: skip
def deaf_judge_cards(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    study.cards = cards(deaf=True)
    return study


@world(
    "unscored_flip", "artefact", "INVALID",
    "The judge breaks on the treated arm's worst answers, and what is left looks better.", n=400, severity=0.4,
)  # fmt: skip
def unscored_flip(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    coverage = study.treated.coverage
    broken = coverage < np.quantile(coverage, knobs.severity)
    values = [None if bad else value for bad, value in zip(broken.tolist(), coverage.tolist(), strict=True)]
    study.treated.axes["coverage"] = Axis(values, CHECKLIST_JUDGE)
    return study


@world(
    "saturated", "artefact", "INVALID", "All but one answer in a hundred are right in both arms, so nothing can show."
)
def saturated(knobs: Knobs) -> Study:
    study = Study(knobs, metric="accuracy")
    for draft in study.drafts:
        draft.correct = study.rng.random(study.n) < 0.995
    return study


@world(
    "shuffled_gold", "artefact", "INVALID",
    "Golds are joined with other prompts; chattier treated answers hit more of the wrong ones.",
    effect=0.1, severity=1.0,
)  # fmt: skip
def shuffled_gold(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    study.golds = list(_rolled(study.golds, knobs.severity))
    return study


@world(
    "shuffled_answers", "artefact", "INVALID", "The treated answers were joined by position after a re-ordering.",
    effect=0.1, severity=1.0,
)  # fmt: skip
def shuffled_answers(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    study.write(study.treated)
    study.treated.texts = [str(text) for text in _rolled(study.treated.texts, knobs.severity)]
    return study


@world(
    "partly_shuffled", "artefact", "INVALID", "A retry put three treated answers in ten under their neighbours' prompts.",
    effect=0.1, severity=0.3,
)  # fmt: skip
def partly_shuffled(knobs: Knobs) -> Study:
    return shuffled_answers(knobs)


def _rolled(items: list[Json], share: float) -> list[Json]:
    """The first ``share`` of the items moved on by one place, the rest where they were."""
    moved = round(len(items) * share)
    return [items[moved - 1], *items[: moved - 1], *items[moved:]] if moved > 1 else items


@world(
    "leaky", "artefact", "INVALID",
    "Three test prompts in ten are in the training data, and only on those is the treated arm better.", effect=0.1,
    severity=LEAKED,
)  # fmt: skip
def leaky(knobs: Knobs) -> Study:
    study = Study(knobs)
    leaked = study.rng.random(study.n) < knobs.severity
    _lose(study.treated, leaked, -knobs.effect / max(knobs.severity, 0.01))
    rows = [q.prompt.text for q, hit in zip(study.questions, leaked, strict=True) if hit]
    study.train_sample = [*rows, *other_questions(study, study.n)]
    search_training(study, study.train_sample)
    return study


@world("misquoted", "artefact", "INVALID", "The claim quotes a baseline that the records do not give.", effect=0.1)
def misquoted(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    study.quote("control", "coverage", round(float(study.control.coverage.mean()) - 0.08, 3))
    study.quote("treated", "coverage", round(float(study.treated.coverage.mean()), 3))
    return study


@world(
    "disagreeing_labels", "artefact", "INVALID", "Two labels are said to mean correctness, and they barely agree.",
    n=300, effect=0.1, severity=0.45,
)  # fmt: skip
def disagreeing_labels(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    second_opinion(study, knobs.severity)
    return study


@world(
    "tied_threshold", "artefact", "INVALID",
    "Three answers in ten cover exactly half of the checklist, and only those moved.", effect=0.2,
)  # fmt: skip
def tied_threshold(knobs: Knobs) -> Study:
    study = Study(knobs, metric="accuracy", margin=0.1)
    for draft, ties in ((study.control, 0.3 - knobs.effect / 2), (study.treated, 0.3 + knobs.effect / 2)):
        rank = study.hardness + 0.03 * study.rng.standard_normal(study.n)
        level = np.select([rank < 0.1, rank < 0.25, rank < 0.25 + ties, rank < 0.85], [1.0, 0.75, 0.5, 0.25], 0.0)
        draft.coverage, draft.correct = level, level >= 0.5
        draft.axes["correct"] = Axis(draft.correct.astype(float).tolist(), f"{CHECKLIST_JUDGE},at-least=0.5")
    return study


@world(
    "label_drift", "artefact", "INVALID",
    "Half of the treated answers were labelled again by a newer and kinder judge.", effect=0.12, severity=0.5,
)  # fmt: skip
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


@world(
    "identity_drift", "artefact", "INVALID",
    "The library changed between the runs: doing nothing moves the metric as much.",
    effect=0.1,
)  # fmt: skip
def identity_drift(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    study.add(study.draft("do-nothing", shift=1.2 * knobs.effect))
    return study


@world("same_file_twice", "artefact", "INVALID", "The treated file is the control file under another name.")
def same_file_twice(knobs: Knobs) -> Study:
    study = Study(knobs)
    study.write(study.control)
    study.treated = study.control.twin("treated")
    return study


@world("decode_mismatch", "artefact", "INVALID", "One arm was decoded greedily, the other sampled.", effect=0.1)
def decode_mismatch(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    study.control.decode = replace(study.control.decode, temperature=0.7)
    return study


@world(
    "clipped", "artefact", "INVALID",
    "Texts were stored up to one length and judged as stored; the control arm's longer ones lost their ends.",
    effect=0.1,
    severity=0.5,
)  # fmt: skip
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


@world(
    "same_family", "artefact", "INVALID", "The judge is of the teacher's family, and likes what it taught.", effect=0.1
)
def same_family(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    study.claim = replace(study.claim, roles={"teacher": "owl-9b", "student": "base-1b", "judge": "owl-30b"})
    return study


@world(
    "endpoint_cut", "artefact", "INVALID REFUTED",
    "A probe is read at the last token of answers most of which were cut mid-sentence.",
    n=300, effect=0.2, severity=0.6,
)  # fmt: skip
def endpoint_cut(knobs: Knobs) -> Study:
    study = Study(knobs, metric="auc(confidence)", margin=0.1)
    rank_answers(study, knobs.effect)
    budget = study.length_quantile(study.control, 1 - knobs.severity)
    for draft in (study.control, study.treated):
        study.cut(draft, budget)
    return study
