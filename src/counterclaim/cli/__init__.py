"""The command line: thin verbs. The only room that prints or exits.

Exit codes of commands that end in a verdict: 0 SUPPORTED, 1 REFUTED, 2 bad input or usage, 3 INCONCLUSIVE, 4 INVALID.
"""

from __future__ import annotations

# importing the verbs joins them to the application, in this order of --help
from counterclaim.cli import judging, making, measuring, probing, prompting, reading, teaching

# isort: split
from counterclaim.cli import editing, replicating
from counterclaim.cli.application import app, main

__all__ = [
    "app", "editing", "judging", "main", "making", "measuring", "probing", "prompting", "reading", "replicating", "teaching",
]  # fmt: skip
