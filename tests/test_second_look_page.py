"""docs/second-look.md shows what its commands print over the paper's released files, and says nothing that they do not."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest

from counterclaim.cli import app
from counterclaim.cli.application import import_verb
from counterclaim.cli.show import EXIT
from counterclaim.lab.config import load_study
from counterclaim.lab.studies import shipped_studies

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "second-look.md").read_text(encoding="utf-8")
SCREENS = re.findall(r"^```\n\$ (.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PICTURES = re.findall(r"\]\((images/second-look-[\w-]+\.svg)\)", PAGE)
COLUMNS = 100
LEFT_OUT = "…"

STATED = {
    "2604.11867": "the paper's number",
    "2026": "of its licence",
    "2,048": "tokens in paper-gemma4-profile",
    "500": "near a tick of the picture",
    "4": "the exit code",
    "32": "tokens of an answer for which a head was read",
    "508": "estimated tokens at which answers stop",
    "91": "answers that are asserted",
}  # fmt: skip
"""Numbers of the prose that no command prints as they stand. Each has a test of its own, but for the tick."""


def command_of(screen: str) -> tuple[list[str], list[str]]:
    """The arguments and the lines that are shown."""
    command, _, shown = re.sub(r"\\\n\s*", "", screen).partition("\n")
    return shlex.split(command), [line.rstrip() for line in shown.splitlines()]


@pytest.fixture(scope="module")
def folder(paper: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader stands: the released files in ``released/``, and what the page's Python writes."""
    here = tmp_path_factory.mktemp("second-look")
    (here / "released").symlink_to(paper, target_is_directory=True)
    program = re.search(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert program is not None
    subprocess.run([sys.executable, "-c", program[1]], cwd=here, check=True)
    return here


@pytest.fixture(scope="module")
def printed(folder: Path) -> dict[str, subprocess.CompletedProcess[str]]:
    """What every command of the page does, in the page's order."""
    done = {}
    for screen in SCREENS:
        program, *arguments = command_of(screen)[0]
        assert program == "counterclaim"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COLUMNS", str(COLUMNS))
            done[screen] = subprocess.run(
                [sys.executable, "-m", "counterclaim", *arguments], cwd=folder, capture_output=True, text=True, check=False
            )  # fmt: skip
    return done


@pytest.fixture(scope="module")
def ledger(folder: Path, printed: object) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "runs" / "paper" / "replication.json").read_text(encoding="utf-8"))
    return told


@pytest.fixture(scope="module")
def artist() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        return import_module("second_look_pictures")


def is_shown(shown: list[str], whole: list[str]) -> bool:
    """Whether the lines are those of the whole, in order, with lines left out where … stands and nowhere else."""
    at, may_skip = 0, False
    for line in shown:
        if line == LEFT_OUT:
            may_skip = True
            continue
        here = whole.index(line, at) if line in whole[at:] else -1
        if here < 0 or (here > at) != may_skip:
            return False
        at, may_skip = here + 1, False
    return may_skip == (at < len(whole))


def test_lines_can_be_left_out_only_where_it_is_said() -> None:
    whole = ["a", "b", "c", "d"]
    assert is_shown(["a", "b", LEFT_OUT, "d"], whole)
    assert is_shown([LEFT_OUT, "b", LEFT_OUT], whole)
    assert not is_shown(["a", "c", "d"], whole)
    assert not is_shown(["a", "b", "c"], whole)
    assert not is_shown(["a", LEFT_OUT, "b", "c", "d"], whole)
    assert not is_shown(["a", "b", "C", "d"], whole)
    assert not is_shown(["b", LEFT_OUT, "a"], whole)


@pytest.mark.parametrize("at", range(len(SCREENS)))
def test_the_page_shows_what_its_commands_print(at: int, printed: dict[str, subprocess.CompletedProcess[str]]) -> None:
    done = printed[SCREENS[at]]
    assert "Traceback" not in done.stderr
    whole = [line.rstrip() for line in done.stdout.strip("\n").splitlines()]
    shown = command_of(SCREENS[at])[1]
    assert is_shown(shown, whole), "\n".join(line for line in shown if line not in whole)


