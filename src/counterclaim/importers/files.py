"""A result file on disk: which file of a folder it is, what kind of file, and its rows one by one, within bounds.

Every way in which bytes can fail to be rows becomes one InputError that names file and line.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from counterclaim.errors import HostileInputError, InputError
from counterclaim.importers.values import listing
from counterclaim.records import Json

Kind = Literal["jsonl", "json", "csv", "parquet", "zip", "text"]
Row = dict[str, Json]

MIB = 1 << 20
GIB = 1 << 30
_PICKLE_SUFFIXES = frozenset({".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".dill"})
_LINE_SUFFIXES = frozenset({".jsonl", ".ndjson", ".jsonlines"})
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
_BOM = b"\xef\xbb\xbf"
_QUOTES = "check the quotes around texts with commas or newlines"
_PATTERNS = ("samples_*.jsonl", "*.eval", "details_*.parquet", "completions_*.parquet", "*eval_results.json",
             "*_results.jsonl", "*.jsonl", "*.parquet", "*.csv", "*.json")  # fmt: skip
_MOST_FILES = 10_000


@dataclass(frozen=True)
class Limits:
    """How much of a file may be taken in, so that a hostile or mistaken one cannot exhaust the machine.

    Attributes:
        max_bytes: size of a file that is streamed (JSONL, CSV, parquet, archives), in bytes.
        max_json_bytes: size of a JSON document, which has to be in memory as a whole, in bytes.
        max_line_bytes: length of one line or one CSV cell, in bytes.
        max_rows: rows, or samples of an archive.
        max_entries: entries of an archive.
        max_entry_bytes: one archive entry, unpacked, in bytes.
        max_total_bytes: everything unpacked from one archive or parquet file, in bytes.
        max_ratio: unpacked over packed size of an archive entry above 1 MiB.
    """

    max_bytes: int = 4 * GIB
    max_json_bytes: int = 512 * MIB
    max_line_bytes: int = 64 * MIB
    max_rows: int = 5_000_000
    max_entries: int = 200_000
    max_entry_bytes: int = 256 * MIB
    max_total_bytes: int = 8 * GIB
    max_ratio: int = 2_000


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
        below = (found for pattern in ("*", "*/*", "*/*/*") for found in path.glob(pattern) if found.is_file())
        files = list(islice(below, _MOST_FILES + 1))
    except (OSError, ValueError) as error:
        raise InputError(f"the folder cannot be read ({error})", path=path) from error
    if len(files) > _MOST_FILES:
        raise InputError("the folder holds too many files to choose from", path=path, remedy="name one")
    for pattern in _PATTERNS:
        matching = sorted(file for file in files if file.match(pattern) and not file.name.startswith("results_"))
        if len(matching) == 1:
            return matching[0]
        if matching:
            names = listing(str(file.relative_to(path)) for file in matching)
            problem = f"the folder holds {len(matching)} files of results"
            raise InputError(problem, path=path, remedy=f"name one of {names}")
    raise InputError("the folder holds no file of results", path=path, remedy="name the file itself")


class InputFile:
    """One file, opened with suspicion.

    Args:
        path: where it is.
        limits: how much of it may be read.
        kind: how its bytes are to be read; found out from the bytes first and the suffix second where None.

    Attributes:
        size: in bytes.

    Raises:
        InputError: it is missing, a folder, empty, too large, packed or in no known encoding.
        HostileInputError: it is a pickle, which runs code when it is opened.
    """

    def __init__(self, path: Path, limits: Limits, kind: Kind | None = None) -> None:
        self.path = path
        self.limits = limits
        try:
            if path.is_dir():
                raise self.fail("this is a folder", remedy="name one file in it")
            if not path.exists():
                raise self.fail("there is no such file", remedy="check the path")
            if not path.is_file():
                raise self.fail("this is not an ordinary file")
            self.size = path.stat().st_size
            with path.open("rb") as file:
                self._head = file.read(8192)
        except (OSError, ValueError) as error:
            raise self.fail(f"the file cannot be opened ({error})") from error
        if self.size == 0:
            raise self.fail("the file is empty", remedy="check that the run that wrote it has ended")
        if path.suffix.lower() in _PICKLE_SUFFIXES or (self._head[:1] == b"\x80" and self._head[1:2] in b"\2\3\4\5"):
            raise HostileInputError(
                "this is a pickle, and opening a pickle runs whatever code it holds", path=path,
                remedy="export the results as JSONL or parquet",
            )  # fmt: skip
        if self.size > limits.max_bytes:
            raise self.fail(
                f"the file has {self.size / GIB:.1f} GiB, more than the {limits.max_bytes / GIB:.1f} GiB that are read",
                remedy="keep only the rows and columns that the claim needs, or split the file by task",
            )
        self.kind = kind or self._find_kind()

    def fail(self, problem: str, line: int | None = None, remedy: str | None = None) -> InputError:
        """An InputError that points into this file."""
        return InputError(problem, path=self.path, line=line, remedy=remedy)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the bytes, 64 hex digits."""
        with self._reading(), self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @cached_property
    def document(self) -> Json:
        """The whole file as one JSON value (kind ``json``)."""
        if self.size > self.limits.max_json_bytes:
            raise self.fail(
                f"the JSON document has {self.size / MIB:,.0f} MiB and would have to be in memory as a whole "
                f"(at most {self.limits.max_json_bytes / MIB:,.0f} MiB are)",
                remedy="write it as JSONL, one row a line",
            )
        with self._reading():
            raw = self.path.read_bytes()
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise self._not_utf8(error.start, raw.count(b"\n", 0, error.start) + 1) from error
        try:
            return self._parsed(text)
        except json.JSONDecodeError as error:
            cut = not text[error.pos :].strip() or error.msg.startswith("Unterminated string")
            raise self.fail(
                f"the JSON is {'cut off' if cut else 'broken'} at column {error.colno} ({error.msg})", error.lineno,
                "copy the file again; it may still have been written" if cut else "check that line",
            ) from error  # fmt: skip

    @cached_property
    def sample(self) -> list[Row]:
        """The first rows (at most 50) of a line-based file or parquet, to recognise it by."""
        return [row for _, row in islice(self.rows(), 50)]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Column names of a CSV or parquet file; the keys of the first rows of JSONL."""
        if self.kind == "parquet":
            with self._parquet() as table:
                return tuple(table.schema_arrow.names)
        return tuple(dict.fromkeys(key for row in self.sample for key in row))

    def rows(self) -> Iterator[tuple[int, Row]]:
        """(1-based line or row, row) of a JSONL, CSV or parquet file, streamed."""
        readers = {"jsonl": self._json_lines, "csv": self._csv_rows, "parquet": self._parquet_rows}
        if self.kind not in readers:
            what = "one JSON document" if self.kind == "json" else "an archive"
            raise self.fail(
                f"the file is {what} and has no rows to stream",
                remedy="leave out --format, or export the results as rows",
            )
        for count, (line, row) in enumerate(readers[self.kind](), start=1):
            if count > self.limits.max_rows:
                raise self.fail(f"the file has more than {self.limits.max_rows:,} rows", line)
            yield line, row

    def lines(self, *, strict: bool = True, blank: bool = False) -> Iterator[tuple[int, str, bool]]:
        """(1-based number, decoded line, whether its newline is there) of each line of a text file.

        Args:
            strict: refuse a line that is too long or not UTF-8; else the lines end before it.
            blank: give blank lines, too.
        """
        most, offset = self.limits.max_line_bytes, 0
        with self._reading(), self.path.open("rb") as file:
            for number, raw in enumerate(iter(lambda: file.readline(most + 1), b""), start=1):
                if len(raw) > most:
                    if not strict:
                        return
                    problem = f"the line is longer than {most / MIB:,.0f} MiB"
                    raise self.fail(problem, number, "check that the file holds one row a line")
                try:
                    text = (raw.removeprefix(_BOM) if number == 1 else raw).decode("utf-8")
                except UnicodeDecodeError as error:
                    if not strict:
                        return
                    raise self._not_utf8(offset + error.start, number) from error
                offset += len(raw)
                if blank or text.strip():
                    yield number, text, raw.endswith(b"\n")

    def _find_kind(self) -> Kind:
        head, suffix = self._head, self.path.suffix.lower()
        if head.startswith(b"PAR1"):
            return "parquet"
        if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            return "zip"
        for magic, name in _PACKED.items():
            if head.startswith(magic):
                raise self.fail(f"the file is packed with {name}", remedy="unpack it first")
        if head.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise self.fail("the text is UTF-16", remedy="save the file as UTF-8")
        if suffix in (".parquet", ".eval"):
            what = "a parquet file" if suffix == ".parquet" else "an Inspect log"
            raise self.fail(f"this is not {what}, whatever its name says")
        text = head.removeprefix(_BOM).lstrip()
        if text.startswith(b"["):
            return "json"
        if text.startswith(b"{"):
            return "jsonl" if self._one_value_per_line() else "json"
        if suffix in _LINE_SUFFIXES:
            return "jsonl"
        if suffix == ".json":
            return "json"
        if suffix in (".csv", ".tsv"):
            return "csv"
        raise self.fail(
            "the file is neither JSON, JSONL, CSV, parquet nor an Inspect log",
            remedy="export the results as one of these",
        )

    def _one_value_per_line(self) -> bool:
        """Whether the first line is a whole JSON value and another line follows it."""
        if self.path.suffix.lower() in _LINE_SUFFIXES:
            return True
        lines = [line for _, line, _ in islice(self.lines(strict=False), 2)]
        try:
            json.loads(lines[0] if len(lines) == 2 else "")
        except (ValueError, RecursionError):
            return False
        return True

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self.fail(f"the file cannot be read ({error})") from error

    def _parsed(self, text: str, line: int | None = None) -> Json:
        """JSON text as a value. JSONDecodeError leaves as it is, because what it means depends on the file."""
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            raise
        except RecursionError as error:
            raise self.fail("the JSON is nested too deeply to be results", line) from error
        except ValueError as error:
            raise self.fail("the JSON holds a number of thousands of digits", line) from error

    def _not_utf8(self, offset: int, line: int) -> InputError:
        return self.fail(f"the byte at offset {offset:,} is not UTF-8 text", line, "save the file as UTF-8")

    def _json_lines(self) -> Iterator[tuple[int, Row]]:
        for number, text, ended in self.lines():
            try:
                row = self._parsed(text, number)
            except json.JSONDecodeError as error:
                what = "the line is not one JSON object" if ended else "the last line is half a JSON object"
                remedy = "fix or remove it" if ended else "wait for the run to end or copy the file again"
                raise self.fail(f"{what} ({error.msg} at column {error.colno})", number, remedy) from error
            if not isinstance(row, dict):
                problem = f"a row has to be a JSON object, and this one is a {type(row).__name__}"
                raise self.fail(problem, number, 'write {"prompt": ..., "response": ...}')
            yield number, row

    def _csv_rows(self) -> Iterator[tuple[int, Row]]:
        lines = self.lines(blank=True)
        first, head = next(((number, text) for number, text, _ in lines if text.strip()), (0, ""))
        if not first:
            raise self.fail("the file holds nothing but blank lines")
        mark = max("\t,;", key=head.count) if self.path.suffix.lower() != ".tsv" else "\t"
        # The module's own limit is 128 KiB for every caller in the process; raising it is harmless, as each line is
        # bounded by ``lines`` and a runaway quote by this.
        csv.field_size_limit(max(csv.field_size_limit(), self.limits.max_line_bytes))
        reader = csv.reader(chain([head], (text for _, text, _ in lines)), delimiter=mark, strict=True)
        start = first
        try:
            header = [name.strip() for name in next(reader)]
            if len(set(header)) != len(header):
                twice = next(name for name in header if header.count(name) > 1)
                raise self.fail(f"two columns are called {twice!r}", first)
            start = first + reader.line_num
            for cells in reader:
                if cells and len(cells) != len(header):
                    problem = f"the row has {len(cells)} cells where the header has {len(header)}"
                    raise self.fail(problem, start, _QUOTES)
                if cells:
                    yield start, dict(zip(header, cells, strict=True))
                start = first + reader.line_num
        except (csv.Error, StopIteration) as error:
            raise self.fail(f"the CSV cannot be read ({error})", start, _QUOTES) from error

    def _parquet_rows(self) -> Iterator[tuple[int, Row]]:
        with self._parquet() as table:
            rows = (row for batch in table.iter_batches(batch_size=1024) for row in batch.to_pylist())
            yield from enumerate(rows, start=1)

    @contextmanager
    def _parquet(self) -> Iterator[Any]:
        """The opened parquet file; errors, whichever library they come from, leave as InputError."""
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.path, memory_map=False) as table:
                meta = table.metadata
                declared = sum(meta.row_group(index).total_byte_size for index in range(meta.num_row_groups))
                if declared > self.limits.max_total_bytes or meta.num_rows > self.limits.max_rows:
                    problem = (
                        f"the parquet file declares {meta.num_rows:,} rows in {declared:,} bytes, more than is read"
                    )
                    raise HostileInputError(problem, path=self.path)
                yield table
        except InputError:
            raise
        except Exception as error:  # pyarrow raises its own, OSError, ValueError and more on damaged files
            reason = " ".join(str(error).split())[:120]
            raise self.fail(f"the parquet file cannot be read ({reason})", remedy="write it again") from error
