"""What operators fit for the arms of a study: what they learn from, the model's own answers among it, and the fitting."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from counterclaim.errors import InputError, ModelError
from counterclaim.folder import dump, finish_run, locked, make_folder, put_in_place, read_study, write_new
from counterclaim.lab import operators
from counterclaim.lab.answers import (
    AnsweringArm,
    AnswerRequest,
    Progress,
    RunUnderWay,
    answer,
    begin_run,
    labelled,
    score,
)
from counterclaim.lab.config import (
    ArmPlan,
    Change,
    Grpo,
    PipelinePlan,
    PromptChoice,
    SteerPlan,
    TunePlan,
    change_hash,
    load_pipeline,
)
from counterclaim.lab.models import tiny
from counterclaim.lab.models.hf.fingerprint import hash_of_files
from counterclaim.lab.operators import processes
from counterclaim.lab.prompts.select import choose_prompts
from counterclaim.lab.scorers.scoring import ChosenScorer, ScoringContext, ScoringRequest, check_gold
from counterclaim.lab.synthesis.examples import FILE, examples_hash, load_examples
from counterclaim.lab.synthesis.teach import preview, teach
from counterclaim.records import CONTROL, Decode, Example, Json, Prompt, content_hash, to_json
from counterclaim.registry import (
    Applied,
    Fitting,
    Labelled,
    ModelSpec,
    Operator,
    Runtime,
    backend_of,
    operator_named,
    reward_named,
)
from counterclaim.text import split_think

CARD = "card.json"
NO_SCORERS = ScoringRequest()
VERSION = 1
"""Changes whenever the same recipe and seed would make another fit, so that an older one is not taken for it."""


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """What an operator learns from.

    Attributes:
        examples: for training that imitates.
        prompts: for training that learns from outcomes, and for operators that read the model's own answers.
        samples: answers of the model itself to each prompt; 0 where its own answers are not read.
        scored_by: scorers that score them.
    """

    examples: Sequence[Example] = ()
    prompts: Sequence[Prompt] = ()
    samples: int = 0
    scored_by: Sequence[ChosenScorer] = ()

    @property
    def hash(self) -> str:
        """SHA-256 over the training set."""
        golds: list[Json] = [[prompt.id, to_json(prompt.gold)] for prompt in self.prompts]
        own: list[Json] = (
            [self.samples, [[item.name, dict(item.axes)] for item in self.scored_by]] if self.samples else []
        )
        return content_hash([examples_hash(list(self.examples)), golds, *own])

    @property
    def questions(self) -> list[str]:
        """What is asked in every example, and every prompt that is answered while training."""
        questions = ["\n\n".join(turn.content for turn in item.prompt) for item in self.examples]
        return questions + [prompt.text for prompt in self.prompts]

    @property
    def texts(self) -> list[str]:
        """Everything in the training set, for the search for test prompts among it.

        Each example whole, with both sides of a pair, and each question by itself: beside a long answer an edited copy of
        a short test prompt would not be seen.
        """
        texts = [
            "\n\n".join([*(turn.content for turn in item.prompt), item.chosen, item.rejected or ""]).strip()
            for item in self.examples
        ]
        return texts + list(dict.fromkeys(self.questions))

    @property
    def words(self) -> list[float]:
        """Median words of the thought and of the answer that are to be imitated; empty where nothing is."""
        if not self.examples:
            return []
        split = [split_think(item.chosen) for item in self.examples]
        return [float(np.median([len(parts[at].split()) for parts in split])) for at in (0, 1)]


def check_fits(arms: Sequence[ArmPlan], tested: Sequence[Prompt] = (), scoring: ScoringRequest = NO_SCORERS) -> None:
    """Refuse, before teachers are asked and a model is loaded, what cannot be fitted or may not be trained on.

    Args:
        arms: of the study.
        tested: what the claim is tested on.
        scoring: how the model's own answers are scored.

    Raises:
        InputError: the rows of a step cannot be dealt out, answers to the prompts cannot be paid for or scored, a prompt is one
            of the test, or there is no operator of that name.
        ModelError: the backend of a model does not do what the operator needs.
    """
    barred = {prompt.id for prompt in tested}
    for arm in arms:
        if arm.change is None:
            continue
        _check_backend(arm, operator_named(arm.change.operator))
        if isinstance(arm.change, TunePlan):
            operators.builtin.check_batches(arm.change)
            for stage in arm.change.stages:
                if isinstance(stage, Grpo) and stage.prompts is not None:
                    prompts = _learnable(stage.prompts, "tune.grpo.prompts", barred)
                    operators.rewards.check_payable(reward_named(stage.reward), stage.oracle, prompts)
        elif arm.change.prompts is not None:
            prompts = _learnable(arm.change.prompts, f"{arm.change.operator}.prompts", barred)
            check_gold(scoring.choose(arm.change.scorers), prompts)


def _learnable(choice: PromptChoice, where: str, barred: set[str]) -> list[Prompt]:
    """The prompts of a choice, none of which is of another split than was asked for or among those of the test."""
    prompts = choose_prompts(choice)
    if other := next((prompt for prompt in prompts if prompt.split != choice.split), None):
        raise InputError(
            f"{where}: {choice.source} holds prompts of the split {other.split}, and {choice.split} is for training",
            remedy="name a source that has this split",
        )
    if leaked := sum(prompt.id in barred for prompt in prompts):
        raise InputError(
            f"{where}: {leaked} of the {len(prompts)} training prompts are also those on which the claim is tested",
            remedy="name another split or other tags, here or under [prompts]",
        )
    return prompts


def training_sets(
    arms: Sequence[ArmPlan],
    progress: Progress,
    tested: PromptChoice | None = None,
    scoring: ScoringRequest = NO_SCORERS,
) -> dict[str, TrainingSet]:
    """What the operator of every arm learns from, by the arm's name. Teachers are asked where that is still to do.

    Args:
        arms: of the study.
        progress: is called with how far things are.
        tested: what the claim is tested on, which no teacher may be asked.
        scoring: how the model's own answers are scored.

    Raises:
        InputError: a training set or prompts cannot be used.
        ModelError: a teacher or the student cannot be used.
        BudgetSpent: the budget of the pipeline is used up; a rerun goes on from there.
    """
    made: dict[str, TrainingSet] = {}
    known: dict[tuple[ModelSpec, str], TrainingSet] = {}  # by the model, too: it is the student of a pipeline
    for arm in arms:
        if arm.change is None:
            continue
        source = replace(arm.model, dose=1.0), repr(replace(arm.change, seeds=arm.change.seeds[:1]))
        if source not in known:
            known[source] = _training_set(arm, progress, tested, scoring)
        _check_training(arm.change, known[source])
        made[arm.name] = known[source]
    return made


def _check_training(change: Change, found: TrainingSet) -> None:
    if isinstance(change, TunePlan):
        operators.builtin.check_training_set(change, found.examples, found.prompts)
    elif change.prompts is not None and not found.prompts:
        raise InputError(
            f"{change.operator}.prompts: no prompt is left to learn from", remedy="name other tags or another source"
        )


def _training_set(
    arm: ArmPlan, progress: Progress, tested: PromptChoice | None, scoring: ScoringRequest
) -> TrainingSet:
    plan = arm.change
    assert plan is not None
    if not isinstance(plan, TunePlan):
        if plan.prompts is None:
            return TrainingSet()
        chosen = scoring.choose(plan.scorers)
        return TrainingSet((), choose_prompts(plan.prompts), plan.samples, chosen)
    prompts = _prompts(plan)
    if plan.data is None:
        return TrainingSet(prompts=prompts)
    source = plan.data
    if (pipeline := _pipeline_of(arm, tested)) is not None:
        if processes.is_first():
            if not (pipeline.out / FILE).is_file():
                operators.builtin.check_installed()  # before teachers are paid
            teach(
                pipeline,
                pipeline.out,
                lambda doing, done, total: progress.part(f"teaching: {doing}", done, total),
                wait=True,  # studies share a set, which whoever comes first makes
            )
        source = pipeline.out
    return TrainingSet(load_examples(source), prompts)


def _prompts(plan: TunePlan) -> list[Prompt]:
    """What is answered while training, over all stages."""
    return [
        prompt
        for stage in plan.stages
        if isinstance(stage, Grpo) and stage.prompts is not None
        for prompt in choose_prompts(stage.prompts)
    ]


def _pipeline_of(arm: ArmPlan, tested: PromptChoice | None) -> PipelinePlan | None:
    """The pipeline that teaches an arm; None where it learns from a finished set.

    Its student is the arm's own model, and what the claim is tested on may not occur in it.
    """
    if not isinstance(arm.change, TunePlan) or arm.change.data is None or arm.change.data.suffix != ".toml":
        return None
    plan = load_pipeline(arm.change.data)
    if tested is not None:
        plan = replace(plan, forbidden=(*plan.forbidden, tested))
    if plan.student is None or plan.student.name == arm.model.name:
        return plan
    own = re.sub(r"[^A-Za-z0-9.]+", "-", arm.model.name).strip("-")
    return replace(plan, student=replace(arm.model, dose=1.0), out=plan.out.with_name(f"{plan.out.name}-{own}"))


def outline_fits(
    arm: ArmPlan, tested: PromptChoice | None = None, scoring: ScoringRequest = NO_SCORERS
) -> dict[str, Json]:
    """What fitting an arm's operator would take.

    Raises:
        InputError: the pipeline or a training set cannot be used.
    """
    plan = arm.change
    if plan is None:
        return {"fits": 0}
    outline: dict[str, Json] = {"fits": len(plan.seeds)}
    if isinstance(plan, TunePlan) and (pipeline := _pipeline_of(arm, tested)) is not None:
        outline["pipeline"] = preview(pipeline)
        found = TrainingSet(prompts=_prompts(plan))
    else:
        found = _training_set(arm, Progress(), None, scoring)
        _check_training(plan, found)
    counts = {
        "training_prompts": len(found.prompts), "examples": len(found.examples),
        "own_answers": found.samples * len(found.prompts),
    }  # fmt: skip
    return {**outline, **{what: count for what, count in counts.items() if count}}


def own_answers(
    model: ModelSpec,
    decode: Decode,
    prompts: Sequence[Prompt],
    samples: int,
    chosen: Sequence[ChosenScorer],
    folder: Path,
    runtime: Runtime,
    progress: Progress,
    context: ScoringContext,
) -> list[Labelled]:
    """A model's own answers, scored, in a run folder under ``own/`` of the study's; those that are there already are taken.

    ``counterclaim capture`` and ``attribute`` can be put to these folders.

    Args:
        model: who answers.
        decode: how it is sampled.
        prompts: what is asked.
        samples: answers per prompt.
        chosen: what scores them.
        folder: the run folder of the study.
        runtime: how models are run.
        progress: is called with how far things are.
        context: what scoring works with.

    Raises:
        InputError, ModelError, BudgetSpent: as in a study.
    """
    request = AnswerRequest((ArmPlan(CONTROL.name, model, decode),), prompts, samples)
    own = folder / "own" / request.hash.removeprefix("sha256:")[:12]
    axes: Json = [[item.name, dict(item.axes)] for item in chosen]  # which a score that is kept is filed under
    with locked(own):
        old = read_study(own) or {}
        run = begin_run(own, request, overwrite=True)
        run.study["axes"] = axes
        answer(run, [AnsweringArm(CONTROL, model, decode)], request, runtime, progress)
        records = score(run, chosen, (), context, progress, keep_earlier=old.get("axes") == axes)
        records.study = {**run.study, "finished": True}
        finish_run(own, records, {})
    return labelled(records)


@dataclass(frozen=True, slots=True)
class _Job:
    """One fit: of which arm, with which seed, where, what determines it, and the hash of its training set."""

    arm: ArmPlan
    seed: int
    folder: Path
    identity: str
    data_hash: str

    @property
    def change(self) -> Change:
        """What is fitted."""
        assert self.arm.change is not None
        return self.arm.change

    @property
    def is_done(self) -> bool:
        """Whether the fit is there, and is the one that was made: files that were lost or changed are made anew."""
        try:
            card = json.loads((self.folder / CARD).read_text(encoding="utf-8"))
            return bool(card["identity"] == self.identity and card["files"] == _files_hash(self.folder))
        except (OSError, ValueError, LookupError, TypeError):
            return False


def _files_hash(folder: Path) -> str:
    """Hash of what a fit consists of."""
    return hash_of_files(
        file for file in folder.iterdir() if file.suffix in (".safetensors", ".json") and file.name != CARD
    )


def _jobs(arms: Sequence[ArmPlan], training: Mapping[str, TrainingSet], folder: Path) -> dict[tuple[str, int], _Job]:
    """Arm and seed to the job of its fit; arms that differ only in the dose share theirs."""
    by_identity: dict[str, _Job] = {}
    out = {}
    for arm in arms:
        if arm.change is None:
            continue
        data = training[arm.name].hash
        recipe = change_hash(arm, data)
        for seed in arm.change.seeds:
            identity = content_hash([arm.change.operator, VERSION, recipe, seed, _weights_of(arm.model.name)])
            name = f"{arm.name.replace(':', '-')}-seed{seed}"
            under = "adapters" if isinstance(arm.change, TunePlan) else "fits"
            job = _Job(arm, seed, folder / under / name, identity, data)
            out[arm.name, seed] = by_identity.setdefault(identity, job)
    return out


def _weights_of(model: str) -> str | None:
    """What tells the weights under a name apart that always is the same: a tiny model is trained anew with new libraries."""
    return tiny.folder_of(model.removeprefix(tiny.SCHEME)).name if model.startswith(tiny.SCHEME) else None


@dataclass(frozen=True, slots=True)
class FitCards:
    """What was fitted, as the page shows it.

    Attributes:
        training: the training of each adapter.
        edits: what each other operator fitted, with its card.
    """

    training: list[Json] = field(default_factory=list)
    edits: list[Json] = field(default_factory=list)


def fit_arms(
    arms: Sequence[ArmPlan],
    training: Mapping[str, TrainingSet],
    run: RunUnderWay,
    samples: int,
    runtime: Runtime,
    progress: Progress,
    scoring: ScoringContext,
    *,
    has_every_answer: bool = False,
) -> tuple[list[AnsweringArm], FitCards]:
    """Train and fit everything that is not there yet: one answering arm per fit, and what was fitted.

    Args:
        arms: of the study.
        training: what ``training_sets`` found.
        run: the run; adapters lie under ``adapters/`` of its folder, other fits under ``fits/``, and the model's own answers under
            ``own/``.
        samples: answers per prompt and arm of one fit, by which those of the next are shifted.
        runtime: how models are run.
        progress: is called with how far things are.
        scoring: what the model's own answers are scored with.
        has_every_answer: whether an earlier run has every answer already, so that no fit is needed any more.

    Raises:
        ModelError: a model cannot be changed, memory is too small, or a loss is no number.
        InputError: there is nothing to learn from, or the disk is full.
    """
    jobs = _jobs(arms, training, run.folder)
    missing = {job.identity: job for job in jobs.values() if not has_every_answer and not job.is_done}
    adapters = [job for job in missing.values() if isinstance(job.change, TunePlan)]
    if any(isinstance(job.change, TunePlan) for job in jobs.values()):
        with processes.losses_reported():
            processes.meet(runtime.device)
            processes.agree(lambda: [job.identity for job in adapters])
            for job in adapters:
                _fit(job, training[job.arm.name], (), runtime, progress)
            processes.part()
    for job in missing.values():
        if not isinstance(job.change, TunePlan):
            data = training[job.arm.name]
            own = _own_answers(job.arm, data, run.folder, runtime, progress, scoring) if data.samples else ()
            _fit(job, data, own, runtime, progress)
    out: list[AnsweringArm] = []
    for arm in arms:
        if arm.change is None:
            out.append(AnsweringArm(arm.id, arm.model, arm.decode))
            continue
        for number, seed in enumerate(arm.change.seeds):
            folder = jobs[arm.name, seed].folder
            model = (
                replace(arm.model, adapter=folder) if isinstance(arm.change, TunePlan)
                else replace(arm.model, applied=Applied(arm.change.operator, folder, arm.dose))
            )  # fmt: skip
            out.append(AnsweringArm(arm.id, model, arm.decode, seed, number * samples))
    if has_every_answer and run.earlier is not None:
        return out, FitCards(run.earlier.extras.get("training", []), run.earlier.extras.get("edits", []))
    cards = FitCards()
    for job in {job.identity: job for job in jobs.values()}.values():
        (cards.training if isinstance(job.change, TunePlan) else cards.edits).append(_entry(job))
    return out, cards


def _own_answers(
    arm: ArmPlan, data: TrainingSet, folder: Path, runtime: Runtime, progress: Progress, scoring: ScoringContext
) -> list[Labelled]:
    """The answers of an arm's model to what its operator learns from; under both system prompts where two are contrasted."""
    decodes: dict[str, Decode] = {"": arm.decode}
    if isinstance(arm.change, SteerPlan) and arm.change.contrast is not None:
        toward, away = (replace(arm.decode, system_prompt=prompt or None) for prompt in arm.change.contrast)
        decodes = {"toward": toward, "away": away}
    out = []
    for side, decode in decodes.items():
        own = own_answers(
            arm.model, decode, data.prompts, data.samples, data.scored_by, folder, runtime, progress, scoring
        )
        label = {"label.system_prompt": side} if side else {}
        out += [replace(each, values={**each.values, **label}) for each in own]
    return out


