"""The verbs that need a model, as they are typed: planted models, offline."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., tuple[int, str, str]]

STUDY = """\
model = "world:clean/control"
out = "{out}"

[prompts]
set = "world:clean"
limit = 60

[decode]
max_new_tokens = 512

[treatment]
model = "world:clean/treated"

[score]
scorers = ["checklist", "svr"]
judge = "world:judge"

[target]
metric = "coverage"
direction = "increase"
margin = 0.02
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERCLAIM_CACHE", str(tmp_path / "cache"))


def study_file(tmp_path: Path) -> Path:
    file = tmp_path / "study.toml"
    file.write_text(STUDY.replace("{out}", str(tmp_path / "run")))
    return file


def generated(run_cli: Cli, folder: Path, *more: str) -> tuple[int, str, str]:
    return run_cli(
        "generate", "--model", "world:clean/control", "--prompts", "world:clean", "--limit", "60",
        "--max-new-tokens", "512", "--out", str(folder), *more,
    )  # fmt: skip


def only_json(done: tuple[int, str, str]) -> Any:
    code, out, err = done
    assert (code, err) == (0, "")
    return json.loads(out)


# run ------------------------------------------------------------------------------------------------------------


def test_a_new_study_file_can_be_read_and_is_not_written_over(run_cli: Cli, tmp_path: Path) -> None:
    from counterclaim.lab.config import load_study

    file = tmp_path / "new.toml"
    code, out, _ = run_cli("run", "--new", str(file))
    assert (code, f"counterclaim run {file}" in out.replace("\n", "")) == (0, True)
    assert load_study(file).arms[0].name == "control"
    file.write_text("mine")
    code, _, err = run_cli("run", "--new", str(file))
    assert (code, file.read_text()) == (2, "mine")
    assert "exists" in err
    only_json(run_cli("run", "--new", str(tmp_path / "other.toml"), "--json"))


def test_run_ends_in_a_verdict_its_exit_code_and_its_page(run_cli: Cli, tmp_path: Path) -> None:
    file = study_file(tmp_path)
    code, out, _ = run_cli("run", str(file))
    assert (code, "SUPPORTED" in out, str(tmp_path / "run" / "report.html") in out.replace("\n", "")) == (0, True, True)
    verdict = only_json(run_cli("run", str(file), "--json"))
    assert (verdict["verdict"], verdict["status"]) == ("SUPPORTED", "confirmatory")
    file.write_text(file.read_text().replace('"increase"', '"decrease"'))
    code, out, _ = run_cli("run", str(file), "--json")
    verdict = json.loads(out)
    assert (code, verdict["verdict"], verdict["status"]) == (1, "REFUTED", "exploratory")
    assert run_cli("check", str(tmp_path / "run"), "--json")[:2] == (code, out)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "no study file was given"),
        (("nowhere.toml",), "nowhere.toml"),
        (("a.toml", "--new", "b.toml"), "both a study file and --new"),
    ],
)
def test_run_says_what_is_wrong(run_cli: Cli, arguments: tuple[str, ...], says: str) -> None:
    code, out, err = run_cli("run", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err


# generate and score ---------------------------------------------------------------------------------------------


def test_answers_are_generated_scored_and_told_in_tables(run_cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code, out, err = generated(run_cli, folder)
    assert (code, err) == (0, "")
    assert f"counterclaim score {folder} --with NAME" in out.replace("\n", "")
    code, out, _ = run_cli("score", str(folder), "--with", "svr", "--with", "checklist", "--judge", "world:judge")
    assert code == 0
    assert {"score.svr", "coverage", "correct"} <= set(out.split())


def test_answers_and_scores_as_json(run_cli: Cli, tmp_path: Path) -> None:
    (arm,) = only_json(generated(run_cli, tmp_path / "run", "--arm", "base", "--json"))["arms"]
    assert (arm["arm"], arm["n"], arm["failed"]) == ("base", 60, 0)
    table = only_json(run_cli("score", str(tmp_path / "run"), "--with", "svr", "--budgets", "8,4,8", "--json"))[
        "scores"
    ]
    assert [row["arm"] for row in table if not row["tag"]] == ["base", "base@4", "base@8"]
    assert {row["mean"]["n"] for row in table if not row["tag"]} == {60}


def test_another_study_is_replaced_only_when_that_is_said(run_cli: Cli, tmp_path: Path) -> None:
    generated(run_cli, tmp_path / "run")
    code, _, err = generated(run_cli, tmp_path / "run", "--limit", "50")
    assert code == 2
    assert "replace it with --overwrite" in err
    (arm,) = only_json(generated(run_cli, tmp_path / "run", "--limit", "50", "--overwrite", "--json"))["arms"]
    assert arm["n"] == 50


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--samples", "2"), "greedy decoding gives the same answer"),
        (("--split", "validation"), "--split 'validation' is not one of"),
        (("--dtype", "int8"), "--dtype 'int8' is not one of"),
        (("--arm", "base@512"), "an arm cannot be called 'base@512'"),
        (("--tag", "nothing"), "no prompt of world:clean fits"),
        (("--model", "world:clean/nobody"), "has no arm 'nobody'"),
        (("--model", "world:cleen/control"), "no planted world"),
        (("--prompts", "cookin"), "did you mean cooking?"),
        (("--prompts", "nowhere.jsonl"), "there is no such file"),
        (("--adapter", "nowhere"), "nowhere: cannot be read"),
        (("--top-p", "5"), "--top-p 5 does not lie"),
    ],
)
def test_generate_says_what_is_wrong(run_cli: Cli, tmp_path: Path, more: tuple[str, ...], says: str) -> None:
    code, out, err = generated(run_cli, tmp_path / "run", *more)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ((), "no scorer was named"),
        (("--with", "svrr"), "there is no scorer 'svrr'"),
        (("--with", "checklist"), "checklist asks a judge, and none was named"),
        (("--with", "checklist", "--judge", "world:nobody"), "no planted world or judge"),
        (("--with", "code"), "code needs the tests of each prompt"),
        (("--with", "svr", "--budgets", "4,many"), "--budgets '4,many' is not a list"),
        (("--with", "svr", "--budgets", "512"), "the budget 512 is not smaller"),
        (("--with", "svr", "--prompts", "mcas"), "no prompt of mcas was answered"),
        (("--with", "nowhere.toml"), "nowhere.toml"),
    ],
)
def test_score_says_what_is_wrong_and_changes_nothing(
    run_cli: Cli, tmp_path: Path, more: tuple[str, ...], says: str
) -> None:
    generated(run_cli, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    code, out, err = run_cli("score", str(tmp_path / "run"), *more)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err
    after = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.name != "scores.journal"}
    assert after == before


