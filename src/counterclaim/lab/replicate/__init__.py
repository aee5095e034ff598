"""What the numbers that somebody reported can support, and what the files that they released give."""

from counterclaim.lab.replicate.artifacts import Recomputed, Released, read_artifacts
from counterclaim.lab.replicate.judging import judge
from counterclaim.lab.replicate.ledger import ARCS, Ledger, Line, paper, replicate, write
from counterclaim.lab.replicate.ruling import WORDS, Ruling

__all__ = [
    "ARCS", "WORDS", "Ledger", "Line", "Recomputed", "Released", "Ruling", "judge", "paper", "read_artifacts", "replicate",
    "write",
]  # fmt: skip
