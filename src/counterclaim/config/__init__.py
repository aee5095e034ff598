"""What the user writes down in TOML: one dataclass per table, read and validated; the claim file is the core's own."""

from __future__ import annotations

from counterclaim.config.claim import ClaimFile, load_claim, lock_path, lock_text, read_lock, template, to_claim
from counterclaim.config.tables import After, Before, Beside, TableError, line_of, read_toml, table, validated
from counterclaim.config.written import Written, as_written, decimals_of, rounds_to

__all__ = [
    "After", "Before", "Beside", "ClaimFile", "TableError", "Written", "as_written", "decimals_of", "line_of", "load_claim",
    "lock_path", "lock_text", "read_lock", "read_toml", "rounds_to", "table", "template", "to_claim", "validated",
]  # fmt: skip
