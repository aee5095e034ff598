"""The benchmark's answers agree with its peers'; its times are never asserted."""

from __future__ import annotations

import subprocess
import sys

import pytest

from counterclaim import bench


@pytest.fixture(scope="module")
def table() -> dict:
    return bench.run_bench(quick=True)


def test_the_contracts_shape(table: dict) -> None:
    assert set(table) == {"machine", "rows", "audits"}
    assert table["machine"]["cores"] >= 1
    assert len(table["rows"]) == len(bench.ROWS)
    for row in table["rows"]:
        assert list(row) == ["name", "ours", "peer", "peer_s", "ratio", "agreement"]
        assert row["ours"] > 0
        assert row["peer_s"] > 0


def test_ours_and_the_peers_agree(table: dict) -> None:
    for row in table["rows"]:
        # Two bootstraps of 10,000 draws differ by chance; 500 draws of the timed-and-scaled loop by more.
        assert row["agreement"] <= (0.02 if "scaled" in row["name"] else 0.006), row


def test_rows_can_be_added_and_are_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(bench, "audit_cost", lambda n, progress: {})
    monkeypatch.setattr(bench, "ROWS", [lambda: bench.Duel("mine", lambda: [1.0], "other", lambda: [1.5])])
    (row,) = bench.run_bench(quick=True, progress=told.append)["rows"]
    assert told == ["mine"]
    assert row["agreement"] == 0.5


def test_an_audit_is_timed_whole(table: dict) -> None:
    (audit,) = table["audits"]
    assert audit["n"] == 1_000
    assert audit["seconds"] > 0
    assert 20 < audit["peak_mb"] < 2_000


def test_importing_the_statistics_leaves_scipy_alone() -> None:
    code = "import sys, counterclaim.stats; assert not any(m.startswith('scipy') for m in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
