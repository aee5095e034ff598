"""Worlds in which the measurement is valid: true effects, nulls, small samples, and every control arm that shows it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import ndtri

from counterclaim.records import Json
from counterclaim.testing.worlds.questions import pool_size, question
from counterclaim.testing.worlds.study import BUDGET, CHECKLIST_JUDGE, GUARDS, TUNED, Axis, Draft, Knobs, Study

SEEDS = 5


def clean(knobs: Knobs) -> Study:
    return Study(knobs, shift=knobs.effect)


def clean_asymmetry(knobs: Knobs) -> Study:
    return calibrated(knobs)


def calibrated(knobs: Knobs) -> Study:
    """A study of assertion asymmetry in which treated hedges on more of its wrong answers."""
    right, wrong = 0.92, 0.9
    study = Study(
        knobs, metric="assertion_asymmetry", direction="decrease", margin=0.15, noise=0.03, base=0.68,
        asserts=((right, wrong), (right, wrong - knobs.effect)),
    )  # fmt: skip
    for draft, rates in ((study.control, (right, wrong)), (study.treated, (right, wrong - knobs.effect))):
        deliver(study, draft, *rates)
    return study


def deliver(study: Study, draft: Draft, right: float, wrong: float) -> None:
    """Read correctness off coverage, and assert that share of right and of wrong answers."""
    draft.correct = draft.coverage >= 0.5
    draft.asserts = study.rng.random(study.n) < np.where(draft.correct, right, wrong)
    draft.axes["correct"] = Axis(draft.correct.astype(float).tolist(), f"{CHECKLIST_JUDGE},at-least=0.5")


def clean_guarded(knobs: Knobs) -> Study:
    return Study(knobs, shift=knobs.effect, guards=GUARDS)


def endpoint_whole(knobs: Knobs) -> Study:
    study = Study(knobs, metric="auc(confidence)", margin=0.1)
    rank_answers(study, knobs.effect)
    return study


def rank_answers(study: Study, effect: float) -> None:
    """Give both arms a confidence; its AUC is 0.7 in control and ``effect`` more in treated, at most 0.99."""
    for draft, auc in ((study.control, 0.7), (study.treated, min(0.7 + effect, 0.99))):
        separation = 2**0.5 * float(ndtri(auc))  # AUC = Phi(separation / sqrt 2) for two unit normals
        drawn = study.rng.standard_normal(study.n) + separation * draft.correct
        draft.axes["score.confidence"] = Axis(drawn.round(4).tolist(), "probe@1#layer=last")


def null(knobs: Knobs) -> Study:
    return Study(knobs, shift=knobs.effect)


def underpowered(knobs: Knobs) -> Study:
    return Study(knobs, shift=knobs.effect, noise=0.15)


def tiny_positive_class(knobs: Knobs) -> Study:
    return nine_right(knobs, "assertion_asymmetry", ((0.8, 0.8), (0.8, 0.8 - knobs.effect)))


def nine_right(knobs: Knobs, metric: str, rates: tuple[tuple[float, float], tuple[float, float]]) -> Study:
    """A study in which nine answers of each arm are right; ``rates`` are P(assert | right), P(assert | wrong) of the arms."""
    study = Study(knobs, metric=metric, direction="decrease", margin=0.15, accuracy=9 / 193, asserts=rates)
    right = study.hardness <= np.sort(study.hardness)[8]
    for draft, (sure, unsure) in zip(study.drafts, rates, strict=True):
        draft.correct = right.copy()
        draft.asserts = study.rng.random(study.n) < np.where(right, sure, unsure)
    return study


def wrong_direction(knobs: Knobs) -> Study:
    return Study(knobs, shift=-knobs.effect)


def tiny_effect(knobs: Knobs) -> Study:
    return Study(knobs, shift=knobs.effect, noise=0.05)


def steady_seeds(knobs: Knobs) -> Study:
    study = Study(knobs)
    use_seeds(study, knobs.effect + 0.01 * study.rng.standard_normal(SEEDS))
    return study


def use_seeds(study: Study, shifts: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    """Replace the treated arm by one replicate for each shift."""
    drafts = [study.draft("treated", shift=float(shift), replicate=seed) for seed, shift in enumerate(shifts)]
    for draft in drafts:
        draft.model = replace(TUNED, adapter_hash=f"adapter-seed-{draft.replicate}")
    study.treated = drafts[0]
    study.more += drafts[1:]
    study.claim = replace(study.claim, seeds=tuple(range(len(drafts))))


def with_do_nothing(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    study.write(study.control)
    nothing = study.add(study.control.twin("do-nothing"))
    moved = study.rng.random(study.n) < 0.05
    other = study.draft("do-nothing")
    nothing.coverage = np.where(moved, other.coverage, nothing.coverage)
    return study


def with_placebo(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    study.add(study.draft("placebo"))
    return study


def with_weak_prompt(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    prompted(study, study.draft("prompt-baseline", shift=knobs.effect / 6))
    return study


def prompted(study: Study, draft: Draft) -> None:
    """Add an arm of the base model under a system prompt."""
    draft.decode = replace(draft.decode, system_prompt="Cover every point that matters.")
    draft.model = study.control.model
    study.add(draft)


def dose_rising(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    use_doses(study, {0.25: 0.25 * knobs.effect, 0.5: 0.5 * knobs.effect, 0.75: 0.75 * knobs.effect})
    return study


def use_doses(study: Study, shifts: dict[float, float]) -> None:
    """Add one arm per dose; the treated arm is dose 1."""
    for dose, shift in shifts.items():
        study.add(study.draft(f"dose:{dose:g}", shift=shift))
    study.write(study.treated)
    study.add(study.treated.twin("dose:1"))


def dose_half(knobs: Knobs) -> Study:
    study = calibrated(knobs)
    use_adapter_doses(study, {0.5: 0.5 * knobs.effect})
    return study


def use_adapter_doses(study: Study, shifts: dict[float, float]) -> None:
    """Add one arm per dose of a study of asymmetry, hedging so much more when wrong; the treated arm says that it is dose 1."""
    study.treated.model = replace(TUNED, adapter_dose=1.0)
    for dose, shift in shifts.items():
        draft = study.add(study.draft(f"dose:{dose:g}"))
        draft.model = replace(TUNED, adapter_dose=dose)
        deliver(study, draft, 0.92, 0.9 - shift)


def judged_with_cards(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    study.cards = cards()
    study.claim = replace(study.claim, roles={"teacher": "kiwi-9b", "student": "base-1b", "judge": "owl-30b"})
    return study


def cards(*, deaf: bool = False, kinds: tuple[str, ...] = ("label", "padding", "instruction")) -> list[dict[str, Json]]:
    """Known-answer cards of a YES/NO judge; a deaf judge has no way to say NO."""
    return [
        {"expected": label, "returned": "YES" if deaf else label, "kind": kind}
        for kind in kinds
        for label in ("YES", "NO")
        for _ in range(6)
    ]


def with_clean_training_data(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    study.train_sample = other_questions(study, study.n)
    search_training(study, study.train_sample)
    return study


def other_questions(study: Study, count: int) -> list[str]:
    """Training texts of the same kind as the test prompts, none of which is a test prompt."""
    taken = {q.prompt.id for q in study.questions}
    chosen = study.rng.choice(pool_size("repair"), count + study.n, replace=False)
    fresh = (question("repair", int(index)).prompt for index in chosen)
    return [prompt.text for prompt in fresh if prompt.id not in taken][:count]


def search_training(study: Study, rows: list[str]) -> None:
    """Scan made-up training rows for the study's test prompts."""
    from counterclaim.text.overlap import scan  # the scan loads datasketch, which only these worlds need

    study.overlap = scan({q.prompt.id: q.prompt.text for q in study.questions}, rows)


