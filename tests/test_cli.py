"""The command line as a user meets it: exit codes, one screen, claim files, flags that make no sense."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import table_rows, write_rows
from counterclaim import __version__
from counterclaim.cli import application

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., list[str]]:
    """Two result files of n prompts with the given accuracies, as flags."""

    def make(before: float, after: float, n: int = 120, **treated: Any) -> list[str]:
        flags = []
        for arm, share, more in (("control", before, {}), ("treated", after, treated)):
            rows = table_rows(n, lambda i, share=share: int(i % 20 < 20 * share), arm, **more)
            flags += [f"--{arm}", str(write_rows(tmp_path / f"{arm}.jsonl", rows))]
        return flags

    return make


def test_supported_is_0(run_cli: Cli, files: Any) -> None:
    code, out, err = run_cli("audit", *files(0.4, 0.8), "--metric", "accuracy")
    assert (code, err) == (0, "")
    assert "SUPPORTED" in out
    assert "+0.400" in out
    assert "exact McNemar" in out


def test_refuted_is_1(run_cli: Cli, files: Any) -> None:
    code, out, _ = run_cli("audit", *files(0.8, 0.4), "--metric", "accuracy")
    assert code == 1
    assert "REFUTED" in out
    assert "wrong side of zero" in " ".join(out.split())


def test_inconclusive_is_3(run_cli: Cli, files: Any) -> None:
    code, out, _ = run_cli("audit", *files(0.4, 0.5, n=20), "--metric", "accuracy")
    assert code == 3
    assert "What to do next" in out


def test_invalid_is_4(run_cli: Cli, files: Any) -> None:
    cut = files(0.4, 0.8, finish_reason=lambda i: "length" if i % 2 else "stop")
    code, out, _ = run_cli("audit", *cut, "--metric", "accuracy")
    assert code == 4
    assert "treated 50 % cut" in " ".join(out.split())


def test_bad_input_is_2(run_cli: Cli) -> None:
    code, out, err = run_cli("audit", "--control", "none.jsonl", "--treated", "none.jsonl", "--metric", "accuracy")
    assert (code, out) == (2, "")
    assert err.startswith("counterclaim: none.jsonl: ")


def test_json_and_screen_end_alike(run_cli: Cli, files: Any) -> None:
    flags = files(0.8, 0.4)
    code, out, err = run_cli("audit", *flags, "--metric", "accuracy", "--json")
    verdict = json.loads(out)
    assert (code, verdict["verdict"], err) == (1, "REFUTED", "")


def test_direction_follows_the_metric_unless_told(run_cli: Cli, files: Any) -> None:
    code, _, _ = run_cli("audit", *files(0.8, 0.4), "--metric", "accuracy", "--direction", "decrease")
    assert code == 0
    labels = files(0.5, 0.5, delivery=lambda i: "hedge" if i % 2 else "assert")
    rows = table_rows(120, lambda i: int(i % 20 < 10), delivery="assert")
    write_rows(Path(labels[1]), rows)
    _, out, _ = run_cli("audit", *labels, "--metric", "assertion_asymmetry", "--json")
    assert json.loads(out)["effect"]["direction"] == "decrease"


def test_a_claim_is_written_frozen_and_tested(run_cli: Cli, files: Any, tmp_path: Path) -> None:
    path = tmp_path / "claim.toml"
    flags = ("--metric", "accuracy", "--margin", "0.1", "--out", str(path))
    code, out, _ = run_cli("claim", *flags, "--guard", "hallucination_rate=0.02")
    assert code == 0
    assert "freeze it before you look" in out
    assert 'better = "lower"' in path.read_text()
    assert run_cli("claim", *flags)[0] == 2
    assert run_cli("claim", *flags, "--overwrite")[0] == 0
    code, out, _ = run_cli("claim", "--freeze", str(path))
    assert code == 0
    assert json.loads((tmp_path / "claim.toml.lock").read_text())["claim_hash"] in out
    code, out, err = run_cli("claim", "--freeze", str(path))
    assert code == 2
    assert "the file exists" in err
    code, out, _ = run_cli("audit", *files(0.4, 0.8), "--claim", str(path))
    assert code == 0
    assert "(confirmatory)" in out


def test_a_new_claim_goes_the_better_way(run_cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "claim.toml"
    run_cli("claim", "--metric", "assertion_asymmetry", "--out", str(path))
    assert 'direction = "decrease"' in path.read_text()


SENSELESS = [
    (["--metric", "accuracy", "--margin", "-0.1"], "--margin -0.1 is not a positive number"),
    (["--metric", "accuracy", "--margin", "nan"], "--margin nan is not a positive number"),
    (["--metric", "accuracy", "--alpha", "5"], "--alpha 5 does not lie between 0 and 1"),
    (["--metric", "accuracy", "--level", "95"], "--level 95 does not lie between 0 and 1"),
    (["--metric", "accuracy", "--direction", "up"], "--direction 'up' is not one of increase, decrease"),
    (["--metric", "accuracy", "--guard", "coverage=much"], "the allowed loss is not a number"),
    (["--metric", "accuracy", "--guard", "coverage=0.1"], "needs coverage"),
    (["--metric", "accuracy", "--pair-by", "position"], "--pair-by 'position' is not one of prompt, id"),
    (["--metric", "accuracy", "--require", "everything"], "requires checks that do not exist: everything"),
    (["--metric", "accuracy", "--varies", "mood"], "varies settings that do not exist: mood"),
    (["--metric", "accuracy", "--same-construct", "correct"], "names one label only"),
    (["--metric", "accuracy", "--arm", "placebo"], "--arm 'placebo' is not NAME=VALUE"),
    (["--metric", "accuracy", "--paired", "both=3"], "--paired goes with --counts only"),
    (["--metric", "accuracy", "--cut", "control=0/3"], "--cut goes with --counts only"),
    (["--metric", "accuracy", "--counts", "control=1/3", "treated=2/3"], "together with result files"),
    (["--metric", "accuracy", "--example"], "--example was given together with result files"),
    (["--metric", "accuracy", "--format", "xml"], "there is no format 'xml'"),
    (["--metric", "tone"], "there is no metric 'tone'"),
    ([], "no metric was named"),
    (["--claim", "none.toml"], "no such claim file"),
    (["--claim", "none.toml", "--margin", "0.1"], "both --claim and --margin were given"),
    (["--claim", "none.toml", "--metric", "accuracy"], "both --claim and --metric were given"),
]


@pytest.mark.parametrize(("flags", "said"), SENSELESS)
def test_flags_that_make_no_sense(run_cli: Cli, files: Any, tmp_path: Path, flags: list[str], said: str) -> None:
    given = files(0.4, 0.8, n=20)
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run_cli("audit", *given, *flags, "--out", str(tmp_path / "run"))
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


COUNTS = [
    (["control=40/120", "treated=130/120"], [], "'treated=130/120' is not ARM=K/N"),
    (["control=40/120", "treated=0/0"], [], "is not ARM=K/N"),
    (["control=40/120", "treat=55/120"], [], "does not name control and treated"),
    (["control=40", "treated=55"], [], "is not ARM=K/N"),
    (["control=40/120", "treated=55/120"], ["--paired", "both=41"], "both=K with K from 0 to 40"),
    (["control=40/120", "treated=55/100"], ["--paired", "both=31"], "both arms need the same n"),
    (["control=40/120", "treated=55/120"], ["--paired", "neither=3"], "does not fit the counts"),
    (["control=40/120", "treated=55/120"], ["--cut", "control=0/100"], "does not fit --counts"),
    (["control=40/120", "treated=55/120"], ["--cut", "others=0/120"], "does not fit --counts"),
    (["control=40/120", "treated=55/120"], ["--guard", "accuracy=0.1"], "need per-item results"),
    (["control=40/120", "treated=55/120"], ["--train-data", "x.jsonl"], "together with result files"),
]


@pytest.mark.parametrize(("pair", "flags", "said"), COUNTS)
def test_counts_that_cannot_be(run_cli: Cli, pair: list[str], flags: list[str], said: str) -> None:
    code, out, err = run_cli("audit", "--counts", *pair, *flags)
    assert (code, out) == (2, "")
    assert said in err


PLUG_IN = """
import numpy as np
from counterclaim import metric


