"""Adapters of the arms that are trained: what they learn from, whether they are there already, and their training."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from counterclaim import examples, operators, registry, store, teach
from counterclaim.asking import choose_prompts
from counterclaim.errors import InputError, ModelError
from counterclaim.experiment.watching import Watchers
from counterclaim.models import tiny
from counterclaim.models.hf.fingerprint import adapter_hash
from counterclaim.operators import processes
from counterclaim.records import Example, Json, Prompt, content_hash, to_json
from counterclaim.registry import Fitting, ModelSpec, Runtime
from counterclaim.spec import ArmPlan, Grpo, PipelinePlan, PromptChoice, TunePlan, load_pipeline, training_hash
from counterclaim.text import split_think

CARD = "card.json"
VERSION = 1
"""Changes whenever the same recipe and seed would make another adapter, so that an older one is not taken for it."""
OPERATOR = operators.tune.tune


@dataclass(frozen=True, slots=True)
class Lessons:
    """What an arm is trained on.

    Attributes:
        examples: for stages that imitate.
        prompts: for stages that learn from outcomes.
    """

    examples: Sequence[Example] = ()
    prompts: Sequence[Prompt] = ()

    @property
    def hash(self) -> str:
        """SHA-256 over what is learnt."""
        golds: list[Json] = [[prompt.id, to_json(prompt.gold)] for prompt in self.prompts]
        return content_hash([examples.hash_of(list(self.examples)), golds])

    @property
    def questions(self) -> list[str]:
        """What is asked in every example, and every prompt that is answered while training."""
        asked = ["\n\n".join(turn.content for turn in item.prompt) for item in self.examples]
        return asked + [prompt.text for prompt in self.prompts]

    @property
    def texts(self) -> list[str]:
        """Everything that is learnt from, for the search for test prompts among it.

        Each example whole, with both sides of a pair, and each question by itself: beside a long answer an edited copy of
        a short test prompt would not be seen.
        """
        told = [
            "\n\n".join([*(turn.content for turn in item.prompt), item.chosen, item.rejected or ""]).strip()
            for item in self.examples
        ]
        return told + list(dict.fromkeys(self.questions))

    @property
    def words(self) -> list[float]:
        """Median words of the thought and of the answer that are to be imitated; empty where nothing is."""
        if not self.examples:
            return []
        said = [split_think(item.chosen) for item in self.examples]
        return [float(np.median([len(parts[at].split()) for parts in said])) for at in (0, 1)]


def hold(arms: Sequence[ArmPlan], tested: Sequence[Prompt] = ()) -> None:
    """Refuse, before teachers are asked and a model is loaded, what cannot be trained or may not be learnt.

    Args:
        arms: of the study.
        tested: what the claim is tested on.

    Raises:
        InputError: the rows of a step cannot be dealt out, answers to the prompts cannot be paid for, or a prompt is one of
            the test.
        ModelError: the backend of a model does not train.
    """
    barred = {prompt.id for prompt in tested}
    for arm in arms:
        if arm.tune is None:
            continue
        operators.tune.hold_batches(arm.tune)
        _hold_backend(arm, OPERATOR)
        for stage in arm.tune.stages:
            if isinstance(stage, Grpo) and stage.prompts is not None:
                prompts = choose_prompts(stage.prompts)
                if other := next((prompt for prompt in prompts if prompt.split != stage.prompts.split), None):
                    raise InputError(
                        f"tune.grpo.prompts: {stage.prompts.source} holds prompts of the split {other.split}, and "
                        f"{stage.prompts.split} is to be learnt",
                        remedy="name a source that has this split",
                    )
                if leaked := sum(prompt.id in barred for prompt in prompts):
                    raise InputError(
                        f"tune.grpo.prompts: {leaked} of the {len(prompts)} prompts that are learnt are also those on which "
                        "the claim is tested",
                        remedy="name another split or other tags, here or under [prompts]",
                    )
                operators.rewards.hold_payable(registry.reward_named(stage.reward), stage.oracle, prompts)


def gather(
    arms: Sequence[ArmPlan], watchers: Watchers, tested: PromptChoice | None = None
) -> tuple[tuple[ArmPlan, ...], dict[str, Lessons]]:
    """What every arm that is trained learns from; the arms with the hash of it. Teachers are asked where that is still to do.

    Args:
        arms: of the study.
        watchers: told how far things are.
        tested: what the claim is tested on, which no teacher may be asked.

    Raises:
        InputError: a training set or prompts cannot be used.
        ModelError: a teacher or the student cannot be used.
        BudgetSpent: the budget of the pipeline is used up; a rerun goes on from there.
    """
    made: dict[str, Lessons] = {}
    known: dict[tuple[ModelSpec, TunePlan], Lessons] = {}  # by the model, too: it is the student of a pipeline
    out = []
    for arm in arms:
        if arm.tune is None:
            out.append(arm)
            continue
        source = replace(arm.model, dose=1.0), replace(arm.tune, placebo=False, seeds=())
        if source not in known:
            known[source] = _lessons(arm, watchers, tested)
        operators.tune.hold_lessons(arm.tune, known[source].examples, known[source].prompts)
        made[arm.name] = known[source]
        out.append(replace(arm, lessons=known[source].hash))
    return tuple(out), made


def _lessons(arm: ArmPlan, watchers: Watchers, tested: PromptChoice | None = None) -> Lessons:
    plan = arm.tune
    assert plan is not None
    prompts = _prompts(plan)
    if plan.data is None:
        return Lessons(prompts=prompts)
    source = plan.data
    if (pipeline := _pipeline_of(arm, tested)) is not None:
        if processes.is_first():
            if not (pipeline.out / examples.FILE).is_file():
                operators.tune.hold_installed()  # before teachers are paid
            teach.teach(
                pipeline, pipeline.out, lambda doing, done, total: watchers.part(f"teaching: {doing}", done, total)
            )
        source = pipeline.out
    return Lessons(examples.load(source), prompts)


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
    if arm.tune is None or arm.tune.data is None or arm.tune.data.suffix != ".toml":
        return None
    plan = load_pipeline(arm.tune.data)
    if tested is not None:
        plan = replace(plan, forbidden=(*plan.forbidden, tested))
    if plan.student is None or plan.student.name == arm.model.name:
        return plan
    own = re.sub(r"[^A-Za-z0-9.]+", "-", arm.model.name).strip("-")
    return replace(plan, student=replace(arm.model, dose=1.0), out=plan.out.with_name(f"{plan.out.name}-{own}"))


def outline_training(arm: ArmPlan, tested: PromptChoice | None = None) -> dict[str, Json]:
    """What training an arm would take.

    Raises:
        InputError: the pipeline or a training set cannot be used.
    """
    plan = arm.tune
    if plan is None:
        return {"adapters": 0}
    told: dict[str, Json] = {"adapters": len(plan.seeds)}
    if (pipeline := _pipeline_of(arm, tested)) is not None:
        told["pipeline"] = teach.preview(pipeline)
        found = Lessons(prompts=_prompts(plan))
    else:
        found = _lessons(arm, Watchers())
        operators.tune.hold_lessons(plan, found.examples, found.prompts)
    counts = {"training_prompts": len(found.prompts), "examples": len(found.examples)}
    return {**told, **{what: count for what, count in counts.items() if count}}


@dataclass(frozen=True, slots=True)
class _Job:
    """One adapter: of which arm, with which seed, where, and what determines it."""

    arm: ArmPlan
    seed: int
    folder: Path
    identity: str

    @property
    def is_done(self) -> bool:
        """Whether the adapter is there, and is the one that was trained: weights that were lost or changed are made anew."""
        try:
            card = json.loads((self.folder / CARD).read_text(encoding="utf-8"))
            return bool(card["identity"] == self.identity and card["adapter_hash"] == adapter_hash(self.folder))
        except (OSError, ValueError, LookupError, TypeError):
            return False


def _jobs(arms: Sequence[ArmPlan], folder: Path) -> dict[tuple[str, int], _Job]:
    """Arm and seed to the adapter's job; arms that differ only in the dose share theirs."""
    by_identity: dict[str, _Job] = {}
    out = {}
    for arm in arms:
        if arm.tune is None:
            continue
        recipe = training_hash(arm)
        for seed in arm.tune.seeds:
            identity = content_hash([OPERATOR.name, VERSION, recipe, seed, _weights_of(arm.model.name)])
            name = f"{arm.name.replace(':', '-')}-seed{seed}"
            job = _Job(arm, seed, folder / "adapters" / name, identity)
            out[arm.name, seed] = by_identity.setdefault(identity, job)
    return out


