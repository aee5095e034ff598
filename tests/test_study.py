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
from counterclaim.records import CONTROL, TREATED, Guard, Outcome


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
    assert intake.evidence_of(records).counts == counts
    assert intake.import_study(two_files(tmp_path), AuditRequest(metric="accuracy"), Options()).study["counts"] is None
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


def test_flags_say_how_strict_a_claim_is(tmp_path: Path) -> None:
    strict = AuditRequest(metric="accuracy", alpha=0.001, level=0.9, looked_at=7, varies=("temperature",))
    claim = intake.evidence_of(intake.import_study(two_files(tmp_path), strict, Options())).claim
    assert (claim.alpha, claim.level, claim.looked_at, claim.varies) == (0.001, 0.9, 7, ("temperature",))
    usual = intake.evidence_of(
        intake.import_study(two_files(tmp_path), AuditRequest(metric="accuracy"), Options())
    ).claim
    assert (usual.alpha, usual.level) == (0.01, 0.95)


def test_samples_of_several_files_never_collide_and_scores_go_with_their_answers(tmp_path: Path) -> None:
    files = two_files(tmp_path)
    files["treated"] = [
        arm_file(tmp_path, "treated", lambda i, k=k: int(i < 20 * k), name=f"seed{k}") for k in (1, 2, 3)
    ]  # fmt: skip
    records = intake.import_study(files, AuditRequest(metric="accuracy"), Options())
    of_seed = {r.key: r.replicate for r in records.responses if r.arm == TREATED}
    assert len(of_seed) == 180
    right = [of_seed[s.key] for s in records.scores if s.arm == TREATED and s.axis == "correct" and s.value == 1]
    assert {name: right.count(name) for name in "123"} == {"1": 20, "2": 40, "3": 60}
    assert {r.replicate for r in records.responses if r.arm == CONTROL} == {""}


@pytest.mark.parametrize("bad", ["[1]", '"text"', '{"expected": 1}', '{"returned": 1}'])
def test_a_card_without_what_was_expected_or_returned_is_refused(tmp_path: Path, bad: str) -> None:
    cards = tmp_path / "cards.jsonl"
    cards.write_text(f'{{"expected": 1, "returned": 1}}\n{bad}\n', encoding="utf-8")
    with pytest.raises(InputError, match="a card needs the keys expected and returned") as caught:
        intake.import_study(two_files(tmp_path), AuditRequest(metric="accuracy"), Options(), cards=cards)
    assert caught.value.line == 2


@pytest.mark.parametrize(
    ("created", "status"),
    [
        ("2026-03-01T10:00:00+00:00", "confirmatory"),
        ("2026-03-01T09:59:59+00:00", "exploratory"),
        ("soon", "confirmatory"),
    ],
)
def test_a_claim_frozen_after_the_answers_were_made_is_exploratory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, created: str, status: str
) -> None:
    claim = intake.evidence_of(
        intake.import_study(two_files(tmp_path), AuditRequest(metric="accuracy"), Options())
    ).claim
    lock = {"claim_hash": claim.hash, "frozen_at": "2026-03-01T10:00:00+00:00"}
    monkeypatch.setattr(intake, "read_lock", lambda _: lock)
    sources = [{"path": "a.jsonl", "created": created}]
    assert intake._status(claim, tmp_path / "claim.toml", sources)[0] == status
    lock["claim_hash"] = "other"
    assert intake._status(claim, tmp_path / "claim.toml", [])[0] == "exploratory"
    assert intake._status(claim, None, [])[0] == "exploratory"


def test_a_sample_of_training_texts_is_uniform_and_of_their_beginnings() -> None:
    assert intake.sample_of(["x" * 5000, "y"]) == ["x" * 4000, "y"]
    many = intake.sample_of(str(i) for i in range(10 * intake.TRAIN_SAMPLE))
    assert len(many) == len(set(many)) == intake.TRAIN_SAMPLE
    assert sum(map(int, many)) / len(many) == pytest.approx(5 * intake.TRAIN_SAMPLE, rel=0.1)
