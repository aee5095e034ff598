"""A study of one's own, up to the door: prompts chosen, claim frozen, answers generated and scored, records out.

    plan ─> prompts ─> frozen claim ─> generate ─> cut to budgets ─> score ─> Records

Everything is written down as it is made. Killed at any moment and run again, it goes on where it stopped; run again when
it is finished, it generates nothing and scores only what is new.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Literal, cast, get_args

from counterclaim import generation, instruments, promptsets, registry, scoring, store
from counterclaim.errors import InputError, RecordError
from counterclaim.evidence import CONTROL, GENERATED, TREATED, Arm, Evidence
from counterclaim.generation import FOLLOWS, follow_up_arm
from counterclaim.instruments.validation import Report, validate
from counterclaim.intake import DEFAULT_MARGIN, Progress, known_names, scan_training, silent, study_json
from counterclaim.metrics import resolve
from counterclaim.models import open_model
from counterclaim.models.judge import open_judge
from counterclaim.models.tiny import prompts as tiny_prompts
from counterclaim.records import (
    Claim,
    Estimate,
    FinishReason,
    Json,
    Prompt,
    Provenance,
    Response,
    Score,
    claim_from_json,
    content_hash,
    response_from_json,
    score_from_json,
    to_json,
)
from counterclaim.registry import ModelSpec, Runtime
from counterclaim.scoring import Bench, Chosen, ScoreTally
from counterclaim.server import Fault, Server, serve
from counterclaim.server.faults import FaultKind
from counterclaim.spec import ArmPlan, PromptChoice, StudyPlan, arms_hash, model_json
from counterclaim.store import Journal, Records
from counterclaim.worlds.backend import prompts_of

FEW = 5
"""Prompts that a tag needs for a row of its own in the table of scores."""


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


def choose_prompts(choice: PromptChoice, note: Callable[[str], None] | None = None) -> list[Prompt]:
    """The prompts of a file, of a set that ships, of the tiny models' domain (``tiny``) or of a planted world (``world:NAME``).

    Args:
        choice: which ones; of more than ``limit``, evenly spread ones are taken.
        note: told what was noticed while reading a file.

    Raises:
        InputError: there is no such source, or nothing in it fits.
    """
    source: Any = choice.source
    split: Any = choice.split
    if source == "tiny":
        found: Iterable[Prompt] = tiny_prompts(split)
    elif source.startswith("world:"):
        found = prompts_of(source.removeprefix("world:"))
    elif source in promptsets.SETS:
        found = promptsets.shipped(source, split)
    else:
        known = ["tiny", *promptsets.SETS]
        there = os.path.exists(source)  # noqa: PTH110  # a sentence is no path, and no reason to raise
        if not there and "." not in source and "/" not in source:
            near = difflib.get_close_matches(source, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"name a file, world:NAME, or one of {', '.join(known)}"
            raise InputError(f"there are no prompts called {source!r}", remedy=hint)
        found = promptsets.load(Path(source), split, note=note)
    chosen = [prompt for prompt in found if set(choice.tags) <= set(prompt.tags)]
    if not chosen:
        raise InputError(
            f"no prompt of {source} fits (split {choice.split or 'any'}, tags {', '.join(choice.tags) or 'any'})",
            remedy="ask for another split or other tags",
        )
    if choice.limit is None or choice.limit >= len(chosen):
        return chosen
    return [chosen[i * len(chosen) // choice.limit] for i in range(choice.limit)]


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
        """SHA-256 over all of it but the scripted next turns, which add answers and change none; reads the models' files."""
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
    measured_by: Json = None,
    overwrite: bool = False,
) -> Work:
    """Generate a study's answers into a run folder, or go on where an earlier run stopped.

    Args:
        folder: the run folder.
        asked: what determines the answers.
        claim: what is written down before the first answer; None where nothing is claimed.
        runtime: how models are run.
        watchers: told how far things are.
        measured_by: written down with the claim: what it will be measured by.
        overwrite: replace another study in the folder.

    Raises:
        InputError: the folder holds something else, or cannot be written.
        ModelError: a model cannot be used.
        BudgetSpent: the budget for tokens or money is used up; what was answered is kept in the folder.
    """
    identity = asked.hash
    old = store.read_study(folder)
    if old is None or old.get("answers_hash") != identity:
        if old is not None and not overwrite and not _empty(folder, old):
            raise InputError(
                "the folder holds another study (another model, other prompts or settings)",
                path=folder,
                remedy="choose another --out, or replace it with --overwrite",
            )
        store.clear_run(folder)
        old = None
    earlier = store.read_run(folder) if old is not None and old["finished"] else None
    with Journal(folder / "answers.journal", {"answers": identity}) as journal:
        known = [*(earlier.responses if earlier else ()), *map(response_from_json, journal.rows)]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        study: dict[str, Json] = {
            "finished": False,
            "answers_hash": identity,
            "began": now if old is None else old["began"],
            "frozen": None if claim is None else {"claim_hash": claim.hash, "measured_by": measured_by, "at": now},
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
            follow_ups=asked.follow_ups, runtime=runtime, watch=watchers.answers,
        )  # fmt: skip
    return Work(folder, study, earlier, responses)


