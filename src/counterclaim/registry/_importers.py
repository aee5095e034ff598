"""What an importer is: one format of result files, how a file is recognised, and how its rows become records."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from counterclaim.errors import RegistryError

if TYPE_CHECKING:
    from counterclaim.importers import Collector, InputFile

Sniff = Callable[["InputFile"], bool]
Read = Callable[["InputFile", "Collector"], None]
Ids = Literal["row", "question", "shared"]
_NAME = re.compile(r"[a-z][a-z0-9.-]*")


@dataclass(frozen=True, slots=True)
class Importer:
    """A registered importer.

    Attributes:
        name: what ``--format`` calls the format.
        about: which files it reads, in one line.
        sniff: whether a file is of this format, from its kind and first rows; raises nothing but InputError.
        read: hands every answer and score of the file to the collector; raises nothing but InputError, which
            ``Collector.fail`` makes.
        ids: what an id names. ``row``: one row, so that a second row with the same id is refused. ``question``: a
            question, so that rows with one id are samples of it. ``shared``: the same, and the whole field knows the
            question by this name (``HumanEval/3``), so that rows may be paired by it where the file gives no prompt.
    """

    name: str
    about: str
    sniff: Sniff
    read: Read
    ids: Ids = "question"


_IMPORTERS: dict[str, Importer] = {}


def importer(name: str, *, about: str, sniff: Sniff, ids: Ids = "question") -> Callable[[Read], Importer]:
    """Register a function that reads files of one format as an importer; arguments are those of ``Importer``.

    Raises:
        RegistryError: the name is malformed or taken.
    """

    def register(read: Read) -> Importer:
        if not _NAME.fullmatch(name):
            raise RegistryError(f"importer name {name!r} is not lower-case-with-hyphens")
        if name in _IMPORTERS:
            raise RegistryError(f"an importer named {name!r} is registered already")
        _IMPORTERS[name] = Importer(name, about, sniff, read, ids)
        return _IMPORTERS[name]

    return register


def importers() -> Mapping[str, Importer]:
    """All importers by name: the built-in ones (once ``counterclaim.importers`` was imported), then those of plug-ins."""
    return dict(_IMPORTERS)
