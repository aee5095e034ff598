"""Small faults put into the source one by one: which of them do the tests notice?

python scripts/mutants.py [--room ROOM ...] [--per-room 40] [--seed 0] [--only FILE:LINE]

Every mutant changes one thing in one file: a comparison, a constant by one, + for -, * for /, and for or, a condition
turned round, a return, continue or raise left out, two arguments swapped. It is run against the tests that ``ROOMS``
names for its file, in a copy of the tree, one at a time: the quick ones first, the others only where these notice
nothing. A mutant that survives is a promise that no test holds, or changes nothing that anybody could see: the latter
are listed in ``EQUIVALENT``, each with its reason.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE, TESTS = "src/counterclaim", "tests"

ROOMS: dict[str, dict[str, tuple[str, str]]] = {
    "stats": {
        "stats/auc.py": ("stats_auc", "checks_probes"),
        "stats/distributions.py": ("stats_proportion stats_means stats_auc", "replication"),
        "stats/equivalence.py": ("stats_decisions", ""),
        "stats/heads.py": ("attribution", ""),
        "stats/logistic.py": ("stats_logistic", "probing_crossval probing_steps"),
        "stats/means.py": ("stats_means", "stats_coverage effect checks_cost checks_ruler"),
        "stats/multiple.py": ("stats_decisions", ""),
        "stats/passk.py": ("scorer_code", ""),
        "stats/permutation.py": ("stats_permutation", ""),
        "stats/power.py": ("stats_decisions", "stats_auc checks_effect"),
        "stats/proportion.py": ("stats_proportion effect", "replication"),
        "stats/resample.py": ("stats_resample", ""),
        "stats/weights.py": ("stats_resample stats_auc", ""),
    },
    "verdict": {"verdict.py": ("verdict", "study")},
    "effect": {
        "audit/effect.py": ("effect evidence", "checks_effect checks_cost"),
        "checks/effect.py": ("checks_effect", "report"),
    },
    "endings": {
        "importers/endings.py": ("endings", "checks_ruler"),
        "checks/endings.py": ("checks_ruler", "report study worlds"),
    },
    "pairing": {
        "audit/evidence.py": ("evidence effect checks_effect checks_ruler", "study checks_cost"),
        "audit/intake.py": ("study", "contracts cli bad_input experiment"),
        "importers/collector.py": ("importers_formats importers_table importers_repeats", "importers_bad_input study"),
    },
    "resume": {
        "folder/journal.py": ("journal", "generation experiment"),
        "folder/run.py": ("store", "experiment"),
        "lab/answers.py": ("generation", "experiment"),
        "lab/scorers/scoring.py": ("scoring", "experiment scorers"),
    },
    "probing": {
        "checks/probes.py": ("checks_probes probing_report", "probing_steps"),
        "lab/probing/classifiers.py": ("probing_classifiers", "probing_steps"),
        "lab/probing/crossval.py": ("probing_crossval probing_taxonomy", "probing_steps"),
        "lab/probing/features.py": ("probing_files", "probing_report cli_probe"),
        "lab/probing/gates.py": ("probing_gates", "probing_steps"),
        "lab/probing/labels.py": ("probing_files", "probing_report cli_probe"),
        "lab/probing/probe.py": ("probing_report", "probing_steps cli_probe"),
        "lab/probing/steps.py": ("probing_steps", "checks_probes"),
        "lab/probing/taxonomy.py": ("probing_taxonomy", "probing_steps"),
    },
}
"""Of each room its files, under ``SOURCE``, each with the tests that hold it (``TESTS``/test_NAME.py): quick ones, and more."""

EQUIVALENT: dict[str, str] = {
    'lines = [line.strip() for line in text.rstrip()[-1999:].split("\\n") if line.strip()]': "how far back a text is looked at",
    "cuts = model.evidence >= _EVIDENCE": "a sum of logarithms is never that number to the last bit",
    "cuts = cuts and sizes[candidates].max() > _DENSEST * (budget or 1)": "far below a budget, there is one",
    "with Pool(workers=min(bench.workers, os.cpu_count() or 0), unsafe_local=bench.unsafe_local) as pool:": (
        "where there are tests, processors can be counted"
    ),
    "return np.asarray(np.where(m > 0, m / np.maximum(m - 1, 1), 0.0), np.float64)": "what a class of one adds is 0 times that",
    "together, width = max(2, _CELLS // (vectors * m)), max(_ROWS, _CELLS // m)": "how much is solved at once, not what comes out",
    "worse = now > loss + 6.666666666666667e-14 * np.abs(loss)": "the slack is for rounding, and holds either way",
}
"""Mutants that nobody could tell from the original, as ``mutated line``, with the reason; lines are stripped."""

_COMPARED: dict[type[ast.cmpop], str] = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.Is: "is not", ast.IsNot: "is",
    ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip
_RECKONED: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"), ast.FloorDiv: ("//", "*"),
    ast.BitAnd: ("&", "|"), ast.BitOr: ("|", "&"),
}  # fmt: skip
_EITHER_WAY = frozenset(
    {"isinstance", "getattr", "hasattr", "min", "max", "maximum", "minimum", "replace", "cast", "hypot"}
)
"""Calls whose arguments may be swapped without another meaning, or with an error at once."""

LIMIT = 3.0  # times what the tests take without a mutant, and some seconds
SPARE = 15.0


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one file.

    Attributes:
        room: to which it belongs.
        file: under ``SOURCE``.
        line: 1-based, where it begins.
        kind: which operator made it.
        start: offset in the source, as encoded in UTF-8.
        end: likewise.
        new: what stands there instead.
    """

    room: str
    file: str
    line: int
    kind: str
    start: int
    end: int
    new: str

    def of(self, source: bytes) -> bytes:
        """The source with the fault in it."""
        return source[: self.start] + self.new.encode() + source[self.end :]

    def described(self, source: bytes) -> tuple[str, str]:
        """The line as it was and as it is now; what is spread over several lines is joined."""
        first = source.rfind(b"\n", 0, self.start) + 1
        last = source.find(b"\n", self.end)
        changed = source[first : self.start] + self.new.encode() + source[self.end : last]
        return tuple(" ".join(text.decode().split()) for text in (source[first:last], changed))  # type: ignore[return-value]


