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
HEAD = """\
<!-- Written by scripts/worlds_table.py from `counterclaim worlds --draws {draws} --json`. -->

# How often it is wrong

{draws} draws of each planted world, counted by `counterclaim worlds --draws {draws}`. `naive +` is the share of draws in which
an unpaired test of the two means gives p < 0.05 in the claimed direction. The last column names the checks that FAIL in at
least one draw of twenty. What each world is: `counterclaim list worlds`.

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
        head = f"| world | n | {' | '.join(word.lower() for word in VERDICTS)} | naive + | checks that fired |"
        parts.append(f"\n## Truth: {truth}\n\n{head}\n| --- {'| ---: ' * 6}| --- |\n{rows}\n")
    return "".join(parts)


def _row(row: dict[str, Any]) -> str:
    shares = " | ".join(f"{row['verdicts'].get(word, 0):.1%}" for word in VERDICTS)
    fired = ", ".join(
        f"{name} {found['FAIL']:.0%}" for name, found in row["checks"].items() if found.get("FAIL", 0) >= 0.05
    )
    return f"| `{row['world']}` | {row['n']} | {shares} | {row['naive']['mean_test_positive']:.1%} | {fired} |"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/worlds_table.py worlds.json")
    OUT.write_text(page(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), encoding="utf-8")