def _empty(folder: Path, study: Mapping[str, Json]) -> bool:
    """Whether a folder was begun by us and holds no answer yet, as after a misspelt model."""
    journal = folder / "answers.journal"
    begun = study.get("finished") is False and not (folder / "responses.jsonl").exists()
    return begun and not (journal.is_file() and len(store.read_lines(journal)) > 1)


def cut_to_budgets(responses: Sequence[Response], budgets: Sequence[int]) -> list[Response]:
    """The answers, and what each would have been with every smaller budget, as arms ``ARM@BUDGET``.

    A scripted next turn is cut too where the answer that it follows is whole within the budget. Where that answer is
    cut, the smaller budget would have led to another conversation, and there is none. An answer that does not say where
    its tokens end is an error record at the budgets that would cut it.

    Raises:
        InputError: a budget is not smaller than the one of the answers, or no answer of an arm can be cut to it.
    """
    whole = [response for response in responses if "@" not in response.arm]
    first = {response.key: response for response in whole if FOLLOWS not in response.arm}
    out = list(whole)
    for budget in sorted(set(budgets)):
        if reached := [r for r in first.values() if r.decode.max_new_tokens and budget >= r.decode.max_new_tokens]:
            raise InputError(
                f"the budget {budget} is not smaller than the {reached[0].decode.max_new_tokens} tokens with which the "
                "answers were generated",
                remedy="leave it out, or generate again with a larger max_new_tokens",
            )
        cut = {key: _cut(response, budget, f"{response.arm}@{budget}") for key, response in first.items()}
        for arm in dict.fromkeys(response.arm for response in first.values()):
            made = [(first[key], answer) for key, answer in cut.items() if key[0] == arm]
            lost = any(short.error != answer.error for answer, short in made)
            if lost and not any(short.error is None and short.text != answer.text for answer, short in made):
                raise InputError(
                    f"the answers of {arm} cannot be cut to {budget} tokens: they do not say where their tokens end",
                    remedy="leave the budgets out, or generate again with a backend that says where tokens end (an "
                    "endpoint must be asked for it: --token-ends)",
                )
        out += cut.values()
        for response in whole:
            arm, mark, name = response.arm.partition(FOLLOWS)
            key = arm, response.prompt_id, response.sample
            if mark and key in first and cut[key].text == first[key].text:
                out.append(_cut(response, budget, follow_up_arm(f"{arm}@{budget}", name)))
    return out


def _cut(response: Response, budget: int, arm: str) -> Response:
    try:
        made = response.cut_to(budget, arm)
    except RecordError as error:
        made = replace(
            response, arm=arm, decode=replace(response.decode, max_new_tokens=budget), text=None, n_tokens=None,
            finish_reason=FinishReason.ERROR, finish_provenance=Provenance.RECORDED, error=f"at {budget} tokens: {error}",
        )  # fmt: skip
    return replace(made, token_chars=None)


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


