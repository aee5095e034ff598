"""Work of a series in its order: what it needs is made first, and what may run beside each other does."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from queue import Empty
from typing import Any, Protocol

from counterclaim.experiment import Watchers
from counterclaim.records import Json

Watch = Callable[[str, str, int | None, int | None], None]
"""Told the task, what is being done, how much of it is done and how much there is; done and total None where unknown."""

TOLD_EVERY_S = 0.2
DONE = "done"
"""What a watch is told last of every task."""


class Work(Protocol):
    """What a task does; a plain function with its arguments, because it may be sent to another process."""

    def __call__(self, watchers: Watchers) -> dict[str, Json]: ...


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

    A task whose need has failed is not begun, and fails as that did. With one job everything is done in this process.

    Args:
        tasks: what is to be done; needs come before what needs them.
        jobs: tasks at once, each in a process of its own.
        watch: told how far each is.
    """
    if jobs == 1:
        yield from _one_by_one(tasks, watch)
        return
    with _workers(jobs) as (pool, told):
        waiting, failed = list(tasks), dict[str, Exception]()
        done: set[str] = set()
        running: dict[Future[dict[str, Json]], Task] = {}
        while waiting or running:
            for task in [task for task in waiting if task.needs & failed.keys()]:
                waiting.remove(task)
                failed[task.name] = failed[min(task.needs & failed.keys())]
                yield task.name, failed[task.name]
            held = frozenset[str]().union(*(task.holds for task in running.values()))
            for task in [task for task in waiting if task.needs <= done]:
                if len(running) < jobs and not task.holds & held:
                    waiting.remove(task)
                    held |= task.holds
                    running[pool.submit(_work, task)] = task
            ended, _ = wait(running, timeout=TOLD_EVERY_S, return_when=FIRST_COMPLETED)
            _pass_on(told, watch)
            for future in ended:
                task = running.pop(future)
                outcome = _outcome(future)
                if isinstance(outcome, Exception):
                    failed[task.name] = outcome
                else:
                    done.add(task.name)
                watch(task.name, DONE, None, None)
                yield task.name, outcome


def _one_by_one(tasks: Sequence[Task], watch: Watch) -> Iterator[tuple[str, dict[str, Json] | Exception]]:
    failed: dict[str, Exception] = {}
    for task in tasks:
        outcome: dict[str, Json] | Exception
        if broken := task.needs & failed.keys():
            outcome = failed[min(broken)]
        else:
            try:
                outcome = task.work(_watchers(task.name, watch))
            except Exception as error:
                outcome = error
        if isinstance(outcome, Exception):
            failed[task.name] = outcome
        watch(task.name, DONE, None, None)
        yield task.name, outcome


def _outcome(future: Future[dict[str, Json]]) -> dict[str, Json] | Exception:
    try:
        return future.result()
    except Exception as error:
        return error


def _watchers(name: str, watch: Watch) -> Watchers:
    """Watchers that tell everything in the one form that a watch takes."""
    return Watchers(
        stage=lambda what, done: watch(name, what, done, None),
        part=lambda what, done, total: watch(name, what, done, total),
        answers=lambda tally: watch(name, f"answering, {tally.arm}", tally.done, tally.total),
        scores=lambda tally: watch(name, f"scoring with {tally.instrument}", tally.done, tally.total),
    )


# processes ------------------------------------------------------------------------------------------------------


@contextmanager
def _workers(jobs: int) -> Iterator[tuple[ProcessPoolExecutor, Any]]:
    """Processes, one for each job, and the queue by which they tell how far they are."""
    context = get_context("spawn")  # threads of torch do not outlive a fork
    told = context.Queue()
    with _threads(max((os.cpu_count() or 1) // jobs, 1)):
        pool = ProcessPoolExecutor(jobs, context, _begin, (told,))
        try:
            yield pool, told
        except BaseException:  # what is under way is kept by the studies themselves
            for process in (pool._processes or {}).values():
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _threads(many: int) -> Iterator[None]:
    """Give child processes their share of the cores."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: value or str(many) for name, value in before.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]


_told: Any = None


def _begin(told: Any) -> None:
    """First thing in a child process: remember whom to tell, and end when the parent does, however that dies."""
    global _told
    _told = told
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _work(task: Task) -> dict[str, Json]:
    def watch(name: str, what: str, done: int | None, total: int | None) -> None:
        _told.put((name, what, done, total))

    return task.work(_watchers(task.name, watch))


def _pass_on(told: Any, watch: Watch) -> None:
    """What was told since last time; only the newest of each task."""
    newest: dict[str, tuple[str, str, int | None, int | None]] = {}
    try:
        while True:
            said = told.get_nowait()
            newest[said[0]] = said
    except Empty:
        pass
    for said in newest.values():
        watch(*said)
