"""Where things that outlive a run folder are kept."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
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