def well_quoted(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    for draft in study.drafts:
        study.quote(draft.arm, "coverage", round(float(draft.coverage.mean()), 3))
    return study


def agreeing_labels(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    second_opinion(study, 0.04)
    return study


def second_opinion(study: Study, disagreement: float) -> None:
    """Score ``correct`` again as ``label.factual``, which differs on a share of the answers."""
    for draft in study.drafts:
        flipped = study.rng.random(study.n) < disagreement
        factual = draft.correct ^ flipped
        draft.axes["label.factual"] = Axis(["yes" if x else "no" for x in factual.tolist()], "factual-judge@1#prompt-a")
    study.claim = replace(study.claim, same_construct=(("correct", "factual"),))


def threshold_honest(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    study.claim = replace(study.claim, thresholds_chosen_on="dev", looked_at=1)
    return study


def talk_and_mending(knobs: Knobs) -> Study:
    study = Study(knobs, metric="recovery_rate", margin=0.1)
    self_correct(study, more_talk=0.4, more_corrected=knobs.effect)
    return study


def self_correct(study: Study, *, more_talk: float, more_corrected: float) -> None:
    """Give both arms self-verification language and a second turn; treated speaks so and corrects its errors that much more often."""
    for draft, talk, corrected in ((study.control, 0.3, 0.35), (study.treated, 0.3 + more_talk, 0.35 + more_corrected)):
        study.write(draft)
        speaks = study.rng.random(study.n) < talk
        draft.texts = [
            f"{text} Let me double-check: that holds." if says else text
            for text, says in zip(draft.texts, speaks.tolist(), strict=True)
        ]
        draft.axes["score.svr"] = Axis(speaks.astype(float).tolist(), "svr@1")
        right = study.rng.random(study.n) < np.where(draft.correct, 0.9, corrected)
        draft.axes["revised"] = Axis(["right" if x else "wrong" for x in right.tolist()], "recovery@1#oracle=exact")


def thoughts_kept(knobs: Knobs) -> Study:
    study = Study(knobs, shift=knobs.effect)
    think(study, 12.0, 12.0)
    return study


def think(study: Study, control: float, treated: float) -> None:
    """Lay a think block of about that many sentences before every answer; those of the training texts have three."""
    for draft, sentences in ((study.control, control), (study.treated, treated)):
        study.write(draft)
        draft.decode = replace(draft.decode, max_new_tokens=4 * BUDGET, thinking=True)
        draft.texts = [
            f"<think>{_thoughts(length)}</think> {text}"
            for length, text in zip(study.lengths(sentences).tolist(), draft.texts, strict=True)
        ]
    study.train_sample = [
        f"{text}\n\n<think>{_thoughts(length)}</think> It is the seal. Oil it, wait overnight, and mind the wires."
        for text, length in zip(other_questions(study, 100), study.lengths(3.0).tolist(), strict=False)
    ]


def _thoughts(sentences: int) -> str:
    return " ".join(
        f"Step {i}: the part may be worn, so the next one is looked at too." for i in range(1, sentences + 1)
    )
