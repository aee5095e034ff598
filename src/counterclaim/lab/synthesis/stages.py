"""The stage graph at work: every call that is wanted is made once, as many at a time as are allowed, and kept as it is made.

Models that several threads may ask are asked one call at a time by ``Runtime.concurrency`` workers: nobody waits for a
stage to be through with all prompts. Other models (transformers on this machine) are asked in batches, each stage
once all that it sees is there, because batches are what they are fast at, and equal batches are what makes a resumed
run equal to one that was never stopped.
"""

from __future__ import annotations

import heapq
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from counterclaim.errors import RegistryError
from counterclaim.folder import Journal
from counterclaim.lab.models import open_model
from counterclaim.lab.models.endpoint import EndpointModel
from counterclaim.lab.synthesis.replies import thought_of
from counterclaim.records import Call, Decode, FinishReason, Json, Message, Prompt, content_hash, to_json
from counterclaim.registry import Answer, Ask, Model, ModelSpec, Runtime, Watch, backend_of

PROMPTS_AT_ONCE = 4
"""Prompts that are under way for each call under way. Enough that workers never wait for a stage that is not ready; few
enough that a budget which is spent half-way leaves finished examples, and not first stages of everything."""

TELL_S = 0.2
"""Seconds after which it is told how far things are."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of one call.

    Attributes:
        call: who said what; ``text`` is raw, thought included.
        failed: why there is no answer at all; a rerun asks again.
        spoilt: why the answer cannot be used.
    """

    call: Call
    failed: str | None = None
    spoilt: str | None = None

    @property
    def usable(self) -> bool:
        """Whether there is an answer that can be used."""
        return self.failed is None and self.spoilt is None

    @property
    def visible(self) -> str:
        """The answer without its thought."""
        return thought_of(self.call.text).answer


Replies = Mapping[str, Reply]
"""The replies to one prompt, by step."""


@dataclass(frozen=True, slots=True)
class Step:
    """One call for each prompt.

    Attributes:
        name: under which the call is recorded.
        model: who is asked.
        decode: how it is sampled; its system prompt is in the conversation already.
        conversation: what is asked, given the replies of the steps in ``after``; None where nothing is.
        after: steps whose usable replies it needs; where one has none, nothing is asked.
        licence: under which the answer may be used.
        price_in: price of a million prompt tokens, for endpoints.
        price_out: price of a million answered tokens, for endpoints.
        spoilt: why an answer to a prompt that ended by itself cannot be used, or None where it can.
    """

    name: str
    model: ModelSpec
    decode: Decode
    conversation: Callable[[Prompt, Replies], tuple[Message, ...] | None]
    after: tuple[str, ...] = ()
    licence: str | None = None
    price_in: float = 0.0
    price_out: float = 0.0
    spoilt: Callable[[Prompt, str], str | None] = field(default=lambda prompt, text: None)


def ask_all(
    steps: Sequence[Step], prompts: Sequence[Prompt], journal: Journal, runtime: Runtime, watch: Watch
) -> dict[str, dict[str, Reply]]:
    """The replies of every step to every prompt, by prompt id and step; a step that was not asked is left out.

    Args:
        steps: in an order in which each comes after those that it needs.
        prompts: with different ids.
        journal: where every answer goes as soon as it is there, and where those of earlier runs are.
        runtime: how models are run; its concurrency and its budget hold for all of them together.
        watch: told how many calls are done or need not be made, and how many there are at most.

    Raises:
        ModelError: a model cannot be opened, or can answer nothing at all.
        BudgetSpent: the budget for tokens or money is used up.
        InputError: the disk is full. What was answered before any of these is in the journal.
    """
    with _Work(steps, prompts, journal, runtime) as work:
        while not work.is_done():
            batch = work.next_batch()
            if batch is None:
                work.wait(watch)
            else:
                work.answer_batch(*batch, watch)
    return {prompt.id: replies for prompt, replies in zip(prompts, work.replies, strict=True)}


@dataclass(frozen=True, slots=True, order=True)
class _Task:
    """A call that is ready; the order is that in which calls are made."""

    rank: int
    prompt: int
    step: int
    messages: tuple[Message, ...] = field(compare=False)


