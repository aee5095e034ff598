"""Trained worlds are studies that anybody can run; a draw is a replication, and the same one twice; what is drawn is kept."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from counterclaim import folder as store
from counterclaim.audit.evidence import Evidence
from counterclaim.errors import InputError, ModelError
from counterclaim.lab import operators
from counterclaim.lab.config import StudyPlan, TunePlan
from counterclaim.lab.models import tiny
from counterclaim.lab.models.tiny import families
from counterclaim.lab.prompts.select import choose_prompts
from counterclaim.lab.suite.naive import PROTOCOLS
from counterclaim.records import VerdictOutcome, to_json
from counterclaim.testing import trained_worlds as room
from counterclaim.testing.calibration import DrawResult
from counterclaim.testing.trained_worlds import TrainedWorld, draw, tally, trained_worlds
from counterclaim.testing.worlds import Truth

# One layer and a dozen steps: it answers, and what it says means nothing.
SMALL = families.Recipe("for tests", "llama", families._softmax_attention(32, 1, 2), steps=12, batch=8)
NAME = "for-tests"

STUDY = f"""\
# The treatment has a larger budget.

model = "tiny:{NAME}"

[prompts]
set = "tiny"

[decode]
max_new_tokens = 6
temperature = 1.0
samples = 2

[treatment]
max_new_tokens = 8

[score]
scorers = ["exact", "delivery", "length"]

