"""``exact`` and ``numeric``: what counts as the answer, and what counts as the same."""

from __future__ import annotations

from typing import Any

import pytest

from counterclaim.lab.scorers.cards import card, item_of
from counterclaim.lab.scorers.oracles import exact, normalise_answer, numbers_in, numeric, stated_answer
from counterclaim.registry import Reading, Scorer, Tools


def read(scorer: Scorer, text: str, **gold: Any) -> Reading:
    (reading,) = scorer.read(item_of(card("What is it?", text, {}, gold=gold)), Tools())
    return reading


@pytest.mark.parametrize(
    ("text", "gold", "right"),
    [
        ("paris", "Paris", True),
        ("**Paris.**", "paris", True),
        ("The Eiffel Tower", "Eiffel tower", True),
        ("It is Paris, of course.", "Paris", True),
        ("It is Parisian.", "Paris", False),
        ("It is not Paris.", "Paris", False),
        ("It is Lyon rather than Paris.", "Paris", False),
        ("Not Lyon: Paris.", "Paris", True),
        ("I thought of Paris.\nAnswer: Lyon", "Paris", False),
        ("Some say Lyon. The answer is Paris. It lies on the Seine.", "Paris", True),
        ("\\boxed{x^{2}}", "x^{2}", True),
        ("Café", "Cafe\u0301", True),
        ("3.5", "3.5", True),
        ("35", "3.5", False),
        ("-2", "2", False),
        ("", "Paris", False),
        ("<think>Paris</think>Lyon", "Paris", False),
        ("<think>It is Paris", "Paris", False),
        ("八", "八", True),
    ],
)
def test_exact(text: str, gold: str, right: bool) -> None:
    assert read(exact, text, answer=gold).value == float(right)


@pytest.mark.parametrize(
    ("text", "answer", "choices", "right"),
    [
        ("It is tin.", "tin", ["tin", "lead"], True),
        ("It is tin or lead.", "tin", ["tin", "lead"], False),
        ("Tin, not lead.", "tin", ["tin", "lead"], True),
        ("white lead", "white lead", ["lead", "white lead"], True),
        ("It is white lead.", "white lead", ["lead", "white lead"], True),
        ("B", "B", list("ABCD"), True),
        ("(b)", "B", list("ABCD"), True),
        ("B) the second", "B", list("ABCD"), True),
        ("The answer is B, because it fits.", "B", list("ABCD"), True),
        ("A good choice is option C.", "B", list("ABCD"), False),
        ("A good choice is option B.", "B", list("ABCD"), True),
        ("Not a letter at all", "A", list("ABCD"), False),
        ("3", "3", [1, 2, 3], True),
        ("gold", "tin", ["tin", "lead"], False),
    ],
)
def test_exact_with_choices(text: str, answer: str, choices: list[Any], right: bool) -> None:
    assert read(exact, text, answer=answer, choices=choices).value == float(right)


def test_a_wrong_choice_is_told_from_no_answer() -> None:
    gold = {"answer": "tin", "choices": ["tin", "lead"]}
    assert "the choice 'lead' is named" in str(read(exact, "It is lead.", **gold).evidence)
    assert "no answer that is known" in str(read(exact, "I would rather not say.", **gold).evidence)
    assert read(exact, "  ", **gold).evidence == "the answer is empty"


@pytest.mark.parametrize(
    ("text", "answer", "right"),
    [
        ("42", 42, True),
        ("It takes 6 × 7 = 42 steps.", 42, True),
        ("42 steps, and then 3 more.", 42, False),
        ("The answer is 42. It took 3 tries.", 42, True),
        ("The final answer is: $42$.", 42, True),
        ("#### 1,234", 1234, True),
        ("\\boxed{\\frac{3}{4}}", 0.75, True),
        ("\\(\\boxed{42}\\) after 7 steps", 42, True),
        ("1,234.5", 1234.5, True),
        ("1,23", 123, False),
        ("-7", -7, True),
        ("−7", -7, True),
        ("5-7", 7, True),
        ("- 18", 18, True),
        ("7", -7, False),
        ("3/4", "0.75", True),
        ("2 1/2 cups", 2.5, True),
        ("75%", 0.75, True),
        ("75 percent", "75%", True),
        ("75", "75%", True),
        ("0.75", "75 %", True),
        ("7.5%", 0.75, False),
        ("100%", "1%", False),
        ("$18", 18, True),
        ("-$18", -18, True),
        ("1.5e3", 1500, True),
        ("0.3333333", "1/3", True),
        ("0.333", "1/3", False),
        ("5/0", 5, False),
        ("forty-two", 42, False),
        ("", 42, False),
        ("12", [11, 12], True),
        ("The answer is unknown, but 42 is close.", 42, True),
        ("9" * 400, 1, False),
    ],
)
def test_numeric(text: str, answer: Any, right: bool) -> None:
    assert read(numeric, text, answer=answer).value == float(right)


@pytest.mark.parametrize(("text", "right"), [("3.1", True), ("3.3", False)])
def test_a_stated_tolerance_is_absolute(text: str, right: bool) -> None:
    assert read(numeric, text, answer=3.14, tolerance=0.05).value == float(right)


@pytest.mark.parametrize(
    ("gold", "why"),
    [
        ({}, "no gold answer"),
        ({"answer": []}, "no gold answer"),
        ({"answer": "many"}, "holds no number"),
        ({"answer": 3, "tolerance": -1}, "no number of 0 or more"),
        ({"answer": 3, "tolerance": "big"}, "no number of 0 or more"),
    ],
)
def test_a_gold_that_cannot_be_used_leaves_the_item_unscored(gold: dict[str, Any], why: str) -> None:
    reading = read(numeric, "3", **gold)
    assert reading.value is None
    assert why in str(reading.unscored)


def test_the_parts() -> None:
    assert stated_answer("It is so.") is None
    assert stated_answer("Answer: a\nanswer: b.") == "b"
    assert stated_answer("The answer is 3.5. Done.") == "3.5"
    assert normalise_answer("  The  “Rock’n’Roll”, a 1,000-year  hit! ") == "rock'n'roll 1,000 year hit"
    assert normalise_answer("A") == "a"
    assert [number.value for number in numbers_in("From 3 to 4.5, or 1/2 of 10%")] == [3, 4.5, 0.5, 10]
