"""The five steps: each tells a planted direction from noise, says what it could have seen, and never looks ahead."""

from __future__ import annotations

import json
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from conftest import two_arms
from counterclaim import stats
from counterclaim.audit.probing import BarTest, ProbeResult, Reading
from counterclaim.checks.probes import fresh, layers
from counterclaim.errors import InputError
from counterclaim.lab.config import Bars, ProbePlan
from counterclaim.lab.probing import gates, steps, taxonomy
from counterclaim.lab.probing import probe as probing
from counterclaim.lab.probing.crossval import CrossValidated, Splits
from counterclaim.lab.probing.probe import NAMES, FittedProbe, Trial, power, read_at
from counterclaim.lab.probing.steps import Subject, five_steps
from counterclaim.records import Estimate, Outcome
from planted_probes import HEDGED, PLAN, RIGHT, planted, put_through

FAR = 2.2
BOTH = {RIGHT: (FAR, FAR), HEDGED: (FAR, FAR)}


@pytest.fixture(scope="module")
def holds() -> Any:
    """A probe that has everything: two axes, every layer, a second family."""
    return put_through(planted(1, BOTH), planted(2, {RIGHT: (FAR, FAR)}, model="second"), axes=(HEDGED,))


@pytest.fixture(scope="module")
def forgets() -> Any:
    """The source paper's case: it passes where it was trained and is at chance on fresh prompts."""
    return put_through(planted(3, {RIGHT: (FAR, 0.0)}))


def passed(found: Any) -> list[bool | None]:
    return [step["passed"] for step in found["steps"]]


def test_a_planted_direction_passes_every_step(holds: Any) -> None:
    assert passed(holds) == [True] * 5
    assert holds["passed"] is True
    assert holds["taxonomy"] == []
    assert [step["name"] for step in holds["steps"]] == list(NAMES)
    assert json.loads(json.dumps(holds, allow_nan=False)) == holds


def test_a_row_holds_what_was_read_and_every_number_with_its_interval(holds: Any) -> None:
    row = holds["steps"][0]["rows"][0]
    assert (row["n"], row["n_pos"], row["n_fresh"], row["n_fresh_pos"]) == (90, 50, 193, 58)
    assert (row["layer"], row["average"], row["position"], row["classifier"], row["C"]) == (
        "last",
        1,
        "last",
        "logistic",
        1.0,
    )
    assert {"mean", "min", "max", "splits", "permutation_p", "null_sd"} <= row["cv_auc"].keys()
    assert row["cv_auc"]["permutation_p"] == 1 / 40
    assert (
        row["fresh_auc"]["low"] < row["fresh_auc"]["estimate"] < row["fresh_auc"]["high"] == row["excludes_auc_above"]
    )
    assert row["asymmetry_honest"]["estimate"] >= row["asymmetry_peeked"]["estimate"], "peeking cannot do worse"
    assert row["asymmetry_honest"]["shuffled_p"] < 1e-6
    for step in holds["steps"]:
        assert "is told from chance four times in five" in step["power"]
        for test in step["tests"]:
            assert test["said"].startswith(test["what"])


def test_a_probe_that_forgets_passes_in_training_and_fails_on_fresh_prompts(forgets: Any) -> None:
    first, second, third, _, fifth = forgets["steps"]
    assert first["passed"] is True
    assert second["passed"] is False
    assert "The AUC on fresh prompts" in second["because"]
    assert "excludes the bar of 0.630" in second["because"]
    assert forgets["taxonomy"], "why is told"
    assert (third["passed"], fifth["passed"]) == (None, None), "what was not looked at has not passed"
    assert "second_model in [pipeline]" in fifth["because"]
    assert forgets["passed"] is False


def test_noise_does_not_pass_in_training() -> None:
    found = [put_through(planted(seed, {RIGHT: (0.0, 0.0)}), permutations=19) for seed in range(4)]
    assert True not in [one["passed"] for one in found]
    assert True not in [passed(one)[0] for one in found]


