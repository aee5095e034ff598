"""The journal of unfinished work: nothing that was appended is lost, nothing foreign is taken in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterclaim.errors import InputError
from counterclaim.folder import Journal


def test_rows_come_back_in_order(tmp_path: Path) -> None:
    with Journal(tmp_path / "deep" / "j.jsonl", {"study": 1}) as journal:
        journal.append([{"a": 1}])
        journal.append([{"a": 2}, {"a": "ü\n"}])
    with Journal(tmp_path / "deep" / "j.jsonl", {"study": 1}) as again:
        assert again.rows == [{"a": 1}, {"a": 2}, {"a": "ü\n"}]


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(1, 200))
def test_a_torn_last_line_is_dropped_and_the_rest_kept(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("j") / "j.jsonl"
    rows = [{"i": i, "text": "x" * i} for i in range(8)]
    with Journal(path, "me") as journal:
        journal.append(rows)
    whole = path.read_bytes()
    cut = min(cut, len(whole) - 5)
    path.write_bytes(whole[:-cut])
    kept = [json.loads(line) for line in whole[:-cut].split(b"\n")[:-1]][1:]
    with Journal(path, "me") as journal:
        assert journal.rows == kept
        journal.append(rows[len(kept) :])
    with Journal(path, "me") as journal:
        assert journal.rows == rows


def test_other_work_is_refused(tmp_path: Path) -> None:
    Journal(tmp_path / "j.jsonl", {"model": "a"}).close()
    with pytest.raises(InputError, match="another study"):
        Journal(tmp_path / "j.jsonl", {"model": "b"})


def test_other_work_is_thrown_away_where_that_is_asked_for(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl", {"scores": "a"}) as journal:
        journal.append([1, 2])
    with Journal(tmp_path / "j.jsonl", {"scores": "b"}, keep_other=False) as journal:
        assert journal.rows == []
        journal.append([3])
    with Journal(tmp_path / "j.jsonl", {"scores": "b"}, keep_other=False) as journal:
        assert journal.rows == [3]


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl", 1), pytest.raises(InputError, match="another process"):
        Journal(tmp_path / "j.jsonl", 1)


def test_a_damaged_middle_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "j.jsonl").write_text('1\n{"a": 1}\n{broken\n{"a": 2}\n')
    with pytest.raises(InputError, match="line 3"):
        Journal(tmp_path / "j.jsonl", 1)


def test_a_full_disk_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "j.jsonl", 1)
    journal.append([{"a": 1}])

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"No space left on device.*everything up to here is kept"):
        journal.append([{"a": 2}])
    monkeypatch.undo()
    journal.close()
    with Journal(tmp_path / "j.jsonl", 1) as again:
        assert again.rows == [{"a": 1}]


def test_killed_while_appending_it_keeps_every_whole_row(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom counterclaim.folder import Journal\n"
        f"journal = Journal(Path({str(tmp_path / 'j.jsonl')!r}), 1)\n"
        "for i in range(10**6):\n    journal.append([{'i': i, 'text': 'x' * 500}])\n    print(i, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        last = 0
        for line in process.stdout:
            last = int(line)
            if last >= 40:
                process.send_signal(signal.SIGKILL)
                break
    with Journal(tmp_path / "j.jsonl", 1) as journal:
        assert [row["i"] for row in journal.rows[: last + 1]] == list(range(last + 1))


def test_a_disk_that_takes_half_a_row_is_told_in_a_sentence_and_holds_no_half_row(tmp_path: Path) -> None:
    code = (
        "import resource, signal\nfrom pathlib import Path\nfrom counterclaim.folder import Journal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        f"with Journal(Path({str(tmp_path / 'j.jsonl')!r}), 1) as journal:\n"
        "    journal.append([{'a': 'x' * 500}])\n    journal.append([{'a': 'y' * 5000}])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "File too large); everything up to here is kept" in done.stderr.splitlines()[-1]
    assert (tmp_path / "j.jsonl").read_text() == '1\n{"a": "' + "x" * 500 + '"}\n'


def test_it_lets_go_of_its_file_when_it_is_left(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", 1) as held:
        held.append([{"a": 1}])
    with Journal(tmp_path / "j", 1) as again:
        assert again.rows == [{"a": 1}]
    with pytest.raises(ValueError, match="closed"):
        held.append([{"a": 2}])