@contextmanager
def judging(
    wanted: Scoring, chosen: Sequence[Chosen], runtime: Runtime, watchers: Watchers
) -> Iterator[tuple[Bench, dict[str, Json]]]:
    """What scoring works with, and what the judge did with its known-answer cards (``extras`` of the run folder).

    The judge is opened, and its cards are run, before anything else is paid for.
    """
    asking = [item.instrument for item in chosen if "judge" in item.instrument.needs]
    if wanted.judge is None or not asking:
        yield Bench(unsafe_local=wanted.unsafe_local), {}
        return
    with closing(open_judge(wanted.judge, runtime)) as judge:
        cards: dict[str, Json] = {}
        if wanted.validate_judge:
            report = validate(
                judge, asking, workers=runtime.concurrency,
                progress=lambda done, total: watchers.stage(f"the judge's known-answer cards ({total} readings)", done),
            )  # fmt: skip
            cards["cards"] = report.cards()
        yield Bench(judge, runtime.concurrency, wanted.unsafe_local), cards


def score(
    work: Work,
    prompts: Mapping[str, Prompt],
    chosen: Sequence[Chosen],
    budgets: Sequence[int],
    bench: Bench,
    watchers: Watchers,
) -> Records:
    """The answers of a run folder, cut to the budgets too, with their scores.

    Raises:
        InputError: an instrument fails its own cards, lacks the gold that it needs, or a budget cannot be cut to.
        SandboxError: programs would have to be run, and there is no sandbox.
    """
    responses = cut_to_budgets(work.responses, budgets)
    identity = {"scores": scoring.scoring_hash(responses, prompts, chosen)}
    with Journal(work.folder / "scores.journal", identity, keep_other=False) as journal:
        known = [*_still_true(work.earlier, responses, prompts), *map(score_from_json, journal.rows)]
        scores = scoring.score(responses, prompts, chosen, bench, journal, known=known, watch=watchers.scores)
    return Records(work.study, dict(prompts), responses, scores)


def _still_true(
    earlier: Records | None, responses: Sequence[Response], prompts: Mapping[str, Prompt]
) -> Iterator[Score]:
    """Scores of a finished run whose answer, scripted next turn and gold are what they were."""
    if earlier is None:
        return
    then, now = ({r.key: (r.text, r.error, r.finish_reason) for r in rows} for rows in (earlier.responses, responses))
    for made in earlier.scores:
        turn = follow_up_arm(made.arm, made.instrument.partition("@")[0]), made.prompt_id, made.sample
        same = all(then.get(key) == now.get(key) for key in (made.key, turn))
        old = earlier.prompts.get(made.prompt_id)
        if same and made.key in now and old is not None and old.gold == prompts[made.prompt_id].gold:
            yield made


def generate_run(
    folder: Path,
    asked: Answering,
    runtime: Runtime,
    watchers: Watchers,
    *,
    overwrite: bool = False,
) -> dict[str, Json]:
    """One arm's answers in a run folder of their own, without a claim; a summary of them.

    Raises:
        InputError, ModelError, BudgetSpent: as ``answer``.
    """
    with store.holding(folder):
        work = answer(folder, asked, None, runtime, watchers, overwrite=overwrite)
        prompts = {prompt.id: prompt for prompt in asked.prompts}
        made = Records({**work.study, "finished": True}, prompts, work.responses)
        if work.earlier is not None:
            _take_over(work.earlier, made)
        store.finish_run(folder, made, {})
    arms = {response.arm for response in work.responses}
    return {
        "arms": [_summary(arm, [r for r in work.responses if r.arm == arm]) for arm in sorted(arms)],
        "notes": _notes(made),
    }


def _take_over(earlier: Records, made: Records) -> None:
    """Keep of an earlier run what still holds: golds given since, answers cut to budgets, scores, a judge's cards."""
    for key, prompt in made.prompts.items():
        if not prompt.gold:
            made.prompts[key] = earlier.prompts[key]
    then, now = ({r.key: (r.text, r.error) for r in records.responses} for records in (earlier, made))
    for response in earlier.responses:
        whole = response.arm.partition("@")[0], response.prompt_id, response.sample
        if "@" in response.arm and then.get(whole) == now.get(whole):
            made.responses.append(response)
    made.scores = list(_still_true(earlier, made.responses, made.prompts))
    made.extras = earlier.extras


def _summary(arm: str, answers: Sequence[Response]) -> dict[str, Json]:
    tokens = [answer.n_tokens for answer in answers if answer.n_tokens is not None]
    return {
        "arm": arm, "n": len(answers), "cut": sum(answer.finish_reason is FinishReason.LENGTH for answer in answers),
        "failed": sum(answer.error is not None for answer in answers), "tokens": median(tokens) if tokens else None,
        "model": answers[0].model.repo, "revision": answers[0].model.revision,
    }  # fmt: skip


