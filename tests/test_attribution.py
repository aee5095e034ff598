"""Heads against the null of the largest: what theory says of noise, where a planted direction is found, and the paper's own file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

import hf_models
from counterclaim.errors import InputError, ModelError
from counterclaim.lab.models import open_model
from counterclaim.lab.models.hf.model import HfModel
from counterclaim.lab.operators.attribution import Attribution, attribute
from counterclaim.records import CONTROL, Decode, FinishReason, ModelRef, Prompt, Provenance, Response
from counterclaim.registry import Labelled, ModelSpec, Runtime
from counterclaim.stats.heads import LargestD, directional, in_sample_theory, magnitude

SHARED = Path(__file__).resolve().parents[2] / "shared/data/paper/path_b_attribution_gemma4.json"
WORDS = "the mill by river turns seed into oil and is sold in town der Müller heißt kommt aus Köln am Rhein".split()


def noise(seed: int, n: int, width: int, spectrum: np.ndarray | None = None) -> np.ndarray:
    rng = np.random.Generator(np.random.PCG64(seed))
    return rng.normal(size=(n, width)) * (1 if spectrum is None else np.sqrt(spectrum))


@pytest.mark.parametrize(("name", "size"), [("isotropic", 4.3), ("1/k", 1.5)])
def test_in_sample_directions_separate_pure_noise_as_theory_says_and_out_of_fold_ones_do_not(
    name: str, size: float
) -> None:
    spectrum = np.ones(256) if name == "isotropic" else 1 / np.arange(1, 257)
    cohort = np.arange(82) < 64
    found = [
        directional([noise(seed, 82, 256, spectrum)], cohort, permutations=1, seed=seed) for seed in range(60)
    ]  # fmt: skip
    within = np.array([each.in_sample.d[0] for each in found])
    out = np.array([each.out_of_fold.d[0] for each in found])
    assert within.mean() == pytest.approx(size, abs=0.15)
    assert within.mean() == pytest.approx(in_sample_theory(spectrum, 64, 18), rel=0.25)
    assert abs(out.mean()) < 3 * out.std() / np.sqrt(60)
    assert out.std() < 0.6


def test_the_inflated_in_sample_d_is_ordinary_against_its_own_null() -> None:
    found = directional([noise(0, 82, 256)], np.arange(82) < 64, permutations=200)
    assert found.in_sample.d[0] > 3.5
    assert found.in_sample.p[0] > 0.05
    assert found.in_sample.null_quantile(0.5) == pytest.approx(4.3, abs=0.3)


def test_an_offset_that_all_share_changes_nothing_but_the_cosine() -> None:
    x, cohort = noise(1, 60, 32), np.arange(60) % 3 == 0
    plain = directional([x], cohort, permutations=50)
    moved = directional([x + 100], cohort, permutations=50)
    for then, now in ((plain.out_of_fold, moved.out_of_fold), (plain.in_sample, moved.in_sample)):
        np.testing.assert_allclose(then.d, now.d, rtol=1e-9)
        np.testing.assert_allclose(then.null, now.null, rtol=1e-9)
    assert moved.cosine[0] > 0.999 > plain.cosine[0]


def test_a_planted_direction_is_found_where_it_is_and_nowhere_else() -> None:
    cohort = np.arange(90) < 40
    heads = [noise(seed, 90, 24) for seed in range(20)]
    direction = noise(99, 1, 24)[0]
    heads[7] = heads[7] + 1.5 * np.outer(cohort, direction / np.linalg.norm(direction))
    found = directional(heads, cohort, permutations=500)
    assert found.out_of_fold.best == 7
    assert found.out_of_fold.p[7] < 0.01
    assert np.delete(found.out_of_fold.p, 7).min() > 0.05
    assert found.out_of_fold.d[7] == pytest.approx(1.5, abs=0.5)  # of unit noise, less what the estimate is off
    assert found.in_sample.d[7] > found.out_of_fold.d[7]


def test_a_head_that_is_louder_in_the_cohort_is_found_and_no_other() -> None:
    cohort = np.arange(91) < 38
    norms = 10 + noise(5, 91, 280)
    norms[cohort, 33] += 1.5
    found = magnitude(norms, cohort, permutations=500)
    assert found.best == 33
    assert found.p[33] < 0.01
    assert np.delete(found.p, 33).min() > 0.05


def test_no_shuffle_as_large_gives_the_least_p_that_so_many_can_give() -> None:
    """What was seen is one of the arrangements: 99 shuffles give 1 in 100, and never 0."""
    cohort = np.arange(60) < 25
    heads = [noise(seed, 60, 8) for seed in range(3)]
    heads[1][cohort, 0] += 9
    found = directional(heads, cohort, permutations=99)
    assert found.out_of_fold.p[1] == found.in_sample.p[1] == pytest.approx(0.01, abs=0)
    norms = noise(5, 60, 4)
    norms[cohort, 2] += 9
    assert magnitude(norms, cohort, permutations=99).p[2] == pytest.approx(0.01, abs=0)


def test_nothing_is_found_in_noise_more_often_than_one_time_in_twenty() -> None:
    """Both nulls of the largest, over correlated heads, at 5 %: 300 draws, so between 0.025 and 0.08 with 95 % and more."""
    cohort = np.arange(40) < 16
    alarms = np.zeros((2, 300))
    for seed in range(300):
        shared = noise(seed, 40, 8)
        heads = [shared + noise(1_000 * (i + 1) + seed, 40, 8) for i in range(6)]
        norms = np.stack([np.linalg.norm(head, axis=1) for head in heads], axis=1)
        alarms[0, seed] = magnitude(norms, cohort, permutations=99, seed=seed).p.min() <= 0.05
        alarms[1, seed] = directional(heads, cohort, permutations=99, seed=seed).out_of_fold.p.min() <= 0.05
    assert ((alarms.mean(axis=1) > 0.02) & (alarms.mean(axis=1) < 0.085)).all(), alarms.mean(axis=1)


def test_folds_and_shuffles_depend_on_the_seed_alone() -> None:
    x, cohort = noise(2, 50, 16), np.arange(50) < 20
    one, same, other = (directional([x], cohort, permutations=20, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.out_of_fold.null, same.out_of_fold.null)
    assert not np.array_equal(one.out_of_fold.null, other.out_of_fold.null)


def test_long_and_wide_heads_take_different_ways_to_the_same_numbers() -> None:
    cohort = np.arange(64) < 24
    narrow = noise(6, 64, 20)  # below half as wide as there are answers
    padded = np.concatenate([narrow, np.zeros((64, 100))], axis=1)
    ways = [directional([x], cohort, permutations=10) for x in (narrow, padded)]
    np.testing.assert_allclose(ways[0].out_of_fold.null, ways[1].out_of_fold.null, rtol=1e-9)


def test_small_cohorts_have_fewer_folds_and_none_at_all_below_four() -> None:
    assert directional([noise(0, 24, 4)], np.arange(24) < 6, permutations=5).folds == 3
    with pytest.raises(ValueError, match="cohorts of 3 and 21"):
        magnitude(noise(0, 24, 4), np.arange(24) < 3)


def test_a_head_that_never_changes_has_no_d() -> None:
    found = directional([np.ones((30, 4)), noise(0, 30, 4)], np.arange(30) < 10, permutations=20)
    assert found.out_of_fold.d[0] == found.in_sample.d[0] == 0
    assert np.isfinite(found.out_of_fold.null).all()


def test_independent_heads_reach_the_known_median_and_simulation_agrees() -> None:
    law = LargestD(280, 53, 38)
    assert law.quantile(0.5) == pytest.approx(0.66, abs=0.01)
    assert law.p(law.quantile(0.95)) == pytest.approx(0.05)
    drawn = [
        magnitude(noise(seed, 91, 280), np.arange(91) < 38, permutations=1).d for seed in range(200)
    ]  # fmt: skip
    assert np.median([abs(d).max() for d in drawn]) == pytest.approx(law.quantile(0.5), abs=0.02)


@pytest.mark.skipif(not SHARED.is_file(), reason="the paper's attribution file is not here")
def test_the_papers_largest_d_is_smaller_than_chance_gives() -> None:
    told = json.loads(SHARED.read_text(encoding="utf-8"))
    d = [abs(row["cohen_d"]) for row in told["all_heads_ranked_by_cohen_d"]]
    law = LargestD(len(d), told["cohorts"]["cw"], told["cohorts"]["cr"])
    assert len(d) == 280
    assert max(d) == pytest.approx(0.599, abs=0.001)
    assert law.p(max(d)) > 0.8


def answers_of(n: int = 24, cut: Sequence[int] = ()) -> list[Labelled]:
    rng = np.random.Generator(np.random.PCG64(0))
    out = []
    for i in range(n):
        prompt = Prompt.of_text(f"Who is number {i}?")
        text = " ".join(rng.choice(WORDS, 3 + i % 9))
        ended = FinishReason.LENGTH if i in cut else FinishReason.STOP
        response = Response(
            prompt.id, CONTROL, 0, text, ended, Provenance.RECORDED, Decode(16), ModelRef(repo="tiny")
        )  # fmt: skip
        out.append(Labelled(prompt, response, {"correct": float(i % 2), "delivery": "assert"}))
    return out


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hf_models.save(tmp_path_factory.mktemp("attribution") / "qwen3_5", "qwen3_5")


def attributed(folder: Path, answers: Sequence[Labelled], **more: object) -> Attribution:
    with closing(open_model(ModelSpec(str(folder)), Runtime(device="cpu"))) as model:
        return attribute(model, answers, permutations=50, **more)  # type: ignore[arg-type]


def test_every_head_of_a_hybrid_model_is_told_with_the_layers_that_have_none(hybrid: Path) -> None:
    found = attributed(hybrid, answers_of(cut=(3, 4)), last_tokens=8)
    assert found.where == ((3, 0), (3, 1), (3, 2), (3, 3))
    assert found.without == (0, 1, 2)
    assert (found.cohort.n, found.against.n, found.cohort.cut, found.against.cut) == (12, 12, 1, 1)
    told = found.to_json()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["layers_without_o_proj"] == [0, 1, 2]
    assert [row["head"] for row in told["heads"]] == [0, 1, 2, 3]
    for rank_by, key in (("magnitude", "d"), ("directional", "directional_d")):
        ranked = found.heads(rank_by)  # type: ignore[arg-type]
        assert [d for _, _, d in ranked] == sorted((row[key] for row in told["heads"]), reverse=True)
    assert "Of 4 heads" in found.because()


def test_a_direction_planted_in_one_head_of_a_model_is_found_there(tmp_path: Path) -> None:
    """Answers of the cohort hold a word whose embedding reaches one head's values alone."""
    folder = hf_models.save(tmp_path / "llama", "llama")
    answers = [
        Labelled(one.prompt, Response(
            one.prompt.id, CONTROL, 0, f"{one.response.text} {'🎉🎉🎉🎉' if one.values['correct'] == 0 else ''}".strip(),
            FinishReason.STOP, Provenance.RECORDED, Decode(16), ModelRef(repo="tiny"),
        ), one.values)
        for one in answers_of(40)
    ]  # fmt: skip
    with closing(open_model(ModelSpec(str(folder)), Runtime(device="cpu"))) as model:
        assert isinstance(model, HfModel)
        with torch.no_grad():
            for layer in model.network.model.layers:
                layer.self_attn.v_proj.weight.mul_(0.0)  # every head but one carries nothing
            model.network.model.layers[1].self_attn.v_proj.weight[:8] = torch.randn(8, 32)
        found = attribute(model, answers, last_tokens=4, permutations=200)
    assert {(layer, head) for (layer, head), p in zip(found.where, found.directions.out_of_fold.p, strict=True) if p < 0.05} == {
        (1, 0), (1, 1),  # two query heads share these values
    }  # fmt: skip
    assert found.directions.out_of_fold.d[found.directions.out_of_fold.best] > 2


