"""The ledger: what reported numbers can support, under everything that they leave out; and what released files give."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from counterclaim import stats
from counterclaim.cli import app
from counterclaim.config import Written, decimals_of, rounds_to
from counterclaim.errors import InputError
from counterclaim.lab.config import (
    Direction,
    Numbers,
    Reported,
    ReportedAsymmetry,
    ReportedAuc,
    ReportedCells,
    ReportedCosine,
    ReportedCounts,
    ReportedDirection,
    ReportedFiltering,
    ReportedLargestD,
    ReportedMeans,
    load_reported,
    load_study,
)
from counterclaim.lab.config.reported import KINDS
from counterclaim.lab.replicate.artifacts import Recomputed, read_artifacts, recompute
from counterclaim.lab.replicate.judging import WORDS, _correlations, _counts_behind, _cv_noise, _influences, judge
from counterclaim.lab.replicate.table import ClaimRow, ClaimTable, claim_table, paper, write
from counterclaim.lab.studies import shipped_studies
from counterclaim.records import Json
from counterclaim.stats.heads import InSampleD, LargestD


def claim(numbers: Numbers, direction: Direction = "increase", margin: float = 0.05) -> Reported:
    return Reported(id="it", claim="It is so.", numbers=numbers, metric="accuracy", direction=direction, margin=margin)


# counts -----------------------------------------------------------------------------------------------------------------


def test_counts_that_stand_under_every_pairing_are_supported() -> None:
    ruling = judge(claim(ReportedCounts((24, 164), (49, 164))))
    assert ruling.word == "supported"
    assert ruling.p is not None
    assert ruling.p == stats.mcnemar_range(24, 49, 164)
    assert ruling.p[1] <= 0.01
    assert ruling.estimate is not None
    assert ruling.estimate.interval is not None
    assert ruling.estimate.interval[0] > 0
    assert ruling.settles == ""


def test_counts_that_hang_on_the_pairing_say_which_would_decide() -> None:
    counts = ReportedCounts((59, 164), (46, 164))
    ruling = judge(claim(counts, "decrease"))
    assert ruling.word == "inconclusive"
    assert ruling.because.startswith("hangs on the pairing")
    least = ruling.details["both_that_decides"]
    assert judge(claim(replace(counts, both=least), "decrease")).word == "supported"
    assert judge(claim(replace(counts, both=least - 1), "decrease")).word == "inconclusive"


def test_counts_that_are_too_few_say_how_many_are_needed() -> None:
    ruling = judge(claim(ReportedCounts((9, 20), (11, 20))))
    assert ruling.word == "inconclusive"
    assert "under no pairing" in ruling.because
    assert ruling.settles.startswith("About ")
    known = judge(claim(ReportedCounts((9, 20), (11, 20), both=5)))
    assert known.word == "inconclusive"
    assert "exact McNemar" in known.because


@pytest.mark.parametrize(
    "numbers",
    [
        "counts = { control = [1, 3], treated = [2, 3] }",
        "counts = { control = [0, 1], treated = [1, 1], both = 0 }",
        "means = { control = 0.2, treated = 0.4, n = 1 }",
        "auc = { value = 0.6, n = 4, positives = 1 }",
    ],
)
def test_what_nothing_could_detect_is_null_in_the_json(tmp_path: Path, numbers: str) -> None:
    file = written(tmp_path, f"{ONE}{numbers}\n")
    shown = CliRunner().invoke(app, ["replicate", str(file), "--json"])
    assert shown.exit_code == 0, shown.output
    details = json.loads(shown.output)["claims"][0]["details"]
    (found,) = (value for key, value in details.items() if key.startswith("minimum_detectable"))
    assert found in (None, [None, None])
    assert CliRunner().invoke(app, ["replicate", str(file), "--out", str(tmp_path / "out")]).exit_code == 0


def test_an_equivalence_needs_an_interval_within_the_margin() -> None:
    assert judge(claim(ReportedCounts((5_000, 10_000), (5_010, 10_000)), "none")).word == "supported"
    assert judge(claim(ReportedCounts((50, 100), (50, 100)), "none")).word == "inconclusive"
    assert judge(claim(ReportedCounts((2_000, 10_000), (4_000, 10_000)), "none")).word == "refuted"


@pytest.mark.parametrize(
    ("direction", "word"),
    [
        ("increase", "supported"),
        ("decrease", "refuted"),
        ("no-increase", "refuted"),
        ("no-decrease", "supported"),
        ("none", "refuted"),
    ],
)
def test_one_large_change_decides_every_claim_about_it(direction: Direction, word: str) -> None:
    assert judge(claim(ReportedCounts((100, 1_000), (600, 1_000)), direction)).word == word


def test_other_items_in_each_arm_are_not_paired() -> None:
    same = judge(claim(ReportedCounts((40, 120), (55, 120))))
    other = judge(claim(ReportedCounts((40, 120), (55, 120), same_items=False)))
    assert same.p is not None
    assert other.p is not None
    assert same.p[0] < same.p[1]
    assert other.p[0] == other.p[1]
    assert "Fisher" in other.because


# means ------------------------------------------------------------------------------------------------------------------


def test_the_widest_spread_of_a_mean_is_that_of_counts() -> None:
    _, widest = stats.paired_difference_range(40, 55, 120)
    made = stats.widest_mean_difference(40 / 120, 55 / 120, 120)
    assert made.interval == pytest.approx(widest.interval)


def test_no_data_on_the_scale_spread_a_difference_wider() -> None:
    """Bhatia and Davis, and the fewest joint ends: whatever the values, their own t interval is no wider."""
    rng = np.random.default_rng(5)
    for _ in range(200):
        shape = rng.uniform(0.1, 3, 2)
        c, t = rng.beta(*shape, 200), rng.beta(*shape[::-1], 200)
        if rng.random() < 0.5:
            c, t = np.sort(c), np.sort(t)[::-1]
        own = stats.paired_mean(t - c).interval
        worst = stats.widest_mean_difference(float(c.mean()), float(t.mean()), 200).interval
        assert own is not None
        assert worst is not None
        assert own[1] - own[0] <= (worst[1] - worst[0]) * 1.02  # a score interval is a little narrower than t far out


def test_means_stand_or_hang_on_their_spread() -> None:
    assert judge(claim(ReportedMeans(53.1, 87.0, 500, (0, 100)), "increase", 5.0)).word == "supported"
    hangs = judge(claim(ReportedMeans(0.452, 0.379, 100), "decrease"))
    assert hangs.word == "inconclusive"
    sd = hangs.details["sd_that_decides"]
    # at this spread t is at the critical value of the test
    assert 0.073 / (sd / 10) == pytest.approx(stats.distributions.t_quantile(0.99, 99))
    null = judge(claim(ReportedMeans(12.39, 12.07, 500, (5, 25)), "none", 1.25))
    assert null.word == "inconclusive"
    assert judge(claim(ReportedMeans(12.39, 12.07, 50_000, (5, 25)), "none", 1.25)).word == "supported"


def test_means_that_may_be_proportions_are_put_to_the_test_of_proportions() -> None:
    """0 and 7 of 30 have one pairing, and its exact p is above 0.01 where Newcombe's interval excludes zero."""
    means, counts = judge(claim(ReportedMeans(0, 7 / 30, 30))), judge(claim(ReportedCounts((0, 30), (7, 30))))
    assert counts.p == (stats.mcnemar_exact(7, 0), stats.mcnemar_exact(7, 0))
    assert (means.word, counts.word) == ("inconclusive", "inconclusive")
    assert means.details["largest_p"] == pytest.approx(counts.p[1])
    assert means.because.startswith("hangs on the values")
    assert "sd_that_decides" not in means.details
    assert judge(claim(ReportedMeans(7 / 30, 0, 30), "decrease")).word == "inconclusive"
    assert judge(claim(ReportedMeans(0, 9 / 30, 30))).word == "supported"


