"""What temper and steer fit: the heads and directions that are there, placebos of equal size, and cohorts that are too small."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import hf_models
from counterclaim.errors import InputError, ModelError
from counterclaim.lab.config import SteerPlan, TemperPlan, TrainingPrompts
from counterclaim.lab.models import open_model
from counterclaim.lab.models.hf.activations import CaptureSpec, read
from counterclaim.lab.models.hf.edits import load_edit
from counterclaim.lab.models.hf.model import HfModel
from counterclaim.lab.operators.attribution import attribute
from counterclaim.lab.operators.edits import fit_steer, fit_temper
from counterclaim.lab.operators.reading import exchange_of
from counterclaim.records import ArmId, Decode, FinishReason, Message, ModelRef, Prompt, Provenance, Response
from counterclaim.registry import Ask, Fitting, Labelled, ModelSpec, Runtime, operators
from counterclaim.testing.worlds import WORLDS

OWN = TrainingPrompts("somewhere")
CPU = Runtime(device="cpu")
STEER = SteerPlan(prompts=OWN, toward="cr", away="cw", layers=(1,))


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's tiny model."""
    return cache(lambda family: hf_models.save(tmp_path_factory.mktemp(family), family))


def _answers(
    n: int = 24, texts: Sequence[str] = ("seed into oil", "by the river"), wrong: int | None = None
) -> list[Labelled]:
    """Confident answers; those that are right say the first text, and those that are wrong the second."""
    wrong = n // 2 if wrong is None else wrong
    made = []
    for at in range(n):
        prompt = Prompt.of_text(f"What does mill {at} do?", split="train")
        right = at >= wrong
        response = Response(
            prompt.id,
            ArmId("own"),
            0,
            f"{texts[not right]} {at}",
            FinishReason.STOP,
            Provenance.RECORDED,
            Decode(8),
            ModelRef(),
            4,
        )
        made.append(Labelled(prompt, response, {"correct": float(right), "delivery": "assert"}))
    return made


def _fitting(base: Path, plan: Any, answers: Sequence[Labelled] = (), **more: Any) -> Fitting:
    return Fitting(ModelSpec(str(base)), plan, more.pop("seed", 0), answers=answers, runtime=CPU, **more)


def _made(tmp_path: Path, name: str = "edit") -> Path:
    (tmp_path / name).mkdir()
    return tmp_path / name


def _opened(base: Path) -> HfModel:
    model = open_model(ModelSpec(str(base)), CPU)
    assert isinstance(model, HfModel)
    return model


