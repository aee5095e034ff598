"""Replies that were paid for once: a cache in one SQLite file that threads and processes share."""

from __future__ import annotations

import json
import sqlite3
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from counterclaim.errors import InputError
from counterclaim.folder.paths import cache_folder
from counterclaim.records import Json, content_hash

_OURS = 0x43434C52  # SQLite's application_id of a file of replies: "CCLR"
_PLACE = frozenset({
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM,
})  # fmt: skip
"""Errors that are the place's fault, not the file's."""
_WAIT_S = 60.0  # how long one process waits for another to finish writing


def reply_key(question: Mapping[str, Json]) -> str:
    """What a reply is kept under: a hash (64 hex digits) of everything that determines it.

    Args:
        question: server, model, messages, every decode setting, sample index, schema, attempt, ...: any JSON. Two
            questions share a reply exactly when they are equal, so a setting that is left out is a setting that
            does not count. API keys do not belong in it.

    Raises:
        RecordError: it holds NaN or an infinity.
    """
    return content_hash(question)


class Replies:
    """Replies by key. Safe with threads and with several processes; what was put is there after a kill.

    A reply is kept with its key as compressed JSON, so that a damaged one is noticed (zlib carries a checksum) and
    never returned.

    Args:
        path: the file; ``replies.sqlite`` in the user's cache folder when None. It is made where it does not exist.

    Raises:
        InputError: the file is damaged, is something else, or cannot be written. So do all methods.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = cache_folder() / "replies.sqlite" if path is None else path
        self._lock = threading.Lock()
        with self._explained():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                self.path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self) -> None:
        run = self._connection.execute
        (owner,) = run("PRAGMA application_id").fetchone()
        if owner != _OURS and run("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
            # another process may have made it ours between the two looks
            (owner,) = run("PRAGMA application_id").fetchone()
            if owner != _OURS:
                raise InputError(
                    "is a database of something else, not of kept replies", path=self.path, remedy="name another file"
                )
        # WAL lets others read while one writes; NORMAL survives a kill, and a power cut costs the last replies only
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")
        if owner != _OURS:
            run("BEGIN IMMEDIATE")
            run(f"PRAGMA application_id = {_OURS}")
            run("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply BLOB NOT NULL) WITHOUT ROWID")
            run("COMMIT")

    def get(self, key: str) -> Json | None:
        """The reply that was put under this key, or None."""
        with self._explained(), self._lock:
            row = self._connection.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        try:
            kept_key, reply = json.loads(zlib.decompress(row[0]))
        except (zlib.error, ValueError, TypeError) as error:
            raise self._damaged(str(error)) from error
        if kept_key != key:
            raise self._damaged("a reply is stored under another question's key")
        return reply

    def put(self, key: str, reply: Json) -> None:
        """Keep a reply; one that was put under the same key before is replaced."""
        packed = zlib.compress(json.dumps([key, reply], allow_nan=False).encode("ascii"))
        with self._explained(), self._lock:
            self._connection.execute("INSERT OR REPLACE INTO replies VALUES (?, ?)", (key, packed))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Errors of SQLite and of the disk as one sentence each."""
        try:
            yield
        except (sqlite3.DatabaseError, UnicodeDecodeError, OSError) as error:
            if isinstance(error, sqlite3.DatabaseError) and _first_code(error) not in _PLACE:
                raise self._damaged(str(error)) from error
            if isinstance(error, UnicodeDecodeError):  # the file's own table of contents is garbled
                raise self._damaged("its table of contents is not text") from error
            raise InputError(
                f"kept replies cannot be read or written ({error})",
                path=self.path,
                remedy="make room or give yourself the right to write there, or do without kept replies",
            ) from error

    def _damaged(self, how: str) -> InputError:
        return InputError(
            f"the file of kept replies is damaged ({how})",
            path=self.path,
            remedy="delete it: the replies in it are requested again",
        )


def _first_code(error: sqlite3.DatabaseError) -> int:
    """SQLite's primary result code (its low byte; the rest says more of the same)."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)) & 0xFF
