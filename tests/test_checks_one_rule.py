"""One rule, once: ``probe`` and a study say the same of the same probe, in every check that both have."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from conftest import two_arms
from counterclaim import checks
from counterclaim.audit.metrics import is_tied, threshold_of
from counterclaim.audit.probing import ProbeResult
from counterclaim.lab.config import FiveSteps, ProbePlan
from counterclaim.lab.probing.features import Features
from counterclaim.lab.probing.labels import Labels
from counterclaim.lab.probing.probe import probe_report
from counterclaim.lab.probing.steps import Subject, five_steps

COHORT, SECOND = "score.own>=0.5", "label.second=yes"
PLAN = FiveSteps(positions=("last",), averages=(1,), C=(1.0,), same_construct=SECOND, splits=3, permutations=40)
SEED = 7


@dataclass(frozen=True)
class Data:
    """Features, scores, a second label and endings of training and fresh items; clean as it is built."""

    x: np.ndarray
    scores: np.ndarray
    z: np.ndarray
    fresh_scores: np.ndarray
    second: np.ndarray
    cut: tuple[list[bool | None], list[bool | None]]
    ids: tuple[list[str], list[str]] = field(default_factory=lambda: ([], []))


def clean(n: int = 100, m: int = 200, *, transfer: float = 1.0, rate: float = 0.5, seed: int = 0, d: int = 8) -> Data:
    random = np.random.default_rng(seed)
    y, t = np.arange(n) % 2 == 0, np.arange(m) < round(rate * m)
    x, z = random.standard_normal((n, d)), random.standard_normal((m, d))
    x[:, 0] += 2.2 * y
    z[:, 0] += 2.2 * transfer * t
    second = np.where(np.arange(m) % 25 == 0, ~t, t)
    ids = [f"train-{i}" for i in range(n)], [f"fresh-{i}" for i in range(m)]
    return Data(
        x, np.where(y, 0.8, 0.2), z, np.where(t, 0.8, 0.2), second, ([False] * n, [False] * m), ids
    )  # fmt: skip


def by_probe(data: Data) -> dict[str, dict[str, Any]]:
    report = probe_report(
        Features(data.x, tuple(data.ids[0]), cut=tuple(data.cut[0])), Labels(data.scores, 0.5),
        Features(data.z, tuple(data.ids[1]), cut=tuple(data.cut[1])), Labels(data.fresh_scores, 0.5),
        C=PLAN.C, splits=PLAN.splits, permutations=PLAN.permutations, seed=SEED, second_labels=data.second,
    )  # fmt: skip
    return {check["check"]: check for check in report["checks"]}


def by_study(data: Data) -> dict[str, dict[str, Any]]:
    sides = data.scores, data.fresh_scores
    subject = Subject(
        "m", (), 1, lambda layer, average, position: (data.x, data.z),
        {COHORT: (1.0 * (sides[0] >= 0.5), 1.0 * (sides[1] >= 0.5)), SECOND: (np.ones(len(data.x)), 1.0 * data.second)},
        data.ids, cut=data.cut, tied=(sides[0] == 0.5, sides[1] == 0.5), threshold=0.5,
    )  # fmt: skip
    found = five_steps(subject, None, ProbePlan(cohort=COHORT), PLAN, seed=SEED)
    extras = json.loads(json.dumps({"probing": found.to_json()}))
    evidence = two_arms(
        evidence={"probing": ProbeResult.from_json(extras["probing"]), "split": lambda _: "fresh"}
    )  # fmt: skip
    return {result.check: result.to_json() for result in checks.run_all(evidence, only=checks.PROBE_RULES)}


def training_items_among_the_fresh(data: Data) -> Data:
    return replace(data, z=np.concatenate([data.x[:20], data.z[20:]]))


def ids_of_training_items(data: Data) -> Data:
    return replace(data, ids=(data.ids[0], [*data.ids[0][:5], *data.ids[1][5:]]))


def only_the_peeked_threshold_reaches(_: Data) -> Data:
    for seed in range(40):
        data = clean(m=193, transfer=0.0, rate=9 / 193, seed=seed, d=2)
        if by_probe(data)["threshold"]["outcome"] == "WARN":
            return data
    raise AssertionError("nine positives never reached the bar by peeking")


def written_by_another_author(_: Data) -> Data:
    data = clean(transfer=0.0, rate=0.2)
    return replace(data, z=data.z + np.array([0, 2.0, 0, 0, 0, 0, 0, 0]))


def cut(data: Data) -> Data:
    return replace(data, cut=(data.cut[0], [at % 3 == 0 for at in range(200)]))


def cut_in_training(data: Data) -> Data:
    return replace(data, cut=([at % 3 == 0 for at in range(100)], data.cut[1]))


def unknown_endings(data: Data) -> Data:
    return replace(data, cut=(data.cut[0], [None] * 200))


def tied(_: Data) -> Data:
    data = clean(m=300, rate=0.3, transfer=0.55)
    scores = data.fresh_scores.copy()
    scores[90:280] = 0.5  # wrong answers that ≥ counts as right
    return replace(data, fresh_scores=scores)


def second_label_at_random(data: Data) -> Data:
    return replace(data, second=np.random.default_rng(0).random(200) < 0.4)


CASES: list[tuple[str, Callable[[Data], Data], str]] = [
    ("contamination", training_items_among_the_fresh, "FAIL"),
    ("contamination", ids_of_training_items, "FAIL"),
    ("fresh", lambda _: clean(transfer=0.0), "FAIL"),
    ("fresh", lambda _: clean(m=24, transfer=0.8), "INCONCLUSIVE"),
    ("threshold", only_the_peeked_threshold_reaches, "WARN"),
    ("base-rate", lambda _: clean(rate=9 / 200), "INCONCLUSIVE"),
    ("shift", written_by_another_author, "FAIL"),
    ("endpoint", cut, "FAIL"),
    ("endpoint", cut_in_training, "FAIL"),
    ("endpoint", unknown_endings, "INCONCLUSIVE"),
    ("label-ties", tied, "FAIL"),
    ("label-agreement", second_label_at_random, "FAIL"),
]


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two results agree in all but whether the claim needs them."""
    return {**one, "required": None} == {**other, "required": None}


