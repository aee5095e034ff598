"""The benchmark of generation runs, compares equal work, and gets equal answers."""

from __future__ import annotations

import math

import torch

from benchmarks.edits import edit_duels
from benchmarks.generation import generation_duels

torch.set_num_threads(1)


def test_both_sides_of_every_duel_give_the_same_answers() -> None:
    rows = generation_duels(quick=True)
    assert [row["agreement"] for row in rows] == [0.0, 0.0, None, 0.0]
    for row in rows:
        assert list(row) == ["name", "ours", "peer", "peer_s", "ratio", "agreement"]
        assert math.isclose(row["ratio"], row["peer_s"] / row["ours"])
    assert rows[-1]["ratio"] > 1, "a sweep of budgets costs less than the runs that it replaces"


def test_a_sweep_of_scales_is_its_separate_runs_whoever_scales() -> None:
    rows = edit_duels(quick=True)
    assert len(rows) == 6
    assert {row["agreement"] for row in rows} == {0.0}