def test_nine_positives_settle_nothing_and_say_what_they_exclude() -> None:
    found = put_through(planted(5, {RIGHT: (FAR, 0.4)}, shares=(0.55, 9 / 193)))
    second = found["steps"][1]
    assert second["rows"][0]["n_fresh_pos"] == 9
    auc = second["tests"][0]
    assert auc["passed"] is None
    assert "9 positive and 184 negative" in second["power"]
    assert "lies below what can be seen" in second["power"]
    assert 0.63 < second["rows"][0]["excludes_auc_above"] < 0.95
    assert "underpowered" in [mode["mode"] for mode in found["taxonomy"]] or auc["estimate"]["estimate"] >= 0.63


def test_an_axis_that_forgets_fails_the_third_step_and_no_other() -> None:
    found = put_through(planted(6, {**BOTH, HEDGED: (FAR, 0.0)}, n=(90, 400)), axes=(HEDGED,))
    assert passed(found)[:3] == [True, True, False]
    lost = [test for test in found["steps"][2]["tests"] if test["passed"] is False]
    assert [(test["of"], test["axis"]) for test in lost] == [("axis_transfer", HEDGED)]
    assert "1 of 2 axes reach both of their bars" in found["steps"][2]["because"]


def test_two_names_of_one_axis_are_not_two() -> None:
    subject = planted(8, {RIGHT: (FAR, FAR)})
    twice = replace(subject, labels={**subject.labels, "score.good>=1": subject.labels[RIGHT]})
    found = put_through(twice, axes=("score.good>=1",))
    assert found["correlations"]["matrix"] == [[1.0, 1.0], [1.0, 1.0]]
    same = found["steps"][2]["tests"][-1]
    assert (same["of"], same["passed"]) == ("axis_correlation", False)


def test_an_axis_without_enough_answers_is_undefined_and_not_failed() -> None:
    subject = planted(8, BOTH)
    _, fresh = subject.labels[HEDGED]
    poor = replace(subject, labels={**subject.labels, HEDGED: (np.where(np.arange(90) == 3, 1.0, 0.0), fresh)})
    third = put_through(poor, axes=(HEDGED,))["steps"][2]
    assert third["passed"] is None
    assert third["rows"][1]["problem"] == "1 of 90 training answers are positive"
    assert third["rows"][1]["cv_auc"] is None


def relabelled(subject: Subject, seed: int) -> Subject:
    """The same subject with the fresh answers' labels shuffled."""
    train, fresh = subject.labels[RIGHT]
    shuffled = np.random.default_rng(seed).permutation(fresh)
    return replace(subject, labels={**subject.labels, RIGHT: (train, shuffled)})


def test_nothing_is_chosen_on_fresh_prompts() -> None:
    subject = planted(9, {RIGHT: (1.5, 1.5)}, layers=4, only=(2,))
    plan: Any = {"C": (1.0, 0.1)}
    honest, blind = (put_through(each, **plan) for each in (subject, relabelled(subject, 0)))
    for found in (honest, blind):
        chosen = [row for row in found["steps"][3]["rows"] if row.get("chosen")]
        assert [row["layer"] for row in chosen] == [2]
    assert honest["steps"][3]["passed"] is True
    assert blind["steps"][3]["passed"] is not True
    rows = [found["steps"][1]["rows"][0] for found in (honest, blind)]
    assert rows[0]["asymmetry_honest"]["threshold"] == rows[1]["asymmetry_honest"]["threshold"]
    assert rows[0]["cv_auc"] == rows[1]["cv_auc"]


TRIAL = Trial(Bars(), 1, 0, 0, 0.95)