def mutants_of(room: str, file: str, source: bytes) -> list[Mutant]:
    """Every mutant of a file, in the order of its lines."""
    tree = ast.parse(source)
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = [
        Mutant(room, file, line, kind, starts[line - 1] + column, starts[end_line - 1] + end_column, new)
        for kind, (line, column), (end_line, end_column), new in _changes(tree, source, starts)
    ]
    return sorted(set(found), key=lambda each: (each.start, each.end, each.kind, each.new))


Place = tuple[int, int]


def _changes(tree: ast.Module, source: bytes, starts: Sequence[int]) -> Iterator[tuple[str, Place, Place, str]]:
    """Kind, from where to where (line, byte column), and what stands there instead."""

    def text(node: ast.AST) -> str:
        a, b = _begin(node), _end(node)
        return source[starts[a[0] - 1] + a[1] : starts[b[0] - 1] + b[1]].decode()

    def between(left: ast.AST, right: ast.AST, old: str, new: str) -> tuple[Place, Place, str] | None:
        """The operator between two operands, without the brackets and comments around it."""
        a, b = _end(left), _begin(right)
        gap = source[starts[a[0] - 1] + a[1] : starts[b[0] - 1] + b[1]].decode()
        return None if gap.count(old) != 1 or "#" in gap else (a, b, gap.replace(old, new))

    for node in _seen(tree):
        match node:
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                for one, op, other in zip([left, *comparators], ops, comparators, strict=False):
                    if (put := between(one, other, _spelt(op), _COMPARED[type(op)])) is not None:
                        yield ("comparison", *put)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _RECKONED and not _is_text(node):
                old, new = _RECKONED[type(op)]
                if (put := between(left, right, old, new)) is not None:
                    yield ("arithmetic", *put)
            case ast.BoolOp(op=op, values=values):
                old, new = ("and", "or") if isinstance(op, ast.And) else ("or", "and")
                for one, other in pairwise(values):
                    if (put := between(one, other, old, new)) is not None:
                        yield ("and/or", *put)
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                for new in _near(value):
                    yield ("constant", _begin(node), _end(node), new)
            case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
                yield ("condition", _begin(test), _end(test), f"(not ({text(test)}))")
            case ast.comprehension(ifs=[test, *_]):
                yield ("condition", _begin(test), _end(test), f"(not ({text(test)}))")
            case (
                ast.Return() | ast.Continue() | ast.Break() | ast.Raise() | ast.AugAssign() | ast.Expr(value=ast.Call())
            ):
                yield ("statement", _begin(node), _end(node), "pass")
            case ast.Call(func=func, args=[one, other, *_]) if not isinstance(one, ast.Starred):
                name = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")
                if not isinstance(other, ast.Starred) and name not in _EITHER_WAY and text(one) != text(other):
                    gap = source[_at(starts, _end(one)) : _at(starts, _begin(other))].decode()
                    if "#" not in gap and gap.strip() == ",":
                        yield ("arguments", _begin(one), _end(other), f"{text(other)}{gap}{text(one)}")


