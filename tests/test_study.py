"""The main path: files to records to verdict, seeds, arms, defaults of a claim, and its example."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import question, table_rows, write_rows
from counterclaim import audit, registry
from counterclaim.audit import intake
from counterclaim.audit.effect import ArmCounts, Counts
from counterclaim.audit.intake import AuditRequest, Options
from counterclaim.errors import InputError
from counterclaim.folder import read_run
from counterclaim.records import Guard, Outcome


def arm_file(folder: Path, arm: str, right: Any, *, name: str | None = None, n: int = 60, **more: Any) -> Path:
    return write_rows(folder / f"{name or arm}.jsonl", table_rows(n, right, arm, **more))


def two_files(folder: Path, **more: Any) -> dict[str, list[Path]]:
    return {
        "control": [arm_file(folder, "control", lambda i: int(i % 10 < 4), **more)],
        "treated": [arm_file(folder, "treated", lambda i: int(i % 10 < 8), **more)],
    }


def check(verdict: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in verdict["checks"] if row["check"] == name)
    return found


def test_files_become_records_that_say_where_they_came_from(tmp_path: Path) -> None:
    records = intake.import_study(two_files(tmp_path), AuditRequest(metric="accuracy"), Options())
    assert len(records.responses) == 120
    assert len(records.prompts) == 60
    sources = records.study["sources"]
    assert [source["arm"] for source in sources] == ["control", "treated"]
    assert [source["rows"] for source in sources] == [60, 60]
    assert records.study["claim"]["metric"] == "accuracy"


def test_several_files_of_an_arm_are_its_seeds(tmp_path: Path) -> None:
    files = two_files(tmp_path)
    files["treated"].append(arm_file(tmp_path, "treated", lambda i: int(i % 10 < 7), name="seed2"))
    records = intake.import_study(files, AuditRequest(metric="accuracy"), Options())
    evidence = intake.evidence_of(records)
    assert sorted(set(evidence.treated.replicates)) == ["1", "2"]
    assert len({r.key for r in records.responses}) == 180
    assert evidence.effect.n_paired == 60
    assert evidence.effect.treated.estimate == pytest.approx(0.75)
    verdict = audit.judge(records).verdict
    assert check(verdict, "seeds")["required"] is True
    assert check(verdict, "seeds")["outcome"] == "PASS"


def test_other_arms_reach_their_checks(tmp_path: Path) -> None:
    files = two_files(tmp_path)
    files["placebo"] = [arm_file(tmp_path, "placebo", lambda i: int(i % 10 < 8))]
    verdict = audit.judge(intake.import_study(files, AuditRequest(metric="accuracy"), Options())).verdict
    assert check(verdict, "placebo")["outcome"] == "FAIL"
    assert verdict["verdict"] == "INCONCLUSIVE"


def test_training_data_and_cards_are_asked_for_once_given(tmp_path: Path) -> None:
    leak = [{"text": f"{question(i)} A line of the training data that goes on."} for i in range(30)]
    cards = write_rows(tmp_path / "cards.jsonl", [{"expected": "a", "returned": "b"}] * 4)
    train = write_rows(tmp_path / "train.jsonl", leak)
    records = intake.import_study(
        two_files(tmp_path), AuditRequest(metric="accuracy"), Options(), train_data=train, cards=cards
    )
    assert len(records.extras["train_sample"]) == 30
    verdict = audit.judge(records).verdict
    assert verdict["verdict"] == "INVALID"
    assert {"contamination", "judge-cards"} <= set(verdict["decided_by"])


@pytest.mark.parametrize(
    ("wanted", "direction", "margin", "guards"),
    [
        (AuditRequest(metric="accuracy"), "increase", 0.05, ()),
        (AuditRequest(metric="hedging_rate", direction="decrease"), "decrease", 0.05, ()),
        (AuditRequest(metric="assertion_asymmetry"), "decrease", 0.05, ()),
        (AuditRequest(metric="score.share"), "increase", 0.05, ()),
        (AuditRequest(metric="score.points", margin=2.0), "increase", 2.0, ()),
        (
            AuditRequest(metric="accuracy", margin=0.1, guards=(("coverage", None), ("hallucination_rate", 0.02))),
            "increase", 0.1, (Guard("coverage", 0.1), Guard("hallucination_rate", 0.02, "lower")),
        ),
    ],
)  # fmt: skip
def test_flags_leave_safe_defaults(
    tmp_path: Path, wanted: AuditRequest, direction: str, margin: float, guards: Any
) -> None:
    more = {
        "delivery": lambda i: "hedge" if i % 3 else "assert", "coverage": lambda i: i % 4 / 4,
        "score.share": lambda i: i % 5 / 5, "score.points": lambda i: i % 9,
    }  # fmt: skip
    records = intake.import_study(two_files(tmp_path, **more), wanted, Options())
    claim = intake.evidence_of(records).claim
    assert (claim.direction, claim.margin, claim.guards) == (direction, margin, guards)


def test_a_scale_without_bounds_needs_its_margin_stated(tmp_path: Path) -> None:
    files = two_files(tmp_path, **{"score.points": lambda i: i % 9})
    with pytest.raises(InputError, match="--margin X"):
        intake.import_study(files, AuditRequest(metric="score.points"), Options())


def test_how_files_were_read_is_part_of_the_study(tmp_path: Path) -> None:
    files = two_files(tmp_path, other=lambda i: i % 2)
    one, two, again = (
        intake.import_study(files, AuditRequest(metric="accuracy"), Options(mapping=mapping)).study["study_hash"]
        for mapping in ({}, {"correct": "other"}, {})
    )
    assert one == again
    assert one != two


def test_a_plugged_in_check_can_be_required(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry._CHECKS, "entries", registry._CHECKS.all())
    register = registry.check(
        "house-style", group="ruler", question="Is it ours?", must_fail=("null",), must_pass=("clean",)
    )
    register(lambda evidence: registry.Finding(Outcome.FAIL, "It is not.", "Make it ours."))
    records = intake.import_study(
        two_files(tmp_path), AuditRequest(metric="accuracy", required=("house-style",)), Options()
    )
    verdict = audit.judge(records).verdict
    assert verdict["decided_by"] == ["house-style"]
    assert verdict["verdict"] == "INVALID"


def test_counts_know_nothing_but_their_target(tmp_path: Path) -> None:
    counts = Counts(ArmCounts(40, 120), ArmCounts(55, 120))
    records = intake.count_study(counts, AuditRequest(metric="recovery"))
    assert records.study["claim"]["metric"] == "recovery"
    path = tmp_path / "claim.toml"
    path.write_text('[target]\nmetric = "recovery"\ndirection = "increase"\nmargin = 0.05\n', encoding="utf-8")
    assert intake.count_study(counts, AuditRequest(file=path)).study["claim"]["margin"] == 0.05
    path.write_text(path.read_text() + '[[guards]]\nmetric = "accuracy"\nallowed_loss = 0.1\n', encoding="utf-8")
    with pytest.raises(InputError, match="counts hold nothing but the target"):
        intake.count_study(counts, AuditRequest(file=path))


def test_judging_is_a_pure_function_of_the_records(tmp_path: Path) -> None:
    records = intake.import_study(two_files(tmp_path), AuditRequest(metric="accuracy"), Options())
    judged = audit.judge(records)
    audit.write(tmp_path / "run", records, judged)
    again = audit.judge(read_run(tmp_path / "run"))
    assert again.files() == judged.files()
    assert again.verdict == json.loads(judged.files()["verdict.json"])


def test_training_survives_a_check_of_the_run_folder_and_is_not_asked_for(tmp_path: Path) -> None:
    records = intake.import_study(two_files(tmp_path), AuditRequest(metric="accuracy"), Options())
    log = {"step": [1, 2], "loss": [2.0, 1.0]}
    records.extras["training"] = [{"arm": "treated", "seed": 7, "stages": [{"method": "sft", "steps": 2, "log": log}]}]
    audit.write(tmp_path / "run", records, audit.judge(records))
    pages = [(tmp_path / "run" / name).read_text() for name in ("report.html", "report.md")]
    assert 'id="h-training"' in pages[0]
    assert "### Training" in pages[1]
    audit.check(tmp_path / "run")
    audit.report(tmp_path / "run")
    assert [(tmp_path / "run" / name).read_text() for name in ("report.html", "report.md")] == pages
    assert read_run(tmp_path / "run").extras["training"][0]["seed"] == 7


def test_the_example_is_invalid_although_a_naive_test_is_taken_in() -> None:
    files, wanted = audit.example(AuditRequest())
    verdict = audit.judge(intake.import_study(files, wanted, Options())).verdict
    assert verdict["effect"]["p"] is not None
    assert verdict["effect"]["p"] < 0.05
    assert verdict["verdict"] == "INVALID"
    assert "truncation" in verdict["decided_by"]
