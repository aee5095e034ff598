"""Head differences that somebody has published, against what chance gives."""

from __future__ import annotations

import json
import math
from pathlib import Path

from counterclaim.errors import InputError
from counterclaim.records import Json
from counterclaim.stats.heads import LargestD


def published(path: Path, cohort: str = "cw", against: str = "cr") -> dict[str, Json]:
    """What the null of the largest says of head differences that somebody has published.

    Reads a JSON file with a list of heads (``layer``, ``head``, ``cohen_d``), the cohorts' sizes (``cohorts``) and, where not
    all heads are listed, how many there are (``arch``: ``n_layers``, ``n_heads``). The heads' values per answer are not in
    such a file, so heads count as independent: those of one model are correlated, and reach somewhat less by chance.

    Raises:
        InputError: the file cannot be read, or lacks one of these.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read as JSON ({error})", path=path, remedy="name a file with heads") from error
    lists = [rows for rows in content.values() if _is_heads(rows)] if isinstance(content, dict) else []
    if not lists:
        raise InputError(
            "holds no list of heads with layer, head and cohen_d", path=path, remedy="name a file that has one"
        )
    sizes = content.get("cohorts", {})
    n1, n0 = (sizes.get(name) if isinstance(sizes, dict) else None for name in (cohort, against))
    if not isinstance(n1, int) or not isinstance(n0, int) or min(n1, n0) < 2:
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items()) if isinstance(sizes, dict) else "none"
        raise InputError(
            f"does not say how many answers are {cohort} and {against} (cohorts: {listed or 'none'})",
            path=path, remedy="name the cohorts that it has with --cohort and --against",
        )  # fmt: skip
    heads = max(lists, key=len)
    looked_at = max(len(heads), _heads_of(content.get("arch", {}), path))
    law = LargestD(looked_at, n1, n0)
    best = max(heads, key=lambda row: abs(row["cohen_d"]))
    size, p = abs(best["cohen_d"]), law.p(best["cohen_d"])
    median, q95 = law.quantile(0.5), law.quantile(0.95)
    verdict = "more than chance gives" if p <= 0.05 else "no more than chance gives"
    return {
        "n_heads": looked_at, "n_listed": len(heads), "cohort": {"name": cohort, "n": n1}, "against": {"name": against, "n": n0},
        "largest_d": best["cohen_d"], "layer": best["layer"], "head": best["head"], "p": p,
        "null": {"median": median, "q95": q95, "of": "the largest |d| of independent heads"},
        "n_beyond_q95": sum(abs(row["cohen_d"]) > q95 for row in heads),
        "because": f"the largest |d| of {looked_at} heads is {size:.3f} (layer {best['layer']} head {best['head']}, {n1} against "
        f"{n0} answers), {verdict}: independent heads without any difference reach {median:.2f} in the median and {q95:.2f} "
        f"one time in twenty (p {p:.2g})",
    }  # fmt: skip


def _heads_of(arch: Json, path: Path) -> int:
    """How many heads the model has, as far as the file says; 0 where it does not.

    Raises:
        InputError: it says so in something else than numbers.
    """
    sizes = [arch.get(name, 0) for name in ("n_layers", "n_heads")] if isinstance(arch, dict) else [arch]
    if not all(isinstance(size, int) for size in sizes):
        raise InputError(
            "arch does not say in whole numbers how many layers and heads there are (n_layers, n_heads)",
            path=path, remedy="fix them, or leave arch out where all heads are listed",
        )  # fmt: skip
    return math.prod(sizes)


def _is_heads(rows: Json) -> bool:
    return (
        isinstance(rows, list)
        and bool(rows)
        and all(isinstance(row, dict) and {"layer", "head", "cohen_d"} <= row.keys() for row in rows)
        and all(isinstance(row["cohen_d"], int | float) and math.isfinite(row["cohen_d"]) for row in rows)
    )