def _fit(job: _Job, training: TrainingSet, own: Sequence[Labelled], runtime: Runtime, progress: Progress) -> None:
    """Make one fit in a folder beside its place, which it takes when it is whole."""
    plan = job.change
    is_training = isinstance(plan, TunePlan)
    what = f"{'training' if is_training else 'fitting'} {job.arm.name}, seed {job.seed}"
    work = job.folder.with_name(f".{job.folder.name}-{job.identity[:12]}")
    fitting = Fitting(
        replace(job.arm.model, dose=1.0) if is_training else job.arm.model, plan, job.seed, training.examples,
        training.prompts, own, job.arm.placebo, runtime,
        lambda doing, done, total: progress.part(f"{what}: {doing}", done, total), job.arm.decode.thinking,
    )  # fmt: skip
    make_folder(work)
    card = dict(operator_named(plan.operator).fit(fitting, work))
    if not processes.is_first():
        return
    source = None if not isinstance(plan, TunePlan) or plan.data is None else str(plan.data.name)
    card |= {
        "identity": job.identity, "files": _files_hash(work), "arm": job.arm.name, "data": source,
        "data_hash": job.data_hash, "n_examples": len(training.examples) or len(training.prompts),
    }  # fmt: skip
    write_new(work / CARD, dump(card), overwrite=True)
    put_in_place(work, job.folder)


