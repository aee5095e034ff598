"""A study file, from nothing to the verdict and its pages.

    plan ─> prompts ─> training sets ─> frozen claim ─> fit ─> answer ─> cut to budgets ─> score ─> run folder ─> verdict

Everything is written down as it is made. Killed at any moment and run again, it goes on where it stopped; run again when
it is finished, it trains and generates nothing and scores only what is new.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Literal

from counterclaim.audit.evidence import GENERATED
from counterclaim.audit.intake import known_names, sample_of, scan_training, study_json
from counterclaim.audit.judging import Judged, judge
from counterclaim.audit.metrics import resolve
from counterclaim.errors import InputError
from counterclaim.folder import Records, finish_run, locked
from counterclaim.importers import load_training_texts
from counterclaim.lab.answers import AnswerRequest, Progress, RunUnderWay, answer, begin_run, score, train_tiny
from counterclaim.lab.config import SidecarPlan, StudyPlan, TunePlan, change_json, model_json
from counterclaim.lab.fits import TrainingSet, check_fits, fit_arms, outline_fits, training_sets
from counterclaim.lab.prompts.select import choose_prompts
from counterclaim.lab.scorers.scoring import ChosenScorer, ScoringContext, ScoringRequest, check_gold, choose, judging
from counterclaim.records import TREATED, ArmId, Claim, Json, Prompt, Response, Score, content_hash, to_json
from counterclaim.registry import Runtime


def run_study(
    plan: StudyPlan,
    folder: Path,
    progress: Progress | None = None,
    *,
    overwrite: bool = False,
) -> Judged:
    """A study file, from nothing to the verdict and its pages. Killed and run again, it goes on where it stopped.

    Args:
        plan: the study file, read.
        folder: the run folder.
        progress: is called with how far things are.
        overwrite: replace another study in the folder.

    Raises:
        InputError: something in the study file cannot be used, or the folder holds something else.
        ModelError: a model cannot be used.
        BudgetSpent: the budget for tokens or money is used up; a rerun goes on from there.
    """
    progress = progress or Progress()
    with locked(folder):
        records = make_records(plan, folder, progress, overwrite=overwrite)
        judged = judge(records, progress.stage)
        finish_run(folder, records, judged.files())
    return judged


def make_records(plan: StudyPlan, folder: Path, progress: Progress, *, overwrite: bool = False) -> Records:
    """Everything that a study file asks for, up to the records on which checks and verdict rest.

    What can be refused is refused before a model is loaded.

    Raises:
        InputError: something in the study file cannot be used, or the folder holds something else.
        ModelError: a model cannot be used.
        BudgetSpent: the budget for tokens or money is used up; a rerun goes on from there.
    """
    # prompts, scorers, and what operators learn from (teachers are asked here)
    ready = _prepare(plan)
    training = training_sets(plan.arms, progress, plan.prompts, ready.scoring)
    hashes = {name: found.hash for name, found in training.items()}
    request = AnswerRequest(plan.arms, ready.prompts, plan.samples, plan.seeds, ready.turns, hashes)
    runtime = replace(plan.runtime, token_ends=bool(plan.budgets))
    with judging(ready.scoring, ready.chosen, runtime, progress.part) as (context, cards):
        # the claim is frozen
        run = begin_run(folder, request, plan.claim, measured_by=ready.measures, overwrite=overwrite)
        # training, and whatever else operators fit
        train_tiny(plan.arms, progress)
        arms, fitted = fit_arms(
            plan.arms, training, run, plan.samples * len(plan.seeds), runtime, progress, context,
            has_every_answer=run.has_every_answer(request),
        )  # fmt: skip
        # answers, and their scores
        answer(run, arms, request, runtime, progress)
        records = score(run, ready.chosen, plan.budgets, context, progress)
        probing = _put_through_five_steps(plan, run, records, ready, runtime, progress, context)
    # the run folder
    found = {"training": fitted.training, "edits": fitted.edits, "probing": probing}
    records.extras = {**cards, **{key: value for key, value in found.items() if value}}
    _scan_training(records, plan, training.get(TREATED.name), progress)
    records.study = {
        **run.study,
        **study_json(
            plan.claim,
            status_of(plan.claim, ready.measures, run.study["frozen"]),
            sources_of(records, run.study["began"]),
            [*ready.notes, *context.notes, *notes_of(records)],
            records.extras,
            made_by=["generated", run.study["answers_hash"], scorers_json(ready.chosen), list(plan.budgets)],
        ),
        "finished": True,
    }
    return records


def _put_through_five_steps(
    plan: StudyPlan,
    run: RunUnderWay,
    records: Records,
    ready: _Prepared,
    runtime: Runtime,
    progress: Progress,
    context: ScoringContext,
) -> Json:
    """What the five steps found of the sidecar's probe; None where the study does not ask for them."""
    if plan.steps is None:
        return None
    from counterclaim.lab.probing.sidecar import five_steps

    sidecar = plan.arms[1].change
    assert isinstance(sidecar, SidecarPlan)
    return five_steps(
        plan, run.study["answers_hash"], records, ready.prompts, run.folder, runtime, progress,
        ready.scoring.choose(sidecar.scorers), context,
        None if run.earlier is None else run.earlier.extras.get("probing"),
    )  # fmt: skip


