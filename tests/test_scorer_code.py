"""The ``code`` scorer: its cards, its extraction rules, both gold formats."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from counterclaim.lab.sandbox import Pool, available
from counterclaim.lab.scorers.code import code, extract
from counterclaim.records import CONTROL, Decode, FinishReason, ModelRef, Prompt, Provenance, Response
from counterclaim.registry import Card, Item, Reading, Tools
from counterclaim.stats import pass_at_k

STUB = 'import math\n\ndef area(r):\n    """The area of a circle."""\n'


@pytest.fixture(scope="module")
def tools() -> Iterator[Tools]:
    if (problem := available()) is not None:
        pytest.skip(problem)
    with Pool(workers=1) as pool:
        yield Tools(sandbox=pool)


def response_of(text: str | None) -> Response:
    return Response("p", CONTROL, 0, text, FinishReason.STOP, Provenance.RECORDED, Decode(64), ModelRef())


def read(tools: Tools, gold: dict[str, Any], text: str | None) -> Reading:
    return code.read(Item(Prompt.of_text("q", gold=gold), response_of(text)), tools)[0]


@pytest.mark.parametrize("card", code.cards, ids=[f"{i}-{card.kind}" for i, card in enumerate(code.cards)])
def test_a_card_reads_as_known(card: Card, tools: Tools) -> None:
    item = Item(card.prompt, replace(response_of(card.response), prompt_id=card.prompt.id))
    assert {r.axis: r.value for r in code.read(item, tools)} == card.expects


@pytest.mark.parametrize(
    ("answer", "prompt", "rule"),
    [
        ("```python\ndef area(r):\n    return r\n```\n```python\nprint(area(1))\n```", STUB, "fence-with-entry-point"),
        ("```python\n    return math.pi * r * r\n```", STUB, "fence"),
        ("def area(r):\n    return r", "", "whole-text"),
        ("    return math.pi * r * r\n", STUB, "completion"),
        ("    return math.pi * r * r\n\nThis is the area.", STUB, "completion"),
        ("return math.pi * r * r", STUB, "indented-body"),
        ("It is pi r squared.", STUB, "none"),
        ("", STUB, "none"),
        ("<think>def area(r):\n    return r", "", "none"),
        ("```python\ndef area(r):\n    return (r", "", "none"),
        ("```bash\npip install area\n```", "", "none"),
        ("~~~py\ndef area(r):\n    return r\n~~~", "", "fence-with-entry-point"),
    ],
)
def test_the_rule_that_finds_the_program(answer: str, prompt: str, rule: str) -> None:
    found = extract(answer, "area", prompt)
    assert found.rule == rule
    assert ("def area" in found.source) == (rule != "none")


def test_the_last_of_several_definitions_counts() -> None:
    answer = "```python\ndef f(): return 1\n```\nBetter:\n```python\ndef f(): return 2\n```"
    assert "return 2" in extract(answer, "f").source


def test_a_fenced_program_gets_the_imports_of_its_prompt(tools: Tools) -> None:
    gold = {"entry_point": "area", "prompt": STUB, "tests": "def check(candidate):\n    assert candidate(0) == 0\n"}
    reading = read(tools, gold, "```python\ndef area(r):\n    return math.pi * r * r\n```")
    assert reading.value == 1.0
    assert json.loads(reading.evidence or "") == {"rule": "fence-with-entry-point", "outcome": "passed", "detail": ""}


def test_a_helper_of_the_prompt_is_the_prompts_own_in_the_tests(tools: Tools) -> None:
    """HumanEval/32 judges a root by a helper that the answer could overwrite."""
    prompt = 'def poly(x):\n    return x - 3\n\n\ndef root():\n    """Where poly is zero."""\n'
    gold = {
        "entry_point": "root",
        "prompt": prompt,
        "tests": "def check(candidate):\n    assert poly(candidate()) == 0\n",
    }
    assert read(tools, gold, "    return 3\n").value == 1.0
    assert read(tools, gold, "```python\ndef poly(x):\n    return 0\n\ndef root():\n    return 8\n```").value == 0.0


def test_mbpp_tests_may_use_a_class_of_the_program(tools: Tools) -> None:
    gold = {"test_list": ["assert width(Pair(5, 24)) == 19", "assert width(Pair(1, 1)) == 0"], "test_setup_code": ""}
    program = "```python\nclass Pair:\n    def __init__(self, a, b):\n        self.a, self.b = a, b\n\ndef width(pair):\n    return pair.b - pair.a\n```"
    assert read(tools, gold, program).value == 1.0
    assert read(tools, gold, program.replace("pair.b - pair.a", "pair.b")).value == 0.0


@pytest.mark.parametrize(
    ("gold", "text", "reason"),
    [
        ({}, "x", "no tests"),
        ({"tests": "  ", "entry_point": "f"}, "x", "no tests"),
        ({"test_list": ["assert f() == 1"]}, None, "no answer"),
        ({"test_list": ["import numpy", "assert f() == 1"]}, "def f(): return 1", "numpy"),
        ({"tests": "def check(candidate:", "entry_point": "f"}, "def f(): return 1", "tests break"),
        ({"tests": "assert True", "entry_point": "f"}, "def f(): return 1", "call nothing"),
    ],
)
def test_what_cannot_be_tested_is_unscored_with_a_reason(
    gold: dict[str, Any], text: str | None, reason: str, tools: Tools
) -> None:
    reading = read(tools, gold, text)
    assert reading.value is None
    assert reason in (reading.unscored or "")


def test_pass_at_k() -> None:
    assert pass_at_k(10, 3, 1) == pytest.approx(0.3)
    assert pass_at_k(5, 2, 2) == pytest.approx(1 - 3 / 10)  # of ten pairs, three hold no right answer
    assert pass_at_k(4, 0, 4) == 0.0
    assert pass_at_k(4, 4, 1) == 1.0
    assert pass_at_k(3, 1, 3) == 1.0
    for n, c, k in ((3, 4, 1), (3, 1, 4), (3, 1, 0), (3, -1, 1)):
        with pytest.raises(ValueError, match="pass@k"):
            pass_at_k(n, c, k)