def _seen(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run: no annotations, imports and assertions, and nothing inside texts."""
    for node in _that_run(tree):
        if not isinstance(node, ast.Assert | ast.JoinedStr | ast.Import | ast.ImportFrom):
            yield node
            yield from _seen(node)


def _that_run(node: ast.AST) -> Iterator[ast.AST]:
    """Children of a node, without the annotations of what it defines."""
    match node:
        case ast.AnnAssign(value=value):
            yield from filter(None, (value,))
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            yield from (*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults), *node.body)
        case _:
            yield from ast.iter_child_nodes(node)


def _is_text(node: ast.BinOp) -> bool:
    """Whether an operand is a text, or None: these cannot be subtracted, and types are joined by ``|`` alone."""
    sides = (node.left, node.right)
    return any(
        isinstance(side, ast.JoinedStr)
        or getattr(side, "value", 0) is None
        or isinstance(getattr(side, "value", 0), str)
        for side in sides
    )


def _near(value: float) -> list[str]:
    if isinstance(value, int):
        return [str(value + 1), *([str(value - 1)] if value > 0 else [])]
    return [repr(value * 1.5), repr(value / 1.5)] if value else ["1.0"]


def _spelt(op: ast.cmpop) -> str:
    spelt = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.Is: "is", ast.IsNot: "is not",
             ast.In: "in", ast.NotIn: "not in"}  # fmt: skip
    return spelt[type(op)]


def _begin(node: ast.AST) -> Place:
    return node.lineno, node.col_offset  # type: ignore[attr-defined]


def _end(node: ast.AST) -> Place:
    return node.end_lineno, node.end_col_offset  # type: ignore[attr-defined]


def _at(starts: Sequence[int], place: Place) -> int:
    return starts[place[0] - 1] + place[1]


# running --------------------------------------------------------------------------------------------------------


class Tree:
    """A copy of the tree in which mutants are planted one at a time."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "tree"
        left_out = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "shared", "*.egg-info")
        shutil.copytree(ROOT, self.root, ignore=left_out, symlinks=True)
        self._usual: dict[str, float] = {}

    def usual(self, tests: str) -> float:
        """Seconds that tests take without a mutant. Raises SystemExit where they fail."""
        if tests not in self._usual:
            began = time.monotonic()
            if self._run(tests, 600.0, bytecode=True) != "survived":
                raise SystemExit(f"without any mutant the tests fail: {tests}")
            self._usual[tests] = time.monotonic() - began
        return self._usual[tests]

    def put(self, mutant: Mutant, sets: Sequence[str]) -> str:
        """``killed``, ``timed out`` or ``survived`` by these sets of tests, one after the other."""
        file = self.root / SOURCE / mutant.file
        source, held = file.read_bytes(), file.stat()
        try:
            file.write_bytes(mutant.of(source))
            # compiled files are told from others by the second, and by their size
            os.utime(file, (held.st_atime, held.st_mtime + 2))
            came = "survived"
            for tests in sets:
                if came == "survived":
                    came = self._run(tests, LIMIT * self.usual(tests) + SPARE)
            return came
        finally:
            file.write_bytes(source)
            os.utime(file, (held.st_atime, held.st_mtime))

    def _run(self, tests: str, limit: float, *, bytecode: bool = False) -> str:
        paper = os.environ.get("COUNTERCLAIM_PAPER_DATA", str(ROOT.parent / "shared" / "data" / "paper"))
        env = {
            **os.environ, "PYTHONPATH": str(self.root / "src"), "OPENBLAS_NUM_THREADS": "1", "COUNTERCLAIM_PAPER_DATA": paper,
            **({} if bytecode else {"PYTHONDONTWRITEBYTECODE": "1"}),
        }  # fmt: skip
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", "--tb=no"]
        files = [f"{TESTS}/test_{name}.py" for name in tests.split()]
        process = subprocess.Popen(
            ["nice", "-n", "5", *command, *files], cwd=self.root, env=env, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            return "survived" if process.wait(limit) == 0 else "killed"
        except subprocess.TimeoutExpired:
            os.killpg(
                process.pid, signal.SIGKILL
            )  # with whatever it started; it was not waited for, so its number is its own
            process.wait()
            return "timed out"


def chosen(rooms: Sequence[str], per_room: int, seed: int, only: str | None) -> list[Mutant]:
    """So many mutants of each room, drawn by the seed; or all of one line."""
    out: list[Mutant] = []
    for room in rooms:
        every = [
            mutant for file in ROOMS[room] for mutant in mutants_of(room, file, (ROOT / SOURCE / file).read_bytes())
        ]
        if only is not None:
            name, _, line = only.rpartition(":")
            out += [each for each in every if f"{SOURCE}/{each.file}".endswith(name) and each.line == int(line)]
            continue
        every = random.Random(f"{seed}/{room}").sample(every, min(per_room, len(every)))
        out += sorted(every, key=lambda each: (each.file, each.start))
    return out


def main() -> int:
    """Plant them, tell how many of each room were noticed, and list the others."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--room", action="append", choices=list(ROOMS), help="this room only; may be given again")
    parser.add_argument("--per-room", type=int, default=40, help="mutants of each room")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="FILE:LINE", help="all mutants of one line")
    parser.add_argument("--quick", action="store_true", help="the quick tests of each file only")
    parser.add_argument("--list", action="store_true", help="name the mutants and run nothing")
    given = parser.parse_args()
    planted = chosen(given.room or list(ROOMS), given.per_room, given.seed, given.only)
    sources = {mutant.file: (ROOT / SOURCE / mutant.file).read_bytes() for mutant in planted}
    came: dict[str, Counter[str]] = {}
    left: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        tree = None if given.list else Tree(Path(folder))
        for mutant in planted:
            was, now = mutant.described(sources[mutant.file])
            line = f"{SOURCE}/{mutant.file}:{mutant.line} {mutant.kind}\n  - {was}\n  + {now}"
            if tree is None:
                print(line)
                continue
            if now in EQUIVALENT:
                outcome = "equivalent"
            else:
                sets = [tests for tests in ROOMS[mutant.room][mutant.file][: 1 if given.quick else 2] if tests]
                for tests in sets:
                    tree.usual(tests)  # before the mutant is there
                outcome = tree.put(mutant, sets)
            came.setdefault(mutant.room, Counter())[outcome] += 1
            if outcome == "survived":
                left.append(line)
                print(f"survived: {line}", flush=True)
    for room, counts in came.items():
        noticed = counts["killed"] + counts["timed out"]
        print(
            f"{room:8}  killed {counts['killed']:3}  timed out {counts['timed out']:3}  survived {counts['survived']:3}  "
            f"equivalent {counts['equivalent']:3}  noticed {noticed / max(1, noticed + counts['survived']):.0%}"
        )
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
