"""What can go wrong, as a tree.

CounterclaimError            the root: one clear sentence, never a traceback at the command line
├── InputError               a file, column or flag that the user gave cannot be used (exit code 2)
│   ├── HostileInputError    the input looks like an attack: a pickle, a zip bomb, a path that climbs out
│   ├── ModelError           a model, an adapter, a device or an endpoint cannot be used as asked
│   └── SandboxError         code that a model wrote cannot be run safely here
├── BudgetSpent              the tokens or the money that were allowed are used up; what was computed is kept
├── RecordError              a record would break its own invariant (a bug in an importer or a backend)
└── RegistryError            a plug-in breaks its contract, or a name is unknown or taken twice
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path


class CounterclaimError(Exception):
    """Root of every error that this package raises on purpose."""


class InputError(CounterclaimError):
    """The user's input cannot be used.

    The message is one sentence that names what is wrong, where, and what to do about it.

    Args:
        problem: what is wrong, without a full stop.
        path: the file it is in.
        line: 1-based line (or row) in that file.
        remedy: what to do, without a full stop; a question keeps its mark.
    """

    def __init__(
        self,
        problem: str,
        *,
        path: Path | str | None = None,
        line: int | None = None,
        remedy: str | None = None,
    ) -> None:
        where = "" if path is None else f"{path}: " if line is None else f"{path}, line {line}: "
        tail = "" if remedy is None else f"; {remedy}"
        sentence = f"{where}{problem}{tail}"
        super().__init__(sentence if sentence.endswith("?") else f"{sentence}.")
        self.problem = problem
        self.path = path
        self.line = line
        self.remedy = remedy

    def __reduce__(self) -> tuple[Callable[[str], InputError], tuple[str]]:
        """Sent from another process it is made of its parts again, and says the same."""
        return partial(type(self), path=self.path, line=self.line, remedy=self.remedy), (self.problem,)


class HostileInputError(InputError):
    """The input looks built to harm the reader, so it was not opened any further."""


class ModelError(InputError):
    """A model, an adapter, a device or an endpoint cannot be used as asked."""


class SandboxError(InputError):
    """Code that a model wrote cannot be run safely here."""


class BudgetSpent(CounterclaimError):
    """The tokens or the money that were allowed are used up; what was computed so far is kept."""


class RecordError(CounterclaimError):
    """A record would break its own invariant."""


class RegistryError(CounterclaimError):
    """A plug-in breaks its contract, or a name is unknown or taken twice."""