@metric("brier", about="squared distance of confidence from the truth", axes=("score.sure", "correct"), better="lower")
def brier(sure, correct):
    return (sure - correct) ** 2


@metric("sure_and_right", about="share of right answers that assert", axes=("correct", "delivery"), kind="ratio", label="assert")
def sure_and_right(cells):
    with np.errstate(invalid="ignore"):
        return cells[..., 0] / (cells[..., 0] + cells[..., 1])
"""


def test_a_metric_of_a_loose_file_is_claimed_about(run_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "my_metrics.py").write_text(PLUG_IN)
    for arm, sure in (("control", 0.5), ("treated", 0.9)):
        rows = table_rows(
            80, lambda i: int(i % 10 > 0), arm, sure=sure, delivery="assert" if arm == "treated" else "hedge"
        )
        write_rows(tmp_path / f"{arm}.jsonl", rows)
    flags = [f"--{arm}={tmp_path / arm}.jsonl" for arm in ("control", "treated")]
    flags += ["--map", "score.sure=sure", "--plugins", str(tmp_path / "my_metrics.py"), "--out", str(tmp_path / "run")]
    program = IMPORTED.replace("except SystemExit:", "except SystemExit:\n    sys.exit()")
    verdict = json.loads(alone(program, "audit", *flags, "--metric", "brier", "--json"))
    effect = verdict["effect"]
    assert effect["direction"] == "decrease"
    assert effect["control"]["estimate"] == pytest.approx(0.25)
    assert effect["treated"]["estimate"] == pytest.approx((72 * 0.1**2 + 8 * 0.9**2) / 80)
    again = ["check", str(tmp_path / "run"), "--plugins", str(tmp_path / "my_metrics.py"), "--json"]
    assert json.loads(alone(program, *again)) == verdict
    flags[-1] = str(tmp_path / "ratio")
    effect = json.loads(alone(program, "audit", *flags, "--metric", "sure_and_right", "--json"))["effect"]
    assert (effect["control"]["estimate"], effect["treated"]["estimate"]) == (0, 1)
    assert "bootstrap" in effect["treated"]["method"], "no closed form was given"
    listed = alone(program, "list", "metrics", "--plugins", str(tmp_path / "my_metrics.py"))
    assert "squared distance of confidence" in " ".join(listed.split())
    code, _, err = run_cli("check", str(tmp_path / "run"), "--plugins", str(tmp_path / "none.py"))
    assert code == 2
    assert "none.py" in err


def test_counts_of_anything_are_judged(run_cli: Cli) -> None:
    cuts = ("--cut", "control=0/120", "--cut", "treated=0/120")
    code, out, _ = run_cli("audit", "--counts", "control=40/120", "treated=60/120", "--paired", "both=38", *cuts)
    assert code == 0
    code, out, _ = run_cli(
        "audit", "--counts", "control=11/105", "treated=8/106", "--metric", "recovery", *cuts[:0],
        "--cut", "control=0/105", "--cut", "treated=0/106", "--json",
    )  # fmt: skip
    assert code == 3
    assert json.loads(out)["effect"]["metric"] == "recovery"
    code, out, _ = run_cli(
        "audit", "--counts", "control=60/120", "treated=20/120", "--metric", "hallucination_rate", *cuts, "--json"
    )
    assert json.loads(out)["effect"]["direction"] == "decrease"
    assert code == 0
    assert run_cli("audit", "--counts", "control=40/120", "treated=60/120")[0] == 4


def test_profile_shows_the_table(run_cli: Cli, tmp_path: Path) -> None:
    rows = table_rows(40, lambda i: i % 2, delivery=lambda i: "hedge" if i % 4 == 0 else "assert")
    code, out, _ = run_cli("profile", str(write_rows(tmp_path / "x.jsonl", rows)))
    assert code == 0
    assert "40 responses, 0 unscored" in " ".join(out.split())
    assert "assertion_asymmetry" in out


def test_lists_name_what_there_is(run_cli: Cli) -> None:
    for what, name in (("formats", "lm-eval"), ("metrics", "assertion_asymmetry"), ("checks", "ruler/truncation")):
        code, out, _ = run_cli("list", what)
        assert code == 0
        assert name in out
    code, _, err = run_cli("list", "prices")
    assert code == 2
    assert "formats, metrics, checks, worlds" in err


def test_the_version_is_that_of_the_package(run_cli: Cli) -> None:
    assert run_cli("--version")[:2] == (0, f"counterclaim {__version__}\n")


@pytest.mark.parametrize("verb", application.VERBS)
def test_help_of_every_verb_has_an_example_and_gives_flags_no_type(run_cli: Cli, verb: str) -> None:
    code, out, _ = run_cli(verb, "-h")
    assert code == 0
    assert "Example" in out
    assert "<bool>" not in out
    assert out == run_cli(verb, "--help")[1]


def test_help_groups_the_verbs(run_cli: Cli) -> None:
    code, out, _ = run_cli("-h")
    assert code == 0
    panels = ("Judge results", "│ audit ", "Make results", "│ run ", "Read models", "│ probe ", "Trust", "│ worlds ")
    marks = [out.index(mark) for mark in panels]
    assert marks == sorted(marks)
    assert "<bool>" not in out


def test_a_mistyped_verb_is_answered_with_the_nearest(run_cli: Cli) -> None:
    code, _, err = run_cli("adit")
    assert code == 2
    assert "Did you mean 'audit'?" in err


IMPORTED = """
import json, sys
sys.argv[0] = "counterclaim"
from counterclaim.cli import main
try:
    main()