def test_every_option_of_the_page_exists() -> None:
    from typer.main import get_command

    for screen in SCREENS:
        (_, verb, *arguments), _ = command_of(screen)
        import_verb(verb)
        options = {name for option in get_command(app).commands[verb].params for name in option.opts}  # type: ignore[attr-defined]
        assert {word for word in arguments if word.startswith("--")} <= options, verb


def test_the_exit_codes_are_as_told(printed: dict[str, subprocess.CompletedProcess[str]]) -> None:
    codes = {command_of(screen)[0][1]: done.returncode for screen, done in printed.items()}
    assert codes.pop("audit") == EXIT["INVALID"]
    assert set(codes.values()) == {0}
    assert f"The exit code is {EXIT['INVALID']}." in PAGE


def prose() -> str:
    """The page without its code, pictures, links and headings, and with one kind of minus."""
    text = re.sub(r"^```.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`]*`|^#.*$|\]\([^)]*\)", " ", text, flags=re.MULTILINE)
    return text.replace("−", "-")


def numbers(text: str) -> set[str]:
    return {found.lstrip("+") for found in re.findall(r"(?<![\w.])[+-]?\d+(?:,\d{3})*(?:\.\d+)?(?!\w)", text)}


def test_every_number_of_the_prose_is_printed(
    printed: dict[str, subprocess.CompletedProcess[str]], folder: Path, ledger: dict[str, Any]
) -> None:
    whole = "\n".join(done.stdout for done in printed.values()).replace("−", "-")
    checks = (folder / "runs" / "chef" / "report.md").read_text(encoding="utf-8")
    told = numbers(whole.replace("/", " ")) | numbers(checks) | counted(ledger)
    steps = set(re.findall(r"\bstep (\d)\b", prose()))
    assert steps <= set(re.findall(r"^## (\d)\.", PAGE, re.MULTILINE))
    assert numbers(re.sub(r"\bstep \d\b", "", prose())) - told - set(STATED) == set()


def counted(ledger: dict[str, Any]) -> set[str]:
    """The page's counts of claims, made again."""
    moved = [row["word"] for row in ledger["claims"] if row["direction"] in ("increase", "decrease")]
    still = [row["word"] for row in ledger["claims"] if row["direction"] not in ("increase", "decrease")]
    gains, nulls = Counter(moved), Counter(still)
    sentence = (
        f"{len(moved)} of the {len(moved) + len(still)} claims say that something moved or differs; {gains['supported']} are "
        f"supported, {gains['inconclusive']} are open. {len(still)} say that nothing did, or not enough; "
        f"{nulls['supported']} are supported, {nulls['inconclusive']} are open."
    )  # fmt: skip
    assert sentence in " ".join(PAGE.split())
    unsettled = [row for row in ledger["claims"] if row["word"] in ("inconclusive", "not recomputable")]
    anew = [row for row in unsettled if row["settles"].startswith(("About ", "More seeds", "The gate on fresh items"))]
    told = (
        f"Of the {len(unsettled)} claims that are open or cannot be recomputed, {len(anew)} first need new answers. "
        f"For the other {len(unsettled) - len(anew)} somebody may have what is needed:"
    )  # fmt: skip
    assert told in " ".join(PAGE.split())
    return numbers(f"{sentence} {told}")


