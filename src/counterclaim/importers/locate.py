"""Finding the one file of results in a folder, and the files that belong beside it."""

from __future__ import annotations

from pathlib import Path

from counterclaim.errors import InputError
from counterclaim.importers.values import listing

_PATTERNS = ("samples_*.jsonl", "*.eval", "details_*.parquet", "completions_*.parquet", "*eval_results.json",
             "*_results.jsonl", "*.jsonl", "*.parquet", "*.csv", "*.json")  # fmt: skip
_MOST_FILES = 10_000


def results_file(path: Path) -> Path:
    """``path`` itself, or, where it is a folder, the one file of results in it (or in a folder below it).

    Of a run folder of our own it is the answers.

    Raises:
        InputError: the folder holds no such file, or several equally likely ones.
    """
    try:
        if not path.is_dir():
            return path
        if (path / "study.json").is_file() and (path / "responses.jsonl").is_file():
            return path / "responses.jsonl"
        files = []
        for pattern in ("*", "*/*", "*/*/*"):
            for found in path.glob(pattern):
                if found.is_file():
                    files.append(found)
                if len(files) > _MOST_FILES:
                    raise InputError("the folder holds too many files to choose from", path=path, remedy="name one")
    except (OSError, ValueError) as error:
        raise InputError(f"the folder cannot be read ({error})", path=path) from error
    for pattern in _PATTERNS:
        matching = sorted(file for file in files if file.match(pattern) and not file.name.startswith("results_"))
        if len(matching) == 1:
            return matching[0]
        if matching:
            raise InputError(
                f"the folder holds {len(matching)} files of results",
                path=path,
                remedy=f"name one of {listing(str(file.relative_to(path)) for file in matching)}",
            )
    raise InputError("the folder holds no file of results", path=path, remedy="name the file itself")
