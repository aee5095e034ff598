"""``capture`` and ``attribute`` from a run folder: what is written, how it resumes, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

import hf_models
from counterclaim.cli import app
from counterclaim.errors import InputError, ModelError
from counterclaim.folder import Records, read_run
from counterclaim.folder import write_run as write_run_folder
from counterclaim.lab.models import open_model
from counterclaim.lab.models.hf.activations import Capture, CaptureSpec, read
from counterclaim.lab.models.hf.edits import Edit, Piece, base_of, save_edit
from counterclaim.lab.models.hf.fingerprint import edit_hash
from counterclaim.lab.operators.reading import capture, exchange_of, layers_named, readable
from counterclaim.lab.probing.folder import FeatureFolder
from counterclaim.lab.reading import RunSelection, answers_of, opened
from counterclaim.records import CONTROL, Decode, FinishReason, ModelRef, Prompt, Provenance, Response, Score, to_json
from counterclaim.registry import Labelled, ModelSpec, Runtime

WORDS = "the mill by river turns seed into oil and is sold in town der Müller heißt kommt aus Köln am Rhein".split()
ALL = CaptureSpec((0, "last"), ("last", "mean"), head_norms=8, tokens=3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hf_models.save(tmp_path_factory.mktemp("reading") / "qwen3_5", "qwen3_5")


@cache
def who_answers(model: Path) -> tuple[ModelRef, str | None]:
    with closing(open_model(ModelSpec(str(model)), Runtime(device="cpu"))) as one:
        return one.ref, one.chat_template


def write_run(
    folder: Path, model: Path, *, n: int = 20, cut: Sequence[int] = (), textless: bool = False, finished: bool = True,
    named: bool = True, **ref: Any,
) -> Path:  # fmt: skip
    """A finished run of one arm, answered, it says, by the model."""
    own, template = who_answers(model)
    who = ModelRef(**{**to_json(own), **ref})
    rng = np.random.Generator(np.random.PCG64(0))
    prompts = [Prompt.of_text(f"Who is number {i}?") for i in range(n)]
    decode = Decode(16, chat_template=template, system_prompt="Be brief.")
    responses = [
        Response(
            prompt.id, CONTROL, 0, None if textless else " ".join(rng.choice(WORDS, 3 + i % 9)),
            FinishReason.LENGTH if i in cut else FinishReason.STOP, Provenance.RECORDED, decode, who,
        )
        for i, prompt in enumerate(prompts)
    ]  # fmt: skip
    scores = [
        Score(prompt.id, CONTROL, 0, "t@1", axis, value)
        for i, prompt in enumerate(prompts)
        for axis, value in (("correct", float(i % 2)), ("delivery", "assert"))
    ]
    arms = [{"arm": "control", "model": {"name": str(model)}}] if named else []
    study = {"study_hash": "s", "finished": finished, "arms": arms}
    write_run_folder(folder, Records(study, {prompt.id: prompt for prompt in prompts}, responses, scores), {})
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "run", model)


def called(*args: object) -> str:
    done = CliRunner().invoke(app, [str(arg) for arg in args], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_features_hold_what_was_read_with_ids_and_who_read_it(run: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "features"
    told_ = json.loads(called(
        "capture", run, "--layers", "0,last", "--positions", "last,mean", "--head-norms", 8, "--tokens", 3, "--device", "cpu",
        "--out", out, "--json",
    ))  # fmt: skip
    card = json.loads((out / "features.json").read_text(encoding="utf-8"))
    assert told_ == {"folder": str(out), **card}
    answers = answers_of(run, RunSelection())
    assert card["ids"] == [f"{answer.prompt.id}/0" for answer in answers]
    assert card["cut"] == [False] * 20
    assert card["model"]["repo"] == str(model)
    assert "final norm" in card["h_last"]
    assert "not read" in card["end_of_turn"]
    held = load_file(out / "features.safetensors")
    assert {name: list(rows.shape) for name, rows in held.items()} == card["blocks"]
    with opened(run, RunSelection(), Runtime(device="cpu")) as (reader, _):
        direct = read(reader, [exchange_of(answer) for answer in answers], ALL).blocks  # type: ignore[arg-type]
    assert held.keys() == direct.keys()
    for name, rows in direct.items():
        np.testing.assert_array_equal(held[name], rows)
    assert sorted(files_of(out)) == ["features.json", "features.safetensors"]


def test_every_layer_can_be_named_at_once(run: Path, tmp_path: Path) -> None:
    card = json.loads(called("capture", run, "--layers", "all", "--device", "cpu", "--out", tmp_path / "f", "--json"))
    assert card["layers"] == [0, 1, 2, 3, "last"]


def test_a_capture_that_was_killed_reads_only_the_rest_and_ends_with_the_same_bytes(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = answers_of(run, RunSelection())
    passes: list[int] = []
    whole = Capture._read

    def counted(self: Capture, part: list[int]) -> Any:
        if len(passes) == killed_after:
            raise KeyboardInterrupt
        passes.append(len(part))
        return whole(self, part)

    monkeypatch.setattr(Capture, "_read", counted)
    with opened(run, RunSelection(), Runtime(device="cpu", batch_size=3)) as (reader, _):
        killed_after = -1
        capture(reader, answers, ALL, tmp_path / "once")
        assert len(passes) == 7
        passes.clear()
        killed_after = 4
        with pytest.raises(KeyboardInterrupt):
            capture(reader, answers, ALL, tmp_path / "twice")
        assert not (tmp_path / "twice/features.json").exists()
        (tmp_path / "twice/parts/.99.npz").write_bytes(b"half a part")  # what was being written
        killed_after = -1
        capture(reader, answers, ALL, tmp_path / "twice")
        assert len(passes) == 7
        assert files_of(tmp_path / "once") == files_of(tmp_path / "twice")
        capture(reader, answers, ALL, tmp_path / "twice")  # whole: nothing is read
        assert len(passes) == 7


def test_features_of_something_else_are_not_mixed_and_not_lost(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "f"
    called("capture", run, "--device", "cpu", "--out", out)
    before = files_of(out)
    with pytest.raises(InputError, match="holds other features"):
        called("capture", run, "--positions", "mean", "--device", "cpu", "--out", out)
    assert files_of(out) == before
    called("capture", run, "--positions", "mean", "--device", "cpu", "--out", out, "--overwrite")
    assert load_file(out / "features.safetensors").keys() == {"h_last/mean"}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty and holds no features"):
        called("capture", run, "--device", "cpu", "--out", tmp_path / "mine", "--overwrite")


def test_a_damaged_part_is_named(run: Path, tmp_path: Path) -> None:
    features = FeatureFolder(tmp_path / "f", {"a": 1})
    features.add([0], {"x": np.zeros((1, 2), np.float32)})
    part = tmp_path / "f/parts/0.npz"
    part.write_bytes(part.read_bytes()[:40])
    with pytest.raises(InputError, match=r"0\.npz: is damaged.*delete it"):
        FeatureFolder(tmp_path / "f", {"a": 1})


def test_cut_answers_have_no_last_token_of_the_response_unless_told_to(model: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", model, cut=(2, 5))
    with pytest.raises(InputError, match=r"cut 2 of 20 answers.*--on-cut read"):
        called("capture", run, "--device", "cpu", "--out", tmp_path / "f")
    assert not (tmp_path / "f").exists()
    called("capture", run, "--positions", "mean,prompt-end", "--device", "cpu", "--out", tmp_path / "mean")
    card = json.loads(called("capture", run, "--on-cut", "read", "--device", "cpu", "--out", tmp_path / "f", "--json"))
    assert [at for at, flag in enumerate(card["cut"]) if flag] == [2, 5]


def test_what_cannot_be_read_is_refused_in_one_sentence(run: Path, model: Path, tmp_path: Path) -> None:
    out = ("--device", "cpu", "--out", tmp_path / "f")
    refused: list[tuple[tuple[object, ...], str]] = [
        ((run, "--arm", "treated"), "no arm 'treated'.*control"),
        ((run, "--replicate", "3"), "no replicate '3'"),
        ((run, "--layers", "first"), "'first' names no layer"),
        ((run, "--layers", "9"), "no layer 9"),
        ((run, "--site", "o_proj", "--layers", "0"), "layer 0 has no o_proj"),
        ((run, "--positions", "first"), "--positions 'first'"),
        ((run, "--on-cut", "skip"), "--on-cut 'skip'"),
        ((tmp_path,), "not a run folder"),
        ((write_run(tmp_path / "textless", model, textless=True),), "have no texts"),
        ((write_run(tmp_path / "open", model, finished=False),), "not finished"),
        ((write_run(tmp_path / "other", model, revision="sha256:0000"),), "not the model that answered.*revision was sha256:0000"),
        ((write_run(tmp_path / "unnamed", model, named=False),), "the run does not say how the model"),
        ((write_run(tmp_path / "adapted", model, adapter_hash="beef"),), "the adapter, .* is not in the run folder"),
        ((write_run(tmp_path / "gated", model, operator="sidecar"),), "sidecar does not act within the forward pass"),
        ((follow_ups(run, tmp_path / "asked"), "--arm", "control/recovery", "--model", model), "a scripted next turn"),
    ]  # fmt: skip
    for args, said in refused:
        with pytest.raises(InputError, match=said):
            called("capture", *args, *out)
        assert not (tmp_path / "f").exists()


def follow_ups(run: Path, folder: Path) -> Path:
    """A run whose answers were followed by a scripted next turn."""
    records = read_run(run)
    records.responses += [replace(each, arm="control/recovery") for each in records.responses]
    write_run_folder(folder, records, {})
    return folder


def test_what_an_operator_had_laid_over_the_model_is_laid_over_it_again(model: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with closing(open_model(ModelSpec(str(model)), Runtime(device="cpu"))) as one:
        hf = readable(one)
        fit = tmp_path / "fit"
        fit.mkdir()
        save_edit(Edit("temper", (Piece(3, "o_proj", "temper", (0, 1)),), "all", base_of(hf.ref, hf.network), fit))
        write_run(run, model, operator="temper", operator_hash=edit_hash(fit), operator_dose=0.5)
        answers = answers_of(run, RunSelection())
        bare = read(hf, [exchange_of(answer) for answer in answers], CaptureSpec()).blocks["h_last/last"]
        with hf.edited(fit, 0.5):
            edited = read(hf, [exchange_of(answer) for answer in answers], CaptureSpec()).blocks["h_last/last"]
    with pytest.raises(InputError, match=r"what temper has fitted, .* is not in the run folder"):
        called("capture", run, "--device", "cpu", "--out", tmp_path / "f")
    fit.rename(run / "fit")
    called("capture", run, "--device", "cpu", "--out", tmp_path / "f")
    held = load_file(tmp_path / "f/features.safetensors")["h_last/last"]
    np.testing.assert_array_equal(held, edited)
    assert not np.allclose(held, bare, atol=1e-3)


def test_another_model_reads_where_it_is_named(model: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", model, repo="somebody/else", named=False)
    card = json.loads(called("capture", run, "--model", model, "--device", "cpu", "--out", tmp_path / "f", "--json"))
    assert (card["answered_by"]["repo"], card["model"]["repo"]) == ("somebody/else", str(model))


def test_an_answer_without_text_is_left_out_by_name(run: Path, tmp_path: Path) -> None:
    answers = answers_of(run, RunSelection())
    blank = Labelled(answers[3].prompt, Response(
        answers[3].prompt.id, CONTROL, 0, "", FinishReason.STOP, Provenance.RECORDED, Decode(16), ModelRef(),
    ), {})  # fmt: skip
    with opened(run, RunSelection(), Runtime(device="cpu")) as (reader, _):
        card = capture(reader, [*answers[:3], blank, *answers[4:]], CaptureSpec(), tmp_path / "f")
        with pytest.raises(ModelError, match="none of the 1 answers can be read"):
            capture(reader, [blank], CaptureSpec(), tmp_path / "g")
        with pytest.raises(InputError, match="is there twice"):
            capture(reader, [answers[0], answers[0]], CaptureSpec(), tmp_path / "g")
        assert layers_named(reader, ["last", "0", "last"]) == ("last", 0)
    assert card["unread"] == {f"{blank.prompt.id}/0": "the answer has no text"}
    assert len(card["ids"]) == 19


def test_an_attribution_is_written_as_numbers_and_as_a_page(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "heads"
    args = ("attribute", run, "--last-tokens", 8, "--permutations", 50, "--device", "cpu")
    told_ = json.loads(called(*args, "--out", out, "--json"))
    kept = json.loads((out / "attribution.json").read_text(encoding="utf-8"))
    assert {key: value for key, value in told_.items() if key != "written"} == kept
    assert [(row["layer"], row["head"]) for row in kept["heads"]] == [(3, 0), (3, 1), (3, 2), (3, 3)]
    page = (out / "attribution.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert "layers 0, 1, 2 have no o_proj" in page
    assert "<script" not in page
    with pytest.raises(InputError, match="the file exists"):
        called(*args, "--out", out)
    called(*args, "--out", tmp_path / "heads.json")
    assert json.loads((tmp_path / "heads.json").read_text(encoding="utf-8")) == kept
    assert "layer 3 head" in called(*args)
    with pytest.raises(InputError, match="0 answers are hw"):
        called(*args, "--cohort", "hw")


def test_a_page_escapes_what_others_wrote(run: Path) -> None:
    from counterclaim.lab.operators.attribution import render_attribution

    told_ = json.loads(called("attribute", run, "--permutations", 5, "--device", "cpu", "--json"))
    told_["because"] = told_["cohort"]["name"] = "<script>alert(1)</script>"
    page = render_attribution(told_, "<b>run</b>")
    assert "<script" not in page
    assert "<b>run" not in page


def test_published_heads_meet_the_null_of_the_largest(tmp_path: Path) -> None:
    file = tmp_path / "heads.json"
    heads = [{"layer": i // 8, "head": i % 8, "cohen_d": 0.6 - 0.01 * i} for i in range(20)]
    file.write_text(json.dumps({"cohorts": {"cr": 53, "cw": 38}, "arch": {"n_layers": 35, "n_heads": 8}, "top": heads}))
    told_ = json.loads(called("attribute", "--published", file, "--json"))
    assert (told_["n_heads"], told_["n_listed"]) == (280, 20)
    assert told_["null"]["median"] == pytest.approx(0.662, abs=0.001)
    assert told_["p"] > 0.8
    assert "no more than chance gives" in called("attribute", "--published", file).replace("\n", " ")
    heads[3]["cohen_d"] = -1.4
    file.write_text(json.dumps({"cohorts": {"cr": 53, "cw": 38}, "all": heads}))
    told_ = json.loads(called("attribute", "--published", file, "--json"))
    assert told_["p"] < 1e-6
    assert (told_["layer"], told_["head"], told_["n_beyond_q95"]) == (0, 3, 1)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "no list of heads"),
        ('{"heads": [{"layer": 0}]}', "no list of heads"),
        ('{"heads": [{"layer": 0, "head": 1, "cohen_d": 0.5}]}', "how many answers are cw and cr"),
        ('{"heads": [{"layer": 0, "head": 1, "cohen_d": 0.5}], "cohorts": {"right": 9}}', "cohorts: right 9"),
    ],
)
def test_published_files_that_say_too_little_are_refused(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "heads.json"
    file.write_text(content)
    with pytest.raises(InputError, match=said):
        called("attribute", "--published", file)
    with pytest.raises(InputError, match="exactly one of the two"):
        called("attribute")
