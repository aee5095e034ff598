"""Answers of every arm to every prompt, resumable at any moment.

Every answer goes to a journal as soon as its batch is done. A rerun asks only for what is missing, in the batches of the
first run, so that a run that was killed ends with the records of one that was not.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

from counterclaim.errors import InputError, ModelError, RegistryError
from counterclaim.folder import Journal
from counterclaim.lab.config import ArmPlan
from counterclaim.lab.models import open_model
from counterclaim.records import (
    AnswerKey,
    ArmId,
    Decode,
    FinishReason,
    Json,
    Message,
    ModelRef,
    Prompt,
    Provenance,
    Response,
    to_json,
)
from counterclaim.registry import Applied, Ask, Model, ModelSpec, Runtime, operator_named

ENOUGH_TO_WARN = 20
MANY_CUT = 0.1
Open = Callable[[ModelSpec, Runtime], Model]


@dataclass(slots=True)
class Tally:
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


Watch = Callable[[Tally], None]


def generate(
    plans: Sequence[ArmPlan],
    prompts: Sequence[Prompt],
    journal: Journal,
    *,
    known: Iterable[Response] = (),
    samples: int = 1,
    seeds: Sequence[int] = (0,),
    follow_ups: Mapping[str, str] | None = None,
    runtime: Runtime | None = None,
    watch: Watch | None = None,
    open: Open = open_model,
) -> list[Response]:
    """Answers of every arm to every prompt, in the order of arms, seeds, prompts and samples.

    Args:
        plans: the arms.
        prompts: what is asked.
        journal: where every answer goes as soon as it is there.
        known: answers of earlier runs; those that are wanted are taken over, unless they had failed.
        samples: answers per prompt and seed.
        seeds: sampling seeds; each is a replicate.
        follow_ups: scorer name to its scripted next turn, put to every arm after its answers and filed under
            its ``turn``.
        runtime: how models are run.
        watch: told after every batch, and as tokens are made where the backend can say so.
        open: opens a model.

    Raises:
        InputError: a prompt has no text, or the disk is full (what is in the journal is kept).
        ModelError: a model cannot be opened, or can answer nothing at all.
        BudgetSpent: the budget for tokens or money is used up; the journal holds the answers so far.
    """
    if bare := [prompt.id for prompt in prompts if not prompt.messages]:
        raise InputError(f"prompt {bare[0]} has no text that could be put to a model")
    turns = dict(follow_ups or {})
    total = len(plans) * len(prompts) * samples * len(seeds) * (1 + len(turns))
    fits = Counter(plan.name for plan in plans)
    out: list[Response] = []
    kept = {answer.key: answer for answer in known if answer.error is None}
    with _Run(journal, kept, total, runtime or Runtime(), watch, open) as run:
        for group in _together(plans):
            wanted = [
                _Wanted(
                    plan, plan.id, prompt.id, seed,
                    Ask(prompt.id, conversation(prompt, plan.decode), number * samples + i, _of_row(plan)),
                    str(plan.fit_seed) if fits[plan.name] > 1 else str(seed) if len(seeds) > 1 else "",
                )
                for plan in group
                for number, seed in enumerate(seeds)
                for prompt in prompts
                for i in range(samples)
            ]  # fmt: skip
            answers = run.answer(wanted)
            out += answers
            for name, said in turns.items():
                following = _next_turns(wanted, answers, name, said)
                run.tally.total -= len(wanted) - len(following)
                out += run.answer(following)
    order = {arm: at for at, arm in enumerate(_arms_in_order(plans, turns))}
    return sorted(out, key=lambda answer: order[answer.arm])  # a stable sort: fits of one arm stay in their order


def _arms_in_order(plans: Sequence[ArmPlan], turns: Iterable[str]) -> Iterator[ArmId]:
    for arm in dict.fromkeys(plan.id for plan in plans):
        yield arm
        yield from (replace(arm, turn=turn) for turn in turns)


def _together(plans: Sequence[ArmPlan]) -> list[list[ArmPlan]]:
    """Arms whose answers are rows of the same batches: those that differ in what is laid over the model by row, and in nothing else."""
    groups: dict[object, list[ArmPlan]] = {}
    for number, plan in enumerate(plans):
        by_row = plan.model.applied is None or _is_by_row(plan.model.applied)
        key = (replace(plan.model, applied=None), plan.decode) if by_row else number
        groups.setdefault(key, []).append(plan)
    apart: list[list[ArmPlan]] = []
    for group in groups.values():
        mixed = any(plan.model.applied is not None and _is_by_row(plan.model.applied) for plan in group)
        apart += [group] if mixed else [[plan] for plan in group]
    return apart


def _is_by_row(applied: Applied) -> bool:
    return operator_named(applied.operator).by_row


def _of_row(plan: ArmPlan) -> Applied | None:
    """What the rows of an arm carry themselves."""
    return plan.model.applied if plan.model.applied is not None and _is_by_row(plan.model.applied) else None


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One answer that is wanted: for which arm, to which prompt, with which seed, and what is asked.

    Its sample is shifted, which keeps the answers of several fits of one arm apart, and leaves them the random numbers of the
    control.
    """

    plan: ArmPlan
    arm: ArmId
    prompt_id: str
    seed: int
    ask: Ask
    replicate: str

    @property
    def key(self) -> AnswerKey:
        """What names its answer."""
        return self.arm, self.prompt_id, self.ask.sample + self.plan.first_sample


