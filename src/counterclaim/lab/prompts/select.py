"""Which prompts are put to the models."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from counterclaim.errors import InputError
from counterclaim.lab.config import PromptChoice
from counterclaim.lab.prompts.files import load, of_split
from counterclaim.records import Prompt
from counterclaim.registry import prompt_sets, prompts_of_set


def choose_prompts(choice: PromptChoice, note: Callable[[str], None] | None = None) -> list[Prompt]:
    """The prompts of a file or of a registered set.

    Args:
        choice: which ones; of more than ``limit``, evenly spread ones are taken.
        note: told what was noticed while reading a file.

    Raises:
        InputError: there is no such source, or nothing in it fits.
    """
    source = choice.source
    split: Any = None if choice.split == "all" else choice.split
    found = prompts_of_set(source)
    if found is None:
        there = os.path.exists(source)  # noqa: PTH110  # a sentence is no path, and no reason to raise
        if not there and "." not in source and "/" not in source:
            known = list(prompt_sets())
            near = difflib.get_close_matches(source, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"name a file, or one of {', '.join(known)}"
            raise InputError(f"there are no prompts called {source!r}", remedy=hint)
        found = load(Path(source), note=note)
    found = of_split(found, split, Path(source))
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
