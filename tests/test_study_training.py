"""A study whose treatment is trained, end to end on a tiny random model: from ``[treatment.tune]`` to the verdict."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import hf_models
from conftest import write_rows
from counterclaim.errors import InputError, ModelError
from counterclaim.folder import read_run
from counterclaim.lab.answers import Progress
from counterclaim.lab.config import load_study
from counterclaim.lab.run import run_study
from counterclaim.records import DO_NOTHING

STUDY = """\
model = "model"

[prompts]
file = "prompts.jsonl"

[decode]
max_new_tokens = 6
temperature = 1.0

[treatment.tune]
data = "train.jsonl"
seeds = [1, 2]
doses = [0, 0.5]
placebo = true
lora = { target_modules = "attention", r = 4, lora_alpha = 16 }

[treatment.tune.sft]
max_steps = 4
per_device_train_batch_size = 4
gradient_accumulation_steps = 1
learning_rate = 5e-2
save_steps = 2

[score]
scorers = ["length"]
function = false

[target]
metric = "score.n_words"
direction = "increase"
margin = 1.0
"""
RECORDS = ("prompts.jsonl", "responses.jsonl", "scores.jsonl", "extras.json")
WEIGHTS = "adapter_model.safetensors"


class Killed(Exception):
    """Stands in for the end of the process."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, what it learns and what it is asked."""
    home = tmp_path_factory.mktemp("trained")
    hf_models.save(home / "model", "qwen3")
    lessons = [{"prompt": f"What comes after {n}?", "completion": f"{n + 1}, as everybody knows."} for n in range(12)]
    write_rows(home / "train.jsonl", lessons)
    write_rows(home / "prompts.jsonl", [{"prompt": f"What is twice {n}?", "split": "test"} for n in range(10)])
    return home


def load(home: Path, text: str = STUDY) -> Any:
    file = home / "mine.toml"
    file.write_text(text.replace('"model"', f'"{home / "model"}"'))
    plan = load_study(file)
    return replace(plan, runtime=replace(plan.runtime, device="cpu"))


@pytest.fixture(scope="module")
def run(home: Path) -> Path:
    run_study(load(home), home / "run")
    return home / "run"


def texts(folder: Path) -> dict[tuple[str, str], dict[str, str | None]]:
    """Answers by arm and replicate, by prompt."""
    out: dict[tuple[str, str], dict[str, str | None]] = defaultdict(dict)
    for response in read_run(folder).responses:
        out[str(response.arm), response.replicate][response.prompt_id] = response.text
    return out


def test_every_seed_dose_and_placebo_is_an_arm_of_its_own(run: Path) -> None:
    """Dose 0 of one adapter is dose 0 of all, so it is asked once."""
    said = texts(run)
    by_seed = {(arm, seed) for arm in ("treated", "dose:0.5", "placebo") for seed in ("1", "2")}
    assert set(said) == {("control", ""), ("do-nothing", ""), *by_seed}
    for arm in ("treated", "placebo", "dose:0.5"):
        assert said[arm, "1"] != said[arm, "2"]
    assert said["treated", "1"] != said["placebo", "1"]


def test_dose_0_answers_as_the_base_does_token_for_token(run: Path) -> None:
    said = texts(run)
    assert said["do-nothing", ""] == said["control", ""]
    assert said["treated", "1"] != said["control", ""]
    (ref,) = {response.model for response in read_run(run).responses if response.arm == DO_NOTHING}
    assert ref.adapter_dose == 0
    assert ref.adapter_hash


def test_adapters_lie_in_the_run_with_their_cards_and_nothing_else(run: Path) -> None:
    adapters = sorted((run / "adapters").iterdir())
    assert [folder.name for folder in adapters] == ["placebo-seed1", "placebo-seed2", "treated-seed1", "treated-seed2"]
    for folder in adapters:
        assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", WEIGHTS, "card.json"]
        card = json.loads((folder / "card.json").read_text())
        assert card["placebo"] == folder.name.startswith("placebo")
        assert card["seed"] == int(folder.name[-1])
        assert card["n_examples"] == 12
        assert len(card["data_hash"]) == 64
        assert card["base"].startswith("sha256:")
        assert len(card["stages"][0]["log"]["loss"]) == 4
    assert len({(folder / WEIGHTS).read_bytes() for folder in adapters}) == 4


