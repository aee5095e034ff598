"""What attention heads tell of two cohorts, as one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping

from counterclaim.records import Json
from counterclaim.report.figures import draw
from counterclaim.report.fitted import maps_of
from counterclaim.report.html import page_of
from counterclaim.report.words import number, one_line, p_value, signed

_MOST_ROWS = 20


def render_attribution(told: Mapping[str, Json], title: str) -> str:
    """The page of an attribution: two heat maps of layers and heads, and the heads with the largest differences.

    Args:
        told: ``Attribution.to_json()``.
        title: whose answers these are.
    """
    heads = told["heads"]
    maps = [
        {"title": figure["label"], "told": caption, "picture": draw(figure, f"heads-{at}") or ""}
        for at, (figure, caption) in enumerate(maps_of(told))
    ]
    without = told["layers_without_o_proj"]
    facts = [
        *((side, _cohort(told[side])) for side in ("cohort", "against")),
        ("heads", f"{told['n_heads']} in {told['n_layers'] - len(without)} of {told['n_layers']} layers"),
        ("read", f"the last {told['last_tokens']} tokens of each answer"),
        ("null", f"{told['permutations']} shuffles, seed {told['seed']}; {told['folds']} folds"),
    ]
    if without:
        named = f"layer {without[0]} has" if len(without) == 1 else f"layers {', '.join(map(str, without))} have"
        facts.append(("no heads", f"{named} no o_proj"))
    if told["unread"]:
        facts.append(("not read", f"{told['unread']} answers, without text or too long"))
    ranked = sorted(heads, key=lambda row: (-max(abs(row["d"]), row["directional_d"]), row["layer"], row["head"]))
    return page_of(
        "attribution.html.j2",
        {
            "title": one_line(title), "cohort": one_line(told["cohort"]["name"]), "against": one_line(told["against"]["name"]),
            "because": one_line(told["because"]), "facts": [(name, one_line(text)) for name, text in facts], "maps": maps,
            "rows": [_row(row) for row in ranked[:_MOST_ROWS]], "in_sample": number(told["in_sample"]["null"]["median"]),
        },
    )  # fmt: skip


def _cohort(side: Mapping[str, Json]) -> str:
    cut = f", {side['cut']} of them cut by the token budget" if side["cut"] else ""
    return f"{side['name']}: {side['n']} answers{cut}"


def _row(row: Mapping[str, Json]) -> dict[str, Json]:
    cells = [
        signed(row["d"]), p_value(row["p"]), signed(row["directional_d"]), p_value(row["directional_p"]),
        signed(row["in_sample_d"]), number(row["cosine"]),
    ]  # fmt: skip
    return {"name": f"layer {row['layer']} head {row['head']}", "cells": cells}