def test_means_are_supported_only_where_every_proportion_is() -> None:
    for n in (5, 12, 30):
        for k0 in range(n + 1):
            for k1 in range(n + 1):
                if judge(claim(ReportedMeans(k0 / n, k1 / n, n))).word == "supported":
                    assert judge(claim(ReportedCounts((k0, n), (k1, n)))).word == "supported", (k0, k1, n)


# the 2×2 ----------------------------------------------------------------------------------------------------------------


def test_the_range_of_correlations_is_that_of_all_pairings() -> None:
    control, treated = (5, 2, 4, 3), (4, 1, 3, 6)
    least, most = _correlations(ReportedCells(control, (treated,)))
    rng = np.random.default_rng(0)
    one, other = _influences(control), _influences(treated)
    drawn = [float(np.corrcoef(one, rng.permutation(other))[0, 1]) for _ in range(2_000)]
    assert least - 1e-9 <= min(drawn)
    assert max(drawn) <= most + 1e-9
    assert _correlations(ReportedCells(control, (control,)))[1] == pytest.approx(1)


def test_influences_are_those_of_the_asymmetry() -> None:
    from counterclaim.audit.metrics import assertion_asymmetry

    cells = np.array([50.0, 8.0, 30.0, 12.0])
    whole = float(assertion_asymmetry(cells))
    for cell, influence in enumerate(_influences((50, 8, 30, 12))[[0, 50, 58, 88]]):
        more = cells.copy()
        more[cell] += 1e-6
        assert (float(assertion_asymmetry(more)) - whole) / 1e-6 == pytest.approx(influence, abs=1e-5)


def test_the_intervals_of_a_moved_asymmetry_cover() -> None:
    """Independent arms by square-and-add; arms paired in any way, by the widest."""
    rng = np.random.default_rng(3)
    control, treated, n = np.array([0.45, 0.1, 0.35, 0.1]), np.array([0.4, 0.1, 0.3, 0.2]), 150
    truth = 0.3 / 0.5 - 0.4 / 0.5 - (0.35 / 0.45 - 0.45 / 0.55)
    hit, paired_hit = 0, 0
    for _ in range(400):
        for against in (False, True):
            u = rng.random(n)
            v = 1 - u if against else rng.random(n)
            c, t = (
                np.bincount(np.searchsorted(np.cumsum(p), q), minlength=4)[:4] for p, q in ((control, u), (treated, v))
            )
            cells = ReportedCells((c[0], c[1], c[2], c[3]), ((t[0], t[1], t[2], t[3]),))
            ruling = judge(claim(cells, "none", 0.1))
            assert ruling.estimate is not None
            low, high = ruling.estimate.interval or (1, -1)
            paired_hit += against and low <= truth <= high
            alone = ruling.details["independent"]
            hit += not against and alone["low"] <= truth <= alone["high"]
    assert 0.92 <= hit / 400 <= 0.985
    assert paired_hit / 400 >= 0.94


def test_square_and_add_of_independent_proportions_is_newcombe() -> None:
    made = stats.difference_of_estimates(stats.wilson(30, 70), stats.wilson(20, 50))
    assert made.interval == pytest.approx(stats.newcombe_difference(30, 70, 20, 50).interval)


def test_the_asymmetry_of_cells_is_that_of_wrong_answers_less_that_of_right_ones() -> None:
    one = judge(claim(ReportedCells((53, 5, 38, 4), ()), "none", 0.2)).estimate
    assert one == stats.newcombe_difference(38, 42, 53, 58)
    moved = judge(claim(ReportedCells((19, 2, 72, 7), ((22, 1, 63, 14),)), "decrease", 0.1)).estimate
    assert moved is not None
    assert moved.estimate == pytest.approx(63 / 77 - 22 / 23 - (72 / 79 - 19 / 21))


def test_cells_are_judged_over_every_pairing() -> None:
    strong = ReportedCells((500, 100, 480, 120), ((590, 10, 60, 540),))
    assert judge(claim(strong, "decrease", 0.1)).word == "supported"
    small = judge(claim(ReportedCells((19, 2, 72, 7), ((22, 1, 63, 14),)), "decrease", 0.1))
    assert small.word == "inconclusive"
    assert small.estimate is not None
    assert small.narrowest is not None
    wide, narrow = small.estimate.interval, small.narrowest.interval
    assert wide is not None
    assert narrow is not None
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_two_seeds_of_one_sign_do_not_make_a_gain() -> None:
    ruling = judge(claim(ReportedCells((19, 2, 72, 7), ((22, 1, 63, 14), (12, 1, 77, 10))), "decrease", 0.1))
    assert ruling.word == "inconclusive"
    assert ruling.details["seeds_of_one_sign"] == 2
    steady = tuple((500 - i, 10 + i, 100, 400) for i in range(4))
    cells = ReportedCells((500, 10, 400, 100), tuple((a, b, c, d) for a, b, c, d in steady))
    assert judge(claim(cells, "decrease", 0.1)).word == "supported"


def test_a_seed_that_is_told_again_adds_nothing() -> None:
    """All seeds answered the same items: what they got wrong together is no better known for being told twice."""
    same = (500, 100, 300, 100)
    once = judge(claim(ReportedCells(same, (same,)), "none", 0.1))
    assert once.because.startswith("hangs on the pairing")
    assert once.estimate is not None
    for times in (2, 5):
        again = judge(claim(ReportedCells(same, (same,) * times), "none", 0.1))
        assert again.word == "inconclusive"
        assert again.because.startswith("hangs on the pairing")
        assert again.estimate is not None
        assert again.estimate.interval == pytest.approx(once.estimate.interval)


