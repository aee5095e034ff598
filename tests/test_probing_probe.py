"""What is said of a probe: the contract's JSON, known answers, intervals that cover, and checks that can fail."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from counterclaim import InputError, stats
from counterclaim.audit.probing import BarTest, Endpoint, ProbeResult, Reading, Step
from counterclaim.checks.probes import probe_on_fresh
from counterclaim.checks.transfer import features_shift
from counterclaim.lab.config import Bars, ProbePlan
from counterclaim.lab.probing.features import Features
from counterclaim.lab.probing.labels import Labels
from counterclaim.lab.probing.probe import Trial, auc_with, probe_report
from counterclaim.records import Estimate

TRIAL = Trial(Bars(), 1, 0, 0, 0.95)
FAST: dict[str, Any] = {"splits": 3, "permutations": 40, "C": (1.0,)}


def world(
    n: int = 100,
    m: int = 193,
    d: int = 8,
    seed: int = 0,
    strength: float = 1.5,
    transfer: float = 1.0,
    rate: float = 0.5,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features and labels: classes ``strength`` sd apart in training, ``transfer`` times that on fresh items."""
    random = np.random.default_rng(seed)
    y, t = np.arange(n) % 2 == 0, np.arange(m) < round(rate * m)
    x, z = random.standard_normal((n, d)), random.standard_normal((m, d))
    x[:, 0] += strength * y
    z[:, 0] += strength * transfer * t
    return x, y, z, t


def outcomes(found: dict[str, Any]) -> dict[str, str]:
    return {check["check"]: check["outcome"] for check in found["checks"]}


def test_the_json_has_the_contracts_keys() -> None:
    found: dict[str, Any] = probe_report(*world(), **{**FAST, "C": (1.0, 0.1)})
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["train"] == {"n": 100, "n_pos": 50, "d": 8}
    assert found["fresh"] == {"n": 193, "n_pos": 96}
    estimate = {"estimate", "low", "high", "level", "method", "n"}
    for row, strength in zip(found["C"], (1.0, 0.1), strict=True):
        assert row["C"] == strength
        assert estimate <= row["fresh_auc"].keys() and estimate <= row["fresh_auc_bootstrap"].keys()  # noqa: PT018
        assert {"mean", "min", "max", "splits", "permutation_p", "null_sd"} <= row["cv_auc"].keys()
        assert {"estimate", "threshold", "p_assert_correct"} <= row["asymmetry_honest"].keys()
        assert {"estimate", "threshold", "p_assert_correct", "null_p_at_bar"} <= row["asymmetry_peeked"].keys()
    assert estimate <= found["c2st_auc"].keys()
    assert {"taxonomy", "checks", "excludes_auc_above"} <= found.keys()
    for check in found["checks"]:
        assert {"check", "group", "outcome", "estimate", "because", "remedy", "required"} <= check.keys()
        assert bool(check["remedy"]) is (check["outcome"] != "PASS")


def test_a_planted_direction_passes_everything() -> None:
    found: dict[str, Any] = probe_report(*world(), cut=[False] * 193, **FAST)
    row = found["C"][0]
    assert row["fresh_auc"]["low"] > 0.5
    assert row["asymmetry_honest"]["high"] < 0
    assert found["taxonomy"] == []
    assert {name for name, outcome in outcomes(found).items() if outcome == "PASS"} == {
        "contamination", "fresh", "threshold", "base-rate", "shift", "endpoint",
    }  # fmt: skip


def test_cross_validation_that_passes_and_fresh_items_that_fail_are_told_so() -> None:
    found: dict[str, Any] = probe_report(*world(m=400, transfer=0.0, rate=0.3), **FAST)
    row = found["C"][0]
    assert row["cv_auc"]["mean"] > 0.7
    assert row["fresh_auc"]["high"] < 0.63
    assert outcomes(found)["fresh"] == "FAIL"
    assert [mode["mode"] for mode in found["taxonomy"]] == ["single output distribution"]
    assert found["excludes_auc_above"] == row["fresh_auc"]["high"]


