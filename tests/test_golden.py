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


@pytest.mark.parametrize(
    ("was", "now", "kinds"),
    [
        ({"p": 0.25}, {"p": 0.25 + 1e-12}, []),
        ({"p": 0.25}, {"p": 0.26}, ["numbers"]),
        ({"verdict": "REFUTED"}, {"verdict": "INVALID"}, ["numbers"]),
        ({"because": "It fell."}, {"because": "It went down."}, ["words"]),
        ({"because": "It fell by 0.2."}, {"because": "It fell by 0.3."}, ["numbers"]),
        ({"because": "It fell by 0.20."}, {"because": "It fell by 0.2."}, ["words"]),
        ({"how": "One reason is recorded."}, {}, ["words"]),
        ({"arms": {"control": 1}}, {"arms": {"control": 1, "treated": 2}}, ["numbers"]),
        ({"arms": [1, 2]}, {"arms": [1]}, ["numbers"]),
        ({"code_version": "1"}, {"code_version": "2"}, []),
    ],
)
def test_numbers_and_words_are_told_apart(golden: ModuleType, was: object, now: object, kinds: list[str]) -> None:
    assert [one.kind for one in golden._in_value("verdict.json", "", was, now, data=False)] == kinds


def test_sentences_of_models_are_data(golden: ModuleType) -> None:
    rows = ({"text": "The mill stands by the old river."}, {"text": "The mill stood by the old river."})
    assert [one.kind for one in golden._in_value("responses.jsonl", "", *rows, data=True)] == ["numbers"]
