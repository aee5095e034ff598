"""Second answers beside the rows: found, compared, and silent where there are none."""

from __future__ import annotations

import json
from pathlib import Path

from counterclaim.importers import load

LONG = "The answer to this question needs a sentence of some length to be compared at all."


def _file(folder: Path, second: str, key: str = "sanity") -> Path:
    path = folder / "results.json"
    rows = [{"prompt": f"Question {i}?", "response": f"{LONG} Number {i}.", "correct": True} for i in range(4)]
    again = [{"prompt": f"Question {i}?", "resp": second if i else rows[0]["response"]} for i in range(3)]
    path.write_text(json.dumps({"rows": rows, key: again}))
    return path


def test_differing_second_answers_are_counted(tmp_path: Path) -> None:
    imported = load(
        _file(tmp_path, "A different answer, long enough to be told apart from the first one."), arm="control"
    )
    assert imported.source.second_answers == (3, 2)
    assert any("once more" in note for note in imported.notes)


def test_shortened_copies_are_the_same_answer(tmp_path: Path) -> None:
    imported = load(_file(tmp_path, LONG[:60]), arm="control")
    assert imported.source.second_answers == (3, 0)


def test_answers_too_short_to_compare_are_not_counted(tmp_path: Path) -> None:
    imported = load(_file(tmp_path, "No."), arm="control")
    assert imported.source.second_answers == (1, 0)
