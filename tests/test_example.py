"""The example that ships: what is committed is what the script writes, and its audit teaches what the README says."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from counterclaim import audit
from counterclaim.audit import intake
from counterclaim.records import Json

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "src" / "counterclaim" / "example"


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        yield import_module("make_example")
    finally:
        sys.path.remove(str(ROOT / "scripts"))


@pytest.fixture(scope="module")
def verdict() -> dict[str, Json]:
    files, wanted = audit.example(intake.AuditRequest())
    return audit.judge(intake.import_study(files, wanted, intake.Options())).verdict


def _rows(arm: str) -> list[dict[str, Json]]:
    return [json.loads(line) for line in (FOLDER / f"{arm}.jsonl").read_text(encoding="utf-8").splitlines()]


def test_committed_bytes_are_what_the_script_writes(script: ModuleType) -> None:
    for name, text in script.make().items():
        assert (FOLDER / name).read_bytes() == text.encode("utf-8"), f"run scripts/make_example.py again for {name}"


def test_labels_follow_from_the_texts(script: ModuleType) -> None:
    for arm in ("control", "treated"):
        for row in _rows(arm):
            assert row["correct"] == script.is_correct(row["response"], row["gold"])
            assert row["n_tokens"] == script.count_tokens(row["response"]) <= script.BUDGET
            assert (row["finish_reason"] == "length") == (row["n_tokens"] == script.BUDGET)


def test_no_fact_gives_its_answer_away(script: ModuleType) -> None:
    facts = [(family, fact) for family in script.FAMILIES for fact in family.facts]
    assert len({(family.question, fact.subject) for family, fact in facts}) == len(facts) == 80
    for family, fact in facts:
        for sentence in (*fact.clues, *family.asides):
            assert not script.is_correct(sentence, fact.answer), (fact.subject, sentence)


def test_a_naive_comparison_is_taken_in(verdict: dict[str, Json]) -> None:
    from scipy.stats import ttest_ind

    control, treated = ([row["correct"] for row in _rows(arm)] for arm in ("control", "treated"))
    naive = ttest_ind(treated, control)
    assert naive.statistic > 0
    assert naive.pvalue < 0.02
    assert verdict["effect"]["difference"]["low"] > 0.05
    assert verdict["effect"]["p"] < 0.01


def test_counterclaim_is_not_taken_in(verdict: dict[str, Json]) -> None:
    assert verdict["verdict"] == "INVALID"
    assert verdict["decided_by"] == ["truncation"], "one reason only, or the example teaches something else"
    assert "-0.015" in verdict["because"], "the effect on finished answers is part of the reason"


def test_on_finished_answers_there_is_no_gain() -> None:
    control, treated = ({row["id"]: row for row in _rows(arm)} for arm in ("control", "treated"))
    finished = [name for name, row in control.items() if row["finish_reason"] == "stop"]
    assert len(finished) == 65
    assert sum(treated[name]["correct"] - control[name]["correct"] for name in finished) == -1
