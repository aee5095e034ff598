"""A whole study file: from its prompts to the records on which checks and verdict rest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from counterclaim import importers
from counterclaim.audit.intake import known_names, sample_of, scan_training, study_json
from counterclaim.audit.metrics import resolve
from counterclaim.errors import InputError
from counterclaim.folder import Records
from counterclaim.lab.config import StudyPlan, TunePlan, change_json, model_json
from counterclaim.lab.experiment.answering import Answering, answer
from counterclaim.lab.experiment.fitting import Lessons, gather, hold, outline_fits
from counterclaim.lab.experiment.five_steps import five_steps
from counterclaim.lab.experiment.freezing import measured_by, notes_of, scorers_json, sources_of, status_of
from counterclaim.lab.experiment.own_answers import Asking
from counterclaim.lab.experiment.scores import Scoring, judging, score
from counterclaim.lab.experiment.watching import Progress
from counterclaim.lab.prompts.select import choose_prompts
from counterclaim.lab.scorers import scoring
from counterclaim.lab.scorers.scoring import Chosen
from counterclaim.records import TREATED, Json, Prompt, to_json


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What is known of a study before a model is loaded: everything that can be refused has been."""

    chosen: list[Chosen]
    prompts: list[Prompt]
    notes: list[str]
    measures: dict[str, Json]
    turns: dict[str, str]


def _prepare(plan: StudyPlan) -> _Prepared:
    known_names(plan.claim)
    chosen = scoring.choose(_with_function(plan), plan.judge, unsafe_local=plan.unsafe_local)
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
    scoring.check_gold(chosen, prompts)
    arms = list(plan.arms)
    if plan.steps is not None and plan.steps.second_model is not None:  # is read as the sidecar's own model is
        arms.append(replace(arms[1], model=replace(arms[1].model, name=plan.steps.second_model)))
    hold(arms, prompts, _asking(plan))
    by_axis = {axis: [item.name] for item in chosen for axis in item.axes.values()}
    turns = {item.scorer.name: item.scorer.follow_up for item in chosen}
    return _Prepared(
        chosen, prompts, notes, measured_by(plan.claim, by_axis, prompts),
        {name: said for name, said in turns.items() if said is not None},
    )  # fmt: skip


def _asking(plan: StudyPlan) -> Asking:
    """How answers are scored that the claim is not judged on: those from which operators learn."""
    return Asking(plan.scorers, plan.judge, plan.unsafe_local)


def _with_function(plan: StudyPlan) -> list[str]:
    """The scorers that are asked for; for a trained arm also those that tell form from function, where they can be had."""
    wanted = list(plan.scorers)
    if not plan.function or not any(isinstance(arm.change, TunePlan) for arm in plan.arms):
        return wanted
    known = scoring.choose(wanted, plan.judge, unsafe_local=plan.unsafe_local)
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
                else {"change": change_json(arm), "dose": arm.dose, **outline_fits(arm, plan.prompts, _asking(plan))}
            ),
        })  # fmt: skip
    return {
        "study": str(plan.path), "prompts": len(ready.prompts), "arms": arms, "answers": answers,
        "scorers": [item.name for item in ready.chosen], "follow_ups": sorted(ready.turns),
        "claim": to_json(plan.claim), "notes": list(ready.notes),
    }  # fmt: skip


def perform(plan: StudyPlan, folder: Path, watchers: Progress, *, overwrite: bool = False) -> Records:
    """Everything that a study file asks for, up to the records on which checks and verdict rest.

    What can be refused is refused before a model is loaded.

    Raises:
        InputError: something in the study file cannot be used, or the folder holds something else.
        ModelError: a model cannot be used.
        BudgetSpent: the budget for tokens or money is used up; a rerun goes on from there.
    """
    ready = _prepare(plan)
    asking = _asking(plan)
    arms, lessons = gather(plan.arms, watchers, plan.prompts, asking)
    asked = Answering(arms, ready.prompts, plan.samples, plan.seeds, ready.turns, lessons)
    runtime = replace(plan.runtime, token_ends=bool(plan.budgets))
    wanted = Scoring(_with_function(plan), plan.judge, plan.validate_judge, plan.budgets, plan.unsafe_local)
    with judging(wanted, ready.chosen, runtime, watchers) as (bench, cards):
        work = answer(
            folder, asked, plan.claim, runtime, watchers, measured_by=ready.measures, asking=replace(asking, bench=bench),
            overwrite=overwrite,
        )  # fmt: skip
        records = score(
            work, {prompt.id: prompt for prompt in ready.prompts}, ready.chosen, plan.budgets, bench, watchers
        )
        probing = None
        if plan.steps is not None:
            probing = five_steps(
                plan, work.study["answers_hash"], records, ready.prompts, folder, runtime, watchers, replace(asking, bench=bench),
                None if work.earlier is None else work.earlier.extras.get("probing"),
            )  # fmt: skip
    records.extras = dict(cards)
    if work.fitted.training:
        records.extras["training"] = work.fitted.training
    if work.fitted.edits:
        records.extras["edits"] = work.fitted.edits
    if probing is not None:
        records.extras["probing"] = probing
    _look_at_training(records, plan, lessons.get(TREATED.name), watchers)
    records.study = {
        **work.study,
        **study_json(
            plan.claim,
            status_of(plan.claim, ready.measures, work.study["frozen"]),
            sources_of(records, work.study["began"]),
            [*ready.notes, *bench.notes, *notes_of(records)],
            records.extras,
            made_by=["generated", work.study["answers_hash"], scorers_json(ready.chosen), list(plan.budgets)],
        ),
        "finished": True,
    }
    return records


def _look_at_training(records: Records, plan: StudyPlan, learnt: Lessons | None, watchers: Progress) -> None:
    """What checks know of the treated arm's training data: of what it was trained on here, and of what the file names."""
    if learnt is None and plan.train_data is None:
        return
    named = [] if plan.train_data is None else importers.load_training_texts(plan.train_data)
    own = [] if learnt is None else learnt.texts
    extras = records.extras
    extras["overlap"], extras["train_sample"] = scan_training(records, chain(own, named), watchers.stage)
    if learnt is not None:
        extras["train_words"] = learnt.words
        if plan.train_data is None:  # questions are told from questions, and not by the answers beside them
            extras["train_sample"] = sample_of(learnt.questions)