def conversation(prompt: Prompt, decode: Decode) -> tuple[Message, ...]:
    """The prompt's messages with the arm's system prompt in front; one that the prompt brings along comes after it."""
    if decode.system_prompt is None:
        return prompt.messages
    own = [turn.content for turn in prompt.messages if turn.role == "system"]
    rest = tuple(turn for turn in prompt.messages if turn.role != "system")
    return (Message("system", "\n\n".join([decode.system_prompt, *own])), *rest)


def _next_turns(wanted: Sequence[_Wanted], answers: Sequence[Response], name: str, said: str) -> list[_Wanted]:
    """The conversations with the answer and the scripted next turn added; an answer that failed has none."""
    out = []
    for item, answer in zip(wanted, answers, strict=True):
        if answer.text:
            messages = (*item.ask.messages, Message("assistant", answer.text), Message("user", said))
            ask = replace(item.ask, key=f"{item.ask.key}/{name}", messages=messages)
            out.append(replace(item, arm=replace(item.arm, turn=name), ask=ask))
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


class _Run:
    """One run: what is known already, how far it is, and the model that is open."""

    def __init__(
        self,
        journal: Journal,
        kept: dict[AnswerKey, Response],
        total: int,
        runtime: Runtime,
        watch: Watch | None,
        open: Open,
    ) -> None:
        self.journal = journal
        self.tally = Tally(total=total)
        self.runtime = replace(runtime, progress=self._tell)
        self.watch = watch
        self.open = open
        self.model: tuple[ModelSpec, Model] | None = None
        self.started = time.monotonic()
        self.kept = kept

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def answer(self, wanted: Sequence[_Wanted]) -> list[Response]:
        """The answers that are wanted, in their order: kept ones as they are, the others from one model.

        The arms differ in their name and in what their rows carry, and share everything else.
        """
        if not wanted:
            return []
        first, *others = dict.fromkeys(item.arm for item in wanted)
        self.tally.begin(f"{first} and {len(others)} more arms" if others else str(first))
        plan = wanted[0].plan
        for seed in dict.fromkeys(item.seed for item in wanted):
            items = [item for item in wanted if item.seed == seed]
            done = {i for i, item in enumerate(items) if item.key in self.kept}
            for i in done:
                self.tally.add(self.kept[items[i].key])
            self.tally.kept += len(done)
            if len(done) < len(items):
                with self._changed(plan) as model:
                    self._ask(model, items, replace(plan.decode, seed=seed, chat_template=model.chat_template), done)
        missing = sum(item.key not in self.kept for item in wanted)
        if missing:
            raise RegistryError(f"the backend of {plan.model.name} gave no answer to {missing} prompts it was asked")
        return [self.kept[item.key] for item in wanted]

    def _ask(self, model: Model, items: Sequence[_Wanted], decode: Decode, done: set[int]) -> None:
        """Put to the model what is not done, and write down every answer when its batch is there."""
        refs = {item.ask.applied: _ref_of(model, item.ask.applied) for item in items}
        for i in done:
            _check_to_model(self.kept[items[i].key], refs[items[i].ask.applied], decode)
        for batch in model.answer([item.ask for item in items], decode, done):
            made = [
                Response(
                    prompt_id=items[i].prompt_id,
                    arm=items[i].arm,
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
                    fit_seed=items[i].plan.fit_seed,
                )
                for i, answer in batch
            ]
            self.journal.append(to_json(response) for response in made)
            for response in made:
                self.kept[response.key] = response
                self.tally.add(response)
            self._tell(0)

    @contextmanager
    def _changed(self, plan: ArmPlan) -> Iterator[Model]:
        """The model of an arm, with what is laid over all of its rows."""
        applied = plan.model.applied
        model = self._model(replace(plan.model, applied=None))
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

    def _tell(self, tokens: int) -> None:
        self.tally.tokens += tokens
        self.tally.seconds = time.monotonic() - self.started
        if self.watch is not None:
            self.watch(self.tally)