# before a model is loaded ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What is known of a study before a model is loaded: everything that can be refused has been."""

    chosen: list[ChosenScorer]
    prompts: list[Prompt]
    notes: list[str]
    scoring: ScoringRequest
    measures: dict[str, Json]
    turns: dict[str, str]


def _prepare(plan: StudyPlan) -> _Prepared:
    known_names(plan.claim)
    chosen = choose(_with_function(plan), plan.judge, unsafe_local=plan.unsafe_local)
    axes = {axis for item in chosen for axis in item.axes.values()}
    for name in (plan.claim.metric, *(guard.metric for guard in plan.claim.guards)):
        try:
            resolve(name, axes)
        except InputError as error:
            raise InputError(
                f"{name} cannot be measured: {error.problem}",
                path=plan.path,
                remedy="name a scorer that reads it under [score] (counterclaim list scorers), or another metric",
            ) from error
    notes: list[str] = []
    prompts = choose_prompts(plan.prompts, notes.append)
    check_gold(chosen, prompts)
    arms = list(plan.arms)
    if plan.steps is not None and plan.steps.second_model is not None:  # is read as the sidecar's own model is
        arms.append(replace(arms[1], model=replace(arms[1].model, name=plan.steps.second_model)))
    scoring = _scoring_request(plan)
    check_fits(arms, prompts, scoring)
    by_axis = {axis: [item.name] for item in chosen for axis in item.axes.values()}
    turns = {item.scorer.name: item.scorer.follow_up for item in chosen}
    return _Prepared(
        chosen, prompts, notes, scoring, measured_by(plan.claim, by_axis, prompts),
        {name: text for name, text in turns.items() if text is not None},
    )  # fmt: skip


def _scoring_request(plan: StudyPlan) -> ScoringRequest:
    """How answers are scored; operators that name no scorers of their own learn from the study's."""
    return ScoringRequest(plan.scorers, plan.judge, plan.validate_judge, plan.budgets, plan.unsafe_local)


def _with_function(plan: StudyPlan) -> list[str]:
    """The scorers that are asked for; for a trained arm also those that tell form from function, where they can be had."""
    wanted = list(plan.scorers)
    if not plan.function or not any(isinstance(arm.change, TunePlan) for arm in plan.arms):
        return wanted
    known = choose(wanted, plan.judge, unsafe_local=plan.unsafe_local)
    axes = {axis for item in known for axis in item.axes.values()}
    more = {"svr": "score.svr", "recovery": "revised"} if "correct" in axes else {"svr": "score.svr"}
    return wanted + [name for name, axis in more.items() if axis not in axes]


def outline(plan: StudyPlan) -> dict[str, Json]:
    """What a study would do, after everything that can be refused without a model has been looked at; loads and writes nothing.

    Raises:
        InputError: something in the study file cannot be used.
    """
    ready = _prepare(plan)
    arms: list[Json] = []
    answers = 0
    for arm in plan.arms:
        fits = 1 if arm.change is None else len(arm.change.seeds)
        answers += fits * len(ready.prompts) * plan.samples * len(plan.seeds)
        arms.append({
            "arm": arm.name, "model": model_json(arm.model), "decode": to_json(arm.decode),
            **(
                {} if arm.change is None
                else {"change": change_json(arm), "dose": arm.dose, **outline_fits(arm, plan.prompts, ready.scoring)}
            ),
        })  # fmt: skip
    return {
        "study": str(plan.path), "prompts": len(ready.prompts), "arms": arms, "answers": answers,
        "scorers": [item.name for item in ready.chosen], "follow_ups": sorted(ready.turns),
        "claim": to_json(plan.claim), "notes": list(ready.notes),
    }  # fmt: skip


