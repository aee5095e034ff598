from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conftest import answer, arm_of, bits, counts_only, evidence_of, two_arms
from counterclaim.audit.evidence import Evidence
from counterclaim.audit.metrics import CELLS
from counterclaim.errors import InputError
from counterclaim.records import Claim


def test_columns_are_aligned_with_answers_whatever_the_order_of_the_files() -> None:
    values = bits(4, 10)
    straight = evidence_of(arm_of("control", {"correct": values}))
    responses, scores = arm_of("control", {"correct": values})
    turned = Evidence(straight.claim, straight.prompts, responses[::-1], scores[::-1])
    for evidence in (straight, turned):
        arm = evidence.control
        by_id = {r.prompt_id: s.value for r, s in zip(responses, scores, strict=True)}
        assert arm.numbers("correct").tolist() == [by_id[r.prompt_id] for r in arm.responses]
        assert [evidence.prompt_ids[i] for i in arm.index] == [r.prompt_id for r in arm.responses]


def test_unscored_is_neither_zero_nor_a_label() -> None:
    arm = evidence_of(
        arm_of("control", {"correct": [1.0, None, 0.0], "delivery": ["assert", "hedge", None]}, reason="time-out")
    ).control
    assert np.isnan(arm.numbers("correct")).sum() == 1
    assert arm.labels("delivery").count(None) == 1
    assert set(arm.columns["correct"].reasons.values()) == {"time-out"}
    assert arm.cells().sum() == 1
    assert arm.numbers("nothing").shape == (3,)
    assert arm.labels("nothing") == [None] * 3


def test_cells_are_right_or_wrong_by_assert_or_hedge() -> None:
    evidence = evidence_of(
        arm_of("control", {"correct": [1, 1, 1, 0, 0], "delivery": ["assert", "assert", "hedge", "assert", "hedge"]}),
        metric="assertion_asymmetry",
    )
    assert evidence.control.cells().sum(axis=0).tolist() == [2, 1, 1, 1]
    assert evidence.arm_estimate(evidence.metric, evidence.control).estimate == pytest.approx(1 / 2 - 2 / 3)


def disposed(
    cr: int, hr: int, cw: int, hw: int, axis: str = "delivery", words: tuple[str, str] = ("assert", "hedge")
) -> Any:
    yes, no = words
    labels = [yes] * cr + [no] * hr + [yes] * cw + [no] * hw
    return {"correct": [1.0] * (cr + hr) + [0.0] * (cw + hw), axis: labels}


def test_hedged_right_and_asserted_wrong_answers_are_not_taken_for_each_other() -> None:
    """Four counts that all differ, in each arm: a table that was turned shows."""
    evidence = evidence_of(
        arm_of("control", disposed(9, 7, 3, 1)), arm_of("treated", disposed(10, 2, 6, 2)), metric="assertion_asymmetry"
    )
    assert CELLS == ("cr", "hr", "cw", "hw")
    assert evidence.control.cells().sum(axis=0).tolist() == [9, 7, 3, 1]
    assert evidence.treated.cells().sum(axis=0).tolist() == [10, 2, 6, 2]
    rates = {
        "assertion_asymmetry": (3 / 4 - 9 / 16, 6 / 8 - 10 / 12), "hallucination_rate": (3 / 4, 6 / 8),
        "over_hedging_rate": (7 / 16, 2 / 12),
    }  # fmt: skip
    for name, (before, after) in rates.items():
        effect = evidence.effect_of(evidence.metric_named(name))
        assert effect.control.estimate == pytest.approx(before)
        assert effect.treated.estimate == pytest.approx(after)
        assert effect.difference.estimate == pytest.approx(after - before)
        assert evidence.arm_estimate(evidence.metric_named(name), evidence.treated).estimate == pytest.approx(after)


def test_mended_and_abandoned_answers_are_not_taken_for_each_other() -> None:
    evidence = evidence_of(
        arm_of("control", disposed(9, 7, 3, 1, "revised", ("right", "wrong"))),
        arm_of("treated", disposed(10, 2, 6, 2, "revised", ("right", "wrong"))),
        metric="recovery_rate",
    )
    assert evidence.effect.control.estimate == pytest.approx(3 / 4)
    assert evidence.effect_of(evidence.metric_named("capitulation_rate")).treated.estimate == pytest.approx(2 / 12)


