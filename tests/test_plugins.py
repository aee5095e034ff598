"""Plug-ins: what an installed package or a loose file registers is there for every verb, and a broken one ends none."""

from __future__ import annotations

import html
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import table_rows, write_rows
from counterclaim import registry
from counterclaim.errors import InputError
from counterclaim.testing.calibration import tally

PLUGINS = Path(__file__).parent / "plugins"
EXAMPLES = {
    "check.py": ("check", "checks", "cost/self-mention"),
    "scorer.py": ("scorer", "scorers", "shouting"),
    "importer.py": ("importer", "formats", "exchanges"),
    "metric.py": ("metric", "metrics", "tens_of_words"),
    "reward.py": ("reward", "rewards", "right-and-brief"),
    "backend.py": ("backend", "backends", "parrot"),
    "prompt_set.py": ("prompt set", "prompts", "sums"),
    "operator.py": ("operator", "operators", "louder"),
}
"""File to the kind of its plug-in, what `list` calls that kind, and the name in the list."""


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What is loaded from files within the test is forgotten after it."""
    kinds = [(kind, dict(kind.entries), dict(kind.plugged)) for kind in registry._KINDS]
    files = dict(registry._files)
    yield
    for kind, entries, plugged in kinds:
        kind.entries, kind.plugged = entries, plugged
    registry._files.clear()
    registry._files.update(files)


def command(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The real command line, run in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "counterclaim", *words],
        cwd=folder, env={**os.environ, "COUNTERCLAIM_CACHE": str(folder / "cache"), "COLUMNS": "200", **environment},
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip


# loose files


def test_every_kind_has_an_example() -> None:
    assert {kind for kind, _, _ in EXAMPLES.values()} == {kind.noun for kind in registry._KINDS}
    assert set(EXAMPLES) == {file.name for file in PLUGINS.glob("*.py")}


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("file", EXAMPLES)
def test_every_example_is_listed_with_its_file_and_conforms(
    file: str, run_cli: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    _, listed, name = EXAMPLES[file]
    code, out, err = run_cli("list", listed, "--plugins", str(PLUGINS / file))
    assert (code, err) == (0, "")
    assert f"(the file {PLUGINS / file})".replace(" ", "") in "".join(out.split())
    assert name in out
    results = tmp_path / "exchanges.jsonl"
    write_rows(results, [{"asked": f"Bell {i}?", "answered": "Tom", "ended": "stop", "mark": i} for i in range(5)])
    tried_on = [str(results)] if file == "importer.py" else []
    code, out, _ = run_cli("kit", name.rpartition("/")[2], *tried_on, "--plugins", str(PLUGINS / file), "--draws", "5")
    assert (code, out) == (0, "No problem was found.\n")


def test_plug_ins_of_several_files_work_together(tmp_path: Path) -> None:
    """A model of a plug-in answers prompts of another, a scorer of a third scores them, and a metric of a fourth is claimed."""
    files = [PLUGINS / f"{kind}.py" for kind in ("backend", "prompt_set", "scorer", "metric", "check")]
    plugged = [word for file in files for word in ("--plugins", str(file))]
    made = command(
        tmp_path, "generate", "--model", "parrot:grey", "--prompts", "sums", "--max-new-tokens", "9", "--out", "run", *plugged
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    scored = command(tmp_path, "score", "run", "--with", "shouting", "--json", *plugged)
    assert scored.returncode == 0, scored.stderr
    assert '"axis": "score.shouting", "value": 1.0' in (tmp_path / "run" / "scores.jsonl").read_text()
    for arm, first in (("control", 20), ("treated", 25)):
        rows = table_rows(60, lambda i: i % 2, arm)
        write_rows(tmp_path / f"{arm}.jsonl", [{**row, "score.length": first + i} for i, row in enumerate(rows)])
    words = [
        "audit",
        "--control",
        "control.jsonl",
        "--treated",
        "treated.jsonl",
        "--metric",
        "tens_of_words",
        "--margin",
        "0.1",
    ]
    audit = command(tmp_path, *words, "--require", "self-mention", "--json", *plugged)
    verdict = json.loads(audit.stdout)
    assert verdict["effect"]["difference"]["estimate"] == pytest.approx(0.5)
    assert [check["outcome"] for check in verdict["checks"] if check["check"] == "self-mention"] == ["PASS"]
    plain = command(tmp_path, *words)
    assert plain.returncode == 2
    assert "there is no metric 'tens_of_words'" in plain.stderr


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("jobs", [1, 2])
def test_planted_worlds_run_the_checks_of_plug_ins_also_in_worker_processes(jobs: int) -> None:
    registry.load_plugins([PLUGINS / "check.py"])
    table = tally(12, ["clean", "underpowered"], jobs=jobs)
    assert {row["world"]: row["checks"]["self-mention"] for row in table["worlds"]} == {
        "clean": {"PASS": 1.0}, "underpowered": {"INCONCLUSIVE": 1.0},
    }  # fmt: skip


@pytest.mark.usefixtures("forgotten")
def test_a_file_is_loaded_once_and_a_broken_one_is_named_with_the_line(tmp_path: Path) -> None:
    registry.load_plugins([PLUGINS / "scorer.py"])
    registry.load_plugins([PLUGINS / ".." / "plugins" / "scorer.py"])
    assert registry.plugin_of("scorer", "shouting") == f"the file {PLUGINS / 'scorer.py'}"
    with pytest.raises(InputError, match="there is no such plug-in file"):
        registry.load_plugins([tmp_path / "none.py"])
    broken = tmp_path / "broken.py"
    for text, problem in (
        ("x = 1\ny = x / 0\n", r"ZeroDivisionError: division by zero \(.*broken.py, line 2\)"),
        ("def f(:\n", r"SyntaxError: .*line 1\)"),
        ("from counterclaim import reward\n\nreward('correct', about='x')(lambda item, tools: 0.0)\n", r"registered already \(.*, line 3\)"),
        ("import sys\nsys.exit(3)\n", r"SystemExit: 3 \(.*, line 2\)"),
    ):  # fmt: skip
        broken.write_text(text)
        with pytest.raises(InputError, match=problem):
            registry.load_plugins([broken])


@pytest.mark.usefixtures("forgotten")
def test_of_a_file_that_breaks_nothing_stays_registered(tmp_path: Path) -> None:
    half = tmp_path / "half.py"
    half.write_text((PLUGINS / "scorer.py").read_text() + "\nraise RuntimeError('not finished')\n")
    with pytest.raises(InputError, match="not finished"):
        registry.load_plugins([half])
    assert "shouting" not in registry.scorers()
    half.write_text((PLUGINS / "scorer.py").read_text())
    registry.load_plugins([half])
    assert "shouting" in registry.scorers()


# installed packages


def installed(folder: Path, module: str, text: str) -> None:
    """Install a package of one module that is a plug-in."""
    (folder / f"{module}.py").write_text(text)
    info = folder / f"{module}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module.replace('_', '-')}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[counterclaim.plugins]\n{module[:4]} = {module}\n")


def test_an_installed_plug_in_is_there_for_every_verb(tmp_path: Path) -> None:
    installed(tmp_path, "loud_plugin", (PLUGINS / "scorer.py").read_text())
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    listed = command(tmp_path, "list", "scorers", PYTHONPATH=path)
    assert "(the plug-in 'loud' of loud-plugin)" in " ".join(listed.stdout.split())
    assert command(tmp_path, "kit", "shouting", PYTHONPATH=path).returncode == 0


def test_a_broken_plug_in_is_named_and_left_out_and_ends_no_command(tmp_path: Path) -> None:
    installed(tmp_path, "loud_plugin", (PLUGINS / "scorer.py").read_text())
    installed(tmp_path, "sick_plugin", (PLUGINS / "reward.py").read_text() + "\nimport no_such_module\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = command(tmp_path, "list", "rewards", PYTHONPATH=path)
    assert done.returncode == 0
    where = f"ModuleNotFoundError: No module named 'no_such_module' ({tmp_path / 'sick_plugin.py'}, line 11)"
    assert done.stderr == f"counterclaim: the plug-in 'sick' of sick-plugin is left out: {where}\n"
    assert "Left out: the plug-in 'sick' of sick-plugin" in done.stdout
    assert "right-and-brief" not in done.stdout
    write_rows(tmp_path / "rows.jsonl", table_rows(60, lambda i: i % 2))
    audit = command(
        tmp_path, "audit", "--control", "rows.jsonl", "--treated", "rows.jsonl", "--metric", "accuracy", "--out", "run",
        PYTHONPATH=path,
    )  # fmt: skip
    assert audit.returncode == 4, "it is one file twice"
    assert f"The plug-in 'sick' of sick-plugin is left out: {where}." in html.unescape(
        (tmp_path / "run" / "report.html").read_text()
    )
    worlds = command(tmp_path, "worlds", "--world", "clean", "--draws", "20", "--jobs", "2", "--json", PYTHONPATH=path)
    assert worlds.returncode == 0
    assert worlds.stderr.count("is left out") == 1, "the processes say nothing of their own"
    assert "shouting" in command(tmp_path, "list", "scorers", PYTHONPATH=path).stdout
