"""Answers of every arm to every prompt in a run folder, resumable at any moment; smaller budgets cut from them; their scores.

Every answer goes to a journal as soon as its batch is done, and every score as soon as it is read. A rerun asks only for what
is missing, in the batches of the first run, so that a run that was killed ends with the records of one that was not.
Studies, a model's own answers (``own/``) and files of other harnesses go through one interface: ``begin_run`` or a finished
folder gives a ``RunUnderWay``, ``answer`` and ``score`` fill it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from counterclaim.audit.intake import OnStage, silent
from counterclaim.errors import InputError, ModelError, RecordError, RegistryError
from counterclaim.folder import Journal, Records, clear_run, read_lines, read_run, read_study
from counterclaim.folder import begin_run as begin_folder
from counterclaim.lab.config import ArmPlan, arms_hash, change_json, model_json
from counterclaim.lab.models import open_model, tiny
from counterclaim.lab.scorers import scoring
from counterclaim.lab.scorers.scoring import ChosenScorer, ScoreProgress, ScoringContext
from counterclaim.records import (
    CONTROL,
    AnswerKey,
    ArmId,
    Claim,
    Decode,
    FinishReason,
    Json,
    Message,
    ModelRef,
    Prompt,
    Provenance,
    Response,
    response_from_json,
    score_from_json,
    to_json,
)
from counterclaim.registry import Applied, Ask, Labelled, Model, ModelSpec, Runtime, operator_named

ENOUGH_TO_WARN = 20
MANY_CUT = 0.1

OpenModel = Callable[[ModelSpec, Runtime], Model]


@dataclass(slots=True)
class AnswerProgress:
    """How far generation is; one object, kept up to date.

    Attributes:
        arm: the arm at work.
        arm_done: its answers so far, without those that failed.
        arm_cut: those of them that the budget cut.
        done: answers so far, over all arms, kept ones included.
        total: answers that are wanted.
        kept: answers that an earlier run had made.
        tokens: tokens generated in this run.
        errors: answers so far that failed.
        seconds: time since the start of this run.
    """

    arm: str = ""
    arm_done: int = 0
    arm_cut: int = 0
    done: int = 0
    total: int = 0
    kept: int = 0
    tokens: int = 0
    errors: int = 0
    seconds: float = 0.0

    @property
    def cut_share(self) -> float:
        """Share of the answers of the arm at work that the budget cut."""
        return self.arm_cut / self.arm_done if self.arm_done else 0.0

    @property
    def many_cut(self) -> bool:
        """Whether enough answers of the arm at work are in to say that the budget is too small for it."""
        return self.arm_done >= ENOUGH_TO_WARN and self.cut_share > MANY_CUT

    def begin(self, arm: str) -> None:
        """Turn to another arm."""
        self.arm, self.arm_done, self.arm_cut = arm, 0, 0

    def add(self, response: Response) -> None:
        """Count one answer of the arm at work."""
        self.done += 1
        self.errors += response.error is not None
        self.arm_done += response.error is None
        self.arm_cut += response.finish_reason is FinishReason.LENGTH


@dataclass(frozen=True, slots=True)
class Progress:
    """Callbacks that show how far things are.

    Attributes:
        stage: what is being done.
        part: what is being done, how much of it is done, how much there is.
        answers: after every batch of answers, and as tokens are made.
        scores: as scores come in.
    """

    stage: OnStage = silent
    part: Callable[[str, int, int], None] = field(default=lambda name, done, total: None)
    answers: Callable[[AnswerProgress], None] = field(default=lambda progress: None)
    scores: Callable[[ScoreProgress], None] = field(default=lambda progress: None)


@dataclass(frozen=True, slots=True)
class AnsweringArm:
    """An arm that can answer: what was to be fitted for it is fitted.

    Attributes:
        id: under which its answers are filed.
        model: who answers, with the adapter or edit that was fitted.
        decode: how it is sampled.
        fit_seed: seed of that fit; None where nothing was fitted.
        first_sample: by how much its samples are shifted, so that those of several fits do not collide.
    """

    id: ArmId
    model: ModelSpec
    decode: Decode
    fit_seed: int | None = None
    first_sample: int = 0


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """What determines a folder's answers.

    Attributes:
        arms: who answers.
        prompts: what is asked, in this order.
        samples: answers per prompt and seed.
        seeds: sampling seeds.
        follow_ups: scorer name to its scripted next turn.
        training: arm to the hash of what its operator learns from, for arms that one changes.
    """

    arms: Sequence[ArmPlan]
    prompts: Sequence[Prompt]
    samples: int = 1
    seeds: Sequence[int] = (0,)
    follow_ups: Mapping[str, str] = field(default_factory=dict)
    training: Mapping[str, str] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """SHA-256 over all of it but the scripted next turns, which add answers and change none; reads the models' files."""
        return arms_hash(self.arms, self.samples, self.seeds, [prompt.id for prompt in self.prompts], self.training)

    @property
    def arms_json(self) -> list[Json]:
        """The arms as study.json spells them."""
        return [
            {
                "arm": arm.name, "model": model_json(arm.model), "decode": to_json(arm.decode),
                **({} if arm.change is None else {
                    "change": change_json(arm), "dose": arm.dose, "lessons": self.training.get(arm.name, "")
                }),
            }
            for arm in self.arms
        ]  # fmt: skip


