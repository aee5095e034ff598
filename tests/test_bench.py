"""The benchmark's answers agree with its peers'; its times are never asserted."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import benchmarks as bench
from benchmarks import audits, statistics
from benchmarks.__main__ import app
from counterclaim.cli import main
from counterclaim.errors import InputError

ROW = ["group", "name", "ours", "peer", "peer_s", "ratio", "agreement"]


@pytest.fixture
def run_benchmarks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """``python -m benchmarks`` with these arguments: exit code, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["benchmarks", *arguments])
        monkeypatch.setenv("COLUMNS", "120")
        with pytest.raises(SystemExit) as left:
            main(app)
        return (int(left.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def table() -> dict[str, Any]:
    return bench.run_bench(quick=True, only=("audits", "statistics"))


def test_the_contracts_shape(table: dict[str, Any]) -> None:
    assert set(table) == {"machine", "rows", "audits", "skipped"}
    assert table["machine"]["cores"] >= 1
    assert table["machine"]["numpy"]
    assert len(table["rows"]) == len(statistics.ROWS)
    assert table["skipped"] == []
    for row in table["rows"]:
        assert list(row) == ROW
        assert row["group"] == "statistics"
        assert row["ours"] > 0
        assert row["peer_s"] > 0


def test_ours_and_the_peers_agree(table: dict[str, Any]) -> None:
    for row in table["rows"]:
        # Two bootstraps of 10,000 draws differ by chance; 500 draws of the timed-and-scaled loop by more.
        assert row["agreement"] <= (0.02 if "scaled" in row["name"] else 0.006), row


def test_probes_agree_with_scikit_learn_where_it_has_converged() -> None:
    rows = bench.run_bench(quick=True, only=["probes"])["rows"]
    assert [row["peer"] for row in rows] == [
        "scikit-learn, lbfgs, default tolerance",
        "scikit-learn, lbfgs, tight tolerance",
    ]
    for row in rows:
        assert list(row) == ROW
        assert "peer timed on 10 of 100 fits" in row["name"]
    assert rows[1]["agreement"] < 1e-4 < rows[0]["agreement"] < 1


def test_rows_can_be_added_and_are_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    duel = statistics.Duel("mine", lambda: [1.0], "other", lambda: [1.5])
    monkeypatch.setattr(statistics, "ROWS", [lambda: duel])
    (row,) = bench.run_bench(quick=True, progress=told.append, only=["statistics"])["rows"]
    assert told == ["mine"]
    assert row["agreement"] == 0.5


def test_an_audit_is_timed_whole(table: dict[str, Any]) -> None:
    (audit,) = table["audits"]
    assert audit["n"] == audits.SIZES[0]
    assert audit["seconds"] > 0
    assert 20 < audit["peak_mb"] < 2_000


def test_programs_and_requests_are_timed_beside_their_peers() -> None:
    told: list[str] = []
    result = bench.run_bench(quick=True, progress=told.append, only={"endpoint", "pipeline", "sandbox"})
    assert len(told) == 3 - len(result["skipped"])
    assert {row["group"] for row in result["rows"]} | {skip["name"] for skip in result["skipped"]} == {
        "endpoint", "pipeline", "sandbox",
    }  # fmt: skip
    for row in result["rows"]:
        assert list(row) == ROW
        assert row["agreement"] == 0
    assert result["audits"] == []


def test_steps_of_training_are_timed_beside_a_bare_script() -> None:
    rows = bench.run_bench(quick=True, only=["training"])["rows"]
    assert [row["peer"] for row in rows] == ["a bare SFTTrainer of TRL", "a bare DPOTrainer of TRL"]
    for row in rows:
        assert list(row) == ROW
        assert row["ours"] > 0
        assert row["agreement"] < 1e-5  # the same model, adapter, rows and order, to the rounding of logged losses


def test_what_cannot_run_here_is_skipped_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, run_benchmarks: Callable[..., tuple[int, str, str]]
) -> None:
    found = importlib.util.find_spec
    absent = ("torch", "openai")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else found(name))
    monkeypatch.setitem(bench.GROUPS, "sandbox", bench.Group(bench.GROUPS["sandbox"].measure, lambda: "no walls here"))
    code, out, _ = run_benchmarks("--json", *(f"--only={name}" for name in ("sandbox", "endpoint", "generation")))
    assert code == 0
    result = json.loads(out)
    assert result["rows"] == []
    assert result["skipped"] == [
        {"name": "sandbox", "why": "no walls here"},
        {"name": "endpoint", "why": "openai cannot be imported; pip install 'counterclaim[endpoints]'"},
        {"name": "generation", "why": "torch cannot be imported; pip install 'counterclaim[models]'"},
    ]
    code, out, _ = run_benchmarks("--only", "sandbox")
    assert code == 0
    assert out.startswith("skipped sandbox: no walls here\nMachine: ")


def test_the_table_is_read_in_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, run_benchmarks: Callable[..., tuple[int, str, str]]
) -> None:
    def rows(quick: bool, progress: Callable[[str], None]) -> list[dict[str, Any]]:
        row = {"name": "work", "ours": 0.5, "peer": "[bold]other[/]", "peer_s": 1.0, "ratio": 2.0, "agreement": None}
        return [row, {**row, "name": "more", "agreement": 0.25}]

    monkeypatch.setitem(bench.GROUPS, "statistics", bench.Group(rows, lambda: None))
    code, out, _ = run_benchmarks("--only", "statistics")
    assert code == 0
    lines = out.splitlines()
    assert lines[1].strip() == "statistics"
    assert lines[2].split() == ["2.00×", "0.5", "s", "1", "s", "work", "|", "[bold]other[/]"]
    assert lines[3].split() == ["2.00×", "0.5", "s", "1", "s", "0.25", "more", "|", "[bold]other[/]"]


def test_an_unknown_group_is_named(run_benchmarks: Callable[..., tuple[int, str, str]]) -> None:
    with pytest.raises(InputError, match=r"no benchmark is called 'speed'; choose of audits, sandbox"):
        bench.run_bench(only=["speed"])
    code, _, err = run_benchmarks("--only", "speed")
    assert code == 2
    assert "--only 'speed' is not one of audits, sandbox, endpoint, pipeline, statistics, probes, generation" in err


def test_importing_the_statistics_leaves_scipy_alone() -> None:
    code = "import sys, counterclaim.stats; assert not any(m.startswith('scipy') for m in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
