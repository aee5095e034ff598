"""``[treatment.tune]`` of a study file: recipes with what the file says laid over them, and what is refused with a remedy."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from counterclaim.config import table, validated
from counterclaim.errors import InputError
from counterclaim.lab.config import ArmPlan, Dpo, Grpo, Lora, Sft, TunePlan, change_json
from counterclaim.lab.config.study import ArmTable
from counterclaim.lab.config.training import ATTENTION, MLP, RECIPES
from counterclaim.records import Decode
from counterclaim.registry import ModelSpec
from counterclaim.report.changes import describe_change

HERE = Path("/studies/mine.toml")
GRPO = '[grpo.prompts]\nset = "tiny"\n'


@table
class File:
    treatment: ArmTable


def plan(text: str) -> TunePlan:
    tune = validated(File, {"treatment": {"tune": tomllib.loads(text)}}, text, HERE, "see docs/study.md").treatment.tune
    assert tune is not None
    return tune


def spelt(text: str, placebo: bool = False) -> dict[str, Any]:
    """The training as study.json has it."""
    return change_json(ArmPlan("treated", ModelSpec("tiny:qwen3"), Decode(8), plan(text), placebo=placebo))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_a_plan_by_itself(name: str) -> None:
    needs = GRPO if "grpo" in RECIPES[name] else ""
    made = plan(f'recipe = "{name}"\n' + ("" if needs else 'data = "train.jsonl"\n') + needs)
    assert made.recipe == name
    for stage in made.stages:
        stated = RECIPES[name][type(stage).__name__.lower()]
        assert {key: getattr(stage, key) for key in stated} == dict(stated)


def test_the_recipes_of_the_paper_are_those_of_the_paper() -> None:
    made = plan('recipe = "paper-sft-dpo"\ndata = "train"\n')
    assert made.lora == Lora(
        target_modules=(*ATTENTION, *MLP), r=64, lora_alpha=128.0, use_rslora=True, lora_dropout=0.05
    )
    assert made.gradient_checkpointing
    sft, dpo = made.stages
    assert isinstance(sft, Sft)
    assert isinstance(dpo, Dpo)
    rate = (sft.learning_rate, sft.lr_scheduler_type, sft.warmup_steps)
    assert (*rate, sft.num_train_epochs, sft.rows_per_step) == (2e-4, "cosine", 0.1, 3.0, 32)
    assert (sft.optim, sft.mask_think) == ("apollo-mini", True)
    assert (dpo.learning_rate, dpo.beta) == (5e-6, 0.1)
    assert plan('recipe = "paper-attention"\ndata = "train"\n').lora.target_modules == ATTENTION
    assert plan('recipe = "paper-all-modules"\ndata = "train"\n').lora.r == 32


def test_what_the_file_says_goes_before_the_recipe_key_by_key() -> None:
    made = plan('recipe = "paper-sft-dpo"\ndata = "train"\n[sft]\nlearning_rate = 1e-3\n[lora]\nr = 8\n')
    sft = made.stages[0]
    assert (sft.learning_rate, sft.num_train_epochs, made.lora.r, made.lora.lora_alpha) == (1e-3, 3.0, 8, 128.0)


def test_steps_go_before_epochs_wherever_these_were_said() -> None:
    (sft, _) = plan('recipe = "paper-sft-dpo"\ndata = "train"\n[sft]\nmax_steps = 7\n').stages
    assert sft.max_steps == 7
    assert sft.num_train_epochs == Sft().num_train_epochs


def test_stages_stand_in_their_order_whatever_the_order_in_the_file() -> None:
    made = plan('data = "x.jsonl"\n[dpo]\n[grpo]\n[grpo.prompts]\nset = "tiny"\n[sft]\n')
    assert [type(stage) for stage in made.stages] == [Sft, Dpo, Grpo]


def test_paths_are_found_from_the_folder_of_the_file() -> None:
    assert plan('data = "train.jsonl"\n[sft]\n').data == Path("/studies/train.jsonl")
    assert plan('data = "/else/train.jsonl"\n[sft]\n').data == Path("/else/train.jsonl")
    (grpo,) = plan('[grpo]\nprompts = { file = "p.jsonl", tags = ["a"], limit = 3 }\n').stages
    assert isinstance(grpo, Grpo)
    assert grpo.prompts is not None
    assert (grpo.prompts.source, grpo.prompts.tags, grpo.prompts.limit) == ("/studies/p.jsonl", ("a",), 3)


def test_doses_are_sorted_and_told_once() -> None:
    made = plan('data = "x"\ndoses = [1.0, 0.5, 0, 0.5]\nplacebo = true\n[sft]\n')
    assert (made.doses, made.placebo) == ((0.0, 0.5, 1.0), True)


def test_targets_are_named_modules_or_stand_for_them() -> None:
    assert plan('data = "x"\n[sft]\n[lora]\ntarget_modules = "attention"\n').lora.target_modules == ATTENTION
    assert plan('data = "x"\n[sft]\n[lora]\ntarget_modules = ["q_proj", "in_proj_a"]\n').lora.target_modules == (
        "q_proj",
        "in_proj_a",
    )


REFUSED = {
    "unknown recipe": ('recipe = "papper"\ndata = "x"\n', "there is no recipe 'papper'", "paper-sft-dpo"),
    "nothing": (
        'data = "x"\n',
        "nothing is trained",
        "treatment.tune: nothing is trained; name a recipe, or add a table sft",
    ),
    "no data": ("[sft]\n", "sft and dpo learn from examples", "name a training set or a pipeline file"),
    "data for rewards": ('data = "x"\n' + GRPO, "grpo learns from rewards, not from examples", "leave data out"),
    "no prompts": (
        "[grpo]\n",
        "treatment.tune.grpo: no prompts are named to be answered during training",
        'set = "tiny"',
    ),
    "two sources": ('[grpo.prompts]\nset = "tiny"\nfile = "x"\n', "name either a set or a file", 'set = "tiny"'),
    "no source": ('[grpo.prompts]\nsplit = "train"\n', "name either a set or a file", 'set = "tiny"'),
    "seeds": (
        'data = "x"\nseeds = [1, 2, 1]\n[sft]\n',
        "treatment.tune.seeds: 1 is listed twice",
        "name different seeds",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_trained_is_refused_with_a_remedy(case: str) -> None:
    text, problem, remedy = REFUSED[case]
    with pytest.raises(InputError) as caught:
        plan(text)
    assert problem in str(caught.value)
    assert remedy in str(caught.value)
    assert str(HERE) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "[sft]\nlearning_rate = 0\n", "[sft]\nlearning_rate = nan\n", "[sft]\nnum_train_epochs = -1\n", "[sft]\nmax_steps = 0\n",
        "[sft]\nwarmup_steps = -1\n", '[sft]\noptim = "sgd"\n', "[sft]\ngradient_accumulation_steps = 0\n", '[sft]\nloss_on = "prompt"\n', "[sft]\nbeta = 0.1\n",
        "[dpo]\nbeta = 0\n", "[grpo]\nnum_generations = 1\n", "[grpo]\ntemperature = 0\n", '[grpo]\nscale_rewards = "mean"\n',
        "[lora]\nr = 0\n", "[lora]\nlora_dropout = 1.0\n", '[lora]\ntarget_modules = "mlp"\n', "seeds = []\n", 'seeds = ["a"]\n',
        '[grpo.prompts]\nset = "tiny"\nsplit = "test"\n', "learning_rat = 1\n", "doses = [inf]\n",
    ],
)  # fmt: skip
def test_values_that_make_no_sense_are_refused_with_their_key(text: str) -> None:
    key = text.split("\n")[-2].partition(" =")[0]
    with pytest.raises(InputError, match=rf"treatment\.tune\.([a-z.]+\.)?{key}(\.\d+)?: "):
        plan(text)


def test_the_test_split_is_never_among_the_splits_that_are_trained_on() -> None:
    for split in ("train", "dev"):
        assert plan(f'[grpo.prompts]\nset = "tiny"\nsplit = "{split}"\n').stages


def test_settings_have_the_names_of_the_libraries_that_take_them() -> None:
    """A key that TRL or PEFT does not know is one of ours, and is listed as such; all others are handed on as they are."""
    pytest.importorskip("trl")
    from peft import LoraConfig
    from trl import DPOConfig, GRPOConfig, SFTConfig

    from counterclaim.lab.operators.training import OURS

    for ours, theirs in ((Sft, SFTConfig), (Dpo, DPOConfig), (Grpo, GRPOConfig), (Lora, LoraConfig)):
        known = {item.name for item in fields(theirs)}
        assert {item.name for item in fields(ours)} - known <= set(OURS)
        assert not known & set(OURS)


def test_a_training_is_described_with_what_it_was_trained_on() -> None:
    own = 'recipe = "sft"\ndata = "taught/own.jsonl"\nlora = { target_modules = ["q_proj"], r = 4 }\n'
    assert (
        describe_change(spelt(own))
        == "1 adapter of rank 4 on 1 kind of modules, trained by SFT (3 epochs) on own.jsonl"
    )
    assert describe_change(spelt(own, placebo=True)).endswith("(3 epochs) on own.jsonl, shuffled")
    paid = 'recipe = "outcome"\n' + GRPO
    assert describe_change(spelt(paid, placebo=True)).endswith(" on shuffled data")
    assert not describe_change(spelt(paid)).endswith("data")
