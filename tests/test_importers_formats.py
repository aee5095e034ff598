"""Every format's fixture gives the records that its harness's file states, and nothing that it does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from counterclaim.errors import InputError
from counterclaim.importers import Imported, detect, formats, load
from counterclaim.records import TREATED, FinishReason, Provenance, prompt_id
from fixtures import make


def values(imported: Imported, axis: str) -> list[float | str | None]:
    return [score.value for score in imported.scores if score.axis == axis]


def endings(imported: Imported) -> list[str]:
    return [str(response.finish_reason) for response in imported.responses]


@pytest.mark.parametrize("name", make.MAKERS)
def test_every_fixture_is_recognised_and_loads(name: str, tmp_path: Path) -> None:
    path = make.MAKERS[name](tmp_path)
    assert detect(path) == name.split("/")[0]
    imported = load(path, arm="treated")
    assert imported.source.rows == len(imported.responses) >= 2
    assert len(imported.source.sha256) == 64
    assert imported.source.bytes == path.stat().st_size
    keys = [response.key for response in imported.responses]
    assert len(set(keys)) == len(keys)
    assert {score.key for score in imported.scores} <= set(keys)
    assert {response.prompt_id for response in imported.responses} == set(imported.prompts)
    assert {response.arm for response in imported.responses} == {TREATED}
    axes = [(score.key, score.axis) for score in imported.scores]
    assert len(set(axes)) == len(axes)


def test_every_format_has_a_fixture() -> None:
    assert {name.split("/")[0] for name in make.MAKERS} == set(formats())


def test_the_same_question_has_one_id_in_every_harness(tmp_path: Path) -> None:
    wanted = load(make.table_jsonl(tmp_path), arm="control").responses[0].prompt_id
    for name in ("table/csv", "inspect/eval", "lighteval/details", "promptfoo/json", "trl/parquet", "openai/batch",
                 "openai/chat", "vllm/jsonl", "llama.cpp/jsonl"):  # fmt: skip
        imported = load(make.MAKERS[name](tmp_path / name), arm="control")
        assert imported.responses[0].prompt_id == wanted, name


def test_lm_eval_takes_the_strict_filter_and_keeps_the_other(tmp_path: Path) -> None:
    got = load(make.lm_eval(tmp_path), arm="control")
    assert values(got, "correct") == [1.0, 0.0]
    assert values(got, "score.exact_match@flexible-extract") == [1.0, 1.0]
    assert [(quote.metric, quote.value, quote.n) for quote in got.quotes] == [
        ("correct", 0.5, 2),
        ("score.exact_match@flexible-extract", 1.0, 2),
    ]
    decode, model = got.responses[0].decode, got.responses[0].model
    assert (decode.max_new_tokens, decode.temperature, decode.top_p) == (128, 0.0, 0.9)
    assert decode.stop == ("Question:", "</s>")
    assert (decode.system_prompt, decode.chat_template) == ("Be brief.", "abc123")
    assert (model.repo, model.dtype, model.adapter_hash) == ("org/small", "bfloat16", "out/adapter")
    assert got.source.created == "2026-03-01T10:00:00+00:00"
    assert endings(got) == ["unknown", "unknown"]
    assert got.scores[0].scorer == "lm-eval:bells:exact_match@0.4.9/3#filter=strict-match"
    assert any("no answer found by the filter 'strict-match'" in note for note in got.notes)
    assert not got.no_generation


def test_lm_eval_without_results_says_what_is_missing(tmp_path: Path) -> None:
    path = make.lm_eval(tmp_path)
    (tmp_path / f"results_{make.LM_EVAL_TIME}.json").unlink()
    got = load(path, arm="control")
    assert got.quotes == []
    assert got.responses[0].decode.max_new_tokens == 128
    assert any("no results_*.json" in note for note in got.notes)


def test_lm_eval_ids_are_hashes_of_documents(tmp_path: Path) -> None:
    got = load(make.lm_eval(tmp_path), arm="control", pair_by="id")
    assert list(got.prompts) == ["id:d0", "id:d1"]


def test_lm_eval_choices_generate_nothing(tmp_path: Path) -> None:
    got = load(make.lm_eval_choice(tmp_path), arm="control")
    assert got.no_generation
    assert values(got, "correct") == [1.0, 0.0]
    assert values(got, "score.acc_norm") == [1.0, 1.0]
    assert [response.text for response in got.responses] == [None, None]


def test_lm_eval_repeats_are_samples_and_only_one_is_scored(tmp_path: Path) -> None:
    row = {"doc_id": 0, "doc": {}, "arguments": [["Name a bell.", {"until": [], "temperature": 1.0}]], "target": "x",
           "resps": [["one", "two"]], "filtered_resps": [["one", "two"]], "pass@1": 1.0}  # fmt: skip
    got = load(make.jsonl(tmp_path / "samples_t.jsonl", [row]), arm="control")
    assert [response.text for response in got.responses] == ["one", "two"]
    assert values(got, "correct") == [1.0, None]


def test_lm_eval_folder_with_one_and_with_two_sample_files(tmp_path: Path) -> None:
    path = make.lm_eval(tmp_path / "org__small")
    assert load(tmp_path, arm="control").source.path == str(path)
    make.lm_eval_choice(tmp_path / "org__small")
    with pytest.raises(InputError, match=r"2 files of results; name one of .*samples_bells.*samples_pick"):
        load(tmp_path, arm="control")


@pytest.mark.parametrize("maker", [make.inspect_eval, make.inspect_deflated, make.inspect_json])
def test_inspect_logs(maker: object, tmp_path: Path) -> None:
    got = load(maker(tmp_path), arm="control")  # type: ignore[operator]
    assert values(got, "correct") == [1.0, 0.0, 0.0]
    assert endings(got) == ["stop", "length", "stop"]
    assert got.responses[0].finish_provenance is Provenance.RECORDED
    assert [prompt.text for prompt in got.prompts.values()] == list(make.QUESTIONS)
    decode = got.responses[0].decode
    assert (decode.max_new_tokens, decode.temperature, decode.system_prompt) == (64, 0.5, "Be brief.")
    assert got.responses[0].n_tokens == 9
    assert got.quotes[0].metric == "correct"
    assert got.quotes[0].value == pytest.approx(1 / 3)
    assert got.source.created == "2026-03-01T10:00:00+00:00"
    assert got.scores[0].evidence == "compared"


def test_inspect_unscored_errors_limits_and_part_marks(tmp_path: Path) -> None:
    samples = [
        make.inspect_sample(0, "stop", "P"),
        make.inspect_sample(1, "stop", float("nan"), scores={"match": {"value": float("nan"), "reason": "no grade"},
                            "many": {"value": {"a": 1, "b": 0.5}}, "kind": {"value": "calm"}}),
        make.inspect_sample(2, "stop", "C", limit={"type": "token", "limit": 5}),
        make.inspect_sample(2, "stop", "C", epoch=2, error={"message": "it broke"}, scores={},
                            output={"model": "m", "choices": []}),
    ]  # fmt: skip
    log = {**make.inspect_header(), "samples": samples, "status": "error"}
    got = load(make.document(tmp_path / "log.json", log), arm="control")
    assert values(got, "score.match") == [0.5, None, 1.0]
    assert [score.unscored for score in got.scores if score.axis == "score.match"] == [None, "no grade", None]
    assert values(got, "score.many.b") == [0.5]
    assert values(got, "label.kind") == ["calm"]
    assert endings(got) == ["stop", "stop", "length", "error"]
    assert got.responses[3].error == "it broke"
    assert got.responses[3].sample == 1
    assert any("status is 'error'" in note for note in got.notes)


def test_lighteval(tmp_path: Path) -> None:
    got = load(make.lighteval(tmp_path), arm="control")
    assert values(got, "correct") == [1.0, 0.0, 0.0]
    assert values(got, "score.bleu") == [0.0, 0.25, 0.5]
    assert [response.n_tokens for response in got.responses] == [5, 5, 16]
    assert got.responses[0].decode.max_new_tokens == 16
    assert set(endings(got)) == {"unknown"}
    assert next(iter(got.prompts.values())).gold == {"answer": "x"}


def test_lighteval_older_spelling(tmp_path: Path) -> None:
    row = {"__doc__": {"query": "Name a bell."}, "__model_response__": {"text": ["Tom"]}, "__metric__": {"em": 1.0}}
    got = load(make.parquet(tmp_path / "details_t.parquet", [row]), arm="control")
    assert got.source.format == "lighteval"
    assert values(got, "correct") == [1.0]


def test_evalplus_joins_results_by_solution(tmp_path: Path) -> None:
    path = make.evalplus(tmp_path)
    for got in (load(path, arm="control"), load(tmp_path / "small.eval_results.json", arm="control")):
        assert list(got.prompts) == ["id:HumanEval/0", "id:HumanEval/1", "id:HumanEval/2"]
        assert values(got, "correct") == [1.0, 0.0, 0.0]
        assert values(got, "score.base") == [1.0, 1.0, 0.0]
        assert {(quote.metric, round(quote.value, 3)) for quote in got.quotes} == {
            ("correct", 0.333),
            ("score.base", 0.667),
        }
        assert got.source.created == "2026-03-01T10:00:00"
    (tmp_path / "small.eval_results.json").unlink()
    alone = load(path, arm="control")
    assert alone.scores == []
    assert any("nothing is scored" in note for note in alone.notes)


def test_human_eval_repeats_are_samples(tmp_path: Path) -> None:
    got = load(make.human_eval(tmp_path), arm="control")
    assert [(response.prompt_id, response.sample) for response in got.responses] == [
        ("id:HumanEval/0", 0),
        ("id:HumanEval/0", 1),
        ("id:HumanEval/1", 0),
    ]
    assert values(got, "correct") == [1.0, 0.0, 0.0]
    assert got.scores[2].evidence == "timed out"


def test_promptfoo(tmp_path: Path) -> None:
    got = load(make.promptfoo(tmp_path), arm="control")
    assert endings(got) == ["stop", "length", "error"]
    assert values(got, "correct") == [1.0, 0.0, None]
    assert got.scores[-1].unscored == "the call failed"
    assert values(got, "score.brief") == [1.0, 1.0, None]
    assert any("cache" in note for note in got.notes)
    assert got.responses[0].model.repo == "openai:small"


def test_trl_rewards_that_did_not_apply_are_unscored(tmp_path: Path) -> None:
    got = load(make.trl(tmp_path), arm="control")
    assert values(got, "score.right_reward") == [0.0, 0.5, 1.0, None]
    assert [response.sample for response in got.responses] == [0, 1, 0, 1]
    assert not values(got, "score.advantage")


def test_openai_batch_takes_prompts_from_the_requests(tmp_path: Path) -> None:
    path = make.openai_batch(tmp_path)
    got = load(path, arm="control")
    assert endings(got) == ["stop", "length", "error"]
    assert got.responses[2].error == "too fast"
    assert (got.responses[0].decode.max_new_tokens, got.responses[0].decode.system_prompt) == (64, "Be brief.")
    assert got.responses[0].n_tokens == 9
    (tmp_path / "requests.jsonl").unlink()
    with pytest.raises(InputError, match="requests beside it"):
        load(path, arm="control")
    assert list(load(path, arm="control", pair_by="id").prompts) == ["id:r0", "id:r1", "id:r2"]


def test_openai_chat_lines_with_scores_of_their_own(tmp_path: Path) -> None:
    got = load(make.openai_chat(tmp_path), arm="control")
    assert endings(got) == ["stop", "length", "filter"]
    assert values(got, "correct") == [1.0, 0.0, 0.0]
    assert got.responses[1].decode.max_new_tokens == 32


def test_vllm_and_llama_endings(tmp_path: Path) -> None:
    assert endings(load(make.vllm(tmp_path), arm="control")) == ["stop", "length", "error"]
    got = load(make.llama(tmp_path), arm="control")
    assert endings(got) == ["stop", "length", "unknown"]
    assert [response.decode.max_new_tokens for response in got.responses] == [64, 64, None]
    assert got.responses[2].finish_reason is FinishReason.UNKNOWN


def test_a_system_prompt_is_a_setting_and_not_part_of_the_question(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Admit doubt."}, {"role": "user", "content": make.QUESTIONS[0]}]
    got = load(make.jsonl(tmp_path / "t.jsonl", [{"prompt": turns, "response": "Yes."}]), arm="control")
    plain = load(make.table_jsonl(tmp_path), arm="control")
    assert got.responses[0].prompt_id == plain.responses[0].prompt_id
    assert got.responses[0].decode.system_prompt == "Admit doubt."
    assert prompt_id(got.prompts[got.responses[0].prompt_id].messages) == got.responses[0].prompt_id


READ_WITH_A_PLUG_IN = """
import sys
from pathlib import Path
from counterclaim.importers import detect, formats, load
from counterclaim.registry import importers, load_plugins
load_plugins([Path(sys.argv[1])])
path = Path(sys.argv[2])
got = load(path, arm="control")
print(detect(path), list(formats())[-2:], list(importers())[-1])
print([(str(r.finish_reason), r.text) for r in got.responses], [(s.value, s.unscored) for s in got.scores])
try:
    load(Path(sys.argv[3]), arm="control", format="exchanges")
except Exception as error:
    print(error)
"""


def test_a_plug_ins_format_is_tried_before_the_plain_table(tmp_path: Path) -> None:
    rows = [{"asked": "Bell?", "answered": "Tom", "ended": "length", "mark": 4}, {"asked": "Who?", "answered": "Ben"}]
    good = make.jsonl(tmp_path / "good.jsonl", rows)
    bad = make.jsonl(tmp_path / "bad.jsonl", [*rows, {"asked": 3, "answered": "x"}])
    plug_in = Path(__file__).parent / "plugins" / "importer.py"
    done = subprocess.run(
        [sys.executable, "-c", READ_WITH_A_PLUG_IN, str(plug_in), str(good), str(bad)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "exchanges ['exchanges', 'table'] exchanges",
        "[('length', 'Tom'), ('unknown', 'Ben')] [(4.0, None), (None, 'missing in the file')]",
        f"{bad}, line 3: the exchange holds no texts; write it again.",
    ]