def _weights_of(model: str) -> str | None:
    """What tells the weights under a name apart that always is the same: a tiny model is trained anew with new libraries."""
    return tiny.folder_of(model.removeprefix(tiny.SCHEME)).name if model.startswith(tiny.SCHEME) else None


def train(
    arms: Sequence[ArmPlan],
    lessons: Mapping[str, Lessons],
    folder: Path,
    samples: int,
    runtime: Runtime,
    watchers: Watchers,
    finished: list[Json] | None = None,
) -> tuple[list[ArmPlan], list[Json]]:
    """Train every adapter that is not there yet, and put one arm per adapter in the place of those that are trained.

    Args:
        arms: of the study.
        lessons: what ``gather`` found.
        folder: the run folder; adapters lie under ``adapters/``.
        samples: answers per prompt and arm of one adapter, by which those of the next are shifted.
        runtime: how models are run.
        watchers: told how far things are.
        finished: the trainings of a run that has every answer already, so that no adapter is needed any more; else None.

    Returns:
        arms that can answer, and the training of each adapter for the page.

    Raises:
        ModelError: a model cannot be trained, memory is too small, or a loss is no number.
        InputError: there is nothing to learn from, or the disk is full.
    """
    jobs = _jobs(arms, folder)
    if jobs:
        wanted = {job.identity: job for job in jobs.values() if finished is None and not job.is_done}
        with processes.losses_told():
            processes.meet(runtime.device)
            processes.agree(lambda: list(wanted))
            for job in wanted.values():
                _fit(job, lessons[job.arm.name], runtime, watchers)
            processes.part()
    out: list[ArmPlan] = []
    told: dict[str, Json] = {}
    for arm in arms:
        if arm.tune is None:
            out.append(arm)
            continue
        for number, seed in enumerate(arm.tune.seeds):
            job = jobs[arm.name, seed]
            many = len(arm.tune.seeds) > 1
            adapted = replace(arm.model, adapter=job.folder)
            out.append(
                replace(
                    arm, model=adapted, tune=None, replicate=str(seed) if many else "", first_sample=number * samples
                )
            )
            if finished is None and job.identity not in told:
                told[job.identity] = _entry(job, many)
    return out, list(told.values()) if finished is None else finished


