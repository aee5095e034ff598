"""The rows of a prompt file: JSONL, JSON or CSV, as it is or packed with gzip, within bounds.

A prompt file is small, so it is read whole. Every way in which its bytes can fail to be rows becomes one InputError
that names the file and the line.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

from counterclaim.errors import HostileInputError, InputError
from counterclaim.records import Json

Row = dict[str, Json]

MIB = 1 << 20
MOST_BYTES = 256 * MIB  # of text, unpacked
MOST_LINE = 4 * MIB  # characters of one prompt with its gold

_ROW_KEYS = ("prompts", "questions", "rows", "items", "examples", "data")
_CSV_SUFFIXES = (".csv", ".tsv")
_LINE_SUFFIXES = (".jsonl", ".ndjson", ".jsonlines")
_BINARY = {
    b"PAR1": "parquet",
    b"PK": "a zip archive",
    b"\x28\xb5\x2f\xfd": "packed with zstd",
    b"BZh": "packed with bzip2",
}


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """(1-based line, or row of a JSON list; row) of every row of a file.

    Raises:
        InputError: the file is missing, empty, too large, no text, or not rows; the message names the line.
        HostileInputError: it is a pickle, or unpacks to more than is read.
    """
    text = _text(path)
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    start = text.lstrip()[:1]
    if not start:
        raise InputError("the file is empty", path=path, remedy="write one prompt a line")
    if suffix.lower() in _CSV_SUFFIXES:
        yield from _csv_rows(path, text, tab=suffix.lower() == ".tsv")
    elif suffix.lower() in _LINE_SUFFIXES or (start == "{" and _first_line_is_whole(text)):
        yield from _json_lines(path, text)
    elif start in ("{", "["):
        yield from _json_rows(path, text)
    else:
        raise InputError(
            "the file is neither JSONL, JSON nor CSV",
            path=path,
            remedy="write prompts as one of these, with its suffix",
        )


def _text(path: Path) -> str:
    """The whole file as text, unpacked."""
    try:
        if path.is_dir():
            raise InputError("this is a folder", path=path, remedy="name one file in it")
        if not path.exists():
            raise InputError("there is no such file", path=path, remedy="check the path")
        if not path.is_file():
            raise InputError("this is not an ordinary file", path=path)
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            source = gzip.GzipFile(mode="rb", fileobj=file) if packed else file
            raw = source.read(MOST_BYTES + 1)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"the file cannot be read ({error})", path=path, remedy="copy it again") from error
    if len(raw) > MOST_BYTES:
        kind = HostileInputError if packed else InputError
        raise kind(f"the file holds more than the {MOST_BYTES / MIB:,.0f} MiB that are read", path=path)
    if raw[:1] == b"\x80" and raw[1:2] in b"\2\3\4\5":
        raise HostileInputError(
            "this is a pickle, and opening a pickle runs whatever code it holds", path=path, remedy="export JSONL"
        )
    for magic, name in _BINARY.items():
        if raw.startswith(magic):
            raise InputError(f"the file is {name}", path=path, remedy="write prompts as JSONL, JSON or CSV")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"the byte at offset {error.start:,} is not UTF-8 text", path=path, line=line, remedy="save it as UTF-8"
        ) from error


def _first_line_is_whole(text: str) -> bool:
    """Whether the first line is one JSON value, and another line follows it."""
    first, _, rest = text.lstrip().partition("\n")
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return False
    return bool(rest.strip())


def _parse(path: Path, text: str, line: int | None) -> Json:
    try:
        return json.loads(text, parse_constant=lambda _: None)  # NaN is how some writers spell an empty cell
    except json.JSONDecodeError as error:
        raise InputError(
            f"this is not JSON ({error.msg} at column {error.colno})", path=path,
            line=error.lineno if line is None else line, remedy="fix or remove it",
        ) from error  # fmt: skip
    except RecursionError as error:
        raise InputError("the JSON is nested too deeply to be a prompt", path=path, line=line) from error
    except ValueError as error:
        raise InputError("the JSON holds a number of thousands of digits", path=path, line=line) from error


def _json_lines(path: Path, text: str) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        if len(line) > MOST_LINE:
            raise InputError(
                f"the line is longer than {MOST_LINE:,} characters", path=path, line=number,
                remedy="check that the file holds one prompt a line",
            )  # fmt: skip
        yield number, _object(path, number, _parse(path, line, number))


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, Row]]:
    document = _parse(path, text, None)
    if isinstance(document, dict):
        lists = [key for key, value in document.items() if isinstance(value, list) and key != "messages"]
        usual = [key for key in _ROW_KEYS if key in lists]
        if {"prompt", "question", "messages"} & set(document):
            document = [document]
        elif usual or len(lists) == 1:
            document = document[(usual or lists)[0]]
        else:
            raise InputError(
                f"the JSON holds no list of prompts; its keys are {', '.join(map(str, document)) or 'none'}",
                path=path, remedy="write one object per prompt in a list called prompts",
            )  # fmt: skip
    for number, value in enumerate(document, start=1):
        yield number, _object(path, number, value)


def _object(path: Path, number: int, value: Json) -> Row:
    if not isinstance(value, dict):
        raise InputError(
            f"a prompt has to be a JSON object, and this is a {type(value).__name__}",
            path=path, line=number, remedy='write {"prompt": "..."}',
        )  # fmt: skip
    return value


def _csv_rows(path: Path, text: str, *, tab: bool) -> Iterator[tuple[int, Row]]:
    head = text.lstrip("\n").partition("\n")[0]
    csv.field_size_limit(
        max(csv.field_size_limit(), MOST_LINE + 1)
    )  # one limit for the whole process, 128 KiB at first
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter="\t" if tab else max(",;", key=head.count), strict=True
    )
    header: list[str] | None = None
    start = 1
    try:
        for cells in reader:
            here, start = start, reader.line_num + 1
            if not any(cells):
                continue
            if header is None:
                header = [name.strip() for name in cells]
                if twice := [name for name in header if header.count(name) > 1]:
                    raise InputError(f"two columns are called {twice[0]!r}", path=path, line=here)
                continue
            if max(map(len, cells)) > MOST_LINE:
                raise InputError(f"a cell is longer than {MOST_LINE:,} characters", path=path, line=here)
            if len(cells) != len(header):
                raise InputError(
                    f"the row has {len(cells)} cells where the header has {len(header)}", path=path, line=here,
                    remedy="check the quotes around texts with commas or newlines",
                )  # fmt: skip
            yield here, {name: cell or None for name, cell in zip(header, cells, strict=True)}
    except csv.Error as error:
        raise InputError(
            f"the CSV cannot be read ({error})", path=path, line=start,
            remedy="check the quotes around texts with commas or newlines",
        ) from error  # fmt: skip
