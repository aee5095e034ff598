"""Prompts: files of several formats, and the sets that ship with the package."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from functools import cache, partial
from pathlib import Path

from counterclaim.errors import InputError
from counterclaim.lab.prompts.files import load, of_split, save
from counterclaim.records import Prompt, Split
from counterclaim.registry import promptset

__all__ = ["SETS", "load", "save", "shipped"]

SETS: Mapping[str, str] = {
    "cooking": "Questions on cooking technique, each with a checklist of three to five claims that a right answer makes.",
    "mcas": "Half tricky prompts (underspecified, false premise, calibration trap), half straightforward ones.",
    "python": "Small Python problems with hidden tests.",
    "recovery": "Questions with one short, undisputed answer, for scripted corrections.",
}
"""The sets that ship with the package: name to what is in it, in one sentence."""

_DATA = Path(__file__).parent / "data"


def shipped(name: str, split: Split | None = None, tags: Collection[str] = ()) -> tuple[Prompt, ...]:
    """The prompts of a set that ships with the package, in the order of its file.

    Args:
        name: one of ``SETS``.
        split: only the prompts of this split (``train``, ``test`` or ``fresh``).
        tags: only the prompts that carry every one of these tags.

    Raises:
        InputError: there is no set of this name, no split of this name, or no prompt with these tags.
    """
    if name not in SETS:
        close = difflib.get_close_matches(name, SETS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise InputError(f"no prompt set {name!r} ships with the package", remedy=f"{hint}there are {', '.join(SETS)}")
    prompts = of_split(_every(name), split, _DATA / f"{name}.jsonl")
    chosen = tuple(prompt for prompt in prompts if set(tags) <= set(prompt.tags))
    if not chosen:
        raise InputError(
            f"no prompt of the set {name!r} has the tags {', '.join(tags)}",
            remedy=f"its tags are {', '.join(_tags_of(prompts))}",
        )
    return chosen


@cache
def _every(name: str) -> tuple[Prompt, ...]:
    return load(_DATA / f"{name}.jsonl")


for _name, _about in SETS.items():
    promptset(_name, about=_about)(partial(_every, _name))


def _tags_of(prompts: tuple[Prompt, ...]) -> list[str]:
    return sorted({tag for prompt in prompts for tag in prompt.tags if not tag.startswith("source-id:")})
