"""Paired answers, laid out to be read side by side."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from counterclaim.audit.evidence import Arm, Evidence
from counterclaim.audit.metrics import Floats
from counterclaim.records import CONTROL, TREATED
from counterclaim.registry import Metric
from counterclaim.report.page import PairedItem, Side


def paired_items(evidence: Evidence, *, most: int, first: Iterable[str] = ()) -> tuple[list[PairedItem], int]:
    """At most ``most`` paired items and how many there are.

    Where not all fit, those that a check pointed at come first, then outcomes in turn, so that rare ones are seen.
    """
    if evidence.counts is not None or not {CONTROL, TREATED} <= set(evidence.arms):
        return [], 0
    control, treated = evidence.control, evidence.treated
    values = [_reading(arm, evidence.metric) for arm in (control, treated)]
    by_prompt: dict[str, list[int]] = {}
    for at, response in enumerate(treated.responses):
        by_prompt.setdefault(response.prompt_id, []).append(at)
    binary = _binary(values)
    taken: dict[str, int] = {}
    pairs = []
    for i, response in enumerate(control.responses):
        k = taken.get(response.prompt_id, 0)
        others = by_prompt.get(response.prompt_id, [])
        if k < len(others):
            taken[response.prompt_id] = k + 1
            j = others[k]
            pairs.append((i, j, _outcome(values[0][i], values[1][j], binary=binary)))
    chosen = pairs if len(pairs) <= most else _choose(pairs, control, most, set(first))
    items = []
    for i, j, outcome in chosen:
        prompt, c, t = evidence.prompts[control.responses[i].prompt_id], float(values[0][i]), float(values[1][j])
        delta = None if np.isnan(c) or np.isnan(t) else t - c
        sides = _side(control, i, c), _side(treated, j, t)
        items.append(PairedItem(prompt.id, prompt.text or prompt.id, outcome, *sides, delta))
    return items, len(pairs)


def _choose(pairs: list[tuple[int, int, str]], control: Arm, most: int, first: set[str]) -> list[tuple[int, int, str]]:
    chosen = [pair for pair in pairs if control.responses[pair[0]].prompt_id in first][: most // 4]
    kept = set(chosen)
    piles: dict[str, list[tuple[int, int, str]]] = {}
    for pair in pairs:
        if pair not in kept:
            piles.setdefault(pair[2], []).append(pair)
    queues = [iter(pile) for _, pile in sorted(piles.items())]
    while queues and len(chosen) < most:
        for queue in list(queues):
            following = next(queue, None)
            if following is None:
                queues.remove(queue)
            elif len(chosen) < most:
                chosen.append(following)
    return sorted(chosen)


def _reading(arm: Arm, metric: Metric) -> Floats:
    """One number per answer to compare by: the metric's own value, or correctness where it has none per answer."""
    return arm.values(metric) if metric.kind == "mean" else arm.numbers("correct")


def _binary(values: list[Floats]) -> bool:
    together = np.concatenate(values)
    return bool(np.isin(together[~np.isnan(together)], (0, 1)).all())


def _outcome(c: float, t: float, *, binary: bool) -> str:
    if np.isnan(c) or np.isnan(t):
        return "unscored"
    if binary:
        return ("both wrong", "gained", "lost", "both right")[2 * int(c) + int(t)]
    return "higher" if t > c else "lower" if t < c else "equal"


def _side(arm: Arm, at: int, value: float) -> Side:
    response = arm.responses[at]
    return Side(
        text=response.text,
        value=None if np.isnan(value) else value,
        labels={
            axis: label for axis in sorted(arm.columns) if (label := arm.columns[axis].values[at]) is not None
        },
        finish=str(response.finish_reason),
        provenance=None if response.finish_provenance is None else str(response.finish_provenance),
        n_tokens=response.n_tokens,
        error=response.error,
    )  # fmt: skip