@dataclass(slots=True)
class RunUnderWay:
    """A run folder whose answers are being made or scored.

    Attributes:
        folder: where.
        study: what study.json says so far.
        prompts: what is asked, by id.
        earlier: the records of an earlier run that was finished; None where there is none.
        responses: the answers so far.
    """

    folder: Path
    study: dict[str, Json]
    prompts: dict[str, Prompt]
    earlier: Records | None = None
    responses: list[Response] = field(default_factory=list)

    def has_every_answer(self, request: AnswerRequest) -> bool:
        """Whether the earlier run lacks no answer: none failed, and every scripted next turn was put to every arm."""
        if self.earlier is None:
            return False
        answered = {response.arm for response in self.earlier.responses}
        turns = {replace(arm.id, turn=name) for arm in request.arms for name in request.follow_ups}
        return turns <= answered and all(response.error is None for response in self.earlier.responses)


def begin_run(
    folder: Path,
    request: AnswerRequest,
    claim: Claim | None = None,
    *,
    measured_by: Json = None,
    overwrite: bool = False,
) -> RunUnderWay:
    """Write down in a run folder what is asked and claimed, before the first answer; or take up an earlier run of the same.

    Args:
        folder: the run folder.
        request: what determines the answers.
        claim: what is written down; None where nothing is claimed.
        measured_by: written down with the claim: what it will be measured by.
        overwrite: replace another study in the folder.

    Raises:
        InputError: the folder holds something else, or cannot be written.
    """
    identity = request.hash
    old = read_study(folder)
    if old is not None and old.get("answers_hash") != identity:
        if not overwrite and not _empty(folder, old):
            differ = _differences(old.get("arms", []), request.arms_json) or [
                "the prompts, the samples, the seeds, or what is in a file that an arm names"
            ]
            more = f" and {len(differ) - _SHOWN} more" if len(differ) > _SHOWN else ""
            raise InputError(
                f"the folder holds another study: what differs is {', '.join(differ[:_SHOWN])}{more}",
                path=folder,
                remedy="choose another --out, or replace it with --overwrite",
            )
        old = None
    if old is None:
        clear_run(folder)
    earlier = read_run(folder) if old is not None and old["finished"] else None
    now = datetime.now(UTC).isoformat(timespec="seconds")
    study: dict[str, Json] = {
        "finished": False,
        "answers_hash": identity,
        "began": now if old is None else old["began"],
        "frozen": None if claim is None else {"claim_hash": claim.hash, "measured_by": measured_by, "at": now},
        "claim": None if claim is None else to_json(claim),
        "arms": request.arms_json,
    }
    with Journal(folder / "answers.journal", {"answers": identity}) as journal:
        has_answers = bool(journal.rows) or (earlier is not None and bool(earlier.responses))
        if old is not None and old["frozen"] is not None and has_answers:
            study["frozen"] = old["frozen"]
        if earlier is None:
            begin_folder(folder, study, request.prompts)
    return RunUnderWay(folder, study, {prompt.id: prompt for prompt in request.prompts}, earlier)


