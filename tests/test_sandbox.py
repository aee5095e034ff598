"""The sandbox as its users see it: what programs may do, what is said of them, what the pool survives."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import threading
import time
from collections import Counter, OrderedDict, namedtuple
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest

from benchmarks.sandbox import execution_duels
from counterclaim.errors import SandboxError
from counterclaim.lab.sandbox import Limits, Pool, Program, available, bubblewrap, seccomp
from counterclaim.lab.sandbox.inside.wire import NotPlain, Peer, Remote, WireError

RIGHT = Program("def add(a, b):\n    return a + b\n", "assert add(1, 2) == 3")


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    if (problem := available()) is not None:
        pytest.skip(problem)
    with Pool(workers=2, limits=Limits(wall_s=2.0, cpu_s=2.0)) as made:
        yield made


class Loose(Peer):
    """A peer with nobody at the other end."""

    def __init__(self) -> None:
        super().__init__(lambda _: None, lambda: b"")

    def may_lend(self, value: Any) -> bool:
        return callable(value)


def carried(value: Any) -> Any:
    return Loose().unpack(Loose().pack(["value", value])[4:])[1]


class Colour(IntEnum):
    RED = 1


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -1, 1 << 63, -(1 << 200), 1 << 14_000, 0.1, -0.0, 1e-320, float("inf"), 2 - 3j, "", "é\ud800\0", b"\xff",
        bytearray(b"x"), [], [1, [2, ()]], (1,), {"a": {1: (2, 3)}}, {(1, 2): None}, {1, "a"}, frozenset({1}), range(3, 9, 2),
        int, type(None), {"t": [1], "o": 0},
    ],
)  # fmt: skip
def test_plain_data_arrives_as_it_left(value: Any) -> None:
    got = carried(value)
    assert got == value
    assert type(got) is type(value)
    assert repr(got) == repr(value)


def test_nan_and_views_and_subclasses_arrive_as_builtins() -> None:
    assert math.isnan(carried(float("nan")))
    assert list(carried({"b": 1, "a": 2}.keys())) == ["b", "a"]
    assert type(carried({}.keys())) is type({}.keys())
    for value, plain in (
        (Counter("aab"), {"a": 2, "b": 1}),
        (OrderedDict(a=1), {"a": 1}),
        (Point(1, 2), (1, 2)),
        (Colour.RED, 1),
    ):
        assert (carried(value), type(carried(value))) == (plain, type(plain))


def test_what_is_no_plain_data_is_lent_or_refused() -> None:
    assert isinstance(carried(lambda: 0), Remote)
    with pytest.raises(NotPlain, match="object"):
        carried(object())
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(NotPlain, match="holds itself"):
        carried(loop)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"[]", b"[1]", b'["value", 1.5]', b'["value", NaN]', b'["value", {"f": 1}]', b'["value", {"f": "x"}]',
        b'["value", {"q": 1}]', b'["value", {}]', b'["value", {"a": 1, "b": 2}]', b'["value", {"s": [[]]}]', b'["value", {"m": 0}]',
        b'["value", {"m": -1}]', b'["value", {"o": "x"}]', b'["value", {"k": "eval"}]', b'["value", {"d": [1]}]', b'["value", {"i": 5}]',
        b'["value", {"r": [0, 1, 0]}]', b"[" * 100_000, b"\xff", b'["value", ' + b"9" * 5000 + b"]",
    ],
)  # fmt: skip
def test_what_breaks_the_encoding_is_a_wire_error(body: bytes) -> None:
    with pytest.raises(WireError):
        Loose().unpack(body)


@pytest.mark.parametrize(
    ("source", "tests"),
    [
        ("def up_to(n):\n    for i in range(n):\n        yield i", "assert list(up_to(3)) == [0, 1, 2]\nassert sum(up_to(4)) == 6"),
        ("def forever():\n    while True:\n        yield 1", "it = forever()\nassert [next(it), next(it)] == [1, 1]"),
        ("def adder(n):\n    return lambda m: n + m", "assert adder(2)(3) == 5"),
        ("def apply(f, x):\n    return f(f(x))", "assert apply(lambda v: v * 3, 2) == 18"),
        ("def total(items):\n    return sum(items)", "assert total(i * i for i in range(4)) == 14"),
        ("def grow(items):\n    items.append(1)", "mine = [0]\nassert grow(mine) is None\nassert mine == [0, 1]"),
        ("class Stack:\n    def __init__(self):\n        self.items = []\n    def push(self, x):\n        self.items.append(x)\n        return self", "s = Stack()\ns.push(4)\nassert s.items == [4]\ns.name = 'x'\nassert s.name == 'x'"),
        ("def bad(x):\n    raise KeyError(x)", "try:\n    bad('k')\nexcept LookupError as error:\n    assert 'k' in str(error)\nelse:\n    assert False"),
        ("def f(a, *, b=1):\n    return a - b", "assert f(3, b=2) == 1"),
        ("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\ndef f():\n    return P(3).x", "assert f() == 3"),
        ("if __name__ == '__main__':\n    input()\ndef f():\n    return 1", "assert f() == 1"),
    ],
)  # fmt: skip
def test_what_programs_and_tests_may_do(source: str, tests: str, pool: Pool) -> None:
    done = pool.run(Program(source, tests))
    assert done.passed, done


@pytest.mark.parametrize(
    ("source", "tests", "outcome", "detail"),
    [
        ("def f():\n    return 2", "x = 1\nassert f() == 1", "failed", "line 2 of the tests: assert f() == 1"),
        ("def f():\n    return 1 / 0", "assert f() == 1", "error", "ZeroDivisionError: division by zero"),
        ("def f(:", "assert f() == 1", "error", "loading the program: SyntaxError"),
        ("def g():\n    return 1", "assert f() == 1", "error", "does not define f"),
        ("def f():\n    return 1", "assert g(", "refused", "the tests break"),
        ("def f():\n    return 1", "import no_such_module\nassert f() == 1", "refused", "no_such_module"),
        ("def f(x):\n    return 1", "class Own:\n    pass\nassert f(Own()) == 1", "refused", "Own"),
        ("def f():\n    return 1", "", "refused", "call nothing"),
        (
            "def f(x):\n    y = []\n    for _ in range(300):\n        y = [y]\n    return y",
            "deep = f(0)\nfor _ in range(1000):\n    deep = [deep]\nf(deep)",
            "error",
            "nested too deeply",
        ),
        ("def f():\n    return 1", "while True:\n    f", "timeout", "2 s"),
        ("def f():\n    return 1", "try:\n    while True:\n        f()\nexcept BaseException:\n    pass", "timeout", "2 s"),
        ("f = 3", "assert f == 3", "error", "call nothing"),
        ("x" * 1_100_000, "assert f() == 1", "error", "1,048,576 characters"),
    ],
)  # fmt: skip
def test_what_is_said_of_a_program(source: str, tests: str, outcome: str, detail: str, pool: Pool) -> None:
    done = pool.run(Program(source, tests))
    assert done.outcome == outcome, done
    assert detail in done.detail


def test_what_a_program_prints_is_kept_in_part(pool: Pool) -> None:
    done = pool.run(
        Program("import sys\nprint('é' * 9000)\nsys.stderr.write('oh')\ndef f():\n    return 1", "assert f() == 1")
    )
    assert done.passed
    assert done.stdout == "é" * 4096
    assert done.stderr == "oh"
    assert 0 < done.seconds < 2


def test_two_runs_of_a_program_see_the_same_chance(pool: Pool) -> None:
    source = "import random\nprint(random.random(), list({'a', 'b', 'c', 'd'}), hash('x'))\ndef f():\n    return 1"
    programs = [Program(source, "f()")] * 6
    with Pool(workers=1) as other:
        assert len({done.stdout for done in [*pool.map(programs), other.run(programs[0])]}) == 1


def test_draws_are_the_same_where_another_module_brings_them_in(pool: Pool) -> None:
    source = "import statistics\nprint(statistics.NormalDist().samples(3))\ndef f():\n    return 1"
    first, second = pool.map([Program(source, "assert f() == 1")] * 2)
    assert first.passed
    assert first.stdout
    assert first.stdout == second.stdout


def test_nothing_is_loaded_that_acts_after_every_fork(pool: Pool) -> None:
    words = "{'ran' + 'dom', 'threading', 'json', 'solution'}"  # where a program says the word, random is loaded for it
    source = f"import sys\nhad = sorted({words} & set(sys.modules))\ndef f():\n    return had"
    assert pool.run(Program(source, "assert f() == ['json', 'solution'], f()")).detail == ""


def _below(process: int) -> set[int]:
    """The processes that descend from one, which must run Linux."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
    found = {process}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {process}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found by /proc")
