"""Trained arms for the pages: how their adapters were trained, and form beside function. Words and figure data, no markup."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from counterclaim.errors import RecordError
from counterclaim.records import Estimate, Json
from counterclaim.report.page import WORDS, Page
from counterclaim.report.words import number, one_line

COLUMNS = ("arm", "seed", "recipe", "stages", "data", "examples", "parameters", "steps", "at the end", "seconds")
"""Of the table of adapters, in order; from the sixth on they are numbers."""

_HASH = 8
_DRAWN = {"loss": "loss", "reward": "reward", "accuracy": "share right", "assertion_rate": "share asserted"}


def adapters(page: Page) -> list[list[str]]:
    """A row of ``COLUMNS`` for every trained adapter; stages of one training stand side by side in a cell."""
    rows = []
    for entry in _entries(page):
        stages = _stages(entry)
        recipe = one_line(entry.get("recipe"), 60) or "as set"
        rows.append([
            one_line(entry.get("arm"), 60), _seed(entry),
            f"{recipe}, shuffled" if entry.get("placebo") is True else recipe,
            ", ".join(_method(stage) for stage in stages), one_line(entry.get("data_hash"))[:_HASH],
            number(entry.get("n_examples")), number(entry.get("parameters")),
            ", ".join(number(stage.get("steps")) for stage in stages),
            ", ".join(_ended(stage) for stage in stages), number(entry.get("seconds")),
        ])  # fmt: skip
    return rows


def curves(page: Page) -> list[tuple[str, list[dict[str, Json]]]]:
    """(arm, figures) of every trained arm: what each of its stages logged by step, one line for each seed."""
    by_arm: dict[str, list[Mapping[str, Json]]] = {}
    for entry in _entries(page):
        by_arm.setdefault(one_line(entry.get("arm"), 60), []).append(entry)
    out = []
    for arm, entries in by_arm.items():
        figures: list[dict[str, Json]] = []
        for stages in zip_longest(*(_stages(entry) for entry in entries)):
            logged = [(_seed(entry), stage) for entry, stage in zip(entries, stages, strict=True) if stage is not None]
            for key, label in _DRAWN.items():
                series = [
                    {"name": f"seed {seed}", "x": _column(stage, "step"), "y": _column(stage, key)}
                    for seed, stage in logged
                    if _column(stage, key)
                ]
                title = f"{_method(logged[0][1])}: {label}"
                if series:
                    figures.append({"kind": "curves", "title": title, "xlabel": "step", "series": series})
        if figures:
            out.append((arm, figures))
    return out


def notes(page: Page) -> list[str]:
    """What the trainings noted, each once, with the arm that it is about."""
    found = [
        f"{one_line(entry.get('arm'), 60)}, seed {_seed(entry)}: {one_line(note)}"
        for entry in _entries(page)
        for note in (entry["notes"] if isinstance(entry.get("notes"), list) else [])
    ]
    return list(dict.fromkeys(found))


def settings(page: Page) -> str:
    """Everything that is known of the trainings but their logs, as indented JSON; "" where nothing was trained."""
    bare = [
        {
            **{key: value for key, value in entry.items() if key != "stages"},
            "stages": [{key: value for key, value in stage.items() if key != "log"} for stage in _stages(entry)],
        }
        for entry in _entries(page)
    ]
    return json.dumps(bare, ensure_ascii=False, indent=1) if bare else ""


def form_and_function(page: Page) -> tuple[list[str], list[tuple[str, list[Estimate | None]]]]:
    """(headings, rows) of the rates of control and of every trained arm; a row is an arm's name and one estimate a heading.

    Empty where the check ``language-to-behaviour`` found none of them scored.
    """
    arms = next((check.details.get("arms") for check in page.checks if check.check == "language-to-behaviour"), None)
    rates = WORDS["rates"]
    rows = [
        (one_line(name, 60), [_estimate(_mapping(arm).get(key)) for key in rates])
        for name, arm in _mapping(arms).items()
    ]
    shown = [at for at in range(len(rates)) if any(row[at] for _, row in rows)]
    headings = [list(rates.values())[at] for at in shown]
    return headings, [(name, [row[at] for at in shown]) for name, row in rows] if shown else []


def _estimate(value: Json) -> Estimate | None:
    try:
        return Estimate(**value)
    except (TypeError, RecordError):
        return None


def _entries(page: Page) -> list[Mapping[str, Json]]:
    given = page.training
    return [entry for entry in given if isinstance(entry, Mapping)] if isinstance(given, list) else []


def _stages(entry: Mapping[str, Json]) -> list[Mapping[str, Json]]:
    given = entry.get("stages")
    return [stage for stage in given if isinstance(stage, Mapping)] if isinstance(given, list) else []


def _column(stage: Mapping[str, Json], key: str) -> list[Json]:
    column = _mapping(stage.get("log")).get(key)
    return column if isinstance(column, list) else []


def _method(stage: Mapping[str, Json]) -> str:
    return one_line(stage.get("method"), 40) or "training"


def _seed(entry: Mapping[str, Json]) -> str:
    seed = entry.get("seed")
    return one_line(entry.get("replicate") if seed is None else seed, 20)


def _ended(stage: Mapping[str, Json]) -> str:
    """The last reward of a stage that learns from rewards, whose loss says nothing; of any other the last loss."""
    name = "reward" if _column(stage, "reward") else "loss"
    return f"{name} {number(_last(_column(stage, name)))}"


def _last(column: Sequence[Json]) -> Any:
    return next((value for value in reversed(column) if value is not None), None)


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}
