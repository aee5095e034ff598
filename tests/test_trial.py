"""What a new user with real lm-eval output stumbled over once, held from then on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from conftest import question, write_rows

Cli = Callable[..., tuple[int, str, str]]


def lm_eval_rows(right: Callable[[int], bool], n: int = 40) -> list[dict[str, object]]:
    return [
        {
            "doc_id": i, "doc": {"question": question(i)}, "target": "7", "filter": "strict-match",
            "arguments": {"gen_args_0": {"arg_0": question(i), "arg_1": {"until": ["\n"], "max_gen_toks": 256}}},
            "resps": [["The answer is 7."]], "filtered_resps": ["7"], "metrics": ["exact_match"],
            "doc_hash": f"d{i}", "prompt_hash": f"p{i}", "target_hash": "t", "exact_match": float(right(i)),
        }
        for i in range(n)
    ]  # fmt: skip


def audited(run_cli: Cli, *flags: str) -> dict[str, dict[str, object]]:
    _, out, err = run_cli("audit", *flags, "--json")
    assert err == ""
    return {check["check"]: check for check in json.loads(out)["checks"]}


def test_renamed_samples_files_are_not_two_judges(run_cli: Cli, tmp_path: Path) -> None:
    base = write_rows(tmp_path / "base.jsonl", lm_eval_rows(lambda i: i % 2 == 0))
    tuned = write_rows(tmp_path / "tuned.jsonl", lm_eval_rows(lambda i: i % 3 == 0))
    checks = audited(run_cli, "--control", str(base), "--treated", str(tuned), "--metric", "exact_match")
    assert checks["judge-parity"]["outcome"] == "NOT_RUN"


def test_one_file_given_twice_is_noticed_although_its_answers_are_short(run_cli: Cli, tmp_path: Path) -> None:
    base = write_rows(tmp_path / "base.jsonl", lm_eval_rows(lambda i: i % 2 == 0))
    checks = audited(run_cli, "--control", str(base), "--treated", str(base), "--metric", "accuracy")
    assert checks["identity"]["outcome"] == "FAIL"
    assert "same file" in str(checks["identity"]["because"])


def test_a_score_of_zeros_and_ones_is_a_rate(run_cli: Cli, tmp_path: Path) -> None:
    files = [
        write_rows(
            tmp_path / f"{arm}.jsonl",
            [{"prompt": question(i), "response": "A whole answer.", "flag": int(i < k)} for i in range(30)],
        )
        for arm, k in (("control", 1), ("treated", 0))
    ]
    flags = ("--control", str(files[0]), "--treated", str(files[1]), "--metric", "flag")
    _, out, _ = run_cli("audit", *flags, "--json")
    effect = json.loads(out)["effect"]
    assert effect["treated"]["method"] == "Wilson"
    assert effect["control"]["low"] > 0
    assert effect["p_method"] == "exact McNemar"


def test_a_margin_in_percent_is_refused(run_cli: Cli, tmp_path: Path) -> None:
    base = write_rows(tmp_path / "base.jsonl", lm_eval_rows(lambda i: i % 2 == 0))
    flags = ("--control", str(base), "--treated", str(base), "--metric", "accuracy")
    for more in (("--margin", "5"), ("--guard", "assertion_rate=2"), ("--margin", "3", "--guard", "accuracy=0.1")):
        code, out, err = run_cli("audit", *flags, *more)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
    assert "0.05 for five points" in run_cli("audit", *flags, "--margin", "5")[2]
