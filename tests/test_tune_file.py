"""``[treatment.tune]`` of a study file: recipes with what the file says laid over them, and what is refused with a remedy."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pydantic
import pytest

from counterclaim.errors import InputError
from counterclaim.lab.config import Dpo, Grpo, Lora, Sft, TunePlan, change_json
from counterclaim.lab.config.prompts import Doses
from counterclaim.lab.config.training import ATTENTION, MLP, RECIPES, to_tune, tune_schema
from counterclaim.report.changes import describe_change

HERE = Path("/studies/mine.toml")
GRPO = '[grpo.prompts]\nset = "tiny"\n'


def read(text: str) -> tuple[TunePlan, Doses]:
    return to_tune(tune_schema().model_validate(tomllib.loads(text)), HERE, "treatment.tune")


def plan(text: str) -> TunePlan:
    return read(text)[0]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_a_plan_by_itself(name: str) -> None:
    needs = GRPO if "grpo" in RECIPES[name] else ""
    made = plan(f'recipe = "{name}"\n' + ("" if needs else 'data = "train.jsonl"\n') + needs)
    assert made.recipe == name
    for stage in made.stages:
        said = RECIPES[name][type(stage).__name__.lower()]
        assert {key: getattr(stage, key) for key in said} == dict(said)


def test_the_recipes_of_the_paper_are_those_of_the_paper() -> None:
    made = plan('recipe = "paper-sft-dpo"\ndata = "train"\n')
    assert made.lora == Lora((*ATTENTION, *MLP), 64, 128.0, True, 0.05)
    assert made.gradient_checkpointing
    sft, dpo = made.stages
    assert isinstance(sft, Sft)
    assert isinstance(dpo, Dpo)
    assert (sft.learning_rate, sft.epochs, sft.schedule, sft.warmup, sft.effective_batch) == (
        2e-4,
        3.0,
        "cosine",
        0.1,
        32,
    )
    assert (sft.optimiser, sft.mask_think) == ("apollo-mini", True)
    assert (dpo.learning_rate, dpo.beta) == (5e-6, 0.1)
    assert plan('recipe = "paper-attention"\ndata = "train"\n').lora.targets == ATTENTION
    assert plan('recipe = "paper-all-modules"\ndata = "train"\n').lora.rank == 32


def test_what_the_file_says_goes_before_the_recipe_key_by_key() -> None:
    made = plan('recipe = "paper-sft-dpo"\ndata = "train"\n[sft]\nlearning_rate = 1e-3\n[lora]\nrank = 8\n')
    sft = made.stages[0]
    assert (sft.learning_rate, sft.epochs, made.lora.rank, made.lora.alpha) == (1e-3, 3.0, 8, 128.0)


def test_steps_go_before_epochs_wherever_these_were_said() -> None:
    (sft, _) = plan('recipe = "paper-sft-dpo"\ndata = "train"\n[sft]\nsteps = 7\n').stages
    assert sft.steps == 7
    assert sft.epochs == Sft().epochs


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
    assert read('data = "x"\ndoses = [1.0, 0.5, 0, 0.5]\nplacebo = true\n[sft]\n')[1] == Doses((0.0, 0.5, 1.0), True)


def test_targets_are_named_modules_or_stand_for_them() -> None:
    assert plan('data = "x"\n[sft]\n[lora]\ntargets = "attention"\n').lora.targets == ATTENTION
    assert plan('data = "x"\n[sft]\n[lora]\ntargets = ["q_proj", "in_proj_a"]\n').lora.targets == (
        "q_proj",
        "in_proj_a",
    )


REFUSED = {
    "unknown recipe": ('recipe = "papper"\ndata = "x"\n', "there is no recipe 'papper'", "paper-sft-dpo"),
    "nothing": ('data = "x"\n', "nothing is trained", "name a recipe, or add a table [treatment.tune.sft]"),
    "no data": ("[sft]\n", "sft and dpo learn from examples", "name a training set or a pipeline file"),
    "data for rewards": ('data = "x"\n' + GRPO, "grpo learns from rewards, not from examples", "leave data out"),
    "no prompts": ("[grpo]\n", "nobody said which prompts are answered while training", 'set = "tiny"'),
    "two sources": ('[grpo.prompts]\nset = "tiny"\nfile = "x"\n', "name either a set or a file", 'set = "tiny"'),
    "no source": ('[grpo.prompts]\nsplit = "train"\n', "name either a set or a file", 'set = "tiny"'),
    "batches": (
        'data = "x"\n[sft]\nbatch_size = 5\n',
        "effective_batch 32 is no multiple of batch_size 5",
        "change one",
    ),
    "seeds": ('data = "x"\nseeds = [1, 2, 1]\n[sft]\n', "1 stands there twice", "name different seeds"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_trained_is_refused_with_a_remedy(case: str) -> None:
    text, problem, remedy = REFUSED[case]
    with pytest.raises(InputError) as caught:
        read(text)
    assert problem in str(caught.value)
    assert remedy in str(caught.value)
    assert str(HERE) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "[sft]\nlearning_rate = 0\n", "[sft]\nlearning_rate = nan\n", "[sft]\nepochs = -1\n", "[sft]\nsteps = 0\n",
        "[sft]\nwarmup = 1\n", '[sft]\noptimiser = "sgd"\n', '[sft]\nloss_on = "prompt"\n', "[sft]\nbeta = 0.1\n",
        "[dpo]\nbeta = 0\n", "[grpo]\ngenerations = 1\n", "[grpo]\ntemperature = 0\n", '[grpo]\nscale = "mean"\n',
        "[lora]\nrank = 0\n", "[lora]\ndropout = 1.0\n", '[lora]\ntargets = "mlp"\n', "seeds = []\n", 'seeds = ["a"]\n',
        '[grpo.prompts]\nset = "tiny"\nsplit = "test"\n', "learning_rat = 1\n", "doses = [inf]\n",
    ],
)  # fmt: skip
def test_values_that_make_no_sense_do_not_pass_the_schema(text: str) -> None:
    with pytest.raises(pydantic.ValidationError):
        tune_schema().model_validate(tomllib.loads(text))


def test_the_test_split_is_never_among_the_splits_that_are_trained_on() -> None:
    for split in ("train", "dev"):
        assert plan(f'[grpo.prompts]\nset = "tiny"\nsplit = "{split}"\n').stages


@pytest.mark.parametrize(("table", "kind"), [("sft", Sft), ("dpo", Dpo), ("grpo", Grpo), ("lora", Lora)])
def test_every_setting_can_be_said_and_every_key_is_one(table: str, kind: Any) -> None:
    """No setting of a stage is out of a file's reach, and no key is read and then forgotten."""
    annotation = tune_schema().model_fields[table].annotation
    schema = next(part for part in annotation.__args__ if part is not type(None))  # type: ignore[union-attr]
    assert set(schema.model_fields) == {item.name for item in fields(kind)}


def test_a_training_is_told_with_what_it_was_trained_on() -> None:
    said = change_json(plan('recipe = "sft"\ndata = "taught/own.jsonl"\nlora = { targets = ["q_proj"], rank = 4 }\n'))
    assert describe_change(said) == "1 adapter of rank 4 on 1 kind of modules, trained by SFT (3 epochs) on own.jsonl"
    assert describe_change({**said, "placebo": True}).endswith("(3 epochs) on own.jsonl, shuffled")
    paid = change_json(plan('recipe = "outcome"\n' + GRPO))
    assert describe_change({**paid, "placebo": True}).endswith(" on shuffled data")
    assert not describe_change(paid).endswith("data")
