"""Write the example that ships with the package: the same 80 questions, answered by two invented models.

    python scripts/make_example.py

The control model reasons first and answers last; the treated model answers first. Both get the same share of answers
right when they may finish. The control model's longest answers run into the token budget before they come to the
point, so the treated model looks better although it knows no more. The output is the same on every run.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

from example_facts import FAMILIES, Fact, Family

FOLDER = Path(__file__).resolve().parent.parent / "src" / "counterclaim" / "example"
SEED = 11867
BUDGET = 72
"""Tokens per answer; here a token is a word or a punctuation mark."""

N_CUT = 15
N_BOTH_WRONG, N_ONLY_CONTROL_RIGHT, N_ONLY_TREATED_RIGHT = 11, 2, 1
"""Of the questions that both arms finish; on the ones that the control arm does not finish the treated arm is right."""

OPENERS = ("Let me think.", "Let us see.", "Step by step.", "First, what is known.")
LONG_OPENERS = (
    "Let me work through this carefully before I give an answer.",
    "I will go through what is known first and answer at the end.",
    "Before I answer, it helps to collect what is known about this.",
)
TURNS = ("So, to answer the question:", "Taken together:", "That leads to the answer:")
HEDGES = ("I am not sure, but I believe this:", "I may be wrong here, but I would say:")

_TOKEN = re.compile(r"\w+|[^\w\s]")
_HEDGE = re.compile(r"\b(not sure|may be wrong)\b")


def count_tokens(text: str) -> int:
    """Words and punctuation marks."""
    return len(_TOKEN.findall(text))


def cut(text: str, budget: int) -> tuple[str, bool]:
    """The first ``budget`` tokens of a text, and whether anything was lost."""
    ends = [match.end() for match in _TOKEN.finditer(text)]
    return (text, False) if len(ends) <= budget else (text[: ends[budget - 1]], True)


def is_correct(text: str, gold: str) -> int:
    """1 when the right answer occurs as whole words."""
    return int(re.search(rf"(?<!\w){re.escape(gold)}(?!\w)", text) is not None)


def delivery(text: str) -> str:
    """``hedge`` when the answer says that it may be wrong."""
    return "hedge" if _HEDGE.search(text) else "assert"


def _statement(family: Family, fact: Fact, right: bool) -> str:
    return family.statement.format(subject=fact.subject, answer=fact.answer if right else fact.wrong)


def _reasoned(rng: random.Random, family: Family, fact: Fact, right: bool, hedged: bool) -> str:
    """A short way to the answer, which comes last."""
    clues = rng.sample(fact.clues, rng.choice((1, 2)))
    turn = rng.choice(HEDGES if hedged else TURNS)
    return " ".join([rng.choice(OPENERS), *clues, turn, _statement(family, fact, right)])


def _rambling(rng: random.Random, family: Family, fact: Fact) -> str:
    """A long way to the right answer."""
    return " ".join(
        [rng.choice(LONG_OPENERS), *family.asides, *fact.clues, rng.choice(TURNS), _statement(family, fact, True)]
    )


def _direct(rng: random.Random, family: Family, fact: Fact, right: bool, hedged: bool) -> str:
    """The answer, then why."""
    clues = rng.sample(fact.clues, rng.choice((1, 2)))
    return " ".join([*([rng.choice(HEDGES)] if hedged else []), _statement(family, fact, right), *clues])


def _row(number: int, family: Family, fact: Fact, model: str, whole: str) -> dict[str, object]:
    text, was_cut = cut(whole, BUDGET)
    return {
        "id": f"q{number:02d}",
        "prompt": family.question.format(subject=fact.subject),
        "response": text,
        "gold": fact.answer,
        "finish_reason": "length" if was_cut else "stop",
        "n_tokens": count_tokens(text),
        "correct": is_correct(text, fact.answer),
        "delivery": delivery(text),
        "judge": "string-match",
        "judge_version": "1",
        "model": model,
        "decode.max_new_tokens": BUDGET,
        "decode.temperature": 0.0,
    }


def make() -> dict[str, str]:
    """File name to content."""
    rng = random.Random(SEED)
    questions = [(family, fact) for family in FAMILIES for fact in family.facts]
    rng.shuffle(questions)
    rambling = {i: _rambling(rng, *question) for i, question in enumerate(questions)}
    unfinished = [i for i, text in rambling.items() if not is_correct(cut(text, BUDGET)[0], questions[i][1].answer)]
    long = set(rng.sample(unfinished, N_CUT))
    rest = rng.sample(sorted(set(rambling) - long), N_BOTH_WRONG + N_ONLY_CONTROL_RIGHT + N_ONLY_TREATED_RIGHT)
    both_wrong = set(rest[:N_BOTH_WRONG])
    treated_wrong = both_wrong | set(rest[N_BOTH_WRONG : N_BOTH_WRONG + N_ONLY_CONTROL_RIGHT])
    control_wrong = both_wrong | set(rest[N_BOTH_WRONG + N_ONLY_CONTROL_RIGHT :])
    control, treated = [], []
    for i, (family, fact) in enumerate(questions):
        hedged = rng.random() < 0.15
        whole = rambling[i] if i in long else _reasoned(rng, family, fact, i not in control_wrong, hedged)
        control.append(_row(i + 1, family, fact, "invented-base", whole))
        whole = _direct(rng, family, fact, i not in treated_wrong, hedged)
        treated.append(_row(i + 1, family, fact, "invented-tuned", whole))
    return {"control.jsonl": _lines(control), "treated.jsonl": _lines(treated)}


def _lines(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in make().items():
        (FOLDER / name).write_text(text, encoding="utf-8", newline="\n")