def answer(
    run: RunUnderWay, arms: Sequence[AnsweringArm], request: AnswerRequest, runtime: Runtime, progress: Progress
) -> None:
    """Generate the answers of a run that was begun, or go on where an earlier run stopped.

    Args:
        run: the run; its ``responses`` are filled.
        arms: who answers, every fit an arm of its own.
        request: what is asked.
        runtime: how models are run.
        progress: is called with how far things are.

    Raises:
        ModelError: a model cannot be used.
        BudgetSpent: the budget for tokens or money is used up; what was answered is kept in the folder.
    """
    with Journal(run.folder / "answers.journal", {"answers": run.study["answers_hash"]}) as journal:
        known = [*(run.earlier.responses if run.earlier else ()), *map(response_from_json, journal.rows)]
        run.responses = generate(
            arms, request.prompts, journal, known=known, samples=request.samples, seeds=request.seeds,
            follow_ups=request.follow_ups, runtime=runtime, watch=progress.answers,
        )  # fmt: skip


def score(
    run: RunUnderWay,
    chosen: Sequence[ChosenScorer],
    budgets: Sequence[int],
    context: ScoringContext,
    progress: Progress,
    *,
    keep_earlier: bool = True,
) -> Records:
    """The answers of a run, cut to the budgets too, with their scores.

    Args:
        run: its answers are there.
        chosen: what scores them.
        budgets: smaller budgets.
        context: what scoring works with.
        progress: is called with how far it is.
        keep_earlier: take over scores of the earlier run that still hold.

    Raises:
        InputError: a scorer fails its own cards, lacks the gold that it needs, or a budget cannot be cut to.
        SandboxError: programs would have to be run, and there is no sandbox.
    """
    responses = cut_to_budgets(run.responses, budgets)
    identity = {"scores": scoring.scoring_hash(responses, run.prompts, chosen)}
    with Journal(run.folder / "scores.journal", identity, keep_other=False) as journal:
        earlier = scoring.still_true(run.earlier, responses, run.prompts) if keep_earlier else ()
        known = [*earlier, *map(score_from_json, journal.rows)]
        scores = scoring.score(responses, run.prompts, chosen, context, journal, known=known, watch=progress.scores)
    return Records(run.study, dict(run.prompts), responses, scores)


_SHOWN = 4  # differences that a message names


def _differences(then: Json, now: Json, where: str = "") -> list[str]:
    """The keys, with dots, in which two documents differ; entries of the arms go by their names."""
    if isinstance(then, dict) and isinstance(now, dict):
        keys = [key for key in {**then, **now} if then.get(key) != now.get(key)]
        return [
            path for key in keys for path in _differences(then.get(key), now.get(key), f"{where}.{key}".lstrip("."))
        ]
    if not where and isinstance(then, list) and isinstance(now, list):
        before: Json = {str(arm["arm"]): arm for arm in then if isinstance(arm, dict)}
        after: Json = {str(arm["arm"]): arm for arm in now if isinstance(arm, dict)}
        return _differences(before, after)
    return [where]


def _empty(folder: Path, study: Mapping[str, Json]) -> bool:
    """Whether a folder was begun by us and holds no answer yet, as after a misspelt model."""
    journal = folder / "answers.journal"
    begun = study.get("finished") is False and not (folder / "responses.jsonl").exists()
    return begun and not (journal.is_file() and len(read_lines(journal)) > 1)


def train_tiny(arms: Iterable[ArmPlan], progress: Progress) -> None:
    """Train the tiny models that arms name and that are not there yet, so that somebody can watch it."""
    for model in dict.fromkeys(arm.model.name for arm in arms):
        if model.startswith(tiny.SCHEME):
            tiny.ensure(model.removeprefix(tiny.SCHEME), _with_name(model, progress))


def _with_name(model: str, progress: Progress) -> Callable[[str, int, int], None]:
    return lambda doing, done, total: progress.part(f"{model}: {doing}", done, total)


# generation ----------------------------------------------------------------------------------------------------