@pytest.mark.parametrize("unsafe", [False, True])
def test_the_pair_that_waits_for_a_program_ends_with_its_pool(unsafe: bool) -> None:
    if not unsafe and (problem := available()) is not None:
        pytest.skip(problem)
    with Pool(workers=1, unsafe_local=unsafe) as short:
        assert short.run(RIGHT).passed
        (worker,) = short._workers
        deadline = time.monotonic() + 5
        while len(waiting := _below(worker._process.pid)) < 2:
            assert time.monotonic() < deadline, "no examiner and candidate wait"
            time.sleep(0.01)
    while any(Path(f"/proc/{process}/cmdline").exists() for process in waiting):
        assert time.monotonic() < deadline, "processes are left behind"
        time.sleep(0.01)


def test_what_a_killed_worker_had_waiting_ends_too() -> None:
    with Pool(workers=1, unsafe_local=True) as short:
        assert short.run(RIGHT).passed
        (worker,) = short._workers
        deadline = time.monotonic() + 5
        while len(waiting := _below(worker._process.pid)) < 2:
            assert time.monotonic() < deadline, "no examiner and candidate wait"
            time.sleep(0.01)
        os.kill(worker._process.pid, signal.SIGKILL)
    while any(Path(f"/proc/{process}/cmdline").exists() for process in waiting):
        assert time.monotonic() < deadline, "processes are left behind"
        time.sleep(0.01)


