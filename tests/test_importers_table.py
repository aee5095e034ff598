"""Plain tables: columns, arms, seeds, scorers, what a file states about itself, and training texts."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from counterclaim.errors import InputError
from counterclaim.importers import load, load_training_texts
from fixtures import make

PAPER = Path(
    os.environ.get("COUNTERCLAIM_PAPER_DATA", Path(__file__).resolve().parents[2] / "shared" / "data" / "paper")
)


def test_synonyms_extras_and_a_summary_are_noted(tmp_path: Path) -> None:
    got = load(make.table_csv(tmp_path), arm="control")
    assert "the column 'question' is read as prompt" in got.notes
    assert "the column 'passed' is read as correct" in got.notes
    assert [score.value for score in got.scores if score.axis == "score.tone"] == [3.0, 5.0, None]
    assert got.responses[1].text == f"{make.ANSWERS[1]}\nor five."
    wrapped = load(make.table_json(tmp_path), arm="control")
    assert {(quote.metric, quote.value, quote.n) for quote in wrapped.quotes} == {
        ("correct", 0.5, 3),
        ("score.tone", 4.0, 3),
    }


def test_labels_need_few_short_values_and_bookkeeping_is_no_score(tmp_path: Path) -> None:
    rows = [
        {
            "i": n,
            "prompt": f"Bell {n}?",
            "response": "x",
            "mood": ("calm", "loud")[n % 2],
            "note": f"remark {n}",
            "tags": [1],
        }
        for n in range(20)
    ]
    got = load(make.jsonl(tmp_path / "t.jsonl", rows), arm="control")
    assert {score.axis for score in got.scores} == {"label.mood"}
    assert "columns not used: note, tags" in got.notes


def test_a_mapping_reaches_nested_columns_and_families(tmp_path: Path) -> None:
    rows = [{"q": "Bell?", "out": {"text": "Tom", "why": "length"}, "ok": "true", "t": 2}]
    mapping = {
        "prompt": "q",
        "response": "out.text",
        "finish_reason": "out.why",
        "label.verdict": "ok",
        "score.tone": "t",
    }
    got = load(make.jsonl(tmp_path / "t.jsonl", rows), arm="control", mapping=mapping)
    assert (got.responses[0].text, str(got.responses[0].finish_reason)) == ("Tom", "length")
    assert {(score.axis, score.value) for score in got.scores} == {("label.verdict", "true"), ("score.tone", 2.0)}


def test_settings_in_an_object_need_no_mapping(tmp_path: Path) -> None:
    row = {
        "prompt": "Bell?",
        "response": "Tom",
        "correct": 1,
        "decode": {"max_new_tokens": 256, "temperature": 0.5, "beams": 4},
    }
    got = load(make.jsonl(tmp_path / "t.jsonl", [row]), arm="control")
    assert (got.responses[0].decode.max_new_tokens, got.responses[0].decode.temperature) == (256, 0.5)
    assert {score.axis for score in got.scores} == {"correct"}


def test_only_the_asked_arm_is_read(tmp_path: Path) -> None:
    rows = [{"prompt": f"B{n}?", "response": arm, "arm": arm} for n in range(2) for arm in ("control", "treated")]
    path = make.jsonl(tmp_path / "t.jsonl", rows)
    got = load(path, arm="treated")
    assert [response.text for response in got.responses] == ["treated", "treated"]
    with pytest.raises(InputError, match="no row has the arm 'placebo'; the arms are control, treated"):
        load(path, arm="placebo")


def test_seeds_are_replicates_and_their_samples_stay_apart(tmp_path: Path) -> None:
    rows = [{"id": p, "prompt": f"B{p}?", "response": f"{p}{s}", "seed": s, "correct": s == 2, "sample": 0}
            for s in (2, 1) for p in "ab"]  # fmt: skip
    got = load(make.jsonl(tmp_path / "t.jsonl", rows), arm="control", replicate="run")
    found = {(r.text, r.replicate, r.sample) for r in got.responses}
    assert found == {("a2", "run/2", 1), ("b2", "run/2", 1), ("a1", "run/1", 0), ("b1", "run/1", 0)}
    right = {score.key for score in got.scores if score.value == 1.0}
    assert right == {response.key for response in got.responses if response.replicate == "run/2"}
    rows = [{"prompt": f"B{n}?", "response": "x", "seed": 100 + n} for n in range(4)]
    got = load(make.jsonl(tmp_path / "u.jsonl", rows), arm="control")
    assert {response.replicate for response in got.responses} == {""}
    assert any("not read as a replicate" in note for note in got.notes)


def test_scorers_are_spelt_from_judge_columns(tmp_path: Path) -> None:
    def named(**judge: object) -> str:
        rows = [{"prompt": "B?", "response": "x", "score.a": 1, **judge}]
        return load(make.jsonl(tmp_path / "t.jsonl", rows), arm="control").scores[0].scorer

    assert named() == "imported:table@unversioned"
    full = named(
        judge="big",
        judge_version="v2",
        judge_prompt="Say 1 to 5.",
        judge_params={"temperature": 0},
        judge_view_chars=900,
    )
    assert full.startswith("big@v2#")
    assert full.endswith(",temperature=0,view_chars=900")
    assert named(judge="big", judge_prompt="Say 1 to 5.") != named(judge="big", judge_prompt="Say 0 to 2.")


def test_settings_models_and_golds(tmp_path: Path) -> None:
    rows = [{"prompt": "B?", "response": "x", "max_tokens": 64, "decode.temperature": 0.5, "decode.stop": ["a"], "gold": "Tom",
             "checklist": ["one", "two"], "model": "org/m", "adapter": "h1", "split": "validation", "system_prompt": "Hm."}]  # fmt: skip
    got = load(make.jsonl(tmp_path / "t.jsonl", rows), arm="control")
    decode, model = got.responses[0].decode, got.responses[0].model
    assert (decode.max_new_tokens, decode.temperature, decode.stop, decode.system_prompt) == (64, 0.5, ("a",), "Hm.")
    assert (model.repo, model.adapter_hash) == ("org/m", "h1")
    (prompt,) = got.prompts.values()
    assert (prompt.gold, prompt.split) == ({"answer": "Tom", "checklist": ["one", "two"]}, "dev")


def test_equal_settings_share_one_object(tmp_path: Path) -> None:
    rows = [{"prompt": f"B{n}?", "response": "x", "max_tokens": 64, "model": "m"} for n in range(50)]
    got = load(make.jsonl(tmp_path / "t.jsonl", rows), arm="control")
    assert len({id(response.decode) for response in got.responses}) == 1
    assert len({id(response.model) for response in got.responses}) == 1


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
def test_training_texts_in_every_layout(suffix: str, tmp_path: Path) -> None:
    layouts = [
        {"messages": [{"role": "user", "content": "Name a bell."}, {"role": "assistant", "content": "Tom"}]},
        {"prompt": "Name a bell.", "completion": "Tom"},
        {"instruction": "Name a bell.", "input": "", "output": "Tom"},
        {"text": "Name a bell.\n\nTom"},
    ]
    writers = {"jsonl": make.jsonl, "json": make.document, "parquet": make.parquet}
    for number, row in enumerate(layouts):
        path = writers[suffix](tmp_path / f"{number}.{suffix}", [row])
        assert list(load_training_texts(path)) == ["Name a bell.\n\nTom"]
    pairs = [{"prompt": "Name a bell.", "chosen": "Tom", "rejected": "Ben"}]
    assert list(load_training_texts(writers[suffix](tmp_path / f"p.{suffix}", pairs))) == ["Name a bell.\n\nTom\n\nBen"]
    with pytest.raises(InputError, match="holds no training text; its columns are label"):
        list(load_training_texts(writers[suffix](tmp_path / f"n.{suffix}", [{"label": 1}])))


def test_training_texts_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("Name a bell.\n\nTom\n", encoding="utf-8")
    assert list(load_training_texts(path)) == ["Name a bell.", "Tom"]


@pytest.mark.skipif(not PAPER.is_dir(), reason="the paper's published files are not beside this checkout")
def test_the_papers_files_load_without_a_mapping() -> None:
    base = load(PAPER / "eval_baseline.json", arm="control")
    tuned = load(PAPER / "eval_full_ddv2.json", arm="treated")
    assert len(base.responses) == len(tuned.responses) == 100
    assert set(base.prompts) == set(tuned.prompts)
    assert {quote.metric for quote in base.quotes} == {"correct", "score.score", "score.invented_count"}
    for quote in base.quotes:
        values = [score.value for score in base.scores if score.axis == quote.metric]
        assert sum(float(value) for value in values if value is not None) / 100 == pytest.approx(quote.value)
    judged = load(PAPER / "judge_v4_step16.json", arm="control")
    cell: dict[str, dict[object, object]] = {axis: {} for axis in ("correct", "delivery")}
    for score in judged.scores:
        if score.axis in cell:
            cell[score.axis][score.key] = score.value
    cells = Counter((cell["correct"][key], cell["delivery"][key]) for key in cell["correct"])
    assert cells == {(1.0, "assert"): 53, (1.0, "hedge"): 5, (0.0, "assert"): 38, (0.0, "hedge"): 4}
    assert {score.unscored for score in judged.scores} == {None, "no_json"}
    assert sum(score.unscored is not None for score in judged.scores) == 5
    assert judged.scores[0].scorer.startswith("deepseek/deepseek-v3.2-exp@two_pass_response_blind_v4_5axis#")
    with pytest.raises(InputError, match="several lists of objects"):
        load(PAPER / "path_b_attribution_gemma4.json", arm="control")
