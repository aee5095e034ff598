"""The table counts what came, whoever counts it, and its promises can be broken."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from counterclaim import checks
from counterclaim.audit.effect import ArmCounts, Counts
from counterclaim.audit.evidence import Evidence
from counterclaim.errors import InputError
from counterclaim.lab.suite import naive
from counterclaim.lab.suite.naive import PROTOCOLS, naive_positive, naive_test
from counterclaim.records import Outcome, VerdictOutcome
from counterclaim.registry import checks as registered
from counterclaim.stats import wilson
from counterclaim.testing.calibration import DrawResult, check_rates, judge_draw, promises, tally
from counterclaim.testing.worlds import WORLDS, draw
from counterclaim.testing.worlds.sound import use_seeds
from counterclaim.testing.worlds.study import Knobs, Study
from counterclaim.verdict import decide


def test_the_table_has_the_shape_of_the_contract() -> None:
    table = tally(2, ["null", "saturated"], jobs=1)
    assert table["draws"] == 2
    assert [row["world"] for row in table["worlds"]] == ["null", "saturated"]
    names = {check.name for check in registered()}
    for row in table["worlds"]:
        assert row["n"] == WORLDS[row["world"]].n
        assert row["truth"] == WORLDS[row["world"]].truth
        assert set(row["verdicts"]) == {outcome.value for outcome in VerdictOutcome}
        assert sum(row["verdicts"].values()) == pytest.approx(1)
        assert set(row["checks"]) == names
        assert all(sum(shares.values()) == pytest.approx(1) for shares in row["checks"].values())
        assert row["trained"] is False
        assert set(row["naive"]) == set(PROTOCOLS)
        assert 0 <= row["naive"]["mean_test_positive"] <= 1
        assert row["naive"]["single_seed_positive"] is None  # there is one seed
        assert all(low <= row["verdicts"][word] <= high for word, (low, high) in row["intervals"].items())
    assert {rates["check"] for rates in table["check_rates"]} == names
    assert json.loads(json.dumps(table, allow_nan=False)) == table


def test_the_table_counts_what_one_gets_by_hand() -> None:
    evidence = [draw("unscored_flip", seed) for seed in range(3)]
    results = [checks.run_all(study) for study in evidence]
    verdicts = [decide(e.claim, r).outcome.value for e, r in zip(evidence, results, strict=True)]
    row = tally(3, ["unscored_flip"], jobs=1)["worlds"][0]
    assert row["verdicts"]["INVALID"] == pytest.approx(verdicts.count("INVALID") / 3)
    assert row["naive"]["mean_test_positive"] == pytest.approx(sum(map(naive_positive, evidence)) / 3)
    failed = sum(r.outcome is Outcome.FAIL for rs in results for r in rs if r.check == "unscored")
    assert row["checks"]["unscored"].get("FAIL", 0) == pytest.approx(failed / 3)


def test_the_table_depends_neither_on_jobs_nor_on_company() -> None:
    seen: list[tuple[int, int]] = []
    together = tally(11, ["underpowered", "saturated"], n=20, jobs=2, progress=lambda *at: seen.append(at))
    alone = tally(11, ["saturated"], n=20, jobs=1)
    assert together["worlds"][1] == alone["worlds"][0]
    assert seen[-1] == (22, 22)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_overrides_reach_the_worlds() -> None:
    table = tally(2, ["clean"], n=40, effect=0.0, jobs=1)
    row = table["worlds"][0]
    assert row["n"] == 40
    assert row["verdicts"]["SUPPORTED"] == 0


@pytest.mark.parametrize("bad", [{"draws": 0}, {"draws": 1, "jobs": 0}, {"draws": 1, "worlds": ["atlantis"]}])
def test_what_cannot_be_drawn_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        tally(**bad)


def row(world: str, truth: str, *, draws: int = 200, trained: bool = False, **verdicts: float) -> dict[str, Any]:
    shares = {o.value: verdicts.get(o.value, 0.0) for o in VerdictOutcome}
    intervals = {word: wilson(round(draws * share), draws) for word, share in shares.items()}
    return {
        "world": world, "truth": truth, "trained": trained, "expected": ["REFUTED"] if world == "null" else ["INCONCLUSIVE", "REFUTED"],
        "verdicts": shares, "intervals": {word: [found.low, found.high] for word, found in intervals.items()},
    }  # fmt: skip


GOOD = [
    row("clean", "true effect", SUPPORTED=0.96, INCONCLUSIVE=0.04),
    row("null", "no effect", REFUTED=0.91, INCONCLUSIVE=0.08, SUPPORTED=0.01),
    row("saturated", "artefact", INVALID=1.0),
    row("underpowered", "underpowered", INCONCLUSIVE=0.96, REFUTED=0.04),
]


def test_promises_hold_on_a_good_table() -> None:
    found = promises({"worlds": GOOD})
    assert len(found) == 5
    assert all(promise.holds for promise in found)
    assert found[0].worst == "null"
    assert json.loads(json.dumps(found[0].to_json()))["measured"] == 0.01


@pytest.mark.parametrize(
    ("at", "worse", "broken"),
    [
        (0, row("clean", "true effect", SUPPORTED=0.94), {"a true effect of twice the margin is SUPPORTED"}),
        (
            1,
            row("null", "no effect", REFUTED=0.89),
            {"a true null, measured straight and with prompts enough, is REFUTED"},
        ),
        (
            2,
            row("saturated", "artefact", SUPPORTED=0.015),
            {"without an effect, or with an artefact, SUPPORTED is rare"},
        ),
        (
            3,
            row("underpowered", "underpowered", REFUTED=0.2, INCONCLUSIVE=0.8),
            {"too small a study is not REFUTED", "too small a study is INCONCLUSIVE"},
        ),
    ],
)
def test_a_broken_promise_is_seen(at: int, worse: dict[str, Any], broken: set[str]) -> None:
    table = {"worlds": [*GOOD[:at], worse, *GOOD[at + 1 :]]}
    assert {promise.name for promise in promises(table) if not promise.holds} == broken


@pytest.mark.parametrize(
    ("draws", "share", "status"),
    [(200, 0.0, "kept so far"), (1000, 0.0, "kept"), (20, 0.05, "BROKEN"), (200, 0.1, "BROKEN")],
)
def test_a_promise_is_kept_only_where_the_draws_are_enough_to_say_so(draws: int, share: float, status: str) -> None:
    (found,) = promises({"worlds": [row("null", "artefact", draws=draws, SUPPORTED=share, INVALID=1 - share)]})
    assert found.status == found.to_json()["told"] == status
    assert found.interval == (wilson(round(draws * share), draws).low, wilson(round(draws * share), draws).high)
    assert found.settled == (status == "kept" or share == 0.1)


def test_effects_of_trained_models_have_a_promise_of_their_own() -> None:
    found = promises({"worlds": [*GOOD[:1], row("told", "true effect", trained=True, draws=20, SUPPORTED=1.0)]})
    assert {promise.name: promise.worst for promise in found} == {
        "a true effect of twice the margin is SUPPORTED": "clean",
        "a true effect on a trained model is SUPPORTED": "told",
    }


def test_promises_about_worlds_that_were_not_drawn_are_left_out() -> None:
    assert [promise.worst for promise in promises({"worlds": GOOD[:1]})] == ["clean"]
    assert promises({"worlds": []}) == []


def test_check_rates_are_read_off_the_worlds_that_a_check_names() -> None:
    worlds = [
        {"world": "saturated", "checks": {"saturation": {"FAIL": 0.7, "INCONCLUSIVE": 0.1, "PASS": 0.2}}},
        {"world": "clean", "checks": {"saturation": {"PASS": 0.8, "FAIL": 0.15, "WARN": 0.05}}},
        {"world": "null", "checks": {"saturation": {"PASS": 1.0}}},
        {"world": "leaky", "checks": {"saturation": {"FAIL": 1.0}}},
    ]
    rates = {item.check: item for item in check_rates({"worlds": worlds})}
    assert rates["saturation"].missed == pytest.approx(0.2)
    assert rates["saturation"].false_alarm == pytest.approx(0.075)
    assert rates["saturation"].withheld == pytest.approx(0.025)
    assert rates["identity"].missed is None
    assert rates["identity"].false_alarm is None


def naive_by_scipy(evidence: Evidence) -> bool:
    from scipy.stats import ttest_ind

    control, treated = (arm.values(evidence.metric) for arm in evidence.pair)
    test = ttest_ind(treated[~np.isnan(treated)], control[~np.isnan(control)], equal_var=False)
    return bool(test.pvalue < 0.05 and test.statistic * evidence.claim.sign > 0)


@pytest.mark.parametrize("name", ["tiny_effect", "wrong_direction", "unscored_flip", "underpowered", "tied_threshold"])
def test_the_naive_test_is_the_t_test_that_everybody_runs(name: str) -> None:
    for seed in range(6):
        evidence = draw(name, seed)
        assert naive_positive(evidence) == naive_by_scipy(evidence)


def test_the_naive_ratio_test_has_the_textbook_standard_error() -> None:
    evidence = draw("clean_asymmetry", 0)
    for arm in evidence.pair:
        value, variance, n = naive._moments(evidence.metric, arm)
        cr, hr, cw, hw = arm.cells().sum(axis=0)
        right, wrong = cr / (cr + hr), cw / (cw + hw)
        textbook = right * (1 - right) / (cr + hr) + wrong * (1 - wrong) / (cw + hw)
        assert n == 400
        assert value == pytest.approx(wrong - right)
        assert variance == pytest.approx(textbook, rel=1e-3)


def test_the_naive_auc_test_has_the_standard_error_of_repeated_draws() -> None:
    found = [naive._moments(e.metric, e.control) for e in (draw("endpoint_whole", seed) for seed in range(60))]
    values, variances = np.array([x[0] for x in found]), np.array([x[1] for x in found])
    assert values.mean() == pytest.approx(0.7, abs=0.02)
    assert values.std(ddof=1) == pytest.approx(variances.mean() ** 0.5, rel=0.3)


def test_the_naive_test_is_taken_in_where_the_verdict_is_not() -> None:
    table = tally(3, ["judge_asymmetry", "content_loss"], jobs=1)
    for line in table["worlds"]:
        assert line["naive"]["mean_test_positive"] == 1
        assert line["verdicts"]["SUPPORTED"] == 0


def test_the_naive_difference_and_p_are_those_of_the_t_test() -> None:
    from scipy.stats import ttest_ind

    evidence = draw("clean", 0)
    control, treated = (arm.values(evidence.metric) for arm in evidence.pair)
    difference, p = naive_test(evidence)
    assert difference == pytest.approx(treated.mean() - control.mean())
    assert p == pytest.approx(ttest_ind(treated, control, equal_var=False).pvalue, rel=1e-9)


def test_the_naive_test_reads_counts_and_says_nothing_where_nothing_varies() -> None:
    claim = draw("clean", 0).claim
    counted = Evidence(claim, {}, counts=Counts(ArmCounts(20, 100), ArmCounts(50, 100)))
    difference, p = naive_test(counted)
    assert difference == pytest.approx(0.3)
    assert p < 1e-4
    assert [protocol(counted) for protocol in PROTOCOLS.values()] == [True, None, None, None]
    constant = Evidence(claim, {}, counts=Counts(ArmCounts(0, 100), ArmCounts(100, 100)))
    assert naive_test(constant)[0] == 1
    assert np.isnan(naive_test(constant)[1])
    assert not naive_positive(constant)


def seeds_that_show(*shifts: float) -> Evidence:
    """A study of a few training seeds, each with an effect of its own."""
    study = Study(Knobs(np.random.default_rng(0), 100, 0.0, 0.0))
    use_seeds(study, np.array(shifts))
    return study.evidence(200)


@pytest.mark.parametrize(("shifts", "positive"), [((0.3, 0.0, 0.0), True), ((0.0, 0.3, 0.3), False)])
def test_a_single_seed_is_the_first_one_alone(shifts: tuple[float, ...], positive: bool) -> None:
    evidence = seeds_that_show(*shifts)
    assert PROTOCOLS["single_seed_positive"](evidence) is positive
    first = evidence.treated.replicates == "0"
    alone = evidence.effect_of(evidence.metric, keep=(np.ones(100, bool), first)).difference.estimate
    assert alone == pytest.approx(shifts[0], abs=0.06)


def test_cross_validation_alone_believes_a_probe_that_forgets_and_not_one_that_knows_nothing() -> None:
    cv_only = PROTOCOLS["cv_only_positive"]
    assert cv_only(draw("probe_holds", 0)) is True
    assert cv_only(draw("probe_forgets", 0)) is True
    assert [cv_only(draw("lucky_layer", seed)) for seed in range(3)].count(True) <= 1
    assert cv_only(draw("clean", 0)) is None


def test_the_best_of_many_thresholds_is_found_by_whoever_looks_for_it() -> None:
    best = PROTOCOLS["best_threshold_positive"]
    cuts = [draw("best_cut", seed) for seed in range(20)]
    assert sum(bool(best(evidence)) for evidence in cuts) >= 4
    assert sum(naive_positive(evidence) for evidence in cuts) <= 3
    assert best(draw("probe_forgets", 0)) is True  # peeked on the fresh answers
    assert best(draw("clean", 0)) is None
    peeked = [draw("threshold_peeked", seed) for seed in range(6)]
    assert [best(evidence) for evidence in peeked] == [naive_positive(evidence) for evidence in peeked]


def test_naive_protocols_are_taken_in_where_the_verdict_is_not() -> None:
    for world, protocol in (("noisy_seeds", "single_seed_positive"), ("probe_forgets", "cv_only_positive")):
        line = tally(8, [world], jobs=1)["worlds"][0]
        assert line["naive"][protocol] > 0.1
        assert line["verdicts"]["SUPPORTED"] == 0


def test_what_came_of_a_draw_survives_a_journal() -> None:
    judged = judge_draw(draw("underpowered", 0))
    assert DrawResult(**json.loads(json.dumps(judged.to_json()))) == judged