def gate_of_folds(monkeypatch: pytest.MonkeyPatch, p: Any, right: Any, folds: Any, keep: float) -> gates.Gate:
    """The gate of step 1 of these out-of-fold probabilities, where the threshold of each fold is the others'."""
    monkeypatch.setattr(probing, "blocked_splits", lambda *_, **__: Splits(folds[None], folds))
    n = len(p)
    cv = CrossValidated(1.0, np.array([0.75]), np.log(p / (1 - p))[None], 0.75, np.empty(0), 0.1)
    trial = replace(TRIAL, bars=Bars(keep=keep))
    made = probing.in_training("m", ProbePlan(), trial, (np.arange(n),) * 2, (right, right), np.zeros((n, 1)), cv, 5)
    assert made.gate_cv is not None
    return made.gate_cv


def test_the_threshold_of_the_first_step_is_chosen_without_the_fold_it_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Either fold alone is gated perfectly by its own threshold, and so are both together: by the other's, half is lost."""
    right = np.array([True, True, False, False] * 2)
    p = np.array([0.9, 0.8, 0.3, 0.2, 0.5, 0.45, 0.4, 0.1])
    fold = np.repeat([0, 1], 4)
    assert gates.choose_threshold(p, right).asymmetry == -1.0
    # 0.425 of the second fold parts the first, too; 0.55 of the first asserts nothing of the second
    honest = gate_of_folds(monkeypatch, p, right, fold, gates.KEEP)
    assert honest.asymmetry.estimate == -0.5
    assert honest.p_assert_correct.estimate == 0.5