def test_nine_positives_say_what_they_exclude() -> None:
    random = np.random.default_rng(0)
    x, y, z, _ = world(d=2)
    t = np.arange(193) < 9
    found: dict[str, Any] = probe_report(x, y, z, t, **FAST)
    expected = stats.delong(stats.fit_logistic(x, y).decision(z), t)
    assert found["excludes_auc_above"] == expected.high
    # the paper's SmolLM2: AUC .519 with 9 of 193 excludes hardly anything
    scores = np.where(t, random.standard_normal(193), 0)
    scores[t], scores[~t] = np.linspace(-1, 1, 9) + 0.065, np.linspace(-2, 2, 184)
    told = stats.delong(scores, t)
    assert told.estimate == pytest.approx(0.516, abs=0.01)
    assert told.high is not None
    assert 0.60 < told.high < 0.75
    assert outcomes(found)["base-rate"] == "INCONCLUSIVE"
    modes = [mode["mode"] for mode in found["taxonomy"]]
    assert "capability cliff" in modes
    assert "single output distribution" not in modes


def test_intervals_on_fresh_items_cover_what_the_probe_is_worth() -> None:
    """The probe's own worth is known: scores along its direction are normal in both classes."""
    normal = 0.0
    covered = {"delong": 0, "bootstrap": 0}
    draws = 200
    from statistics import NormalDist

    for seed in range(draws):
        x, y, z, t = world(n=60, m=120, d=4, seed=seed, strength=1.0, rate=0.25)
        probe = stats.fit_logistic(x, y, 0.1)
        weights = probe.coef / probe.scale
        truth = NormalDist().cdf(float(weights[0] / np.linalg.norm(weights)) / 2**0.5)
        scores = probe.decision(z)
        for name, interval in (
            ("delong", stats.delong(scores, t)),
            ("bootstrap", stats.bootstrap_auc(scores, t, draws=400)),
        ):
            assert interval.low is not None
            assert interval.high is not None
            covered[name] += interval.low <= truth <= interval.high
        normal += truth
    assert 0.6 < normal / draws < 0.77
    for name, count in covered.items():
        assert abs(count / draws - 0.95) < 0.05, name  # 3.2 standard errors


def test_the_order_of_rows_changes_nothing() -> None:
    x, y, z, t = world(n=60, m=80, rate=0.4, transfer=0.3)
    random = np.random.default_rng(3)
    a, b = random.permutation(60), random.permutation(80)
    here, there = (probe_report(*each, **FAST) for each in ((x, y, z, t), (x[a], y[a], z[b], t[b])))
    assert same(here, there)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == pytest.approx(b, abs=1e-6) if isinstance(a, float) else bool(a == b)


def test_fresh_items_from_elsewhere_are_told_apart() -> None:
    x, y, z, t = world(transfer=0.0, rate=0.2)
    found: dict[str, Any] = probe_report(x, y, z + np.array([0, 2.0, 0, 0, 0, 0, 0, 0]), t, **FAST)
    assert found["c2st_auc"]["low"] > 0.7
    assert outcomes(found)["shift"] == "FAIL"
    assert "distribution shift" in [mode["mode"] for mode in found["taxonomy"]]


def test_training_items_are_not_fresh() -> None:
    x, y, z, t = world()
    again: dict[str, Any] = probe_report(x, y, x, y, **FAST)
    assert outcomes(again)["contamination"] == "FAIL"
    assert "100 of 100 fresh items have the features of a training item" in again["checks"][0]["because"]
    ids = tuple(f"p{at}" for at in range(193))
    named: dict[str, Any] = probe_report(Features(x, ids[:100]), y, Features(z, ids), t, **FAST)
    assert outcomes(named)["contamination"] == "FAIL"
    one = z.copy()
    one[0] = x[0]
    assert outcomes(probe_report(x, y, one, t, **FAST))["contamination"] == "WARN"


def test_answers_that_were_cut_have_no_last_token() -> None:
    x, y, z, t = world(transfer=0.0)
    cut = [at % 3 == 0 for at in range(193)]
    found: dict[str, Any] = probe_report(x, y, Features(z, cut=tuple(cut)), t, **FAST)
    assert outcomes(found)["endpoint"] == "FAIL"
    assert "unfinished responses" in [mode["mode"] for mode in found["taxonomy"]]
    unknown: dict[str, Any] = probe_report(x, y, z, t, cut=[None] * 193, **FAST)
    assert outcomes(unknown)["endpoint"] == "INCONCLUSIVE", "all of them may have been cut"
    few: dict[str, Any] = probe_report(x, y, z, t, cut=[*[None] * 10, *[False] * 183], **FAST)
    assert outcomes(few)["endpoint"] == "WARN"
    assert outcomes(probe_report(x, y, z, t, **FAST))["endpoint"] == "NOT_RUN"


