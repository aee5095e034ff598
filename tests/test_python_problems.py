"""The Python problems that ship: every reference solution passes, and what is wrong with it is caught."""

from __future__ import annotations

import ast
import copy
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from counterclaim.lab import prompts as promptsets
from counterclaim.lab.sandbox import Execution, Limits, Pool, Program, available

FILE = Path(promptsets.__file__).parent / "data" / "python.jsonl"
PROBLEMS: list[dict[str, Any]] = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
IDS = [problem["id"] for problem in PROBLEMS]
MUTANTS = 4  # per problem, spread over the solution

_COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_OPERATE: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv,
}  # fmt: skip


def mutants(solution: str) -> Iterator[str]:
    """The solution with one thing changed: a comparison, an operator, a whole number, an ``and``, or what is returned."""
    tree = ast.parse(solution)
    for at, node in enumerate(ast.walk(tree)):
        changed = copy.deepcopy(tree)
        twin = list(ast.walk(changed))[at]
        if isinstance(twin, ast.Compare) and type(twin.ops[0]) in _COMPARE:
            twin.ops[0] = _COMPARE[type(twin.ops[0])]()
        elif isinstance(twin, ast.BinOp | ast.AugAssign) and type(twin.op) in _OPERATE:
            twin.op = _OPERATE[type(twin.op)]()
        elif isinstance(twin, ast.Constant) and type(twin.value) is int:
            twin.value += 1
        elif isinstance(twin, ast.BoolOp):
            twin.op = ast.Or() if isinstance(twin.op, ast.And) else ast.And()
        elif isinstance(twin, ast.Return) and twin.value is not None:
            twin.value = ast.Constant(None)
        else:
            continue
        if ast.dump(node) != ast.dump(twin):
            yield ast.unparse(changed)


def _spread(items: list[str], n: int) -> list[str]:
    return [items[i * len(items) // n] for i in range(n)] if len(items) > n else items


@pytest.fixture(scope="module")
def found() -> dict[str, list[Execution]]:
    """What came of the reference solution of each problem, and then of some mutants of it."""
    if (problem := available()) is not None:
        pytest.skip(problem)
    with Pool(workers=2, limits=Limits(wall_s=1.5, cpu_s=1.5)) as pool:
        out: dict[str, list[Execution]] = {}
        programs = [
            (row["id"], Program(source, row["gold"]["tests"], row["gold"]["entry_point"]))
            for row in PROBLEMS
            for solution in [row["gold"]["solution"]]
            for source in (solution, *_spread(list(mutants(solution)), MUTANTS))
        ]
        for (slug, _), done in zip(programs, pool.map(program for _, program in programs), strict=True):
            out.setdefault(slug, []).append(done)
    return out


@pytest.mark.parametrize("slug", IDS)
def test_the_reference_passes_and_wrong_solutions_fail(slug: str, found: dict[str, list[Execution]]) -> None:
    reference, *wrong = found[slug]
    assert reference.passed, reference
    assert wrong
    assert any(done.outcome in ("failed", "error", "timeout") for done in wrong)


def test_the_tests_catch_most_of_what_is_wrong(found: dict[str, list[Execution]]) -> None:
    """A few mutants mean the same as the original (``size > 0`` where size is never 0), so not all can be caught."""
    wrong = [done for _, *mutated in found.values() for done in mutated]
    assert sum(not done.passed for done in wrong) / len(wrong) > 0.85


def test_the_set_is_whole() -> None:
    splits = Counter(problem["split"] for problem in PROBLEMS)
    assert len(set(IDS)) == len(IDS) >= 48
    assert splits["train"] >= 12
    assert splits["test"] >= 24
    assert splits["fresh"] >= 12
    assert len(promptsets.shipped("python")) == len(PROBLEMS)


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_a_problem_names_its_function_and_hides_most_of_its_tests(problem: dict[str, Any]) -> None:
    gold = problem["gold"]
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", problem["id"])
    assert f"`{gold['entry_point']}(" in problem["prompt"]
    asserts = [line.strip() for line in gold["tests"].splitlines() if "assert" in line]
    assert len(asserts) >= 6
    shown = [line for line in asserts if line.removeprefix("assert candidate") in problem["prompt"]]
    assert len(shown) <= len(asserts) / 2
    assert problem["tags"]
