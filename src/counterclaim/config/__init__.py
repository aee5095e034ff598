"""What the user writes down in TOML: reading it, checking it, and the claim; every error names the key and the line."""

from __future__ import annotations

from counterclaim.config.claim import (
    line_of,
    load_claim,
    lock_path,
    lock_text,
    read_lock,
    read_toml,
    template,
    validated,
)
from counterclaim.config.written import Written, as_told, decimals_of, rounds_to

__all__ = [
    "Written",
    "as_told",
    "decimals_of",
    "line_of",
    "load_claim",
    "lock_path",
    "lock_text",
    "read_lock",
    "read_toml",
    "rounds_to",
    "template",
    "validated",
]