@pytest.mark.parametrize(
    ("check", "plant", "outcome"), CASES, ids=[f"{case[0]}-{case[2]}-{i}" for i, case in enumerate(CASES)]
)
def test_probe_and_study_say_the_same_of_what_is_planted(
    check: str, plant: Callable[[Data], Data], outcome: str
) -> None:
    data = plant(clean())
    probe, study = by_probe(data)[check], by_study(data)[check]
    assert probe["outcome"] == outcome, probe["because"]
    assert study["outcome"] == probe["outcome"]
    assert study["estimate"] == probe["estimate"]
    assert study["because"] == probe["because"]
    assert same(probe, study)


def test_probe_and_study_say_the_same_of_clean_data() -> None:
    probe, study = by_probe(clean()), by_study(clean())
    assert probe.keys() == study.keys() == checks.PROBE_RULES.keys()
    assert {result["outcome"] for result in probe.values()} == {"PASS"}
    for name, result in probe.items():
        assert same(result, study[name]), name
        assert result["estimate"].keys() == {"estimate", "low", "high", "level", "method", "n"}, name


def test_a_damaged_result_of_a_probe_is_an_input_error() -> None:
    from counterclaim.errors import InputError

    for broken in (
        None,
        5,
        [],
        {},
        {"steps": [], "endpoint": {}},
        {"steps": [{"rows": [{}]}], "endpoint": {"train": {}}},
    ):
        with pytest.raises(InputError, match="of the probe is damaged"):
            ProbeResult.from_json(broken)


def test_a_cohort_knows_its_threshold_and_what_sits_on_it() -> None:
    assert threshold_of("score.own>=0.5") == threshold_of("own<0.5") == 0.5
    assert threshold_of("correct=1") is None
    assert threshold_of("cw") is None
    assert is_tied({"score.own": 0.5}, "own>=0.5")
    assert not is_tied({"score.own": 0.6}, "own>=0.5")
    assert not is_tied({"correct": 1.0}, "correct=1")
    assert not is_tied({"correct": 1.0}, "own>=0.5")
