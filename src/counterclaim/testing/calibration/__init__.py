"""How often the verdicts are right: every planted world drawn many times, and every verdict and check counted.

The table is the tool's own known-answer card. Beside each row stand the naive protocols, on the same draws.
"""

from counterclaim.testing.calibration.drawing import tally
from counterclaim.testing.calibration.table import CheckRates, Judged, Promise, check_rates, judge, promises, row_of

__all__ = [
    "CheckRates",
    "Judged",
    "Promise",
    "check_rates",
    "judge",
    "promises",
    "row_of",
    "tally",
]