except SystemExit:
    print(json.dumps([name for name in sys.modules if name.startswith(("counterclaim.lab", "counterclaim.testing"))]))
"""


def alone(code: str, *arguments: str, **environment: str) -> str:
    """What a program prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("arguments", [("--help",), ("audit", "--help"), ("audit", "--example"), ()])
def test_help_and_audit_import_nothing_of_the_lab(arguments: tuple[str, ...]) -> None:
    assert json.loads(alone(IMPORTED, *arguments).splitlines()[-1]) == []


@pytest.mark.parametrize(
    ("typed", "completed"),
    [("counterclaim pro", ["profile", "probe-suite", "probe"]), ("counterclaim audit --tre", ["--treated"])],
)
def test_the_shell_completes_verbs_and_options(typed: str, completed: list[str]) -> None:
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    assert alone(IMPORTED, _COUNTERCLAIM_COMPLETE="complete_bash", **words).split()[: len(completed)] == completed


def test_completion_can_be_installed(tmp_path: Path) -> None:
    out = alone(IMPORTED, "--install-completion", "bash", HOME=str(tmp_path))
    assert "bash completion installed" in out
    assert "_COUNTERCLAIM_COMPLETE=complete_bash" in (tmp_path / ".bash_completions" / "counterclaim.sh").read_text()


