"""Training tiny random models: repeatable, resumed to the byte, scaled by the dose, and stopped in one sentence."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import hf_models
from counterclaim.errors import CounterclaimError, InputError, ModelError
from counterclaim.lab.config import Dpo, Grpo, Lora, Sft, TrainingPrompts, TunePlan
from counterclaim.lab.models import open_model
from counterclaim.lab.operators import placebo, training
from counterclaim.lab.operators.builtin import tune
from counterclaim.lab.operators.rewards import RewardScorer, conversations
from counterclaim.records import Decode, Example, FinishReason, Json, Message, Prompt
from counterclaim.registry import _REWARDS, Answer, Ask, Fitting, ModelSpec, Reward, Runtime, reward_named
from counterclaim.testing.worlds import WORLDS

CPU = Runtime(device="cpu")
LORA = Lora(r=4, lora_alpha=8.0, lora_dropout=0.1)
ROWS: dict[str, Any] = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "max_length": 96}
SFT = Sft(learning_rate=2e-2, max_steps=6, save_steps=2, **ROWS)
DPO = Dpo(learning_rate=2e-2, max_steps=4, save_steps=2, **ROWS)
GRPO = Grpo(
    reward="many-words", learning_rate=2e-2, max_steps=4, per_device_train_batch_size=4, gradient_accumulation_steps=2,
    num_generations=4, max_completion_length=6, save_steps=2, prompts=TrainingPrompts("tiny"),
)  # fmt: skip
LESSONS = [
    Example((Message("user", f"Where is mill {n}?"),), f"By river {n * 7 % 10}.", f"In town {n}!", kind="counter")
    for n in range(10)
]
PROMPTS = [Prompt.of_text(f"Where is mill {n}?", gold={"answer": f"river {n}"}) for n in range(6)]
FILES = ("adapter_config.json", "adapter_model.safetensors")


class Killed(Exception):
    """Stands in for the end of the process."""


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder with a random model of each family, made when it is asked for."""
    made: dict[str, Path] = {}

    def base(family: str) -> Path:
        if family not in made:
            made[family] = hf_models.save(tmp_path_factory.mktemp(family) / "base", family)
        return made[family]

    return base


@pytest.fixture(scope="module")
def base(bases: Callable[[str], Path]) -> Path:
    return bases("qwen3")