def test_bad_cohorts_are_refused_with_their_sizes(hybrid: Path) -> None:
    answers = answers_of()
    with pytest.raises(InputError, match="0 answers are hw and 12 are cr, of 24 answers"):
        attributed(hybrid, answers, cohort="hw")
    with pytest.raises(InputError, match="is both cw and correct=0"):
        attributed(hybrid, answers, against="correct=0")
    with pytest.raises(InputError, match="names no cohort"):
        attributed(hybrid, answers, cohort="wrong")
    with pytest.raises(InputError, match="3 answers are cw and 3 are cr"):
        attributed(hybrid, answers[:6])


def test_a_model_that_shows_only_texts_is_refused() -> None:
    class Endpoint:
        ref = ModelRef(repo="http://host/v1#model")

    with pytest.raises(ModelError, match="activations of http://host/v1#model cannot be read"):
        attribute(Endpoint(), answers_of())  # type: ignore[arg-type]


def test_somebody_who_waits_is_told_how_many_heads_are_done() -> None:
    seen: list[tuple[int, int]] = []
    directional(
        [noise(seed, 20, 4) for seed in range(3)], np.arange(20) < 8, permutations=3, watch=lambda *at: seen.append(at)
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_the_d_of_projections_is_cohen_s() -> None:
    from counterclaim.stats.heads import _d_of_rows
    from counterclaim.stats.permutation import cohen_d

    values = noise(0, 3, 20)
    labels = np.stack([np.random.default_rng(seed).permutation(np.arange(20) < 7) for seed in range(3)])
    expected = [cohen_d(row[:, None], chosen)[0] for row, chosen in zip(values, labels, strict=True)]
    assert _d_of_rows(values, labels) == pytest.approx(expected)
    assert _d_of_rows(np.ones((1, 20)), labels[:1]).tolist() == [0.0]
