"""A program to be tested, the limits it runs under, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["passed", "failed", "error", "timeout", "memory", "output", "killed", "refused"]
"""What came of a program.

``passed``: the tests ran to their end. ``failed``: an assertion of the tests did not hold. ``error``: the program is
too large or could not be loaded, raised an exception that the tests did not expect, or returned what cannot be examined.
``timeout``: wall or processor time ran out. ``memory``: memory ran out. ``output``: it printed or returned too much.
``killed``: it ended before the tests were done, by a signal or by itself. ``refused``: nothing is known of the
program, because the tests themselves are broken, or hand over what plain data cannot carry; no program can bring this
about, so that none can make itself unscored.
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use.

    Attributes:
        wall_s: seconds from the program's start to the end of its tests.
        cpu_s: seconds of processor time; at most one more is used before the system steps in.
        memory_mb: address space of each process, MiB.
        processes: processes and threads at once.
        file_mb: size of a file, MiB.
        tmp_mb: size of the private /tmp, MiB; it is held in memory.
        open_files: descriptors of each process.
        output_kb: what it may print, KiB, both streams together.
        answer_mb: size of one value that it returns, as it travels, MiB.
    """

    wall_s: float = 5.0
    cpu_s: float = 5.0
    memory_mb: int = 512
    processes: int = 8
    file_mb: int = 8
    tmp_mb: int = 16
    open_files: int = 64
    output_kb: int = 256
    answer_mb: int = 8


@dataclass(frozen=True, slots=True)
class Program:
    """A program with the tests that it must pass.

    The program runs in a process of its own and the tests in another, the examiner, which calls the program's functions
    through a pipe. Arguments and results cross as plain data: None, bool, int, float, complex, str, bytes, list, tuple,
    dict, set, frozenset, range, dict keys and builtin types; a subclass of one of these crosses as the builtin. What
    the tests want of any other object is asked for through the pipe: an iterator or generator is stepped, a function or
    a class called, an attribute read or set, and functions and iterators of the tests can be handed to the program.
    Such an object equals nothing but itself, whatever its ``__eq__`` says. Lists, dicts and sets that the program
    changes in place are changed in the tests too.

    Attributes:
        source: the program, a Python module. It is not run as ``__main__``.
        tests: Python code that raises where the program is wrong: asserts, or a function ``check(candidate)``, which
            is called with the entry point. Names that it does not define are taken from the program.
        entry_point: name of the function under test; not needed where the tests call it by name.
        setup: trusted code that is run before the tests in their own process, such as the prompt of a task with its
            imports and helper functions.
    """

    source: str
    tests: str
    entry_point: str | None = None
    setup: str = ""


@dataclass(frozen=True, slots=True)
class Execution:
    """What came of a program.

    Attributes:
        outcome: see ``Outcome``.
        detail: why it is not ``passed``, with the line of the tests; "" where there is nothing to say.
        stdout: the beginning of what the program printed (4,096 characters).
        stderr: the same of its standard error.
        seconds: wall time, from the program's start to the verdict.
        unsafe: it ran without a sandbox.
    """

    outcome: Outcome
    detail: str = ""
    stdout: str = ""
    stderr: str = ""
    seconds: float = 0.0
    unsafe: bool = False

    @property
    def passed(self) -> bool:
        """Whether all tests passed."""
        return self.outcome == "passed"