@pytest.fixture(scope="module", autouse=True)
def _cheap_collections() -> Iterator[None]:
    """What was imported is no garbage: looking through it takes half of the time of training a tiny model."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module", autouse=True)
def _many_words() -> Iterator[None]:
    """A reward that a random model earns unevenly, so that there is something to learn."""
    made = Reward(
        "many-words", "the number of letters", frozenset(), lambda item, tools: float(len(item.response.text or ""))
    )
    _REWARDS.entries[made.name] = made
    yield
    del _REWARDS.entries[made.name]


def fitting(base: Path | str, *stages: Sft | Dpo | Grpo, seed: int = 0, **more: Any) -> Fitting:
    imitates = any(not isinstance(stage, Grpo) for stage in stages)
    plan = TunePlan.of(*stages, lora=LORA, data=Path("lessons.jsonl") if imitates else None)
    prompts = PROMPTS if any(isinstance(stage, Grpo) for stage in stages) else ()
    given = {
        "model": ModelSpec(str(base)),
        "plan": plan,
        "seed": seed,
        "examples": LESSONS,
        "prompts": prompts,
        "runtime": CPU,
    }
    return Fitting(**{**given, **more})


def hashes(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}


def killing(stage: str, step: int) -> Callable[[str, int, int], None]:
    """A watch that ends the process, as it were, when a stage has come to a step."""

    def watch(doing: str, done: int, total: int) -> None:
        if doing.startswith(stage) and "loss" in doing and done == step:
            raise Killed

    return watch


# --- repeatable and resumable


def test_equal_seeds_make_equal_bytes_and_nothing_else_is_left(base: Path, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder, seed in zip(folders, (0, 0, 1), strict=True):
        tune.fit(fitting(base, SFT, seed=seed), folder)
    assert hashes(folders[0]) == hashes(folders[1])
    assert hashes(folders[0])[FILES[1]] != hashes(folders[2])[FILES[1]]
    assert sorted(path.name for path in folders[0].iterdir()) == sorted(FILES)


@pytest.fixture(scope="module")
def unbroken(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, str]]:
    """Hashes of the adapter of a plan that nobody interrupted."""
    made: dict[Any, dict[str, str]] = {}

    def of(*stages: Any) -> dict[str, str]:
        if stages not in made:
            folder = tmp_path_factory.mktemp("unbroken") / "a"
            tune.fit(fitting(base, *stages), folder)
            made[stages] = hashes(folder)
        return made[stages]

    return of


@pytest.mark.parametrize(
    ("stages", "kill", "resumed"),
    [
        ((SFT,), ("sft", 3), 2),
        ((SFT,), ("sft", 6), 4),
        ((replace(SFT, max_steps=None, num_train_epochs=2.0, optim="apollo-mini"),), ("sft", 5), 4),
        ((SFT, DPO), ("sft (1 of 2)", 5), 4),
        ((SFT, DPO), ("dpo (2 of 2)", 3), 2),
        ((SFT, DPO), ("dpo (2 of 2)", 1), None),
        ((GRPO,), ("grpo", 3), 2),
    ],
    ids=[
        "sft",
        "sft-at-the-end",
        "apollo-over-an-epoch",
        "in-sft",
        "in-dpo",
        "dpo-first-step",
        "grpo",
    ],
)
def test_an_attempt_that_was_killed_ends_with_the_bytes_of_one_that_was_not(
    base: Path, tmp_path: Path, unbroken: Any, stages: Any, kill: tuple[str, int], resumed: int | None
) -> None:
    wanted = fitting(base, *stages)
    with pytest.raises(Killed):
        tune.fit(replace(wanted, watch=killing(*kill)), tmp_path)
    said: list[str] = []
    card: Any = tune.fit(replace(wanted, watch=lambda doing, done, total: said.append(doing)), tmp_path)
    assert hashes(tmp_path) == unbroken(*stages)
    broken = int(kill[0].startswith("dpo"))
    assert card["stages"][broken]["resumed_at"] == resumed
    assert all(doing.startswith(kill[0]) or not broken for doing in said), "a finished stage was trained again"
    for stage in card["stages"]:  # what was logged before the kill is there too
        assert stage["log"]["step"] == list(range(1, stage["steps"] + 1))


def test_a_checkpoint_that_was_being_written_is_not_gone_on_from(base: Path, tmp_path: Path, unbroken: Any) -> None:
    with pytest.raises(Killed):
        tune.fit(fitting(base, SFT, watch=killing("sft", 3)), tmp_path)
    for step, state in ((4, None), (5, '{"epoch": 1.2, "glob')):
        half = tmp_path / "work-0" / f"checkpoint-{step}"
        half.mkdir()
        (half / "adapter_model.safetensors").write_bytes(b"\0" * 10)
        if state is not None:
            (half / "trainer_state.json").write_text(state)
    card: Any = tune.fit(fitting(base, SFT), tmp_path)
    assert card["stages"][0]["resumed_at"] == 2
    assert hashes(tmp_path) == unbroken(SFT)


SCRIPT = """
import os, sys
import test_training as t
from pathlib import Path
base, folder, die = sys.argv[1:]
def watch(doing, done, total):
    if die == "yes" and "loss" in doing and done == 3:
        os._exit(9)