def _check_backend(arm: ArmPlan, operator: Operator) -> None:
    backend = backend_of(arm.model.name)
    if missing := sorted(operator.needs - backend.can):
        raise ModelError(
            f"{operator.name} cannot change {arm.model.name}: its backend ({backend.name}) does not offer {' and '.join(missing)}",
            remedy="name a model of transformers: a repository, a folder, or tiny:NAME",
        )


def _entry(job: _Job) -> dict[str, Json]:
    """One fit, as the page shows it."""
    card: dict[str, Json] = json.loads((job.folder / CARD).read_text(encoding="utf-8"))
    entry: dict[str, Json] = {"arm": job.arm.name, "replicate": str(job.seed) if len(job.change.seeds) > 1 else ""}
    if not isinstance(job.change, TunePlan):
        where = ("identity", "files", "arm", "data", "data_hash")
        entry |= {"operator": job.change.operator, "seed": job.seed, "folder": f"fits/{job.folder.name}"}
        return {**entry, "card": {key: value for key, value in card.items() if key not in where}}
    kept = ("seed", "operator", "recipe", "placebo", "data_hash", "n_examples", "model", "adapter_hash", "seconds",
            "parameters", "stages", "notes")  # fmt: skip
    return {**entry, "adapter": f"adapters/{job.folder.name}", **{name: card.get(name) for name in kept}}


# several processes, under accelerate launch or torchrun ------------------------------------------------------------


def train_along(arms: Sequence[ArmPlan], folder: Path, runtime: Runtime, progress: Progress) -> None:
    """Train along in a process that is not the first: the adapters that the first trains, in its order, and nothing else.

    Raises:
        InputError, ModelError: as ``fit_arms``; or this process does not find what the first one found.
    """
    arms = [arm for arm in arms if isinstance(arm.change, TunePlan)]
    if not arms:
        return
    with processes.losses_reported():
        processes.meet(runtime.device)
        wanted: list[str] = processes.agree(list)
        training = training_sets(arms, progress)  # only now: the first process may have had to ask teachers
        jobs = {job.identity: job for job in _jobs(arms, training, folder).values()}
        if set(wanted) - set(jobs):
            raise ModelError(
                "this process reads other training data or another model than the first one",
                remedy="give all machines one shared folder with the study, its data and its models",
            )
        for job in (jobs[identity] for identity in wanted):
            _fit(job, training[job.arm.name], (), runtime, progress)
        processes.part()