def score_run(
    folder: Path, wanted: Scoring, runtime: Runtime, watchers: Watchers, *, golds: str | None = None
) -> dict[str, Json]:
    """Score the answers of a finished run folder, beside what it holds already; a summary of the scores.

    Args:
        folder: the run folder.
        wanted: instruments, judge and budgets.
        runtime: how the judge is run.
        watchers: told how far things are.
        golds: file or set whose golds replace those of the run folder's prompts.

    Raises:
        InputError: it is no finished run folder, or an instrument cannot score it.
    """
    study = store.read_study(folder)
    if study is None or not study.get("finished", True):
        raise InputError(
            "this is no finished run folder",
            path=folder,
            remedy="generate the answers first; a rerun goes on from there",
        )
    with store.holding(folder):
        return _score_held(folder, wanted, runtime, watchers, golds)


def _score_held(
    folder: Path, wanted: Scoring, runtime: Runtime, watchers: Watchers, golds: str | None
) -> dict[str, Json]:
    """``score_run`` in a folder that no other process can change meanwhile."""
    earlier = store.read_run(folder)
    study = earlier.study
    chosen = scoring.choose(wanted.instruments, wanted.judge, unsafe_local=wanted.unsafe_local)
    prompts = _with_golds(earlier.prompts, golds)
    scoring.hold_gold(chosen, list(prompts.values()))
    work = Work(folder, earlier.study, earlier, [r for r in earlier.responses if "@" not in r.arm])
    with judging(wanted, chosen, runtime, watchers) as (bench, cards):
        records = score(work, prompts, chosen, wanted.budgets, bench, watchers)
    scored = {response.key for response in records.responses}
    records.responses += [response for response in earlier.responses if response.key not in scored]
    notes = [*bench.notes, *_notes(records)]
    beside = [made for made in earlier.scores if _stays_beside(made, chosen, scored)]
    true = set(_still_true(earlier, records.responses, prompts))
    kept = [made for made in beside if made in true]
    if len(kept) < len(beside):
        notes.append(
            f"{len(beside) - len(kept)} scores of other instruments rested on golds that have changed since, and were "
            "dropped: score with those again"
        )
    records.scores = [*kept, *records.scores]
    records.extras = {**earlier.extras, **cards}
    if study.get("claim") is not None:
        claim = claim_from_json(study["claim"])
        axes = {made.axis for made in earlier.scores}
        if _measures_of(earlier, claim, axes) != _measures_of(records, claim, axes):
            records.study = {
                **study,
                "status": "exploratory",
                "status_because": "what measures the claim (instruments or golds) was changed when the answers were scored again",
            }
        notes.append(f"the verdict has to be made again from these scores: counterclaim check {folder}")
    store.finish_run(folder, records, {})
    return {"scores": score_table(records), "notes": notes}


def _measures_of(records: Records, claim: Claim, axes: Iterable[str]) -> dict[str, Json]:
    """``_measured_by``, from the scores that there are on these axes."""
    instruments: dict[str, set[str]] = {axis: set() for axis in axes}
    for made in records.scores:
        if made.arm in (CONTROL, TREATED) and made.axis in instruments:
            instruments[made.axis].add(made.instrument)
    return _measured_by(claim, instruments, records.prompts.values())


def _stays_beside(made: Score, chosen: Sequence[Chosen], scored: Container[tuple[str, str, int]]) -> bool:
    """Whether a score of an earlier run stays: one axis has one instrument, and one instrument one version."""
    if made.key not in scored and made.instrument in {item.name for item in chosen}:
        return True  # of a budget that was not asked for this time
    axes = {axis for item in chosen for axis in item.axes.values()}
    names = {item.instrument.name for item in chosen}
    return made.axis not in axes and made.instrument.partition("@")[0] not in names