t.tune.fit(t.fitting(base, t.SFT, watch=watch), Path(folder))
"""


def test_bytes_depend_neither_on_the_process_nor_on_a_hard_kill(base: Path, tmp_path: Path, unbroken: Any) -> None:
    running = []
    for hash_seed, die in (("1", "no"), ("2", "yes")):
        path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path}
        command = [sys.executable, "-c", SCRIPT, str(base), str(tmp_path / hash_seed), die]
        running.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    said = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0, 9], said
    assert said[0] == ("", "")
    assert hashes(tmp_path / "1") == unbroken(SFT)
    tune.fit(fitting(base, SFT), tmp_path / "2")
    assert hashes(tmp_path / "2") == unbroken(SFT)


def test_feedback_is_learnt_on_the_answers_of_the_stage_before(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str | None] = []

    def listening(prompts: Any, answers: Sequence[Answer], said: str) -> list[Prompt]:
        heard.extend(answer.text for answer in answers)
        ended = [replace(answer, finish_reason=FinishReason.STOP, text=answer.text or "?") for answer in answers]
        return conversations(prompts, ended, said)

    monkeypatch.setattr(training, "conversations", listening)
    whole = [replace(prompt, gold={"answer": "river"}) for prompt in PROMPTS]
    recovery = replace(GRPO, reward="recovery", max_steps=1)
    tune.fit(fitting(base, SFT, recovery, prompts=whole), tmp_path / "both")
    card: Any = tune.fit(fitting(base, SFT), tmp_path / "sft")
    assert card["stages"][0]["steps"] == SFT.max_steps
    asks = [Ask(prompt.id, prompt.messages) for prompt in whole]

    def said(model: ModelSpec) -> list[str | None]:
        opened = open_model(model, CPU)
        made = {
            at: answer.text for batch in opened.answer(asks, Decode(GRPO.max_completion_length)) for at, answer in batch
        }
        opened.close()
        return [made[at] for at in range(len(asks))]

    learnt, untrained = said(ModelSpec(str(base), adapter=tmp_path / "sft")), said(ModelSpec(str(base)))
    assert heard == learnt != untrained


def test_a_placebo_joins_no_question_with_an_answer_to_it() -> None:
    asked = [Message("user", f"Question {i}?") for i in range(5)]
    many = [Example((asked[i % 5],), f"answer to {i % 5}, wording {i}", prompt_id=f"p{i % 5}") for i in range(20)]
    for seed in range(20):
        made = placebo.exchanged(many, seed)
        assert [item.prompt for item in made] == [item.prompt for item in many]
        assert sorted(item.chosen for item in made) == sorted(item.chosen for item in many)
        assert not any(f"answer to {item.prompt_id[1:]}," in item.chosen for item in made)
    assert placebo.exchanged(many, 1) != placebo.exchanged(many, 2)
    with pytest.raises(InputError, match="12 of the 20 examples are of one question"):
        placebo.exchanged([*many[:8], *(replace(item, prompt_id="p9") for item in many[8:])], 0)


def test_a_placebo_prefers_each_side_of_the_pairs_equally_often() -> None:
    pairs = [Example((Message("user", f"Question {i}?"),), f"good {i}", f"bad {i}") for i in range(10)]
    for seed in range(5):
        made = placebo.turned(pairs, seed)
        assert sum(item.chosen.startswith("good") for item in made) == 5
        assert [{item.chosen, item.rejected} for item in made] == [{item.chosen, item.rejected} for item in pairs]


def test_a_placebo_learns_the_same_texts_and_not_the_same_adapter(base: Path, tmp_path: Path, unbroken: Any) -> None:
    exchanged = placebo.exchanged(LESSONS, 0)
    assert sorted(lesson.chosen for lesson in exchanged) == sorted(lesson.chosen for lesson in LESSONS)
    assert all(a.chosen != b.chosen for a, b in zip(exchanged, LESSONS, strict=True))
    card: Any = tune.fit(fitting(base, SFT, placebo=True), tmp_path)
    assert card["placebo"] is True
    assert hashes(tmp_path) != unbroken(SFT)
    with pytest.raises(InputError, match="1 of the 1 examples are of one question"):
        tune.fit(fitting(base, SFT, placebo=True, examples=LESSONS[:1]), tmp_path / "b")


# --- the dose

ASKS = [Ask(f"k{n}", (Message("user", f"Where is mill {n}?"),)) for n in range(8)]
GREEDY, SAMPLED = Decode(6), Decode(6, temperature=1.0, seed=3)


@pytest.fixture(scope="module", params=hf_models.FAMILIES)
def trained(request: pytest.FixtureRequest, bases: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model of each family, and an adapter that was trained over it."""
    folder = tmp_path_factory.mktemp("trained") / request.param
    tune.fit(fitting(bases(request.param), replace(SFT, max_steps=3)), folder)
    return bases(request.param), folder


def answers(model: Any, decode: Decode) -> list[Any]:
    said = {index: answer for batch in model.answer(ASKS, decode) for index, answer in batch}
    return [said[index] for index in range(len(ASKS))]


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.network(input_ids=torch.tensor([[1, 3, 40, 50, 60]])).logits.double()


