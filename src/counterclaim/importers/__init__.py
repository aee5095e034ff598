"""Results of any harness -> records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, TypeVar

from counterclaim.errors import InputError
from counterclaim.importers.columns import parse_mapping
from counterclaim.importers.formats import FORMATS, IMPORTERS, Importer, detect_file
from counterclaim.importers.imported import Imported, Limits, Request, Source
from counterclaim.importers.locate import results_file
from counterclaim.importers.reading import InputFile
from counterclaim.importers.training import load_training_texts
from counterclaim.importers.values import listing

__all__ = [
    "FORMATS",
    "IMPORTERS",
    "Imported",
    "Importer",
    "Limits",
    "Source",
    "detect",
    "load",
    "load_training_texts",
    "parse_mapping",
]
from counterclaim.records import ArmId

T = TypeVar("T")


def detect(path: Path) -> str:
    """Name of the format of a file (or of the one result file in a folder).

    Raises:
        InputError: it cannot be read or is in no known format.
    """
    return _guarded(path, lambda: detect_file(InputFile(results_file(path), Limits())))


def load(
    path: Path,
    *,
    arm: ArmId | str,
    format: str | None = None,
    mapping: Mapping[str, str] | None = None,
    rows: str | None = None,
    pair_by: Literal["prompt", "id"] = "prompt",
    replicate: str = "",
    need_pairs: bool = True,
    limits: Limits | None = None,
) -> Imported:
    """Read one file of results as the records of one arm.

    Args:
        path: the file, or a folder with exactly one file of results.
        arm: the arm that these answers belong to; of a file with a column ``arm`` only its rows are kept.
        format: one of ``FORMATS``; recognised where None (a plain table where a mapping is given).
        mapping: {field: column} of a plain table (``parse_mapping``).
        rows: key of the list of rows inside a JSON document (plain tables).
        pair_by: whether a prompt's identity is its content or the file's own id.
        replicate: the training or sampling seed that this file stands for.
        need_pairs: False where nothing will be paired: rows may then have neither prompt nor id.
        limits: how much may be read; ``Limits()`` where None.

    Raises:
        InputError: the file, a row, a value or an argument cannot be used; the sentence says which and what to do.
        HostileInputError: the file looks built to harm its reader.
    """
    mapping = dict(mapping or {})
    if format is not None and format not in IMPORTERS:
        raise InputError(f"there is no format {format!r}", remedy=f"formats are {listing(IMPORTERS, 30)}")
    limits = limits or Limits()

    def read() -> Imported:
        file = InputFile(results_file(path), limits)
        name = format or ("table" if mapping or rows else detect_file(file))
        if name != "table" and (mapping or rows):
            raise InputError(
                f"the columns of a {name} file are fixed, so --map and --rows do not apply to it",
                path=path,
                remedy="leave them out, or read it as a plain table with --format table",
            )
        request = Request(
            path=file.path, arm=ArmId.parse(arm) if isinstance(arm, str) else arm, mapping=mapping, rows=rows, pair_by=pair_by, replicate=replicate,
            need_pairs=need_pairs, limits=limits,
        )  # fmt: skip
        return IMPORTERS[name].read(file, request)

    return _guarded(path, read)


def _guarded(path: Path, act: Callable[[], T]) -> T:
    """Run ``act``; what a hostile file can still provoke inside a parser leaves as an InputError."""
    try:
        return act()
    except RecursionError as error:
        raise InputError("the file is nested too deeply to be results", path=path) from error
    except MemoryError as error:
        raise InputError("the file does not fit into memory", path=path, remedy="keep fewer rows or columns") from error
    except OSError as error:
        raise InputError(f"the file cannot be read ({error})", path=path) from error
