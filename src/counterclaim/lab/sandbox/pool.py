"""A pool of sandboxes that run programs, several at once."""

from __future__ import annotations

import functools
import json
import os
import platform
import socket
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self, get_args

from counterclaim.errors import SandboxError
from counterclaim.lab.sandbox import bubblewrap
from counterclaim.lab.sandbox.programs import Execution, Limits, Outcome, Program
from counterclaim.records import Json

DEFAULT = Limits()
_FRAME = 4  # bytes of the length in front of a message, big-endian
_LARGEST_PROGRAM = 1 << 20  # characters
_LARGEST_VERDICT = 1 << 20  # bytes that are read of a worker's answer
_START_S = 20.0
_GRACE_S = 3.0  # beyond the wall limit, before a worker counts as stalled


class Pool:
    """Runs programs in sandboxes. A context manager; ``run`` may be called from several threads.

    Each worker is a Python process inside one bubblewrap. It forks two processes for a program: the examiner, which
    holds the tests and decides, and the candidate, which holds the program and lives behind namespaces, limits and a
    filter of its own that end with it.

    Args:
        workers: programs that run at once; as many as there are processors when None.
        limits: what one program may use.
        unsafe_local: run without a sandbox, held by resource limits alone; every ``Execution`` is marked ``unsafe``.

    Raises:
        SandboxError: there is no sandbox here; the message says what to install.
    """

    def __init__(self, workers: int | None = None, limits: Limits = DEFAULT, unsafe_local: bool = False) -> None:
        if workers is not None and workers < 1:
            raise SandboxError(f"a pool of {workers} workers runs nothing", remedy="give 1 or more")
        if not unsafe_local and (problem := available()) is not None:
            what, _, remedy = problem.partition("; ")
            raise SandboxError(what, remedy=f"{remedy}, or run without a sandbox by --unsafe-local")
        self.limits = limits
        self.unsafe = unsafe_local
        self._here = threading.local()  # the worker of each thread
        self._workers: list[_Worker] = []
        self._lock = threading.Lock()
        # bubblewrap ends with the thread that started it, so each thread of the pool keeps one worker
        self._threads = ThreadPoolExecutor(workers or os.cpu_count() or 1, thread_name_prefix="sandbox")

    @property
    def notes(self) -> tuple[str, ...]:
        """What a report should say about the walls, as sentences; empty where nothing is missing."""
        if self.unsafe:
            return ("Programs ran without a sandbox (--unsafe-local): resource limits alone held them.",)
        if not bubblewrap.has_seccomp():
            return (f"Programs ran without a seccomp filter, because there is none for {platform.machine()}.",)
        return ()

    def run(self, program: Program) -> Execution:
        """Run one program with its tests, and wait for what comes of it."""
        return self._threads.submit(self._run, program).result()

    def map(self, programs: Iterable[Program]) -> Iterator[Execution]:
        """Run programs side by side; what came of them, in their order."""
        return self._threads.map(self._run, programs)

    def close(self) -> None:
        """End all workers; what waits is not run any more."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, program: Program) -> Execution:
        if len(program.source) > _LARGEST_PROGRAM:
            return Execution("error", f"the program has more than {_LARGEST_PROGRAM:,} characters")
        try:
            return self._worker().examine(program)
        except _WorkerLost:
            self._replace()
        try:  # once more, in a new worker that has run nothing else
            return self._worker().examine(program)
        except _WorkerLost as lost:
            self._replace()
            return Execution(lost.outcome, f"twice, {lost}", unsafe=self.unsafe)

    def _worker(self) -> _Worker:
        worker: _Worker | None = getattr(self._here, "worker", None)
        if worker is None:
            worker = _Worker(self.limits, self.unsafe)
            with self._lock:
                self._workers.append(worker)
            self._here.worker = worker
        return worker

    def _replace(self) -> None:
        worker: _Worker = self._here.worker
        self._here.worker = None
        with self._lock:
            self._workers.remove(worker)
        worker.end()


def available() -> str | None:
    """None where programs can be run in a sandbox here; else what is missing, and after "; " what to do about it."""
    return bubblewrap.missing() or _tried()


@functools.cache
def _tried() -> str | None:
    """Run one program, once per process: only that shows that the walls can be built."""
    program = Program("def one():\n    return 1\n", "assert one() == 1")
    try:
        worker = _Worker(Limits(), unsafe=False)
    except SandboxError as error:
        return str(error).rstrip(".")
    try:
        found = worker.examine(program)
    except _WorkerLost:
        return bubblewrap.explain(worker.last_words())
    finally:
        worker.end()
    return (
        None if found.passed else f"a program that is right did not pass in the sandbox ({found.detail}); report this"
    )


class _WorkerLost(Exception):
    """A worker died or stalled over a program."""

    def __init__(self, message: str, outcome: Outcome) -> None:
        super().__init__(message)
        self.outcome: Outcome = outcome


class _Worker:
    """One worker process and the socket to it."""

    def __init__(self, limits: Limits, unsafe: bool) -> None:
        self._limits, self._unsafe = limits, unsafe
        self._folder = tempfile.TemporaryDirectory(prefix="counterclaim-unsafe-") if unsafe else None
        self._socket, theirs = socket.socketpair()
        with theirs:
            if self._folder is not None:
                self._process = bubblewrap.start_bare(theirs, limits, Path(self._folder.name))
            else:
                self._process = bubblewrap.start_walled(theirs, limits)
        try:
            self._receive(time.monotonic() + _START_S)
        except _WorkerLost:
            words = self.last_words()
            self.end()
            what, _, remedy = bubblewrap.explain(words).partition("; ")
            raise SandboxError(what, remedy=remedy) from None

    def examine(self, program: Program) -> Execution:
        """Run one program.

        Raises:
            _WorkerLost: the worker died or stalled.
        """
        deadline = time.monotonic() + self._limits.wall_s + _GRACE_S
        self._send(asdict(program), deadline)
        found = self._receive(deadline)
        if found.get("outcome") not in get_args(Outcome):
            raise _WorkerLost("the examiner gave no verdict", "killed")
        return Execution(unsafe=self._unsafe, **found)

    def last_words(self) -> str:
        """What the process wrote to its standard error, after it has been ended."""
        self._process.kill()
        return self._process.communicate()[1].decode("utf-8", "replace")

    def end(self) -> None:
        """End the process and all that runs in it."""
        self._socket.close()
        self._process.kill()
        self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()
        if self._folder is not None:
            self._folder.cleanup()

    def _send(self, message: dict[str, Json], deadline: float) -> None:
        body = json.dumps(message).encode("ascii")
        self._socket.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            self._socket.sendall(len(body).to_bytes(_FRAME, "big") + body)
        except TimeoutError:
            raise _WorkerLost("the sandbox stalled", "timeout") from None
        except OSError:
            raise _WorkerLost("the sandbox died", "killed") from None

    def _receive(self, deadline: float) -> dict[str, Any]:
        size = int.from_bytes(self._exactly(_FRAME, deadline), "big")
        if size > _LARGEST_VERDICT:
            raise _WorkerLost("the sandbox sent more than a verdict", "killed")
        try:
            message = json.loads(self._exactly(size, deadline))
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise _WorkerLost("the sandbox sent no verdict", "killed")
        return message

    def _exactly(self, size: int, deadline: float) -> bytes:
        got = bytearray()
        while len(got) < size:
            self._socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                piece = self._socket.recv(size - len(got))
            except TimeoutError:
                raise _WorkerLost("the sandbox stalled", "timeout") from None
            except OSError:
                piece = b""
            if not piece:
                raise _WorkerLost("the sandbox died", "killed")
            got += piece
        return bytes(got)
