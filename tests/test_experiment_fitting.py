"""Arms that are trained, from the study file to their answers: what is refused first, what is learnt, what is known of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from counterclaim.errors import InputError, ModelError
from counterclaim.lab import fits
from counterclaim.lab.answers import Progress
from counterclaim.lab.config import (
    ArmPlan,
    Dpo,
    Grpo,
    PipelinePlan,
    ProbePlan,
    PromptChoice,
    Sft,
    SidecarPlan,
    SteerPlan,
    TemperPlan,
    TrainingPrompts,
    TunePlan,
    change_hash,
    load_study,
)
from counterclaim.records import Decode, Example, Json, Message, Prompt
from counterclaim.registry import ModelSpec
from counterclaim.text.overlap import scan

TINY = ModelSpec("tiny:qwen3-small")
GRPO = Grpo(prompts=TrainingPrompts("tiny", limit=16))
DATA = Path("lessons.jsonl")


def arm(*stages: Any, name: str = "treated", model: ModelSpec = TINY, placebo: bool = False, **more: Any) -> ArmPlan:
    stages = stages or (Sft(),)
    given = {} if all(isinstance(stage, Grpo) for stage in stages) else {"data": DATA}
    return ArmPlan(name, model, Decode(8), TunePlan.of(*stages, **given | more), placebo=placebo)


def rows(path: Path, *rows: Mapping[str, Json]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# refused before anything is asked or loaded ---------------------------------------------------------------------------


def test_a_reward_is_found_wanting_before_anything_is_trained() -> None:
    fits.check_fits([arm(GRPO), arm(replace(GRPO, reward="recovery"))])
    with pytest.raises(InputError, match="no reward 'ordred-outcome'"):
        fits.check_fits([arm(Sft(), replace(GRPO, reward="ordred-outcome"))])
    with pytest.raises(InputError, match="no scorer"):
        fits.check_fits([arm(replace(GRPO, oracle="exakt"))])
    with pytest.raises(InputError, match="needs the tests of each prompt"):
        fits.check_fits([arm(replace(GRPO, reward="code", oracle="code"))])


def test_prompts_whose_gold_the_oracle_cannot_read_are_refused(tmp_path: Path) -> None:
    file = rows(tmp_path / "p.jsonl", {"prompt": "What is 2 + 2?", "split": "train"})
    with pytest.raises(InputError, match="cannot say whether an answer"):
        fits.check_fits([arm(replace(GRPO, prompts=TrainingPrompts(str(file))))])


def test_a_model_that_does_not_train_is_refused() -> None:
    with pytest.raises(ModelError, match=r"tune cannot change .*: its backend"):
        fits.check_fits([arm(model=ModelSpec("world:clean/control"))])


def test_nothing_is_trained_on_what_the_claim_is_tested_on(tmp_path: Path) -> None:
    asked: dict[str, Json] = {"prompt": "What is 2 + 2?", "answer": "4", "split": "train"}
    choice = TrainingPrompts(str(rows(tmp_path / "p.jsonl", asked)))
    fits.check_fits([arm(replace(GRPO, prompts=choice))], [Prompt.of_text("What is 3 + 3?")])
    with pytest.raises(InputError, match="1 of the 1 training prompts are also those on which the claim is tested"):
        fits.check_fits([arm(replace(GRPO, prompts=choice))], [Prompt.of_text("What is 2 + 2?")])
    world = TrainingPrompts("world:clean")  # planted worlds know no other split than their own
    with pytest.raises(InputError, match="no prompt is in the split 'train'"):
        fits.check_fits([arm(replace(GRPO, prompts=world))])


# what is learnt ---------------------------------------------------------------------------------------------------


def test_every_model_is_taught_with_its_own_mistakes_and_without_the_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = tmp_path / "pipeline.toml"
    pipeline.write_text(
        'student = { model = "tiny:qwen3" }\nproducts = ["gold", "failure"]\noracle = "exact"\n'
        'prompts = [{ set = "tiny" }]\n[decode]\nmax_new_tokens = 8\n'
        '[stages.one]\nmodel = "character:eager"\nlicence = "Apache-2.0"\n'
    )

    def teach(plan: PipelinePlan, folder: Path, watch: Any, *, wait: bool) -> None:
        assert plan.student is not None
        assert wait
        assert plan.forbidden == (PromptChoice("python"),)
        folder.mkdir(parents=True)
        answer = {"prompt": [{"role": "user", "content": "Who?"}], "chosen": f"taught {plan.student.name}"}
        rows(folder / "examples.jsonl", answer)

    monkeypatch.setattr(fits, "teach", teach)
    monkeypatch.chdir(tmp_path)
    small, other = arm(data=pipeline), arm(name="other", model=ModelSpec("tiny:llama"), data=pipeline)
    half = arm(name="half", model=replace(TINY, dose=0.5), data=pipeline)
    training = fits.training_sets([small, other, half], Progress(), PromptChoice("python"))
    assert {name: [item.chosen for item in found.examples] for name, found in training.items()} == {
        "treated": ["taught tiny:qwen3-small"], "other": ["taught tiny:llama"], "half": ["taught tiny:qwen3-small"],
    }  # fmt: skip
    assert training["treated"].hash == training["half"].hash != training["other"].hash


LONG = " ".join(["and so on, as one says"] * 40)


def pair(question: str, rejected: str | None = None) -> Example:
    return Example((Message("user", question),), f"<think>one two three</think> {LONG}", rejected)


def test_a_test_prompt_is_found_wherever_it_was_learnt_from() -> None:
    asked = [
        Prompt.of_text(
            f"Which of the {i} old mills beside the quiet river burnt down in the winter of the year {i} and why?"
        )
        for i in (1871, 1902, 1915)
    ]
    training = fits.TrainingSet(
        [
            pair("What is known?", f"You ask: {asked[0].text} Nobody knows."),  # in the worse side of a pair
            pair(asked[1].text.replace("quiet", "silent")),  # edited, beside a long answer
        ],
        [asked[2]],  # answered for a reward
    )
    found = scan({prompt.id: prompt.text for prompt in asked}, training.texts)
    assert set(found.hits()) == {prompt.id for prompt in asked}


def test_what_is_to_be_imitated_is_measured_without_questions_and_worse_sides() -> None:
    assert fits.TrainingSet([pair("Who?", "Nobody, " * 99), pair("Why?")]).words == [3, 240]
    assert fits.TrainingSet(prompts=[Prompt.of_text("Who?")]).words == []


# what an adapter is known by -----------------------------------------------------------------------------------------


def test_an_adapter_is_known_by_what_is_learnt_and_not_by_where_it_lies() -> None:
    here = arm(replace(GRPO, prompts=TrainingPrompts("/here/prompts.jsonl")))
    there = arm(replace(GRPO, prompts=TrainingPrompts("/there/prompts.jsonl")))
    assert change_hash(here, "a") == change_hash(there, "a")
    assert change_hash(here, "a") != change_hash(here, "b")
    for changed in (
        replace(TINY, name="tiny:qwen3"), replace(TINY, dtype="bfloat16"), replace(TINY, quantisation="4bit"),
        replace(TINY, revision="r2"),
    ):  # fmt: skip
        assert change_hash(arm(model=changed)) != change_hash(arm())
    for plan in (
        arm(Sft(learning_rate=1e-3)), arm(Sft(), Dpo()), arm(placebo=True), arm(gradient_checkpointing=True)
    ):  # fmt: skip
        assert change_hash(plan) != change_hash(arm())
    assert change_hash(arm(model=replace(TINY, dose=0.5), recipe="sft", seeds=(4,))) == change_hash(arm())


LEARNT = TrainingPrompts("/here/prompts.jsonl")
EDITS = {
    "temper": TemperPlan(prompts=LEARNT),
    "steer": SteerPlan(prompts=LEARNT, toward="cw", away="cr", kind="ablate"),
    "sidecar": SidecarPlan(prompts=LEARNT),
}
OTHERWISE: dict[str, dict[str, Any]] = {
    "temper": {
        "samples": 2, "scorers": ("length",), "cohort": "hw", "against": "hr", "rank_by": "directional", "top": 4,
        "last_tokens": 8,
    },
    "steer": {
        "samples": 2, "scorers": ("length",), "toward": "hw", "away": "hr", "site": "down_proj", "layers": (1,),
        "kind": "add", "rank": 2, "span": "all", "read": "last",
    },
    "sidecar": {
        "samples": 2, "scorers": ("length",), "probe": ProbePlan(C=0.1), "action": "careful", "says": "Hm: ", "keep": 0.9,
        "on_cut": "read",
    },
}  # fmt: skip


@pytest.mark.parametrize("operator", EDITS)
def test_an_edit_is_known_by_everything_that_changes_its_fit(operator: str) -> None:
    plan: Any = EDITS[operator]
    here = ArmPlan("treated", TINY, Decode(8), plan)
    not_the_fit = {"seeds", "prompts", "placebo", "dose", "doses", "scale", "scales", "heads", "contrast"}
    assert OTHERWISE[operator].keys() == {field.name for field in fields(plan)} - not_the_fit
    others = [replace(here, change=replace(plan, **{name: value})) for name, value in OTHERWISE[operator].items()]
    others += [
        replace(here, change=change) for change in (
            TemperPlan(heads=((0, 1),)), SteerPlan(prompts=LEARNT, contrast=("a", "b"), kind="ablate")
        ) if isinstance(plan, type(change))
    ]  # fmt: skip
    others += [
        replace(here, placebo=True), replace(here, decode=Decode(9)), replace(here, decode=Decode(8, system_prompt="Hm.")),
        replace(here, model=replace(TINY, name="tiny:qwen3")),
        replace(here, model=replace(TINY, dose=0.5)),  # of an adapter, with which the answers are given and read
    ]  # fmt: skip
    hashes = [*(change_hash(each) for each in (here, *others)), change_hash(here, "b")]
    assert len(set(hashes)) == len(hashes)
    for same in (
        replace(here, name="other"),
        replace(here, dose=0.25),
        replace(here, change=replace(plan, seeds=(4,))),
    ):
        assert change_hash(same) == change_hash(here)


def test_an_adapter_that_was_lost_or_changed_counts_as_not_trained(tmp_path: Path) -> None:
    ((_, job),) = fits._jobs([arm()], {"treated": fits.TrainingSet()}, tmp_path).items()
    assert not job.is_done
    job.folder.mkdir(parents=True)
    weights = job.folder / "adapter_model.safetensors"
    weights.write_bytes(b"trained")
    (job.folder / "adapter_config.json").write_text("{}")
    card = {"identity": job.identity, "files": fits._files_hash(job.folder)}
    (job.folder / "card.json").write_text(json.dumps(card))
    assert job.is_done
    assert not replace(job, identity="of another recipe").is_done
    weights.write_bytes(b"touched")
    assert not job.is_done
    weights.unlink()
    assert not job.is_done


# the study file ---------------------------------------------------------------------------------------------------

STUDY = """\
model = "tiny:qwen3"
[prompts]
set = "tiny"
[decode]
max_new_tokens = 48
temperature = 0.7
[treatment]
dose = {dose}
[treatment.tune]
recipe = "sft"
data = "train.jsonl"
seeds = [1, 2]
doses = [0, 0.5, 1]
placebo = true
[score]
scorers = ["exact", "delivery"]
[target]
metric = "accuracy"
direction = "increase"
margin = 0.05
"""


def study(tmp_path: Path, text: str) -> Any:
    file = tmp_path / "study.toml"
    file.write_text(text)
    return load_study(file)


def test_a_trained_arm_brings_every_other_dose_along(tmp_path: Path) -> None:
    def doses(dose: float) -> dict[str, float]:
        return {arm.name: arm.model.dose for arm in study(tmp_path, STUDY.format(dose=dose)).arms[1:]}

    assert doses(1) == {"treated": 1, "do-nothing": 0, "dose:0.5": 0.5, "placebo": 1}
    assert doses(0.5) == {"treated": 0.5, "do-nothing": 0, "dose:1": 1, "placebo": 0.5}


def test_doses_and_placebo_of_another_arm_are_no_silence(tmp_path: Path) -> None:
    other = '[arms.other.tune]\nrecipe = "sft"\ndata = "train.jsonl"\n'
    study(tmp_path, STUDY.format(dose=1) + other)
    for extra in ("doses = [0.5]", "placebo = true"):
        with pytest.raises(InputError, match="doses and placebo are those of the treatment"):
            study(tmp_path, STUDY.format(dose=1) + other + extra)


def test_what_is_wrong_in_a_tune_table_is_said_of_that_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^.*treatment\.tune\.recipe: there is no recipe 'sfd'"):
        study(tmp_path, STUDY.format(dose=1).replace('"sft"', '"sfd"'))
    with pytest.raises(InputError, match=r"treatment\.tune\.data: sft and dpo learn from examples"):
        study(tmp_path, STUDY.format(dose=1).replace('data = "train.jsonl"\n', ""))


def test_epochs_of_the_file_go_before_steps_of_the_recipe(tmp_path: Path) -> None:
    outcome = STUDY.format(dose=1).replace('recipe = "sft"\ndata = "train.jsonl"', 'recipe = "outcome"')
    prompts = '[treatment.tune.grpo]\nprompts = { set = "tiny" }\n'
    (stage,) = study(tmp_path, outcome + prompts).arms[1].change.stages
    assert stage.max_steps == 200
    (stage,) = study(tmp_path, outcome + prompts + "num_train_epochs = 2\n").arms[1].change.stages
    assert (stage.max_steps, stage.num_train_epochs) == (None, 2)


def test_neither_test_nor_fresh_prompts_are_trained_on(tmp_path: Path) -> None:
    text = STUDY.format(dose=1).replace('recipe = "sft"\ndata = "train.jsonl"', 'recipe = "outcome"')
    for split in ("test", "fresh"):
        with pytest.raises(
            InputError, match=r"treatment\.tune\.grpo\.prompts\.split: input should be 'train' or 'dev'"
        ):
            study(tmp_path, f'{text}[treatment.tune.grpo]\nprompts = {{ set = "tiny", split = "{split}" }}\n')


def test_what_can_never_be_trained_is_refused_in_the_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"treatment\.tune: examples are conversations"):
        study(tmp_path, STUDY.format(dose="1\nraw = true"))
    with pytest.raises(InputError, match=r"treatment\.tune\.lora\.target_modules"):
        study(tmp_path, STUDY.format(dose=1) + "[treatment.tune.lora]\ntarget_modules = []\n")


def test_the_card_of_a_training_set_says_who_taught(tmp_path: Path) -> None:
    taught = tmp_path / "taught"
    taught.mkdir()
    text = STUDY.format(dose=1).replace("train.jsonl", "taught")
    assert set(study(tmp_path, text).claim.roles) == {"student"}
    roles = {"teacher": ["glm-5", "kimi-k2"], "prompt_writer": ["glm-5"], "student": ["tiny:qwen3"]}
    (taught / "card.json").write_text(json.dumps({"roles": roles}))
    found = dict(study(tmp_path, text).claim.roles)
    assert found == {"teacher:1": "glm-5", "teacher:2": "kimi-k2", "prompt_writer": "glm-5", "student": "qwen3"}
    (taught / "card.json").write_text("[")
    assert set(study(tmp_path, text).claim.roles) == {"student"}
