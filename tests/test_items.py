from __future__ import annotations

from collections import Counter

import pytest

from conftest import arm_of, bits, counts_only, evidence_of, two_arms
from counterclaim.audit.items import paired_items


def test_binary_outcomes_are_named() -> None:
    evidence = evidence_of(
        arm_of("control", {"correct": [1.0, 1.0, 0.0, 0.0, None]}, cut=[3]),
        arm_of("treated", {"correct": [1.0, 0.0, 1.0, 0.0, 1.0]}),
    )
    items, total = paired_items(evidence, most=10)
    assert total == len(items) == 5
    assert Counter(item.outcome for item in items) == {
        "both right": 1, "lost": 1, "gained": 1, "both wrong": 1, "unscored": 1,
    }  # fmt: skip
    gained = next(item for item in items if item.outcome == "gained")
    assert gained.delta == 1.0
    assert gained.control.value == 0.0
    assert gained.treated.labels == {"correct": 1.0}
    assert gained.prompt.startswith("Question number2")
    cut = next(item for item in items if item.outcome == "both wrong").control
    assert (cut.finish, cut.provenance) == ("length", "recorded")
    unscored = next(item for item in items if item.outcome == "unscored")
    assert unscored.delta is None
    assert unscored.control.value is None


def test_graded_outcomes_are_higher_lower_or_equal() -> None:
    evidence = evidence_of(
        arm_of("control", {"score.x": [0.1, 0.5, 0.5]}),
        arm_of("treated", {"score.x": [0.2, 0.5, 0.3]}),
        metric="score.x",
    )
    items, _ = paired_items(evidence, most=10)
    outcomes = {item.prompt.partition(":")[0]: item.outcome for item in items}
    assert outcomes == {"Question number0": "higher", "Question number1": "equal", "Question number2": "lower"}


def test_only_pairs_are_shown_and_samples_pair_in_order() -> None:
    first = arm_of("control", {"correct": bits(2, 4)}, ids=range(4))
    again = arm_of("control", {"correct": bits(2, 4)}, ids=range(4), sample=1)
    treated = arm_of("treated", {"correct": bits(2, 4)}, ids=range(2, 6))
    evidence = evidence_of((first[0] + again[0], first[1] + again[1]), treated)
    items, total = paired_items(evidence, most=10)
    assert total == len(items) == 2


def test_what_a_check_points_at_and_rare_outcomes_are_kept() -> None:
    evidence = two_arms(400, 0.4, 0.41)  # 4 gained, 160 both right, 236 both wrong
    pointed = evidence.prompt_ids[-3:]
    items, total = paired_items(evidence, most=40, first=pointed)
    assert total == 400
    assert len(items) == 40
    assert {item.prompt_id for item in items} >= set(pointed)
    assert Counter(item.outcome for item in items)["gained"] == 4
    assert [item.prompt_id for item in items] == sorted(item.prompt_id for item in items)
    assert paired_items(evidence, most=40, first=pointed)[0] == items


@pytest.mark.parametrize("evidence", [counts_only(), evidence_of(arm_of("control", {"correct": bits(2, 4)}))])
def test_nothing_is_paired_where_there_are_not_two_arms(evidence: object) -> None:
    assert paired_items(evidence, most=10) == ([], 0)  # type: ignore[arg-type]  # built by the parametrisation