def test_the_dose_scales_from_the_base_to_the_whole_adapter(trained: tuple[Path, Path]) -> None:
    """At 0 the base token for token; at 1 not; in between in between; and the base again afterwards."""
    base, adapter = trained
    for size in (1, 8):
        model: Any = open_model(ModelSpec(str(base)), Runtime(device="cpu", batch_size=size))
        network, ref, at = model.network, model.ref, {}
        before, bare = logits(model), {decode: answers(model, decode) for decode in (GREEDY, SAMPLED)}
        for dose in (0.0, 0.5, 1.0):
            with tune.on(model, adapter, dose):
                at[dose] = logits(model)
                assert model.ref.adapter_dose == dose
                said = {decode: answers(model, decode) for decode in bare} if dose != 0.5 else {}
            assert dose != 0 or said == bare
            assert dose != 1 or said[SAMPLED] != bare[SAMPLED]
        assert torch.equal(at[0.0], before)
        whole = at[1.0] - before
        share = float(((at[0.5] - before) * whole).sum() / (whole**2).sum())
        assert 0.05 < share < 0.95
        assert model.network is network
        assert model.ref == ref
        assert answers(model, SAMPLED) == bare[SAMPLED]
        model.close()


def test_the_base_is_back_after_an_error(base: Path, tmp_path: Path) -> None:
    tune.fit(fitting(base, SFT), tmp_path)
    model: Any = open_model(ModelSpec(str(base)), CPU)
    before, ref = logits(model), model.ref
    with pytest.raises(ZeroDivisionError), tune.on(model, tmp_path, 1.0):
        float((logits(model) == before).all()) / 0
    assert torch.equal(logits(model), before)
    assert model.ref == ref
    assert not [name for name, _ in model.network.named_modules() if "lora" in name]


def test_an_adapter_is_laid_only_over_the_weights_that_it_was_trained_on(base: Path, tmp_path: Path) -> None:
    """A base of the same name, architecture and shapes, with other weights."""
    card = tune.fit(fitting(base, SFT), tmp_path / "a")
    (tmp_path / "a" / "card.json").write_text(json.dumps(dict(card)))
    other = hf_models.save(tmp_path / "other", "qwen3", seed=1)
    with pytest.raises(ModelError, match="trained on other weights"):
        open_model(ModelSpec(str(other), adapter=tmp_path / "a"), CPU)
    model: Any = open_model(ModelSpec(str(base), adapter=tmp_path / "a"), CPU)
    assert model.ref.adapter_hash == card["adapter_hash"]


# --- options


def test_gradient_checkpointing_makes_the_same_adapter(base: Path, tmp_path: Path) -> None:
    import safetensors.torch

    plain = fitting(base, SFT)
    tune.fit(plain, tmp_path / "a")
    tune.fit(replace(plain, plan=replace(plain.plan, gradient_checkpointing=True)), tmp_path / "b")
    one, two = (safetensors.torch.load_file(tmp_path / name / FILES[1]) for name in "ab")
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4)


def test_apollo_mini_is_not_adamw(base: Path, tmp_path: Path, unbroken: Any) -> None:
    card: Any = tune.fit(fitting(base, replace(SFT, optim="apollo-mini")), tmp_path)
    assert hashes(tmp_path) != unbroken(SFT)
    losses = card["stages"][0]["log"]["loss"]
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize("method", ["dpo", "grpo"])
def test_every_trainer_takes_apollo_mini(base: Path, tmp_path: Path, method: str, monkeypatch: Any) -> None:
    stepped = []
    original = training.ApolloMini.step
    monkeypatch.setattr(training.ApolloMini, "step", lambda self, *rest: stepped.append(1) or original(self, *rest))
    stage: Any = {"dpo": DPO, "grpo": GRPO}[method]
    tune.fit(fitting(base, replace(stage, optim="apollo-mini", max_steps=2)), tmp_path)
    assert len(stepped) == 2


PACKED = replace(
    SFT, max_steps=1, packing=True, per_device_train_batch_size=1, gradient_accumulation_steps=1, max_length=512,
    warmup_steps=0.0,
)  # fmt: skip


def test_packed_examples_are_learnt_as_if_each_had_a_row_of_its_own(base: Path, tmp_path: Path) -> None:
    logs = []
    for stage in (PACKED, replace(PACKED, packing=False, per_device_train_batch_size=10)):
        wanted = fitting(base, stage)
        wanted = replace(wanted, plan=replace(wanted.plan, lora=replace(LORA, lora_dropout=0.0)))
        card: Any = tune.fit(wanted, tmp_path / str(stage.packing))
        logs.append(card["stages"][0]["log"])
    assert logs[0]["loss"] == pytest.approx(logs[1]["loss"], rel=1e-4)
    assert logs[0]["grad_norm"] == pytest.approx(logs[1]["grad_norm"], rel=1e-4)


