"""Second answers beside the rows: found, compared, and silent where there are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from counterclaim.errors import InputError
from counterclaim.importers import Collector, ImportRequest, InputFile, Limits, formats, load
from counterclaim.records import CONTROL, FinishReason

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


def lines(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(i: int, response: str = "An answer.", **more: object) -> dict[str, object]:
    return {"prompt": f"Question {i}?", "response": response, "correct": True, **more}


def test_rows_of_one_prompt_are_its_samples_in_file_order(tmp_path: Path) -> None:
    got = load(lines(tmp_path / "a.jsonl", row(0, "a"), row(1, "b"), row(0, "c"), row(0, "d")), arm="control")
    assert [(r.text, r.sample) for r in got.responses] == [("a", 0), ("b", 0), ("c", 1), ("d", 2)]
    assert [note for note in got.notes if "rows repeat" in note] == [
        "2 rows repeat an earlier prompt and are numbered as its samples in file order"
    ]


def test_rows_of_one_prompt_under_another_id_are_told_apart_from_those_under_its_own(tmp_path: Path) -> None:
    got = load(lines(tmp_path / "a.jsonl", row(0, id="a"), row(0, id="b"), row(0, id="c")), arm="control")
    assert [r.sample for r in got.responses] == [0, 1, 2]
    assert "2 rows repeat the prompt of another id and are read as further samples of it" in got.notes
    with pytest.raises(InputError, match=r"line 2: the id 'a' is already on line 1; remove one"):
        load(lines(tmp_path / "b.jsonl", row(0, id="a"), row(0, id="a")), arm="control")


def test_a_sample_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    twice = lines(tmp_path / "a.jsonl", row(0, sample=1), row(1, sample=1), row(0, sample=1))
    with pytest.raises(InputError, match="line 3: sample 1 of this prompt is already on line 1"):
        load(twice, arm="control")


def test_the_first_gold_of_a_prompt_is_kept_and_another_is_noted(tmp_path: Path) -> None:
    golds = [row(0, gold="x"), row(0, gold="y"), row(0), row(0, gold="x")]
    got = load(lines(tmp_path / "a.jsonl", *golds), arm="control")
    (prompt,) = got.prompts.values()
    assert prompt.gold == {"answer": "x"}
    sentence = "rows give another gold than an earlier row with the same prompt; the first is kept"
    assert [note for note in got.notes if "gold" in note and "another" in note] == [f"1 {sentence}"]
    alike = load(lines(tmp_path / "b.jsonl", golds[0], golds[3]), arm="control")
    assert not any("another gold" in note for note in alike.notes)


def test_an_unknown_finish_reason_is_noted_as_it_stands(tmp_path: Path) -> None:
    rows = [row(i, finish_reason="{odd}") for i in range(3)]
    got = load(lines(tmp_path / "a.jsonl", *rows), arm="control")
    assert {r.finish_reason for r in got.responses} == {FinishReason.UNKNOWN}
    assert "3 rows end for the reason '{odd}', which is read as unknown" in got.notes


def test_of_a_harness_s_metrics_the_first_of_zeros_and_ones_is_read_as_correct(tmp_path: Path) -> None:
    def axes(*values: tuple[float | None, float | None]) -> dict[str, str]:
        path = lines(tmp_path / "a.jsonl", row(0))
        collector = Collector(InputFile(path, Limits()), formats()["table"], ImportRequest(CONTROL))
        for at, pair in enumerate(values):
            for name, value in zip(("f1", "acc"), pair, strict=True):
                collector.metric((f"p{at}", 0), name, value, "it@1", unscored="no reply")
        found = collector.settle(right_or_wrong=("exact_match", "f1", "acc"))
        unscored = [score.unscored for score in collector.scores if score.value is None]
        assert unscored == ["no reply"] * sum(value is None for pair in values for value in pair)
        return found

    assert axes((1.0, 0.0), (0.0, None)) == {"f1": "correct", "acc": "score.acc"}
    assert axes((0.5, 0.0), (0.0, 1.0)) == {"f1": "score.f1", "acc": "correct"}
    assert axes((None, 0.0), (None, 1.0)) == {"f1": "score.f1", "acc": "correct"}
    assert axes((0.5, 0.5), (None, None)) == {"f1": "score.f1", "acc": "score.acc"}


@pytest.mark.parametrize(
    ("value", "quoted"),
    [(0.5, 0.5), ("0.5", None), (3, 3.0), (True, None), ("many", None), (None, None), (float("nan"), None)],
)
def test_only_numbers_that_a_file_states_of_itself_are_quoted(
    tmp_path: Path, value: object, quoted: float | None
) -> None:
    path = lines(tmp_path / "a.jsonl", row(0))
    collector = Collector(InputFile(path, Limits()), formats()["table"], ImportRequest(CONTROL))
    collector.quote("accuracy", value, 7, "summary")
    made = [(str(quote.arm), quote.metric, quote.value, quote.n, quote.source) for quote in collector.quotes]
    assert made == ([] if quoted is None else [("control", "accuracy", quoted, 7, "a.jsonl: summary")])
