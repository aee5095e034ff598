"""Child processes held to their share of the cores, which end with their parent and can be stopped."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

from counterclaim.errors import CounterclaimError
from counterclaim.registry import PluginWarning, load_plugins, plugin_files

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

KILLED = "The system killed a process, most likely for want of memory"

CONTEXT = get_context("spawn")
"""How processes begin: threads of torch do not outlive a fork."""


def each_done(
    jobs: int, function: Callable[[*Arguments], Result], calls: Sequence[tuple[*Arguments]]
) -> Iterator[Result]:
    """What a function gives for each of some arguments, in the order in which it is done.

    The first error is raised as soon as it is there, and what is under way then is stopped; so it is where the caller leaves
    off, or is interrupted.

    Args:
        jobs: processes; 1 calls in this one, in order.
        function: a plain one, for it is sent to other processes.
        calls: its arguments, for each call.

    Raises:
        CounterclaimError: the system killed a process.
    """
    if jobs == 1 or len(calls) <= 1:
        yield from (function(*call) for call in calls)
        return
    with workers(min(jobs, len(calls))) as pool:
        try:
            for future in as_completed([pool.submit(function, *call) for call in calls]):
                yield future.result()
        except BrokenProcessPool as error:
            raise CounterclaimError(f"{KILLED}; give the same command --jobs 1.") from error


@contextmanager
def workers(
    jobs: int, *, threads: int = 1, begin: Callable[[Any], None] | None = None, queue: Any = None
) -> Iterator[ProcessPoolExecutor]:
    """Processes that are stopped, whatever they do, where the block is left by an error or Ctrl-C.

    Args:
        jobs: how many.
        threads: of linear algebra in each.
        begin: called first in each process.
        queue: what ``begin`` is called with.
    """
    with threads_each(threads):
        pool = ProcessPoolExecutor(jobs, CONTEXT, _begin, (plugin_files(), begin, queue))
        try:
            yield pool
        except BaseException:
            for process in (pool._processes or {}).values():
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def threads_each(many: int) -> Iterator[None]:
    """Keep linear algebra of child processes to so many threads each: the processes together have the cores already."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(many)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def cores() -> int:
    """Cores that this process may use, which in a container or under taskset can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _begin(files: Sequence[Path], begin: Callable[[Any], None] | None, queue: Any) -> None:
    """First thing in a child process: end when the parent does, however that dies, and load the plug-ins that it has loaded.

    A terminal sends Ctrl-C to all processes; the parent ends the others, which have nothing to say to it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with warnings.catch_warnings(category=PluginWarning, action="ignore"):  # the parent has warned already
        load_plugins(files)
    if begin is not None:
        begin(queue)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
