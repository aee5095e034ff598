from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import arm_of, bits, evidence_of
from counterclaim.errors import InputError
from counterclaim.folder import (
    Records,
    clear_run,
    dump,
    dump_lines,
    finish_run,
    keep_at_top,
    read_checks,
    read_run,
    read_study,
    read_verdict,
    rounded,
    write_lines,
    write_new,
    write_outputs,
    write_run,
)


def records(study_hash: str = "h", **change: Any) -> Records:
    responses, scores = arm_of("control", {"correct": bits(2, 5)})
    prompts = dict(evidence_of((responses, scores)).prompts)
    return Records({"study_hash": study_hash, "x": 1 / 3}, prompts, responses, scores, **change)


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_run_folder_reads_back_as_it_was_written(tmp_path: Path) -> None:
    made = records(extras={"cards": [{"expected": "a", "returned": "b"}]})
    write_run(tmp_path / "run", made, {"verdict.json": "{}\n"})
    again = read_run(tmp_path / "run")
    assert again.responses == made.responses
    assert again.scores == made.scores
    assert again.prompts == made.prompts
    assert again.extras == made.extras
    assert again.study == {"study_hash": "h", "x": 0.333333333333}
    assert listing(tmp_path) == [
        "run", "run/extras.json", "run/prompts.jsonl", "run/responses.jsonl", "run/scores.jsonl", "run/study.json",
        "run/verdict.json",
    ]  # fmt: skip


def test_writing_again_keeps_a_users_own_files_and_drops_stale_ones_of_ours(tmp_path: Path) -> None:
    write_run(tmp_path / "run", records(extras={"cards": []}), {"report.html": "old"})
    (tmp_path / "run" / "notes.txt").write_text("mine")
    write_run(tmp_path / "run", records(), {})
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "run" / "report.html").exists()


MADE = ("checks.jsonl", "verdict.json", "report.html", "report.md", "junit.xml", "verdict.sarif")


def test_new_records_never_stand_beside_what_was_made_from_old_ones(tmp_path: Path) -> None:
    """An old verdict beside new scores would pass for theirs."""
    run = tmp_path / "run"
    write_run(run, records(extras={"cards": []}), dict.fromkeys(MADE, "old"))
    for name in ("notes.txt", "answers.journal", "scores.journal", ".verdict.json.123"):
        (run / name).write_text("mine")
    finish_run(run, records(), {})
    assert listing(run) == ["notes.txt", "prompts.jsonl", "responses.jsonl", "scores.jsonl", "study.json"]
    write_outputs(run, dict.fromkeys(MADE, "old"))
    finish_run(run, records(), {"verdict.json": "new"})
    assert [name for name in MADE if (run / name).exists()] == ["verdict.json"]
    assert (run / "verdict.json").read_text() == "new"


@pytest.mark.parametrize("stop", range(6))
def test_a_run_that_is_killed_while_it_is_finished_has_no_verdict_on_other_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """Stopped before each of its six writes."""
    real, run, done = Path.replace, tmp_path / "run", []
    write_run(run, records(extras={"cards": []}), dict.fromkeys(MADE, "old"))

    def replace(self: Path, target: Path) -> Path:
        if len(done) == stop:
            raise KeyboardInterrupt
        done.append(target.name)
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        finish_run(run, records(extras={"cards": [1]}), {"verdict.json": "new"})
    assert [name for name in MADE if (run / name).exists() and (run / name).read_text() == "old"] == []