def generate(
    arms: Sequence[AnsweringArm],
    prompts: Sequence[Prompt],
    journal: Journal,
    *,
    known: Iterable[Response] = (),
    samples: int = 1,
    seeds: Sequence[int] = (0,),
    follow_ups: Mapping[str, str] | None = None,
    runtime: Runtime | None = None,
    watch: Callable[[AnswerProgress], None] | None = None,
    open: OpenModel = open_model,
) -> list[Response]:
    """Answers of every arm to every prompt, in the order of arms, seeds, prompts and samples.

    Args:
        arms: who answers.
        prompts: what is asked.
        journal: where every answer goes as soon as it is there.
        known: answers of earlier runs; those that are wanted are taken over, unless they had failed.
        samples: answers per prompt and seed.
        seeds: sampling seeds; each is a replicate.
        follow_ups: scorer name to its scripted next turn, put to every arm after its answers and filed under
            its ``turn``.
        runtime: how models are run.
        watch: called after every batch, and as tokens are made where the backend can say so.
        open: opens a model.

    Raises:
        InputError: a prompt has no text, or the disk is full (what is in the journal is kept).
        ModelError: a model cannot be opened, or can answer nothing at all.
        BudgetSpent: the budget for tokens or money is used up; the journal holds the answers so far.
    """
    if bare := [prompt.id for prompt in prompts if not prompt.messages]:
        raise InputError(f"prompt {bare[0]} has no text that could be put to a model")
    turns = dict(follow_ups or {})
    total = len(arms) * len(prompts) * samples * len(seeds) * (1 + len(turns))
    fits = Counter(arm.id for arm in arms)
    out: list[Response] = []
    kept = {answer.key: answer for answer in known if answer.error is None}
    with _Generation(journal, kept, total, runtime or Runtime(), watch, open) as run:
        for group in _together(arms):
            wanted = [
                _AnswerSlot(
                    arm, arm.id, prompt.id, seed,
                    Ask(prompt.id, conversation(prompt, arm.decode), number * samples + i, _of_row(arm)),
                    str(arm.fit_seed) if fits[arm.id] > 1 else str(seed) if len(seeds) > 1 else "",
                )
                for arm in group
                for number, seed in enumerate(seeds)
                for prompt in prompts
                for i in range(samples)
            ]  # fmt: skip
            answers = run.answer(wanted)
            out += answers
            for name, text in turns.items():
                following = _next_turns(wanted, answers, name, text)
                run.progress.total -= len(wanted) - len(following)
                out += run.answer(following)
    order = {id: at for at, id in enumerate(_arms_in_order(arms, turns))}
    return sorted(out, key=lambda answer: order[answer.arm])  # a stable sort: fits of one arm stay in their order


def _arms_in_order(arms: Sequence[AnsweringArm], turns: Iterable[str]) -> Iterator[ArmId]:
    for id in dict.fromkeys(arm.id for arm in arms):
        yield id
        yield from (replace(id, turn=turn) for turn in turns)


def _together(arms: Sequence[AnsweringArm]) -> list[list[AnsweringArm]]:
    """Arms whose answers are rows of the same batches: those that differ in what is laid over the model by row, and in nothing else."""
    groups: dict[object, list[AnsweringArm]] = {}
    for number, arm in enumerate(arms):
        by_row = arm.model.applied is None or _is_by_row(arm.model.applied)
        key = (replace(arm.model, applied=None), arm.decode) if by_row else number
        groups.setdefault(key, []).append(arm)
    apart: list[list[AnsweringArm]] = []
    for group in groups.values():
        mixed = any(arm.model.applied is not None and _is_by_row(arm.model.applied) for arm in group)
        apart += [group] if mixed else [[arm] for arm in group]
    return apart


def _is_by_row(applied: Applied) -> bool:
    return operator_named(applied.operator).by_row


def _of_row(arm: AnsweringArm) -> Applied | None:
    """What the rows of an arm carry themselves."""
    return arm.model.applied if arm.model.applied is not None and _is_by_row(arm.model.applied) else None


@dataclass(frozen=True, slots=True)
class _AnswerSlot:
    """One answer that is wanted: for which arm, to which prompt, with which seed, and what is asked.

    Its sample is shifted, which keeps the answers of several fits of one arm apart, and leaves them the random numbers of the
    control.
    """

    arm: AnsweringArm
    id: ArmId
    prompt_id: str
    seed: int
    ask: Ask
    replicate: str

    @property
    def key(self) -> AnswerKey:
        """What names its answer."""
        return self.id, self.prompt_id, self.ask.sample + self.arm.first_sample