# what study.json and the extras say --------------------------------------------------------------------------------


def _scan_training(records: Records, plan: StudyPlan, training: TrainingSet | None, progress: Progress) -> None:
    """What checks know of the treated arm's training data: of what it was trained on here, and of what the file names."""
    if training is None and plan.train_data is None:
        return
    named = [] if plan.train_data is None else load_training_texts(plan.train_data)
    own = [] if training is None else training.texts
    extras = records.extras
    extras["overlap"], extras["train_sample"] = scan_training(records, chain(own, named), progress.stage)
    if training is not None:
        extras["train_words"] = training.words
        if plan.train_data is None:  # questions are told from questions, and not by the answers beside them
            extras["train_sample"] = sample_of(training.questions)


def scorers_json(chosen: Sequence[ChosenScorer]) -> Json:
    """Which scorers scored, and under which axes, as study.json spells it."""
    return [[item.name, dict(item.axes)] for item in chosen]


def measured_by(claim: Claim, scorers: Mapping[str, Iterable[str]], prompts: Iterable[Prompt]) -> dict[str, Json]:
    """What decides how the claim comes out, given the answers: scorers of its target and guards, and the golds.

    Args:
        claim: what is claimed.
        scorers: axis to the full names of what reads it.
        prompts: with their golds.
    """
    names = (claim.metric, *(guard.metric for guard in claim.guards))
    axes = {axis for name in names for axis in resolve(name, set(scorers)).axes}
    golds = sorted((prompt.id, to_json(prompt.gold)) for prompt in prompts)
    return {
        "scorers": {axis: sorted(scorers.get(axis, ())) for axis in sorted(axes)},
        "golds": content_hash(golds),
    }


def status_of(
    claim: Claim, measured_by: Json, frozen: Mapping[str, Json]
) -> tuple[Literal["confirmatory", "exploratory"], str]:
    at = frozen["at"]
    if frozen["claim_hash"] != claim.hash:
        return "exploratory", f"the claim was changed after answers had been generated (it was written down on {at})"
    if changed := [what for what in ("scorers", "golds") if frozen["measured_by"][what] != measured_by[what]]:
        return (
            "exploratory",
            f"the {' and '.join(changed)} that measure the claim were changed after answers had been generated (it was "
            f"written down on {at})",
        )
    return "confirmatory", f"the claim was written down on {at}, before the first answer, and has not changed"


def sources_of(records: Records, began: str) -> list[dict[str, Json]]:
    """Where each arm's answers came from, with a hash over them."""
    by_arm: dict[ArmId, list[Response]] = {}
    for response in records.responses:
        by_arm.setdefault(response.arm, []).append(response)
    return [
        {
            "arm": str(arm), "replicate": "", "no_generation": False, "path": answers[0].model.repo or "a model without a name",
            "format": GENERATED, "sha256": content_hash([str(arm), [to_json(answer) for answer in answers]]),
            "rows": len(answers), "created": began,
        }
        for arm, answers in by_arm.items()
    ]  # fmt: skip


def notes_of(records: Records) -> list[str]:
    """What a reader of the page must know of how the records were made."""
    notes = []
    if any("sandbox=none" in made.scorer for made in records.scores):
        notes.append("Programs ran without a sandbox (--unsafe-local): resource limits alone held them.")
    failed = sum(response.error is not None for response in records.responses)
    if failed:
        first = next(response.error for response in records.responses if response.error is not None)
        notes.append(f"{failed} of {len(records.responses)} answers failed, the first with: {first}")
    by_scorer: dict[str, list[Score]] = {}
    for made in records.scores:
        by_scorer.setdefault(made.scorer, []).append(made)
    for name, scores in by_scorer.items():
        reasons = [made.unscored for made in scores if made.unscored is not None]
        if 2 * len(reasons) > len(scores):
            notes.append(f"{name} left {len(reasons)} of {len(scores)} readings unscored, the first with: {reasons[0]}")
    return notes
