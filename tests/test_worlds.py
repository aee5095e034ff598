"""Planted worlds hold what they say, twice the same, and get the verdict that they deserve."""

from __future__ import annotations

import json
from collections import Counter
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from counterclaim import checks
from counterclaim.audit.evidence import Evidence
from counterclaim.errors import InputError
from counterclaim.records import FinishReason, Outcome, prompt_id, to_json
from counterclaim.registry import checks as registered
from counterclaim.testing.worlds import WORLDS, draw
from counterclaim.testing.worlds.questions import pool_size, question
from counterclaim.text import content_words
from counterclaim.verdict import decide


def everything(evidence: Evidence) -> object:
    """All that a study holds, as plain values."""
    arms = {
        name: ([to_json(r) for r in arm.responses], {axis: c.values for axis, c in arm.columns.items()})
        for name, arm in evidence.arms.items()
    }
    prompts = {key: to_json(prompt) for key, prompt in evidence.prompts.items()}
    return to_json(evidence.claim), prompts, arms, evidence.cards, evidence.train_sample, evidence.sources


def difference(name: str, metric: str | None = None, **knobs: float) -> float:
    """Mean difference treated minus control over a few draws."""
    found = []
    for seed in range(8):
        evidence = draw(name, seed, **knobs)  # type: ignore[arg-type]  # knobs by name
        chosen = evidence.metric if metric is None else evidence.metric_named(metric)
        found.append(evidence.effect_of(chosen).difference.estimate)
    return float(np.mean(found))


@pytest.mark.parametrize("name", WORLDS)
def test_a_world_is_the_same_twice_and_other_with_another_seed(name: str) -> None:
    first, again, other = (everything(draw(name, seed, n=12)) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def digest(name: str, seed: int) -> str:
    """A hash of the texts, endings and values of one draw."""
    evidence = draw(name, seed)
    arms = [
        (str(arm), [(r.prompt_id, r.text, str(r.finish_reason), r.n_tokens) for r in read.responses], [
            (axis, column.values) for axis, column in sorted(read.columns.items())
        ])
        for arm, read in evidence.arms.items()
    ]  # fmt: skip
    return sha256(repr(arms).encode()).hexdigest()[:12]


@pytest.mark.parametrize("name", WORLDS)
def test_draws_are_those_of_earlier_versions(name: str) -> None:
    """Rates that were published stay reproducible. After a change on purpose: fixtures/world_draws.json says how."""
    recorded = json.loads((Path(__file__).parent / "fixtures" / "world_draws.json").read_text())["draws"]
    assert [digest(name, seed) for seed in range(3)] == recorded[name]


@pytest.mark.parametrize("name", WORLDS)
def test_records_of_a_world_are_whole(name: str) -> None:
    evidence = draw(name, 0, n=30)
    assert evidence.pairing["paired"] > 0
    for prompt in evidence.prompts.values():
        assert prompt.id == prompt_id(prompt.messages)
        assert set(prompt.gold) == {"answer", "checklist"}
    for arm in evidence.arms.values():
        keys = [r.key for r in arm.responses]
        assert len(set(keys)) == len(keys)
        for response in arm.responses:
            assert response.text
            assert response.decode.max_new_tokens is not None
            if response.n_tokens is not None:
                assert response.n_tokens <= response.decode.max_new_tokens
                at_budget = response.n_tokens == response.decode.max_new_tokens
                assert at_budget or response.finish_reason is FinishReason.STOP


@pytest.mark.parametrize("name", WORLDS)
def test_verdicts_do_justice_to_a_world(name: str) -> None:
    evidence = draw(name, 1001)
    results = checks.run_all(evidence)
    assert not [r.because for r in results if r.outcome is Outcome.ERROR]
    verdict = decide(evidence.claim, results)
    assert verdict.outcome in WORLDS[name].expected, verdict.because


@pytest.mark.parametrize("name", WORLDS)
def test_no_check_breaks_on_extreme_knobs(name: str) -> None:
    for effect, severity in ((0.0, 0.0), (1.0, 1.0)):
        results = checks.run_all(draw(name, 0, n=10, effect=effect, severity=severity))
        assert not [r.because for r in results if r.outcome is Outcome.ERROR]


def test_every_world_that_a_check_names_exists_and_every_artefact_has_a_check() -> None:
    named = {world for check in registered() for world in (*check.must_fail, *check.must_pass)}
    assert named <= set(WORLDS)
    caught = {world for check in registered() for world in check.must_fail}
    artefacts = {name for name, world in WORLDS.items() if world.truth == "artefact"}
    assert artefacts <= caught


@pytest.mark.parametrize(
    ("name", "metric", "wanted", "tolerance"),
    [
        ("clean", None, 0.1, 0.02),
        ("clean_guarded", "accuracy", 0.0, 0.02),
        ("null", None, 0.0, 0.02),
        ("wrong_direction", None, -0.1, 0.02),
        ("tiny_effect", None, 0.015, 0.01),
        ("clean_asymmetry", None, -0.3, 0.05),
        ("endpoint_whole", None, 0.2, 0.04),
        ("steady_seeds", None, 0.1, 0.02),
        ("collapse", None, 0.6, 0.06),
        ("content_loss", "accuracy", -0.25, 0.03),
        ("judge_asymmetry", None, 0.12, 0.02),
        ("leaky", None, 0.1, 0.02),
        ("cut_short_one", None, 0.1, 0.04),
        ("tied_threshold", None, 0.2, 0.04),
        ("label_drift", None, 0.12, 0.04),
        ("uniform_hedge", "over_hedging_rate", 0.4, 0.05),
    ],
)
def test_effects_are_as_large_as_planted(name: str, metric: str | None, wanted: float, tolerance: float) -> None:
    assert difference(name, metric) == pytest.approx(wanted, abs=tolerance)


def test_knobs_are_obeyed() -> None:
    assert len(draw("clean", 0, n=57).prompts) == 57
    assert difference("clean", effect=0.3) == pytest.approx(0.3, abs=0.02)
    shares = [draw("cut_short_one", 1, severity=s).control.cut.mean() for s in (0.2, 0.7)]
    assert shares == pytest.approx([0.2, 0.7], abs=0.06)
    assert draw("clean", 0, draws=77).draws == 77


@pytest.mark.parametrize(
    "knobs", [{"n": 9}, {"n": 20_001}, {"effect": -0.1}, {"effect": float("nan")}, {"severity": 1.1}]
)
def test_knobs_out_of_range_are_refused(knobs: dict[str, float]) -> None:
    with pytest.raises(InputError):
        draw("clean", 0, **knobs)  # type: ignore[arg-type]  # knobs by name


def test_an_unknown_world_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="no planted world 'atlantis'; choose one of clean"):
        draw("atlantis", 0)


