"""Studies whose treatment changes a model without training it, end to end on a tiny random model."""

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
from counterclaim.lab.config import change_json, load_study
from counterclaim.lab.run import outline, run_study
from counterclaim.records import Response
from counterclaim.report.changes import describe_change

HEAD = """\
model = "model"

[prompts]
file = "prompts.jsonl"

[decode]
max_new_tokens = 8
temperature = 1.0

[score]
scorers = ["length"]

[target]
metric = "score.n_words"
direction = "increase"
margin = 1.0
"""
LEARNT = 'prompts = { file = "prompts.jsonl", split = "train" }\n'
TEMPER = f"""
[treatment.temper]
{LEARNT}cohort = "score.n_words>=4"
against = "score.n_words<4"
top = 3
scale = -2.0
scales = [1.0, 0.5]
placebo = true
"""
STEER = f"""
[treatment.steer]
{LEARNT}toward = "score.n_words>=4"
away = "score.n_words<4"
dose = 8.0
doses = [0, 2.0]
placebo = true
seeds = [1, 2]
"""
SIDECAR = f"""
[treatment.sidecar]
{LEARNT}probe = {{ cohort = "score.n_words>=4", folds = 3 }}
on_cut = "read"
says = "Perhaps: "
doses = [0, 0.1]
placebo = true
seeds = [1, 2]
"""
RECORDS = ("prompts.jsonl", "responses.jsonl", "scores.jsonl", "extras.json")


class Killed(Exception):
    """Stands in for the end of the process."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and its prompts, some to learn from and some to be tested on."""
    home = tmp_path_factory.mktemp("edited")
    hf_models.save(home / "model", "qwen3")
    rows = [{"prompt": f"What is twice {n}?", "split": "test" if n < 10 else "train"} for n in range(40)]
    write_rows(home / "prompts.jsonl", rows)
    return home


def load(home: Path, treatment: str, head: str = HEAD) -> Any:
    file = home / "mine.toml"
    file.write_text(head.replace('"model"', f'"{home / "model"}"') + treatment)
    plan = load_study(file)
    return replace(plan, runtime=replace(plan.runtime, device="cpu"))


@pytest.fixture(scope="module")
def tempered(home: Path) -> Path:
    run_study(load(home, TEMPER), home / "tempered")
    return home / "tempered"


@pytest.fixture(scope="module")
def gated(home: Path) -> Path:
    run_study(load(home, SIDECAR), home / "gated")
    return home / "gated"


def answers(folder: Path) -> dict[tuple[str, str], dict[str, Response]]:
    """Answers by arm and replicate, by prompt."""
    out: dict[tuple[str, str], dict[str, Response]] = defaultdict(dict)
    for response in read_run(folder).responses:
        out[str(response.arm), response.replicate][response.prompt_id] = response
    return out


def texts(folder: Path) -> dict[tuple[str, str], dict[str, str | None]]:
    return {key: {prompt: each.text for prompt, each in rows.items()} for key, rows in answers(folder).items()}


# one sweep, one study -------------------------------------------------------------------------------------------------


def test_a_sweep_holds_every_scale_and_a_placebo(tempered: Path) -> None:
    said = texts(tempered)
    assert set(said) == {(arm, "") for arm in ("control", "treated", "do-nothing", "dose:0.5", "placebo")}
    assert said["do-nothing", ""] == said["control", ""], "λ = 1 is the model itself, token for token"
    assert len({tuple(sorted(rows.items())) for rows in said.values()}) == 4
    refs = {arm: {each.model for each in rows.values()} for (arm, _), rows in answers(tempered).items()}
    told = {arm: (ref.operator, ref.operator_dose) for arm, (ref,) in refs.items()}
    assert told == {
        "control": (None, None), "treated": ("temper", 3.0), "do-nothing": ("temper", 0.0), "dose:0.5": ("temper", 0.5),
        "placebo": ("temper", 3.0),
    }  # fmt: skip