class _Work:
    """What is done, what is ready and who is at work. The lock guards all of it but the journal and the models."""

    def __init__(self, steps: Sequence[Step], prompts: Sequence[Prompt], journal: Journal, runtime: Runtime) -> None:
        self.steps = steps
        self.prompts = prompts
        self.replies: list[dict[str, Reply]] = [{} for _ in prompts]
        self._journal = journal
        self._runtime = runtime
        self._kept = {(row["prompt"], row["step"]): row for row in journal.rows}
        at = {step.name: number for number, step in enumerate(steps)}
        self._after = [[at[name] for name in step.after] for step in steps]
        self._followers = [
            [i for i, after in enumerate(self._after) if number in after] for number in range(len(steps))
        ]
        self._batched = [not backend_of(step.model.name).concurrent for step in steps]
        self._ranks = self._ranked()
        self._flowing = self._not_behind_batches()
        self._lock = threading.Condition()
        self._settled = [[False] * len(steps) for _ in prompts]
        self._left = len(prompts) * len(steps)
        self._ready: list[_Task] = []
        self._gathered: list[dict[int, _Task]] = [{} for _ in steps]  # calls of batched steps, by prompt
        self._passed = [0] * len(steps)  # prompts for which it is known whether a batched step is asked
        self._admitted = 0
        self._admitting = False
        self._open = 0
        self._in_flight = 0
        self._failure: BaseException | None = None
        self._stopped = False
        self._models: dict[tuple[ModelSpec, float, float], Model] = {}
        self._local: tuple[ModelSpec, Model] | None = None
        self._rows: queue.SimpleQueue[dict[str, Json] | None] = queue.SimpleQueue()
        self._unread: queue.SimpleQueue[tuple[_Task, dict[str, Json]] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def _ranked(self) -> list[int]:
        """Rank of each step, smallest first: minus the number of calls that still hang on it, one after the other."""
        ranks = [0] * len(self.steps)
        for number in reversed(range(len(self.steps))):
            ranks[number] = min((ranks[follower] for follower in self._followers[number]), default=0) - 1
        return ranks

    def _not_behind_batches(self) -> list[bool]:
        """Steps that flow prompt by prompt, as neither they nor anything that they need waits for a batch."""
        flowing: list[bool] = []
        for number, after in enumerate(self._after):
            flowing.append(not self._batched[number] and all(flowing[i] for i in after))
        return flowing

    def __enter__(self) -> Self:
        try:
            self._open_endpoints()
            with self._lock:
                for prompt in range(len(self.prompts)):
                    for number in range(len(self.steps)):
                        if not self._after[number] and not self._flowing[number]:
                            self._prepare(prompt, number)
                first = self._next_batched()
            if first is not None:  # before anybody is paid, for it may not be there
                self._opened(self.steps[first].model)
            with self._lock:
                self._admit()
        except BaseException:
            self._close()
            raise
        workers = [self._work] * (self._runtime.concurrency if not all(self._batched) else 0)
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._write, self._read, *workers)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._lock:
            self._stopped = True
            self._lock.notify_all()
            if kind is None or issubclass(kind, Exception):
                self._lock.wait_for(lambda: not self._in_flight)
        self._unread.put(None)
        self._rows.put(None)
        self._threads[0].join()  # what was answered is on the disk before anything else happens
        self._close()
        if kind is None and self._failure is not None:
            raise self._failure

    def _open_endpoints(self) -> None:
        """Open every model that several threads may ask; one without a price is free where another has one."""
        priced = any(step.price_in or step.price_out for step in self.steps)
        for number, step in enumerate(self.steps):
            if not self._batched[number]:
                runtime = replace(self._runtime, price_in=step.price_in, price_out=step.price_out)
                if priced and not (step.price_in or step.price_out):
                    runtime = replace(runtime, most_cost=None)
                key = (step.model, step.price_in, step.price_out)
                if key not in self._models:
                    self._models[key] = open_model(step.model, runtime)

    def _close(self) -> None:
        for model in self._models.values():
            model.close()
        if self._local is not None:
            self._local[1].close()

    # --- the graph; the lock is held

    def _admit(self) -> None:
        """Begin prompts, as long as few enough are under way.

        Where an earlier run has answered everything, prompts end as they begin: the loop goes on, and not deeper.
        """
        if self._admitting:
            return
        self._admitting = True
        most = PROMPTS_AT_ONCE * self._runtime.concurrency
        while self._open < most and self._admitted < len(self.prompts):
            prompt = self._admitted
            self._admitted += 1
            self._open += self._is_open(prompt)
            for number in range(len(self.steps)):
                if not self._after[number] and self._flowing[number]:
                    self._prepare(prompt, number)
        self._admitting = False

    def _is_open(self, prompt: int) -> bool:
        return any(flows and not done for flows, done in zip(self._flowing, self._settled[prompt], strict=True))

    def _prepare(self, prompt: int, number: int) -> None:
        """A step whose predecessors are settled: not asked, answered by an earlier run, or ready."""
        step, replies = self.steps[number], self.replies[prompt]
        messages = None
        if all(name in replies and replies[name].usable for name in step.after):
            messages = step.conversation(self.prompts[prompt], replies)
        if messages is None:
            self._passed[number] += 1
            self._settle(prompt, number, None)
            return
        task = _Task(self._ranks[number], prompt, number, messages)
        kept = self._kept.get((self.prompts[prompt].id, step.name))
        if kept is not None and kept["asked"] != _hash(step, messages):
            kept = None
        if self._batched[number]:
            self._gathered[number][prompt] = task
            self._passed[number] += 1
        elif kept is None:
            heapq.heappush(self._ready, task)
        if kept is not None:
            self._settle(prompt, number, self._reply(prompt, number, kept))

    def _settle(self, prompt: int, number: int, reply: Reply | None) -> None:
        was_open = prompt < self._admitted and self._is_open(prompt)
        self._settled[prompt][number] = True
        self._left -= 1
        if reply is not None:
            self.replies[prompt][self.steps[number].name] = reply
        for follower in self._followers[number]:
            if all(self._settled[prompt][i] for i in self._after[follower]):
                self._prepare(prompt, follower)
        if was_open and not self._is_open(prompt):
            self._open -= 1
            self._admit()
        self._lock.notify_all()

    def _reply(self, prompt: int, number: int, row: Mapping[str, Json]) -> Reply:
        step = self.steps[number]
        call = Call(
            step.name, row["model"], step.licence, row["text"] or "", row.get("prompt_tokens"), row.get("n_tokens"),
            row["cost"],
        )  # fmt: skip
        if row.get("error") is not None:
            return Reply(call, failed=row["error"])
        if row["finish_reason"] == FinishReason.LENGTH:
            return Reply(call, spoilt=f"it was cut by its budget of {step.decode.max_new_tokens} tokens")
        if row["finish_reason"] == FinishReason.FILTER:
            return Reply(call, spoilt="the endpoint filtered it")
        return Reply(call, spoilt=step.spoilt(self.prompts[prompt], call.text))

    def _row(self, task: _Task, answer: Answer, model: Model) -> dict[str, Json]:
        step = self.steps[task.step]
        cost = 0.0
        if isinstance(model, EndpointModel):
            cost = ((answer.prompt_tokens or 0) * step.price_in + (answer.n_tokens or 0) * step.price_out) / 1e6
        return {
            "prompt": self.prompts[task.prompt].id, "step": step.name, "asked": _hash(step, task.messages),
            "model": model.ref.repo or step.model.name, "text": answer.text, "finish_reason": str(answer.finish_reason),
            "prompt_tokens": answer.prompt_tokens, "n_tokens": answer.n_tokens, "cost": cost, "error": answer.error,
        }  # fmt: skip

    def _kept_row(self, task: _Task, answer: Answer, model: Model) -> dict[str, Json]:
        """The row of a call that was made; it is written down unless the call failed."""
        row = self._row(task, answer, model)
        if answer.error is None:
            self._rows.put(row)
        return row

    def _take_in(self, task: _Task, row: Mapping[str, Json]) -> None:
        """Settle a call that was made; without the lock, as it takes time to see whether a reply can be used."""
        reply = self._reply(task.prompt, task.step, row)
        with self._lock:
            self._settle(task.prompt, task.step, reply)

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._lock.notify_all()

    # --- threads

    def _work(self) -> None:
        """Take what is ready and ask, until there is nothing left."""
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._ready or self._stopped or self._failure or not self._left)
                if self._stopped or self._failure or not self._ready:
                    return
                task = heapq.heappop(self._ready)
                self._in_flight += 1
            try:
                step = self.steps[task.step]
                model = self._models[step.model, step.price_in, step.price_out]
                self._unread.put((task, self._kept_row(task, _answer(model, self._ask(task), step.decode), model)))
            except BaseException as error:
                with self._lock:
                    self._fail(error)
            finally:
                with self._lock:
                    self._in_flight -= 1
                    self._lock.notify_all()

    def _read(self) -> None:
        """Take in what workers were answered, so that none of them reads where it could ask."""
        while (heard := self._unread.get()) is not None:
            try:
                self._take_in(*heard)
            except BaseException as error:
                with self._lock:
                    self._fail(error)

    def _write(self) -> None:
        """Put rows on the disk, all that have come in at once: a disk is waited for once, and by no worker."""
        last = False
        while not last:
            rows = [self._rows.get()]
            while not self._rows.empty():
                rows.append(self._rows.get())
            last = None in rows
            try:
                self._journal.append(row for row in rows if row is not None)
            except BaseException as error:
                with self._lock:
                    self._fail(error)

    def _ask(self, task: _Task) -> Ask:
        """Each step draws random numbers of its own, whatever model answers it."""
        return Ask(f"{self.prompts[task.prompt].id}/{self.steps[task.step].name}", task.messages)

    # --- the main thread

    def is_done(self) -> bool:
        """Whether nothing is left, or something went wrong."""
        return not self._left or self._failure is not None

    def wait(self, watch: Watch) -> None:
        """Wait until there is something to do for the main thread, or for so long that it should say how far things are."""
        with self._lock:
            self._lock.wait_for(lambda: self.is_done() or self._next_batched() is not None, TELL_S)
        self._tell(watch)

    def _tell(self, watch: Watch) -> None:
        total = len(self.prompts) * len(self.steps)
        watch("asking", total - self._left, total)

    def next_batch(self) -> tuple[int, list[_Task]] | None:
        """A batched step of which it is known for every prompt what is asked, and its calls in the order of prompts."""
        with self._lock:
            number = self._next_batched()
            return None if number is None else (number, [task for _, task in sorted(self._gathered[number].items())])

    def _next_batched(self) -> int | None:
        for number, gathered in enumerate(self._gathered):
            known = self._batched[number] and self._passed[number] == len(self.prompts)
            if known and any(not self._settled[prompt][number] for prompt in gathered):
                return number
        return None

    def answer_batch(self, number: int, tasks: Sequence[_Task], watch: Watch) -> None:
        """Ask a model on this machine everything that one step wants of it."""
        step = self.steps[number]
        model = self._opened(step.model)
        done = {i for i, task in enumerate(tasks) if self._settled[task.prompt][number]}
        for batch in model.answer([self._ask(task) for task in tasks], step.decode, done):
            for i, answer in batch:
                self._take_in(tasks[i], self._kept_row(tasks[i], answer, model))
            self._tell(watch)
            if self._failure is not None:
                return
        if missing := [task for task in tasks if not self._settled[task.prompt][number]]:
            raise RegistryError(
                f"the backend of {step.model.name} gave no answer to {len(missing)} prompts it was asked"
            )

    def _opened(self, spec: ModelSpec) -> Model:
        """A model on this machine; one at a time is held in memory."""
        if self._local is None or self._local[0] != spec:
            if self._local is not None:
                self._local[1].close()
                self._local = None
            self._local = (spec, open_model(spec, self._runtime))
        return self._local[1]


def _hash(step: Step, messages: Sequence[Message]) -> str:
    return content_hash([to_json(step.decode), to_json(tuple(messages))])[:16]


def _answer(model: Model, ask: Ask, decode: Decode) -> Answer:
    """One answer of a model that several threads may ask."""
    if isinstance(model, EndpointModel):
        return model.ask(ask, decode)
    for batch in model.answer([ask], decode):
        for _, answer in batch:
            return answer
    raise RegistryError(f"the backend of {model.ref.repo} gave no answer to a prompt it was asked")
