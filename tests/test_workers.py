"""Child processes share the cores, give back what they found, and never outlive what began them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from counterclaim.errors import CounterclaimError
from counterclaim.lab.workers import each_done, threads_each


def _threads(at: int) -> tuple[int, int, str]:
    return at, os.getpid(), os.environ["OMP_NUM_THREADS"]


def _asleep(file: Path) -> None:
    file.write_text(str(os.getpid()))
    time.sleep(60)


def _fail(beside: Path) -> None:
    if beside.name == "fails":
        _until(lambda: _written(beside.with_name("sleeps")))
        raise ValueError("broken")
    _asleep(beside)


def _be_killed(at: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_every_call_is_made_in_other_processes_with_one_thread_each() -> None:
    found = list(each_done(2, _threads, [(at,) for at in range(6)]))
    assert sorted(at for at, _, _ in found) == list(range(6))
    assert os.getpid() not in {pid for _, pid, _ in found}
    assert {threads for _, _, threads in found} == {"1"}


def test_one_job_stays_in_this_process_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert list(each_done(1, _threads, [(2,), (1,)])) == [(2, os.getpid(), "7"), (1, os.getpid(), "7")]


def test_the_first_error_ends_what_is_under_way(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(ValueError, match="broken"):
        list(each_done(2, _fail, [(tmp_path / "fails",), (tmp_path / "sleeps",), (tmp_path / "not begun",)]))
    assert time.monotonic() - began < 50
    assert not _alive(tmp_path / "sleeps")


def test_a_process_that_the_system_kills_is_told_in_a_sentence() -> None:
    with pytest.raises(CounterclaimError, match=r"want of memory; give the same command --jobs 1"):
        list(each_done(2, _be_killed, [(0,), (1,)]))


def test_ctrl_c_and_the_death_of_the_parent_leave_no_process(tmp_path: Path) -> None:
    script = tmp_path / "sleeper.py"
    script.write_text(
        "import os, signal, time\nfrom pathlib import Path\nfrom counterclaim.lab.workers import each_done\n"
        "def asleep(file):\n    Path(file).write_text(str(os.getpid()))\n    time.sleep(60)\n"
        "if __name__ == '__main__':\n"
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # what a shell runs in the background ignores it
        f"    list(each_done(2, asleep, [({str(tmp_path / 'a')!r},), ({str(tmp_path / 'b')!r},), ('c',)]))\n"
    )
    files = [tmp_path / name for name in "ab"]
    for end in (signal.SIGINT, signal.SIGKILL):
        with subprocess.Popen(
            [sys.executable, str(script)], start_new_session=True, stderr=subprocess.PIPE, text=True
        ) as parent:
            try:
                _until(lambda: all(map(_written, files)))
                if end == signal.SIGINT:
                    os.killpg(parent.pid, end)  # as a terminal does
                else:
                    parent.kill()
                _, said = parent.communicate(timeout=30)
                assert said.count("Traceback") == (end == signal.SIGINT)  # the parent's, and none of a child's
                _until(lambda: not any(map(_alive, files)))
            finally:
                parent.kill()
        for file in files:
            file.unlink()


def test_thread_settings_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = dict(os.environ)
    with threads_each(2):
        assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "2"
    assert dict(os.environ) == before


def _written(file: Path) -> bool:
    return file.exists() and file.read_text() != ""


def _alive(file: Path) -> bool:
    return Path(f"/proc/{file.read_text()}").exists()


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)