def test_seeds_that_differ_make_a_change_less_sure() -> None:
    control = (500, 100, 300, 100)
    one = judge(claim(ReportedCells(control, ((500, 100, 200, 200),)), "decrease", 0.1))
    two = judge(claim(ReportedCells(control, ((500, 100, 240, 160), (500, 100, 160, 240))), "decrease", 0.1))
    assert (one.word, two.word) == ("supported", "inconclusive")
    assert two.settles.startswith("More seeds than 2")
    assert two.details["minimum_detectable_effect"] > one.details["minimum_detectable_effect"]


@pytest.mark.parametrize(("seeds", "spread"), [(5, 0.0), (5, 0.05), (2, 0.1)])
def test_the_intervals_over_seeds_cover_where_arms_are_paired_against_each_other(seeds: int, spread: float) -> None:
    """Items that lift the control lower every seed, and all seeds alike."""
    rng = np.random.default_rng(7)
    control, treated, n = np.array([0.45, 0.1, 0.35, 0.1]), np.array([0.4, 0.1, 0.3, 0.2]), 150
    truth = 0.3 / 0.5 - 0.4 / 0.5 - (0.35 / 0.45 - 0.45 / 0.55)
    by_influence = np.array([0, 3, 1, 2])  # cells from the least to the largest influence

    def drawn(law: np.ndarray, at: np.ndarray) -> tuple[int, int, int, int]:
        cells = by_influence[np.searchsorted(np.cumsum(law[by_influence])[:3], at)]
        cr, hr, cw, hw = map(int, np.bincount(cells, minlength=4))
        return cr, hr, cw, hw

    hit = 0
    for _ in range(400):
        items = rng.random(n)
        shifts = np.clip(spread * rng.normal(size=seeds), -0.19, 0.19)
        arms = tuple(drawn(treated + np.array([0, 0, shift, -shift]), 1 - items) for shift in shifts)
        ruling = judge(claim(ReportedCells(drawn(control, items), arms), "none", 0.1))
        assert ruling.estimate is not None
        low, high = ruling.estimate.interval or (1, -1)
        hit += low <= truth <= high
    assert hit / 400 >= 0.94


def test_a_profile_is_decoupled_only_if_its_interval_is() -> None:
    assert judge(claim(ReportedCells((53, 5, 38, 4)), "none", 0.1)).word == "inconclusive"
    assert judge(claim(ReportedCells((5300, 500, 3800, 400)), "none", 0.1)).word == "supported"


def test_an_asymmetry_gives_the_counts_behind_it_back() -> None:
    assert _counts_behind(ReportedAsymmetry(-0.341, 58, 42)) == [(19, 46)]
    for wrong, right in _counts_behind(ReportedAsymmetry(-0.161, 9, 184)):
        assert round(wrong / 184 - right / 9, 3) == -0.161
    ruling = judge(claim(ReportedAsymmetry(-0.161, 9, 184), "decrease", 0.15))
    assert ruling.word == "inconclusive"
    assert len(ruling.details["counts"]) == 2


def test_an_asymmetry_that_no_counts_give_is_not_judged() -> None:
    ruling = judge(claim(ReportedAsymmetry(-0.123, 2, 3), "decrease", 0.15))
    assert ruling.word == "not recomputable"
    assert "no counts of 2 right and 3 wrong" in ruling.because


# areas ------------------------------------------------------------------------------------------------------------------


def test_nine_positives_exclude_little() -> None:
    few = judge(claim(ReportedAuc(0.519, 193, 9), "no-increase", 0.13))
    many = judge(claim(ReportedAuc(0.516, 193, 55), "no-increase", 0.13))
    assert few.word == "inconclusive"
    assert many.word == "supported"
    assert few.estimate is not None
    assert many.estimate is not None
    assert (few.estimate.high or 0) > 0.63 > (many.estimate.high or 1)
    assert few.details["minimum_detectable_auc"] == pytest.approx(stats.mde_auc(9, 184, 0.01, 0.8))
    assert "fresh items" in few.settles


def test_an_area_is_supported_and_refuted() -> None:
    assert judge(claim(ReportedAuc(0.9, 200, 100), "increase", 0.15)).word == "supported"
    assert judge(claim(ReportedAuc(0.5, 2_000, 1_000), "increase", 0.15)).word == "refuted"
    assert judge(claim(ReportedAuc(0.9, 200, 100), "no-increase", 0.15)).word == "refuted"


def test_folds_share_what_they_were_trained_on() -> None:
    """Cross-validated noise spreads wider than class sizes say, so an area that they alone would support hangs on it."""
    noise = _cv_noise(100, 58, 5, 1.0)
    assert noise > 1.2 * np.sqrt(101 / (12 * 58 * 42))
    folds = judge(claim(ReportedAuc(0.683, 100, 58, folds=5), "increase", 0.15))
    assert judge(claim(ReportedAuc(0.683, 100, 58), "increase", 0.15)).word == "supported"
    assert folds.word == "inconclusive"
    assert folds.because.startswith("hangs on the folds")
    assert judge(claim(ReportedAuc(0.95, 100, 58, folds=5), "increase", 0.15)).word == "supported"


