"""The words of the house: the patterns of CONTRIBUTING.md occur nowhere in the package and its documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TABLE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("| pattern | write |\n")[2]
PATTERNS = [row[0].replace("\\|", "|") for row in re.findall(r"^\| `(.+?)` \| (.+) \|$", TABLE, re.MULTILINE)]
PAGES = [
    *(ROOT / "src").rglob("*.py"), *(ROOT / "src").rglob("*.j2"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").rglob("*.py"),
    *(ROOT / "scripts").glob("*.py"), ROOT / "README.md", ROOT / "ARCHITECTURE.md",
]  # fmt: skip


def found(pattern: str, text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if re.search(pattern, line)]


def test_there_are_ten() -> None:
    assert len(PATTERNS) == 10


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_word_that_the_house_does_not_use_is_not_used(pattern: str) -> None:
    used = {str(page.relative_to(ROOT)): found(pattern, page.read_text(encoding="utf-8")) for page in PAGES}
    assert {page: lines for page, lines in used.items() if lines} == {}


@pytest.mark.parametrize(
    ("line", "is_caught"),
    [
        ("def _hold_name(path):", True),
        ("    told = summary(run)", True),
        ("it is told that", False),
        ("the measurement is crooked", True),
        ("Nobody knows how", True),
        ("mend that key", True),
        ("recommend", False),
        ("threshold_chosen_on", False),
    ],
)
def test_the_patterns_catch_what_they_are_for(line: str, is_caught: bool) -> None:
    assert any(found(pattern, line) for pattern in PATTERNS) is is_caught
