"""What attention heads tell of two cohorts, as one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from counterclaim.records import Json
from counterclaim.report.figures import draw
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
        _map(told, "magnitude", "d", "How loud each head is", (
            "Cohen's d of the L2 norm of each head's slice of the input of o_proj: above 0 where it is larger in the cohort."
        )),
        _map(told, "directional", "directional_d", "What each head points at", (
            "Cohen's d of the slices' projections on the difference of the cohorts' means, estimated out of fold: only above 0 "
            "is there a direction."
        )),
    ]  # fmt: skip
    without = told["layers_without_o_proj"]
    facts = [
        *((side, _cohort(told[side])) for side in ("cohort", "against")),
        ("heads", f"{told['n_heads']} in {told['n_layers'] - len(without)} of {told['n_layers']} layers"),
        ("read", f"the last {told['last_tokens']} tokens of each answer"),
        ("null", f"{told['permutations']} shuffles, seed {told['seed']}; {told['folds']} folds"),
    ]
    if without:
        facts.append(("no heads", f"layers {', '.join(map(str, without))} have no o_proj"))
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


def _map(told: Mapping[str, Json], part: str, key: str, title: str, what: str) -> dict[str, str]:
    heads: Sequence[Mapping[str, Json]] = told["heads"]
    value = {(row["layer"], row["head"]): row[key] for row in heads}
    layers, most = range(told["n_layers"]), 1 + max(row["head"] for row in heads)
    null = told[part]["null"]
    figure = {
        "kind": "heatmap", "label": title, "ylabel": "layer", "xlabel": "head", "bound": null["q95"],
        "rows": [str(layer) for layer in layers], "cols": [str(head) for head in range(most)],
        "values": [[value.get((layer, head)) for head in range(most)] for layer in layers],
    }  # fmt: skip
    against = (
        f"Shuffled cohorts reach {number(null['median'])} in the median, and {number(null['q95'])} one time in twenty."
    )
    return {"title": title, "told": f"{what} {against}", "picture": draw(figure, part) or ""}


def _cohort(side: Mapping[str, Json]) -> str:
    cut = f", {side['cut']} of them cut by the token budget" if side["cut"] else ""
    return f"{side['name']}: {side['n']} answers{cut}"


def _row(row: Mapping[str, Json]) -> dict[str, Json]:
    cells = [
        signed(row["d"]), p_value(row["p"]), signed(row["directional_d"]), p_value(row["directional_p"]),
        signed(row["in_sample_d"]), number(row["cosine"]),
    ]  # fmt: skip
    return {"name": f"layer {row['layer']} head {row['head']}", "cells": cells}