def test_ties_that_decide_fail_and_ties_that_do_not_pass() -> None:
    x, y, z, t = world(m=300, strength=1.2, rate=0.3)
    clean = Labels(np.where(t, 0.8, 0.2), 0.5)
    assert outcomes(probe_report(x, y, z, clean, **FAST))["label-ties"] == "PASS"
    tied = np.where(t, 0.8, 0.2)
    tied[90:280] = 0.5  # wrong answers that ≥ counts as right
    assert outcomes(probe_report(x, y, z, Labels(tied, 0.5), **FAST))["label-ties"] == "FAIL"
    found: dict[str, Any] = probe_report(x, y, z, Labels(tied, 0.5), **FAST)
    assert "190 of 300 (63 %) sit exactly at 0.5" in next(
        c["because"] for c in found["checks"] if c["check"] == "label-ties"
    )


def test_a_second_label_that_disagrees_caps_the_probe() -> None:
    x, y, z, t = world(transfer=0.0, rate=0.4)
    random = np.random.default_rng(0)
    found: dict[str, Any] = probe_report(x, y, z, t, second_labels=random.random(193) < 0.4, **FAST)
    assert outcomes(found)["label-agreement"] == "FAIL"
    assert "label disagreement" in [mode["mode"] for mode in found["taxonomy"]]
    agreeing: dict[str, Any] = probe_report(x, y, z, t, second_labels=t, **FAST)
    assert outcomes(agreeing)["label-agreement"] == "PASS"


def test_a_peeked_threshold_is_warned_of() -> None:
    for seed in range(40):
        x, y, z, _ = world(seed=seed, d=2)
        found: dict[str, Any] = probe_report(x, y, z, np.arange(193) < 9, splits=1, permutations=40, C=(0.1,))
        peeked, honest = found["C"][0]["asymmetry_peeked"], found["C"][0]["asymmetry_honest"]
        reached = peeked["estimate"] is not None and peeked["estimate"] <= -0.15
        if reached and not (honest["estimate"] <= -0.15 and honest["p_assert_correct"] >= 0.7):
            assert outcomes(found)["threshold"] == "WARN"
            return
    pytest.fail("nine positives never reached the bar by peeking")


def test_without_fresh_items_nothing_about_them_is_said() -> None:
    x, y, *_ = world()
    found: dict[str, Any] = probe_report(x, y, **FAST)
    assert found["fresh"] is None
    assert found["C"][0]["fresh_auc"] is None
    assert set(outcomes(found).values()) == {"NOT_RUN"}


def test_input_that_does_not_fit_is_refused() -> None:
    x, y, z, t = world()
    with pytest.raises(InputError, match="100 rows and labels 99 labels"):
        probe_report(x, y[:-1], z, t, **FAST)
    with pytest.raises(InputError, match="of one class"):
        probe_report(x, np.ones(100), z, t, **FAST)
    with pytest.raises(InputError, match="not scored"):
        probe_report(x, np.where(y, np.nan, 1.0), z, t, **FAST)
    with pytest.raises(InputError, match="8 columns and the fresh ones 7"):
        probe_report(x, y, z[:, 1:], t, **FAST)
    with pytest.raises(InputError, match="5 folds cannot be made from 4 positives"):
        probe_report(x, np.arange(100) < 4, z, t, **FAST)


