"""Calls of models: each is made once, as many at a time as are allowed, and its answer goes to a journal as it comes.

``ask_all`` makes the calls of a graph of stages, ``ListWriter`` those of a recipe that goes in rounds. In a graph, models that
several threads may ask are asked one call at a time by ``Runtime.concurrency`` workers: no call waits until a stage has
finished all prompts. Other models (transformers on this machine) are asked in batches, each stage
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
from counterclaim.lab.synthesis.replies import ListReply, ending_fault, read_list, thought_of
from counterclaim.records import Call, Decode, Json, Message, Prompt, content_hash, to_json
from counterclaim.registry import Answer, Ask, Model, ModelSpec, Runtime, Watch, backend_of

PROMPTS_AT_ONCE = 4
"""Prompts that are under way for each call under way. Enough that workers never wait for a stage that is not ready; few
enough that a budget which is spent half-way leaves finished examples, and not first stages of everything."""

PROGRESS_S = 0.2
"""Seconds between reports of progress."""


@dataclass(frozen=True, slots=True)
class StageReply:
    """The result of one call of a stage.

    Attributes:
        call: who answered what; ``text`` is raw, thought included.
        failed: why there is no answer at all; a rerun asks again.
        unusable: why the answer cannot be used.
    """

    call: Call
    failed: str | None = None
    unusable: str | None = None

    @property
    def fault(self) -> str | None:
        """Why there is no answer that can be used; None where there is one."""
        return self.failed or self.unusable

    @property
    def visible(self) -> str:
        """The answer without its thought."""
        return thought_of(self.call.text).answer


Replies = Mapping[str, StageReply]
"""The replies to one prompt, by step."""


@dataclass(frozen=True, slots=True)
class CallStep:
    """One call for each prompt.

    Attributes:
        name: under which the call is recorded.
        model: who is asked.
        decode: how it is sampled; its system prompt is in the conversation already.
        request: the messages, given the replies of the steps in ``after``; None where no call is needed.
        after: steps whose usable replies it needs; where one has none, no call is made.
        licence: under which the answer may be used.
        price_in: price of a million prompt tokens, for endpoints.
        price_out: price of a million answered tokens, for endpoints.
        fault_in: why an answer that ended by itself cannot be used, given prompt and answer; None where it can.
    """

    name: str
    model: ModelSpec
    decode: Decode
    request: Callable[[Prompt, Replies], tuple[Message, ...] | None]
    after: tuple[str, ...] = ()
    licence: str | None = None
    price_in: float = 0.0
    price_out: float = 0.0
    fault_in: Callable[[Prompt, str], str | None] = field(default=lambda prompt, text: None)


def ask_all(
    steps: Sequence[CallStep], prompts: Sequence[Prompt], journal: Journal, runtime: Runtime, watch: Watch
) -> dict[str, dict[str, StageReply]]:
    """The replies of every step to every prompt, by prompt id and step; a step without a call is left out.

    Args:
        steps: each after those that it needs.
        prompts: with different ids.
        journal: where every answer goes at once, and where those of earlier runs are.
        runtime: how models are run; its concurrency and its budget hold for all of them together.
        watch: gets how many calls are done or need not be made, and how many there are at most.

    Raises:
        ModelError: a model cannot be opened, or can answer nothing at all.
        BudgetSpent: the budget for tokens or money is used up.
        InputError: the disk is full. What was answered before any of these is in the journal.
    """
    with _CallGraph(steps, prompts, journal, runtime) as graph:
        while graph.left and graph.failure is None:
            if (number := graph.wait()) is not None:
                graph.answer_batch(number, watch)
            graph.show_progress(watch)
    return {prompt.id: replies for prompt, replies in zip(prompts, graph.replies, strict=True)}


@dataclass(frozen=True, slots=True, order=True)
class _ReadyCall:
    """A call whose predecessors have answered; the order is that in which calls are made."""

    rank: int
    prompt: int
    step: int
    messages: tuple[Message, ...] = field(compare=False)


class _CallGraph:
    """Which calls are settled, ready and under way. The lock guards all of it but the journal and the models.

    Workers ask concurrent models; one more thread journals and reads what they were answered, so that no worker waits for
    the disk or a filter; the main thread asks models on this machine.
    """

    def __init__(
        self, steps: Sequence[CallStep], prompts: Sequence[Prompt], journal: Journal, runtime: Runtime
    ) -> None:
        self.replies: list[dict[str, StageReply]] = [{} for _ in prompts]
        self.left = len(prompts) * len(steps)
        self.failure: BaseException | None = None
        self._steps, self._prompts, self._journal, self._runtime = steps, prompts, journal, runtime
        self._kept = {(row["prompt"], row["step"]): row for row in journal.rows}
        at = {step.name: number for number, step in enumerate(steps)}
        self._after = [[at[name] for name in step.after] for step in steps]
        self._followers = [[i for i, after in enumerate(self._after) if number in after] for number in at.values()]
        self._batched = [not backend_of(step.model.name).concurrent for step in steps]
        self._ranks = [0] * len(
            steps
        )  # smallest first: minus the number of calls that depend on it, one after the other
        for number in reversed(at.values()):
            self._ranks[number] = min((self._ranks[follower] for follower in self._followers[number]), default=0) - 1
        self._flowing: list[bool] = []  # neither the step nor any that it needs waits for a batch
        for number, after in enumerate(self._after):
            self._flowing.append(not self._batched[number] and all(self._flowing[i] for i in after))
        self._lock = threading.Condition()
        self._settled = [[False] * len(steps) for _ in prompts]
        self._ready: list[_ReadyCall] = []
        self._gathered: list[dict[int, _ReadyCall]] = [{} for _ in steps]  # calls of batched steps, by prompt
        self._passed = [0] * len(steps)  # prompts for which it is known whether a batched step has a call
        self._admitted = self._open = self._in_flight = 0
        self._admitting = self._stopped = False
        self._models: dict[tuple[ModelSpec, float, float], Model] = {}
        self._local: tuple[ModelSpec, Model] | None = None
        self._answered: queue.SimpleQueue[tuple[_ReadyCall, dict[str, Json]] | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        try:
            self._open_concurrent()
            with self._lock:
                for prompt in range(len(self._prompts)):
                    self._begin(prompt, flowing=False)
                first = self._next_batched()
            if first is not None:  # before any call is paid for, as it may be missing
                self._opened(self._steps[first].model)
            with self._lock:
                self._admit()
        except BaseException:
            self._close()
            raise
        self._reader.start()
        for _ in range(self._runtime.concurrency if not all(self._batched) else 0):
            threading.Thread(target=self._work, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._lock:
            self._stopped = True
            self._lock.notify_all()
            if kind is None or issubclass(kind, Exception):
                self._lock.wait_for(lambda: not self._in_flight)
        self._answered.put(None)
        self._reader.join()  # every answer is on the disk before anything else happens
        self._close()
        if kind is None and self.failure is not None:
            raise self.failure

    def _open_concurrent(self) -> None:
        """Open every model that several threads may ask; one without a price is free where another has one."""
        priced = any(step.price_in or step.price_out for step in self._steps)
        for step, batched in zip(self._steps, self._batched, strict=True):
            key = step.model, step.price_in, step.price_out
            if batched or key in self._models:
                continue
            runtime = replace(self._runtime, price_in=step.price_in, price_out=step.price_out)
            if priced and not (step.price_in or step.price_out):
                runtime = replace(runtime, most_cost=None)
            self._models[key] = open_model(step.model, runtime)

    def _opened(self, spec: ModelSpec) -> Model:
        """A model on this machine; one at a time is in memory."""
        if self._local is None or self._local[0] != spec:
            if self._local is not None:
                self._local[1].close()
                self._local = None
            self._local = spec, open_model(spec, self._runtime)
        return self._local[1]

    def _close(self) -> None:
        for model in (*self._models.values(), *([] if self._local is None else [self._local[1]])):
            model.close()

    # --- the graph; the caller has the lock

    def _admit(self) -> None:
        """Begin prompts, as long as few enough are under way.

        Where an earlier run has answered everything, prompts end as they begin: the loop goes on, and not deeper.
        """
        if self._admitting:
            return
        self._admitting = True
        most = PROMPTS_AT_ONCE * self._runtime.concurrency
        while self._open < most and self._admitted < len(self._prompts):
            prompt = self._admitted
            self._admitted += 1
            self._open += self._is_open(prompt)
            self._begin(prompt, flowing=True)
        self._admitting = False

    def _begin(self, prompt: int, *, flowing: bool) -> None:
        for number, after in enumerate(self._after):
            if not after and self._flowing[number] == flowing:
                self._prepare(prompt, number)

    def _is_open(self, prompt: int) -> bool:
        return any(flows and not done for flows, done in zip(self._flowing, self._settled[prompt], strict=True))

    def _prepare(self, prompt: int, number: int) -> None:
        """A step whose predecessors are settled: without a call, answered by an earlier run, or ready."""
        step, replies = self._steps[number], self.replies[prompt]
        self._passed[number] += 1
        messages = None
        if all(name in replies and replies[name].fault is None for name in step.after):
            messages = step.request(self._prompts[prompt], replies)
        if messages is None:
            self._settle(prompt, number, None)
            return
        call = _ReadyCall(self._ranks[number], prompt, number, messages)
        kept = self._kept.get((self._prompts[prompt].id, step.name))
        if kept is not None and kept["asked"] != _request_hash(step.decode, messages):
            kept = None
        if self._batched[number]:
            self._gathered[number][prompt] = call
        elif kept is None:
            heapq.heappush(self._ready, call)
        if kept is not None:
            self._settle(prompt, number, self._reply(call, kept))

    def _settle(self, prompt: int, number: int, reply: StageReply | None) -> None:
        was_open = prompt < self._admitted and self._is_open(prompt)
        self._settled[prompt][number] = True
        self.left -= 1
        if reply is not None:
            self.replies[prompt][self._steps[number].name] = reply
        for follower in self._followers[number]:
            if all(self._settled[prompt][i] for i in self._after[follower]):
                self._prepare(prompt, follower)
        if was_open and not self._is_open(prompt):
            self._open -= 1
            self._admit()
        self._lock.notify_all()

    def _next_batched(self) -> int | None:
        """A batched step of which it is known for every prompt whether there is a call."""
        for number, gathered in enumerate(self._gathered):
            known = self._batched[number] and self._passed[number] == len(self._prompts)
            if known and any(not self._settled[prompt][number] for prompt in gathered):
                return number
        return None

    # --- one call

    def _ask(self, call: _ReadyCall) -> Ask:
        """Each step draws random numbers of its own, whatever model answers it."""
        return Ask(f"{self._prompts[call.prompt].id}/{self._steps[call.step].name}", call.messages)

    def _row(self, call: _ReadyCall, answer: Answer, model: Model) -> dict[str, Json]:
        step = self._steps[call.step]
        return {
            "prompt": self._prompts[call.prompt].id, "step": step.name, "asked": _request_hash(step.decode, call.messages),
            "model": model.ref.repo or step.model.name, **_answer_row(answer, model, step.price_in, step.price_out),
        }  # fmt: skip

    def _reply(self, call: _ReadyCall, row: Mapping[str, Json]) -> StageReply:
        step = self._steps[call.step]
        record = Call(
            step.name, row["model"], step.licence, row["text"] or "", row.get("prompt_tokens"), row.get("n_tokens"),
            row["cost"],
        )  # fmt: skip
        if row.get("error") is not None:
            return StageReply(record, failed=row["error"])
        if ending := ending_fault(row["finish_reason"], step.decode.max_new_tokens):
            return StageReply(record, unusable=ending.because)
        return StageReply(record, unusable=step.fault_in(self._prompts[call.prompt], record.text))

    def _take_in(self, answered: Sequence[tuple[_ReadyCall, Mapping[str, Json]]]) -> None:
        """Journal calls that were made, but for those that failed, and settle them."""
        self._journal.append(row for _, row in answered if row["error"] is None)
        for call, row in answered:
            reply = self._reply(call, row)  # without the lock, as rules take their time
            with self._lock:
                self._settle(call.prompt, call.step, reply)

    # --- threads

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self.failure = self.failure or error
            self._lock.notify_all()

    def _work(self) -> None:
        """Take what is ready and ask, until there is nothing left."""
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._ready or self._stopped or self.failure or not self.left)
                if self._stopped or self.failure or not self._ready:
                    return
                call = heapq.heappop(self._ready)
                self._in_flight += 1
            try:
                step = self._steps[call.step]
                model = self._models[step.model, step.price_in, step.price_out]
                self._answered.put((call, self._row(call, _one_answer(model, self._ask(call), step.decode), model)))
            except BaseException as error:
                self._fail(error)
            finally:
                with self._lock:
                    self._in_flight -= 1
                    self._lock.notify_all()

    def _read(self) -> None:
        """Take in what workers were answered, all that has come at once: the disk is waited for once."""
        last = False
        while not last:
            answered = [self._answered.get()]
            while not self._answered.empty():
                answered.append(self._answered.get())
            last = None in answered
            try:
                self._take_in([item for item in answered if item is not None])
            except BaseException as error:
                self._fail(error)

    # --- the main thread

    def wait(self) -> int | None:
        """The next batched step; None where there is none yet after a while."""
        with self._lock:
            self._lock.wait_for(lambda: not self.left or self.failure or self._next_batched() is not None, PROGRESS_S)
            return self._next_batched()

    def show_progress(self, watch: Watch) -> None:
        """How many calls are done or need not be made."""
        total = len(self._prompts) * len(self._steps)
        watch("asking", total - self.left, total)

    def answer_batch(self, number: int, watch: Watch) -> None:
        """Ask a model on this machine all calls of one step."""
        step = self._steps[number]
        model = self._opened(step.model)
        with self._lock:
            calls = [call for _, call in sorted(self._gathered[number].items())]  # in the order of prompts
            done = {i for i, call in enumerate(calls) if self._settled[call.prompt][number]}
        for batch in model.answer([self._ask(call) for call in calls], step.decode, done):
            self._take_in([(calls[i], self._row(calls[i], answer, model)) for i, answer in batch])
            self.show_progress(watch)
            if self.failure is not None:
                return
        if missing := sum(not self._settled[call.prompt][number] for call in calls):
            raise RegistryError(f"the backend of {step.model.name} gave no answer to {missing} prompts it was asked")


def _request_hash(*parts: object) -> str:
    return content_hash([to_json(part) for part in parts])[:16]


def _answer_row(answer: Answer, model: Model, price_in: float, price_out: float) -> dict[str, Json]:
    """An answer as it stands in a journal; prices are of a million tokens, and only endpoints cost."""
    cost = 0.0
    if isinstance(model, EndpointModel):
        cost = ((answer.prompt_tokens or 0) * price_in + (answer.n_tokens or 0) * price_out) / 1e6
    return {
        "text": answer.text, "finish_reason": str(answer.finish_reason), "prompt_tokens": answer.prompt_tokens,
        "n_tokens": answer.n_tokens, "cost": cost, "error": answer.error,
    }  # fmt: skip


def _one_answer(model: Model, ask: Ask, decode: Decode) -> Answer:
    """One answer of a model that several threads may ask."""
    if isinstance(model, EndpointModel):
        return model.ask(ask, decode)
    for batch in model.answer([ask], decode):
        for _, answer in batch:
            return answer
    raise RegistryError(f"the backend of {model.ref.repo} gave no answer to a prompt it was asked")


class ListWriter:
    """A model that is asked for lists; earlier replies to the same requests come from the journal.

    A kept reply is used as long as the request is unchanged. Failed calls are not kept. The model is
    opened when there is something to ask.

    Args:
        spec: who is asked.
        decode: how it is sampled.
        journal: where every reply goes as soon as it is there, and where those of earlier runs are.
        runtime: how it is run; every writer that shares it shares its budget.
        watch: gets how many calls of a stage are done.

    Attributes:
        rows: every reply that was used so far, kept or new, as it stands in the journal; failed calls included.
    """

    def __init__(self, spec: ModelSpec, decode: Decode, journal: Journal, runtime: Runtime, watch: Watch) -> None:
        self.spec, self.decode = spec, decode
        self.rows: list[dict[str, Json]] = []
        self._journal, self._runtime, self._watch = journal, runtime, watch
        self._kept = {(row["call"], row["sample"], row["asked"]): row for row in journal.rows}
        self._model: Model | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._model is not None:
            self._model.close()

    def ask(self, stage: str, requests: Sequence[tuple[str, str]], sample: int = 0) -> list[ListReply]:
        """Replies in the order of the requests.

        Args:
            stage: what is being done, for ``watch``; the names of its calls begin with it.
            requests: name of a call (unique within the stage) and its text.
            sample: another number asks the same again, with other random numbers.

        Raises:
            ModelError: the model cannot be opened, or can answer nothing at all.
            BudgetSpent: the budget is used up. What was answered before either of these is in the journal.
            InputError: the journal cannot be written.
        """
        asks = [Ask(f"{stage}/{name}", (Message("user", text),), sample) for name, text in requests]
        rows: list[dict[str, Json] | None] = [self._kept.get(self._key(ask)) for ask in asks]
        done = {i for i, row in enumerate(rows) if row is not None}
        self._watch(stage, len(done), len(asks))
        if len(done) < len(asks):
            model = self._model = self._model or open_model(self.spec, self._runtime)
            for batch in model.answer(asks, self.decode, done):
                made = {i: self._row(asks[i], answer, model) for i, answer in batch}
                self._journal.append(row for row in made.values() if row["error"] is None)
                for i in made:
                    rows[i] = made[i]
                self._watch(stage, sum(row is not None for row in rows), len(asks))
        replies = []
        for row in rows:
            if row is None:
                raise RegistryError(f"the backend of {self.spec.name} gave no answer to a prompt it was asked")
            self.rows.append(row)
            replies.append(read_list(row["text"], row["finish_reason"], row["error"], self.decode.max_new_tokens))
        return replies

    def _key(self, ask: Ask) -> tuple[str, int, str]:
        return ask.key, ask.sample, _request_hash(self.spec.name, self.decode, ask.messages)

    def _row(self, ask: Ask, answer: Answer, model: Model) -> dict[str, Json]:
        call, sample, asked = self._key(ask)
        row = _answer_row(answer, model, self._runtime.price_in, self._runtime.price_out)
        return {"call": call, "sample": sample, "asked": asked, "model": to_json(model.ref), **row}
