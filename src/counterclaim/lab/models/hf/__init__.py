"""The transformers backend: any causal language model from a hub or a folder. Importing it does not import torch."""

from __future__ import annotations

import logging

from counterclaim.errors import ModelError
from counterclaim.registry import Model, ModelSpec, Runtime, backend


def open_hf(spec: ModelSpec, runtime: Runtime) -> Model:
    """Open a causal language model with transformers.

    Raises:
        ModelError: torch and transformers are missing, or the model cannot be used as asked.
    """
    if "#" in spec.name:
        raise ModelError(
            f"{spec.name} reads like an endpoint and does not say how it is reached", remedy="write http:// before it"
        )
    logging.getLogger("huggingface_hub").setLevel(
        logging.ERROR
    )  # its retries say nothing that our own sentence does not
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise ModelError(
            f"models need torch and transformers ({error})", remedy="pip install 'counterclaim[models]'"
        ) from error
    from counterclaim.lab.models.hf.loading import load
    from counterclaim.lab.models.hf.model import HfModel

    return HfModel(load(spec, runtime), runtime)


backend(
    "hf",
    about="Any causal language model of transformers: a hub repository or a folder.",
    can=("generate", "logprobs", "activations", "edit", "train"),
    opens=lambda name: True,
)(open_hf)
