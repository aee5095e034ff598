"""The README and the pages under docs/ say what is so: commands, options, exit codes, links and code are tried or compared."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from counterclaim.cli import app
from counterclaim.cli.show import EXIT

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/cli.md", "docs/checks.md")


def block(mark: str) -> str:
    """The code block that follows an HTML comment."""
    found = re.search(rf"^<!-- {re.escape(mark)} -->\n```\w+\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert found is not None, mark
    return found[1]


@pytest.fixture(scope="module")
def generator() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        yield import_module("generate_docs")
    finally:
        sys.path.remove(str(ROOT / "scripts"))


@pytest.mark.parametrize("page", ["cli.md", "checks.md"])
def test_generated_pages_are_current(generator: ModuleType, page: str) -> None:
    committed = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert generator.make()[page] == committed, "run: python scripts/generate_docs.py"


def test_every_command_and_option_in_the_readme_exists(generator: ModuleType) -> None:
    reference = generator.cli_page()
    known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    spans = re.findall(r"`[^`\n]+`|^\s*counterclaim .*$", README, re.MULTILINE)
    used = {name for span in spans for name in re.findall(r"\bcounterclaim ([a-z]+)\b", span)}
    assert used <= known
    assert {"audit", "check", "report", "claim", "profile", "worlds", "bench", "kit", "list"} <= used
    ours = "\n".join(line for line in README.splitlines() if "pip install" not in line and "--log_samples" not in line)
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", ours)):
        assert f"`{option}" in reference, option


def test_exit_codes_are_those_of_the_command_line() -> None:
    for page in ("README.md", "ARCHITECTURE.md"):
        rows = (ROOT / page).read_text(encoding="utf-8").splitlines()
        for verdict, code in EXIT.items():
            assert any(verdict in row and re.search(rf"\| {code} \|", row) for row in rows if row.startswith("|")), (
                verdict
            )


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    file = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)\)", file.read_text(encoding="utf-8")):
        assert (file.parent / target).exists(), target


@pytest.mark.parametrize("command", ["example", "tests"])
def test_ci_takes_its_commands_from_the_readme(command: str) -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    function = re.search(r"^command_of\(\) \{.*?^\}", script, re.MULTILINE | re.DOTALL)
    assert function is not None
    assert f"command_of {command}" in script
    done = subprocess.run(
        ["bash", "-euc", f"{function[0]}\ncommand_of {command}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == block(f"command: {command}"), "one line each, just below its mark"
    assert done.stdout.startswith("python3 -m venv .venv && .venv/bin/pip install -q -c locks/")


def test_the_first_commands_last_step_ends_as_the_readme_says(tmp_path: Path) -> None:
    arguments = block("command: example").strip().rpartition("&&")[2].split()[1:-1]
    done = subprocess.run(
        [sys.executable, "-m", "counterclaim", *arguments, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4, done.stderr
    verdict = json.loads((tmp_path / "run" / "verdict.json").read_text(encoding="utf-8"))
    effect = verdict["effect"]
    told = " ".join(README.split())
    assert f"accuracy is {100 * effect['difference']['estimate']:.1f} points above" in told
    assert f"p = {effect['p']:.2g}" in told
    cut = next(c for c in verdict["checks"] if c["check"] == "truncation")["arms"]["control"]["cut"]
    assert f"{80 * cut:.0f} of the control's answers were cut" in told


def test_the_readmes_check_conforms() -> None:
    # in a process of its own: registering it here would show it to every other test
    ask = (
        "from counterclaim import kit\nprint([str(problem) for problem in kit.check_conformance(half_length, draws=3)])"
    )
    code = f"{block('plug-in')}\n{ask}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_readmes_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, source in (("base", "control"), ("tuned", "treated")):
        rows = (ROOT / "src" / "counterclaim" / "example" / f"{source}.jsonl").read_bytes()
        (tmp_path / f"{name}.jsonl").write_bytes(rows)
    monkeypatch.chdir(tmp_path)
    section = README.partition("## From Python")[2]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert code is not None
    exec(compile(code[1], "README.md", "exec"), {})
    assert (tmp_path / "runs" / "mine" / "report.html").is_file()


def test_the_locks_pin_what_the_project_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needs = {
        "base": project["dependencies"],
        "dev": [*project["dependencies"], *extras["dev"]],
        "all": [*project["dependencies"], *(need for extra in extras.values() for need in extra)],
    }
    for name, wanted in needs.items():
        lock = (ROOT / "locks" / f"{name}.txt").read_text(encoding="utf-8")
        assert re.fullmatch(r"([a-z0-9][\w.-]*(\[\w+\])?==\S+( ; .+)?\n)+", lock), f"{name}: pins and nothing else"
        pinned = {line.partition("==")[0] for line in lock.splitlines()}
        for need in wanted:
            package = re.split(r"[\[<>=]", need)[0].lower().replace("_", "-")
            assert package in pinned or package == "counterclaim", (name, package)
    assert "torch==2.13.0" in (ROOT / "locks" / "all.txt").read_text(encoding="utf-8")