# temper ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank_by", ["magnitude", "directional"])
def test_the_heads_are_the_first_of_the_attribution(
    rank_by: Any, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    base, answers = folders("qwen3"), _answers()
    card = fit_temper(
        _fitting(base, TemperPlan(prompts=OWN, rank_by=rank_by, top=3, last_tokens=4), answers), _made(tmp_path)
    )
    found = attribute(_opened(base), answers, last_tokens=4)
    best = found.heads(rank_by)[:3]
    assert card["heads"] == [[layer, head] for layer, head, _ in best]
    assert card["d"] == [d for _, _, d in best]
    edit = load_edit(tmp_path / "edit")
    assert {(piece.layer, head) for piece in edit.pieces for head in piece.heads} == {
        (at, head) for at, head, _ in best
    }
    assert (edit.operator, edit.span) == ("temper", "all")
    assert card["attribution"]["cohort"] == {"name": "cw", "n": 12, "cut": 0}  # type: ignore[index, call-overload]


def test_heads_chosen_by_hand_need_no_answers(folders: Callable[[str], Path], tmp_path: Path) -> None:
    plan = TemperPlan(heads=((1, 0), (0, 2), (1, 3)))
    card = fit_temper(_fitting(folders("llama"), plan), _made(tmp_path))
    assert [(piece.layer, piece.heads) for piece in load_edit(tmp_path / "edit").pieces] == [(0, (2,)), (1, (0, 3))]
    assert card["chosen"] == "by hand"
    with pytest.raises(ModelError, match="no head 4, for it has 4"):
        fit_temper(_fitting(folders("llama"), replace(plan, heads=((0, 4),))), _made(tmp_path, "other"))
    with pytest.raises(ModelError, match=r"layer 0 has no o_proj, so no heads .*choose among 3"):
        fit_temper(_fitting(folders("qwen3_5"), replace(plan, heads=((0, 0),))), _made(tmp_path, "hybrid"))


def test_a_placebo_tempers_as_many_other_heads(folders: Callable[[str], Path], tmp_path: Path) -> None:
    plan, drawn = TemperPlan(heads=((0, 0), (1, 1))), []
    for seed in range(4):
        card = fit_temper(_fitting(folders("llama"), plan, placebo=True, seed=seed), _made(tmp_path, str(seed)))
        drawn.append([tuple(head) for head in card["heads"]])  # type: ignore[union-attr, arg-type]
        assert len(set(drawn[-1])) == 2
        assert not set(drawn[-1]) & set(plan.heads)
    assert len({tuple(heads) for heads in drawn}) > 1
    again = fit_temper(_fitting(folders("llama"), plan, placebo=True, seed=0), _made(tmp_path, "again"))
    assert [tuple(head) for head in again["heads"]] == drawn[0]  # type: ignore[union-attr, arg-type]
    many = TemperPlan(heads=tuple((layer, head) for layer in (0, 1) for head in (0, 1, 2)))
    with pytest.raises(InputError, match="6 heads beside as many chosen ones, and 2 are left"):
        fit_temper(_fitting(folders("llama"), many, placebo=True), _made(tmp_path, "many"))


def test_more_heads_than_there_are(folders: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="5 heads are to be tempered, and the model has 4"):
        fit_temper(_fitting(folders("qwen3_5"), TemperPlan(prompts=OWN, top=5), _answers()), _made(tmp_path))


# steer -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", hf_models.FAMILIES)
@pytest.mark.parametrize("site", ["residual", "o_proj", "v_proj", "down_proj"])
def test_what_is_added_is_the_difference_of_the_cohorts_means(
    family: str, site: Any, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    base, answers = folders(family), _answers()
    layer = 3 if family == "qwen3_5" else 1
    card = fit_steer(_fitting(base, replace(STEER, site=site, layers=(layer,)), answers), _made(tmp_path))
    (piece,) = load_edit(tmp_path / "edit").pieces
    found = read(_opened(base), [exchange_of(answer) for answer in answers], CaptureSpec((layer,), ("mean",), site))
    (block,) = found.blocks.values()
    means = block[12:].mean(axis=0), block[:12].mean(axis=0)
    assert piece.vectors is not None
    assert np.allclose(piece.vectors.numpy(), [means[0] - means[1]], atol=1e-5)
    (said,) = card["layers"]  # type: ignore[misc]
    assert said["norm"] == pytest.approx(float(np.linalg.norm(means[0] - means[1])), rel=1e-4)  # type: ignore[index, call-overload]
    cosine = means[0] @ means[1] / np.linalg.norm(means[0]) / np.linalg.norm(means[1])
    assert said["cosine"] == pytest.approx(float(cosine), abs=1e-4)  # type: ignore[index, call-overload]
    assert (card["toward"], card["away"]) == ({"name": "cr", "n": 12}, {"name": "cw", "n": 12})


def test_steering_moves_activations_towards_the_cohort(folders: Callable[[str], Path], tmp_path: Path) -> None:
    base, answers = folders("llama"), _answers()
    fit_steer(_fitting(base, replace(STEER, layers=(0,)), answers), _made(tmp_path))
    (piece,) = load_edit(tmp_path / "edit").pieces
    assert piece.vectors is not None
    direction = piece.vectors[0].numpy()
    model, wanted = _opened(base), CaptureSpec((0,), ("mean",))
    before = read(model, [exchange_of(answer) for answer in answers], wanted).blocks["layer.0/mean"] @ direction
    with model.edited(tmp_path / "edit", 0.5):
        after = read(model, [exchange_of(answer) for answer in answers], wanted).blocks["layer.0/mean"] @ direction
    assert np.allclose(after - before, 0.5 * direction @ direction, rtol=1e-3)


def test_a_subspace_is_the_leading_one_of_the_differences(folders: Callable[[str], Path], tmp_path: Path) -> None:
    base, answers = folders("llama"), _answers()
    card = fit_steer(_fitting(base, replace(STEER, kind="ablate", rank=3), answers), _made(tmp_path))
    (piece,) = load_edit(tmp_path / "edit").pieces
    assert piece.vectors is not None
    block = read(_opened(base), [exchange_of(answer) for answer in answers], CaptureSpec((1,), ("mean",))).blocks[
        "layer.1/mean"
    ]
    apart = block[12:] - block[:12].mean(axis=0)
    total, kept = (apart**2).sum(), ((apart @ piece.vectors.numpy().T) ** 2).sum()
    (said,) = card["layers"]  # type: ignore[misc]
    assert kept / total == pytest.approx(said["explained"], rel=1e-4)  # type: ignore[index, call-overload]
    draws = [np.linalg.qr(np.random.default_rng(seed).standard_normal((32, 3)))[0] for seed in range(20)]
    assert kept > max(((apart @ draw) ** 2).sum() for draw in draws)
    model, wanted = _opened(base), CaptureSpec((1,), ("mean",))
    with model.edited(tmp_path / "edit"):
        left = read(model, [exchange_of(answer) for answer in answers], wanted).blocks["layer.1/mean"]
    assert np.abs(left @ piece.vectors.numpy().T).max() < 1e-3 * np.abs(block).max()


@pytest.mark.parametrize(("kind", "rank"), [("add", 1), ("ablate", 1), ("project", 3)])
def test_a_placebo_is_random_and_of_equal_size(
    kind: Any, rank: int, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    plan, answers = replace(STEER, kind=kind, rank=rank), _answers()
    vectors = {}
    for name, placebo, seed in (("real", False, 0), ("one", True, 1), ("again", True, 1), ("two", True, 2)):
        fit_steer(_fitting(folders("llama"), plan, answers, placebo=placebo, seed=seed), _made(tmp_path, name))
        vectors[name] = load_file(tmp_path / name / "edit.safetensors")["piece.0"]
    assert torch.equal(vectors["one"], vectors["again"])
    assert torch.allclose(vectors["one"].norm(dim=1), vectors["real"].norm(dim=1), rtol=1e-5)
    unit = {name: each / each.norm(dim=1, keepdim=True) for name, each in vectors.items()}
    for name, other in (("one", "real"), ("one", "two")):
        assert float(torch.linalg.matrix_norm(unit[name] @ unit[other].T, 2)) < 0.9


def test_the_layer_in_the_middle_that_has_the_site(folders: Callable[[str], Path], tmp_path: Path) -> None:
    for family, site, layer in (("llama", "residual", 1), ("gemma4", "v_proj", 1), ("qwen3_5", "o_proj", 3)):
        plan = replace(STEER, site=site, layers=())  # type: ignore[arg-type]
        fit_steer(_fitting(folders(family), plan, _answers()), _made(tmp_path, family))
        assert [piece.layer for piece in load_edit(tmp_path / family).pieces] == [layer]


def test_cohorts_that_tell_nothing(folders: Callable[[str], Path], tmp_path: Path) -> None:
    base, folder = folders("llama"), _made(tmp_path)
    with pytest.raises(InputError, match=r"23 answers are cr and 1 are cw, of 24 answers; each cohort needs 2"):
        fit_steer(_fitting(base, STEER, _answers(wrong=1)), folder)
    with pytest.raises(InputError, match=r"0 answers are cr and 0 are cw, of 0 answers"):
        fit_steer(_fitting(base, STEER), folder)
    with pytest.raises(InputError, match="is both correct=1 and cr"):
        fit_steer(_fitting(base, replace(STEER, toward="correct=1", away="cr"), _answers()), folder)
    empty = [replace(each, response=replace(each.response, text="")) for each in _answers()[:11]]
    with pytest.raises(InputError, match="1 are cw, of those that could be read"):
        fit_steer(_fitting(base, STEER, [*empty, *_answers()[11:]]), folder)
    alike = [replace(a, prompt=_answers()[0].prompt, response=replace(a.response, text="oil")) for a in _answers()]
    with pytest.raises(InputError, match="so there is no direction"):
        fit_steer(_fitting(base, STEER, alike), folder)
    with pytest.raises(InputError, match="rank 13 cannot be estimated from 12 answers"):
        fit_steer(_fitting(base, replace(STEER, kind="ablate", rank=13), _answers()), folder)
    with pytest.raises(InputError, match="one direction is added, and its rank is 1"):
        fit_steer(_fitting(base, replace(STEER, rank=2), _answers()), folder)
    assert list(folder.iterdir()) == []


def test_models_that_cannot_be_edited(tmp_path: Path) -> None:
    world = open_model(ModelSpec(f"world:{next(iter(WORLDS))}/control"), CPU)
    for name in ("temper", "steer"):
        with pytest.raises(ModelError, match="cannot be edited"), operators()[name].on(world, tmp_path, 1.0):
            pass


def test_what_is_fitted_answers_by_row(folders: Callable[[str], Path], tmp_path: Path) -> None:
    from counterclaim.registry import Applied

    base = folders("qwen3")
    operators()["steer"].fit(_fitting(base, replace(STEER, layers=(0, 1)), _answers()), _made(tmp_path))
    model = _opened(base)
    rows = [Ask("ask", (Message("user", "the mill"),), applied=Applied("steer", tmp_path / "edit", d)) for d in (0, 4)]
    said = dict(pair for batch in model.answer(rows, Decode(12)) for pair in batch)
    assert said[0].text != said[1].text
    ref = model.ref_with(rows[1].applied)  # type: ignore[arg-type]
    assert (ref.operator, ref.operator_dose) == ("steer", 4)
