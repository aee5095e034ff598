"""Several studies run one after another or beside each other, and one page that tells what came of them.

    series.toml ─> studies, each in a run folder of its own ─> series.json, report.html

Each study is run, resumed and judged as by itself; what is added here is the order in which they run, what a naive
comparison would have said of the same answers, and the page.
"""

from __future__ import annotations

from counterclaim.lab.suite.running import DONE, FAILED, Watch
from counterclaim.lab.suite.whole import SHIPPED, find, run_series, shipped

__all__ = ["DONE", "FAILED", "SHIPPED", "Watch", "find", "run_series", "shipped"]