def test_only_one_arm_is_cut_in_cut_short_one_and_its_text_stops_mid_sentence() -> None:
    evidence = draw("cut_short_one", 0)
    assert evidence.control.cut.mean() > 0.3
    assert evidence.treated.cut.mean() < 0.1
    ends = [text[-1] for text, cut in zip(evidence.control.texts, evidence.control.cut, strict=True) if cut and text]
    assert Counter(end == "." for end in ends)[False] > len(ends) / 2


def test_the_deaf_judge_said_uncertain_and_its_parser_did_not() -> None:
    evidence = draw("deaf_judge", 0)
    assert set(evidence.treated.columns["label.cert"].values) == {"CERTAIN", "AMBIGUOUS"}


def test_broken_judgements_are_unscored_and_never_zero() -> None:
    column = draw("unscored_flip", 0).treated.columns["coverage"]
    assert column.values.count(None) == len(column.reasons) > 100
    assert set(column.reasons.values()) == {"judge error"}


def test_leaked_prompts_are_found_and_only_they_gain() -> None:
    evidence = draw("leaky", 0)
    assert evidence.overlap is not None
    leaked = set(evidence.overlap.hits())
    assert 0.2 < len(leaked) / len(evidence.prompts) < 0.4
    masks = [np.array([r.prompt_id in leaked for r in arm.responses]) for arm in evidence.pair]
    on_leaked = evidence.effect_of(evidence.metric, keep=(masks[0], masks[1])).difference.estimate
    elsewhere = evidence.effect_of(evidence.metric, keep=(~masks[0], ~masks[1])).difference.estimate
    assert on_leaked is not None
    assert elsewhere is not None
    assert on_leaked > 0.25
    assert abs(elsewhere) < 0.05


def test_answers_speak_of_their_own_question() -> None:
    def overlap(a: str, b: str) -> float:
        return len(content_words(a) & content_words(b)) / len(content_words(a))

    evidence = draw("clean", 0, n=50)
    prompts = [evidence.prompts[r.prompt_id].text for r in evidence.control.responses]
    texts = [text or "" for text in evidence.control.texts]
    own = np.mean([overlap(p, t) for p, t in zip(prompts, texts, strict=True)])
    other = np.mean([overlap(p, t) for p, t in zip(prompts, [*texts[1:], texts[0]], strict=True)])
    assert own > 0.5
    assert other < 0.15


@pytest.mark.parametrize("kind", ["repair", "trip"])
def test_questions_of_the_pool_are_all_different(kind: str) -> None:
    size = pool_size(kind)  # type: ignore[arg-type]  # one of the two kinds
    indices = [*range(0, size, size // 500), size - 1]
    prompts = [question(kind, i).prompt for i in indices]  # type: ignore[arg-type]  # one of the two kinds
    assert len({prompt.id for prompt in prompts}) == len(indices)
    golds = {(str(prompt.gold["answer"]), str(prompt.gold["checklist"])) for prompt in prompts}
    assert len(golds) > 0.98 * len(indices)
