"""What operators without training fitted, for the pages: which heads, which direction, which gate. Words and figures, no markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from counterclaim.audit.metrics import COHORT_WORDS
from counterclaim.records import Json
from counterclaim.report.page import Page
from counterclaim.report.words import number, one_line

COLUMNS = ("arm", "seed", "operator", "what was fitted", "fitted on")
"""Of the table of fits, in order."""

_MOST_HEADS = 12


def fits(page: Page) -> list[list[str]]:
    """A row of ``COLUMNS`` for every fit."""
    return [
        [
            one_line(entry.get("arm"), 60), one_line(entry.get("seed"), 20), one_line(entry.get("operator"), 40),
            one_line(_fitted(_card(entry)) or "see its card"), one_line(_fitted_on(_card(entry))),
        ]
        for entry in _entries(page)
    ]  # fmt: skip


def maps(page: Page) -> list[tuple[dict[str, Json], str]]:
    """(figure, caption) of the heads on which a tempered arm rests: how loud each is, and what it points at."""
    for entry in _entries(page):
        attribution = _card(entry).get("attribution")
        if isinstance(attribution, Mapping) and _card(entry).get("placebo") is not True:
            return maps_of(attribution)
    return []


def notes(page: Page) -> list[str]:
    """What the fits noted, each once, with the arm that it is about; random fits have none."""
    found_notes = []
    for entry in _entries(page):
        card = _card(entry)
        if card.get("placebo") is True:
            continue
        found = list(card["notes"]) if isinstance(card.get("notes"), list) else []
        if isinstance(card.get("attribution"), Mapping) and card["attribution"].get("because"):
            found.append(card["attribution"]["because"])
        found_notes += [f"{one_line(entry.get('arm'), 60)}: {one_line(note)}" for note in found]
    return list(dict.fromkeys(found_notes))


def maps_of(attribution: Mapping[str, Any]) -> list[tuple[dict[str, Json], str]]:
    """(figure, caption) of the two heat maps of an attribution: how loud each head is, and what it points at."""
    return [
        _map(attribution, "magnitude", "d", "How loud each head is", (
            "Cohen's d of the L2 norm of each head's slice of the input of o_proj: above 0 where it is larger in the cohort."
        )),
        _map(attribution, "directional", "directional_d", "What each head points at", (
            "Cohen's d of the slices' projections on the difference of the cohorts' means, estimated out of fold: only above 0 "
            "is there a direction."
        )),
    ]  # fmt: skip


def _map(attribution: Mapping[str, Any], part: str, key: str, title: str, what: str) -> tuple[dict[str, Json], str]:
    heads: Sequence[Mapping[str, Json]] = attribution["heads"]
    value = {(row["layer"], row["head"]): row[key] for row in heads}
    layers, most = range(attribution["n_layers"]), 1 + max(row["head"] for row in heads)
    null = attribution[part]["null"]
    figure: dict[str, Json] = {
        "kind": "heatmap", "label": title, "ylabel": "layer", "xlabel": "head", "bound": null["q95"], "one_sided": part == "directional",
        "rows": [str(layer) for layer in layers], "cols": [str(head) for head in range(most)],
        "values": [[value.get((layer, head)) for head in range(most)] for layer in layers],
    }  # fmt: skip
    against = (
        f"Shuffled cohorts reach {number(null['median'])} in the median, and {number(null['q95'])} one time in twenty."
    )
    return figure, f"{what} {against}"


def _fitted(card: Mapping[str, Any]) -> str:
    random = "random " if card.get("placebo") is True else ""
    match card.get("operator"):
        case "temper":
            heads = [f"{layer}.{head}" for layer, head in card["heads"]]
            more = f" and {len(heads) - _MOST_HEADS} more" if len(heads) > _MOST_HEADS else ""
            named = f"{random}heads (layer.head) {', '.join(heads[:_MOST_HEADS])}{more}"
            return named if random or not card.get("chosen") else f"{named}, {card['chosen']}"
        case "steer":
            where = ", ".join(f"layer {row['layer']} (norm {number(row.get('norm'))})" for row in card["layers"])
            rank = f" of rank {card['rank']}" if card["rank"] != 1 else ""
            what = f"{random}{'direction' if card['kind'] == 'add' else 'subspace'}{rank}"
            return f"{what} to {card['kind']} at {card['site']}, {where}"
        case "sidecar":
            auc = card["auc_out_of_fold"]
            shuffled = ", labels shuffled" if random else ""
            return (
                f"gate at {number(card['threshold'])} on a {card['probe']['classifier']} probe; out of fold AUC "
                f"{number(auc['estimate'])}, asymmetry {number(card['asymmetry_out_of_fold'])}{shuffled}"
            )
    return ""


def _fitted_on(card: Mapping[str, Any]) -> str:
    match card.get("operator"):
        case "temper" if isinstance(card.get("attribution"), Mapping):
            return _cohorts(card["attribution"], "cohort", "against")
        case "steer":
            return _cohorts(card, "toward", "away")
        case "sidecar":
            return f"{card['n_pos']} of {card['n']} answers are {card['probe']['cohort']}"
    return ""


def _cohorts(card: Mapping[str, Any], one: str, other: str) -> str:
    sides = [(card[side]["n"], str(card[side]["name"])) for side in (one, other)]
    return " against ".join(f"{n} answers {COHORT_WORDS.get(name, name)}" for n, name in sides)


def _entries(page: Page) -> list[Mapping[str, Json]]:
    given = page.edits
    return [entry for entry in given if isinstance(entry, Mapping)] if isinstance(given, list) else []


def _card(entry: Mapping[str, Json]) -> Mapping[str, Any]:
    card = entry.get("card")
    return card if isinstance(card, Mapping) else {}
