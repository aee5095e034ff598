"""Several processes train one adapter: on the processor, with gloo, as accelerate launch starts them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from safetensors.torch import load_file

import counterclaim
from conftest import write_rows
from counterclaim.cli import application
from counterclaim.errors import InputError, ModelError
from counterclaim.lab.config import Dpo, Grpo, Sft, TrainingPrompts, TunePlan
from counterclaim.lab.operators import processes
from counterclaim.lab.operators.builtin import check_batches
from counterclaim.lab.operators.training import fit
from counterclaim.records import Example, Message
from counterclaim.registry import Fitting, ModelSpec
from hf_models import save

DATA = Path("lessons.jsonl")
CONFIGS = Path(counterclaim.__file__).parent / "lab" / "example" / "accelerate"
STUDY = """\
model = "{model}"
out = "{folder}/run"

[prompts]
file = "prompts.jsonl"

[decode]
max_new_tokens = 8

[treatment.tune]
data = "train.jsonl"
lora = {{ target_modules = "attention", r = 4, lora_alpha = 8 }}

[treatment.tune.sft]
max_steps = 24
per_device_train_batch_size = 2
gradient_accumulation_steps = 4
learning_rate = 1e-2
save_steps = 3

[treatment.tune.dpo]
max_steps = 4
per_device_train_batch_size = 2
gradient_accumulation_steps = 4
learning_rate = 1e-3

[treatment.tune.grpo]
reward = "ordered-outcome"
prompts = {{ file = "lessons.jsonl" }}
max_steps = 2
per_device_train_batch_size = 4
gradient_accumulation_steps = 2
num_generations = 4
max_completion_length = 8

[score]
scorers = ["exact", "length"]
function = false

