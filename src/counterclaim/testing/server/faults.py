"""What an endpoint can do wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from counterclaim.records import Json

FaultKind = Literal[
    "time-out", "slow", "too-many-requests", "server-error", "unavailable", "unauthorised", "half-json", "no-choices",
    "null-content", "wrong-model", "no-usage", "no-finish-reason", "reset", "content-filter", "invalid-utf8", "rejects",
]  # fmt: skip

STATUS: Mapping[str, tuple[int, str]] = {
    "too-many-requests": (429, "Rate limit reached."),
    "server-error": (500, "The server had an error."),
    "unavailable": (503, "The server is overloaded."),
    "unauthorised": (401, "Incorrect API key provided."),
}
"""Faults that are an error status with a message, before any model is asked."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to misbehave, and when.

    Attributes:
        kind: ``time-out`` holds the request for ``seconds`` and hangs up; ``slow`` holds it and then answers;
            ``reset`` hangs up at once; ``too-many-requests`` (429), ``server-error`` (500), ``unavailable`` (503) and
            ``unauthorised`` (401) are refusals; ``rejects`` (400) refuses requests that hold ``parameter``; all
            others answer with 200 and spoil the reply as they are named.
        times: how many requests it strikes; None for all.
        after: how many requests that it could strike it lets pass first.
        marker: strikes only requests whose body holds this text.
        seconds: how long ``time-out`` and ``slow`` hold a request.
        retry_after: the ``Retry-After`` header of a refusal: seconds or an HTTP date.
        parameter: what ``rejects`` refuses.
    """

    kind: FaultKind
    times: int | None = 1
    after: int = 0
    marker: str | None = None
    seconds: float = 30.0
    retry_after: str | None = None
    parameter: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(FaultKind):
            raise ValueError(f"there is no fault named {self.kind!r}")
        if (self.kind == "rejects") != (self.parameter is not None):
            raise ValueError("the fault 'rejects' names a parameter, and no other does")

    def fits(self, body: Mapping[str, Json]) -> bool:
        """Whether it could strike a request with this body."""
        if self.parameter is not None and self.parameter not in body:
            return False
        return self.marker is None or self.marker in json.dumps(body, ensure_ascii=False)


class Schedule:
    """Decides which fault strikes which request; the caller holds a lock."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._faults = list(faults)
        self._met = [0] * len(self._faults)

    def next(self, body: Mapping[str, Json]) -> Fault | None:
        """The first fault whose turn it is."""
        for at, fault in enumerate(self._faults):
            if fault.fits(body):
                met = self._met[at]
                if fault.times is None or met < fault.after + fault.times:
                    self._met[at] += 1
                    if met >= fault.after:
                        return fault
        return None


def spoil(kind: FaultKind, reply: dict[str, Json]) -> dict[str, Json]:
    """A reply with this fault in it; unchanged where the fault is not one of a reply's content."""
    choice = reply["choices"][0]
    if kind == "no-choices":
        reply["choices"] = []
    elif kind == "null-content" and "message" in choice:
        choice["message"]["content"] = None
    elif kind == "null-content":
        choice["text"] = None
    elif kind == "wrong-model":
        reply["model"] = "another-model"
    elif kind == "no-usage":
        reply.pop("usage", None)
    elif kind == "no-finish-reason":
        choice["finish_reason"] = None
    elif kind == "content-filter":
        choice["finish_reason"] = "content_filter"
    return reply


def garble(kind: FaultKind, body: bytes) -> bytes:
    """The bytes of a reply with this fault in them; unchanged where the fault is not one of bytes."""
    if kind == "half-json":
        return body[: len(body) // 2]
    if kind == "invalid-utf8":
        return body.replace(b'"content": "', b'"content": "\xff\xfe', 1).replace(b'"text": "', b'"text": "\xff\xfe', 1)
    return body
