"""Why probes fail on fresh prompts: each mode where it is planted, none where it is not. Rates: docs/probes.md."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from counterclaim import stats
from counterclaim.audit.probing import POOR, Agreement, BarTest
from counterclaim.lab.probing.crossval import CrossValidated, c2st, interval_of
from counterclaim.lab.probing.taxonomy import taxonomy, within_fresh
from counterclaim.records import Estimate

HALF = np.arange(400) % 2 == 0


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script whose rates docs/probes.md gives."""
    file = Path(__file__).parents[1] / "scripts" / "measure_probe_modes.py"
    spec = importlib.util.spec_from_file_location("measure_probe_modes", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("mode", ["capability cliff", "unfinished responses", "underpowered", "label disagreement"])
def test_a_mode_is_named_where_it_is_planted_and_not_elsewhere(script: ModuleType, mode: str) -> None:
    case = next(case for case in script.CASES if case.mode == mode)
    caught, alarmed = script.rates(case, 200)
    assert caught >= 0.85
    assert alarmed <= 0.05


@pytest.mark.parametrize(("mode", "least"), [("single output distribution", 3), ("distribution shift", 7)])
def test_a_mode_that_takes_fits_is_named_where_it_is_planted_and_not_elsewhere(
    script: ModuleType, mode: str, least: int
) -> None:
    case = next(case for case in script.CASES if case.mode == mode)
    caught, alarmed = script.rates(case, 8)
    assert caught >= least / 8
    assert alarmed == 0


def auc(value: float, low: float, high: float, n: int = 193) -> Estimate:
    return Estimate(value, low, high, 0.95, "DeLong, logit t", n)


def test_a_probe_that_passes_has_no_failure_mode() -> None:
    everything = {"cut": (100, 193), "labels": Agreement.of(np.roll(HALF, 1), HALF)}
    assert taxonomy(auc(0.75, 0.66, 0.82), (58, 100), (9, 193), **everything) == ()  # type: ignore[arg-type]
    assert BarTest.against("fresh_auc", "", auc(0.64, 0.51, 0.75), 0.63).passed is True
    assert BarTest.against("fresh_auc", "", auc(0.64, 0.49, 0.75), 0.63).passed is None


def test_the_papers_two_models_fail_for_their_own_reasons() -> None:
    gemma = taxonomy(auc(0.516, 0.427, 0.603), (58, 100), (55, 193))
    assert [mode.mode for mode in gemma] == []  # a base rate of 28 % is healthy, and .63 is excluded
    small = taxonomy(auc(0.519, 0.331, 0.702), (58, 100), (9, 193))
    assert [mode.mode for mode in small] == ["capability cliff", "underpowered"]
    assert "9 of 193 fresh answers are positive (4.7 %)" in small[0].because
    assert small[0].value == pytest.approx(9 / 193 - 0.58)
    assert small[1].value == 0.702


def test_style_that_tells_classes_apart_is_no_single_output_distribution() -> None:
    random = np.random.default_rng(1)
    labels = np.arange(300) % 3 == 0
    hidden, style = random.standard_normal((300, 6)), random.standard_normal((300, 2))
    within = within_fresh(hidden, labels, permutations=60)
    found = {name: taxonomy(auc(0.5, 0.43, 0.57), (56, 100), (100, 300), within=within, style=within_fresh(each, labels, permutations=60))
             for name, each in (("alike", style), ("told", style + 1.5 * labels[:, None]))}  # fmt: skip
    assert [mode.mode for mode in found["alike"]] == ["single output distribution"]
    assert "style tells them with AUC" in found["alike"][0].because
    assert found["told"] == ()


def test_an_undefined_auc_is_underpowered() -> None:
    nothing = Estimate.undefined("all items are of one class", n=20)
    (mode,) = taxonomy(nothing, (10, 20), (0, 20), within=None)[-1:]
    assert mode.mode == "underpowered"
    assert mode.value is None


def test_sets_are_told_apart_with_an_interval_that_covers_chance() -> None:
    covered = []
    for seed in range(40):
        random = np.random.default_rng(seed)
        found = c2st(random.standard_normal((60, 8)), random.standard_normal((60, 8)), permutations=60, seed=seed)
        assert found.auc.interval is not None
        covered.append(found.auc.interval[0] <= 0.5 <= found.auc.interval[1])
    assert np.mean(covered) >= 0.85  # DeLong's own interval covers 82 to 85 %; 40 draws of 95 % give 0.85 or more

    random = np.random.default_rng(0)
    apart = c2st(random.standard_normal((60, 8)), random.standard_normal((60, 8)) + 1.0, permutations=60)
    assert apart.apart
    assert apart.p == 1 / 61


def test_too_few_rows_are_not_told_apart() -> None:
    found = c2st(np.zeros((4, 3)), np.ones((50, 3)))
    assert found.auc.estimate is None
    assert not found.apart
    assert taxonomy(auc(0.5, 0.43, 0.57), (56, 100), (54, 193), shift=found) == ()


def test_the_ceiling_is_what_a_perfect_predictor_of_the_other_label_reaches() -> None:
    other = HALF.copy()
    other[:100] = ~other[:100]  # one in four differs
    found = Agreement.of(other, HALF)
    assert found.kappa().estimate == pytest.approx(0.5)
    assert found.ceiling().estimate == pytest.approx(stats.auc(other * 1.0, HALF))
    assert (found.kappa().high or 0.0) > POOR


def cross_validated(null: np.ndarray) -> CrossValidated:
    """One split whose out-of-fold scores rank 40 positives above 40 negatives now and then, with this null."""
    decisions = np.random.default_rng(4).standard_normal((1, 80)) + 0.9 * (np.arange(80) < 40)
    area = stats.auc(decisions[0], np.arange(80) < 40)
    assert area is not None
    return CrossValidated(1.0, np.array([area]), decisions, area, null, 0.1)


def width(found: Estimate) -> float:
    """Of the interval, on the logit scale."""
    assert found.interval is not None
    low, high = (math.log(value / (1 - value)) for value in found.interval)
    return high - low


def test_an_interval_is_as_much_wider_as_shuffled_labels_spread_more_than_independent_scores() -> None:
    """Out-of-fold scores share training items: DeLong's interval alone would be too narrow."""
    labels = np.arange(80) < 40
    alone = math.sqrt(81 / (12 * 40 * 40))  # of the AUC of independent scores, Mann and Whitney
    spread = np.array([-1.0, 1.0])  # standard deviation 1
    plain = width(interval_of(cross_validated(np.empty(0)), labels))
    delong = stats.delong(cross_validated(np.empty(0)).decisions[0], labels)
    assert plain == pytest.approx(width(delong))
    assert width(interval_of(cross_validated(0.5 + 1.7 * alone * spread), labels)) == pytest.approx(1.7 * plain)
    narrow = interval_of(cross_validated(0.5 + 0.4 * alone * spread), labels)
    assert width(narrow) == pytest.approx(plain), "shuffles that spread less do not narrow it"
    assert narrow.estimate == pytest.approx(delong.estimate)


def test_the_widening_knows_how_unequal_the_classes_are() -> None:
    labels = np.arange(80) < 10
    alone = math.sqrt(81 / (12 * 10 * 70))
    made = [cross_validated(null) for null in (np.empty(0), 0.5 + 2 * alone * np.array([-1.0, 1.0]))]
    plain, wide = (width(interval_of(one, labels)) for one in made)
    assert wide == pytest.approx(2 * plain)


def test_two_sets_of_noise_get_the_widened_interval() -> None:
    random = np.random.default_rng(1)
    one, other = random.standard_normal((2, 60, 30))
    shuffled, bare = (c2st(one, other, permutations=permutations) for permutations in (60, 0))
    assert shuffled.auc.estimate == bare.auc.estimate
    assert bare.p is None
    assert width(shuffled.auc) > 1.15 * width(bare.auc)


def test_what_is_looked_for_within_fresh_items_is_looked_for_with_the_stronger_penalty() -> None:
    found = within_fresh(np.random.default_rng(0).standard_normal((60, 4)), np.arange(60) < 30, permutations=3)
    assert found is not None
    assert (found.C, len(found.aucs), len(found.null)) == (0.1, 5, 3)
