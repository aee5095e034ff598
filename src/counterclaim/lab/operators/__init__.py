"""What changes how a model behaves. Importing this package registers the built-in operators and rewards, and imports no torch."""

from __future__ import annotations

from counterclaim.lab.operators import rewards, sidecar, steer, temper, tune

__all__ = ["rewards", "sidecar", "steer", "temper", "tune"]
