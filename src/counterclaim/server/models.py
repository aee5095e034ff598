"""Any model by its name, behind a local endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import cast, get_args

from counterclaim.errors import InputError
from counterclaim.models import open_model
from counterclaim.registry import ModelSpec, Runtime
from counterclaim.server.faults import Fault, FaultKind
from counterclaim.server.serving import Server, serve


@contextmanager
def serve_model(model: str, port: int, faults: Sequence[tuple[str, int | None]], latency_s: float) -> Iterator[Server]:
    """A model behind a local OpenAI-compatible endpoint that misbehaves on command.

    Args:
        model: any model name; backends of plug-ins and planted worlds must have been imported.
        port: on this machine; a free one for 0.
        faults: what to do wrong, each as often as its count says (always for None).
        latency_s: seconds by which every reply is held back.

    Raises:
        InputError: there is no such model or fault, or the port is taken.
    """
    kinds = get_args(FaultKind)
    for kind, _ in faults:
        if kind not in kinds or kind == "rejects":
            known = ", ".join(name for name in kinds if name != "rejects")
            raise InputError(f"there is no fault {kind!r}", remedy=f"choose among {known}")
    planned = [Fault(cast(FaultKind, kind), times=times) for kind, times in faults]
    with (
        closing(open_model(ModelSpec(model), Runtime())) as opened,
        serve(opened, port=port, model=model, faults=planned, latency_s=latency_s) as server,
    ):
        yield server
