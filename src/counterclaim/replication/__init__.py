"""What the numbers that somebody reported can support, and what the files that they released give."""

from counterclaim.replication.artifacts import Recomputed, Released, read_artifacts
from counterclaim.replication.judging import judge
from counterclaim.replication.ledger import ARCS, Ledger, Line, paper, replicate, write
from counterclaim.replication.ruling import WORDS, Ruling

__all__ = [
    "ARCS", "WORDS", "Ledger", "Line", "Recomputed", "Released", "Ruling", "judge", "paper", "read_artifacts", "replicate",
    "write",
]  # fmt: skip