[target]
metric = "accuracy"
direction = "increase"
margin = 0.1
"""


@pytest.fixture(scope="module", autouse=True)
def _small_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A small model, trained once, in a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(families.RECIPES, NAME, SMALL)  # type: ignore[arg-type]  # a dict, which nobody else may change
        patch.setenv("COUNTERCLAIM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def small_world(folder: Path, name: str = "small", **more: Any) -> TrainedWorld:
    file = folder / f"{name}.toml"
    file.write_text(STUDY)
    told: dict[str, Any] = {"prompts": 12, "apart": True, "shuffled": False, **more}
    return TrainedWorld(
        name, "no effect", "The treatment has a larger budget.", frozenset(VerdictOutcome), file=file, **told
    )


@pytest.fixture
def two_worlds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, TrainedWorld]:
    """Two small worlds in the place of those that ship."""
    made = {name: small_world(tmp_path, name) for name in ("one", "other")}
    monkeypatch.setattr(room, "trained_worlds", lambda: made)
    return made


def answers(evidence: Evidence) -> list[object]:
    return [to_json(row) for arm in evidence.arms.values() for row in arm.responses]


# the worlds that ship ---------------------------------------------------------------------------------------------


def test_every_study_has_its_truth_and_every_truth_its_study() -> None:
    studies = {file.stem for file in room.FOLDER.glob("*.toml")} - {Path(room.TRUTHS).stem}
    assert set(trained_worlds()) == studies
    assert len(studies) >= 8
    truths = Counter(made.truth for made in trained_worlds().values())
    assert set(truths) == set(get_args(Truth))
    for made in trained_worlds().values():
        assert made.expected
        assert made.story.endswith(".")
        assert made.prompts <= len(choose_prompts(made.plan().prompts))
        assert ("SUPPORTED" in made.expected) == (made.truth == "true effect")


@pytest.mark.parametrize("name", trained_worlds())
def test_what_a_draw_varies_follows_from_its_number(name: str, tmp_path: Path) -> None:
    made = trained_worlds()[name]
    first, again, other = (room._drawn(made, at, tmp_path) for at in (3, 3, 4))
    assert first == again
    asked, others = ([prompt.id for prompt in choose_prompts(plan.prompts)] for plan in (first, other))
    assert len(asked) == len(set(asked)) == made.prompts
    assert asked != others or made.prompts == len(choose_prompts(made.plan().prompts))
    assert first.seeds != other.seeds
    assert [arm.name for arm in first.arms] == [arm.name for arm in made.plan().arms]
    if first.arms[1].change is not None:
        assert other.arms[1].change is not None
        assert not set(first.arms[1].change.seeds) & set(other.arms[1].change.seeds)
        learnt = learnt_in(first)
        assert learnt
        assert not learnt & set(asked)


def learnt_in(plan: StudyPlan) -> set[str]:
    """Ids of the prompts from whose answers the treatment learns."""
    change = plan.arms[1].change
    assert change is not None
    choices = [stage.prompts for stage in change.stages] if isinstance(change, TunePlan) else [change.prompts]  # type: ignore[union-attr]
    return {prompt.id for choice in choices for prompt in choose_prompts(choice)}  # type: ignore[arg-type]


def test_arms_that_share_a_fit_share_its_seed_in_every_draw(tmp_path: Path) -> None:
    plan = room._drawn(trained_worlds()["probe-that-holds"], 0, tmp_path)
    seeds = {arm.name: arm.change.seeds for arm in plan.arms if arm.change is not None}
    assert seeds["do-nothing"] == seeds["treated"]


def test_a_shuffled_world_trains_its_own_placebo(tmp_path: Path) -> None:
    shuffled, straight = (
        room._drawn(trained_worlds()[name], 0, tmp_path).arms[1] for name in ("shuffled-rewards", "rewarded-outcomes")
    )
    assert shuffled.placebo
    assert not straight.placebo


# a draw -----------------------------------------------------------------------------------------------------------


def test_a_draw_is_the_same_twice_and_another_with_another_number(tmp_path: Path) -> None:
    made = small_world(tmp_path)
    first, again, other = (draw(made, at, tmp_path / out) for at, out in ((0, "a"), (0, "b"), (1, "a")))
    assert answers(first) == answers(again)
    assert set(first.prompts) != set(other.prompts)
    assert len(first.control) == len(first.treated) == 12


def test_arms_that_are_apart_share_no_noise(tmp_path: Path) -> None:
    """Where they share it, the same model gives the same answers, up to where the smaller budget ends them."""
    together = draw(small_world(tmp_path, "together", apart=False), 0, tmp_path)
    apart = draw(small_world(tmp_path, "apart", apart=True), 0, tmp_path)
    assert [len(arm) for arm in together.pair] == [24, 24]
    assert {row.sample for row in apart.control.responses} == {0}
    assert {row.sample for row in apart.treated.responses} == {1}

    def alike(evidence: Evidence) -> float:
        pairs = list(zip(evidence.control.texts, evidence.treated.texts, strict=True))
        return sum(str(b).startswith(str(a)[:8]) for a, b in pairs) / len(pairs)

    assert alike(together) == 1
    assert alike(apart) < 0.5
    assert all(len(apart.control.columns[axis].values) == 12 for axis in ("correct", "delivery"))


# the table --------------------------------------------------------------------------------------------------------


def test_the_table_has_the_rows_of_the_statistical_one(two_worlds: dict[str, TrainedWorld], tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    table = tally(2, out=tmp_path / "out", progress=lambda *what: told.append(what))
    assert [row["world"] for row in table["worlds"]] == ["one", "other"]
    for row in table["worlds"]:
        assert row["trained"] is True
        assert row["n"] == 12
        assert sum(row["verdicts"].values()) == pytest.approx(1)
        assert set(row["naive"]) == set(PROTOCOLS)
        assert all(low <= row["verdicts"][word] <= high for word, (low, high) in row["intervals"].items())
        assert row["intervals"]["SUPPORTED"][1] > 0.4  # two draws show little
    assert json.loads(json.dumps(table, allow_nan=False)) == table
    assert told[-1][1:] == (4, 4)
    assert not list((tmp_path / "out" / "draws").iterdir())  # what is counted needs no run folder any more
    assert tally(2, out=tmp_path / "alone", worlds=["other"])["worlds"][0] == table["worlds"][1]


class Killed(Exception):
    """Stands in for the end of the process."""


def counting(monkeypatch: pytest.MonkeyPatch, *, kill_at: int | None = None) -> list[tuple[str, int]]:
    """Draws that are made from now on; they end as the process does before so many are done."""
    made: list[tuple[str, int]] = []

    def one(name: str, at: int, out: Path) -> tuple[str, int, DrawResult]:
        if len(made) == kill_at:
            raise Killed
        made.append((name, at))
        return name, at, DrawResult("REFUTED", {"seeds": "PASS"}, dict.fromkeys(PROTOCOLS, at % 2 == 0))

    monkeypatch.setattr(room, "_draw_one", one)
    return made


def test_killed_and_called_again_it_goes_on(
    two_worlds: dict[str, TrainedWorld], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting(monkeypatch, kill_at=3)
    with pytest.raises(Killed):
        tally(2, out=tmp_path / "out")
    made = counting(monkeypatch)
    table = tally(2, out=tmp_path / "out")
    assert made == [("other", 1)]
    counting(monkeypatch)
    assert tally(2, out=tmp_path / "new") == table
    assert table["worlds"][0]["naive"]["mean_test_positive"] == 0.5
    more = counting(monkeypatch)
    tally(3, out=tmp_path / "out")
    assert more == [("one", 2), ("other", 2)]
    assert len(store.read_lines(tmp_path / "out" / room.JOURNAL)) == 1 + 6


def test_draws_of_a_world_that_was_changed_are_made_again(
    two_worlds: dict[str, TrainedWorld], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting(monkeypatch)
    tally(2, out=tmp_path / "out")
    two_worlds["one"].file.write_text(STUDY.replace("margin = 0.1", "margin = 0.2"))
    two_worlds["other"] = replace(two_worlds["other"], prompts=11)
    made = counting(monkeypatch)
    tally(1, out=tmp_path / "out")
    assert made == [("one", 0), ("other", 0)]


def test_what_a_stopped_draw_has_left_holds_up_nothing_when_the_world_was_changed(
    two_worlds: dict[str, TrainedWorld], tmp_path: Path
) -> None:
    draw(two_worlds["one"], 0, tmp_path / "out")
    two_worlds["one"].file.write_text(STUDY.replace("temperature = 1.0", "temperature = 0.5"))
    assert tally(1, ["one"], out=tmp_path / "out") == tally(1, ["one"], out=tmp_path / "new")


@pytest.mark.parametrize("bad", [{"draws": 0}, {"draws": 1, "jobs": 0}, {"draws": 1, "worlds": ["atlantis"]}])
def test_what_cannot_be_drawn_is_refused(bad: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError):
        tally(**bad, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_not_installed_is_said_before_anything_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing_trains() -> None:
        raise ModelError("training needs trl", remedy="pip install 'counterclaim[train]'")

    monkeypatch.setattr(operators.builtin, "check_installed", nothing_trains)
    with pytest.raises(ModelError, match="training needs trl"):
        tally(1, ["rewarded-outcomes"], out=tmp_path / "out")

    def no_torch() -> dict[str, str]:
        raise ModelError("tiny models need torch", remedy="pip install 'counterclaim[models]'")

    monkeypatch.setattr(tiny, "_versions", no_torch)
    with pytest.raises(ModelError, match="tiny models need torch"):
        tally(1, ["dozen"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_draws_trained_worlds(
    two_worlds: dict[str, TrainedWorld], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    run_cli: Callable[..., tuple[int, str, str]],
) -> None:  # fmt: skip
    counting(monkeypatch)
    out = str(tmp_path / "out")
    code, said, _ = run_cli("worlds", "--trained", "--draws", "2", "--jobs", "1", "--out", out, "--json")
    assert code == 0
    assert [row["trained"] for row in json.loads(said)["worlds"]] == [True, True]
    code, said, _ = run_cli("worlds", "--trained", "--draws", "2", "--jobs", "1", "--out", out)
    assert code == 0
    assert "a share of 0 leaves room for 65.8" in said
    code, _, why = run_cli("worlds", "--trained", "--n", "20")
    assert code == 2
    assert "what a trained world is stands in its study file" in why