[target]
metric = "score.n_words"
direction = "increase"
margin = 1.0
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, what it learns and what it is asked."""
    folder = tmp_path_factory.mktemp("distributed")
    save(folder / "model", "qwen3")
    write_rows(
        folder / "train.jsonl",
        [
            {
                "prompt": [{"role": "user", "content": f"What comes after {i}?"}],
                "chosen": f"{i + 1} comes after {i}, as everybody knows{'.' * (i % 5)}",
                "rejected": f"Nothing comes after {i}.",
            }
            for i in range(24)
        ],
    )
    asked = [{"prompt": f"What is {i} and {i}?", "answer": str(2 * i)} for i in range(24)]
    write_rows(folder / "prompts.jsonl", [{**row, "split": "test"} for row in asked[:12]])
    write_rows(folder / "lessons.jsonl", [{**row, "split": "train"} for row in asked[12:]])
    return folder


def study(folder: Path, name: str) -> Path:
    file = folder / f"{name}.toml"
    file.write_text(STUDY.format(model=folder / "model", folder=folder / name))
    return file


def launch(*arguments: str | Path, script: Sequence[str | Path] = ("-m", "counterclaim")) -> subprocess.Popen[str]:
    """Two processes, as the configuration that ships starts them."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", CONFIGS / "two-cpu-processes.yaml"]
    return subprocess.Popen(
        [str(part) for part in [*command, *script, *arguments]],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


HURT = """\
import os
from counterclaim import cli
from counterclaim.errors import ModelError
from counterclaim.cli import application
from counterclaim.lab.operators import training

def hurt(self, args, state, control, **rest):
    if os.environ["RANK"] == "1" and state.global_step == {step}:
        {what}

application.GRACE_S = 1.0
training._Watched.on_step_begin = hurt
cli.main()
"""
KILLED = HURT.format(step=7, what="os.kill(os.getpid(), 9)")
BROKEN = HURT.format(step=2, what="raise ModelError('the memory of process 1 is too small')")


def script(folder: Path, text: str) -> Path:
    file = folder / "hurt.py"
    file.write_text(text)
    return file


def card_of(folder: Path) -> dict[str, Any]:
    (found,) = (folder / "run" / "adapters").glob("*/card.json")
    read: dict[str, Any] = json.loads(found.read_text())
    return read


@pytest.fixture(scope="module")
def together(folder: Path) -> tuple[Path, str, str]:
    """A study that two processes ran, of which one was killed once: its folder, and what they said when they went on."""
    killed = launch("run", study(folder, "two"), script=[script(folder, KILLED)])
    _, err = killed.communicate(timeout=300)
    assert killed.returncode == 1
    assert list((folder / "two" / "run" / "adapters").glob(".*/work-0/checkpoint-6"))
    assert "bug in counterclaim" not in err
    again = launch("run", study(folder, "two"))
    out, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    return folder / "two", out, err


def test_the_first_process_does_everything_and_speaks_alone(together: tuple[Path, str, str]) -> None:
    folder, out, err = together
    run = folder / "run"
    assert (run / "report.html").is_file()
    assert json.loads((run / "study.json").read_text())["finished"]
    assert {path.name for path in run.glob("adapters/*/*")} == {
        "adapter_config.json", "adapter_model.safetensors", "card.json",
    }  # fmt: skip
    assert not list(run.glob("adapters/.*"))
    assert out.count("Page: ") == 1
    assert "Warning" not in err
    assert "destroy_process_group" not in err
    card = card_of(folder)
    assert card["processes"] == 2
    assert [stage["method"] for stage in card["stages"]] == ["sft", "dpo", "grpo"]
    assert [stage["resumed_at"] for stage in card["stages"]] == [6, None, None]
    rows = [json.loads(line) for line in (run / "responses.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * 12


def test_two_processes_one_of_which_was_killed_learn_what_one_does(
    folder: Path, together: tuple[Path, str, str], run_cli: Callable[..., tuple[int, str, str]]
) -> None:
    run_cli("run", str(study(folder, "one")), "--json")
    one, two = card_of(folder / "one"), card_of(together[0])
    assert (one["processes"], two["processes"]) == (1, 2)
    for alone, shared in zip(one["stages"][:2], two["stages"][:2], strict=True):  # GRPO draws other answers
        assert alone["steps"] == shared["steps"]
        assert shared["log"]["loss"] == pytest.approx(alone["log"]["loss"], rel=1e-3, abs=1e-4)
    assert one["stages"][0]["log"]["loss"][-1] < 0.9 * one["stages"][0]["log"]["loss"][0]


def test_one_that_fails_alone_says_why_and_ends_the_others(folder: Path) -> None:
    started = launch("run", study(folder, "broken"), script=[script(folder, BROKEN)])
    _, err = started.communicate(timeout=120)  # not the hours for which the others would wait
    assert started.returncode == 1
    assert err.count("counterclaim: the memory of process 1 is too small.") == 1
    assert "bug in counterclaim" not in err


ON_CPU = """\
from accelerate import state, accelerator
import torch
begin, prepare = state.PartialState.__init__, accelerator.fsdp2_prepare_model

def claim_gpus(self, *args, **rest):  # accelerate shares weights out among GPUs only; torch does so on the processor too
    begin(self, *args, **rest)
    if self.distributed_type == state.DistributedType.MULTI_CPU:
        self.distributed_type = state.DistributedType.MULTI_GPU

def prepared(accelerator, model):
    made = prepare(accelerator, model)
    assert all(isinstance(value, torch.distributed.tensor.DTensor) for value in made.parameters())
    return made

state.PartialState.__init__ = claim_gpus
state.PartialState.wait_for_everyone = lambda self: torch.distributed.barrier()
accelerator.fsdp2_prepare_model = prepared
from counterclaim import cli
cli.main()
"""


def test_weights_that_are_shared_out_are_put_together_again(
    folder: Path, together: tuple[Path, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    args, _, _ = _validate_launch_command(
        launch_command_parser().parse_args(["--config_file", str(CONFIGS / "fsdp.yaml"), "-m", "counterclaim"])
    )
    for name, value in prepare_multi_gpu_env(args).items():
        if "FSDP" in name:
            monkeypatch.setenv(name, value)
    started = launch("run", study(folder, "shared"), script=[script(folder, ON_CPU)])
    _, err = started.communicate(timeout=300)
    assert started.returncode == 0, err
    shared, whole = card_of(folder / "shared"), card_of(together[0])
    assert shared["parameters"] == whole["parameters"]
    for one, two in zip(shared["stages"][:2], whole["stages"][:2], strict=True):
        assert one["log"]["loss"] == pytest.approx(two["log"]["loss"], rel=1e-3, abs=1e-4)
    one, two = (load_file(next(at.glob("run/adapters/*/*.safetensors"))) for at in (folder / "shared", together[0]))
    assert {name: value.shape for name, value in one.items()} == {name: value.shape for name, value in two.items()}


# what needs no second process


@pytest.fixture
def first_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")


def test_rows_that_cannot_be_dealt_out_are_refused_before_anything_is_loaded(
    folder: Path, first_of_two: None, run_cli: Callable[..., tuple[int, str, str]]
) -> None:
    grpo = Grpo(per_device_train_batch_size=4, gradient_accumulation_steps=2, prompts=TrainingPrompts("tiny"))
    check_batches(TunePlan.of(Sft(gradient_accumulation_steps=4), Dpo(gradient_accumulation_steps=2), data=DATA))
    with pytest.raises(InputError, match="the 3 batches of a step cannot be shared by 2 processes"):
        check_batches(TunePlan.of(Sft(gradient_accumulation_steps=3), data=DATA))
    with pytest.raises(InputError, match="not a whole number of groups of 8 answers for each of 2 processes"):
        check_batches(TunePlan.of(replace(grpo, num_generations=8)))
    file = study(folder, "uneven")
    file.write_text(file.read_text().replace("accumulation_steps = 4", "accumulation_steps = 3", 1))
    code, _, err = run_cli("run", str(file))
    assert code == 2
    assert "the 3 batches of a step cannot be shared by 2 processes; make gradient_accumulation_steps a multiple" in err
    assert not (folder / "uneven" / "run").exists()


def test_alone_a_process_agrees_with_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")  # of a job of something else: nobody gave this process a rank
    assert processes.count() == 1
    assert processes.is_first()
    assert processes.agree(lambda: {"a": [1, None]}) == {"a": [1, None]}
    assert processes.device_of("cuda:3") == "cuda:3"
    processes.meet("auto")
    processes.wait()
    processes.part()
    with pytest.raises(RuntimeError, match="gloo"), processes.losses_reported():
        raise RuntimeError("gloo: Connection closed by peer")


def test_a_lost_process_is_one_sentence(first_of_two: None) -> None:
    lost = "process 0 of 2 lost another one while training; read above"
    with pytest.raises(ModelError, match=lost), processes.losses_reported():
        raise RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer")
    with pytest.raises(RuntimeError, match="shapes differ"), processes.losses_reported():
        raise RuntimeError("shapes differ")


def test_processes_behind_the_first_wait_before_they_complain(
    monkeypatch: pytest.MonkeyPatch, run_cli: Callable[..., tuple[int, str, str]]
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(application.time, "sleep", slept.append)
    assert run_cli("run", "nowhere.toml")[0] == 2
    assert slept == []
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err = run_cli("run", "nowhere.toml")
    assert (code, slept) == (2, [application.GRACE_S])
    assert "nowhere.toml" in err


def test_weights_wait_where_training_takes_them_from(monkeypatch: pytest.MonkeyPatch, first_of_two: None) -> None:
    import torch

    assert processes.device_of("auto") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert processes.device_of("auto") == "cuda:3"
    assert processes.computes_on_gpu("auto")
    assert processes.device_of("cpu") == "cpu"
    assert not processes.computes_on_gpu("cpu")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert processes.shares_weights()
    assert processes.device_of("auto") == "cpu"
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert not processes.shares_weights()


def test_what_needs_whole_weights_is_refused_where_they_are_shared_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first_of_two: None
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    plan = TunePlan.of(Sft(optim="apollo-mini"), data=DATA)
    examples = [Example((Message("user", "What is two and two?"),), "Four.")]
    with pytest.raises(ModelError, match="apollo-mini and adamw_bnb_8bit need whole weights"):
        fit(Fitting(ModelSpec("nowhere"), plan, 0, examples), tmp_path)
    with pytest.raises(ModelError, match="4bit weights cannot be shared out among processes"):
        fit(Fitting(ModelSpec("nowhere", quantisation="4bit"), replace(plan, sft=Sft()), 0, examples), tmp_path)


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_configurations_that_ship_are_read_by_accelerate(file: Path) -> None:
    config = load_config_from_file(str(file))
    args, defaults, _ = _validate_launch_command(
        launch_command_parser().parse_args(["--config_file", str(file), "-m", "counterclaim", "run", "study.toml"])
    )
    kind = str(config.distributed_type.value)
    assert defaults.to_dict() == config.to_dict()
    assert args.num_processes == config.num_processes > 1
    assert (args.use_fsdp, args.use_deepspeed, args.multi_gpu) == (
        kind == "FSDP", kind == "DEEPSPEED", kind == "MULTI_GPU",
    )  # fmt: skip
    if kind == "FSDP":
        assert (args.fsdp_version, args.fsdp_state_dict_type) == (2, "FULL_STATE_DICT")
    if kind == "DEEPSPEED":
        assert args.gradient_accumulation_steps is None  # from the study
        assert (args.zero_stage == 3) == bool(getattr(args, "zero3_save_16bit_model", False))