def test_results_come_in_order_and_from_many_threads(pool: Pool) -> None:
    programs = [Program(f"def f():\n    return {i}", f"assert f() == {i if i % 3 else -1}") for i in range(12)]
    assert [done.passed for done in pool.map(programs)] == [i % 3 != 0 for i in range(12)]
    with ThreadPoolExecutor(4) as threads:
        assert [done.passed for done in threads.map(pool.run, programs)] == [i % 3 != 0 for i in range(12)]


def test_nothing_of_one_program_reaches_the_next(pool: Pool) -> None:
    leave = (
        "import builtins, sys\nopen('/tmp/left', 'w').write('x')\nbuiltins.left = sys.left = 1\ndef f():\n    return 1"
    )
    look = "import builtins, os, sys\ndef f():\n    return os.listdir('/tmp'), hasattr(builtins, 'left'), hasattr(sys, 'left')"
    with Pool(workers=1) as one:
        assert one.run(Program(leave, "assert f() == 1")).passed
        assert one.run(Program(look, "assert f() == ([], False, False)")).passed


def test_the_walls_are_up(pool: Pool) -> None:
    """No capability, no new privileges, a filter, few processes: asked of the kernel from inside."""
    source = """
import ctypes, os, signal
prctl = ctypes.CDLL(None).prctl
def forks():
    made = 0
    try:
        while made < 64:
            if os.fork() == 0:
                signal.pause()
            made += 1
    except OSError:
        return made
def state():
    filtered, locked = prctl(21, 0, 0, 0, 0), prctl(39, 0, 0, 0, 0)
    bounding = [number for number in range(41) if prctl(23, number, 0, 0, 0) == 1]
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    ctypes.CDLL(None).capget(header, data)
    return filtered, locked, bounding, list(data), os.getuid(), os.getpid(), os.getppid()
"""
    expected = (2 if bubblewrap.has_seccomp() else 0, 1, [], [0] * 6, 1000, 1, 0)
    done = pool.run(Program(source, f"assert state() == {expected}, state()\nassert forks() == 7"))
    assert done.passed, done


