"""Any models by their names, behind one local endpoint."""

from __future__ import annotations

import threading
from collections.abc import Container, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import cast, get_args

from counterclaim.errors import InputError
from counterclaim.lab.models import open_model
from counterclaim.records import Decode, ModelRef
from counterclaim.registry import Answer, Ask, Model, ModelSpec, Runtime, backend_of
from counterclaim.testing.server.faults import Fault, FaultKind
from counterclaim.testing.server.serving import Server, serve


@contextmanager
def serve_models(
    names: Sequence[str],
    port: int,
    faults: Sequence[tuple[str, int | None]],
    latency_s: float,
    *,
    when_asked: bool = False,
) -> Iterator[Server]:
    """Models behind a local OpenAI-compatible endpoint that misbehaves on command, each under its own name.

    A request to one model does not wait for those to others. Models of backends that say ``concurrent`` answer several
    requests at once.

    Args:
        names: any model names; backends of plug-ins and planted worlds must have been imported.
        port: on this machine; a free one for 0.
        faults: what to do wrong, each as often as its count says (always for None).
        latency_s: seconds by which every reply is held back.
        when_asked: open each model when it is first asked. One that cannot be opened then answers 400 with the reason.

    Raises:
        InputError: there is no such model or fault, or the port is taken.
        ModelError: a model cannot be opened, unless ``when_asked``.
    """
    kinds = get_args(FaultKind)
    for kind, _ in faults:
        if kind not in kinds or kind == "rejects":
            known = ", ".join(name for name in kinds if name != "rejects")
            raise InputError(f"there is no fault {kind!r}", remedy=f"choose among {known}")
    planned = [Fault(cast(FaultKind, kind), times=times) for kind, times in faults]
    concurrent = {name for name in names if backend_of(name).concurrent}
    with ExitStack() as stack:
        models = {name: stack.enter_context(closing(_OnDemand(name))) for name in names}
        if not when_asked:
            for model in models.values():
                model.opened()
        yield stack.enter_context(serve(models, port=port, concurrent=concurrent, faults=planned, latency_s=latency_s))


class _OnDemand:
    """A model that is opened when it is first asked."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._model: Model | None = None
        self._opening = threading.Lock()

    def opened(self) -> Model:
        """The model itself."""
        with self._opening:
            if self._model is None:
                self._model = open_model(ModelSpec(self._name), Runtime())
            return self._model

    @property
    def ref(self) -> ModelRef:
        """Of the model itself."""
        return self.opened().ref

    @property
    def chat_template(self) -> str | None:
        """Of the model itself."""
        return self.opened().chat_template

    def answer(
        self, asks: Sequence[Ask], decode: Decode, done: Container[int] = ()
    ) -> Iterator[list[tuple[int, Answer]]]:
        """What the model itself answers."""
        return self.opened().answer(asks, decode, done)

    def close(self) -> None:
        """Close the model if it was opened."""
        if self._model is not None:
            self._model.close()
