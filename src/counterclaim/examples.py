"""Training sets: the examples that a folder of ``counterclaim teach`` or a file of another tool holds."""

from __future__ import annotations

from pathlib import Path

from counterclaim.records import Example, content_hash

FILE = "examples.jsonl"
"""The file of a training-set folder that holds its examples, one record a line."""


def load(path: Path) -> list[Example]:
    """The examples of a training set.

    Raises:
        InputError: there is no training set, or a row of it cannot be used.
    """
    raise NotImplementedError


def hash_of(examples: list[Example]) -> str:
    """SHA-256 over what is learnt, in order; provenance does not count."""
    return content_hash([example.id for example in examples])
