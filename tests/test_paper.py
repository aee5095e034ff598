"""The source paper's own files, read as a reviewer would: they hold more than one artefact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import counterclaim as cc
from counterclaim.audit import intake
from counterclaim.audit.intake import AuditRequest, Options


@pytest.fixture(scope="session")
def profile(paper: Path) -> dict[str, Any]:
    return cc.profile(paper / "judge_v4_step16.json", Options(), (("correct", "factual"),))


@pytest.fixture(scope="session")
def verdict_of_paper(paper: Path) -> dict[str, Any]:
    files = {"control": [paper / "eval_baseline.json"], "treated": [paper / "eval_full_ddv2.json"]}
    return cc.judge(intake.import_study(files, AuditRequest(metric="score"), Options())).verdict


def check(result: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in result["checks"] if row["check"] == name)
    return found


def test_the_profile_is_the_published_one(profile: dict[str, Any]) -> None:
    assert profile["n"] == 100
    assert profile["n_unscored"] == 0
    assert profile["cells"] == {"cr": 53, "hr": 5, "cw": 38, "hw": 4}
    assert profile["accuracy"]["estimate"] == 0.58
    assert profile["assertion_rate"]["estimate"] == 0.91
    assert profile["hallucination_rate"]["estimate"] == pytest.approx(0.905, abs=5e-4)
    assert profile["over_hedging_rate"]["estimate"] == pytest.approx(0.086, abs=5e-4)
    asymmetry = profile["assertion_asymmetry"]
    assert asymmetry["estimate"] == pytest.approx(-0.00903, abs=5e-6)
    assert (asymmetry["low"], asymmetry["high"]) == pytest.approx((-0.1436, 0.1066), abs=5e-5)
    assert "Newcombe" in asymmetry["method"]


def test_the_base_rate_hangs_on_ties(profile: dict[str, Any]) -> None:
    ties = check(profile, "label-ties")
    assert ties["outcome"] == "FAIL"
    assert "31 of 100 items (31 %) have coverage exactly 0.5" in ties["because"]
    assert ties["estimate"]["estimate"] == 0.31


def test_the_two_factual_labels_barely_agree(profile: dict[str, Any]) -> None:
    agreement = check(profile, "label-agreement")
    assert agreement["outcome"] == "FAIL"
    assert agreement["estimate"]["estimate"] < 0.4
    assert agreement["n"] + agreement["n_unscored"] == 100


def test_one_axis_is_stuck_and_nearly_all_answers_are_cut(profile: dict[str, Any]) -> None:
    stuck = check(profile, "saturation")
    assert stuck["outcome"] in ("WARN", "FAIL")
    assert "cert" in stuck["because"]
    cut = check(profile, "truncation")
    assert cut["outcome"] == "FAIL"
    assert cut["arms"]["control"]["cut"] > 0.9
    assert set(cut["arms"]["control"]["provenance"]) == {"inferred:text"}


def test_a_reply_that_held_no_json_stays_unscored_on_every_axis(paper: Path) -> None:
    from counterclaim import importers

    imported = importers.load(paper / "judge_v4_step16.json", arm="control")
    unscored = [score for score in imported.scores if score.unscored is not None]
    rubric = {score.axis for score in imported.scores if score.axis.startswith("score.")}
    assert len(rubric) == 5
    assert {score.axis for score in unscored} == rubric
    assert len({score.key for score in unscored}) == 1
    assert all(score.unscored is not None and "no_json" in score.unscored for score in unscored)


def test_nothing_is_said_of_an_effect_on_cut_answers(verdict_of_paper: dict[str, Any]) -> None:
    assert verdict_of_paper["verdict"] == "INVALID"
    assert "truncation" in verdict_of_paper["decided_by"]
    cut = check(verdict_of_paper, "truncation")
    for arm in ("control", "treated"):
        assert cut["arms"][arm]["cut"] > 0.9
        assert set(cut["arms"][arm]["provenance"]) == {"inferred:text"}
    assert "no finish reason is recorded" in cut["because"]
    assert verdict_of_paper["effect"]["n_paired"] == 100


def test_the_files_own_averages_are_what_their_rows_give(verdict_of_paper: dict[str, Any]) -> None:
    ledger = check(verdict_of_paper, "ledger")
    assert ledger["outcome"] == "PASS", ledger["because"]
    assert ledger["n"] == 6  # average score, pass rate and invented claims of each file
    assert verdict_of_paper["effect"]["control"]["estimate"] == pytest.approx(0.27911, abs=5e-6)
    assert verdict_of_paper["effect"]["treated"]["estimate"] == pytest.approx(0.24118, abs=5e-6)


def test_the_published_delta_is_not_what_the_stored_scores_give(paper: Path, tmp_path: Path) -> None:
    claim = tmp_path / "claim.toml"
    quotes = "".join(
        f'[[quotes]]\narm = "{arm}"\nmetric = "score.score"\nvalue = {value}\nn = 100\n'
        for arm, value in (("control", 0.452), ("treated", 0.379))
    )
    claim.write_text(
        f'[target]\nmetric = "score.score"\ndirection = "increase"\nmargin = 0.05\n{quotes}', encoding="utf-8"
    )
    files = {"control": [paper / "eval_baseline.json"], "treated": [paper / "eval_full_ddv2.json"]}
    verdict = cc.judge(intake.import_study(files, AuditRequest(file=claim), Options())).verdict
    ledger = check(verdict, "ledger")
    assert ledger["outcome"] == "FAIL"
    assert "quoted as 0.452 by the claim, the records give 0.2791" in ledger["because"]


def test_a_changed_average_would_be_noticed(paper: Path, tmp_path: Path) -> None:
    import json

    document = json.loads((paper / "eval_full_ddv2.json").read_text(encoding="utf-8"))
    key = next(k for k in ("avg_score", "summary") if k in document)
    holder = document if key == "avg_score" else document[key]
    holder["avg_score"] += 0.05
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(document), encoding="utf-8")
    files = {"control": [paper / "eval_baseline.json"], "treated": [changed]}
    verdict = cc.judge(intake.import_study(files, AuditRequest(metric="score"), Options())).verdict
    assert check(verdict, "ledger")["outcome"] == "FAIL"