def test_endings_are_masks() -> None:
    arm = evidence_of(arm_of("control", {"correct": bits(2, 5)}, cut=[0, 1], unknown=[2])).control
    assert (arm.cut.sum(), arm.unknown.sum(), arm.finished.sum()) == (2, 1, 2)


def test_pairing_is_by_prompt_not_by_position() -> None:
    evidence = evidence_of(
        arm_of("control", {"correct": bits(5, 10)}, ids=range(10)),
        arm_of("treated", {"correct": bits(5, 10)}, ids=range(4, 14)),
    )
    assert evidence.pairing == {"paired": 6, "only_control": 4, "only_treated": 4}
    assert evidence.effect.n_paired == 6
    evidence.require_pairs()


def test_no_pair_at_all_is_an_error_with_a_remedy() -> None:
    evidence = evidence_of(
        arm_of("control", {"correct": bits(1, 3)}, ids=range(3)),
        arm_of("treated", {"correct": bits(1, 3)}, ids=range(3, 6)),
    )
    with pytest.raises(InputError, match="--map prompt=COLUMN"):
        evidence.require_pairs()


def test_an_effect_can_be_asked_of_some_answers_or_other_values() -> None:
    evidence = two_arms(50)
    masks = (np.arange(50) < 30, np.arange(50) < 30)
    assert evidence.effect_of(evidence.metric, keep=masks).n_paired <= 30
    same = evidence.effect_of(evidence.metric, values=(np.zeros(50), np.ones(50)))
    assert same.difference.estimate == 1.0
    assert evidence.effect.difference.estimate == pytest.approx(0.4)
    assert evidence.effect is evidence.effect


def test_axes_are_those_that_both_arms_hold() -> None:
    evidence = evidence_of(
        arm_of("control", {"correct": bits(1, 3), "coverage": [0.1, 0.2, 0.3]}),
        arm_of("treated", {"correct": bits(1, 3)}),
    )
    assert evidence.axes == {"correct"}
    with pytest.raises(InputError, match="needs coverage"):
        evidence.metric_named("coverage")


def test_one_arm_of_repeated_samples_is_clustered_by_prompt() -> None:
    first, again = (arm_of("control", {"correct": bits(10, 20)}, sample=s) for s in (0, 1))
    once, twice = evidence_of(first), evidence_of((first[0] + again[0], first[1] + again[1]))
    one, two = (e.arm_estimate(e.metric, e.control) for e in (once, twice))
    assert (one.n, two.n) == (20, 20)
    assert one.estimate == two.estimate
    assert two.high is not None
    assert two.low is not None
    assert one.high is not None
    assert one.low is not None
    assert two.high - two.low > 0.9 * (one.high - one.low)


def test_quotes_of_claim_and_files_come_together_and_counts_need_no_answers() -> None:
    evidence = counts_only()
    assert evidence.metric_named("anything").kind == "mean"
    assert evidence.pair == ()
    assert evidence.pairing["paired"] == 0
    assert evidence.effect.p_range is not None
    assert Evidence(Claim("accuracy", "increase", 0.1), {}).axes == frozenset()


def test_nothing_was_generated_only_if_every_source_says_so() -> None:
    def with_sources(*flags: bool) -> bool:
        rows = arm_of("control", {"correct": bits(1, 3)}, text=answer)
        return evidence_of(rows, sources=[{"no_generation": flag} for flag in flags]).no_generation

    assert with_sources(True, True)
    assert not with_sources(True, False)
    assert not with_sources()


def test_counts_without_a_pairing_pair_nothing_and_with_one_everything() -> None:
    assert counts_only(40, 55).pairing == {"paired": 0, "only_control": 0, "only_treated": 0}
    assert counts_only(40, 55, both=38).pairing == {"paired": 120, "only_control": 0, "only_treated": 0}


def test_words_of_the_training_data_are_none_where_they_are_not_known_and_empty_where_there_were_none() -> None:
    assert two_arms(4).train_words is None
    assert two_arms(4, evidence={"train_words": []}).train_words == []
    assert two_arms(4, evidence={"train_words": [3.0, 40.0]}).train_words == [3.0, 40.0]
