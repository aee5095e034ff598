"""The run folder: records as JSON lines, readable without this package.

A folder is written beside its place and moved into it whole, so that a crash or bad input leaves either the old
folder or none. Files made from the records (checks, verdict, pages) are replaced one by one, each atomically.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from counterclaim.errors import InputError
from counterclaim.folder.lock import LOCK_FILE
from counterclaim.records import (
    Json,
    Prompt,
    Response,
    Score,
    prompt_from_json,
    response_from_json,
    score_from_json,
    to_json,
)

DIGITS = 12  # significant digits of computed numbers on disk: the rest is the noise of one machine's arithmetic

_OURS = frozenset({
    "study.json", "prompts.jsonl", "responses.jsonl", "scores.jsonl", "extras.json", "checks.jsonl", "verdict.json",
    "report.html", "report.md", "junit.xml", "verdict.sarif", "answers.journal", "scores.journal",
})  # fmt: skip
_JOURNALS = frozenset({"answers.journal", "scores.journal"})


_MADE_FROM_RECORDS = frozenset({
    "checks.jsonl", "verdict.json", "report.html", "report.md", "junit.xml", "verdict.sarif",
})  # fmt: skip


@dataclass
class Records:
    """What a run folder holds on its left-hand side.

    Attributes:
        study: the frozen claim, the sources and their hashes (``study.json``).
        prompts: by id.
        responses: all arms.
        scores: all arms.
        extras: other inputs of checks, by name (``overlap``, ``train_sample``, ``cards``): JSON values.
    """

    study: dict[str, Json]
    prompts: dict[str, Prompt] = field(default_factory=dict)
    responses: list[Response] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    extras: dict[str, Json] = field(default_factory=dict)


def write_run(folder: Path, records: Records, outputs: Mapping[str, str], *, overwrite: bool = False) -> None:
    """Write a new run folder, whole or not at all.

    Args:
        folder: where.
        records: its left-hand side.
        outputs: file name to content of what was made from the records.
        overwrite: replace another study.

    Raises:
        InputError: the place is taken by another study (or by something else) and ``overwrite`` is not set, or
            cannot be written to.
    """
    _check_place(folder, records.study, overwrite)
    try:
        _write_whole(folder, records, outputs)
    except OSError as error:
        raise InputError(
            f"the run folder cannot be written ({error.strerror})", path=folder, remedy="choose another --out"
        ) from error


def _write_whole(folder: Path, records: Records, outputs: Mapping[str, str]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        beside.chmod(0o755)
        _write_text(beside / "study.json", dump(records.study))
        write_lines(beside / "prompts.jsonl", (to_json(prompt) for _, prompt in sorted(records.prompts.items())))
        write_lines(beside / "responses.jsonl", (to_json(response) for response in records.responses))
        write_lines(beside / "scores.jsonl", (to_json(score) for score in records.scores))
        if records.extras:
            _write_text(beside / "extras.json", dump(records.extras))
        write_outputs(beside, outputs)
        if folder.exists():
            _keep_what_is_not_ours(folder, beside)
            shutil.rmtree(folder)
        beside.replace(folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _keep_what_is_not_ours(old: Path, new: Path) -> None:
    """Move a user's own files (notes, screenshots) over before an old run folder goes."""
    for entry in sorted(old.iterdir()):
        if entry.name not in _OURS and not (new / entry.name).exists():
            entry.rename(new / entry.name)


def _check_place(folder: Path, study: Mapping[str, Json], overwrite: bool) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError("a file stands where the run folder should go", path=folder, remedy="choose another --out")
    if not any(folder.iterdir()):
        return
    old = folder / "study.json"
    if not old.is_file():
        raise InputError("the folder is not empty and is not a run folder", path=folder, remedy="choose another --out")
    if overwrite:
        return
    try:
        same = json.loads(old.read_text(encoding="utf-8")).get("study_hash") == study["study_hash"]
    except (OSError, ValueError, AttributeError):
        same = False
    if not same:
        raise InputError(
            "the folder holds another study (other files or another claim)",
            path=folder,
            remedy="choose another --out, or replace it with --overwrite",
        )


