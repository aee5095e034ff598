"""Turn the table of planted worlds into Markdown: docs/worlds.md.

counterclaim worlds --draws 200 --json > worlds.json
python scripts/worlds_table.py worlds.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

OUT = Path(__file__).resolve().parent.parent / "docs" / "worlds.md"
VERDICTS = ("SUPPORTED", "REFUTED", "INCONCLUSIVE", "INVALID")
NAIVE = {
    "mean_test_positive": "means +",
    "single_seed_positive": "one seed +",
    "cv_only_positive": "CV only +",
    "best_threshold_positive": "best cut +",
}
HEAD = """\
<!-- Written by scripts/worlds_table.py from `counterclaim worlds --draws {draws} --json`. -->

# How often it is wrong

{draws} draws of each planted world, counted by `counterclaim worlds --draws {draws}`. Beside the verdicts stand four naive
protocols on the same draws: the share in which each would have taken the claim in. The last column names the checks that FAIL
in at least one draw of twenty. What each world is: `counterclaim list worlds`.

* means +: an unpaired test of the two means gives p < 0.05 in the claimed direction.
* one seed +: the same test on the first training seed alone; empty where a world has one seed only.
* CV only +: a probe's cross-validated AUC beats shuffled labels at 5 %; empty where no probe is claimed.
* best cut +: with the best of 91 thresholds the gate reaches its bar, or the test its p; empty where nothing hangs on a threshold.

| promise | measured | worst world | promised | |
| --- | --- | --- | --- | --- |
{promises}
"""


def page(table: dict[str, Any]) -> str:
    promises = "\n".join(
        f"| {p['name']} | {p['measured']:.1%} | `{p['worst']}` | {p['bound']:.0%} | {'kept' if p['holds'] else 'BROKEN'} |"
        for p in table["promises"]
    )
    parts = [HEAD.format(draws=table["draws"], promises=promises)]
    for truth in dict.fromkeys(row["truth"] for row in table["worlds"]):
        rows = "\n".join(_row(row) for row in table["worlds"] if row["truth"] == truth)
        words = [word.lower() for word in VERDICTS]
        head = f"| world | n | {' | '.join([*words, *NAIVE.values()])} | checks that fired |"
        parts.append(
            f"\n## Truth: {truth}\n\n{head}\n| --- {'| ---: ' * (1 + len(words) + len(NAIVE))}| --- |\n{rows}\n"
        )
    return "".join(parts)


def _row(row: dict[str, Any]) -> str:
    shares = [f"{row['verdicts'].get(word, 0):.1%}" for word in VERDICTS]
    naive = ["" if row["naive"][name] is None else f"{row['naive'][name]:.1%}" for name in NAIVE]
    fired = ", ".join(
        f"{name} {found['FAIL']:.0%}" for name, found in row["checks"].items() if found.get("FAIL", 0) >= 0.05
    )
    return f"| `{row['world']}` | {row['n']} | {' | '.join([*shares, *naive])} | {fired} |"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/worlds_table.py worlds.json")
    OUT.write_text(page(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), encoding="utf-8")
