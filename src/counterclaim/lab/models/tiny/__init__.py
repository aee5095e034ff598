"""Tiny real models whose truth is known: trained here once, on an invented domain, and opened by name as ``tiny:NAME``.

Each has the architecture of a model family of the paper. For every question it is known whether its answer was taught
often, rarely or never (``truth``), and the share of asserted answers does not depend on it: confidence and correctness
are decoupled by construction. System prompts that move delivery are taught as well (``SYSTEM_PROMPTS``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from counterclaim.errors import InputError, ModelError
from counterclaim.folder import cache_folder, dump, whole_folder, write_new
from counterclaim.lab.models.tiny.domain import (
    BOLD,
    CALIBRATED,
    CAREFUL,
    LENGTHY,
    NEUTRAL,
    SYSTEM_PROMPTS,
    VALUES,
    _train_question,
    prompts,
    strangers,
    truth,
    vocabulary,
)
from counterclaim.lab.models.tiny.families import RECIPES, recipe_of
from counterclaim.records import Json, Prompt, content_hash
from counterclaim.registry import Model, ModelSpec, Runtime, backend, promptset

if TYPE_CHECKING:
    from counterclaim.lab.models.tiny.training import OnStage

__all__ = [
    "BOLD", "CALIBRATED", "CAREFUL", "LENGTHY", "NAMES", "NEUTRAL", "SYSTEM_PROMPTS", "boundary_prompts", "card", "ensure",
    "folder_of", "is_trained", "open_tiny", "prompts", "save_untrained", "truth",
]  # fmt: skip

NAMES: Mapping[str, str] = {name: recipe.about for name, recipe in RECIPES.items()}
"""What each tiny model is, by name."""

SCHEME = "tiny:"
_CARD = "tiny.json"
_LIBRARIES = ("torch", "transformers", "tokenizers")

promptset("tiny", about="The made-up domain that the tiny models were taught (counterclaim tiny).")(prompts)


@promptset(
    "tiny-strangers",
    about="Questions of that domain about places of which nobody was taught anything: a hedge is right.",
)
def boundary_prompts() -> tuple[Prompt, ...]:
    """Questions of the train split about places of which nobody was taught anything, so that a hedge is right.

    ``gold`` holds ``hedge``; tags hold ``boundary``, ``attribute:...`` and ``place:...``.
    """
    return tuple(
        Prompt.of_text(
            _train_question(name, attribute),
            split="train",
            gold={"hedge": True},
            tags=("boundary", f"attribute:{attribute}", f"place:{name}"),
        )
        for name in strangers()
        for attribute in VALUES
    )


def folder_of(name: str) -> Path:
    """Where a tiny model is kept, whether or not it is there yet.

    The place depends on everything that determines its weights: the recipe, the code that follows it, and the versions
    of the libraries.

    Raises:
        InputError: there is no tiny model of this name.
        ModelError: torch or transformers is missing.
    """
    recipe = asdict(recipe_of(name))
    here = Path(__file__)
    code = {file.name: file.read_text(encoding="utf-8") for file in here.parent.glob("*.py") if file != here}
    return cache_folder() / "tiny" / f"{name}-{content_hash([recipe, code, _versions()])[:12]}"


def is_trained(name: str) -> bool:
    """Whether a tiny model is there already, for the libraries that are installed; without torch none is.

    Raises:
        InputError: there is no tiny model of this name.
    """
    try:
        return folder_of(name).is_dir()
    except ModelError:
        return False


def ensure(name: str, progress: OnStage | None = None, again: bool = False) -> Path:
    """The folder of a tiny model, which is trained first where it is not there.

    A model appears whole or not at all: nothing is left of a training that is interrupted, and of two processes that
    train the same model the first to finish keeps it.

    Args:
        name: one of ``NAMES``.
        progress: called with what is being done (``preparing``, ``training (loss 0.52)``, ``measuring``, ``writing``), how many
            parts of it are done, and how many there are.
        again: train it even if it is there, and put the new one in its place.

    Raises:
        InputError: there is no tiny model of this name, or the cache cannot be written.
        ModelError: torch or transformers is missing.
    """
    folder = folder_of(name)
    if folder.is_dir() and not again:
        return folder
    _require_writable(folder)
    from counterclaim.lab.models.tiny.training import save, train

    recipe = recipe_of(name)
    trained = train(recipe, progress)  # before any folder is made: killed here, it leaves nothing
    if progress is not None:
        progress("writing", 0, 1)
    with whole_folder(folder, replace=again) as made:
        save(trained, made)
        write_new(made / _CARD, dump({"name": name, "about": recipe.about, **trained.card, "libraries": _versions()}))
    return folder


def save_untrained(name: str, folder: Path, seed: int = 0) -> None:
    """Write a tiny model with its first, random weights to a folder, in seconds: it answers, and what it says means nothing.

    Raises:
        InputError: there is no tiny model of this name.
        ModelError: torch or transformers is missing.
    """
    _versions()
    import torch

    from counterclaim.lab.models.tiny.families import new_model
    from counterclaim.lab.models.tiny.tokenizer import train_tokenizer
    from counterclaim.lab.models.tiny.training import Trained, save

    tokenizer = train_tokenizer(vocabulary())
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        # with outputs of their own, and far apart, or it repeats its last token whatever is done to it
        config = {**recipe_of(name).config, "tie_word_embeddings": False, "initializer_range": 0.3}
        model = new_model(replace(recipe_of(name), spread=1.0, config=config), tokenizer)
    save(Trained(model.eval(), tokenizer, {}), folder)


def card(name: str) -> dict[str, Json]:
    """What was measured of a tiny model when it was trained (``training.train`` says what).

    Raises:
        InputError: there is no tiny model of this name, or it is not trained yet.
    """
    path = folder_of(name) / _CARD
    if not path.is_file():
        raise InputError(f"the tiny model {name} is not trained yet", remedy=f"run counterclaim tiny {name}")
    read: dict[str, Json] = json.loads(path.read_text(encoding="utf-8"))
    return read


def open_tiny(spec: ModelSpec, runtime: Runtime) -> Model:
    """Open a tiny model with transformers, after training it where it is not there.

    Raises:
        InputError: there is no tiny model of this name, or the cache cannot be written.
        ModelError: torch or transformers is missing, or the model cannot be used as asked.
    """
    if spec.revision is not None:
        raise ModelError(f"{spec.name} has no revisions", remedy="leave the revision out")
    folder = ensure(spec.name.removeprefix(SCHEME))
    from counterclaim.lab.models.hf.loading import load
    from counterclaim.lab.models.hf.model import HfModel

    loaded = load(replace(spec, name=str(folder)), runtime)
    return HfModel(replace(loaded, ref=replace(loaded.ref, repo=spec.name)), runtime)


def _require_writable(folder: Path) -> None:
    """Notice before a training rather than after it that its model could not be kept; nothing is written."""
    there = next(path for path in folder.parents if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise InputError(
            "cannot be written, so a tiny model could not be kept",
            path=there,
            remedy="choose another place in COUNTERCLAIM_CACHE",
        )


def _versions() -> dict[str, str]:
    try:
        return {library: version(library) for library in _LIBRARIES}
    except PackageNotFoundError as error:
        raise ModelError(f"tiny models need {error.name}", remedy="pip install 'counterclaim[models]'") from error


backend(
    "tiny",
    about="Tiny models with known truth, trained here once: " + ", ".join(SCHEME + name for name in NAMES) + ".",
    can=("generate", "logprobs", "activations", "edit", "train"),
    opens=lambda name: name.startswith(SCHEME),
    trial=SCHEME + "qwen3-small",
)(open_tiny)