def conversation(prompt: Prompt, decode: Decode) -> tuple[Message, ...]:
    """The prompt's messages with the arm's system prompt in front; one that the prompt brings along comes after it."""
    if decode.system_prompt is None:
        return prompt.messages
    own = [turn.content for turn in prompt.messages if turn.role == "system"]
    rest = tuple(turn for turn in prompt.messages if turn.role != "system")
    return (Message("system", "\n\n".join([decode.system_prompt, *own])), *rest)


def _next_turns(wanted: Sequence[_AnswerSlot], answers: Sequence[Response], name: str, text: str) -> list[_AnswerSlot]:
    """The conversations with the answer and the scripted next turn added; an answer that failed has none."""
    out = []
    for item, answer in zip(wanted, answers, strict=True):
        if answer.text:
            messages = (*item.ask.messages, Message("assistant", answer.text), Message("user", text))
            ask = replace(item.ask, key=f"{item.ask.key}/{name}", messages=messages)
            out.append(replace(item, id=replace(item.id, turn=name), ask=ask))
    return out


def _check_to_model(kept: Response, ref: ModelRef, decode: Decode) -> None:
    """Raise ModelError where the model that goes on is not the one that answered so far; libraries may be newer."""
    then: dict[str, Json] = {**to_json(kept.model), "chat_template": kept.decode.chat_template}
    now: dict[str, Json] = {**to_json(ref), "chat_template": decode.chat_template}
    for what in (
        "repo", "revision", "dtype", "quantisation", "adapter_hash", "adapter_dose", "operator", "operator_hash",
        "operator_dose", "chat_template",
    ):  # fmt: skip
        if then.get(what) != now.get(what):
            raise ModelError(
                f"the model of {kept.arm} is not the one that gave the answers so far: its {what.replace('_', ' ')} was "
                f"{then.get(what) or 'not stated'} and is {now.get(what) or 'not stated'}",
                remedy="go on with that one, or begin anew in another --out",
            )


def _ref_of(model: Model, applied: Applied | None) -> ModelRef:
    """The fingerprint of a row's model."""
    if applied is None:
        return model.ref
    edited: Any = model  # a backend that can edit
    ref: ModelRef = edited.ref_with(applied)
    return ref


class _Generation:
    """One run: what is known already, how far it is, and the model that is open."""

    def __init__(
        self,
        journal: Journal,
        kept: dict[AnswerKey, Response],
        total: int,
        runtime: Runtime,
        watch: Callable[[AnswerProgress], None] | None,
        open: OpenModel,
    ) -> None:
        self.journal = journal
        self.progress = AnswerProgress(total=total)
        self.runtime = replace(runtime, progress=self._report)
        self.watch = watch
        self.open = open
        self.model: tuple[ModelSpec, Model] | None = None
        self.started = time.monotonic()
        self.kept = kept

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def answer(self, wanted: Sequence[_AnswerSlot]) -> list[Response]:
        """The answers that are wanted, in their order: kept ones as they are, the others from one model.

        The arms differ in their name and in what their rows carry, and share everything else.
        """
        if not wanted:
            return []
        first, *others = dict.fromkeys(item.id for item in wanted)
        self.progress.begin(f"{first} and {len(others)} more arms" if others else str(first))
        arm = wanted[0].arm
        for seed in dict.fromkeys(item.seed for item in wanted):
            items = [item for item in wanted if item.seed == seed]
            done = {i for i, item in enumerate(items) if item.key in self.kept}
            for i in done:
                self.progress.add(self.kept[items[i].key])
            self.progress.kept += len(done)
            if len(done) < len(items):
                with self._changed(arm) as model:
                    self._ask(model, items, replace(arm.decode, seed=seed, chat_template=model.chat_template), done)
        missing = sum(item.key not in self.kept for item in wanted)
        if missing:
            raise RegistryError(f"the backend of {arm.model.name} gave no answer to {missing} prompts it was asked")
        return [self.kept[item.key] for item in wanted]

    def _ask(self, model: Model, items: Sequence[_AnswerSlot], decode: Decode, done: set[int]) -> None:
        """Put to the model what is not done, and write down every answer when its batch is there."""
        refs = {item.ask.applied: _ref_of(model, item.ask.applied) for item in items}
        for i in done:
            _check_to_model(self.kept[items[i].key], refs[items[i].ask.applied], decode)
        for batch in model.answer([item.ask for item in items], decode, done):
            made = [
                Response(
                    prompt_id=items[i].prompt_id,
                    arm=items[i].id,
                    sample=items[i].key[2],
                    text=answer.text,
                    finish_reason=answer.finish_reason,
                    finish_provenance=None if answer.finish_reason is FinishReason.UNKNOWN else Provenance.RECORDED,
                    decode=decode,
                    model=refs[items[i].ask.applied],
                    n_tokens=answer.n_tokens,
                    replicate=items[i].replicate,
                    error=answer.error,
                    prompt_tokens=answer.prompt_tokens,
                    token_chars=answer.token_chars,
                    fit_seed=items[i].arm.fit_seed,
                )
                for i, answer in batch
            ]
            self.journal.append(to_json(response) for response in made)
            for response in made:
                self.kept[response.key] = response
                self.progress.add(response)
            self._report(0)

    @contextmanager
    def _changed(self, arm: AnsweringArm) -> Iterator[Model]:
        """The model of an arm, with what is laid over all of its rows."""
        applied = arm.model.applied
        model = self._model(replace(arm.model, applied=None))
        if applied is None or _is_by_row(applied):
            yield model
            return
        with operator_named(applied.operator).on(model, applied.folder, applied.dose) as changed:
            yield changed

    def _model(self, spec: ModelSpec) -> Model:
        """The model of this spec; arms that share it share the opened one."""
        if self.model is None or self.model[0] != spec:
            self._close()
            self.model = (spec, self.open(spec, self.runtime))
        return self.model[1]

    def _close(self) -> None:
        if self.model is not None:
            self.model[1].close()
            self.model = None

    def _report(self, tokens: int) -> None:
        self.progress.tokens += tokens
        self.progress.seconds = time.monotonic() - self.started
        if self.watch is not None:
            self.watch(self.progress)