def _fit(job: _Job, lessons: Lessons, runtime: Runtime, watchers: Watchers) -> None:
    """Train one adapter in a folder beside its place, which it takes when it is whole."""
    plan = job.arm.tune
    assert plan is not None
    what = f"training {job.arm.name}, seed {job.seed}"
    work = job.folder.with_name(f".{job.folder.name}-{job.identity[:12]}")
    fitting = Fitting(
        replace(job.arm.model, dose=1.0), plan, job.seed, lessons.examples, lessons.prompts, placebo=plan.placebo,
        runtime=runtime, watch=lambda doing, done, total: watchers.part(f"{what}: {doing}", done, total),
        thinking=job.arm.decode.thinking,
    )  # fmt: skip
    store.make_folder(work)
    card = dict(OPERATOR.fit(fitting, work))
    if not processes.is_first():
        return
    card |= {
        "identity": job.identity, "arm": job.arm.name, "data": None if plan.data is None else str(plan.data.name),
        "data_hash": job.arm.lessons, "n_examples": len(lessons.examples) or len(lessons.prompts),
    }  # fmt: skip
    store.write_new(work / CARD, store.dump(card), overwrite=True)
    store.put_in_place(work, job.folder)


def _hold_backend(arm: ArmPlan, operator: registry.Operator) -> None:
    backend = registry.backend_of(arm.model.name)
    if missing := sorted(operator.needs - backend.can):
        raise ModelError(
            f"{arm.model.name} cannot be trained: its backend ({backend.name}) does not {' or '.join(missing)}",
            remedy="name a model of transformers: a repository, a folder, or tiny:NAME",
        )


def _entry(job: _Job, many: bool) -> dict[str, Json]:
    """One adapter's training, as the page shows it."""
    card: dict[str, Json] = json.loads((job.folder / CARD).read_text(encoding="utf-8"))
    kept = ("seed", "operator", "recipe", "placebo", "data_hash", "n_examples", "model", "adapter_hash", "seconds",
            "parameters", "stages", "notes")  # fmt: skip
    return {
        "arm": job.arm.name, "replicate": str(job.seed) if many else "", "adapter": f"adapters/{job.folder.name}",
        **{name: card.get(name) for name in kept},
    }  # fmt: skip


# --- several processes, under accelerate launch or torchrun


def follow(arms: Sequence[ArmPlan], folder: Path, runtime: Runtime, watchers: Watchers) -> None:
    """Train along in a process that is not the first: the adapters that the first trains, in its order, and nothing else.

    Raises:
        InputError, ModelError: as ``train``; or this process does not find what the first one found.
    """
    if all(arm.tune is None for arm in arms):
        return
    with processes.losses_told():
        processes.meet(runtime.device)
        wanted: list[str] = processes.agree(list)
        arms, lessons = gather(arms, watchers)  # only now: the first process may have had to ask teachers
        jobs = {job.identity: job for job in _jobs(arms, folder).values()}
        if set(wanted) - set(jobs):
            raise ModelError(
                "this process reads other training data or another model than the first one",
                remedy="give all machines one shared folder with the study, its data and its models",
            )
        for job in (jobs[identity] for identity in wanted):
            _fit(job, lessons[job.arm.name], runtime, watchers)
        processes.part()
