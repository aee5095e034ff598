"""``counterclaim probe`` from the outside: the JSON, the screen, and one sentence for whatever is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Cli = Callable[..., tuple[int, str, str]]
FAST = ("--splits", "2", "--permutations", "20", "--C", "1")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Training items by id, fresh ones by position; the label can be read in both."""
    random = np.random.default_rng(0)
    y, t = np.arange(60) % 2 == 0, np.arange(90) % 3 == 0
    x, z = random.standard_normal((60, 5)), random.standard_normal((90, 5))
    x[:, 0] += 2 * y
    z[:, 0] += 2 * t
    np.savez(tmp_path / "train.npz", X=x, ids=np.array([f"t{i}" for i in range(60)]))
    np.savez(tmp_path / "fresh.npz", X=z)
    labels = {f"t{i}": bool(y[i]) for i in reversed(range(60))}
    (tmp_path / "train.json").write_text(json.dumps({"correct": labels}))
    rows = "".join(f"{i},{int(t[i])},{0.25 + 0.5 * t[i]},{int(i % 30 == 0)}\n" for i in range(90))
    (tmp_path / "fresh.csv").write_text("at,correct,coverage,cut\n" + rows)
    np.save(tmp_path / "style.npy", random.standard_normal((90, 2)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


TRAIN = ("--train", "train.npz", "--train-labels", "train.json:correct")
FRESH = ("--fresh", "fresh.npz", "--fresh-labels", "fresh.csv:correct")


def test_the_json_is_the_contracts(files: Path, run_cli: Cli) -> None:
    code, out, err = run_cli("probe", *TRAIN, *FRESH, *FAST, "--cut", "fresh.csv:cut", "--style", "style.npy", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["train"] == {"n": 60, "n_pos": 30, "d": 5}
    assert found["fresh"] == {"n": 90, "n_pos": 30}
    assert [row["C"] for row in found["C"]] == [1.0]
    assert found["C"][0]["fresh_auc"]["estimate"] > 0.8
    assert found["C"][0]["cv_auc"]["splits"] == 2
    by_name = {check["check"]: check["outcome"] for check in found["checks"]}
    assert by_name["fresh"] == by_name["endpoint"].replace("WARN", "PASS") == "PASS"


def test_the_screen_says_what_was_found(files: Path, run_cli: Cli) -> None:
    code, out, _ = run_cli("probe", *TRAIN, *FRESH, *FAST)
    assert code == 0
    for told in ("60 training items, 30 positive, 5 features; 90 fresh items, 30 positive", "AUC, fresh (DeLong)",
                 "asymmetry, peeked", "exclude an AUC above", "passed: contamination, fresh"):  # fmt: skip
        assert told in out
    assert "Cross-validation alone supports no claim" in run_cli("probe", *TRAIN, *FAST)[1]


def test_a_probe_that_fails_fresh_ends_in_0_and_says_why(files: Path, run_cli: Cli) -> None:
    shuffled = np.random.default_rng(3).permutation([True] * 30 + [False] * 60)
    np.save(files / "wrong.npy", shuffled)
    code, out, _ = run_cli("probe", *TRAIN, "--fresh", "fresh.npz", "--fresh-labels", "wrong.npy", *FAST)
    assert code == 0
    assert "FAIL  fresh" in out or "fresh" in out.partition("open:")[2]
    assert "underpowered" in out or "single output distribution" in out or "No failure mode" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*TRAIN, "--fresh", "fresh.npz"), "--fresh-labels is missing"),
        ((*TRAIN, "--fresh-labels", "fresh.csv:correct"), "--fresh is missing"),
        ((*TRAIN, "--cut", "fresh.csv:cut"), "--cut is about fresh items, and there are none"),
        (("--train", "no.npz", "--train-labels", "train.json:correct"), "there is no such file"),
        (
            ("--train", "train.npz", "--train-labels", "train.json:right"),
            "there is no list or object 'right' of labels (the keys are 'correct')",
        ),
        (("--train", "train.npz", "--train-labels", "train.json"), "no key is named (the keys are 'correct')"),
        (("--train", "fresh.npz", "--train-labels", "train.json:correct"), "has 90 rows and train.json:correct 60"),
        ((*TRAIN, "--C", "0"), "--C 0 is not a positive number"),
        ((*TRAIN, "--key", "Y"), "there is no array 'Y'"),
        ((*TRAIN, "--fresh", "fresh.npz", "--fresh-labels", "fresh.csv:coverage"), "is a score and not a label"),
        ((*TRAIN, "--folds", "31"), "31 folds cannot be made from 30 positives"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    files: Path, run_cli: Cli, arguments: tuple[str, ...], said: str
) -> None:
    code, out, err = run_cli("probe", *arguments)
    assert code == 2
    assert out == ""
    assert said in err
    assert "Traceback" not in err
    assert err.count("\n") == 1


def test_a_threshold_makes_labels_of_scores(files: Path, run_cli: Cli) -> None:
    np.savez(
        files / "scores.npz",
        score=np.where(np.arange(60) % 2 == 0, 0.5, 0.2),
        ids=np.array([f"t{i}" for i in range(60)]),
    )
    code, out, _ = run_cli(
        "probe", "--train", "train.npz", "--train-labels", "scores.npz:score", "--fresh", "fresh.npz",
        "--fresh-labels", "fresh.csv:coverage", "--label-threshold", "0.5", *FAST, "--json",
    )  # fmt: skip
    assert code == 0
    ties = next(check for check in json.loads(out)["checks"] if check["check"] == "label-ties")
    assert ties["outcome"] == "FAIL"  # counted with >, no training item is positive
    assert "0 of 90 (0 %) sit exactly at 0.5, in training 30 of 60 (50 %)" in ties["because"]


def test_items_that_were_not_scored_leave_everything_that_stands_beside_them(files: Path, run_cli: Cli) -> None:
    rows = json.dumps({"y": [None, None, *[i % 3 == 0 for i in range(2, 90)]]})
    (files / "some.json").write_text(rows)
    code, out, _ = run_cli(
        "probe", *TRAIN, "--fresh", "fresh.npz", "--fresh-labels", "some.json:y", "--cut", "fresh.csv:cut",
        "--style", "style.npy", "--second-labels", "fresh.csv:coverage", "--second-threshold", "0.5", *FAST, "--json",
    )  # fmt: skip
    assert code == 0
    found = json.loads(out)
    assert found["fresh"] == {"n": 88, "n_pos": 29}
    agreed = next(check for check in found["checks"] if check["check"] == "label-agreement")
    assert agreed["estimate"]["estimate"] == 1.0
    ended = next(check for check in found["checks"] if check["check"] == "endpoint")
    assert ended["estimate"]["estimate"] == pytest.approx(2 / 88)


def test_help_has_an_example(run_cli: Cli) -> None:
    code, out, _ = run_cli("probe", "--help")
    assert code == 0
    assert "counterclaim probe --train chef.npz" in " ".join(out.split())


def test_the_page_shows_what_its_commands_print(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Cli) -> None:
    page = (Path(__file__).parents[1] / "docs" / "probes.md").read_text(encoding="utf-8")
    program = page.partition("```python\n")[2].partition("```")[0]
    command, _, shown = page.partition("$ counterclaim ")[2].partition("```")[0].partition("\n100 ")
    monkeypatch.chdir(tmp_path)
    exec(program, {})
    code, out, _ = run_cli(*command.replace("\\\n", "").split())
    assert code == 0
    assert out.split() == f"100 {shown}".split()