def test_noise_of_many_items_is_that_of_fewer_in_proportion() -> None:
    by_sizes = [np.sqrt((n + 1) / (12 * n * n / 4)) for n in (400, 450, 100_000)]
    ratios = [_cv_noise(n, n // 2, 2, 1.0) / by_sizes[at] for at, n in enumerate((400, 450, 100_000))]
    assert ratios == pytest.approx([ratios[0]] * 3)
    assert _cv_noise(300, 150, 2, 1.0) / np.sqrt(301 / (12 * 150 * 150)) == pytest.approx(ratios[0], rel=0.08)
    assert judge(claim(ReportedAuc(0.6, 100_000, 50_000, folds=2))).word == "supported"


def test_an_area_that_was_not_cross_validated_hangs_on_no_folds() -> None:
    """Beyond chance at 0.95 and not at 1 - alpha: too few items, and nothing that folds could share."""
    plain = judge(replace(claim(ReportedAuc(0.61, 193, 55), "increase", 0.1), alpha=0.01))
    assert plain.word == "inconclusive"
    assert "folds" not in plain.because
    assert plain.because.endswith("which excludes chance, but not at the level 0.01")
    assert plain.settles.startswith("About ")
    folds = judge(claim(ReportedAuc(0.61, 193, 55, folds=5), "increase", 0.1))
    assert "hangs on the folds" not in folds.because, "class sizes alone do not decide it either"


def test_where_an_interval_lies_is_said_as_it_is() -> None:
    still = judge(claim(ReportedAuc(0.44, 193, 55), "none", 0.1))
    assert still.because.endswith("which does not lie within 0.4 to 0.6")
    assert judge(claim(ReportedAuc(0.5, 5_000, 2_500), "none", 0.1)).because.endswith("which lies within 0.4 to 0.6")
    assert judge(claim(ReportedAuc(0.9, 200, 100), "none", 0.1)).because.endswith("which lies wholly beyond 0.4 to 0.6")
    assert judge(claim(ReportedAuc(0.9, 200, 100), "no-increase", 0.1)).because.endswith("wholly above 0.6")
    assert judge(claim(ReportedAuc(0.4, 193, 55), "no-decrease", 0.1)).because.endswith("and not 0.4")
    near = judge(claim(ReportedCounts((40, 100), (55, 100), both=30), "increase", 0.1))
    assert near.word == "inconclusive"
    assert near.because.endswith("which excludes no change, but not at the level 0.01")
    across = judge(claim(ReportedCounts((5_000, 10_000), (5_500, 10_000), both=4_000), "no-increase", 0.05))
    assert across.word == "inconclusive"
    assert across.settles.startswith("More items than 10,000")


def test_an_area_without_its_positives_says_how_many_would_decide() -> None:
    ruling = judge(claim(ReportedAuc(0.48, 193), "no-increase", 0.1))
    assert ruling.word == "inconclusive"
    least = ruling.details["positives_that_decide"]
    assert judge(claim(ReportedAuc(0.48, 193, least), "no-increase", 0.1)).word == "supported"
    assert judge(claim(ReportedAuc(0.48, 193, least - 1), "no-increase", 0.1)).word == "inconclusive"


# heads ------------------------------------------------------------------------------------------------------------------


def test_the_largest_of_many_heads_is_held_against_the_largest_of_chance() -> None:
    assert judge(claim(ReportedLargestD(0.599, 280, (38, 53)))).word == "inconclusive"
    assert judge(claim(ReportedLargestD(1.2, 280, (38, 53)))).word == "supported"
    assert judge(claim(ReportedLargestD(0.7, 1, (38, 53)))).word == "supported"
    assert judge(claim(ReportedLargestD(0.599, 280))).word == "not recomputable"


def test_unknown_cohorts_say_which_sizes_would_decide() -> None:
    ruling = judge(claim(ReportedLargestD(0.875, 280, n=100)))
    assert ruling.word == "inconclusive"
    least = ruling.details["cohort_that_decides"]
    assert judge(claim(ReportedLargestD(0.875, 280, (least, 100 - least)))).word == "supported"
    assert judge(claim(ReportedLargestD(0.875, 280, (least - 1, 101 - least)))).word == "inconclusive"


def test_the_law_of_a_direction_in_sample_is_that_of_drawn_noise() -> None:
    rng = np.random.default_rng(1)
    first, told = np.arange(50) < 30, []
    for _ in range(400):
        x = rng.standard_normal((50, 12))
        toward = x[first].mean(axis=0) - x[~first].mean(axis=0)
        d = float(stats.cohen_d((x @ toward)[:, None], first)[0])
        p = judge(claim(ReportedDirection(d, d, 12, (30, 20)))).p
        assert p is not None
        told.append(p[0])
    assert [np.mean(np.array(told) <= q) for q in (0.1, 0.5, 0.9)] == pytest.approx([0.1, 0.5, 0.9], abs=0.06)


@pytest.mark.parametrize(
    "numbers", [ReportedLargestD(3.0, 10, (50, 50)), ReportedDirection(9.0, 9.0, 12, (50, 50), 10)]
)
def test_a_size_refutes_that_nothing_differs_and_has_no_sign(numbers: Numbers) -> None:
    assert judge(claim(numbers)).word == "supported"
    for direction in ("none", "no-increase"):
        assert judge(claim(numbers, direction)).word == "refuted"
        wide = judge(claim(numbers, direction, margin=20.0))
        assert wide.word == "inconclusive"
    for direction in ("decrease", "no-decrease"):
        ruling = judge(claim(numbers, direction))
        assert ruling.word == "not recomputable"
        assert "no sign" in ruling.because


@pytest.mark.parametrize("d", [0.02, 0.3, 0.599, 1.2])
def test_a_largest_d_supports_no_null(d: float) -> None:
    for cohorts, n in (((38, 53), None), (None, 91)):
        ruling = judge(claim(ReportedLargestD(d, 280, cohorts, n), "none", 0.5))
        assert ruling.word == "inconclusive"
        assert ruling.settles
    assert judge(claim(ReportedDirection(d, d, 8, (38, 53), 1), "none", 0.5)).word != "supported"


def test_a_largest_d_is_supported_where_no_sizes_of_the_cohorts_would_undo_it() -> None:
    assert judge(claim(ReportedLargestD(30.0, 10, n=100))).word == "supported"
    assert judge(claim(ReportedLargestD(30.0, 10, n=100), "none")).word == "refuted"
    extreme = judge(claim(ReportedLargestD(1e9, 10, (500, 500)))).p
    assert extreme is not None
    assert extreme[0] > 0
    assert judge(claim(ReportedLargestD(0.2, 10, n=100))).because.startswith("no more than chance gives, however")


def test_the_null_of_a_margin_is_that_of_drawn_heads() -> None:
    rng = np.random.default_rng(2)
    first = np.arange(30) < 12
    rows = rng.standard_normal((30, 3 * 2_000)) + 0.6 * first[:, None]
    largest = np.abs(stats.cohen_d(rows, first)).reshape(2_000, 3).max(axis=1)
    law = LargestD(3, 12, 18)
    assert [law.p(float(np.quantile(largest, 1 - q)), 0.6) for q in (0.1, 0.5, 0.9)] == pytest.approx(
        [0.1, 0.5, 0.9], abs=0.03
    )
    assert law.p(0.7, 1e-9) == pytest.approx(law.p(0.7), rel=1e-4)
    toward = [
        np.linalg.norm(rng.standard_normal(4) + np.array([0.6 / np.sqrt(1 / 12 + 1 / 18), 0, 0, 0]))
        for _ in range(4_000)
    ]
    d = np.array(toward) * np.sqrt(1 / 12 + 1 / 18) / np.sqrt(rng.chisquare(28, 4_000) / 28)
    along = InSampleD(4, 12, 18)
    assert [along.p(float(np.quantile(d, 1 - q)), 0.6) for q in (0.1, 0.5, 0.9)] == pytest.approx(
        [0.1, 0.5, 0.9], abs=0.03
    )
    assert along.p(1.0, 1e-9) == pytest.approx(along.p(1.0), rel=1e-4)


def test_the_best_of_many_directions_in_noise_is_no_finding() -> None:
    """Of 48 heads of noise the best alone is told: unlikely for one that was chosen beforehand, and for this one not."""
    rng = np.random.default_rng(4)
    scale = np.sqrt(1 / 72 + 1 / 19)
    d = scale * np.sqrt(rng.chisquare(256, (2_000, 48)) / (rng.chisquare(89, (2_000, 48)) / 89)).max(axis=1)
    told = [ReportedDirection(best, best, 256, (72, 19)) for best in map(float, d)]
    chosen = [judge(claim(replace(it, heads=1))).word for it in told]
    assert chosen.count("supported") / len(told) > 0.3
    among = [judge(claim(replace(it, heads=48))).word for it in told]
    assert among.count("supported") / len(told) <= 0.02
    untold = [judge(claim(it)) for it in told]
    assert {ruling.word for ruling in untold} == {"inconclusive"}
    hangs = [at for at, ruling in enumerate(untold) if "how many heads" in ruling.because]
    assert len(hangs) == chosen.count("supported")
    most = untold[hangs[0]].details["heads_that_decide"]
    assert judge(claim(replace(told[hangs[0]], heads=most))).word == "supported"
    assert judge(claim(replace(told[hangs[0]], heads=most + 1))).word == "inconclusive"


def test_a_direction_in_sample_is_what_noise_gives() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((91, 32))
    toward = x[:72].mean(axis=0) - x[72:].mean(axis=0)
    noise = float(stats.cohen_d((x @ toward)[:, None], np.arange(91) < 72)[0])
    told = ReportedDirection(noise, noise, 32, (72, 19))
    assert noise > 1
    assert judge(claim(told)).word == "inconclusive"
    assert judge(claim(replace(told, low=9.0, high=9.0))).word == "supported"
    assert judge(claim(ReportedCosine(0.958, 0.998), "none")).word == "not recomputable"


# the files that ship -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ledger() -> ClaimTable:
    return claim_table("paper")


def test_every_study_of_the_paper_is_in_the_ledger_and_can_be_run() -> None:
    names = [name for _, name, _ in paper()]
    assert sorted(names) == sorted(name for name in shipped_studies() if name.startswith("paper-"))
    for _, name, file in paper():
        assert load_reported(file), name
        load_study(file)


def test_what_was_reported_is_no_part_of_the_study(tmp_path: Path) -> None:
    file = shipped_studies()["paper-gemma4-sidecar"][0]
    text = file.read_text(encoding="utf-8").partition("# What the paper reported")[0]
    bare = tmp_path / file.name
    bare.write_text(text, encoding="utf-8")
    one, other = load_study(file), load_study(bare)
    differ = {item.name for item in fields(one) if getattr(one, item.name) != getattr(other, item.name)}
    assert differ == {"path"}
    assert load_reported(bare) == ()


PAPERS_NUMBERS: dict[str, dict[str, tuple[Numbers, str]]] = {
    "paper-qwen3-0.6b": {
        "pipeline-yield": (ReportedFiltering(1250, 1085), ""),
        "humaneval-draft": (ReportedCounts((24, 164), (49, 164), percent=(14.6, 29.9)), "512 tokens"),
        "humaneval-corrected": (ReportedCounts((59, 164), (46, 164), percent=(36.0, 28.0)), "larger budget"),
        "mcas-draft": (ReportedMeans(53.1, 87.0, 500, (0, 100)), ""),
        "mcas-corrected": (ReportedMeans(12.39, 12.07, 500, (5, 25)), ""),
        "correction-recovery": (ReportedCounts((11, 105), (8, 106), same_items=False, percent=(10.5, 7.5)), ""),
    },
    "paper-qwen3-1.7b-attention": {
        "humaneval": (ReportedCounts((137, 164), (111, 164), percent=(83.5, 67.7)), "second harness"),
    },
    "paper-qwen3-1.7b-all-modules": {
        "humaneval": (ReportedCounts((137, 164), (103, 164), percent=(83.5, 62.8)), "second harness"),
    },
    "paper-gemma4-chef": {"coverage": (ReportedMeans(0.452, 0.379, 100), "")},
    "paper-gemma4-profile": {"decoupling": (ReportedCells((53, 5, 38, 4), asymmetry=-0.009), "")},
    "paper-qwen3.5-tempering": {
        "humble-0.9": (ReportedCells((19, 2, 72, 7), ((14, 3, 75, 8),)), "λ 1.0 -> 0.9"),
        "humble-0.8": (ReportedCells((19, 2, 72, 7), ((12, 3, 75, 10),)), "λ 1.0 -> 0.8"),
        "humble-0.5": (ReportedCells((19, 2, 72, 7), ((22, 1, 63, 14),)), "λ 1.0 -> 0.5"),
        "humble-0.5-second-seed": (ReportedCells((19, 2, 72, 7), ((12, 1, 77, 10),)), "λ 1.0 -> 0.5"),
        "humble-0.5-both-seeds": (ReportedCells((19, 2, 72, 7), ((22, 1, 63, 14), (12, 1, 77, 10))), "λ 1.0 -> 0.5"),
        "humble-heads": (ReportedLargestD(0.557, 48, (72, 19)), ""),
        "humble-directions": (ReportedDirection(1.29, 1.73, 256, (72, 19), 48), ""),
        "humble-cosines": (ReportedCosine(0.958, 0.998), ""),
    },
    "paper-gemma4-tempering": {
        "humble-0.9": (ReportedCells((60, 6, 29, 5), ((52, 7, 36, 5),)), "λ 1.0 -> 0.9"),
        "humble-0.8": (ReportedCells((60, 6, 29, 5), ((52, 6, 35, 7),)), "λ 1.0 -> 0.8"),
        "humble-0.5": (ReportedCells((60, 6, 29, 5), ((54, 5, 33, 8),)), "λ 1.0 -> 0.5"),
        "humble-heads": (ReportedLargestD(0.599, 35 * 8, (38, 53)), ""),
        "adversarial-self-heads": (ReportedLargestD(0.875, 35 * 8, n=100), ""),
    },
    "paper-gemma4-sidecar": {
        "cv": (ReportedAuc(0.683, 100, 58, 5), ""),
        "cv-gate": (ReportedAsymmetry(-0.341, 58, 42, folds=5), ""),
        "fresh": (ReportedAuc(0.516, 193, 55, C=0.1), ""),
        "fresh-gate": (ReportedAsymmetry(-0.043, 55, 138), "C = 0.1"),
        "fresh-C1": (ReportedAuc(0.509, 193, 55, C=1.0), ""),
        "fresh-C1-gate": (ReportedAsymmetry(0.008, 55, 138), "C = 1"),
        "fresh-last-four": (ReportedAuc(0.557, 193, 55), ""),
        "fresh-last-four-gate": (ReportedAsymmetry(-0.130, 55, 138), ""),
        "factual-cv": (ReportedAuc(0.533, 100, folds=5), ""), "factual-fresh": (ReportedAuc(0.480, 193), ""),
        "hedging-cv": (ReportedAuc(0.599, 100, folds=5), ""), "hedging-fresh": (ReportedAuc(0.515, 193), ""),
        "pedagogical-cv": (ReportedAuc(0.481, 100, folds=5), ""), "pedagogical-fresh": (ReportedAuc(0.439, 193), ""),
        "self-verification-cv": (ReportedAuc(0.594, 100, folds=5), ""),
        "self-verification-fresh": (ReportedAuc(0.518, 193), ""),
        "completeness-cv": (ReportedAuc(0.510, 100, folds=5), ""), "completeness-fresh": (ReportedAuc(0.442, 193), ""),
    },
    "paper-smollm2-sidecar": {
        "fresh": (ReportedAuc(0.519, 193, 9, C=1.0), ""),
        "fresh-gate": (ReportedAsymmetry(-0.161, 9, 184), "C = 1"),
        "fresh-C0.1": (ReportedAuc(0.505, 193, 9, C=0.1), ""),
        "fresh-C0.1-gate": (ReportedAsymmetry(-0.188, 9, 184), "C = 0.1"),
    },
}  # fmt: skip
"""What the paper reports, study by study and claim by claim: the numbers, and the setting that tells two of them apart."""

BARS = {"cv": 0.65, "fresh": 0.63, "cv-gate": -0.20, "fresh-gate": -0.15, "axis-cv": 0.65, "axis-fresh": 0.60}
"""The paper's bars for areas and for gates, in cross-validation and on fresh prompts, and for the probes of its axes."""


@pytest.mark.parametrize("study", PAPERS_NUMBERS)
def test_the_papers_numbers_are_all_there_and_each_is_its_own(study: str) -> None:
    claims = load_reported(shipped_studies()[study][0])
    assert {it.id: (it.numbers, it.setting) for it in claims} == PAPERS_NUMBERS[study]


def test_every_study_of_the_paper_has_its_numbers_in_the_table() -> None:
    assert list(PAPERS_NUMBERS) == [name for _, name, _ in paper()]


def test_the_papers_bars_are_the_margins_of_what_it_says_of_probes_and_gates() -> None:
    axes = ("factual", "hedging", "pedagogical", "self-verification", "completeness")
    for study in ("paper-gemma4-sidecar", "paper-smollm2-sidecar"):
        for it in load_reported(shipped_studies()[study][0]):
            axis = "axis-" if it.id.startswith(axes) else ""
            name = axis + ("cv" if it.id.removesuffix("-gate").endswith("cv") else "fresh")
            name += "-gate" if it.id.endswith("-gate") else ""
            chance = 0.0 if it.id.endswith("-gate") else 0.5
            assert chance + it.sign * it.margin == pytest.approx(BARS[name]), it.id


def line(ledger: ClaimTable, study: str, id: str) -> ClaimRow:
    return next(row for row in ledger.rows if (row.study, row.reported.id) == (study, id))


def test_the_drafts_gains_look_fine_by_their_numbers_and_stand_beside_their_correction(
    ledger: ClaimTable,
) -> None:
    assert ledger.taken_back == ("paper-qwen3-0.6b: humaneval-draft", "paper-qwen3-0.6b: mcas-draft")
    draft = line(ledger, "paper-qwen3-0.6b", "humaneval-draft")
    assert "36.0 % -> 28.0 %" in draft.beside
    assert line(ledger, "paper-qwen3-0.6b", "humaneval-corrected").ruling.word == "inconclusive"
    for name in ("attention", "all-modules"):
        assert line(ledger, f"paper-qwen3-1.7b-{name}", "humaneval").ruling.word == "supported"


def test_the_ledger_is_the_same_every_time(ledger: ClaimTable, tmp_path: Path) -> None:
    write(tmp_path / "one", ledger)
    write(tmp_path / "two", claim_table("paper"))
    for name in ("replication.json", "replication.html"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    told = json.loads((tmp_path / "one" / "replication.json").read_text(encoding="utf-8"))
    assert sum(told["words"].values()) == len(told["claims"])
    page = (tmp_path / "one" / "replication.html").read_text(encoding="utf-8")
    assert page.count("<details") == len(told["claims"])
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")


def test_the_page_in_docs_has_every_key_of_the_json(ledger: ClaimTable) -> None:
    page = (Path(__file__).parents[1] / "docs" / "replicate.md").read_text(encoding="utf-8")
    told = ledger.to_json()
    for key in {*told, *told["claims"][0], *(item.name for item in fields(Recomputed))}:
        assert f"`{key}" in page, key
    for word in WORDS:
        assert f"| {word} |" in page
    for kind in KINDS:
        assert f"`{kind}`" in page


# files of one's own --------------------------------------------------------------------------------------------------------

TARGET = '[target]\nmetric = "accuracy"\ndirection = "increase"\nmargin = 0.05\n'
ONE = '[[reported]]\nid = "a"\nclaim = "It rises."\n'


def written(folder: Path, reported: str) -> Path:
    file = folder / "mine.toml"
    file.write_text(TARGET + reported, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("reported", "says"),
    [
        (ONE + "counts = { control = [24, 164], treated = [49, 164], percent = [14.7, 29.9] }\n", "14.634 percent and not 14.7"),
        (ONE + "counts = { control = [170, 164], treated = [49, 164] }\n", "more than all"),
        (ONE + "counts = { control = [20, 100], treated = [49, 164] }\n", "same_items = false"),
        (ONE + "counts = { control = [20, 100], treated = [30, 100], both = 21 }\n", "which allow 0 to 20"),
        (ONE + "cells = { control = [53, 5, 38, 4], asymmetry = 0.009 }\n", "not 0.009"),
        (ONE + "cells = { control = [53, 5, 38, 4], treated = [[53, 5, 38, 5]] }\n", "one sum"),
        (ONE + "means = { control = 1.2, treated = 0.3, n = 9 }\n", "do not lie on a scale"),
        (ONE + "auc = { value = 0.6, n = 20, positives = 20 }\n", "no negatives"),
        (ONE + "auc = { value = 0.9, n = 50, positives = 1, folds = 5 }\n", "line 8: reported.0.auc: 1 against 49 cannot be"),
        (ONE + "auc = { value = 0.9, n = 50, positives = 49, folds = 5 }\n", "49 against 1 cannot be"),
        (ONE + "auc = { value = 0.9, n = 50, folds = 51 }\n", "more than the 50 items"),
        (ONE + "auc = { value = 0.9, n = 50, positives = 20, folds = 51 }\n", "more than the 50 items"),
        (ONE + "asymmetry = { value = 0.5, right = 1, wrong = 9, folds = 5 }\n", "1 against 9 cannot be"),
        (ONE + "direction_d = { low = -30.0, high = -20.0, width = 8, cohorts = [9, 9] }\n", "direction_d.low: input should be greater"),
        (ONE + "direction_d = { low = 2.5, high = 1.0, width = 8, cohorts = [9, 9] }\n", "low = 2.5 is above high = 1.0"),
        (ONE + "cosine = { low = 0.9, high = 0.1 }\n", "low = 0.9 is above high = 0.1"),
        (ONE + "largest_d = { d = -0.5, heads = 8 }\n", "should be greater than 0"),
        (ONE + "largest_d = { d = 0.5, heads = 8, cohorts = [9, 9], n = 20 }\n", "are not 20 in all"),
        (ONE + "filtering = { before = 3, after = 4 }\n", "more than all"),
        (ONE, "here are 0"),
        (ONE + "cosine = { low = 0.1, high = 0.2 }\nauc = { value = 0.6, n = 20 }\n", "here are 2"),
        (ONE + "cosine = { low = 0.1, high = 0.2 }\n" + ONE + "cosine = { low = 0.1, high = 0.2 }\n", "the id 'a' is taken"),
        (ONE + 'corrected_by = "b"\ncosine = { low = 0.1, high = 0.2 }\n', "no other claim here has the id 'b'"),
        (ONE + "countz = { control = [24, 164], treated = [49, 164] }\n", "there is no such key"),
        ("", "reports no claims"),
    ],
)  # fmt: skip
def test_numbers_that_contradict_each_other_are_refused(tmp_path: Path, reported: str, says: str) -> None:
    with pytest.raises(InputError, match=r"mine\.toml") as caught:
        claim_table(str(written(tmp_path, reported)))
    assert says in str(caught.value)


def test_a_number_keeps_the_decimals_that_it_was_written_with() -> None:
    for literal, decimals in (
        ("0.450", 3),
        ("36.0", 1),
        ("-0.130", 3),
        ("1e-05", 5),
        ("1.50e-3", 5),
        ("1e5", 0),
        ("1_0.5", 1),
    ):
        told = Written(literal)
        assert (told, decimals_of(told)) == (float(literal), decimals)
        assert decimals_of(copy.deepcopy(told)) == decimals_of(pickle.loads(pickle.dumps(told))) == decimals
    assert [decimals_of(value) for value in (0.379, 1e-05, 3.0, 12)] == [3, 5, 1, 0]
    assert decimals_of(Written("inf")) == 0


@pytest.mark.parametrize(
    ("literal", "found", "same"),
    [
        ("0.450", 0.4541, False), ("0.450", 0.45049, True), ("0.45", 0.4541, True), ("1e-05", 0.3, False), ("1e-05", 1.4e-05, True),
        ("-0.130", -0.1344, False), ("-0.130", -0.1304, True), ("0.0", 0.04, True), ("36.0", 35.976, True), ("36.0", 36.06, False),
        ("0.125", 0.1255, True), ("0.125", 0.12551, False),
    ],
)  # fmt: skip
def test_a_number_rounds_to_the_one_that_was_told_in_its_own_decimals(literal: str, found: float, same: bool) -> None:
    assert rounds_to(found, Written(literal)) == same


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ("counts = { control = [24, 164], treated = [49, 164], percent = [15, 30] }", "15 % -> 30 % (+15 points)"),
        ("counts = { control = [24, 164], treated = [49, 164], percent = [14.63, 29.9] }", "14.63 % -> 29.90 %"),
        ("counts = { control = [24, 164], treated = [49, 164], percent = [14.60, 29.9] }", "14.634 percent and not 14.60"),
        ("cells = { control = [53, 5, 38, 4], asymmetry = -0.010 }", "-0.0090 and not -0.010"),
        ("cells = { control = [53, 5, 38, 4], asymmetry = -0.01 }", "asymmetry -0.009"),
        ("asymmetry = { value = -0.130, right = 55, wrong = 138 }", "asymmetry -0.130"),
        ("asymmetry = { value = -0.13, right = 55, wrong = 138 }", "asymmetry -0.13,"),
        ("asymmetry = { value = -0.13, right = 55, wrong = 138, decimals = 3 }", "asymmetry -0.130,"),
        ("means = { control = 0.450, treated = 1, n = 9 }", "0.450 -> 1 "),
        ("auc = { value = true, n = 9 }", "AUC 1.0, n = 9"),
    ],
)  # fmt: skip
def test_a_file_says_in_how_many_decimals_its_numbers_were_told(tmp_path: Path, numbers: str, says: str) -> None:
    file = written(tmp_path, f"{ONE}{numbers}\n")
    if " and not " in says:
        with pytest.raises(InputError, match=says):
            claim_table(str(file))
    else:
        assert says in claim_table(str(file)).rows[0].reported.found


def test_fewer_decimals_leave_room_for_more_counts() -> None:
    few, many = (_counts_behind(ReportedAsymmetry(Written(text), 55, 138)) for text in ("-0.130", "-0.13"))
    assert set(few) < set(many)


def test_a_file_of_ones_own_is_judged_at_its_own_level(tmp_path: Path) -> None:
    counts = ONE + "counts = { control = [40, 120], treated = [66, 120] }\n"
    strict = claim_table(str(written(tmp_path, counts + "[test]\nalpha = 0.0001\n"))).rows[0]
    lax = claim_table(str(written(tmp_path, counts + "[test]\nalpha = 0.05\n"))).rows[0]
    assert (strict.ruling.word, lax.ruling.word) == ("inconclusive", "supported")


def test_the_command_prints_every_claim_and_ends_well(tmp_path: Path) -> None:
    file = written(tmp_path, ONE + "counts = { control = [24, 164], treated = [49, 164], percent = [14.6, 29.9] }\n")
    shown = CliRunner().invoke(app, ["replicate", str(file), "--out", str(tmp_path / "out")])
    assert shown.exit_code == 0, shown.output
    assert "supported" in shown.output
    assert "It rises." in shown.output
    assert "14.6 % -> 29.9 %" in shown.output
    assert (tmp_path / "out" / "replication.html").is_file()
    told = json.loads(CliRunner().invoke(app, ["replicate", str(file), "--json"]).output)
    assert told["words"] == {"supported": 1, "refuted": 0, "inconclusive": 0, "not recomputable": 0}
    assert told["claims"][0]["p_range"][1] <= 0.01


# released files ------------------------------------------------------------------------------------------------------------


def test_the_released_files_are_held_against_the_paper(paper: Path) -> None:
    made = claim_table("paper", read_artifacts(paper))
    verifier, judged = line(made, "paper-gemma4-chef", "coverage").recomputed
    assert (verifier.word, verifier.artifact, verifier.n) == ("another scorer", "0.279 -> 0.241", 100)
    assert "another scorer than the one that was reported" in verifier.because
    assert "INVALID" in verifier.because
    assert (judged.agrees, judged.artifact) == (True, "0.452")
    (cells,) = line(made, "paper-gemma4-profile", "decoupling").recomputed
    assert (cells.agrees, cells.artifact) == (True, "53/5/38/4")
    assert "kappa" in cells.because
    assert "ties decide" in cells.because
    (heads,) = line(made, "paper-gemma4-tempering", "humble-heads").recomputed
    assert (heads.agrees, heads.artifact) == (True, "0.599 of 280")
    assert made.released is not None
    assert set(made.released.used) == {"base", "trained", "judged", "heads"}
    assert {"LICENSE", "README.md"} <= set(made.released.unused)


def rows_of(mean: float, n: int = 100) -> list[dict[str, Json]]:
    """Finished answers whose scores have a mean."""
    return [
        {"i": i, "prompt": f"How is dish {i} made?", "response": f"Dish {i} is boiled for {i + 3} minutes.", "score": mean + 0.1 * (-1) ** i}
        for i in range(n)
    ]  # fmt: skip


def plant(folder: Path, base: float, trained: float) -> None:
    """Lay files like the released ones into a folder: answers of both arms with such mean scores, and eight heads."""
    for name, adapter, mean in (("x.json", "BASE", base), ("y.json", "dpo", trained)):
        document: dict[str, Any] = {"summary": {"adapter": adapter}, "rows": rows_of(mean)}
        (folder / name).write_text(json.dumps(document), encoding="utf-8")
    heads = {
        "cohorts": {"cw": 38, "cr": 53}, "heads": [{"layer": 0, "head": h, "cohen_d": 0.1 * h} for h in range(8)],
    }  # fmt: skip
    (folder / "heads.json").write_text(json.dumps(heads), encoding="utf-8")


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    folder = tmp_path / "released"
    folder.mkdir()
    plant(folder, 0.452, 0.379)
    return folder


@pytest.mark.parametrize(
    ("base", "trained", "word"),
    [(0.452, 0.379, "agree"), (0.279, 0.241, "another scorer"), (0.452, 0.241, "another scorer")],
)
def test_planted_files_agree_or_disagree(tmp_path: Path, base: float, trained: float, word: str) -> None:
    plant(tmp_path, base, trained)
    (tmp_path / "notes.txt").write_text("nothing", encoding="utf-8")
    released = read_artifacts(tmp_path)
    assert released.unused == {"notes.txt": "holds none of what was released"}
    made = claim_table("paper", released)
    verifier, judged = line(made, "paper-gemma4-chef", "coverage").recomputed
    assert verifier.word == word, verifier
    assert judged.word == "not recomputable"
    assert "not recomputable from" in judged.because
    (largest,) = line(made, "paper-gemma4-tempering", "humble-heads").recomputed
    assert largest.agrees is False
    assert largest.artifact == "0.700 of 8"
    assert not line(made, "paper-qwen3-0.6b", "mcas-draft").recomputed


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ({"cohorts": {"cw": 38}}, "cohorts"),
        ({"cohorts": {"cw": 38, "cr": "many"}}, "cohorts"),
        ({"arch": [35, 8]}, "arch does not say"),
        ({"arch": {"n_layers": "35", "n_heads": 8}}, "arch does not say"),
        ({"heads": [{"layer": 0, "head": 0, "cohen_d": float("nan")}]}, "no list of heads"),
    ],
)
def test_a_damaged_file_loses_nothing_else(tmp_path: Path, damage: dict[str, Json], says: str) -> None:
    whole = {"cohorts": {"cw": 38, "cr": 53}, "heads": [{"layer": 0, "head": 0, "cohen_d": 0.5}]}
    (tmp_path / "heads.json").write_text(json.dumps(whole | damage), encoding="utf-8")
    made = claim_table("paper", read_artifacts(tmp_path))
    (heads,) = line(made, "paper-gemma4-tempering", "humble-heads").recomputed
    assert heads.agrees is None
    assert says in heads.because
    assert len(made.rows) == sum(map(len, PAPERS_NUMBERS.values()))


