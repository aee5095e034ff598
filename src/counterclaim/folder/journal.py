"""Work in progress: rows appended to a file as they are made, so that a kill at any moment loses only what was in flight."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from io import FileIO
from pathlib import Path
from typing import Self

from counterclaim.errors import InputError
from counterclaim.folder.lock import at_work, lock
from counterclaim.records import Json


class Journal:
    """An append-only file of JSON lines with a head that says what they belong to.

    A line that was being written when the process died is dropped at the next opening. Only one process at a time
    holds a journal.

    Args:
        path: the file; made with its folder where it is missing.
        identity: what the rows belong to (any JSON value); rows of other work are never taken for this one's.
        keep_other: refuse to go on where the file holds other work; False throws that work away.

    Attributes:
        rows: what was in it when it was opened.

    Raises:
        InputError: the file holds other work, is locked by another process, or cannot be written.
    """

    def __init__(self, path: Path, identity: Json, *, keep_other: bool = True) -> None:
        self.path = path
        self.rows: list[Json] = []
        self._file = self._open()
        try:
            self._resume(identity, keep_other)
        except BaseException:
            self._file.close()
            raise

    def _open(self) -> FileIO:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("ab", buffering=0)  # what the disk refuses must not wait in a buffer
        except OSError as error:
            raise InputError(
                f"cannot be written ({error.strerror})", path=self.path, remedy="choose another --out"
            ) from error
        try:
            lock(file)
        except BlockingIOError as error:
            file.close()
            raise at_work(self.path.parent) from error
        return file

    def _resume(self, identity: Json, keep_other: bool) -> None:
        whole = 0
        head: Json = None
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise InputError(
                        f"a line in the middle is damaged ({error})",
                        path=self.path,
                        line=number,
                        remedy="delete that line, and its row is made again",
                    ) from error
                if number == 1:
                    head = row
                else:
                    self.rows.append(row)
                whole += len(line)
        self._file.truncate(whole)
        if head not in (None, identity) and not keep_other:
            self._file.truncate(0)
            self.rows, head = [], None
        if head is None:
            self._write([identity])
        elif head != identity:
            raise InputError(
                "the folder holds unfinished work of another study (another model, prompts or settings)",
                path=self.path.parent,
                remedy="choose another --out, or replace it with --overwrite",
            )

    def append(self, rows: Iterable[Json]) -> None:
        """Add rows; they are on the disk when this returns.

        Raises:
            InputError: the disk is full or gone; rows of earlier calls are safe.
        """
        self._write(rows)

    def _write(self, rows: Iterable[Json]) -> None:
        text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
        left = memoryview(text.encode("utf-8", "backslashreplace"))
        end = os.fstat(self._file.fileno()).st_size
        try:
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            self._forget_from(end)
            raise InputError(
                f"cannot be written ({error.strerror}); everything up to here is kept",
                path=self.path,
                remedy="make room and run the same command again",
            ) from error

    def _forget_from(self, end: int) -> None:
        """Leave no half-written row behind; where even that fails, the next opening drops it."""
        try:
            os.ftruncate(self._file.fileno(), end)
        except OSError:
            return

    def close(self) -> None:
        """Close the file and let go of it; what is in it stays."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
