"""What was once made of small studies of every kind is still made of them, to the number and to the word."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = sorted(path.name for path in (ROOT / "tests" / "golden").iterdir() if path.is_dir())
HINT = """
If these WORDS are meant: python scripts/golden.py compare --accept-words, and list what is worded anew in CHANGELOG.md.
NUMBERS that differ are a mistake, unless the change was meant to move them: python scripts/golden.py make --from-records."""


@pytest.fixture(scope="module")
def golden() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        yield import_module("golden")
    finally:
        sys.path.remove(str(ROOT / "scripts"))


@pytest.mark.parametrize("name", FOLDERS)
def test_the_same_is_made_of_it(golden: ModuleType, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    found = golden.compare(name, tmp_path)
    assert not found, "\n".join(map(str, found[:20])) + HINT


def test_every_folder_is_in_the_table(golden: ModuleType) -> None:
    assert set(golden.names()) == set(FOLDERS)
