"""Models by name: transformers, OpenAI-compatible endpoints, tiny ones that are trained here."""

from __future__ import annotations

from counterclaim.models import hf
from counterclaim.registry import Model, ModelSpec, Runtime, backend_of, load_plugins

__all__ = ["hf", "open_model"]


def open_model(spec: ModelSpec, runtime: Runtime | None = None) -> Model:
    """Open a model with the backend that its name asks for, built in or from a plug-in.

    Raises:
        InputError: no backend opens a model of this name.
        ModelError: it cannot be used as asked.
    """
    load_plugins()
    return backend_of(spec.name).open(spec, runtime or Runtime())