# budgets and labels ------------------------------------------------------------------------------------------


def cut_to_budgets(responses: Sequence[Response], budgets: Sequence[int]) -> list[Response]:
    """The answers, and what each would have been with every smaller budget, as arms ``ARM@BUDGET``.

    A scripted next turn is cut too where the answer that it follows is whole within the budget. Where that answer is
    cut, the smaller budget would have led to another conversation, and there is none. An answer that does not say where
    its tokens end is an error record at the budgets that would cut it.

    Raises:
        InputError: a budget is not smaller than the one of the answers, or no answer of an arm can be cut to it.
    """
    whole = [response for response in responses if response.arm.budget is None]
    first = {response.key: response for response in whole if response.arm.turn is None}
    out = list(whole)
    for budget in sorted(set(budgets)):
        if reached := [r for r in first.values() if r.decode.max_new_tokens and budget >= r.decode.max_new_tokens]:
            raise InputError(
                f"the budget {budget} is not smaller than the {reached[0].decode.max_new_tokens} tokens with which the "
                "answers were generated",
                remedy="leave it out, or generate again with a larger max_new_tokens",
            )
        cut = {key: _cut(response, budget) for key, response in first.items()}
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
            key = response.arm.base, response.prompt_id, response.sample
            if response.arm.turn is not None and key in first and cut[key].text == first[key].text:
                out.append(_cut(response, budget))
    return out


def _cut(response: Response, budget: int) -> Response:
    try:
        made = response.cut_to(budget)
    except RecordError as error:
        made = replace(
            response, arm=replace(response.arm, budget=budget), decode=replace(response.decode, max_new_tokens=budget), text=None, n_tokens=None,
            finish_reason=FinishReason.ERROR, finish_provenance=Provenance.RECORDED, error=f"at {budget} tokens: {error}",
        )  # fmt: skip
    return replace(made, token_chars=None)


def labelled(records: Records, arm: ArmId = CONTROL) -> list[Labelled]:
    """The answers of an arm that did not fail, with their scores by axis, in the order of the records."""
    values: dict[AnswerKey, dict[str, float | str]] = {}
    for made in records.scores:
        if made.value is not None:
            values.setdefault(made.key, {})[made.axis] = made.value
    return [
        Labelled(records.prompts[response.prompt_id], response, values.get(response.key, {}))
        for response in records.responses
        if response.arm == arm and response.error is None
    ]