def read_run(folder: Path) -> Records:
    """Read a run folder back.

    Raises:
        InputError: there is no run folder, or one of its files is damaged (names file and line).
    """
    if not (folder / "study.json").is_file():
        raise InputError("this is not a run folder (no study.json)", path=folder, remedy="make one with --out")
    shared: dict[str, Any] = {}
    prompts = [_made(folder / "prompts.jsonl", line, row, prompt_from_json) for line, row in _lines(folder, "prompts")]
    return Records(
        study=_read_json(folder / "study.json"),
        prompts={prompt.id: prompt for prompt in prompts},
        responses=[
            _made(folder / "responses.jsonl", line, row, lambda r: response_from_json(r, shared))
            for line, row in _lines(folder, "responses")
        ],
        scores=[_made(folder / "scores.jsonl", line, row, score_from_json) for line, row in _lines(folder, "scores")],
        extras=_read_json(folder / "extras.json") if (folder / "extras.json").is_file() else {},
    )


def begin_run(folder: Path, study: Mapping[str, Json], prompts: Iterable[Prompt]) -> None:
    """Write what a study is before any prompt is answered; ``finish_run`` adds the rest.

    Raises:
        InputError: the folder cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _write_text(folder / "study.json", dump(study))  # first: it is what shows that the folder is ours
        _replace_lines(folder / "prompts.jsonl", (to_json(prompt) for prompt in prompts))


def finish_run(folder: Path, records: Records, outputs: Mapping[str, str]) -> None:
    """Write all records into a folder that was begun, each file atomically, ``study.json`` last; drop other outputs of ours.

    What was made from older records goes first: stopped at any moment, the folder has no verdict on other scores. Scores go
    before the answers and golds that they were read off: stopped in between, the folder's scores are newer than these and
    are read again, where older ones could pass for theirs.

    Raises:
        InputError: the folder cannot be written; the records that were in it before are kept.
    """
    with writing(folder):
        for name in _MADE_FROM_RECORDS:
            (folder / name).unlink(missing_ok=True)
        _replace_lines(folder / "scores.jsonl", (to_json(score) for score in records.scores))
        _replace_lines(folder / "responses.jsonl", (to_json(response) for response in records.responses))
        _replace_lines(folder / "prompts.jsonl", (to_json(prompt) for _, prompt in sorted(records.prompts.items())))
        if records.extras:
            _write_text(folder / "extras.json", dump(records.extras))
        else:
            (folder / "extras.json").unlink(missing_ok=True)
        write_outputs(folder, outputs)
        _write_text(folder / "study.json", dump(records.study))
        for name in _JOURNALS:
            (folder / name).unlink(missing_ok=True)
        for left in _half_written(folder):
            left.unlink(missing_ok=True)


def read_study(folder: Path) -> dict[str, Json] | None:
    """study.json of a folder; None where the folder is missing, empty, or was left before anything was written.

    Raises:
        InputError: the folder holds something that is no run folder, cannot be read, or its study.json is damaged.
    """
    try:
        if not folder.exists():
            return None
        if not folder.is_dir():
            raise InputError("a file stands where the run folder should go", path=folder, remedy="name a folder")
        ours = {LOCK_FILE, "answers.journal", *(path.name for path in _half_written(folder))}
        if not (folder / "study.json").is_file():
            if any(path.name not in ours for path in folder.iterdir()):
                raise InputError(
                    "the folder is not empty and is not a run folder", path=folder, remedy="choose another --out"
                )
            return None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", path=folder, remedy="choose another folder") from error
    study = _read_json(folder / "study.json")
    if not isinstance(study, dict):
        raise InputError("is not what a study is", path=folder / "study.json", remedy="choose another --out")
    return study


def clear_run(folder: Path) -> None:
    """Delete what this package wrote into a run folder; a user's own files stay."""
    with writing(folder):
        for path in [*(folder / name for name in _OURS), *_half_written(folder)]:
            path.unlink(missing_ok=True)