def _with_golds(prompts: Mapping[str, Prompt], source: str | None) -> dict[str, Prompt]:
    """The prompts with golds taken from a file or a set."""
    if source is None:
        return dict(prompts)
    given = {prompt.id: prompt for prompt in choose_prompts(PromptChoice(source, None))}
    if not set(given) & set(prompts):
        raise InputError(
            f"no prompt of {source} was answered in this run folder",
            remedy="name the prompts that were put to the model",
        )
    return {key: replace(prompt, gold=given[key].gold) if key in given else prompt for key, prompt in prompts.items()}


def score_table(records: Records) -> list[dict[str, Json]]:
    """The mean of every axis in every arm, and within every ``NAME:VALUE`` tag of the prompts, with its interval."""
    claim = Claim("accuracy", "increase", DEFAULT_MARGIN)
    tags: dict[str, set[str]] = {"": set(records.prompts)}
    for key, prompt in records.prompts.items():
        for tag in prompt.tags:
            if ":" in tag and not tag.startswith("source-id:"):
                tags.setdefault(tag, set()).add(key)
    rows = []
    for tag, keys in tags.items():
        if tag and not FEW <= len(keys) < len(records.prompts):
            continue
        evidence = Evidence(
            claim, {key: records.prompts[key] for key in keys},
            [response for response in records.responses if response.prompt_id in keys],
            [made for made in records.scores if made.prompt_id in keys],
        )  # fmt: skip
        rows += [row for arm in evidence.arms.values() for row in _axis_rows(evidence, arm, tag)]
    return rows


def _axis_rows(evidence: Evidence, arm: Arm, tag: str) -> Iterator[dict[str, Json]]:
    for axis, column in sorted(arm.columns.items()):
        labels = [axis]
        if any(isinstance(value, str) for value in column.values):
            labels = [f"{axis}={value}" for value in sorted({v for v in column.values if isinstance(v, str)})]
        unscored = sum(value is None for value in column.values)
        for name in labels:
            if unscored == len(arm):
                mean = Estimate.undefined(
                    f"nothing was scored, first because {next(iter(column.reasons.values()), '')}"
                )
            else:
                mean = evidence.arm_estimate(resolve(name, {axis}), arm)
            yield {
                "arm": arm.name, "axis": name, "tag": tag, "mean": mean.to_json(), "unscored": unscored,
                "instrument": " and ".join(sorted(column.instruments)),
            }  # fmt: skip


def judge_report(judge: str, wanted: Sequence[str], runtime: Runtime, watchers: Watchers) -> Report:
    """What a judge shows on the known-answer cards of some instruments; of all that ask a judge when none is named.

    Raises:
        InputError: an instrument does not exist, or asks no judge.
        ModelError: the judge cannot be reached.
    """
    instruments.load()
    asking = [name for name, made in registry.instruments().items() if "judge" in made.needs]
    chosen = [scoring.choose([name], judge)[0].instrument for name in wanted or asking]
    if silent_ones := [made.name for made in chosen if "judge" not in made.needs]:
        raise InputError(f"{silent_ones[0]} asks no judge", remedy=f"choose among {', '.join(asking)}")
    with closing(open_judge(judge, runtime)) as opened:
        return validate(
            opened, chosen, workers=runtime.concurrency,
            progress=lambda done, total: watchers.stage(f"known-answer cards ({total} readings)", done),
        )  # fmt: skip


@contextmanager
def serving(model: str, port: int, faults: Sequence[tuple[str, int | None]], latency_s: float) -> Iterator[Server]:
    """A model behind a local OpenAI-compatible endpoint that misbehaves on command.

    Raises:
        InputError: there is no such model or fault, or the port is taken.
    """
    kinds = get_args(FaultKind)
    for kind, _ in faults:
        if kind not in kinds or kind == "rejects":
            known = ", ".join(name for name in kinds if name != "rejects")
            raise InputError(f"there is no fault {kind!r}", remedy=f"choose among {known}")
    planned = [Fault(cast(FaultKind, kind), times=times) for kind, times in faults]
    with (
        closing(open_model(ModelSpec(model), Runtime())) as opened,
        serve(opened, port=port, model=model, faults=planned, latency_s=latency_s) as server,
    ):
        yield server