def test_rows_of_a_sweep_are_what_each_arm_says_alone(home: Path, tempered: Path) -> None:
    alone = TEMPER.replace("scales = [1.0, 0.5]\nplacebo = true\n", "")
    run_study(load(home, alone), home / "alone")
    said = texts(home / "alone")
    assert set(said) == {("control", ""), ("treated", "")}
    for key, rows in said.items():
        assert rows == texts(tempered)[key]


def test_what_was_chosen_and_on_which_answers_lies_in_the_run(home: Path, tempered: Path) -> None:
    (own,) = (tempered / "own").iterdir()
    learnt = read_run(own)
    assert {prompt.split for prompt in learnt.prompts.values()} == {"train"}
    assert len(learnt.responses) == 30
    assert {made.axis for made in learnt.scores} >= {"score.n_words"}
    edits = json.loads((tempered / "extras.json").read_text())["edits"]
    assert [(entry["arm"], entry["operator"], entry["folder"]) for entry in edits] == [
        ("treated", "temper", "fits/treated-seed0"), ("placebo", "temper", "fits/placebo-seed0"),
    ]  # fmt: skip
    treated, placebo = (entry["card"] for entry in edits)
    assert len(treated["heads"]) == len(placebo["heads"]) == 3
    assert not {tuple(head) for head in treated["heads"]} & {tuple(head) for head in placebo["heads"]}
    said = json.loads((tempered / "study.json").read_text())["arms"][1]["change"]
    assert (said["operator"], said["top"]) == ("temper", 3)


def test_the_checks_of_a_sweep_are_run(tempered: Path) -> None:
    verdict = json.loads((tempered / "verdict.json").read_text())
    assert verdict["status"] == "confirmatory"
    outcomes = {check["check"]: check["outcome"] for check in verdict["checks"]}
    assert outcomes["identity"] == "PASS"
    for check in ("dose-response", "placebo", "contamination"):
        assert outcomes[check] not in ("NOT_RUN", "ERROR"), check


