"""Which prompts are put to the models."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from counterclaim.errors import InputError
from counterclaim.lab import prompts as promptsets
from counterclaim.lab.config import PromptChoice
from counterclaim.lab.models.tiny import boundary_prompts
from counterclaim.lab.models.tiny import prompts as tiny_prompts
from counterclaim.records import Prompt

STRANGERS = "tiny-strangers"


def choose_prompts(choice: PromptChoice, note: Callable[[str], None] | None = None) -> list[Prompt]:
    """The prompts of a file, of a set that ships, of the tiny models' domain or of a planted world (``world:NAME``).

    Of the tiny domain, ``tiny`` asks what there is to know, and ``tiny-strangers`` what nobody knows (split ``train``).

    Args:
        choice: which ones; of more than ``limit``, evenly spread ones are taken.
        note: told what was noticed while reading a file.

    Raises:
        InputError: there is no such source, or nothing in it fits.
    """
    source: Any = choice.source
    split: Any = None if choice.split == "all" else choice.split
    if source == "tiny":
        found: Iterable[Prompt] = tiny_prompts(split)
    elif source == STRANGERS:
        found = [prompt for prompt in boundary_prompts() if split in (None, prompt.split)]
    elif source.startswith("world:"):
        planted = import_module("counterclaim.testing.worlds.backend")
        found = planted.prompts_of(source.removeprefix("world:"))
    elif source in promptsets.SETS:
        found = promptsets.shipped(source, split)
    else:
        known = ["tiny", STRANGERS, *promptsets.SETS]
        there = os.path.exists(source)  # noqa: PTH110  # a sentence is no path, and no reason to raise
        if not there and "." not in source and "/" not in source:
            near = difflib.get_close_matches(source, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"name a file, world:NAME, or one of {', '.join(known)}"
            raise InputError(f"there are no prompts called {source!r}", remedy=hint)
        found = promptsets.load(Path(source), split, note=note)
    wanted, barred = set(choice.tags), set(choice.without)
    chosen = [prompt for prompt in found if wanted <= set(prompt.tags) and not barred & set(prompt.tags)]
    if not chosen:
        without = f", without {', '.join(choice.without)}" if choice.without else ""
        raise InputError(
            f"no prompt of {source} fits (split {split or 'any'}, tags {', '.join(choice.tags) or 'any'}{without})",
            remedy="ask for another split or other tags",
        )
    if choice.limit is None or choice.limit >= len(chosen):
        return chosen
    return [chosen[i * len(chosen) // choice.limit] for i in range(choice.limit)]
