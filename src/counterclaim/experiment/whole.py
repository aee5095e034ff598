"""A whole study file: from its prompts to the records on which checks and verdict rest."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from pathlib import Path

from counterclaim import importers, scoring
from counterclaim.asking import choose_prompts
from counterclaim.errors import InputError
from counterclaim.experiment.answering import Answering, answer
from counterclaim.experiment.freezing import instruments_json, measured_by, notes_of, sources_of, status_of
from counterclaim.experiment.scores import Scoring, judging, score
from counterclaim.experiment.training import gather
from counterclaim.experiment.watching import Watchers
from counterclaim.intake import known_names, scan_training, study_json
from counterclaim.metrics import resolve
from counterclaim.records import TREATED
from counterclaim.spec import StudyPlan
from counterclaim.store import Records


def perform(plan: StudyPlan, folder: Path, watchers: Watchers, *, overwrite: bool = False) -> Records:
    """Everything that a study file asks for, up to the records on which checks and verdict rest.

    What can be refused is refused before a model is loaded.

    Raises:
        InputError: something in the study file cannot be used, or the folder holds something else.
        ModelError: a model cannot be used.
        BudgetSpent: the budget for tokens or money is used up; a rerun goes on from there.
    """
    known_names(plan.claim)
    chosen = scoring.choose(plan.instruments, plan.judge, unsafe_local=plan.unsafe_local)
    axes = {axis for item in chosen for axis in item.axes.values()}
    for name in (plan.claim.metric, *(guard.metric for guard in plan.claim.guards)):
        try:
            resolve(name, axes)
        except InputError as error:
            raise InputError(
                f"{name} cannot be measured: {error.problem}",
                path=plan.path,
                remedy="name an instrument that reads it under [score] (counterclaim list instruments), or another metric",
            ) from error
    notes: list[str] = []
    prompts = choose_prompts(plan.prompts, notes.append)
    scoring.hold_gold(chosen, prompts)
    by_axis = {axis: [item.name] for item in chosen for axis in item.axes.values()}
    measures = measured_by(plan.claim, by_axis, prompts)
    arms, lessons = gather(plan.arms, watchers)
    turns = {item.instrument.name: item.instrument.follow_up for item in chosen}
    asked = Answering(
        arms,
        prompts,
        plan.samples,
        plan.seeds,
        {name: said for name, said in turns.items() if said is not None},
        lessons,
    )
    runtime = replace(plan.runtime, token_ends=bool(plan.budgets))
    wanted = Scoring(plan.instruments, plan.judge, plan.validate_judge, plan.budgets, plan.unsafe_local)
    with judging(wanted, chosen, runtime, watchers) as (bench, cards):
        work = answer(
            folder, asked, plan.claim, runtime, watchers, measured_by=measures, overwrite=overwrite
        )  # fmt: skip
        records = score(work, {prompt.id: prompt for prompt in prompts}, chosen, plan.budgets, bench, watchers)
    records.extras = dict(cards)
    if work.training:
        records.extras["training"] = work.training
    learnt = [] if TREATED not in lessons else lessons[TREATED].texts
    if learnt or plan.train_data is not None:
        named = [] if plan.train_data is None else importers.load_training_texts(plan.train_data)
        records.extras["overlap"], records.extras["train_sample"] = scan_training(
            records, chain(learnt, named), watchers.stage
        )
    records.study = {
        **work.study,
        **study_json(
            plan.claim,
            status_of(plan.claim, measures, work.study["frozen"]),
            sources_of(records, work.study["began"]),
            [*notes, *bench.notes, *notes_of(records)],
            records.extras,
            made_by=["generated", work.study["answers_hash"], instruments_json(chosen), list(plan.budgets)],
        ),
        "finished": True,
    }
    return records