def _half_written(folder: Path) -> list[Path]:
    """Files that a killed process had not moved into their place yet."""
    return [path for name in _OURS for path in folder.glob(f".{name}.*") if path.suffix[1:].isdigit()]


def _replace_lines(path: Path, rows: Iterable[Json]) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write_lines(beside, rows)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def writing(folder: Path, what: str = "the run folder") -> Iterator[None]:
    """Turn what the disk says into a sentence.

    Raises:
        InputError: ``what`` cannot be written to ``folder``.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{what} cannot be written ({error.strerror or error}); everything up to here is kept",
            path=folder,
            remedy="make room or choose another --out, and run the same command again",
        ) from error


def read_checks(folder: Path) -> list[Json]:
    """The lines of checks.jsonl."""
    return [row for _, row in _lines(folder, "checks")]


def read_verdict(folder: Path) -> Json:
    """verdict.json."""
    return _read_json(folder / "verdict.json")


def write_outputs(folder: Path, files: Mapping[str, str]) -> None:
    """Replace files of a run folder, each atomically."""
    for name, text in files.items():
        _write_text(folder / name, text)


def check_free(path: Path, *, overwrite: bool = False) -> None:
    """Raise InputError where a file exists that ``write_new`` would not replace."""
    if path.exists() and not overwrite:
        raise InputError("the file exists", path=path, remedy="choose another name, or pass --overwrite")


def write_new(path: Path, text: str, *, overwrite: bool = False) -> None:
    """Write a file that the user named.

    Raises:
        InputError: the file exists and ``overwrite`` is not set, or cannot be written.
    """
    check_free(path, overwrite=overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_text(path, text)
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror})", path=path, remedy="choose another place") from error


def dump(value: Json) -> str:
    """JSON as every file of a run folder spells it: indented, unsorted, floats to ``DIGITS`` digits, no NaN."""
    return json.dumps(rounded(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def dump_lines(rows: Iterable[Json]) -> str:
    """One JSON object a line, spelt as ``dump`` spells it."""
    return "".join(json.dumps(rounded(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def rounded(value: Json) -> Json:
    """The same JSON value with floats at ``DIGITS`` significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value


def write_lines(path: Path, rows: Iterable[Json]) -> None:
    """Stream JSON lines into a file; surrogates that UTF-8 cannot carry are escaped."""
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False, allow_nan=False))
            out.write("\n")


def _write_text(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _read_json(path: Path) -> Json:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError("is missing", path=path, remedy="run counterclaim check on the folder") from error
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read as JSON ({error})", path=path, remedy="make the run folder again") from error


def _lines(folder: Path, name: str) -> list[tuple[int, Json]]:
    return read_lines(folder / f"{name}.jsonl")


def read_lines(path: Path) -> list[tuple[int, Json]]:
    """(1-based line number, value) of every line of a JSON-lines file.

    Raises:
        InputError: the file is missing or a line is not JSON.
    """
    rows = []
    number = 0
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    rows.append((number, json.loads(line.decode("utf-8"))))
    except FileNotFoundError as error:
        raise InputError("there is no such file", path=path, remedy="name a file that exists") from error
    except (OSError, ValueError) as error:
        raise InputError(
            f"is not one JSON object a line ({error})",
            path=path,
            line=number or None,
            remedy="fix or remake that line",
        ) from error
    return rows


def _made(path: Path, line: int, row: Json, make: Any) -> Any:
    try:
        return make(row)
    except Exception as error:
        raise InputError(
            f"is not a record of this package ({error})", path=path, line=line, remedy="make the run folder again"
        ) from error