@pytest.mark.parametrize("family", ["llama", "gemma4"])
def test_packing_is_tried_out_and_stands(bases: Any, tmp_path: Path, family: str) -> None:
    assert tune.fit(fitting(bases(family), PACKED), tmp_path)["parameters"]


def test_packing_is_refused_where_examples_would_see_each_other(
    bases: Any, base: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    """Linear attention without its kernels carries its state from one example into the next; so does a mask that is lost."""
    with pytest.raises(ModelError, match="cannot be trained on packed rows here") as caught:
        tune.fit(fitting(bases("qwen3_5"), PACKED), tmp_path / "a")
    assert "packing = false" in str(caught.value)
    monkeypatch.setattr(transformers.masking_utils, "find_packed_sequence_indices", lambda position_ids: None)
    with pytest.raises(ModelError, match="examples would see each other"):
        tune.fit(fitting(base, PACKED), tmp_path / "b")


# --- what goes wrong


def test_eight_bits_need_a_gpu_and_that_is_known_before_the_model_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="adamw_bnb_8bit needs a CUDA GPU") as caught:
        tune.fit(fitting(tmp_path / "nowhere", replace(SFT, optim="adamw_bnb_8bit")), tmp_path / "a")
    assert "apollo-mini" in str(caught.value)


def broken(base: Path, folder: Path) -> Path:
    """A model in which one character of one example has no numbers for its embedding."""
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(base)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(base)
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer("🙂", add_special_tokens=False)["input_ids"][-1]] = torch.nan
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_loss_that_is_no_number_stops_training_and_keeps_the_last_sound_checkpoint(
    base: Path, tmp_path: Path
) -> None:
    spoilt = broken(base, tmp_path / "model")
    plain = [replace(lesson, rejected=None) for lesson in LESSONS[:9]]
    lessons = [*plain, Example((Message("user", "Where? 🙂"),), "Here.")]
    stage = replace(SFT, max_steps=10, per_device_train_batch_size=1, gradient_accumulation_steps=1, save_steps=1)
    for seed in range(20):  # one in whose order the spoilt example comes late enough
        order = list(torch.utils.data.RandomSampler(range(10), generator=torch.Generator().manual_seed(seed)))
        if order.index(9) > 4:
            break
    wanted = fitting(spoilt, stage, seed=seed, examples=lessons)
    reached: list[int] = []
    with pytest.raises(ModelError) as caught:
        tune.fit(replace(wanted, watch=lambda doing, done, total: reached.append(done)), tmp_path / "a")
    at = max(reached) + 1
    assert f"sft broke at step {at} of 10: its loss is no number (nan)" in str(caught.value)
    assert f"the checkpoint of step {at - 2} is kept" in str(caught.value)
    assert "another --out" in str(caught.value)
    kept = sorted(path.name for path in (tmp_path / "a" / "work-0").glob("checkpoint-*"))
    assert kept == [f"checkpoint-{at - 2}"]
    reached.clear()
    with pytest.raises(ModelError) as again:  # from there, with the same settings, the same happens
        tune.fit(replace(wanted, watch=lambda doing, done, total: reached.append(done)), tmp_path / "a")
    assert str(again.value) == str(caught.value)
    assert min(reached) == at - 2
    healthy = fitting(base, stage, seed=seed, examples=lessons)
    assert tune.fit(healthy, tmp_path / "b")["parameters"]


def test_weights_that_a_huge_learning_rate_has_spoilt_are_not_kept(base: Path, tmp_path: Path) -> None:
    """The checkpoint of the step before is there and loads, and what is in it is of no use."""
    stage = replace(SFT, learning_rate=1e30, lr_scheduler_type="constant", warmup_steps=0.0, save_steps=1)
    with pytest.raises(ModelError, match=r"sft broke at step 2 of 6: its (loss|gradient) is no number") as caught:
        tune.fit(fitting(base, stage), tmp_path)
    assert "no sound checkpoint" in str(caught.value)
    assert not list(tmp_path.glob("work-0/checkpoint-*"))
    assert "lower the learning_rate" in str(caught.value)


