"""Models by name: transformers, OpenAI-compatible endpoints, tiny ones that are trained here.

Importing this registers the built-in backends; what they need is imported when a model is opened.
"""

from __future__ import annotations

from counterclaim.lab.models import endpoint, hf, tiny
from counterclaim.registry import Model, ModelSpec, Runtime, backend_of

__all__ = ["endpoint", "hf", "open_model", "tiny"]


def open_model(spec: ModelSpec, runtime: Runtime | None = None) -> Model:
    """Open a model with the backend that its name asks for, built in or from a plug-in.

    Raises:
        InputError: no backend opens a model of this name.
        ModelError: it cannot be used as asked.
    """
    return backend_of(spec.name).open(spec, runtime or Runtime())
