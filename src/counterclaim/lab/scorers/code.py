"""Code tests: whether the program in an answer passes the tests of its prompt, run in the sandbox.

Gold is of one of two formats: that of HumanEval (``tests`` with a function ``check(candidate)``, ``entry_point``, and
``prompt``, the code that the answer may continue), or that of MBPP (``test_list`` of assert lines, ``test_setup_code``).
"""

from __future__ import annotations

import ast
import builtins
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from counterclaim.lab.sandbox import Program
from counterclaim.lab.scorers.cards import cards_of
from counterclaim.records import Json
from counterclaim.registry import Item, Range, Reading, Tools, scorer

_THINKING = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"^[ \t]*(```+|~~~+)[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*\1[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
_PYTHON = ("", "python", "py", "python3")


@dataclass(frozen=True, slots=True)
class Extracted:
    """The program that was found in an answer.

    Attributes:
        rule: which rule found it; ``none`` where none did.
        source: the program, "" where there is none.
    """

    rule: str
    source: str = ""


def extract(answer: str, entry_point: str | None, prompt: str = "") -> Extracted:
    """The program in an answer, by the first of these rules that gives Python that parses.

    1. ``fence-with-entry-point``: the last fenced block that defines the entry point.
    2. ``fence``: the last fenced block of Python that parses, alone or as a continuation of the prompt.
    3. ``whole-text``: the answer itself, where it parses and defines something.
    4. ``completion``: the prompt's code continued by the answer.
    5. ``indented-body``: the same with the answer indented as the body of the prompt's last function.
    6. ``none``.

    What a rule finds after ``fence-with-entry-point`` must define the entry point, where one is known. Blocks of
    ``<think>`` are taken out first, and an unclosed one to the end of the answer.

    Args:
        answer: the text of the answer.
        entry_point: name of the function that is wanted, where known.
        prompt: the code that the answer may continue; "" where the prompt is prose.
    """
    text = _THINKING.sub("", answer)
    fences = [textwrap.dedent(body) for _, language, body in _FENCE.findall(text) if language.lower() in _PYTHON]
    for body in reversed(fences):
        if entry_point is not None and entry_point in _defined(body):
            return Extracted("fence-with-entry-point", _with_imports(prompt, body))
    for rule, source in _others(text, fences, prompt):
        names = _defined(source)
        if names and (entry_point is None or entry_point in names):
            return Extracted(rule, _with_imports(prompt, source))
    return Extracted("none")


def _others(text: str, fences: list[str], prompt: str) -> Iterator[tuple[str, str]]:
    for body in reversed(fences):
        yield "fence", body
        if prompt:
            yield from (("fence", source) for source in _continuations(prompt, body))
    yield "whole-text", text
    if prompt:
        as_it_is, indented = _continuations(prompt, text)
        yield "completion", as_it_is
        yield "indented-body", indented


def _continuations(prompt: str, text: str) -> tuple[str, str]:
    """The prompt followed by a text as it is, and by the text as an indented body."""
    end = "" if prompt.endswith("\n") else "\n"
    body = textwrap.indent(textwrap.dedent(text.strip("\n")), "    ")
    return f"{prompt}{end}{_until_it_parses(prompt, text)}", f"{prompt}{end}{body}\n"


def _until_it_parses(prompt: str, text: str) -> str:
    """A continuation without the prose after it: lines are dropped from the first unindented one on, where that helps."""
    if _parses(f"{prompt}\n{text}"):
        return text
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if number and line[:1].strip() and _parses(f"{prompt}\n{''.join(lines[:number])}"):
            return "".join(lines[:number])
    return text


def _parses(source: str) -> bool:
    return _tree(source) is not None


def _tree(source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _defined(source: str) -> set[str]:
    """Names that some code defines at its top, by more than a docstring: functions, classes and assignments."""
    tree = _tree(source)
    names: set[str] = set()
    for node in tree.body if tree is not None else ():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            only = node.body[0] if len(node.body) == 1 else None
            is_stub = isinstance(only, ast.Expr) and isinstance(only.value, ast.Constant)
            names |= set() if is_stub else {node.name}
        elif isinstance(node, ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def _with_imports(prompt: str, source: str) -> str:
    """A program with the prompt's own imports and helpers before it, unless it contains the prompt."""
    tree = _tree(prompt)
    if not prompt or tree is None or source.startswith(prompt):
        return source
    own = _defined(source)
    kept = [
        ast.unparse(node)
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        or (isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in _defined(prompt) - own)
    ]
    return "\n".join([*kept, source])


def _tests_of(gold: Mapping[str, Json]) -> tuple[str, str, str | None] | None:
    """(setup, tests, entry point) of either format; None where there are no tests."""
    entry = gold.get("entry_point")
    entry = entry if isinstance(entry, str) and entry else None
    tests = gold.get("tests", gold.get("test", gold.get("test_list")))
    if isinstance(tests, list):
        tests = "\n".join(str(line) for line in tests)
    if not isinstance(tests, str) or not tests.strip():
        return None
    prompt = gold.get("prompt")
    code = prompt if isinstance(prompt, str) and _parses(prompt) else ""
    setup = str(gold.get("test_setup_code") or "")
    return f"{code}\n{setup}".strip(), tests, entry or _called(tests)


def _called(tests: str) -> str | None:
    """The function that assert lines call, where none of them defines it: the first name called in the first assert."""
    tree = _tree(tests)
    for node in ast.walk(tree) if tree is not None and "def check(" not in tests else ():
        if isinstance(node, ast.Assert):
            names = [
                call.func.id
                for call in ast.walk(node.test)
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
            ]
            own = [name for name in names if not hasattr(builtins, name)]
            return own[0] if own else None
    return None


@scorer(
    "code",
    version="1",
    about="Whether the program in the answer passes the tests of its prompt (1) or does not (0).",
    axes={"correct": Range(0, 1)},
    cards=cards_of("code"),
    needs=("sandbox", "tests"),
)
def code(item: Item, tools: Tools) -> list[Reading]:
    """Run the answer's program against the tests of the gold.

    An answer without a program is wrong, not unscored. Unscored are an answer that is missing, and one whose tests are
    themselves broken or want what the sandbox cannot give. The evidence is JSON: the extraction ``rule``, the
    ``outcome`` of the sandbox (``no code`` where there was nothing to run), its ``detail``, and ``unsafe`` where the
    program ran without a sandbox.
    """
    found = _tests_of(item.prompt.gold)
    if found is None:
        return [Reading("correct", unscored="the prompt has no tests")]
    if item.response.text is None:
        return [Reading("correct", unscored="there is no answer")]
    setup, tests, entry_point = found
    prompt = item.prompt.gold.get("prompt")
    program = extract(item.response.text, entry_point, prompt if isinstance(prompt, str) else "")
    if program.rule == "none":
        return [Reading("correct", 0.0, evidence=_evidence("none", "no code", "no rule found a program"))]
    done = tools.sandbox.run(Program(program.source, tests, entry_point, setup))
    evidence = _evidence(program.rule, done.outcome, done.detail, unsafe=done.unsafe)
    if done.outcome == "refused":
        return [Reading("correct", unscored=f"the tests cannot be run: {done.detail}", evidence=evidence)]
    return [Reading("correct", float(done.passed), evidence=evidence)]


def _evidence(rule: str, outcome: str, detail: str, unsafe: bool = False) -> str:
    found: dict[str, Json] = {"rule": rule, "outcome": outcome, "detail": detail}
    return json.dumps({**found, "unsafe": True} if unsafe else found, ensure_ascii=False)
