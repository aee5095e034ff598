"""Work of a series in its order: what it needs is made first, and what may run beside each other does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from queue import Empty
from typing import Any, Protocol

from counterclaim.errors import CounterclaimError
from counterclaim.lab.answers import Progress
from counterclaim.lab.workers import CONTEXT, KILLED, cores, workers
from counterclaim.records import Json

Watch = Callable[[str, str, int | None, int | None], None]
"""Told the task, what is being done, how much of it is done and how much there is; done and total None where unknown."""

TOLD_EVERY_S = 0.2
DONE, FAILED = "done", "could not be done"
"""The last word of every task to a watch: one or the other."""


class Work(Protocol):
    """What a task does; a plain function with its arguments, because it may be sent to another process."""

    def __call__(self, watchers: Progress) -> dict[str, Json]: ...


@dataclass(frozen=True, slots=True)
class Task:
    """A piece of work.

    Attributes:
        name: of the task.
        work: what it does.
        needs: tasks that have to be done before it.
        holds: what no two tasks may use at once.
    """

    name: str
    work: Work
    needs: frozenset[str] = field(default=frozenset())
    holds: frozenset[str] = field(default=frozenset())


def run_tasks(tasks: Sequence[Task], jobs: int, watch: Watch) -> Iterator[tuple[str, dict[str, Json] | Exception]]:
    """Do all tasks, in order as far as their needs allow; yields the name of each and what came of it as it is done.

    A task whose need has failed is not begun, and fails as that did. With one job everything is done in this process. Where the
    system kills one of several processes, no other is begun, and those under way fail with it.

    Args:
        tasks: what is to be done; needs come before what needs them.
        jobs: tasks at once, each in a process of its own.
        watch: called with how far each is.
    """
    if jobs == 1:
        yield from _one_by_one(tasks, watch)
        return
    queue = CONTEXT.Queue()
    with workers(jobs, threads=max(cores() // jobs, 1), begin=_begin, queue=queue) as pool:
        waiting, failed, done = list(tasks), dict[str, Exception](), set[str]()
        running: dict[Future[dict[str, Json]], Task] = {}
        killed: Exception | None = None
        while waiting or running:
            for task in list(waiting):
                if cause := killed or _cause(task, failed):
                    waiting.remove(task)
                    failed[task.name] = cause
                    watch(task.name, FAILED, None, None)
                    yield task.name, cause
            held = frozenset[str]().union(*(task.holds for task in running.values()))
            for task in [task for task in waiting if task.needs <= done]:
                if len(running) < jobs and not task.holds & held:
                    waiting.remove(task)
                    held |= task.holds
                    running[pool.submit(_work, task)] = task
            ended, _ = wait(running, timeout=TOLD_EVERY_S, return_when=FIRST_COMPLETED)
            _pass_on(queue, watch)
            for future in ended:
                task = running.pop(future)
                outcome = _outcome(future.result)
                if isinstance(outcome, BrokenProcessPool):
                    outcome = killed = CounterclaimError(_KILLED)
                if isinstance(outcome, Exception):
                    failed[task.name] = outcome
                else:
                    done.add(task.name)
                watch(task.name, FAILED if task.name in failed else DONE, None, None)
                yield task.name, outcome


_KILLED = f"{KILLED}; what was finished is kept, and the same command goes on from there: give it --jobs 1."


def _one_by_one(tasks: Sequence[Task], watch: Watch) -> Iterator[tuple[str, dict[str, Json] | Exception]]:
    failed: dict[str, Exception] = {}
    for task in tasks:
        outcome = _cause(task, failed) or _outcome(partial(task.work, _watchers(task.name, watch)))
        if isinstance(outcome, Exception):
            failed[task.name] = outcome
        watch(task.name, FAILED if task.name in failed else DONE, None, None)
        yield task.name, outcome


def _cause(task: Task, failed: Mapping[str, Exception]) -> Exception | None:
    """What broke the first thing that a task needs and that broke."""
    return next((failed[need] for need in sorted(task.needs) if need in failed), None)


def _outcome(work: Callable[[], dict[str, Json]]) -> dict[str, Json] | Exception:
    try:
        return work()
    except Exception as error:
        return error


def _watchers(name: str, watch: Watch) -> Progress:
    """Progress that tell everything in the one form that a watch takes."""
    return Progress(
        stage=lambda what, done: watch(name, what, done, None),
        part=lambda what, done, total: watch(name, what, done, total),
        answers=lambda tally: watch(name, f"answering, {tally.arm}", tally.done, tally.total),
        scores=lambda tally: watch(name, f"scoring with {tally.scorer}", tally.done, tally.total),
    )


# processes ------------------------------------------------------------------------------------------------------


_queue: Any = None


def _begin(queue: Any) -> None:
    """In a child process: remember whom to tell."""
    global _queue
    _queue = queue


def _work(task: Task) -> dict[str, Json]:
    def watch(name: str, what: str, done: int | None, total: int | None) -> None:
        _queue.put((name, what, done, total))

    return task.work(_watchers(task.name, watch))


def _pass_on(queue: Any, watch: Watch) -> None:
    """What was reported since last time; only the newest of each task."""
    newest: dict[str, tuple[str, str, int | None, int | None]] = {}
    try:
        while True:
            one = queue.get_nowait()
            newest[one[0]] = one
    except Empty:
        pass
    for one in newest.values():
        watch(*one)