def test_the_verdict_and_the_page_know_the_training(run: Path) -> None:
    verdict = json.loads((run / "verdict.json").read_text())
    assert verdict["status"] == "confirmatory"
    assert verdict["verdict"] in ("SUPPORTED", "REFUTED", "INCONCLUSIVE", "INVALID")
    outcomes = {check["check"]: check["outcome"] for check in verdict["checks"]}
    for check in ("identity", "dose-response", "placebo", "seeds"):
        assert outcomes[check] not in ("NOT_RUN", "ERROR"), check
    training = json.loads((run / "extras.json").read_text())["training"]
    assert {(entry["arm"], entry["seed"]) for entry in training} == {
        ("treated", 1),
        ("treated", 2),
        ("placebo", 1),
        ("placebo", 2),
    }


def test_run_again_nothing_is_trained_and_the_bytes_are_the_same(home: Path, run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    said: list[str] = []
    run_study(load(home), run, Progress(part=lambda doing, done, total: said.append(doing)))
    assert not [doing for doing in said if doing.startswith("training")]
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_finished_run_needs_its_adapters_no_more(home: Path, run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("adapters"))
    run_study(load(home), copy, Progress())
    assert not (copy / "adapters").exists()
    assert {name: (copy / name).read_bytes() for name in RECORDS} == {
        name: (run / name).read_bytes() for name in RECORDS
    }
    more = load(home, STUDY.replace('["length"]', '["length", "svr"]'))
    run_study(more, copy, Progress())
    assert not (copy / "adapters").exists()


def test_killed_while_it_trains_it_goes_on_with_the_adapters_that_it_has(home: Path, run: Path) -> None:
    def kill(doing: str, done: int, total: int) -> None:
        if doing.startswith("training treated, seed 2: sft (loss") and done == 3:
            raise Killed

    with pytest.raises(Killed):
        run_study(load(home), home / "again", Progress(part=kill))
    assert not (home / "again" / "adapters" / "treated-seed2").exists(), "an adapter takes its place when it is whole"
    said: list[str] = []
    run_study(load(home), home / "again", Progress(part=lambda doing, done, total: said.append(doing)))
    assert not [doing for doing in said if doing.startswith("training treated, seed 1")]
    for name in RECORDS[:3]:
        assert (home / "again" / name).read_bytes() == (run / name).read_bytes(), name
    for adapter in (run / "adapters").iterdir():
        assert (home / "again" / "adapters" / adapter.name / WEIGHTS).read_bytes() == (adapter / WEIGHTS).read_bytes()


def test_other_examples_are_another_study(home: Path, run: Path) -> None:
    rows = (home / "train.jsonl").read_text()
    try:
        (home / "train.jsonl").write_text(rows.replace("as everybody knows", "as you know"))
        with pytest.raises(InputError, match=r"holds another study: what differs is treated\.lessons"):
            run_study(load(home), run)
    finally:
        (home / "train.jsonl").write_text(rows)


def test_a_model_that_cannot_be_trained_is_refused_before_anything_is_answered(home: Path) -> None:
    text = STUDY.replace('model = "model"', 'model = "http://127.0.0.1:9/v1#m"')
    with pytest.raises((ModelError, InputError), match="tune cannot change"):
        run_study(load(home, text), home / "endpoint")
    assert not (home / "endpoint" / "responses.jsonl").exists()


def test_a_pair_of_equal_sides_is_refused_with_its_line(home: Path) -> None:
    row = {"prompt": "Where?", "chosen": "Here.", "rejected": "There."}
    write_rows(home / "equal.jsonl", [row, {**row, "rejected": "Here. "}])
    text = STUDY.replace("train.jsonl", "equal.jsonl").replace("tune.sft", "tune.dpo")
    with pytest.raises(InputError, match="two sides of a preference pair are equal") as caught:
        run_study(load(home, text), home / "equal")
    assert caught.value.line == 2


def test_an_empty_training_set_is_refused(home: Path) -> None:
    (home / "empty.jsonl").write_text("")
    with pytest.raises(InputError, match="empty"):
        run_study(load(home, STUDY.replace("train.jsonl", "empty.jsonl")), home / "empty")
