"""Rules that a last reading found without a planted case of their own: what each must catch and let pass."""

from __future__ import annotations

from pathlib import Path

from counterclaim import Outcome
from counterclaim.audit.intake import AuditRequest, Options, evidence_of, import_study
from counterclaim.checks.arms import identity
from counterclaim.text.overlap import OverlapReport, PromptOverlap

from conftest import question  # isort: skip


def _file(folder: Path, arm: str, second: str | None) -> Path:
    import json

    rows = [
        {"prompt": question(i), "response": f"{arm} says something long about case {i}.", "correct": i % 2}
        for i in range(8)
    ]
    again = [{"prompt": row["prompt"], "resp": second or row["response"]} for row in rows[:4]]
    path = folder / f"{arm}.json"
    path.write_text(json.dumps({"rows": rows, "sanity": again}))
    return path


def _identity(folder: Path, second: str | None) -> Outcome:
    files = {arm: [_file(folder, arm, second)] for arm in ("control", "treated")}
    records = import_study(files, AuditRequest(metric="accuracy"), Options())
    return identity(evidence_of(records)).outcome


def test_second_answers_that_differ_are_warned_of(tmp_path: Path) -> None:
    assert _identity(tmp_path, "Quite another answer, long enough to be compared with the first.") is Outcome.WARN


def test_second_answers_that_agree_are_no_reason_to_warn(tmp_path: Path) -> None:
    assert _identity(tmp_path, None) is Outcome.NOT_RUN


def test_a_prompt_with_next_to_nothing_of_its_own_counts_only_as_a_near_duplicate() -> None:
    def hits(**found: float | bool) -> list[str]:
        return OverlapReport(10, 8, 0.8, 0, {"p": PromptOverlap(n_ngrams=2, **found)}).hits()  # type: ignore[arg-type]  # by name

    assert hits(row_containment=1.0, thin=True) == []
    assert hits(row_containment=1.0, thin=False) == ["p"]
    assert hits(row_containment=1.0, jaccard=0.9, thin=True) == ["p"]
