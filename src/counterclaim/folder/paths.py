"""Where things that outlive a run folder are kept."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from counterclaim.errors import InputError

CACHE = "COUNTERCLAIM_CACHE"


def cache_folder() -> Path:
    """The user's cache folder for tiny models and kept replies: ``$COUNTERCLAIM_CACHE``, or the system's own place."""
    if named := os.environ.get(CACHE):
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "counterclaim"


@contextmanager
def whole_folder(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """A new folder that appears whole or not at all: fill the one that is given, it moves into place at the end.

    Where the folder is there already, or another process has put it there meanwhile, that one is kept; with ``replace``
    the new one takes its place.

    Raises:
        InputError: it cannot be written (the disk is full, the place is not ours).
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            yield beside
            beside.chmod(0o755)
            if replace and folder.exists():
                with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as old:
                    folder.replace(Path(old) / folder.name)
                    beside.replace(folder)
            elif not folder.exists():
                beside.replace(folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"cannot be written ({error.strerror or error})", path=folder, remedy="make room, or choose another place"
        ) from error


def remove_folder(folder: Path) -> None:
    """Delete a folder of our own with everything in it; one that is not there is no error."""
    shutil.rmtree(folder, ignore_errors=True)


def keep_at_top(folder: Path, inner: Path, names: Iterable[str]) -> None:
    """Move files of an inner folder to the top of ``folder``, and delete every folder in it; killed, it can be done again."""
    for name in names:
        if (inner / name).exists():
            (inner / name).replace(folder / name)
    for left in folder.iterdir():
        if left.is_dir():
            shutil.rmtree(left)


def make_folder(folder: Path) -> None:
    """Make a folder where there is none.

    Raises:
        InputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot be written ({error.strerror or error})", path=folder, remedy="choose another --out"
        ) from error


def put_in_place(made: Path, folder: Path) -> None:
    """Move a folder that is whole to its place; what stood there is deleted."""
    shutil.rmtree(folder, ignore_errors=True)
    made.replace(folder)
