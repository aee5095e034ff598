"""A study of one's own, up to the door: prompts chosen, claim frozen, answers generated and scored, records out.

    plan ─> prompts ─> frozen claim ─> generate ─> cut to budgets ─> score ─> Records

Everything is written down as it is made. Killed at any moment and run again, it goes on where it stopped; run again when
it is finished, it generates nothing and scores only what is new.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from counterclaim import generation, promptsets, scoring, store
from counterclaim.errors import InputError, RecordError
from counterclaim.instruments import validate
from counterclaim.intake import Progress, known_names, scan_training, silent, study_json
from counterclaim.metrics import resolve
from counterclaim.models.judge import open_judge
from counterclaim.records import (
    Claim,
    Json,
    Prompt,
    Response,
    Score,
    content_hash,
    response_from_json,
    score_from_json,
    to_json,
)
from counterclaim.registry import Runtime
from counterclaim.scoring import Bench, Chosen, ScoreTally
from counterclaim.spec import ArmPlan, PromptChoice, StudyPlan, arms_hash, model_json
from counterclaim.store import Journal, Records


@dataclass(frozen=True, slots=True)
class Watchers:
    """Who is told how far things are.

    Attributes:
        stage: what is being done.
        answers: after every batch of answers, and as tokens are made.
        scores: as readings come in.
    """

    stage: Progress = silent
    answers: generation.Watch = field(default=lambda tally: None)
    scores: Callable[[ScoreTally], None] = field(default=lambda tally: None)


def choose_prompts(choice: PromptChoice) -> list[Prompt]:
    """The prompts of a file, of a set that ships, of the tiny models' domain (``tiny``) or of a planted world (``world:NAME``).

    Raises:
        InputError: there is no such source, or nothing in it fits.
    """
    source: Any = choice.source
    split: Any = choice.split
    if source == "tiny":
        from counterclaim.models.tiny import prompts as tiny_prompts

        found: Iterable[Prompt] = tiny_prompts(split)
    elif source.startswith("world:"):
        from counterclaim.worlds.backend import prompts_of

        found = prompts_of(source.removeprefix("world:"))
    elif source in promptsets.SETS:
        found = promptsets.shipped(source, split)
    else:
        found = promptsets.load(Path(source), split)
    chosen = [prompt for prompt in found if set(choice.tags) <= set(prompt.tags)][: choice.limit]
    if not chosen:
        raise InputError(
            f"no prompt of {source} fits (split {choice.split or 'any'}, tags {', '.join(choice.tags) or 'any'})",
            remedy="ask for another split or other tags",
        )
    return chosen


# generating -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answering:
    """What determines a folder's answers.

    Attributes:
        arms: who answers.
        prompts: what is asked, in this order.
        samples: answers per prompt and seed.
        seeds: sampling seeds.
        follow_ups: instrument name to its scripted next turn.
    """

    arms: tuple[ArmPlan, ...]
    prompts: Sequence[Prompt]
    samples: int = 1
    seeds: tuple[int, ...] = (0,)
    follow_ups: Mapping[str, str] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """SHA-256 over all of it but the scripted next turns, which add answers and change none."""
        return arms_hash(self.arms, self.samples, self.seeds, [prompt.id for prompt in self.prompts])


@dataclass(frozen=True, slots=True)
class Work:
    """A run folder under way.

    Attributes:
        folder: where.
        study: what study.json says so far.
        earlier: the records of an earlier run that was finished; None where there is none.
        responses: the answers.
    """

    folder: Path
    study: dict[str, Json]
    earlier: Records | None
    responses: list[Response]


def answer(
    folder: Path,
    asked: Answering,
    claim: Claim | None,
    runtime: Runtime,
    watchers: Watchers,
    *,
    overwrite: bool = False,
    retry_errors: bool = False,
) -> Work:
    """Generate a study's answers into a run folder, or go on where an earlier run stopped.

    Raises:
        InputError: the folder holds something else, or cannot be written.
        ModelError: a model cannot be used.
        BudgetSpent: the budget for tokens or money is used up; what was answered is kept in the folder.
    """
    old = store.read_study(folder)
    if old is not None and old.get("answers_hash") != asked.hash:
        if not overwrite:
            raise InputError(
                "the folder holds another study (another model, other prompts or settings)",
                path=folder,
                remedy="choose another --out, or replace it with --overwrite",
            )
        store.clear_run(folder)
        old = None
    earlier = store.read_run(folder) if old is not None and old["finished"] else None
    with Journal(folder / "answers.journal", {"answers": asked.hash}) as journal:
        known = [*(earlier.responses if earlier else ()), *map(response_from_json, journal.rows)]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        study: dict[str, Json] = {
            "finished": False,
            "answers_hash": asked.hash,
            "began": now if old is None else old["began"],
            "frozen": None if claim is None else {"claim_hash": claim.hash, "at": now},
            "claim": None if claim is None else to_json(claim),
            "arms": [
                {"arm": arm.name, "model": model_json(arm.model), "decode": to_json(arm.decode)} for arm in asked.arms
            ],
        }
        if old is not None and old["frozen"] is not None and known:
            study["frozen"] = old["frozen"]
        if earlier is None:
            store.begin_run(folder, study, asked.prompts)
        responses = generation.generate(
            asked.arms, asked.prompts, journal, known=known, samples=asked.samples, seeds=asked.seeds,
            follow_ups=asked.follow_ups, runtime=runtime, retry_errors=retry_errors, watch=watchers.answers,
        )  # fmt: skip
    return Work(folder, study, earlier, responses)


def cut_to_budgets(responses: Sequence[Response], budgets: Sequence[int]) -> list[Response]:
    """The answers, and what each would have been with every smaller budget, as arms ``ARM@BUDGET``.

    Raises:
        InputError: a budget is not smaller than the one of the answers, or they do not say where their tokens end.
    """
    whole = [response for response in responses if "@" not in response.arm]
    out = list(whole)
    for budget in budgets:
        for response in whole:
            if "/" in response.arm:
                continue
            most = response.decode.max_new_tokens
            if most is not None and budget >= most:
                raise InputError(
                    f"the budget {budget} is not smaller than the {most} tokens with which the answers were generated",
                    remedy="leave it out, or generate again with a larger max_new_tokens",
                )
            try:
                made = response.cut_to(budget, f"{response.arm}@{budget}")
            except RecordError as error:
                raise InputError(
                    f"the answers of {response.arm} cannot be cut to {budget} tokens: {error}",
                    remedy="leave the budgets out, or generate with a backend that says where tokens end",
                ) from error
            out.append(replace(made, token_chars=None))
    return out


# scoring --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scoring:
    """How a folder's answers are scored.

    Attributes:
        instruments: as ``--with`` takes them.
        judge: model that judges.
        validate_judge: whether the judge's known-answer cards are run.
        budgets: smaller budgets at which the answers are scored too.
        unsafe_local: run code that a model wrote without the sandbox.
    """

    instruments: Sequence[str]
    judge: str | None = None
    validate_judge: bool = True
    budgets: Sequence[int] = ()
    unsafe_local: bool = False


def score(
    work: Work,
    prompts: Mapping[str, Prompt],
    chosen: Sequence[Chosen],
    wanted: Scoring,
    runtime: Runtime,
    watchers: Watchers,
) -> Records:
    """The answers of a run folder with their scores, and what the judge did with its known-answer cards.

    Raises:
        InputError: an instrument fails its own cards, or lacks the gold that it needs.
        SandboxError: programs would have to be run, and there is no sandbox.
    """
    responses = cut_to_budgets(work.responses, wanted.budgets)
    asks_judge = any("judge" in item.instrument.needs for item in chosen)
    judge = open_judge(wanted.judge, runtime) if wanted.judge is not None and asks_judge else None
    workers = runtime.concurrency if judge is not None else os.cpu_count() or 1
    bench = Bench(judge, workers, wanted.unsafe_local)
    identity = {"scores": scoring.scoring_hash(responses, prompts, chosen)}
    extras: dict[str, Json] = {}
    try:
        if judge is not None and wanted.validate_judge:
            judged = [item.instrument for item in chosen if "judge" in item.instrument.needs]
            report = validate(judge, judged, progress=lambda name: watchers.stage(f"the judge's cards: {name}", None))
            extras["cards"] = report.cards()
        with Journal(work.folder / "scores.journal", identity, keep_other=False) as journal:
            known = [*_still_true(work.earlier, responses, prompts), *map(score_from_json, journal.rows)]
            scores = scoring.score(responses, prompts, chosen, bench, journal, known=known, watch=watchers.scores)
    finally:
        if judge is not None:
            judge.close()
    return Records(work.study, dict(prompts), responses, scores, extras)


def _still_true(
    earlier: Records | None, responses: Sequence[Response], prompts: Mapping[str, Prompt]
) -> Iterator[Score]:
    """Scores of a finished run whose answer and gold are what they were."""
    if earlier is None:
        return
    then = {response.key: response.text for response in earlier.responses}
    same = {response.key for response in responses if then.get(response.key, "") == response.text}
    for made in earlier.scores:
        old = earlier.prompts.get(made.prompt_id)
        if made.key in same and old is not None and old.gold == prompts[made.prompt_id].gold:
            yield made


# a whole study --------------------------------------------------------------------------------------------------


def perform(
    plan: StudyPlan, folder: Path, watchers: Watchers, *, overwrite: bool = False, retry_errors: bool = False
) -> Records:
    """Everything that a study file asks for, up to the records on which checks and verdict rest.

    What can be refused is refused before a model is loaded.

    Raises:
        InputError: something in the study file cannot be used, or the folder holds something else.
        ModelError: a model cannot be used.
        BudgetSpent: the budget for tokens or money is used up; a rerun goes on from there.
    """
    known_names(plan.claim)
    chosen = scoring.choose(plan.instruments, plan.judge)
    axes = {axis for item in chosen for axis in item.axes.values()}
    for name in (plan.claim.metric, *(guard.metric for guard in plan.claim.guards)):
        resolve(name, axes)
    prompts = choose_prompts(plan.prompts)
    scoring.hold_gold(chosen, prompts)
    turns = {item.instrument.name: item.instrument.follow_up for item in chosen}
    asked = Answering(
        plan.arms, prompts, plan.samples, plan.seeds, {name: said for name, said in turns.items() if said is not None}
    )
    runtime = replace(plan.runtime, token_ends=bool(plan.budgets))
    work = answer(folder, asked, plan.claim, runtime, watchers, overwrite=overwrite, retry_errors=retry_errors)
    wanted = Scoring(plan.instruments, plan.judge, plan.validate_judge, plan.budgets, plan.unsafe_local)
    records = score(work, {prompt.id: prompt for prompt in prompts}, chosen, wanted, runtime, watchers)
    if plan.train_data is not None:
        records.extras["overlap"], records.extras["train_sample"] = scan_training(
            records, plan.train_data, watchers.stage
        )
    records.study = {
        **work.study,
        **study_json(
            plan.claim,
            _status(plan.claim, work.study["frozen"]),
            _sources(records, work.study["began"]),
            _notes(records, wanted),
            records.extras,
            made_by=["generated", work.study["answers_hash"], identity_of(chosen), list(plan.budgets)],
        ),
        "finished": True,
    }
    return records


def identity_of(chosen: Sequence[Chosen]) -> Json:
    """Which instruments scored, and under which axes, as study.json spells it."""
    return [[item.name, dict(item.axes)] for item in chosen]


def _status(claim: Claim, frozen: Mapping[str, str]) -> tuple[Literal["confirmatory", "exploratory"], str]:
    if frozen["claim_hash"] == claim.hash:
        return (
            "confirmatory",
            f"the claim was written down on {frozen['at']}, before the first answer, and has not changed",
        )
    return (
        "exploratory",
        f"the claim was changed after answers had been generated (it was written down on {frozen['at']})",
    )


def _sources(records: Records, began: str) -> list[dict[str, Json]]:
    """Where each arm's answers came from, with a hash over them."""
    by_arm: dict[str, list[Response]] = {}
    for response in records.responses:
        by_arm.setdefault(response.arm, []).append(response)
    return [
        {
            "arm": arm, "replicate": "", "no_generation": False, "path": answers[0].model.repo or "a model without a name",
            "format": "generated", "sha256": content_hash([arm, [to_json(answer) for answer in answers]]),
            "rows": len(answers), "created": began,
        }
        for arm, answers in by_arm.items()
    ]  # fmt: skip


def _notes(records: Records, wanted: Scoring) -> list[str]:
    """What a reader of the page must know of how the records were made."""
    notes = []
    failed = sum(response.error is not None for response in records.responses)
    if failed:
        first = next(response.error for response in records.responses if response.error is not None)
        notes.append(f"{failed} of {len(records.responses)} answers failed, the first with: {first}")
    if wanted.unsafe_local:
        notes.append("Code that the model wrote was run without a sandbox, with resource limits only.")
    return notes
