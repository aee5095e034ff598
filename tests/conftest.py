"""Builders of small evidence: two arms of answers with scores, bent by each test in one place."""

from __future__ import annotations

import json
import os

# Read once, when numpy is imported. Workers of pytest share the cores, and threads of small products that compete for them
# make these ten times slower.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from counterclaim.audit.effect import ArmCounts, Counts
from counterclaim.audit.evidence import Evidence
from counterclaim.records import ArmId, Claim, Decode, FinishReason, ModelRef, Prompt, Provenance, Response, Score

PAPER = Path(os.environ.get("COUNTERCLAIM_PAPER_DATA", Path(__file__).parents[2] / "shared" / "data" / "paper"))
PLANETS = "amber birch coral delta ember flint grove heron indigo jasper kelp lotus maple nectar onyx".split()
DECODE = Decode(256, temperature=0.0)
MODEL = ModelRef("toy/base", "r1", "float32")

Values = Sequence[float | str | None]


@pytest.fixture(scope="session")
def paper() -> Path:
    """The folder of the source paper's files."""
    if not (PAPER / "judge_v4_step16.json").is_file():
        pytest.skip("the paper's data folder is not beside the repository (COUNTERCLAIM_PAPER_DATA names another)")
    return PAPER


def question(i: int) -> str:
    """A prompt whose words are its own."""
    a, b, c = (PLANETS[(i * k + i // 15) % 15] for k in (1, 3, 7))
    return f"Question number{i}: how does the {a}{i} mill turn {b}{i} seed into {c}{i} oil?"


def answer(i: int, arm: str = "control") -> str:
    """An answer of two finished sentences that shares the question's words."""
    a, b, c = (PLANETS[(i * k + i // 15) % 15] for k in (1, 3, 7))
    return f"In the {a}{i} mill the {b}{i} seed is pressed into {c}{i} oil. The {arm} press takes {i % 7 + 2} hours."


def arm_of(
    name: str,
    scores: Mapping[str, Values],
    *,
    text: Callable[[int], str | None] | None = None,
    ids: Sequence[int] | None = None,
    sample: int = 0,
    replicate: str = "",
    decode: Decode = DECODE,
    model: ModelRef = MODEL,
    cut: Sequence[int] = (),
    unknown: Sequence[int] = (),
    scorer: str | Mapping[str, str] = "exact-match@1",
    reason: str = "no reply",
) -> tuple[list[Response], list[Score]]:
    """Answers of one arm to the questions ``ids`` (all by default) and their scores by axis; None is unscored."""
    n = len(next(iter(scores.values())))
    responses, marks = [], []
    for at, i in enumerate(ids if ids is not None else range(n)):
        prompt = Prompt.of_text(question(i))
        finish = FinishReason.UNKNOWN if i in unknown else FinishReason.LENGTH if i in cut else FinishReason.STOP
        words = answer(i, name) if text is None else text(i)
        known = None if finish is FinishReason.UNKNOWN else Provenance.RECORDED
        responses.append(
            Response(prompt.id, ArmId.parse(name), sample, words, finish, known, decode, model, 20, replicate)
        )
        for axis, values in scores.items():
            value = values[at]
            who = scorer if isinstance(scorer, str) else scorer.get(axis, "exact-match@1")
            marks.append(
                Score(prompt.id, ArmId.parse(name), sample, who, axis, value, reason if value is None else None)
            )
    return responses, marks


def evidence_of(
    *arms: tuple[list[Response], list[Score]],
    metric: str = "accuracy",
    margin: float = 0.1,
    direction: str = "increase",
    claim: Mapping[str, Any] | None = None,
    gold: Callable[[int], str] | None = None,
    split: Callable[[int], str] | None = None,
    draws: int = 500,
    **rest: Any,
) -> Evidence:
    """Evidence of some arms, with prompts for every question that they answer."""
    prompts = {}
    wanted = {r.prompt_id for responses, _ in arms for r in responses}
    for i in range(2_000):
        prompt = Prompt.of_text(question(i))
        if prompt.id in wanted:
            prompt = replace(prompt, gold={"answer": gold(i)} if gold else {}, split=split(i) if split else "test")
            prompts[prompt.id] = prompt
        if len(prompts) == len(wanted):
            break
    stated = Claim(metric, direction, margin, **(claim or {}))  # type: ignore[arg-type]  # tests pass the literal
    responses = [r for rows, _ in arms for r in rows]
    scores = [s for _, rows in arms for s in rows]
    return Evidence(stated, prompts, responses, scores, draws=draws, **rest)


def bits(ones: int, n: int) -> list[float]:
    """``ones`` ones spread evenly over n places."""
    return [float((i + 1) * ones // n - i * ones // n) for i in range(n)]


def two_arms(
    n: int = 100, before: float = 0.4, after: float = 0.8, *, evidence: Mapping[str, Any] | None = None, **rest: Any
) -> Evidence:
    """Accuracy ``before`` against ``after`` over n prompts; every right answer stays right where it can."""
    control = [float(i < before * n) for i in range(n)]
    treated = [float(i < after * n) for i in range(n)]
    return evidence_of(
        arm_of("control", {"correct": control}, **rest),
        arm_of("treated", {"correct": treated}, **rest),
        **(evidence or {}),
    )


def counts_only(control: int = 40, treated: int = 55, n: int = 120, **rest: Any) -> Evidence:
    """Evidence of which only counts are known."""
    claim = Claim("accuracy", "increase", 0.05)
    return Evidence(claim, {}, counts=Counts(ArmCounts(control, n), ArmCounts(treated, n), **rest))


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """A JSON-lines file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def table_rows(n: int, right: Callable[[int], object], arm: str = "control", **more: Any) -> list[dict[str, Any]]:
    """Rows of a plain table with everything that the ruler checks ask for."""
    return [
        {
            "prompt": question(i),
            "response": answer(i, arm),
            "correct": right(i),
            "finish_reason": "stop",
            "n_tokens": 20 + i % 5,
            "decode.max_new_tokens": 256,
            "decode.temperature": 0.0,
            **{key: value(i) if callable(value) else value for key, value in more.items()},
        }
        for i in range(n)
    ]


@pytest.fixture
def run_cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """The command line with these arguments: exit code, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        from counterclaim import cli

        monkeypatch.setattr("sys.argv", ["counterclaim", *arguments])
        monkeypatch.setenv("COLUMNS", "120")
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capsys.readouterr()
        code = left.value.code
        return (0 if code is None else int(code)), out, err

    return run
