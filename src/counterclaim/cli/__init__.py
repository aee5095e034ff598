"""The command line: thin verbs. The only room of the core that prints or exits.

Exit codes of commands that end in a verdict: 0 SUPPORTED, 1 REFUTED, 2 bad input or usage, 3 INCONCLUSIVE, 4 INVALID.
"""

from __future__ import annotations

from counterclaim.cli.application import app, main

__all__ = ["app", "main"]