def check_of(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(check for check in found["checks"] if check["check"] == name)


def result_of(fresh_auc: Estimate, c2st_auc: Estimate, train: tuple[int, int], fresh: tuple[int, int]) -> ProbeResult:
    """A probe of these numbers; positives and all items of either side."""
    row = Reading(
        model="m", axis="a", layer=0, average=1, position="last", classifier="logistic", C=1.0,
        n_pos=train[0], n=train[1], n_fresh_pos=fresh[0], n_fresh=fresh[1], fresh_auc=fresh_auc,
    )  # fmt: skip
    tests = [
        BarTest.against("cv_auc", "the AUC", Estimate(0.8, 0.7, 0.9, 0.95, "m", 100), 0.65),
        BarTest.against("fresh_auc", "the AUC", fresh_auc, 0.63),
    ]
    steps = tuple(Step(at, "s", test.passed, test.said, "", (test,), (row,)) for at, test in enumerate(tests, 1))
    return ProbeResult("", "", {"fresh_auc": 0.63}, 0.95, None, steps, c2st_auc, (), Endpoint("last", None, None))


def test_endings_are_judged_by_what_is_known_of_them() -> None:
    x, y, z, t = world(m=200, rate=0.5)

    def ended(cut: int, unknown: int) -> dict[str, Any]:
        known: list[bool | None] = [True] * cut + [None] * unknown
        return check_of(probe_report(x, y, z, t, cut=[*known, *[False] * (200 - len(known))], **FAST), "endpoint")

    assert ended(20, 0)["outcome"] == "WARN"  # one in ten
    assert ended(21, 0)["outcome"] == "FAIL"
    assert ended(2, 2)["outcome"] == "PASS"  # one in fifty
    assert ended(2, 3)["outcome"] == "WARN"
    assert "10 % of 200 fresh answers were cut and 1 % have an unknown ending" in ended(20, 2)["because"]


def test_what_is_told_of_a_shift_counts_both_sets() -> None:
    found: dict[str, Any] = probe_report(*world(n=60, m=90, rate=0.2), **FAST)
    shift = check_of(found, "shift")
    assert shift["outcome"] == "WARN", "the sets are alike, and the positive rate is not"
    assert shift["estimate"]["n"] == 150
    assert "differs by -0.300" in shift["because"]


def test_too_few_items_of_a_class_settle_no_rate() -> None:
    for positives, outcome in ((9, "INCONCLUSIVE"), (10, "PASS")):
        x, y, z, _ = world(strength=2.5)
        t = np.arange(193) < positives
        z[:, 0] = np.random.default_rng(1).standard_normal(193) + 2.5 * t
        assert check_of(probe_report(x, y, z, t, **FAST), "base-rate")["outcome"] == outcome


def test_a_report_is_made_over_twenty_splits_unless_it_is_told_otherwise() -> None:
    found: dict[str, Any] = probe_report(*world(n=40)[:2], permutations=3)
    assert [(row["C"], row["cv_auc"]["splits"]) for row in found["C"]] == [(1.0, 20), (0.1, 20)]


@pytest.mark.parametrize(
    ("high", "outcome"), [(0.62, "FAIL"), (0.63, "INCONCLUSIVE"), (0.7, "INCONCLUSIVE"), (None, "INCONCLUSIVE")]
)
def test_a_bar_that_the_interval_still_holds_is_not_excluded(high: float | None, outcome: str) -> None:
    found = Estimate(
        0.55, None if high is None else 0.45, high, 0.95, "m", 90, None if high is not None else "no spread"
    )
    said = probe_on_fresh(result_of(found, Estimate(0.5, 0.4, 0.6, 0.95, "m", 30), (50, 100), (60, 300)))
    assert (said.outcome.name, said.n) == (outcome, 90)
    assert bool(said.remedy)


def test_a_shift_is_told_of_all_items_and_of_the_positives_among_them() -> None:
    apart = Estimate(0.9, 0.8, 0.95, 0.95, "m", 400)
    alike = Estimate(0.5, 0.4, 0.6, 0.95, "m", 400)
    none = Estimate.undefined("few", n=400, level=0.95, method="m")
    moved, still = ((50, 100), (60, 300)), ((50, 100), (150, 300))
    for shift, counts, outcome in (
        (apart, moved, "FAIL"), (apart, still, "WARN"), (alike, moved, "WARN"), (alike, still, "PASS"), (none, moved, "NOT_RUN"),
    ):  # fmt: skip
        said = features_shift(result_of(alike, shift, *counts))
        assert said.outcome.name == outcome
        assert said.n == (0 if shift is none else 400)
    assert "differs by -0.300" in features_shift(result_of(alike, apart, *moved)).because


def test_labels_that_another_threshold_makes_all_alike_train_no_probe() -> None:
    x, y, z, t = world(n=20, m=30)
    for one_class in (np.ones(20, bool), np.zeros(20, bool)):
        found = auc_with(ProbePlan(), x, one_class, z, t, TRIAL)
        assert (found.estimate, found.n, found.reason) == (None, 30, "the training labels are of one class")
    assert auc_with(ProbePlan(), x, y, z, t, TRIAL).estimate is not None
