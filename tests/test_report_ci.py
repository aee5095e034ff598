"""What CI servers read: JUnit XML and SARIF."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from counterclaim.records import Outcome
from counterclaim.report import Page, render_junit, render_sarif
from counterclaim.report.page import Source
from test_report import check, hostile_page, make_page


def test_junit_has_a_suite_per_group_and_the_verdict_first() -> None:
    root = ET.fromstring(render_junit(make_page()))
    assert [suite.attrib["name"] for suite in root] == [
        f"counterclaim.{name}" for name in ("verdict", "ruler", "effect", "cost", "transfer")
    ]
    found = {case.attrib["name"]: case[0].tag for case in root.iter("testcase")}
    assert found == {
        "verdict": "failure",
        "truncation": "failure",
        "alignment": "system-out",
        "contamination": "skipped",
        "paired-effect": "failure",
        "seeds": "skipped",
        "content": "system-out",
        "models": "error",
    }


def test_junit_counts_add_up() -> None:
    root = ET.fromstring(render_junit(make_page()))
    for name in ("tests", "failures", "errors", "skipped"):
        assert int(root.attrib[name]) == sum(int(suite.attrib[name]) for suite in root)
    assert root.attrib["tests"] == "8"
    assert root.attrib["failures"] == "3"
    assert root.attrib["errors"] == "1"
    assert root.attrib["skipped"] == "2"


@pytest.mark.parametrize(
    ("verdict", "tag"),
    [
        ("SUPPORTED", "system-out"),
        ("REFUTED", "failure"),
        ("INCONCLUSIVE", "skipped"),
        ("INVALID", "failure"),
    ],
)
def test_only_a_supported_claim_passes(verdict: str, tag: str) -> None:
    root = ET.fromstring(render_junit(make_page(verdict)))
    assert root[0][0][0].tag == tag


def test_junit_is_well_formed_whatever_a_model_wrote() -> None:
    text = render_junit(hostile_page())
    root = ET.fromstring(text.encode("utf-8"))
    said = [failure.attrib["message"] for failure in root.iter("failure")]
    assert any("</style><script>" in message and "⟨U+0000⟩" in message for message in said)
    assert text == render_junit(hostile_page())


def sarif(page: Page) -> dict[str, Any]:
    log: dict[str, Any] = json.loads(render_sarif(page))
    return log


def assert_valid(log: dict[str, Any]) -> None:
    """The parts of the SARIF 2.1.0 schema that a run of ours can break."""
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "counterclaim"
    ids = [rule["id"] for rule in driver["rules"]]
    assert len(ids) == len(set(ids))
    for rule in driver["rules"]:
        assert rule["name"]
        assert rule["shortDescription"]["text"]
        assert rule["help"]["text"]
        assert rule["defaultConfiguration"]["level"] in ("none", "note", "warning", "error")
    for result in run["results"]:
        assert ids[result["ruleIndex"]] == result["ruleId"]
        assert result["level"] in ("note", "warning", "error")
        assert result["message"]["text"]
        assert result["locations"]
        for location in result["locations"]:
            place = location["physicalLocation"]
            uri = place["artifactLocation"]["uri"]
            assert uri == run["artifacts"][place["artifactLocation"]["index"]]["location"]["uri"]
            assert uri.isascii()
            assert " " not in uri
            assert place["region"]["startLine"] >= 1


def test_sarif_levels() -> None:
    log = sarif(make_page())
    assert_valid(log)
    (run,) = log["runs"]
    assert {result["ruleId"]: result["level"] for result in run["results"]} == {
        "ruler/truncation": "error",
        "ruler/contamination": "note",
        "effect/paired-effect": "error",
        "effect/seeds": "warning",
        "cost/content": "warning",
        "transfer/models": "error",
    }
    assert run["properties"]["verdict"] == "REFUTED"


def test_sarif_points_at_the_treated_file_first_and_carries_its_hash() -> None:
    (run,) = sarif(make_page())["runs"]
    assert [artifact["location"]["uri"] for artifact in run["artifacts"]] == ["runs/new%20run.jsonl", "runs/base.jsonl"]
    assert run["artifacts"][0]["hashes"] == {"sha-256": "02" * 32}


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("/data/new.jsonl", "file:///data/new.jsonl"),
        ("C:\\data\\new.jsonl", "file:///C:/data/new.jsonl"),
        ("a:b/ü.jsonl", "a%3Ab/%C3%BC.jsonl"),
    ],
)
def test_sarif_locations_are_uris(path: str, uri: str) -> None:
    page = make_page(sources=(Source("treated", path),))
    log = sarif(page)
    assert_valid(log)
    assert log["runs"][0]["artifacts"][0]["location"]["uri"] == uri


def test_sarif_without_files_points_at_the_verdict() -> None:
    page = make_page(sources=())
    log = sarif(page)
    assert_valid(log)
    assert log["runs"][0]["artifacts"][0]["location"]["uri"] == "verdict.json"


def test_sarif_survives_hostile_text() -> None:
    log = sarif(hostile_page())
    assert_valid(log)
    assert render_sarif(hostile_page()) == render_sarif(hostile_page())
    render_sarif(hostile_page()).encode("utf-8")


def test_a_run_where_all_passed_has_rules_and_no_results() -> None:
    log = sarif(make_page("SUPPORTED", checks=(check("alignment", Outcome.PASS),)))
    assert_valid(log)
    assert log["runs"][0]["results"] == []
    assert len(log["runs"][0]["tool"]["driver"]["rules"]) == 1