@pytest.mark.parametrize(("run", "treatment"), [("tempered", TEMPER), ("gated", SIDECAR)])
def test_run_again_the_bytes_are_the_same_and_nothing_is_fitted(
    run: str, treatment: str, home: Path, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(run)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    said: list[str] = []
    run_study(load(home, treatment), folder, Progress(part=lambda doing, done, total: said.append(doing)))
    assert not [doing for doing in said if doing.startswith("fitting")]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_finished_run_needs_its_fits_no_more(home: Path, tempered: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(tempered, copy, ignore=shutil.ignore_patterns("fits", "own"))
    run_study(load(home, TEMPER), copy, Progress())
    assert not (copy / "fits").exists()
    assert not (copy / "own").exists()
    for name in RECORDS:
        assert (copy / name).read_bytes() == (tempered / name).read_bytes()


@pytest.mark.parametrize("at", ["own answers", "fitting", "answers"])
def test_killed_it_goes_on_and_ends_with_the_same_records(at: str, home: Path, tempered: Path, tmp_path: Path) -> None:
    def kill_in_part(doing: str, done: int, total: int) -> None:
        if at == "fitting" and doing.startswith("fitting placebo"):
            raise Killed

    def kill_in_answers(tally: Any) -> None:
        if (tally.total == 30) == (at == "own answers") and at != "fitting" and tally.done > 5:
            raise Killed

    plan = load(home, TEMPER)
    plan = replace(plan, runtime=replace(plan.runtime, batch_size=4))
    whole = tmp_path / "whole"
    run_study(plan, whole)
    with pytest.raises(Killed):
        run_study(plan, tmp_path / "run", Progress(part=kill_in_part, answers=kill_in_answers))
    run_study(plan, tmp_path / "run")
    for name in RECORDS[:3]:
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes(), name


def test_random_directions_differ_by_seed_and_the_fitted_one_does_not(home: Path) -> None:
    run_study(load(home, STEER), home / "steered")
    said = texts(home / "steered")
    assert said["do-nothing", ""] == said["control", ""]
    assert said["treated", "1"] == said["treated", "2"] != said["control", ""]
    assert said["placebo", "1"] != said["placebo", "2"]


# the sidecar ----------------------------------------------------------------------------------------------------------


def test_a_sidecar_hedges_some_answers_and_leaves_the_others_as_they_are(gated: Path) -> None:
    said = texts(gated)
    control = said["control", ""]
    assert said["do-nothing", ""] == control
    for seed in ("1", "2"):
        treated = said["treated", seed]
        hedged = {prompt for prompt, text in treated.items() if text != control[prompt]}
        assert hedged
        assert len(hedged) < len(treated)
        assert {treated[prompt] for prompt in hedged} == {f"Perhaps: {control[prompt]}" for prompt in hedged}
        assert {prompt for prompt, text in said["dose:0.1", seed].items() if text != control[prompt]} <= hedged
    (ref,) = {each.model for each in answers(gated)["treated", "1"].values()}
    assert (ref.operator, ref.operator_dose) == ("sidecar", 1.0)


def test_the_tokens_of_a_hedge_count_and_can_be_cut_away(gated: Path) -> None:
    whole = answers(gated)
    for prompt, each in whole["treated", "1"].items():
        assert each.token_chars is not None
        assert sum(each.token_chars) == len(each.text or "")
        own = whole["control", ""][prompt].n_tokens
        hedged = (each.text or "").startswith("Perhaps: ")
        assert (each.n_tokens or 0) > (own or 0) if hedged else each.n_tokens == own


def test_the_card_says_how_the_threshold_was_chosen(gated: Path) -> None:
    edits = json.loads((gated / "extras.json").read_text())["edits"]
    card = next(entry["card"] for entry in edits if entry["arm"] == "treated")
    assert card["p_assert_correct_out_of_fold"] >= 0.7
    assert 0 <= card["auc_out_of_fold"]["estimate"] <= 1
    assert (card["n"], card["n_cut"]) == (30, 30)
    claim = json.loads((gated / "study.json").read_text())["claim"]
    assert claim["thresholds_chosen_on"] == "train"


def test_a_careful_sidecar_asks_again(home: Path) -> None:
    text = SIDECAR.replace('says = "Perhaps: "\n', 'action = "careful"\nsays = "Are you sure?"\n').replace(
        "doses = [0, 0.1]\n", ""
    )
    run_study(load(home, text.replace("placebo = true\nseeds = [1, 2]\n", "")), home / "careful")
    said = texts(home / "careful")
    asked = {prompt for prompt, text in said["treated", ""].items() if text != said["control", ""][prompt]}
    assert asked
    assert len(asked) < 10
    assert not any((said["treated", ""][prompt] or "").startswith("Are you sure?") for prompt in asked)


def test_answers_that_cannot_be_asked_for_again_are_errors_and_the_others_stand(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the second conversation is longer than the model's context."""
    from counterclaim.lab.models.hf.model import HfModel

    answer = HfModel.answer

    def refuses(self: HfModel, asks: Any, decode: Any, done: Any = ()) -> Any:
        if any(ask.key.endswith("/careful") for ask in asks):
            raise ModelError("none of the prompts can be answered")
        return answer(self, asks, decode, done)

    monkeypatch.setattr(HfModel, "answer", refuses)
    text = SIDECAR.partition("says = ")[0] + 'action = "careful"\n'
    run_study(load(home, text), tmp_path / "run")
    told = answers(tmp_path / "run")
    failed = {prompt for prompt, each in told["treated", ""].items() if each.error is not None}
    assert failed
    assert len(failed) < 10
    assert all("asked for again" in str(told["treated", ""][prompt].error) for prompt in failed)
    assert all(each.error is None for each in told["control", ""].values())


# what is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("treatment", "problem"),
    [
        (SIDECAR.replace('on_cut = "read"\n', ""), "30 of the 30 answers to learn from were cut by the token budget"),
        (SIDECAR.replace("n_words>=4", "n_words>=999"), "0 of the 30 answers to learn from are score.n_words>=999"),
        (SIDECAR.replace("score.n_words>=4", "correct=1"), "none of the 30 answers to learn from was scored for correct=1"),
        (SIDECAR.replace("folds = 3", "layer = 9"), "the model has no layer 9, for it has"),
        (TEMPER.replace(">=4", ">=999").replace("<4", "<999"), "score.n_words>=999"),
        (TEMPER.replace(LEARNT, "").replace("top = 3", "heads = [[99, 0]]"), "no layer 99"),
        (STEER.replace("score.n_words<4", "score.n_words<0"), "score.n_words<0"),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted_is_said_with_its_numbers(
    treatment: str, problem: str, home: Path, tmp_path: Path
) -> None:
    with pytest.raises((InputError, ModelError)) as refused:
        run_study(load(home, treatment), tmp_path / "run")
    assert problem in str(refused.value)


def test_answers_that_are_filed_under_another_axis_are_learnt_from_anew(home: Path, tmp_path: Path) -> None:
    alone = TEMPER.replace("scales = [1.0, 0.5]\nplacebo = true\n", "")
    run_study(load(home, alone), tmp_path / "run")
    renamed = [text.replace("score.n_words", "score.words") for text in (alone, HEAD)]
    head = renamed[1].replace('"length"', '"length:score.n_words=score.words"')
    run_study(load(home, renamed[0], head), tmp_path / "run", overwrite=True)
    (own,) = (tmp_path / "run" / "own").iterdir()
    assert {made.axis for made in read_run(own).scores} == {"score.words"}


# the five steps --------------------------------------------------------------------------------------------------------


PIPELINE = '\n[pipeline]\nlayers = [1]\naverages = [1, 2, 3]\nsplits = 2\npermutations = 9\nsecond_model = "second"\n'


@pytest.fixture(scope="module")
def stepped(home: Path) -> Path:
    """A run whose probe reads layer 1 of 2, and was put to a model of 4 layers."""
    hf_models.save(home / "second", "gemma4")
    run_study(load(home, of_layer(1, home)), home / "stepped")
    return home / "stepped"


def of_layer(layer: int, home: Path) -> str:
    text = SIDECAR.replace("folds = 3", f"folds = 3, layer = {layer}").replace("seeds = [1, 2]", "seeds = [1]")
    return text + PIPELINE.replace('"second"', f'"{home / "second"}"')


def test_the_second_model_is_read_at_the_depth_of_the_first_whatever_else_is_tried(stepped: Path) -> None:
    steps = read_run(stepped).extras["probing"]["steps"]
    assert [row["layer"] for row in steps[4]["rows"]] == [3]
    assert {row["average"] for row in steps[3]["rows"]} == {1, 2}, "there are no three layers up to layer 1"


def test_means_of_more_layers_than_there_are_up_to_the_probes_are_left_out(home: Path, stepped: Path) -> None:
    run_study(load(home, of_layer(0, home).replace("layers = [1]\n", "")), home / "lowest")
    steps = read_run(home / "lowest").extras["probing"]["steps"]
    assert {row["average"] for row in steps[3]["rows"]} == {1}
    assert [row["layer"] for row in steps[4]["rows"]] == [0]


def test_intervals_of_another_level_are_not_those_of_an_earlier_run(home: Path, stepped: Path) -> None:
    before = read_run(stepped).extras["probing"]
    plan = load(home, of_layer(1, home))
    run_study(plan, stepped)
    assert read_run(stepped).extras["probing"] == before
    run_study(replace(plan, claim=replace(plan.claim, level=0.8)), stepped)
    after = read_run(stepped).extras["probing"]
    assert (before["level"], after["level"]) == (0.95, 0.8)
    assert after["identity"] != before["identity"]


@pytest.mark.parametrize(
    ("treatment", "problem"),
    [
        ("[treatment.temper]\n", "no prompts are named on which the model's own answers are read"),
        (f"[treatment.temper]\n{LEARNT}heads = [[0, 1]]\n", "heads are named, and prompts to choose them on"),
        (f'[treatment.temper]\n{LEARNT}cohort = "wrong"\n', "treatment.temper.cohort: 'wrong' names no cohort"),
        (f'[treatment.steer]\n{LEARNT}toward = "hw"\naway = "cw"\nrank = 2\n', "one direction is added, and its rank is 1"),
        (f'[treatment.steer]\n{LEARNT}toward = "hw"\n', "the two are named only in part"),
        (f'[treatment.steer]\n{LEARNT}contrast = ["a", "b"]\ntoward = "hw"\n', "the two are named twice"),
        (f"{SIDECAR}[treatment.temper]\nheads = [[0, 1]]\n", "temper and sidecar are both there"),
        (f"[pipeline]\n{TEMPER}", "the five steps are those of a sidecar's probe"),
        (f"{SIDECAR}[arms.do-nothing]\n", "treatment.sidecar brings an arm of this name along"),
        (f'[treatment.operator]\nname = "nosuch"\n{LEARNT}', "there is no operator 'nosuch'"),
        (SIDECAR.replace('split = "train"', 'split = "test"'), "prompts.split"),
    ],
)  # fmt: skip
def test_a_study_file_that_contradicts_itself_is_refused(treatment: str, problem: str, home: Path) -> None:
    with pytest.raises(InputError) as refused:
        outline(load(home, treatment))
    assert problem in str(refused.value)


@pytest.mark.parametrize(
    ("treatment", "told", "placebo"),
    [
        (
            f"[treatment.temper]\n{LEARNT}top = 2\n",
            "2 heads tempered, chosen by magnitude in answers asserted and wrong (cw) against asserted and right (cr)",
            "2 random heads tempered",
        ),
        ("[treatment.temper]\nheads = [[0, 1], [1, 3]]\n", "layer 0 head 1, layer 1 head 3 tempered", "2 random heads tempered"),
        (
            f'[treatment.steer]\n{LEARNT}toward = "correct=1"\naway = "correct=0"\nlayers = [1]\n',
            "direction from “correct=0” to “correct=1” added at residual, layer 1",
            "random direction added at residual, layer 1",
        ),
        (
            f'[treatment.steer]\n{LEARNT}contrast = ["Doubt.", ""]\nkind = "ablate"\n',
            "direction from “” to “Doubt.” ablated at residual, the middle layer",
            "random subspace ablated at residual, the middle layer",
        ),
        (
            f"[treatment.sidecar]\n{LEARNT}",
            "hedged where a logistic probe for correct=1 on the last state, last token, has little confidence",
            "hedged where a logistic probe for correct=1 on the last state, last token, trained on shuffled labels, "
            "has little confidence",
        ),
    ],
)  # fmt: skip
def test_an_arm_is_told_in_a_phrase(treatment: str, told: str, placebo: str, home: Path) -> None:
    arm = load(home, treatment).arms[1]
    assert describe_change(change_json(arm)) == told
    assert describe_change(change_json(replace(arm, placebo=True))) == placebo


def test_a_test_prompt_cannot_be_learnt_from(home: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (home / "prompts.jsonl").read_text().splitlines()]
    write_rows(tmp_path / "learnt.jsonl", [{**row, "split": "train"} for row in rows])
    text = SIDECAR.replace('file = "prompts.jsonl"', f'file = "{tmp_path / "learnt.jsonl"}"')
    with pytest.raises(InputError, match="10 of the 40 training prompts are also those on which"):
        outline(load(home, text))


def test_a_second_model_that_cannot_be_read_is_refused_before_anything_is_asked(home: Path) -> None:
    with pytest.raises(
        ModelError, match=r"sidecar cannot change http://127.0.0.1:9/v1#m: .* does not offer activations"
    ):
        outline(load(home, f'{SIDECAR}\n[pipeline]\nsecond_model = "http://127.0.0.1:9/v1#m"\n'))


def test_an_endpoint_shows_no_activations(home: Path) -> None:
    head = HEAD.replace('model = "model"', 'model = "http://127.0.0.1:9/v1#m"')
    with pytest.raises(
        ModelError, match=r"sidecar cannot change .*: its backend \(openai\) does not offer activations"
    ):
        outline(load(home, SIDECAR, head))
