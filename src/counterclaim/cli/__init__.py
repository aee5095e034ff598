"""The command line: thin verbs. The only room that prints or exits.

Exit codes of commands that end in a verdict: 0 SUPPORTED, 1 REFUTED, 2 bad input or usage, 3 INCONCLUSIVE, 4 INVALID.
"""

from __future__ import annotations

# importing the verbs joins them to the application, in this order of --help
from counterclaim.cli import judging, making, measuring, prompting, reading, teaching
from counterclaim.cli.application import app, main

__all__ = ["app", "judging", "main", "making", "measuring", "prompting", "reading", "teaching"]