def test_a_worker_that_dies_is_replaced_and_its_program_run_again() -> None:
    if (problem := available()) is not None:
        pytest.skip(problem)
    slow = Program("import time\ndef f():\n    time.sleep(0.5)\n    return 1", "assert f() == 1")
    with Pool(workers=1) as one:
        assert one.run(RIGHT).passed
        victim = one._workers[0]._process.pid
        killer = threading.Timer(0.2, os.kill, (victim, signal.SIGKILL))
        killer.start()
        assert one.run(slow).passed
        killer.join()
        assert one._workers[0]._process.pid != victim


def test_a_program_that_kills_its_worker_twice_is_named(monkeypatch: pytest.MonkeyPatch, pool: Pool) -> None:
    """Tests that cannot be stopped: they swallow every exception, until the limit on processor time ends them."""
    stubborn = (
        "f()\nwhile True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass"
    )
    with Pool(workers=1, limits=Limits(wall_s=0.2, cpu_s=0.2)) as one:
        started = time.monotonic()
        done = one.run(Program("def f():\n    return 1", stubborn))
        assert done.outcome in ("killed", "timeout")
        assert "twice, the sandbox" in done.detail
        assert time.monotonic() - started < 10
        assert one.run(RIGHT).passed


def test_without_bubblewrap_the_pool_refuses_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert "apt install bubblewrap" in (available() or "")
    with pytest.raises(SandboxError, match=r"bwrap.*is not installed; install bubblewrap.*dnf.*--unsafe-local"):
        Pool()


def test_where_walls_cannot_be_built_the_last_words_are_told() -> None:
    told = bubblewrap.explain("noise\nbwrap: No permissions to create new namespace\n")
    assert "No permissions to create new namespace" in told
    assert "; allow user namespaces" in told


def test_unsafe_local_runs_and_marks_what_it_ran() -> None:
    with Pool(workers=1, limits=Limits(wall_s=1.0, cpu_s=1.0), unsafe_local=True) as bare:
        assert "without a sandbox" in bare.notes[0]
        right, endless = bare.run(RIGHT), bare.run(Program("while True:\n    pass", "f()"))
        assert (right.outcome, right.unsafe) == ("passed", True)
        assert (endless.outcome, endless.unsafe) == ("timeout", True)


def test_a_pool_of_no_workers_is_refused() -> None:
    with pytest.raises(SandboxError, match="0 workers"):
        Pool(workers=0)


def test_the_filters_are_whole_instructions_and_a_job_may_do_less(monkeypatch: pytest.MonkeyPatch) -> None:
    for machine in ("x86_64", "aarch64"):
        monkeypatch.setattr(seccomp.platform, "machine", lambda machine=machine: machine)
        worker, job = seccomp.worker_filter(), seccomp.job_filter()
        assert len(worker) % 8 == len(job) % 8 == 0
        assert 0 < len(worker) < len(job) < 8 * 4096
    monkeypatch.setattr(seccomp.platform, "machine", lambda: "riscv64")
    assert seccomp.job_filter() == b""


def test_a_duel_agrees() -> None:
    if (problem := available()) is not None:
        pytest.skip(problem)
    rows = execution_duels(quick=True)
    assert [row["agreement"] for row in rows] == [0.0, 0.0]
    assert all({"name", "ours", "peer", "peer_s", "ratio"} <= set(row) for row in rows)