def test_a_bug_of_ours_ends_in_one_sentence(run_cli: Cli, files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise KeyError("nobody\x1b[31m thought of this")

    monkeypatch.setattr("counterclaim.audit.judge", broken)
    flags = ("audit", *files(0.4, 0.8, n=20), "--metric", "accuracy")
    code, _, err = run_cli(*flags)
    assert code == 2
    assert "this is a bug in counterclaim, not in your input (KeyError: " in err
    assert "COUNTERCLAIM_DEBUG=1" in err
    assert err.count("\n") == 1
    assert "\x1b" not in err
    monkeypatch.setenv("COUNTERCLAIM_DEBUG", "1")
    with pytest.raises(KeyError):
        run_cli(*flags)


@pytest.mark.parametrize(
    ("error", "code", "said"), [(KeyboardInterrupt, 130, "interrupted"), (MemoryError, 2, "out of memory")]
)
def test_what_stops_a_run_from_outside(
    run_cli: Cli, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], code: int, said: str
) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(application, "app", stopped)
    got, _, err = run_cli("audit")
    assert got == code
    assert said in err


def test_the_installed_command_says_the_same(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from counterclaim.cli import main; main()",
        "audit",
        "--counts",
        "control=4/9",
        "treated=5/9",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 4
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []
