"""The end of the wire at which the solution lives. Whatever happens to this process, it can only answer wrongly."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import Any

from counterclaim.lab.sandbox.inside.wire import FRAME, Peer, call, iterate

SOLUTION = "solution"
_DRAWING = ("random", "statistics")  # the modules whose draws can be seeded; loading them costs every fork


class Candidate(Peer):
    """Serves the names of one module.

    Args:
        requests: descriptor to read from.
        replies: descriptor to write to.
    """

    def __init__(self, requests: int, replies: int) -> None:
        super().__init__(self._write, self._read)
        self._requests, self._replies = requests, replies
        self._module = ModuleType(SOLUTION)

    def answer(self, message: list[Any]) -> Any:
        """Load the solution, or use what it defines."""
        match message:
            case ["load", source]:
                sys.modules[SOLUTION] = self._module
                if any(word in source for word in _DRAWING):
                    importlib.import_module("random").seed(0)  # a verdict must not depend on chance
                exec(compile(source, f"<{SOLUTION}>", "exec"), self._module.__dict__)
                return None
            case ["name", name]:
                if name not in self._module.__dict__:
                    raise NameError(f"the program does not define {name}")
                return self._module.__dict__[name]
            case ["call", number, args, kwargs]:
                return call(self.own(number), args, kwargs)
            case ["iter", number]:
                return iter(self.own(number))
            case ["next", number]:
                return iterate(self.own(number))
            case ["get", number, name]:
                return getattr(self.own(number), name)
            case ["set", number, name, value]:
                return setattr(self.own(number), name, value)
        return super().answer(message)

    def may_lend(self, value: Any) -> bool:
        """Anything may be referred to: what is done with it is done here."""
        return True

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._replies, data) :]

    def _read(self) -> bytes:
        return self._exactly(int.from_bytes(self._exactly(FRAME), "big"))

    def _exactly(self, size: int) -> bytes:
        got = bytearray()
        while len(got) < size:
            piece = os.read(self._requests, size - len(got))
            if not piece:
                raise EOFError("the examiner is gone")
            got += piece
        return bytes(got)
