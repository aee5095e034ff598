"""Runs code that a model wrote, where it can do no harm, and tells whether it passes its tests."""

from counterclaim.lab.sandbox.pool import Pool, available
from counterclaim.lab.sandbox.programs import Execution, Limits, Outcome, Program

__all__ = ["Execution", "Limits", "Outcome", "Pool", "Program", "available"]
