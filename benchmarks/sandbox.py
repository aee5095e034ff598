"""How fast the pool runs programs, against one process per program; all take turns in one run."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.timing import differing, row, take_turns
from counterclaim.lab.sandbox import bubblewrap
from counterclaim.lab.sandbox.pool import Pool
from counterclaim.lab.sandbox.programs import Program
from counterclaim.records import Json

_WORKERS = 2
_TESTS = "def check(candidate):\n    assert candidate([3, 1, 2]) == [1, 2, 3]\n    assert candidate([]) == []\n"
_RIGHT = "import collections\nimport re\n\ndef ordered(values):\n    return sorted(values)\n"
_WRONG = "import collections\nimport re\n\ndef ordered(values):\n    return list(values)\n"


def execution_duels(quick: bool) -> list[dict[str, Json]]:
    """Time the pool against bubblewrap with a Python of its own per program, and against a plain Python per program.

    Both peers run the program and its tests in one process, two at a time like the pool. Half of the programs are right.

    Args:
        quick: one turn of few programs: for a smoke test, not for numbers to quote.

    Returns:
        rows ``{"name", "ours", "peer", "peer_s", "ratio", "agreement"}``: median seconds for all programs, the ratio
        peer_s / ours, and the share of programs on which the two disagree.

    Raises:
        SandboxError: there is no sandbox here.
    """
    n, turns = (8, 1) if quick else (60, 5)
    sources = [_RIGHT if i % 2 == 0 else _WRONG for i in range(n)]
    programs = [Program(source, _TESTS, "ordered") for source in sources]
    with tempfile.TemporaryDirectory() as folder, Pool(workers=_WORKERS) as pool:
        files = {source: Path(folder) / f"{i}.py" for i, source in enumerate((_RIGHT, _WRONG))}
        for source, file in files.items():
            file.write_text(f"{source}\n{_TESTS}\ncheck(ordered)\n", encoding="utf-8")
        paths = [files[source] for source in sources]
        ways: dict[str, Callable[[], list[bool]]] = {
            "pool": lambda: [done.passed for done in pool.map(programs)],
            "bubblewrap and Python per program": lambda: _side_by_side(
                [bubblewrap.plain_command(path) for path in paths]
            ),
            "Python per program, no sandbox": lambda: _side_by_side(
                [[sys.executable, "-I", "-S", "-B", str(path)] for path in paths]
            ),
        }
        answers, seconds = take_turns(ways, turns)
    name = f"{n} programs with their tests, {_WORKERS} at a time"
    return [
        row(name, seconds["pool"], peer, seconds[peer], differing(answers["pool"], answers[peer]))
        for peer in list(ways)[1:]
    ]


def _side_by_side(commands: list[list[str]]) -> list[bool]:
    def passes(command: list[str]) -> bool:
        return subprocess.run(command, capture_output=True, env={}, check=False).returncode == 0

    with ThreadPoolExecutor(_WORKERS) as threads:
        return list(threads.map(passes, commands))