@pytest.mark.parametrize("verb", ["score", "check"])
def test_a_folder_that_is_no_run_is_told(run_cli: Cli, tmp_path: Path, verb: str) -> None:
    more = ("--with", "svr") if verb == "score" else ()
    for folder in (tmp_path / "nowhere", tmp_path):
        (tmp_path / "notes.txt").touch()
        code, out, err = run_cli(verb, str(folder), *more)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "run folder" in err
    assert not (tmp_path / "nowhere").exists()


# judges, servers, lists -----------------------------------------------------------------------------------------


def test_a_sound_judge_is_trusted_and_a_crooked_one_is_not(run_cli: Cli, tmp_path: Path) -> None:
    cards = tmp_path / "cards.jsonl"
    sound = only_json(run_cli("judge-cards", "world:judge", "--with", "checklist", "--out", str(cards), "--json"))
    assert sound["trusted"] == ["checklist"]
    assert len(cards.read_text().splitlines()) == len(sound["cards"])
    code, out, _ = run_cli("judge-cards", "world:obedient-judge", "--with", "checklist")
    assert code == 1, out


def test_judge_cards_says_what_is_wrong_before_the_judge_is_asked(
    run_cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("counterclaim.lab.steps.validate", lambda *a, **k: pytest.fail("the judge was asked"))
    taken = tmp_path / "cards.jsonl"
    taken.write_text("mine")
    for arguments, says in (
        (("world:judge", "--with", "svr"), "svr asks no judge"),
        (("world:nobody",), "no planted world or judge"),
        (("world:judge", "--out", str(taken)), "--overwrite"),
    ):
        code, out, err = run_cli("judge-cards", *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert says in err
    assert taken.read_text() == "mine"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("world:judge", "--fault", "sulks"), "there is no fault 'sulks'"),
        (("world:judge", "--fault", "rejects"), "there is no fault 'rejects'"),
        (("world:judge", "--fault", "slow=never"), "the count is not a whole number"),
        (("world:nobody",), "no planted world or judge"),
    ],
)
def test_serve_says_what_is_wrong(run_cli: Cli, more: tuple[str, ...], says: str) -> None:
    code, out, err = run_cli("serve", *more, "--port", "0")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err


def test_serve_tells_where_it_is_and_ends_well_on_ctrl_c(run_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("counterclaim.testing.cli.time.sleep", interrupted)
    code, out, err = run_cli("serve", "world:judge", "--port", "0")
    assert (code, err) == (0, "")
    assert "http://127.0.0.1:" in out


def test_serve_tiny_names_every_model_that_it_serves(run_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("counterclaim.testing.cli.time.sleep", interrupted)
    code, out, err = run_cli("serve-tiny", "--port", "0", "--latency", "0.1", "--fault", "server-error=1")
    assert (code, err) == (0, "")
    assert re.search(r"http://127\.0\.0\.1:\d+/v1#MODEL", out)
    listed = [line.split()[0] for line in out.splitlines() if re.match(r"\w+:\S", line)]
    assert {"tiny:qwen3", "tiny:gemma4", "character:eager", "character:synthesizer"} <= set(listed)
    code, out, err = run_cli("serve-tiny", "--fault", "sulks", "--port", "0")
    assert (code, out) == (2, "")
    assert "there is no fault 'sulks'" in err


def test_tiny_models_scorers_and_prompts_are_listed(run_cli: Cli) -> None:
    assert "qwen3" in run_cli("tiny")[1]
    for what, name in (("scorers", "checklist"), ("prompts", "cooking"), ("dispositions", "Humble")):
        code, out, _ = run_cli("list", what)
        assert (code, name in out) == (0, True)


def test_a_log_hears_once_in_a_while_how_far_it_is(
    tmp_path: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = study_file(tmp_path)
    _, _, silent = run_cli("run", str(file))
    assert "answering" not in silent, "nothing took a minute"
    monkeypatch.setattr("counterclaim.lab.cli.show._LOG_EVERY", 0.0)
    _, _, heard = run_cli("run", str(file), "--out", str(tmp_path / "again"))
    assert re.search(r"answering, treated: \d+ of 120", heard)
    assert re.search(r"scoring with checklist\S*: \d+ of \d+ readings", heard)
