"""The README and the pages under docs/ say what is so: commands, options, exit codes, links and code are tried or compared."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from counterclaim.cli.application import VERBS
from counterclaim.cli.show import EXIT
from counterclaim.lab.config import load_series, load_study
from counterclaim.lab.prompts.select import choose_prompts
from counterclaim.lab.scorers import load_rubric, validate
from counterclaim.lab.scorers.judges import material_of
from counterclaim.lab.suite import find
from counterclaim.records import Json, Message, VerdictOutcome
from counterclaim.registry import Scorer
from test_scorers_delivery import LEFT_ALONE, MENDED_ON, confusion

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SCORERS = (ROOT / "docs" / "scorers.md").read_text(encoding="utf-8")
EXTEND = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
RUN = (ROOT / "docs" / "run.md").read_text(encoding="utf-8")
PAGES = (
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *(f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md"))),
)
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
STARTER = ROOT / "src" / "counterclaim" / "lab" / "example" / "study.toml"


def block(mark: str, page: str = README) -> str:
    """The code block that follows an HTML comment."""
    found = re.search(rf"^<!-- {re.escape(mark)} -->\n```\w+\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert found is not None, mark
    return found[1]


@pytest.fixture(scope="module")
def generator() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        yield import_module("generate_docs")
    finally:
        sys.path.remove(str(ROOT / "scripts"))


@pytest.mark.parametrize("page", ["cli.md", "checks.md", "scorers.md", "study.md", "teach.md", "series.md"])
def test_generated_pages_are_current(generator: ModuleType, page: str) -> None:
    committed = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert generator.make()[page] == committed, "run: python scripts/generate_docs.py"


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/audit.md",
        "docs/extend.md",
        "docs/ci.md",
        "docs/run.md",
        "docs/study.md",
        "docs/series.md",
        "docs/training.md",
        "docs/teach.md",
        "docs/fresh.md",
        "docs/edits.md",
        "docs/scorers.md",
        "docs/replicate.md",
        "docs/second-look.md",
    ],
)
def test_every_command_and_option_that_a_page_names_exists(generator: ModuleType, page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    reference = generator.cli_page()
    known = set(VERBS)
    commands = [
        words
        for span in re.findall(r"`[^`\n]+`|^\s*counterclaim .*$", text.replace("\\\n", " "), re.MULTILINE)
        for words in re.findall(r"\bcounterclaim ([a-z]+(?:-[a-z]+)*\b[^`]*)", span)
    ]
    used = {words.split()[0] for words in commands}
    assert used <= known
    for words in commands:
        section = reference.partition(f"\n### counterclaim {words.split()[0]}\n")[2].partition("\n##")[0]
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", words):
            assert f"`{option}" in section, words
    ours = "\n".join(
        line for line in text.splitlines() if not re.search("pip install|--log_samples|-m benchmarks", line)
    )
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", ours)):
        assert f"`{option}" in reference, option


def test_every_verb_has_its_place_in_a_page_of_prose() -> None:
    pages = [(ROOT / page).read_text(encoding="utf-8") for page in PAGES if page != "docs/cli.md"]
    for verb in VERBS:
        assert any(f"counterclaim {verb}" in page for page in pages), verb


def test_the_readme_is_short_enough_to_be_read() -> None:
    assert len(README.splitlines()) <= 200


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
    for path, _, anchor in re.findall(r"\]\(([^)#]*)(#([^)]*))?\)", file.read_text(encoding="utf-8")):
        target = file.parent / path if path else file
        assert target.exists(), path
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, anchor


def test_the_readme_leads_to_every_page() -> None:
    for page in sorted((ROOT / "docs").glob("*.md")):
        assert f"(docs/{page.name}" in README, page.name


def test_the_page_says_what_the_starting_study_file_does() -> None:
    plan = load_study(STARTER)
    section = RUN.partition("\n## ")[0]
    assert f"asks it {len(choose_prompts(plan.prompts))} questions" in " ".join(section.split())
    assert RUN.count(f'"{plan.arms[1].decode.system_prompt}"') == 2
    assert plan.arms[0].model.name in section


KEY = re.compile(r"^\| `([^`]+)` \| (?:required|—|`[^`]+`) \| (.*) \|$", re.MULTILINE)


@pytest.mark.parametrize(("page", "keys"), [("study.md", 150), ("teach.md", 40), ("series.md", 16)])
def test_a_page_on_a_file_has_every_key_once_with_its_meaning(generator: ModuleType, page: str, keys: int) -> None:
    found = KEY.findall(generator.make()[page])
    assert len(found) >= keys
    assert len({key for key, _ in found}) == len(found)
    assert all(len(meaning) > 3 for _, meaning in found)
    tables = dict(generator._tables(generator.FILES[page], ""))
    first = {kind: key for key, kind in reversed(tables.items())}
    expected = {
        f"{key}.{item.name}" for kind, key in first.items() for item in fields(kind)
        if f"{key}.{item.name}" not in tables and f"{key}.{item.name}[]" not in tables
    }  # fmt: skip
    assert {key.rpartition(".")[2] for key in expected} <= {key.rpartition(".")[2] for key, _ in found}


@pytest.mark.parametrize(("mark", "sentences"), [("improved on", MENDED_ON), ("left alone", LEFT_ALONE)])
def test_what_is_said_of_the_rules_of_delivery_is_measured(mark: str, sentences: dict[str, list[str]]) -> None:
    table = SCORERS.partition(f"<!-- delivery: {mark} -->")[2].partition("\n\n")[2].partition("\n\n")[0]
    found = confusion(sentences)
    rows = {label: tuple(found[label, read] for read in ("assert", "hedge")) for label in ("assert", "hedge")}
    assert f"| {sum(found.values())} sentences" in table
    for label, (asserts, hedges) in rows.items():
        assert f"| written as {label} | {asserts} | {hedges} |" in table


class Reader:
    """A judge of the rubric on the page: it goes by three signs in the response, or is deaf."""

    def __init__(self, deaf: bool) -> None:
        self.name = "deaf" if deaf else "reader"
        self.deaf = deaf

    def reply(self, messages: list[Message], schema: Json = None, *, attempt: int = 0) -> str:
        text = material_of(messages)["response"].lower()
        found = "named" if "(2010)" in text else "vague" if "studies show" in text or "experts" in text else "none"
        return json.dumps({"sources": "none" if self.deaf else found})


@pytest.fixture
def rubric(tmp_path: Path) -> Scorer:
    file = tmp_path / "sources.toml"
    file.write_text(block("rubric", SCORERS), encoding="utf-8")
    return load_rubric(file)


def test_the_rubric_on_the_page_works_and_its_cards_tell_a_deaf_judge(rubric: Scorer) -> None:
    assert validate(Reader(deaf=False), [rubric]).trusted == ("sources",)
    assert validate(Reader(deaf=True), [rubric]).trusted == ()


def test_the_scorer_on_the_page_conforms() -> None:
    section = EXTEND.partition("## A scorer")[2]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert code is not None
    ask = "from counterclaim.testing import kit\nprint([str(problem) for problem in kit.scorer_conformance(shouting)])"
    done = subprocess.run([sys.executable, "-c", f"{code[1]}\n{ask}"], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize("command", ["demo", "tests"])
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


def test_the_demo_is_told_as_it_is() -> None:
    chapters = load_series(find(Path("three-arcs"))).chapters
    told = " ".join(README.split())
    assert f"Of {NUMBERS[len(chapters)]} claims a naive comparison believes" in told
    standing = sum(VerdictOutcome.SUPPORTED in chapter.expected for chapter in chapters)
    assert f"{NUMBERS[standing].capitalize()} stand," in told
    models = {arm.model.name for chapter in chapters for arm in chapter.plan.arms}
    models |= {chapter.plan.steps.second_model or "" for chapter in chapters if chapter.plan.steps}
    assert models - {""} == {"tiny:qwen3", "tiny:llama", "tiny:gemma4"}


def test_the_example_audit_ends_as_the_readme_says(tmp_path: Path) -> None:
    arguments = block("example").strip().split()[1:-1]
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


def test_the_check_on_the_page_conforms() -> None:
    # in a process of its own: registering it here would show it to every other test
    ask = "from counterclaim.testing import kit\nprint([str(problem) for problem in kit.check_conformance(half_length, draws=3)])"
    code = f"{block('plug-in', EXTEND)}\n{ask}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_python_on_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, source in (("base", "control"), ("tuned", "treated")):
        rows = (ROOT / "src" / "counterclaim" / "example" / f"{source}.jsonl").read_bytes()
        (tmp_path / f"{name}.jsonl").write_bytes(rows)
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    exec(compile(block("python", page), "audit.md", "exec"), {})
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