# a whole study --------------------------------------------------------------------------------------------------


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
        resolve(name, axes)
    notes: list[str] = []
    prompts = choose_prompts(plan.prompts, notes.append)
    scoring.hold_gold(chosen, prompts)
    by_axis = {axis: [item.name] for item in chosen for axis in item.axes.values()}
    measured_by = _measured_by(plan.claim, by_axis, prompts)
    turns = {item.instrument.name: item.instrument.follow_up for item in chosen}
    asked = Answering(
        plan.arms, prompts, plan.samples, plan.seeds, {name: said for name, said in turns.items() if said is not None}
    )
    runtime = replace(plan.runtime, token_ends=bool(plan.budgets))
    wanted = Scoring(plan.instruments, plan.judge, plan.validate_judge, plan.budgets, plan.unsafe_local)
    with judging(wanted, chosen, runtime, watchers) as (bench, cards):
        work = answer(
            folder, asked, plan.claim, runtime, watchers, measured_by=measured_by, overwrite=overwrite
        )  # fmt: skip
        records = score(work, {prompt.id: prompt for prompt in prompts}, chosen, plan.budgets, bench, watchers)
    records.extras = dict(cards)
    if plan.train_data is not None:
        records.extras["overlap"], records.extras["train_sample"] = scan_training(
            records, plan.train_data, watchers.stage
        )
    records.study = {
        **work.study,
        **study_json(
            plan.claim,
            _status(plan.claim, measured_by, work.study["frozen"]),
            _sources(records, work.study["began"]),
            [*notes, *bench.notes, *_notes(records)],
            records.extras,
            made_by=["generated", work.study["answers_hash"], identity_of(chosen), list(plan.budgets)],
        ),
        "finished": True,
    }
    return records


def identity_of(chosen: Sequence[Chosen]) -> Json:
    """Which instruments scored, and under which axes, as study.json spells it."""
    return [[item.name, dict(item.axes)] for item in chosen]


def _measured_by(claim: Claim, instruments: Mapping[str, Iterable[str]], prompts: Iterable[Prompt]) -> dict[str, Json]:
    """What decides how the claim comes out, given the answers: instruments of its target and guards, and the golds.

    Args:
        claim: what is claimed.
        instruments: axis to the full names of what reads it.
        prompts: with their golds.
    """
    names = (claim.metric, *(guard.metric for guard in claim.guards))
    axes = {axis for name in names for axis in resolve(name, set(instruments)).axes}
    golds = sorted((prompt.id, to_json(prompt.gold)) for prompt in prompts)
    return {
        "instruments": {axis: sorted(instruments.get(axis, ())) for axis in sorted(axes)},
        "golds": content_hash(golds),
    }


def _status(
    claim: Claim, measured_by: Json, frozen: Mapping[str, Json]
) -> tuple[Literal["confirmatory", "exploratory"], str]:
    at = frozen["at"]
    if frozen["claim_hash"] != claim.hash:
        return "exploratory", f"the claim was changed after answers had been generated (it was written down on {at})"
    if changed := [what for what in ("instruments", "golds") if frozen["measured_by"][what] != measured_by[what]]:
        return (
            "exploratory",
            f"the {' and '.join(changed)} that measure the claim were changed after answers had been generated (it was "
            f"written down on {at})",
        )
    return "confirmatory", f"the claim was written down on {at}, before the first answer, and has not changed"


def _sources(records: Records, began: str) -> list[dict[str, Json]]:
    """Where each arm's answers came from, with a hash over them."""
    by_arm: dict[str, list[Response]] = {}
    for response in records.responses:
        by_arm.setdefault(response.arm, []).append(response)
    return [
        {
            "arm": arm, "replicate": "", "no_generation": False, "path": answers[0].model.repo or "a model without a name",
            "format": GENERATED, "sha256": content_hash([arm, [to_json(answer) for answer in answers]]),
            "rows": len(answers), "created": began,
        }
        for arm, answers in by_arm.items()
    ]  # fmt: skip


def _notes(records: Records) -> list[str]:
    """What a reader of the page must know of how the records were made."""
    notes = []
    if any("sandbox=none" in made.instrument for made in records.scores):
        notes.append("Programs ran without a sandbox (--unsafe-local): resource limits alone held them.")
    failed = sum(response.error is not None for response in records.responses)
    if failed:
        first = next(response.error for response in records.responses if response.error is not None)
        notes.append(f"{failed} of {len(records.responses)} answers failed, the first with: {first}")
    return notes