def test_a_cleared_run_folder_holds_a_users_own_files_only(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_run(run, records(extras={"cards": []}), dict.fromkeys(MADE, "old"))
    for name in ("notes.txt", "answers.journal", "scores.journal", ".scores.jsonl.77", ".scores.jsonl.mine"):
        (run / name).write_text("mine")
    clear_run(run)
    assert listing(run) == [".scores.jsonl.mine", "notes.txt"]


def test_a_broken_write_leaves_nothing_and_harms_nothing(tmp_path: Path) -> None:
    write_run(tmp_path / "run", records(), {})
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    broken = records()
    broken.responses.append(object())  # type: ignore[arg-type]  # it breaks half-way
    for folder in ("run", "new"):
        with pytest.raises(TypeError):
            write_run(tmp_path / folder, broken, {})
    assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_another_study_is_not_overwritten_unless_told_to(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_run(run, records("one"), {})
    write_run(run, records("one"), {})
    with pytest.raises(InputError, match="another study"):
        write_run(run, records("two"), {})
    assert read_run(run).study["study_hash"] == "one"
    write_run(run, records("two"), {}, overwrite=True)
    assert read_run(run).study["study_hash"] == "two"


def test_places_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    for name, said in (("file", "a file stands"), ("full", "not a run folder"), ("file/run", "cannot be written")):
        with pytest.raises(InputError, match=said):
            write_run(tmp_path / name, records(), {}, overwrite=True)
    assert listing(tmp_path) == ["file", "full", "full/thesis.txt"]
    (tmp_path / "empty").mkdir()
    write_run(tmp_path / "empty", records(), {})


def test_a_damaged_folder_names_file_and_line(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(InputError, match="not a run folder"):
        read_run(run)
    write_run(run, records(), {})
    lines = (run / "scores.jsonl").read_text().splitlines(keepends=True)
    for bad, said in (
        ('{"half": ', "not one JSON object a line"),
        ('{"axis": "x"}\n', "not a record of this package"),
        ("7\n", "not a record of this package"),
    ):
        (run / "scores.jsonl").write_text("".join([lines[0], "\n", bad]))
        with pytest.raises(InputError, match=said) as caught:
            read_run(run)
        assert caught.value.line == 3
    (run / "scores.jsonl").write_bytes(lines[0].encode() + b"\xff\xfe\n")
    with pytest.raises(InputError) as caught:
        read_run(run)
    assert caught.value.line == 2
    (run / "scores.jsonl").unlink()
    with pytest.raises(InputError, match="no such file"):
        read_run(run)


def test_verdict_and_checks_must_be_there_to_be_drawn(tmp_path: Path) -> None:
    write_run(tmp_path / "run", records(), {})
    with pytest.raises(InputError, match="run counterclaim check"):
        read_verdict(tmp_path / "run")
    write_outputs(tmp_path / "run", {"verdict.json": '{"verdict": 1}', "checks.jsonl": '{"a": 1}\n'})
    assert read_verdict(tmp_path / "run") == {"verdict": 1}
    assert read_checks(tmp_path / "run") == [{"a": 1}]


def test_numbers_on_disk_have_twelve_digits_and_are_never_nan() -> None:
    assert rounded({"a": [0.1 + 0.2, 1 / 3, 7, True, None, "x"]}) == {"a": [0.3, 0.333333333333, 7, True, None, "x"]}
    with pytest.raises(ValueError, match="Out of range"):
        dump({"x": float("nan")})
    assert dump_lines([{"b": 1, "a": 2}]) == '{"b": 1, "a": 2}\n'


def test_surrogates_survive_the_disk(tmp_path: Path) -> None:
    write_lines(tmp_path / "x.jsonl", [{"text": "broken \ud83d emoji \\ é"}])
    raw = (tmp_path / "x.jsonl").read_bytes()
    assert json.loads(raw.decode("utf-8"))["text"] == "broken \ud83d emoji \\ é"


def test_a_file_that_the_user_asked_for_is_not_replaced_silently(tmp_path: Path) -> None:
    path = tmp_path / "new" / "claim.toml"
    write_new(path, "one")
    with pytest.raises(InputError, match="the file exists"):
        write_new(path, "two")
    write_new(path, "two", overwrite=True)
    assert path.read_text() == "two"
    with pytest.raises(InputError, match="cannot be written"):
        write_new(path / "below", "x")
    assert listing(tmp_path) == ["new", "new/claim.toml"]


def test_a_move_to_the_top_that_was_killed_is_done_again(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "a").write_text("moved before")
    (inner / "b").write_text("moved now")
    (inner / "c").write_text("of no use any more")
    keep_at_top(tmp_path, inner, ("a", "b"))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "moved before", "b": "moved now"}


def test_a_study_that_is_no_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text("[]")
    with pytest.raises(InputError, match="is not what a study is"):
        read_study(tmp_path)