def test_the_gate_of_noise_is_no_better_than_chance_in_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A threshold that saw the fold it gates would find asymmetry in noise, time after time."""
    found = []
    for seed in range(12):
        random = np.random.default_rng(seed)
        right = random.permutation(np.arange(60) < 30)
        asymmetry = gate_of_folds(monkeypatch, random.random(60), right, np.arange(60) % 5, 0.3).asymmetry
        assert asymmetry.estimate is not None
        found.append(asymmetry.estimate)
    assert np.mean(found) > -0.04


def test_the_interval_of_the_first_step_widens_with_the_spread_of_shuffled_labels() -> None:
    labels, places = np.arange(60) % 2 == 0, np.arange(60)
    decisions = (labels + np.random.default_rng(0).standard_normal(60))[None]

    def low(null: Any) -> float:
        cv = CrossValidated(1.0, np.array([0.75]), decisions, 0.75, np.asarray(null), 0.1)
        found = FittedProbe("m", RIGHT, ProbePlan(), TRIAL, (places, places), (labels, labels), cv=cv).cv_auc
        assert found.low is not None
        return found.low

    assert low([0.2, 0.8]) < 0.5 < low([0.45, 0.55])


def test_a_direction_is_found_at_the_layer_where_it_is_and_nowhere_else() -> None:
    found = put_through(planted(10, {RIGHT: (FAR, FAR)}, layers=5, only=(3,)))
    fourth = found["steps"][3]
    assert [row["layer"] for row in fourth["rows"] if row["passed"] is True] == [3]
    assert [row["layer"] for row in fourth["rows"] if row["fresh_p_holm"] <= 0.05] == [3]
    assert (fourth["reach_the_bar"], fourth["survive_holm"], fourth["tried"]) == (1, 1, 6)
    assert fourth["best_p"] == 1 / 40


def test_the_best_of_many_readings_of_noise_is_seen_for_what_it_is() -> None:
    p = [
        put_through(planted(seed, {RIGHT: (0.0, 0.0)}, layers=6), permutations=19)["steps"][3]["best_p"]
        for seed in range(5)
    ]
    assert sum(value <= 0.05 for value in p) <= 2
    assert max(p) > 0.2


def test_the_same_depth_is_read_in_the_second_model() -> None:
    second = planted(2, {RIGHT: (FAR, FAR)}, layers=3, model="second", only=(2,))
    found = put_through(planted(1, {RIGHT: (FAR, FAR)}, layers=5), second, probe=ProbePlan(layer=4))
    assert found["steps"][4]["rows"][0]["layer"] == 2
    assert found["steps"][4]["rows"][0]["model"] == found["second_model"] == "second"
    assert found["steps"][4]["passed"] is True


def test_answers_that_were_not_scored_are_left_out() -> None:
    subject = planted(11, {RIGHT: (FAR, FAR)}, n=(100, 150))
    train, fresh = (side.copy() for side in subject.labels[RIGHT])
    train[:10], fresh[5:20] = np.nan, np.nan
    gaps = put_through(replace(subject, labels={RIGHT: (train, fresh)}))

    def kept(layer: Any, average: int, position: Any) -> Any:
        x, z = subject.read(layer, average, position)
        return x[10:], np.delete(z, np.s_[5:20], axis=0)

    ids = (subject.ids[0][10:], [*subject.ids[1][:5], *subject.ids[1][20:]])
    whole = replace(subject, read=kept, labels={RIGHT: (train[10:], np.delete(fresh, np.s_[5:20]))}, ids=ids)
    assert gaps == put_through(whole)
    assert "fresh-7" not in gaps["scores"]["fresh"]
    assert len(gaps["scores"]["fresh"]) == 135


def test_equal_arguments_give_equal_numbers() -> None:
    subject = planted(12, BOTH)
    assert put_through(subject, axes=(HEDGED,)) == put_through(subject, axes=(HEDGED,))


def test_labels_without_two_classes_are_refused() -> None:
    subject = planted(13, {RIGHT: (FAR, FAR)}, shares=(1.0, 0.3))
    with pytest.raises(InputError, match="90 of 90 training answers are positive"):
        put_through(subject)
    with pytest.raises(InputError, match=r"no answer was labelled with delivery=hedge \(labelled: correct=1\)"):
        put_through(planted(13, {RIGHT: (FAR, FAR)}), axes=(HEDGED,))
    one_class = put_through(planted(13, {RIGHT: (FAR, FAR)}, shares=(0.5, 0.0)))
    assert one_class["steps"][1]["passed"] is None
    assert "0 of 193 fresh answers are positive" in one_class["steps"][1]["because"]
    assert one_class["steps"][0]["passed"] is True
    assert {row["fresh_p_holm"] for row in one_class["steps"][3]["rows"]} == {None}
    assert one_class["steps"][3]["passed"] is None
    assert layers.run(two_arms(evidence={"probing": ProbeResult.from_json(one_class)})).outcome is Outcome.INCONCLUSIVE
    assert fresh.run(two_arms(evidence={"probing": ProbeResult.from_json(one_class)})).outcome is Outcome.INCONCLUSIVE


def test_without_shuffles_no_p_is_made_up() -> None:
    found = put_through(planted(13, {RIGHT: (FAR, FAR)}), permutations=0)
    assert found["steps"][3]["best_p"] is None
    assert found["steps"][0]["rows"][0]["cv_auc"]["permutation_p"] is None


def test_a_classifier_that_cannot_be_read_is_a_row_with_its_reason() -> None:
    fourth = put_through(planted(14, {RIGHT: (FAR, FAR)}), classifiers=("logistic", "attention"))["steps"][3]
    assert [row["problem"] for row in fourth["rows"] if row["classifier"] == "attention"] == [
        "single tokens of the answers were not kept"
    ]
    assert fourth["tried"] == len(fourth["rows"]) - 1


@pytest.mark.parametrize("name", ["attention", "max"])
def test_a_classifier_of_single_tokens_goes_through_the_steps(name: Any) -> None:
    rng = np.random.default_rng(0)
    subject = planted(15, {RIGHT: (FAR, FAR)}, n=(60, 80))
    pooled = subject.read("last", 1, "last")

    def tokens(layer: Any) -> Any:
        return tuple([np.vstack([rng.normal(0, 0.1, (2, 5)), row]) for row in side] for side in pooled)

    whole = replace(subject, read_tokens=tokens)
    found = put_through(whole, probe=ProbePlan(classifier=name), permutations=3, splits=1)
    assert found["steps"][1]["tests"][0]["estimate"]["estimate"] > 0.8
    assert found["pca"] is None
    assert found["c2st_auc"] is None


def test_what_others_say_of_the_same_answers_is_held_against_the_probe() -> None:
    subject = planted(16, {RIGHT: (1.0, 1.0)})
    truth = subject.labels[RIGHT][1]
    knows = np.where(np.arange(193) % 10 == 0, 1 - truth, truth)
    blank = np.where(np.arange(193) < 20, np.nan, 1.0 * (np.arange(193) % 2))
    found = put_through(
        replace(
            subject,
            asserted=(np.ones(90), blank),
            labels={**subject.labels, "label.second=yes": (np.ones(90), knows)},
        )
    )
    rows = {row["judge"]: row for row in found["gap"]["rows"]}
    assert rows["asserted"]["judge_auc"]["n"] == 173
    own = found["steps"][1]["rows"][0]["fresh_auc"]["estimate"]
    assert rows["label.second=yes"]["probe_auc"]["estimate"] == own
    second = rows["label.second=yes"]
    assert second["difference"]["estimate"] == pytest.approx(own - second["judge_auc"]["estimate"])
    assert rows["asserted"]["difference"]["low"] > 0, "the probe knows more than the delivery shows"
    assert rows["label.second=yes"]["difference"]["high"] < 0, "a second judge knows more than the probe"


@pytest.mark.parametrize("agrees", [True, False])
def test_two_labels_of_one_construct_that_disagree_are_a_reason_to_fail(agrees: bool) -> None:
    """The probe fails on fresh prompts either way; only where the labels disagree are they named."""
    subject = planted(18, {RIGHT: (1.5, 0.0)})
    truth = subject.labels[RIGHT][1]
    second = np.where(np.arange(193) % 10 == 0, 1 - truth, truth)
    if not agrees:
        second = np.random.default_rng(0).permutation(second)
    second[:5] = np.nan
    named = replace(subject, labels={**subject.labels, "label.second=yes": (np.ones(90), second)})
    modes = {mode["mode"] for mode in put_through(named, same_construct="label.second=yes")["taxonomy"]}
    assert ("label disagreement" in modes) is not agrees
    assert "label disagreement" not in {mode["mode"] for mode in put_through(named)["taxonomy"]}


def test_ends_of_answers_and_shift_are_told() -> None:
    cut = ([at < 45 for at in range(90)], [False] * 193)
    subject = planted(17, {RIGHT: (FAR, FAR)}, cut=cut)
    found = put_through(subject)
    assert found["endpoint"] == {
        "position": "last", "train_cut": 0.5, "fresh_cut": 0.0, "train": {"n": 90, "cut": 45, "unknown": 0},
        "fresh": {"n": 193, "cut": 0, "unknown": 0},
    }  # fmt: skip
    assert put_through(replace(subject, cut=None))["endpoint"]["train"] is None
    some = put_through(replace(subject, cut=([None] * 90, [False] * 193)))["endpoint"]
    assert (some["train_cut"], some["train"]["unknown"], some["fresh_cut"]) == (None, 90, 0.0)
    assert found["c2st_auc"]["estimate"] < 0.7

    def moved(layer: Any, average: int, position: Any) -> Any:
        x, z = subject.read(layer, average, position)
        return x, z + 2.0

    assert put_through(replace(subject, read=moved))["c2st_auc"]["low"] > 0.8


def test_the_picture_of_the_features_is_one_of_all_answers(holds: Any) -> None:
    points = holds["pca"]["points"]
    assert len(points) == 90 + 193
    assert {(split, label) for *_, split, label in points} == {(s, y) for s in ("train", "fresh") for y in (0, 1)}
    first, second = holds["pca"]["explained"]
    assert 1 > first >= second > 0
    many = steps._pca(np.ones((700, 3)), np.ones((20, 3)), (np.ones(700, bool), np.ones(20, bool)))
    assert len(many["points"]) == steps.DRAWN + 20
    assert many["explained"] == [0.0, 0.0], "features that never change span nothing"


def estimate(value: float | None, low: float | None = None, high: float | None = None) -> Estimate:
    if value is None:
        return Estimate.undefined("there is one class", n=9, level=0.95, method="m")
    return Estimate(value, low, high, 0.95, "m", 9, None if low is not None else "no spread")


@pytest.mark.parametrize(
    ("of", "given", "came", "words"),
    [
        ("fresh_auc", estimate(0.7, 0.6, 0.8), True, "meets the bar of 0.630."),
        ("fresh_auc", estimate(0.7, 0.45, 0.9), None, "still contains chance (0.5)"),
        ("fresh_auc", estimate(0.6, 0.55, 0.7), None, "misses the bar of 0.630, which its interval still contains"),
        ("fresh_auc", estimate(0.51, 0.42, 0.6), False, "excludes the bar of 0.630."),
        ("fresh_auc", estimate(None), None, "undefined (there is one class)"),
        ("fresh_auc", estimate(0.9), None, "cannot be compared with"),
        ("cv_auc", estimate(0.7, 0.45, 0.9), None, "still contains chance (0.5)"),
        ("axis_cv", estimate(0.7, 0.45, 0.9), None, "still contains chance (0.5)"),
        ("axis_transfer", estimate(0.7, 0.45, 0.9), None, "still contains chance (0.5)"),
        ("cv_asymmetry", estimate(-0.2, -0.5, 0.1), None, "still contains chance (0)"),
        ("cv_asymmetry", estimate(-0.3, -0.5, -0.01), True, "meets the bar of -0.200."),
        ("fresh_asymmetry", estimate(-0.3, -0.5, -0.1), True, "meets the bar of -0.150."),
        ("fresh_asymmetry", estimate(-0.2, -0.5, 0.1), None, "still contains chance (0)"),
        ("fresh_asymmetry", estimate(-0.1, -0.3, 0.1), None, "which its interval still contains"),
        ("fresh_asymmetry", estimate(0.0, -0.1, 0.1), False, "excludes the bar of -0.150."),
        ("keep", estimate(0.72, 0.6, 0.8), True, "meets the bar of 0.700."),
        ("axis_correlation", estimate(0.1, 0.0, 0.3), True, "meets the bar of 0.800."),
        ("axis_correlation", estimate(0.95, 0.9, 0.97), False, "excludes the bar of 0.800."),
    ],
)
def test_a_bar_is_met_only_where_the_interval_carries_it(
    of: str, given: Estimate, came: bool | None, words: str
) -> None:
    found = BarTest.against(of, "it", given, getattr(Bars(), of))
    assert found.passed is came
    assert words in f"{found.said}."


def test_shuffled_labels_of_a_gate_are_counted_exactly() -> None:
    from scipy.stats import hypergeom

    labels, decisions = np.arange(30) < 12, np.linspace(2, -2, 30)[np.random.default_rng(0).permutation(30)]
    asserted = decisions >= 0
    both = int((asserted & labels).sum())
    expected = hypergeom(30, 12, int(asserted.sum())).sf(both - 1)
    assert gates.shuffled_p(gates.probability(decisions), labels, 0.5) == pytest.approx(expected, rel=1e-12)


def test_somebody_who_waits_is_told_what_is_done() -> None:
    said: list[str] = []
    five_steps(planted(18, BOTH), None, ProbePlan(), replace(PLAN, axes=(HEDGED,), permutations=3), watch=said.append)
    assert said == [
        "steps 1 and 2: the probe itself", f"step 3: {HEDGED}", "step 4: layers and pooling", "telling why",
    ]  # fmt: skip


def test_the_p_of_a_reading_is_one_sided_against_chance_and_adjusted_for_all_of_them() -> None:
    rows = [
        Reading(model="m", axis=RIGHT, **read_at(ProbePlan()), fresh_auc=Estimate(area, 0.0, 1.0, 0.95, "m", 60))
        for area in (0.7, 0.55, 0.4)
    ]
    found = steps._holm(rows, 20, 60)
    sd = ((60 + 1) / (12 * 20 * 40)) ** 0.5  # Mann and Whitney
    p = [NormalDist().cdf((0.5 - area) / sd) for area in (0.7, 0.55, 0.4)]
    assert found == pytest.approx([3 * p[0], 2 * p[1], p[2]])


@pytest.mark.parametrize(
    ("layer", "average", "here", "there", "reads"),
    [
        ("last", 4, 9, 3, ("last", 3)),
        (8, 1, 9, 3, (2, 1)),
        (4, 3, 9, 3, (1, 2)),
        (0, 1, 9, 3, (0, 1)),
        (2, 1, 3, 9, (8, 1)),
    ],
)
def test_a_reading_of_another_model_is_at_the_same_share_of_the_way_up(
    layer: Any, average: int, here: int, there: int, reads: Any
) -> None:
    found = steps.at_same_depth(ProbePlan(layer=layer, average=average), here, there)
    assert (found.layer, found.average) == reads


def test_a_bar_that_can_just_be_seen_is_not_called_blind() -> None:
    least = stats.mde_auc(20, 60, 1 - 0.95)
    assert "lies below what can be seen" not in power(20, 80, least, 0.95)
    assert "lies below what can be seen" in power(20, 80, least - 1e-9, 0.95)
    assert power(1, 80, 0.6, 0.95) == "With 1 positive and 79 negative answers no AUC can be told from chance."


def test_steps_are_numbered_in_order_and_hold_aucs_and_gates_to_their_bars(holds: Any, forgets: Any) -> None:
    for found in (holds, forgets):
        assert [step["step"] for step in found["steps"]] == [1, 2, 3, 4, 5]
    told = ["cv_auc", "cv_asymmetry", "keep"], ["fresh_auc", "fresh_asymmetry", "keep"]
    for step, of in zip(holds["steps"][:2], told, strict=True):
        assert [test["of"] for test in step["tests"]] == of
    assert [test["of"] for test in holds["steps"][4]["tests"]] == [*told[0], *told[1]]


def test_why_a_probe_fails_is_asked_of_the_style_of_fresh_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(taxonomy, "within_fresh", lambda x, *_, **__: asked.append(x))
    style = np.full((90, 2), 1.0), np.full((193, 2), 2.0)
    put_through(planted(3, {RIGHT: (FAR, 0.0)}, style=style), permutations=3)
    assert [x.shape for x in asked] == [(193, 5), (193, 2)]
    assert (asked[1] == 2.0).all()
    asked.clear()
    assert put_through(planted(1, {RIGHT: (FAR, FAR)}, style=style), permutations=3)["taxonomy"] == []
    assert asked == [], "nothing is asked of a probe that holds"


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (("last", 1, "last", "logistic", 1.0), "last state, last token, logistic, C 1"),
        ((3, 1, "mean", "mlp", 0.1), "layer 3, mean of tokens, mlp, C 0.1"),
        ((3, 2, "prompt-end", "logistic", 0.1), "mean of 2 layers up to layer 3, end of prompt, logistic, C 0.1"),
    ],
)
def test_a_reading_is_told_in_words(row: Any, told: str) -> None:
    at = dict(zip(("layer", "average", "position", "classifier", "C"), row, strict=True))
    assert steps._name(Reading(model="m", axis=RIGHT, **at)) == told


def test_the_reading_that_training_chooses_is_named(holds: Any) -> None:
    fourth = ProbeResult.from_json(holds).steps[3]
    (chosen,) = [row for row in fourth.rows if row.chosen]
    assert fourth.because.startswith(f"Of {fourth.tried} readings, {steps._name(chosen)} does best in training")