def test_judged_answers_without_a_coverage_give_none(tmp_path: Path) -> None:
    items = [
        {
            "prompt": f"How is dish {i} made?",
            "response": "It is boiled.",
            "coverage": None,
            "verbal": "assert",
            "correct": True,
        }
        for i in range(9)
    ]
    (tmp_path / "judged.json").write_text(json.dumps({"items": items}), encoding="utf-8")
    _, judged = line(
        claim_table("paper-gemma4-chef", read_artifacts(tmp_path)), "paper-gemma4-chef", "coverage"
    ).recomputed
    assert judged.word == "not recomputable"
    assert "no answer has a coverage" in judged.because


@pytest.mark.parametrize(
    ("name", "reported"),
    [
        ("paper-gemma4-chef", 'id = "coverage"\nclaim = "It falls."\ncounts = { control = [5, 9], treated = [3, 9] }'),
        ("paper-gemma4-chef", 'id = "coverage"\nclaim = "It falls."\nmeans = { control = 0.5, treated = 0.3, n = 9 }'),
        ("paper-gemma4-profile", 'id = "decoupling"\nclaim = "It is."\nauc = { value = 0.6, n = 20 }'),
        ("paper-gemma4-tempering", 'id = "humble-heads"\nclaim = "They are."\ncosine = { low = 0.1, high = 0.2 }'),
    ],
)
def test_a_file_of_ones_own_that_has_the_name_of_one_of_ours_is_not_the_papers(
    tmp_path: Path, planted: Path, name: str, reported: str
) -> None:
    file = tmp_path / f"{name}.toml"
    file.write_text(f"{TARGET}[[reported]]\n{reported}\n", encoding="utf-8")
    (only,) = claim_table(str(file), read_artifacts(planted)).rows
    assert only.recomputed == ()
    shown = CliRunner().invoke(app, ["replicate", str(file), "--artifacts", str(planted)])
    assert shown.exit_code == 0, shown.output


def test_a_file_of_ours_is_the_papers_by_whatever_way_it_is_named(
    planted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = shipped_studies()["paper-gemma4-tempering"][0]
    monkeypatch.chdir(file.parent)
    for name in ("paper-gemma4-tempering", str(file), file.name):
        made = claim_table(name, read_artifacts(planted))
        assert line(made, "paper-gemma4-tempering", "humble-heads").recomputed


def test_numbers_of_another_kind_are_not_recomputed(planted: Path) -> None:
    file = shipped_studies()["paper-gemma4-tempering"][0]
    (told,) = (it for it in load_reported(file) if it.id == "humble-heads")
    other = replace(told, numbers=ReportedCosine(0.1, 0.2))
    assert recompute(file, told, read_artifacts(planted)) != ()
    assert recompute(file, other, read_artifacts(planted)) == ()


def test_a_folder_without_them_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of the released files"):
        read_artifacts(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        read_artifacts(tmp_path / "nowhere")
