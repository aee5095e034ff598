"""Hostile programs: none escapes, none passes, the pool survives them all."""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import hostile_programs
from counterclaim.lab.sandbox import Execution, Limits, Pool, Program, available

LIMITS = Limits(wall_s=1.0, cpu_s=1.0, memory_mb=256, tmp_mb=8, file_mb=4)


@dataclass
class Aftermath:
    found: dict[str, Execution]
    seconds: float
    after_each: list[bool]
    clean: Execution
    secret: Path
    outside: Path
    connections: int


def _accepted(listener: socket.socket) -> int:
    listener.setblocking(False)
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


@pytest.fixture(scope="module")
def aftermath() -> Iterator[Aftermath]:
    if (problem := available()) is not None:
        pytest.skip(problem)
    clean = Program("def add(a, b):\n    return a + b\n", hostile_programs.TESTS, "add")
    with (
        tempfile.TemporaryDirectory() as place,
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("PLANTED_KEY", "planted")
        folder = Path(place)
        folder.chmod(0o777)  # nothing but the walls keeps a program out
        secret, outside = folder / "secret", folder / "outside"
        secret.write_text("swordfish")
        outside.mkdir()
        outside.chmod(0o777)
        programs = {}
        for name, source in hostile_programs.ALL.items():
            for word, value in (("SECRET", secret), ("OUTSIDE", outside), ("PORT", listener.getsockname()[1])):
                source = source.replace(word, str(value))
            programs[name] = Program(source, hostile_programs.TESTS, "add")
        with Pool(workers=2, limits=LIMITS) as pool:
            started = time.monotonic()
            found = dict(zip(programs, pool.map(programs.values()), strict=True))
            seconds = time.monotonic() - started
            after = [pool.run(clean).passed for _ in range(4)]
            last = pool.run(clean)
        yield Aftermath(found, seconds, after, last, secret, outside, _accepted(listener))


def test_there_are_at_least_forty() -> None:
    assert len(hostile_programs.ALL) >= 40


@pytest.mark.parametrize("name", hostile_programs.ALL)
def test_none_passes(name: str, aftermath: Aftermath) -> None:
    assert not aftermath.found[name].passed
    assert aftermath.found[name].outcome != "refused", "a program must not make itself unscored"


def test_none_escapes(aftermath: Aftermath) -> None:
    assert aftermath.secret.read_text() == "swordfish"
    assert list(aftermath.outside.iterdir()) == []
    assert aftermath.connections == 0
    assert "planted" not in "".join(done.stdout + done.stderr for done in aftermath.found.values())


def test_the_pool_survives(aftermath: Aftermath) -> None:
    assert aftermath.clean.passed
    assert all(aftermath.after_each)


def test_it_takes_less_than_forty_seconds(aftermath: Aftermath) -> None:
    assert aftermath.seconds < 40


@pytest.mark.parametrize(
    ("name", "outcomes"),
    [
        ("memory bomb", {"memory", "timeout"}),
        ("memory bomb in a call", {"memory"}),
        ("infinite output", {"output"}),
        ("infinite error output", {"output"}),
        ("infinite loop", {"timeout"}),
        ("infinite loop in a call", {"timeout"}),
        ("sleeps", {"timeout"}),
        ("fork bomb", {"timeout"}),
        ("crashes the interpreter", {"killed"}),
        ("exits before the tests", {"error"}),
        ("exits in the function", {"killed"}),
        ("equals everything", {"failed"}),
        ("returns a huge value", {"output", "memory"}),
        ("returns a value nested without end", {"error"}),
        ("deep recursion", {"error"}),
        ("no Python", {"error"}),
        ("no entry point", {"error"}),
    ],
)
def test_what_is_said_of_some(name: str, outcomes: set[str], aftermath: Aftermath) -> None:
    assert aftermath.found[name].outcome in outcomes


@pytest.mark.parametrize("name", ["reads the tests from its frames and objects", "scans its memory for the tests"])
def test_the_search_for_the_tests_works_where_they_can_be_found(name: str) -> None:
    if (problem := available()) is not None:
        pytest.skip(problem)
    given_away = hostile_programs.CHEATS[name] + f"\nheld = {hostile_programs.TESTS!r}\n"
    with Pool(workers=1) as pool:
        assert pool.run(Program(given_away, hostile_programs.TESTS, "add")).passed
        assert pool.run(Program(hostile_programs.CHEATS[name], hostile_programs.TESTS, "add")).outcome == "failed"


@pytest.mark.parametrize("name", ["writes a file outside", "connects to a listener of this machine"])
def test_the_attacks_work_where_there_is_no_sandbox(name: str, tmp_path: Path) -> None:
    """The planted cases are real: without walls the same programs succeed, and their runs say that they were unsafe."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        source = hostile_programs.OUTWARD[name]
        source = source.replace("OUTSIDE", str(tmp_path)).replace("PORT", str(listener.getsockname()[1]))
        with Pool(workers=1, unsafe_local=True) as pool:
            done = pool.run(Program(source, hostile_programs.TESTS, "add"))
    assert done.passed
    assert done.unsafe
