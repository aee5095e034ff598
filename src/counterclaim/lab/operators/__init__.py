"""What changes how a model behaves. Importing this package registers the built-in operators and rewards, and imports no torch."""

from __future__ import annotations

from counterclaim.lab.operators import builtin, rewards

__all__ = ["builtin", "rewards"]