def test_every_open_row_that_needs_no_new_answers_is_in_the_table(ledger: dict[str, Any]) -> None:
    table = PAGE.partition("| what | which rows |")[2].partition("\n\n")[0]
    named = Counter(re.findall(r"`([a-z][\w.-]+)`", "".join(line.split("|")[2] for line in table.splitlines()[2:])))
    rows = {
        row["id"]
        for row in ledger["claims"]
        if row["word"] in ("inconclusive", "not recomputable")
        and not row["settles"].startswith(("About ", "More seeds", "The gate on fresh items"))
    }
    assert set(named) == rows
    thresholds = {row["id"]: re.search(r"at least (\d+) are,", row["settles"] or "") for row in ledger["claims"]}
    for line in table.splitlines():
        if "on each axis" in line:
            axes = re.findall(r"`([\w-]+)`", line)
            wanted = [found[1] for found in map(thresholds.__getitem__, axes) if found is not None]
            assert re.findall(r"\d+", line.split("|")[3]) == wanted


def test_what_is_asserted_does_not_hang_on_the_ties() -> None:
    tables = re.findall(r"^right +(\d+) +\d+\nwrong +(\d+) +\d+$", PAGE, re.MULTILINE)
    assert {int(right) + int(wrong) for right, wrong in tables} == {91}
    assert len(tables) == 2
    assert PAGE.count("asserts 91 of 100") == 2


def test_the_experiment_that_is_named_has_room_for_whole_answers() -> None:
    name = re.search(
        r"`counterclaim run (paper-[\w-]+)` asks the model of step 1, with ([\d,]+) tokens", " ".join(PAGE.split())
    )
    assert name is not None
    (arm, *_) = load_study(shipped_studies()[name[1]][0]).arms
    assert f"{arm.decode.max_new_tokens:,}" == name[2]


def test_the_two_ceilings_are_those_of_the_run(folder: Path, printed: object) -> None:
    lines = (folder / "runs" / "chef" / "checks.jsonl").read_text(encoding="utf-8").splitlines()
    (cut,) = [check for check in map(json.loads, lines) if check["check"] == "truncation"]
    ceilings = [re.search(r"about (\d+) estimated tokens", arm["how"]) for arm in cut["arms"].values()]
    assert "about {} and {} estimated tokens".format(*(found[1] for found in ceilings if found)) in " ".join(
        PAGE.split()
    )


def test_the_heads_were_read_at_the_end(paper: Path) -> None:
    told = json.loads((paper / "path_b_attribution_gemma4.json").read_text(encoding="utf-8"))
    assert f"the last {told['last_n_tokens']} tokens of an answer" in " ".join(PAGE.split())


def test_the_pictures_are_those_of_the_script(paper: Path, artist: ModuleType) -> None:
    figures = artist.figures(paper)
    assert {f"images/{name}.svg" for name in figures} == set(PICTURES)
    for name, figure in figures.items():
        committed = (ROOT / "docs" / "images" / f"{name}.svg").read_text(encoding="utf-8")
        assert artist.picture(figure, name) == committed, "run: python scripts/second_look_pictures.py RELEASED"


@pytest.mark.parametrize("picture", PICTURES)
def test_a_picture_stands_alone_in_light_and_dark(picture: str) -> None:
    text = (ROOT / "docs" / picture).read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert text.count("http") == 1, "nothing is fetched"
    assert "prefers-color-scheme: dark" in text
    space = {"svg": "http://www.w3.org/2000/svg"}
    assert root.findtext("svg:title", namespaces=space)
    style = root.findtext("svg:style", namespaces=space) or ""
    drawn = {name for part in root.iter() for name in part.get("class", "").split()} - {"figure", "point"}
    assert {name for name in drawn if f".{name}" not in style} == set()
    assert set(re.findall(r"var\((--\w+)\)", style)) <= set(re.findall(r"(--\w+):", style))


def test_the_licence_and_the_files_are_named(paper: Path) -> None:
    licence = (paper / "LICENSE").read_text(encoding="utf-8")
    year, holder = re.findall(r"Copyright \(c\) (\d+) (.+)", licence)[0]
    assert f"MIT licence, © {year} {holder}" in PAGE
    for name in re.findall(r"^\| `([\w.]+\.json)` \|", PAGE, re.MULTILINE):
        assert (paper / name).is_file(), name
