"""Where things that outlive a run folder are kept."""

from __future__ import annotations

import os
from pathlib import Path

CACHE = "COUNTERCLAIM_CACHE"


def cache_folder() -> Path:
    """The user's cache folder for tiny models and kept replies: ``$COUNTERCLAIM_CACHE``, or the system's own place."""
    if named := os.environ.get(CACHE):
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "counterclaim"
