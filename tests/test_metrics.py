from __future__ import annotations

import numpy as np
import pytest

from counterclaim.audit.metrics import (
    assertion_asymmetry,
    available,
    better,
    capitulation_rate,
    find_axis,
    hallucination_rate,
    in_cohort,
    over_hedging_rate,
    recovery_rate,
    resolve,
)
from counterclaim.errors import InputError
from counterclaim.registry import metrics

AXES = {"correct", "delivery", "revised", "coverage", "score.verifier", "score.helpfulness", "label.language"}


def test_ratios_of_the_known_table() -> None:
    cells = np.array([53.0, 5.0, 38.0, 4.0])
    assert assertion_asymmetry(cells) == pytest.approx(38 / 42 - 53 / 58)
    assert hallucination_rate(cells) == pytest.approx(38 / 42)
    assert over_hedging_rate(cells) == pytest.approx(5 / 58)


def test_recovery_counts_wrong_answers_and_capitulation_right_ones() -> None:
    cells = np.array([40.0, 10.0, 12.0, 38.0])  # right kept, right abandoned, wrong mended, wrong kept
    assert recovery_rate(cells) == pytest.approx(12 / 50)
    assert capitulation_rate(cells) == pytest.approx(10 / 50)


def test_ratios_are_undefined_without_a_class_and_work_on_many_tables_at_once() -> None:
    cells = np.array([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    assert np.isnan(assertion_asymmetry(cells)[0])
    assert np.isnan(hallucination_rate(cells)[0])
    assert assertion_asymmetry(cells)[1] == 0.0
    assert over_hedging_rate(cells).tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("name", "kind", "axes", "label"),
    [
        ("accuracy", "mean", ("correct",), None),
        ("assertion_rate", "mean", ("delivery",), None),
        ("assertion_asymmetry", "ratio", ("correct", "delivery"), "assert"),
        ("recovery_rate", "ratio", ("correct", "revised"), "right"),
        ("score.verifier", "mean", ("score.verifier",), None),
        ("verifier", "mean", ("score.verifier",), None),
        ("label.language=en", "mean", ("label.language",), "en"),
        ("language=en", "mean", ("label.language",), "en"),
        ("auc(verifier)", "auc", ("score.verifier", "correct"), None),
    ],
)
def test_metrics_are_found_by_name(name: str, kind: str, axes: tuple[str, ...], label: str | None) -> None:
    metric = resolve(name, AXES)
    assert (metric.name, metric.kind, metric.axes, metric.label) == (name, kind, axes, label)


@pytest.mark.parametrize(
    ("name", "axes", "said"),
    [
        ("accuracy", {"coverage"}, "needs correct"),
        ("acuracy", AXES, "did you mean 'accuracy'"),
        ("language", AXES, "name the label to count"),
        ("auc(nothing)", AXES, "needs a score 'nothing'"),
        ("auc(verifier)", {"score.verifier"}, "needs a score"),
        ("", {"score.verifier"}, "there is no metric ''"),
        ("nonsense", set(), "known here: none"),
    ],
)
def test_an_unknown_metric_says_what_there_is(name: str, axes: set[str], said: str) -> None:
    with pytest.raises(InputError, match=said.replace("(", r"\(").replace(")", r"\)")):
        resolve(name, axes)


def test_a_shortened_name_ends_at_a_word_and_means_one_axis() -> None:
    assert find_axis("fact", {"score.fact_check", "score.fact_recall"}, shortened=True) is None
    assert find_axis("factual", {"score.factual_accuracy"}, shortened=True) == "score.factual_accuracy"
    assert find_axis("factual", {"score.factual_accuracy"}) is None
    assert find_axis("fac", {"score.factual_accuracy"}, shortened=True) is None
    assert find_axis("ab", {"score.ab", "score.ab_c"}, shortened=True) == "score.ab"


def test_what_is_available_can_be_resolved() -> None:
    names = available(AXES)
    assert {"accuracy", "score.verifier", "assertion_asymmetry"} <= set(names)
    assert "label.language" not in names
    for name in names:
        resolve(name, AXES)
    assert available({"score.x"}) == ["score.x"]


def test_lower_is_better_only_where_the_name_says_so() -> None:
    assert better("hallucination_rate") == "lower"
    assert better("accuracy") == better("score.anything") == "higher"
    assert {name for name, metric in metrics().items() if metric.better == "lower"} == {
        "assertion_asymmetry", "capitulation_rate", "hallucination_rate", "over_hedging_rate",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "member"),
    [
        ("cw", True), ("cr", False), ("hw", False), ("correct=0", True), ("correct=1", False), ("delivery=assert", True),
        ("n_words>=3", True), ("score.n_words>=4", False), ("n_words<4", True), ("n_words=3", True), ("recovery=yes", None),
        ("correct=right", False),
    ],
)  # fmt: skip
def test_an_answer_belongs_to_a_cohort_or_not_or_nobody_knows(name: str, member: bool | None) -> None:
    assert in_cohort({"correct": 0.0, "delivery": "assert", "score.n_words": 3.0}, name) is member


@pytest.mark.parametrize(
    ("correct", "delivery", "cell"),
    [(1.0, "assert", "cr"), (1.0, "hedge", "hr"), (0.0, "assert", "cw"), (0.0, "hedge", "hw")],
)
def test_every_answer_belongs_to_one_cell(correct: float, delivery: str, cell: str) -> None:
    values = {"correct": correct, "delivery": delivery}
    assert [name for name in ("cr", "hr", "cw", "hw") if in_cohort(values, name)] == [cell]


def test_a_cell_without_both_of_its_axes_is_not_known() -> None:
    assert in_cohort({"correct": 1.0}, "cr") is None


@pytest.mark.parametrize("name", ["wrong", "correct", "correct>=yes", "=1", "a=b=c"])
def test_what_names_no_cohort_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        in_cohort({"correct": 1.0}, name)


def test_labels_have_no_size() -> None:
    with pytest.raises(InputError, match="by size"):
        in_cohort({"delivery": "hedge"}, "delivery>=1")
