"""A result file on disk: what kind of file it is, and its rows one by one, within bounds.

Every way in which bytes can fail to be rows becomes one InputError that names file and line.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal

from counterclaim.errors import HostileInputError, InputError
from counterclaim.importers.imported import GIB, MIB, Limits
from counterclaim.records import Json

Kind = Literal["jsonl", "json", "csv", "parquet", "zip"]
Row = dict[str, Json]

_PICKLE_SUFFIXES = frozenset({".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".dill"})
_LINE_SUFFIXES = frozenset({".jsonl", ".ndjson", ".jsonlines"})
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
_BOM = b"\xef\xbb\xbf"


class InputFile:
    """One file, opened with suspicion.

    Attributes:
        path: where it is.
        size: in bytes.
        kind: how its bytes are to be read, from the bytes first and the suffix second.

    Raises:
        InputError: it is missing, a folder, empty, too large, packed or in no known encoding.
        HostileInputError: it is a pickle, which runs code when it is opened.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path = path
        self.limits = limits
        try:
            if path.is_dir():
                raise InputError("this is a folder", path=path, remedy="name one file in it")
            if not path.exists():
                raise InputError("there is no such file", path=path, remedy="check the path")
            if not path.is_file():
                raise InputError("this is not an ordinary file", path=path)
            self.size = path.stat().st_size
            with path.open("rb") as file:
                self._head = file.read(8192)
        except (OSError, ValueError) as error:
            raise InputError(f"the file cannot be opened ({error})", path=path) from error
        if self.size == 0:
            raise InputError("the file is empty", path=path, remedy="check that the run that wrote it has ended")
        if path.suffix.lower() in _PICKLE_SUFFIXES or (self._head[:1] == b"\x80" and self._head[1:2] in b"\2\3\4\5"):
            raise HostileInputError(
                "this is a pickle, and opening a pickle runs whatever code it holds",
                path=path,
                remedy="export the results as JSONL or parquet",
            )
        if self.size > limits.max_bytes:
            raise InputError(
                f"the file has {self.size / GIB:.1f} GiB, more than the {limits.max_bytes / GIB:.1f} GiB that are read",
                path=path,
                remedy="keep only the rows and columns that the claim needs, or split the file by task",
            )
        self.kind = self._find_kind()

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the bytes, 64 hex digits."""
        try:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise InputError(f"the file cannot be read ({error})", path=self.path) from error

    @cached_property
    def document(self) -> Json:
        """The whole file as one JSON value (kind ``json``)."""
        if self.size > self.limits.max_json_bytes:
            raise InputError(
                f"the JSON document has {self.size / MIB:,.0f} MiB and would have to be held whole "
                f"(at most {self.limits.max_json_bytes / MIB:,.0f} MiB are)",
                path=self.path,
                remedy="write it as JSONL, one row a line",
            )
        try:
            raw = self.path.read_bytes()
        except OSError as error:
            raise InputError(f"the file cannot be read ({error})", path=self.path) from error
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            raise self._not_utf8(error.start, line) from error
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            cut = not text[error.pos :].strip() or error.msg.startswith("Unterminated string")
            raise InputError(
                f"the JSON is {'cut off' if cut else 'broken'} at column {error.colno} ({error.msg})",
                path=self.path,
                line=error.lineno,
                remedy="copy the file again; it may still have been written" if cut else "check that line",
            ) from error
        except RecursionError as error:
            raise InputError("the JSON is nested too deeply to be results", path=self.path) from error
        except ValueError as error:
            raise InputError("the JSON holds a number of thousands of digits", path=self.path) from error

    @cached_property
    def sample(self) -> list[Row]:
        """The first rows (at most 50) of a line-based file or parquet, to recognise it by."""
        return [row for _, row in islice(self.rows(), 50)]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Column names of a CSV or parquet file; the keys of the first rows of JSONL."""
        if self.kind == "parquet":
            with _parquet(self.path, self.limits) as table:
                return tuple(table.schema_arrow.names)
        return tuple(dict.fromkeys(key for row in self.sample for key in row))

    def rows(self) -> Iterator[tuple[int, Row]]:
        """(1-based line or row, row) of a JSONL, CSV or parquet file, streamed."""
        readers = {"jsonl": self._json_lines, "csv": self._csv_rows, "parquet": self._parquet_rows}
        if self.kind not in readers:
            raise InputError(
                f"the file is {'one JSON document' if self.kind == 'json' else 'an archive'} and has no rows to stream",
                path=self.path,
                remedy="leave out --format, or export the results as rows",
            )
        source = readers[self.kind]()
        for count, (line, row) in enumerate(source, start=1):
            if count > self.limits.max_rows:
                raise InputError(f"the file has more than {self.limits.max_rows:,} rows", path=self.path, line=line)
            yield line, row

    def _find_kind(self) -> Kind:
        head, suffix = self._head, self.path.suffix.lower()
        if head.startswith(b"PAR1"):
            return "parquet"
        if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            return "zip"
        for magic, name in _PACKED.items():
            if head.startswith(magic):
                raise InputError(f"the file is packed with {name}", path=self.path, remedy="unpack it first")
        if head.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise InputError("the text is UTF-16", path=self.path, remedy="save the file as UTF-8")
        if suffix == ".parquet":
            raise InputError("this is not a parquet file, whatever its name says", path=self.path)
        if suffix == ".eval":
            raise InputError("this is not an Inspect log, whatever its name says", path=self.path)
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
        raise InputError(
            "the file is neither JSON, JSONL, CSV, parquet nor an Inspect log",
            path=self.path,
            remedy="export the results as one of these",
        )

    def _one_value_per_line(self) -> bool:
        """Whether the first line is a whole JSON value and another line follows it."""
        lines = [line for _, line, _ in islice(self._lines(strict=False), 2)]
        if len(lines) < 2:
            return self.path.suffix.lower() in _LINE_SUFFIXES
        if self.path.suffix.lower() in _LINE_SUFFIXES:
            return True
        try:
            json.loads(lines[0])
        except (ValueError, RecursionError):
            return False
        return True

    def _lines(self, *, strict: bool = True, blank: bool = False) -> Iterator[tuple[int, str, bool]]:
        """(line number, decoded line, whether its newline is there); blank lines only where asked for."""
        most = self.limits.max_line_bytes
        offset = 0
        try:
            with self.path.open("rb") as file:
                number = 0
                while raw := file.readline(most + 1):
                    number += 1
                    if len(raw) > most:
                        if not strict:
                            return
                        raise InputError(
                            f"the line is longer than {most / MIB:,.0f} MiB", path=self.path, line=number,
                            remedy="check that the file holds one row a line",
                        )  # fmt: skip
                    try:
                        text = raw.removeprefix(_BOM).decode("utf-8") if number == 1 else raw.decode("utf-8")
                    except UnicodeDecodeError as error:
                        if not strict:
                            return
                        raise self._not_utf8(offset + error.start, number) from error
                    offset += len(raw)
                    if blank or text.strip():
                        yield number, text, raw.endswith(b"\n")
        except OSError as error:
            raise InputError(f"the file cannot be read ({error})", path=self.path) from error

    def _not_utf8(self, offset: int, line: int) -> InputError:
        return InputError(
            f"the byte at offset {offset:,} is not UTF-8 text", path=self.path, line=line,
            remedy="save the file as UTF-8",
        )  # fmt: skip

    def _json_lines(self) -> Iterator[tuple[int, Row]]:
        for number, text, ended in self._lines():
            try:
                row = json.loads(text)
            except json.JSONDecodeError as error:
                half = "the last line is half a JSON object" if not ended else "the line is not one JSON object"
                raise InputError(
                    f"{half} ({error.msg} at column {error.colno})", path=self.path, line=number,
                    remedy="wait for the run to end or copy the file again" if not ended else "mend or remove it",
                ) from error  # fmt: skip
            except RecursionError as error:
                raise InputError("the JSON is nested too deeply to be a result", path=self.path, line=number) from error
            except ValueError as error:
                raise InputError(
                    "the line holds a number of thousands of digits", path=self.path, line=number
                ) from error
            if not isinstance(row, dict):
                raise InputError(
                    f"a row has to be a JSON object, and this one is a {type(row).__name__}",
                    path=self.path, line=number, remedy='write {"prompt": ..., "response": ...}',
                )  # fmt: skip
            yield number, row

    def _csv_rows(self) -> Iterator[tuple[int, Row]]:
        lines = self._lines(blank=True)
        header_line = next(((number, text) for number, text, _ in lines if text.strip()), None)
        if header_line is None:
            raise InputError("the file holds nothing but blank lines", path=self.path)
        mark = max("\t,;", key=header_line[1].count) if self.path.suffix.lower() != ".tsv" else "\t"
        # The module's own limit is 128 KiB for every caller in the process; raising it is harmless, as each line is
        # bounded by _lines and a runaway quote by this.
        csv.field_size_limit(max(csv.field_size_limit(), self.limits.max_line_bytes))
        first = header_line[0]
        reader = csv.reader(_chain(header_line[1], lines), delimiter=mark, strict=True)
        start = first
        try:
            header = [name.strip() for name in next(reader)]
            if len(set(header)) != len(header):
                twice = next(name for name in header if header.count(name) > 1)
                raise InputError(f"two columns are called {twice!r}", path=self.path, line=first)
            start = first + reader.line_num
            for cells in reader:
                if cells:
                    if len(cells) != len(header):
                        raise InputError(
                            f"the row has {len(cells)} cells where the header has {len(header)}",
                            path=self.path, line=start, remedy="check the quotes around texts with commas or newlines",
                        )  # fmt: skip
                    yield start, dict(zip(header, cells, strict=True))
                start = first + reader.line_num
        except (csv.Error, StopIteration) as error:
            raise InputError(
                f"the CSV cannot be read ({error})", path=self.path, line=start,
                remedy="check the quotes around texts with commas or newlines",
            ) from error  # fmt: skip

    def _parquet_rows(self) -> Iterator[tuple[int, Row]]:
        number = 0
        with _parquet(self.path, self.limits) as table:
            for batch in table.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row


def _chain(first: str, rest: Iterator[tuple[int, str, bool]]) -> Iterator[str]:
    yield first
    for _, text, _ in rest:
        yield text


class _parquet:
    """A parquet file whose errors, whichever library they come from, leave as InputError."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path = path
        self._limits = limits

    def __enter__(self) -> Json:
        import pyarrow.parquet as pq

        try:
            self._table = pq.ParquetFile(self._path, memory_map=False)
            meta = self._table.metadata
            declared = sum(meta.row_group(index).total_byte_size for index in range(meta.num_row_groups))
        except Exception as error:  # pyarrow raises its own, OSError, ValueError and more on damaged files
            raise self._damaged(error) from error
        if declared > self._limits.max_total_bytes or meta.num_rows > self._limits.max_rows:
            self._table.close()
            raise HostileInputError(
                f"the parquet file declares {meta.num_rows:,} rows in {declared:,} bytes, more than is read",
                path=self._path,
            )
        return self._table

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._table.close()
        if isinstance(error, Exception) and not isinstance(error, InputError):
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> InputError:
        said = " ".join(str(error).split())[:120]
        return InputError(f"the parquet file cannot be read ({said})", path=self._path, remedy="write it again")
