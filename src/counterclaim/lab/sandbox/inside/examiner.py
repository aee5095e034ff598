"""The end of the wire that holds the tests and decides: it runs them, and every answer of the program is data to it."""

from __future__ import annotations

import ast
import builtins
import os
import select
import signal
import symtable
import time
import traceback
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

from counterclaim.lab.sandbox.inside.wire import (
    FRAME,
    NotPlain,
    Peer,
    Remote,
    RemoteError,
    TooDeep,
    WireError,
    call,
    iterate,
)

_PIECE = 1 << 16
_TEXT = 4096  # characters kept of what the program printed, per stream
_TESTS, _SETUP = "<tests>", "<setup>"


class Over(BaseException):
    """The outcome is settled; nothing that the tests catch may change it."""


class Examiner(Peer):
    """Examines the process of one candidate.

    Args:
        candidate: its process id.
        requests: descriptor to write to.
        replies: descriptor to read from.
        printed: descriptors of its standard output and error.
        limits: the fields of ``Limits``.
    """

    def __init__(
        self, candidate: int, requests: int, replies: int, printed: tuple[int, int], limits: Mapping[str, float]
    ) -> None:
        super().__init__(self._write, self._read)
        self._candidate, self._requests, self._replies = candidate, requests, replies
        self._limits = limits
        self._started = time.monotonic()
        self._deadline = self._started + limits["wall_s"]
        self._poll = select.poll()
        for descriptor in (replies, *printed):
            self._poll.register(descriptor, select.POLLIN)
        for descriptor in (requests, replies, *printed):
            os.set_blocking(descriptor, False)
        self._printed = {descriptor: bytearray() for descriptor in printed}
        self._open = {replies, *printed}
        self._unsent, self._unread = bytearray(), bytearray()
        self._received = self._n_printed = 0
        self._settled: tuple[str, str] | None = None
        self._reached = False  # whether the tests have called anything of the program
        self._read_plain = False  # whether a name that the tests want is plain data in the program

    def examine(self, source: str, setup: str, tests: str, entry_point: str | None) -> dict[str, Any]:
        """Load the program, run the tests, end the program: what came of it.

        Returns:
            the fields of ``Execution``: outcome, detail, stdout, stderr, seconds.
        """
        signal.signal(signal.SIGALRM, self._alarm)
        signal.setitimer(signal.ITIMER_REAL, self._limits["wall_s"] + 0.05, 0.5)
        try:
            try:
                outcome, detail = self._run(source, setup, tests, entry_point)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except Over:
            outcome, detail = "error", "the examination ended early"
        except BaseException as error:  # SystemExit of the tests
            outcome, detail = "refused", f"the tests end with {_describe(error)}"
        if self._settled is not None:
            outcome, detail = self._settled
        seconds = time.monotonic() - self._started
        self._end_candidate()
        out, err = (self._text(descriptor) for descriptor in self._printed)
        return {"outcome": outcome, "detail": detail[:500], "stdout": out, "stderr": err, "seconds": seconds}

    def _run(self, source: str, setup: str, tests: str, entry_point: str | None) -> tuple[str, str]:
        try:
            self.ask("load", source)
        except RemoteError as error:
            return _outcome_of(error), f"loading the program: {_describe(error)}"
        try:
            space: dict[str, Any] = {"__name__": "tests", "__builtins__": builtins}
            for code, file in ((setup, _SETUP), (tests, _TESTS)):
                compiled = compile(code, file, "exec")
                for name in _free_names(code):
                    if name not in space:
                        space[name] = self._name(name)
                if file == _TESTS and entry_point is not None:
                    space[entry_point] = self._name(entry_point)
                    if not isinstance(space[entry_point], Remote):
                        return "error", f"the program defines {entry_point}, but as plain data"
                exec(compiled, space)
            if entry_point is not None and callable(space.get("check")) and not _calls_check(tests):
                space["check"](space[entry_point])
        except RemoteError as error:
            where = _line_of(error, tests)
            return _outcome_of(error), f"{_describe(error)}{where}"
        except Exception as error:
            if not self._reached and not self._read_plain:
                return "refused", f"the tests break before they reach the program: {_describe(error)}"
            if isinstance(error, MemoryError):
                return "memory", "the tests ran out of memory"
            failed = isinstance(error, AssertionError)
            return ("failed" if failed else "error"), _describe(error) + _line_of(error, tests)
        if self._reached:
            return "passed", ""
        return "error" if self._read_plain else "refused", "the tests call nothing of the program"

    def ask(self, *request: Any) -> Any:
        """As ``Peer.ask``; notes that the program was used, and settles the matter where it breaks the wire."""
        if self._settled is not None:
            raise Over
        self._reached = self._reached or request[0] not in ("load", "name")
        try:
            return super().ask(*request)
        except NotPlain as error:
            # only what the program returned before can be nested so deeply, so this is no fault of the tests
            outcome = "error" if isinstance(error, TooDeep) else "refused"
            self._settle(outcome, f"the tests hand over what the program's process cannot be given: {error}")
        except WireError as error:
            self._settle("error", f"the program's process does not speak as it should: {error}")

    def answer(self, message: list[Any]) -> Any:
        """The program may call functions and step iterators that the tests handed over, and nothing else."""
        match message:
            case ["call", number, tuple() as args, dict() as kwargs]:
                return call(self.own(number), args, kwargs)
            case ["next", number]:
                return iterate(self.own(number))
            case ["iter", number] if hasattr(self.own(number), "__next__"):
                return self.own(number)
        return super().answer(message)

    def may_lend(self, value: Any) -> bool:
        """Functions and iterators of the tests."""
        return callable(value) or hasattr(value, "__next__")

    def passing(self, error: BaseException) -> None:
        """A settled outcome and a broken wire are not sent on."""
        if isinstance(error, Over | WireError):
            raise error

    def _name(self, name: str) -> Any:
        value = self.ask("name", name)
        self._read_plain = self._read_plain or not isinstance(value, Remote)
        return value

    def _alarm(self, _: int, __: FrameType | None) -> None:
        self._settle("timeout", f"not done after {self._limits['wall_s']:g} s")

    def _settle(self, outcome: str, detail: str) -> None:
        if self._settled is None:
            self._settled = outcome, detail
        raise Over

    def _write(self, data: bytes) -> None:
        self._unsent += data
        self._poll.register(self._requests, select.POLLOUT)
        while self._unsent:
            self._turn()
        self._poll.unregister(self._requests)

    def _read(self) -> bytes:
        while True:
            size = int.from_bytes(self._unread[:FRAME], "big")
            if size > self._limits["answer_mb"] * (1 << 20):
                self._settle("output", f"one answer is larger than {self._limits['answer_mb']:g} MiB")
            if len(self._unread) >= FRAME + size and len(self._unread) >= FRAME:
                body = bytes(self._unread[FRAME : FRAME + size])
                del self._unread[: FRAME + size]
                return body
            self._turn()

    def _turn(self) -> None:
        """Wait for the program's process, and take or give what is ready."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            self._settle("timeout", f"not done after {self._limits['wall_s']:g} s")
        for descriptor, _ in self._poll.poll(max(1, left * 1000)):
            if descriptor == self._requests:
                self._give()
            elif not self._take(descriptor) and descriptor == self._replies:
                self._explain_end()

    def _give(self) -> None:
        try:
            del self._unsent[: os.write(self._requests, self._unsent[:_PIECE])]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self._explain_end()

    def _take(self, descriptor: int) -> bool:
        """Read what is there; False where the other side has closed it."""
        try:
            piece = os.read(descriptor, _PIECE)
        except BlockingIOError:
            return True
        if not piece:
            self._poll.unregister(descriptor)
            self._open.discard(descriptor)
            return False
        if descriptor == self._replies:
            self._received += len(piece)
            self._unread += piece
            if self._received > 8 * self._limits["answer_mb"] * (1 << 20):
                self._settle("output", "the program's answers are too large taken together")
            return True
        self._n_printed += len(piece)
        kept = self._printed[descriptor]
        kept += piece[: max(0, 4 * _TEXT - len(kept))]
        if self._n_printed > self._limits["output_kb"] * 1024:
            self._settle("output", f"the program printed more than {self._limits['output_kb']:g} KiB")
        return True

    def _explain_end(self) -> None:
        """The program's process is gone before the tests are done: say why."""
        status, seconds = self._end_candidate()
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            if number in (signal.SIGKILL, signal.SIGXCPU) and seconds >= self._limits["cpu_s"]:
                self._settle("timeout", f"used more than {self._limits['cpu_s']:g} s of processor time")
            self._settle("killed", f"ended by {signal.Signals(number).name} before the tests were done")
        code = os.waitstatus_to_exitcode(status)
        self._settle("killed", f"the program ended itself (exit code {code}) before the tests were done")

    def _end_candidate(self) -> tuple[int, float]:
        """End the program's process and all that it left: its wait status, and the processor time it used."""
        if self._candidate == 0:
            return 0, 0.0
        candidate, self._candidate = self._candidate, 0
        while self._replies not in self._open and time.monotonic() < self._deadline:  # it is leaving by itself
            if os.waitid(os.P_PID, candidate, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break
            time.sleep(0.0005)
        _kill(candidate)
        _, status, used = os.wait4(candidate, 0)
        for descriptor in self._printed:
            while descriptor in self._open and self._ready(descriptor) and len(self._printed[descriptor]) < 4 * _TEXT:
                try:
                    self._take(descriptor)
                except Over:
                    break
        return status, used.ru_utime + used.ru_stime

    def _ready(self, descriptor: int) -> bool:
        return bool(select.select([descriptor], [], [], 0)[0])

    def _text(self, descriptor: int) -> str:
        return bytes(self._printed[descriptor]).decode("utf-8", "replace")[:_TEXT]


def _kill(candidate: int) -> None:
    """Kill the program's process, and its group where no process namespace ends with it."""
    for kill in (os.killpg, os.kill):
        try:
            kill(candidate, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue  # no such group (any more)


def _calls_check(tests: str) -> bool:
    """Whether the tests call their ``check`` themselves."""
    if "check" not in tests.replace("def check(", "", 1):
        return False  # most tests; parsing costs more than all else that is done with them
    return any(
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "check"
        for node in ast.parse(tests).body
    )


def _free_names(code: str) -> Iterator[str]:
    """Names that some code reads and neither defines nor finds among the builtins."""
    tables = [symtable.symtable(code, _TESTS, "exec")]
    top = tables[0]
    defined = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    seen = set()
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            name = symbol.get_name()
            is_free = symbol.is_referenced() and (table is top or symbol.is_global())
            if is_free and name not in defined and name not in seen and not hasattr(builtins, name):
                seen.add(name)
                yield name


def _outcome_of(error: RemoteError) -> str:
    return "memory" if isinstance(error, MemoryError) else "error"


def _describe(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _line_of(error: BaseException, tests: str) -> str:
    """Where in the tests an exception came up, with the line itself."""
    lines = tests.splitlines()
    # not extract_tb, which reads the source file of every frame
    walked = traceback.walk_tb(error.__traceback__)
    numbers = [number for frame, number in walked if frame.f_code.co_filename == _TESTS]
    number = numbers[-1] if numbers else None
    if number is None or not 0 < number <= len(lines):
        return ""
    return f" (line {number} of the tests: {lines[number - 1].strip()[:200]})"
