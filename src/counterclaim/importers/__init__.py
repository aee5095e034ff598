"""Results of any harness -> records.

How a file becomes records: ``InputFile`` finds out what kind of file it is (JSONL, JSON, CSV, parquet, zip); the first
importer whose ``sniff`` accepts it is its format; the importer's ``read`` hands each answer and score to a ``Collector``,
which names prompts by content, numbers samples and refuses rows that are not distinct; the collector's ``finished`` is an
``Imported``. Finish reasons that no harness recorded are inferred later, over a whole arm (``endings``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, TypeVar

from counterclaim.errors import InputError

# Importing these registers the formats, in the order in which they are tried.
from counterclaim.importers import harnesses, inspect_log, lmeval, servers, table  # noqa: F401
from counterclaim.importers.collector import AnswerRow, Collector, Imported, ImportRequest, Source
from counterclaim.importers.columns import parse_mapping
from counterclaim.importers.files import InputFile, Limits, results_file
from counterclaim.importers.training import load_training_texts, training_rows
from counterclaim.importers.values import listing
from counterclaim.records import ArmId
from counterclaim.registry import Importer, importers

__all__ = [
    "AnswerRow",
    "Collector",
    "ImportRequest",
    "Imported",
    "InputFile",
    "Limits",
    "Source",
    "detect",
    "formats",
    "load",
    "load_training_texts",
    "parse_mapping",
    "training_rows",
]

T = TypeVar("T")
_TABLE = "table"


def formats() -> dict[str, Importer]:
    """Every importer by name, in the order in which they are tried: built-in, plug-ins, and the plain table last."""
    known = importers()
    return {**{name: made for name, made in known.items() if name != _TABLE}, _TABLE: known[_TABLE]}


def detect(path: Path) -> str:
    """Name of the format of a file (or of the one result file in a folder).

    Raises:
        InputError: it cannot be read or is in no known format.
    """
    return _guarded(path, lambda: _sniffed(InputFile(results_file(path), Limits())))


def _sniffed(file: InputFile) -> str:
    for name, made in formats().items():
        if made.sniff(file):
            return name
    raise InputError(
        "the archive is not an Inspect log", path=file.path, remedy="unpack it and name the file with the results"
    )


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
        format: one of ``formats()``; recognised where None (a plain table where a mapping is given).
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
    known = formats()
    if format is not None and format not in known:
        raise InputError(f"there is no format {format!r}", remedy=f"formats are {listing(known, 30)}")
    limits = limits or Limits()

    def read() -> Imported:
        file = InputFile(results_file(path), limits)
        name = format or (_TABLE if mapping or rows else _sniffed(file))
        if name != _TABLE and (mapping or rows):
            raise InputError(
                f"the columns of a {name} file are fixed, so --map and --rows do not apply to it",
                path=path,
                remedy="leave them out, or read it as a plain table with --format table",
            )
        request = ImportRequest(ArmId.parse(str(arm)), mapping, rows, pair_by, replicate, need_pairs)
        out = Collector(file, known[name], request)
        known[name].read(file, out)
        return out.finished()

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
