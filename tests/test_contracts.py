"""What scripts and other people's CI depend on: exact keys and types of what commands print and files hold."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from conftest import table_rows, write_rows

Cli = Callable[..., tuple[int, str, str]]

NUMBER = {"type": ["number", "null"]}
ESTIMATE = {
    "type": "object",
    "properties": {
        "estimate": NUMBER, "low": NUMBER, "high": NUMBER, "level": {"type": "number"}, "method": {"type": "string"},
        "n": {"type": "integer", "minimum": 0}, "reason": {"type": "string", "minLength": 1},
    },
    "required": ["estimate", "low", "high", "level", "method", "n"],
    "additionalProperties": False,
    "if": {"anyOf": [{"properties": {key: {"type": "null"}}} for key in ("estimate", "low", "high")]},
    "then": {"required": ["reason"]},
}  # fmt: skip
SHARE = {"type": "number", "minimum": 0, "maximum": 1}
ARM = {
    "type": "object",
    "properties": {"cut": SHARE, "finished": SHARE, "unknown": SHARE, "provenance": {"type": "object"}},
    "required": ["cut", "finished", "unknown", "provenance"],
}
CHECK = {
    "type": "object",
    "properties": {
        "check": {"type": "string"},
        "group": {"enum": ["ruler", "effect", "cost", "transfer"]},
        "outcome": {"enum": ["PASS", "FAIL", "WARN", "INCONCLUSIVE", "NOT_RUN", "ERROR"]},
        "estimate": {"oneOf": [ESTIMATE, {"type": "null"}]},
        "because": {"type": "string", "minLength": 1},
        "remedy": {"type": "string"},
        "required": {"type": "boolean"},
        "n": {"type": "integer"},
        "n_unscored": {"type": "integer"},
        "evidence": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["check", "group", "outcome", "estimate", "because", "remedy", "required"],
    "if": {"properties": {"check": {"const": "truncation"}}},
    "then": {"required": ["arms"], "properties": {"arms": {"additionalProperties": ARM, "minProperties": 1}}},
}
PROFILE = {
    "type": "object",
    "properties": {
        "n": {"type": "integer"}, "n_unscored": {"type": "integer"},
        "cells": {
            "type": "object", "properties": {cell: {"type": "integer"} for cell in ("cr", "hr", "cw", "hw")},
            "required": ["cr", "hr", "cw", "hw"], "additionalProperties": False,
        },
        "accuracy": ESTIMATE, "assertion_rate": ESTIMATE, "hallucination_rate": ESTIMATE, "over_hedging_rate": ESTIMATE,
        "assertion_asymmetry": ESTIMATE, "checks": {"type": "array", "items": CHECK, "minItems": 10},
    },
    "required": [
        "n", "n_unscored", "cells", "accuracy", "assertion_rate", "hallucination_rate", "over_hedging_rate",
        "assertion_asymmetry", "checks",
    ],
}  # fmt: skip
VERDICT = {
    "type": "object",
    "properties": {
        "verdict": {"enum": ["SUPPORTED", "REFUTED", "INCONCLUSIVE", "INVALID"]},
        "because": {"type": "string", "minLength": 1},
        "claim_hash": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "status": {"enum": ["confirmatory", "exploratory"]},
        "effect": {
            "type": "object",
            "properties": {
                "metric": {"type": "string"}, "control": ESTIMATE, "treated": ESTIMATE, "difference": ESTIMATE,
                "p": NUMBER, "n_paired": {"type": "integer"}, "margin": {"type": "number", "exclusiveMinimum": 0},
                "p_range": {"type": "array", "items": SHARE, "minItems": 2, "maxItems": 2},
            },
            "required": ["metric", "control", "treated", "difference", "p", "n_paired", "margin"],
        },
        "guards": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"metric": {"type": "string"}, "difference": ESTIMATE, "allowed": {"type": "number"}},
                "required": ["metric", "difference", "allowed"],
            },
        },
        "checks": {"type": "array", "items": CHECK, "minItems": 20},
        "next": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["verdict", "because", "claim_hash", "status", "effect", "guards", "checks", "next"],
}  # fmt: skip
WORLDS = {
    "type": "object",
    "properties": {
        "draws": {"type": "integer"},
        "worlds": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "world": {"type": "string"}, "n": {"type": "integer"}, "truth": {"type": "string"},
                    "verdicts": {
                        "type": "object",
                        "properties": dict.fromkeys(("SUPPORTED", "REFUTED", "INCONCLUSIVE", "INVALID"), SHARE),
                        "required": ["SUPPORTED", "REFUTED", "INCONCLUSIVE", "INVALID"], "additionalProperties": False,
                    },
                    "checks": {"type": "object", "additionalProperties": {"additionalProperties": SHARE}},
                    "naive": {"type": "object", "properties": {"mean_test_positive": SHARE}, "required": ["mean_test_positive"]},
                },
                "required": ["world", "n", "truth", "verdicts", "checks", "naive"],
            },
        },
    },
    "required": ["draws", "worlds"],
}  # fmt: skip
FILES = {
    "study.json",
    "prompts.jsonl",
    "responses.jsonl",
    "scores.jsonl",
    "checks.jsonl",
    "verdict.json",
    "report.html",
}


def labelled(arm: str, n: int = 60, **more: Any) -> list[dict[str, Any]]:
    treated = arm == "treated"
    return table_rows(
        n, lambda i: int(i % 10 < (8 if treated else 4)), arm,
        delivery=lambda i: "hedge" if i % 5 == 0 else "assert",
        coverage=lambda i: (0.7 if treated else 0.5) + i % 3 / 10, judge="toy-judge", judge_version="1", **more,
    )  # fmt: skip


@pytest.fixture
def arms(tmp_path: Path) -> list[str]:
    flags = []
    for arm in ("control", "treated"):
        flags += [f"--{arm}", str(write_rows(tmp_path / f"{arm}.jsonl", labelled(arm)))]
    return flags


def printed(got: tuple[int, str, str]) -> Any:
    code, out, err = got
    assert err == ""
    value = json.loads(out)
    if "verdict" in value:
        assert code == {"SUPPORTED": 0, "REFUTED": 1, "INCONCLUSIVE": 3, "INVALID": 4}[value["verdict"]]
    return value


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_profile(run_cli: Cli, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "judged.jsonl", labelled("control"))
    value = printed(run_cli("profile", str(path), "--json", "--same-construct", "correct,coverage"))
    jsonschema.validate(value, PROFILE)
    assert sum(value["cells"].values()) == value["n"] == 60
    kappa = next(c for c in value["checks"] if c["check"] == "label-agreement")
    assert "kappa" in kappa["because"]
    assert kappa["estimate"] is not None


def test_profile_tells_hedged_right_answers_from_asserted_wrong_ones(run_cli: Cli, tmp_path: Path) -> None:
    cells = {"cr": 20, "hr": 9, "cw": 13, "hw": 4}
    kinds = [name for name, count in cells.items() for _ in range(count)]
    rows = table_rows(46, lambda i: kinds[i][1] == "r", delivery=lambda i: {"c": "assert", "h": "hedge"}[kinds[i][0]])
    path = write_rows(tmp_path / "judged.jsonl", rows)
    value = printed(run_cli("profile", str(path), "--json"))
    assert value["cells"] == cells
    expected = {
        "accuracy": 29 / 46, "assertion_rate": 33 / 46, "hallucination_rate": 13 / 17, "over_hedging_rate": 9 / 29,
        "assertion_asymmetry": 13 / 17 - 20 / 29,
    }  # fmt: skip
    assert {name: value[name]["estimate"] for name in expected} == pytest.approx(expected)
    table = [
        re.findall(r"\d+", line)
        for line in run_cli("profile", str(path))[1].splitlines()
        if re.search("right|wrong", line)
    ]
    assert table[:2] == [["20", "9"], ["13", "4"]]


def test_profile_clusters_repeated_samples(run_cli: Cli, tmp_path: Path) -> None:
    once = labelled("control")
    paths = [write_rows(tmp_path / "once.jsonl", once), write_rows(tmp_path / "thrice.jsonl", once * 3)]
    one, three = (printed(run_cli("profile", str(path), "--json")) for path in paths)
    jsonschema.validate(three, PROFILE)
    assert three["n"] == 180
    assert three["accuracy"]["n"] == 60
    for rate in ("accuracy", "assertion_asymmetry"):
        assert three[rate]["estimate"] == pytest.approx(one[rate]["estimate"])
        widths = [r[rate]["high"] - r[rate]["low"] for r in (one, three)]
        assert widths[1] > 0.85 * widths[0]


@pytest.mark.parametrize("metric", ["accuracy", "coverage", "assertion_asymmetry", "hedging_rate", "auc(coverage)"])
def test_audit_and_its_verdict_file(run_cli: Cli, arms: list[str], tmp_path: Path, metric: str) -> None:
    flags = ("--metric", metric, "--guard", "accuracy=0.05")
    value = printed(run_cli("audit", *arms, *flags, "--json", "--out", str(tmp_path / "run")))
    jsonschema.validate(value, VERDICT)
    assert json.loads((tmp_path / "run" / "verdict.json").read_text()) == value
    assert value["effect"]["n_paired"] == 60
    assert [guard["metric"] for guard in value["guards"]] == ["accuracy"]
    truncation = next(c for c in value["checks"] if c["check"] == "truncation")
    assert set(truncation["arms"]) == {"control", "treated"}
    assert truncation["required"] is True


def test_a_run_folder_is_readable_without_us(run_cli: Cli, arms: list[str], tmp_path: Path) -> None:
    run_cli("audit", *arms, "--metric", "accuracy", "--out", str(tmp_path / "run"))
    found = contents(tmp_path / "run")
    assert set(found) >= FILES
    for name, data in found.items():
        if name.endswith(".jsonl"):
            rows = [json.loads(line) for line in data.decode("utf-8").splitlines()]
            assert rows
            assert all(isinstance(row, dict) for row in rows), name
    study = json.loads(found["study.json"])
    assert len(study["study_hash"]) == len(study["claim_hash"]) == 64
    assert [len(source["sha256"]) for source in study["sources"]] == [64, 64]
    assert found["report.html"].startswith(b"<!doctype html>") or found["report.html"].startswith(b"<!DOCTYPE html>")


def test_check_and_report_redo_the_folder_byte_for_byte(run_cli: Cli, arms: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    train = write_rows(
        tmp_path / "train.jsonl", [{"text": f"Row {i} of the training data is about rain."} for i in range(12)]
    )
    cards = write_rows(tmp_path / "cards.jsonl", [{"expected": "1", "returned": "1", "kind": "label"}] * 5)
    flags = (
        "--metric",
        "accuracy",
        "--guard",
        "coverage=0.02",
        "--train-data",
        str(train),
        "--judge-cards",
        str(cards),
    )
    code, shown, _ = run_cli("audit", *arms, *flags, "--out", str(run))
    before = contents(run)
    assert "extras.json" in before
    assert run_cli("check", str(run))[:2] == (code, shown)
    assert contents(run) == before
    (run / "report.html").unlink()
    (run / "report.md").write_text("scribbled over")
    assert run_cli("report", str(run))[0] == code
    assert contents(run) == before
    for name in ("verdict.json", "checks.jsonl"):
        (run / name).unlink()
    assert run_cli("check", str(run), "--json")[0] == code
    assert contents(run) == before


def test_the_same_audit_again_gives_the_same_bytes_and_another_is_refused(
    run_cli: Cli, arms: list[str], tmp_path: Path
) -> None:
    audit = ("audit", *arms, "--out", str(tmp_path / "run"))
    run_cli(*audit, "--metric", "accuracy")
    before = contents(tmp_path / "run")
    listing = sorted(tmp_path.rglob("*"))
    run_cli(*audit, "--metric", "accuracy")
    assert contents(tmp_path / "run") == before
    for other in (("--metric", "coverage"), ("--metric", "accuracy", "--map", "correct=coverage")):
        code, _, err = run_cli(*audit, *other)
        assert code == 2
        assert "another study" in err or "coverage" in err
        assert contents(tmp_path / "run") == before
        assert sorted(tmp_path.rglob("*")) == listing
    code, _, _ = run_cli(*audit, "--metric", "coverage", "--overwrite")
    assert code != 2
    assert json.loads((tmp_path / "run" / "verdict.json").read_text())["effect"]["metric"] == "coverage"


def test_audit_of_counts(run_cli: Cli, tmp_path: Path) -> None:
    counts = ("audit", "--counts", "control=40/120", "treated=55/120")
    free = printed(run_cli(*counts, "--json"))
    paired = printed(run_cli(*counts, "--paired", "both=31", "--json"))
    cut = ("--cut", "control=0/120", "--cut", "treated=1/120")
    known = printed(run_cli(*counts, "--paired", "both=31", *cut, "--json", "--out", str(tmp_path / "run")))
    for value in (free, paired, known):
        jsonschema.validate(value, VERDICT)
        low, high = value["effect"]["p_range"]
        assert low <= value["effect"]["p"] <= high
    assert free["effect"]["p_range"][0] < free["effect"]["p_range"][1]
    assert paired["effect"]["p_range"][0] == paired["effect"]["p_range"][1] == paired["effect"]["p"]
    assert (free["verdict"], known["verdict"]) == ("INVALID", "INCONCLUSIVE")
    before = contents(tmp_path / "run")
    assert set(before) >= FILES
    assert run_cli("check", str(tmp_path / "run"))[0] == 3
    assert contents(tmp_path / "run") == before


def test_worlds(run_cli: Cli) -> None:
    value = printed(run_cli("worlds", "--draws", "2", "--world", "null", "--world", "clean", "--jobs", "1", "--json"))
    jsonschema.validate(value, WORLDS)
    assert value["draws"] == 2
    assert [row["world"] for row in value["worlds"]] == ["null", "clean"]
    for row in value["worlds"]:
        assert sum(row["verdicts"].values()) == pytest.approx(1)
        assert row["checks"]["truncation"]["PASS"] == 1.0
