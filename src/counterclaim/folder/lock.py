"""One process at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from counterclaim.errors import InputError

LOCK_FILE = ".held"
"""File in a run folder that the process at work locks; it is gone when that process has ended well."""

_WAIT_S = 0.2


@contextmanager
def locked(folder: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Keep other processes out of a run folder, from reading what it holds to finishing it; made where it is missing.

    Args:
        folder: the run folder.
        waiting: called now and then while another process is at work in it, whose end is then waited for.

    Raises:
        InputError: another process works in it and ``waiting`` is None, or it cannot be written.
    """
    is_new = False
    try:
        is_new = not folder.exists()
        file = _locked_file(folder, waiting)
    except FileExistsError as error:
        raise InputError(
            "a file stands where the run folder should go", path=folder, remedy="choose another --out"
        ) from error
    except BlockingIOError as error:
        raise at_work(folder) from error
    except OSError as error:
        raise InputError(
            f"the run folder cannot be written ({error.strerror})", path=folder, remedy="choose another --out"
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / LOCK_FILE).unlink()
            if is_new:
                folder.rmdir()  # only where nothing came of it
        file.close()


def _locked_file(folder: Path, waiting: Callable[[], None] | None) -> IO[bytes]:
    """The locked lock file of a folder; the process that had it last may have deleted both meanwhile, and then they are made again."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            file = (folder / LOCK_FILE).open("ab")
            try:
                lock(file)
                if os.path.samestat(os.fstat(file.fileno()), (folder / LOCK_FILE).stat()):
                    return file
            except BlockingIOError:
                if waiting is None:
                    file.close()
                    raise
                waiting()
                time.sleep(_WAIT_S)
            except BaseException:
                file.close()
                raise
            file.close()


def lock(file: IO[bytes]) -> None:
    """Lock a file for this process, where the system knows such locks. Raises BlockingIOError where another one has it."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a network drive without locks; the folder is then the user's to guard
        return


def at_work(folder: Path) -> InputError:
    """The error where another process holds a folder."""
    return InputError(
        "another process is at work in this run folder", path=folder, remedy="wait for it, or choose another --out"
    )