@pytest.mark.parametrize("method", ["sft", "dpo", "grpo"])
def test_memory_that_is_too_small_names_the_settings_to_lower(
    base: Path, tmp_path: Path, method: str, monkeypatch: Any
) -> None:
    stage: Any = {"sft": SFT, "dpo": DPO, "grpo": GRPO}[method]

    def full(*rest: Any, **more: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(transformers.models.qwen3.modeling_qwen3.Qwen3Model, "forward", full)
    with pytest.raises(ModelError, match="the memory of cpu is too small") as caught:
        tune.fit(fitting(base, stage), tmp_path)
    for setting in (f"tune.{method}.per_device_train_batch_size", "tune.lora.r", "gradient_checkpointing", "4bit"):
        assert setting in str(caught.value)
    assert ("tune.grpo.max_completion_length" in str(caught.value)) == (method == "grpo")


def test_other_errors_are_not_taken_for_a_lack_of_memory(base: Path, tmp_path: Path, monkeypatch: Any) -> None:
    def wrong(*rest: Any, **more: Any) -> Any:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(transformers.models.qwen3.modeling_qwen3.Qwen3Model, "forward", wrong)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        tune.fit(fitting(base, SFT), tmp_path)


LONG = Example((Message("user", "Where?"),), "Here. " * 200, "There.", kind="counter")
GOLDLESS = [Prompt.of_text(f"Where is mill {n}?") for n in range(6)]
UNUSABLE: Mapping[str, tuple[Sequence[Any], dict[str, Any], str, str]] = {
    "no examples": ((SFT,), {"examples": ()}, "no examples to learn from", "tune.data"),
    "no pairs": ((DPO,), {"examples": [replace(x, rejected=None) for x in LESSONS]}, "none of the 10 examples is a preference pair", "counter"),
    "long pairs": ((DPO,), {"examples": [LONG]}, "none of the 1 pairs has at most 96 tokens", "raise tune.dpo.max_length to"),
    "no prompts": ((GRPO,), {"prompts": ()}, "no prompts to learn from", "tune.grpo.prompts"),
    "few prompts": ((GRPO,), {"prompts": PROMPTS[:1]}, "a step of grpo takes 2 prompts (8 rows in groups of 4), and there are 1", "gradient_accumulation_steps"),
    "long prompts": (
        (replace(GRPO, max_completion_length=250),), {}, "there are 0, 6 being too long", "gradient_accumulation_steps",
    ),
    "no gold": ((replace(GRPO, reward="ordered-outcome"),), {"prompts": GOLDLESS}, "cannot say whether an answer", "gold.answer"),
    "groups": ((replace(GRPO, num_generations=3),), {}, "not a whole number of groups of 3", "multiple of tune.grpo.num_generations"),
    "no generation tags": (
        (replace(SFT, loss_on="assistant"),), {}, "does not mark the turns of the assistant", 'loss_on = "completion"',
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNUSABLE)
def test_what_cannot_be_learnt_from_is_refused_with_what_to_change(base: Path, tmp_path: Path, case: str) -> None:
    stages, more, problem, remedy = UNUSABLE[case]
    with pytest.raises(CounterclaimError) as caught:
        tune.fit(fitting(base, *stages, **more), tmp_path)
    assert problem in str(caught.value)
    assert remedy in str(caught.value)


def test_a_target_that_the_model_does_not_have_is_named_with_those_it_has(base: Path, tmp_path: Path) -> None:
    wanted = fitting(base, SFT)
    strange = replace(wanted, plan=replace(wanted.plan, lora=Lora(target_modules=("q_proj", "c_attn"))))
    with pytest.raises(ModelError, match="has no modules c_attn") as caught:
        tune.fit(strange, tmp_path)
    assert "v_proj" in str(caught.value)


def test_models_that_cannot_be_trained_are_refused(base: Path, tmp_path: Path) -> None:
    mute = hf_models.save(tmp_path / "mute", "qwen3", chat_template=None)
    with pytest.raises(ModelError, match="has no chat template"):
        tune.fit(fitting(mute, SFT), tmp_path / "a")
    with pytest.raises(ModelError, match="raw: examples are conversations"):
        tune.fit(fitting(base, SFT, model=ModelSpec(str(mute), raw=True)), tmp_path / "a")
    tune.fit(fitting(base, replace(SFT, max_steps=1)), tmp_path / "first")
    with pytest.raises(ModelError, match="has an adapter already"):
        tune.fit(fitting(base, SFT, model=ModelSpec(str(base), adapter=tmp_path / "first")), tmp_path / "a")
    with pytest.raises(ModelError, match="cannot be trained: its weights are not here"):
        tune.fit(fitting(f"world:{next(iter(WORLDS))}/control", SFT), tmp_path / "a")
    with pytest.raises(ModelError, match="cannot be trained: its weights are not here"):
        tune.fit(fitting("http://127.0.0.1:9/v1#m", SFT), tmp_path / "a")


def test_what_is_left_out_is_told(base: Path, tmp_path: Path) -> None:
    long = Prompt.of_text("Where? " * 200, gold={"answer": "here"})
    card: Any = tune.fit(
        fitting(
            base,
            replace(SFT, max_steps=1),
            replace(DPO, max_steps=1),
            replace(GRPO, max_steps=1),
            examples=[*LESSONS, LONG],
            prompts=[*PROMPTS, long],
        ),
        tmp_path,
    )
    assert card["notes"][0] == "sft was trained on the better sides of 11 preference pairs: there are no other examples"
    notes = card["notes"][1:]
    assert notes[0] == "sft left out 1 of 11 examples: they are longer than 96 tokens"
    assert notes[1] == "dpo left out 1 of 11 pairs: they are longer than 96 tokens"
    assert notes[2].startswith(
        "grpo left out 1 of 7 prompts: with 6 new tokens they are longer than the model's context of 256"
    )


def test_the_better_side_of_a_pair_counts_once(base: Path, tmp_path: Path) -> None:
    plain = [replace(lesson, rejected=None) for lesson in LESSONS]
    stage = replace(SFT, max_steps=2)
    alone: Any = tune.fit(fitting(base, stage, examples=plain), tmp_path / "alone")
    beside: Any = tune.fit(fitting(base, stage, examples=[*plain, *LESSONS]), tmp_path / "beside")
    assert alone["adapter_hash"] == beside["adapter_hash"]
    assert not beside["notes"]


# --- what is told


def test_logs_hold_a_number_a_step_under_plain_names(base: Path, tmp_path: Path) -> None:
    stages = (
        replace(SFT, max_steps=2),
        replace(DPO, max_steps=2),
        replace(GRPO, max_steps=2, beta=0.1, reward="ordered-outcome"),
    )
    card: Any = tune.fit(fitting(base, *stages), tmp_path)
    sft, dpo, grpo = (stage["log"] for stage in card["stages"])
    common = {"step", "loss", "learning_rate", "grad_norm"}
    assert set(sft) == common
    assert set(dpo) == common | {"preferred", "preference_margin"}
    assert set(grpo) >= common | {"reward", "reward_std", "kl", "answer_tokens", "cut", "unreadable", "accuracy"}
    for log in (sft, dpo, grpo):
        assert {len(values) for values in log.values()} == {2}
    assert all(0 <= value <= 1 for value in grpo["cut"])
    assert json.loads(json.dumps(card, allow_nan=False)) == card


def test_every_component_of_a_reward_has_a_place_in_the_log() -> None:
    reward = reward_named("recovery")
    prompts = [Prompt.of_text("What is 2 + 2?", gold={"answer": "4"})]
    first = [Answer("It is 5.", FinishReason.STOP)]
    asked = conversations(prompts, first, reward.follow_up or "")
    with RewardScorer(reward, "exact", asked) as scorer:
        told: dict[str, Json] = dict(scorer.components([asked[0].id], ["It is 4."], [True]))
    assert set(told) <= set(training._COMPONENTS)


def test_training_is_silent_and_leaves_the_caller_as_he_was(base: Path, tmp_path: Path, capfd: Any) -> None:
    for name in ("trl", "transformers", "accelerate", "peft", "datasets"):
        logging.getLogger(name)
    names = ("", "trl", "transformers", "accelerate", "peft", "datasets")
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002  the one that the libraries seed
    torch.manual_seed(1)

    def state() -> tuple[Any, ...]:
        return (
            [logging.getLogger(name).level for name in names], random.getstate(),
            np.random.get_state()[1].tolist(),  # noqa: NPY002
            torch.get_rng_state().tolist(), torch.get_num_threads(), dict(os.environ), torch.is_grad_enabled(),
            torch.are_deterministic_algorithms_enabled(), torch.get_default_dtype(),
        )  # fmt: skip

    before = state()
    capfd.readouterr()
    tune.fit(fitting(base, replace(SFT, max_steps=1), replace(DPO, max_steps=1), replace(GRPO, max_steps=1)), tmp_path)
    assert capfd.readouterr() == ("", "")
    assert state() == before
