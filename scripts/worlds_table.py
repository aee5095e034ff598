"""Turn the tables of planted worlds, statistical and trained, into Markdown: docs/worlds.md.

counterclaim worlds --draws 200 --json > worlds.json
counterclaim worlds --trained --draws 20 --json > trained.json
python scripts/worlds_table.py worlds.json trained.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from counterclaim.testing.calibration import Promise, promises

OUT = Path(__file__).resolve().parent.parent / "docs" / "worlds.md"
VERDICTS = ("SUPPORTED", "REFUTED", "INCONCLUSIVE", "INVALID")
NAIVE = {
    "mean_test_positive": "means +",
    "single_seed_positive": "one seed +",
    "cv_only_positive": "CV only +",
    "best_threshold_positive": "best cut +",
}
HEAD = """\
<!-- Written by scripts/worlds_table.py from `counterclaim worlds --draws {draws} --json` and `counterclaim worlds --trained --draws {few} --json`. -->

# How often it is wrong

Studies whose truth is known are drawn again and again, and the verdicts counted. A *statistical* world makes its answers up,
so it can be drawn {draws} times (`counterclaim worlds --draws {draws}`). A *trained* world is a study on tiny real models, run from
its prompts to its verdict, whose truth holds because it is known what those models were taught
(`counterclaim worlds --trained --draws {few}`). What each world is: `counterclaim list worlds`.

Beside the verdicts stand four naive protocols on the same draws: the share in which each would have taken the claim in. The
last column names the checks that FAIL in at least one draw of twenty.

* means +: an unpaired test of the two means gives p < 0.05 in the claimed direction.
* one seed +: the same test on the first training seed alone; empty where a world has one seed only.
* CV only +: a probe's cross-validated AUC beats shuffled labels at 5 %; empty where no probe is claimed.
* best cut +: with the best of 91 thresholds the gate reaches its bar, or the test its p; empty where nothing hangs on a threshold.

{draws} draws without a case leave room for {room:.1%} (Wilson, 95 %), {few} draws for {more_room:.1%}. So the trained worlds show
that verdicts come out right on answers that nobody made up, and only the statistical ones how rarely they do not.

A promise is held against the worst of the worlds that it is about. *Kept so far* says that the share is on the right side of what
is promised and its interval is not wholly: so many draws cannot tell. The promise about true nulls is about those that nothing
blurs; where seeds, thresholds or shuffled labels do, the tables below say how often the verdict is INCONCLUSIVE instead.
"""
PROMISES = "| promise | measured | Wilson, 95 % | worst world | promised | |\n| --- | ---: | ---: | --- | ---: | --- |"


def page(statistical: dict[str, Any], trained: dict[str, Any]) -> str:
    head = HEAD.format(
        draws=statistical["draws"], few=trained["draws"], room=_room(statistical), more_room=_room(trained)
    )
    return f"{head}\n## Statistical worlds\n\n{_tables(statistical)}\n## Trained worlds\n\n{_tables(trained)}"


def _room(table: dict[str, Any]) -> float:
    """Upper end of the interval of a share of 0."""
    return max(high for row in table["worlds"] for low, high in row["intervals"].values() if low == 0)


def _tables(table: dict[str, Any]) -> str:
    """What is promised, and the worlds of each truth."""
    parts = ["\n".join([PROMISES, *(_promise(promise) for promise in promises(table))]) + "\n"]
    for truth in dict.fromkeys(row["truth"] for row in table["worlds"]):
        rows = "\n".join(_row(row) for row in table["worlds"] if row["truth"] == truth)
        words = [*(word.lower() for word in VERDICTS), *NAIVE.values()]
        head = f"| world | n | {' | '.join(words)} | checks that fired |\n| --- {'| ---: ' * (1 + len(words))}| --- |"
        parts.append(f"\n### Truth: {truth}\n\n{head}\n{rows}\n")
    return "".join(parts)


def _promise(promise: Promise) -> str:
    low, high = promise.interval
    row = f"{promise.measured:.1%} | {low:.1%} to {high:.1%} | `{promise.worst}` | {promise.rule} {promise.bound:.0%}"
    return f"| {promise.name} | {row} | {promise.status} |"


def _row(row: dict[str, Any]) -> str:
    shares = [f"{row['verdicts'].get(word, 0):.1%}" for word in VERDICTS]
    naive = ["" if row["naive"][name] is None else f"{row['naive'][name]:.1%}" for name in NAIVE]
    fired = ", ".join(
        f"{name} {found['FAIL']:.0%}" for name, found in row["checks"].items() if found.get("FAIL", 0) >= 0.05
    )
    return f"| `{row['world']}` | {row['n']} | {' | '.join([*shares, *naive])} | {fired} |"


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python scripts/worlds_table.py worlds.json trained.json")
    tables = [json.loads(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:]]
    OUT.write_text(page(tables[0], tables[1]), encoding="utf-8")
