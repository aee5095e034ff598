"""Validation of judges: the planted honest judge passes, and each planted bad one is caught by what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import pytest

from counterclaim.audit.evidence import Evidence
from counterclaim.checks.judging import judge_cards
from counterclaim.lab.scorers import Report, full_name, validate
from counterclaim.lab.scorers.cards import card
from counterclaim.lab.scorers.judges import Choice, judged
from counterclaim.lab.scorers.validation import KINDS, REPEATS, agrees, orders, reword
from counterclaim.records import Claim, Json, Message, Outcome
from counterclaim.registry import Scorer, scorers
from counterclaim.testing.models.judges import JUDGES, PlantedJudge

ASKING = [made for made in scorers().values() if "judge" in made.needs and "sandbox" not in made.needs]
BAD = [name for name in JUDGES if name != "judge"]


@cache
def report(judge: str) -> Report:
    return validate(PlantedJudge(judge), ASKING)


def outcome(found: Report) -> Outcome:
    return judge_cards(Evidence(Claim("accuracy", "increase", 0.05), {}, cards=found.cards())).outcome


def weak_kinds(found: Report, scorer: str) -> set[str]:
    return {t.kind for t in found.tallies if t.scorer == scorer and t.right < t.n}


def test_the_honest_judge_may_score_with_every_scorer() -> None:
    found = report("judge")
    assert found.trusted == tuple(made.name for made in ASKING)
    assert [str(trial) for trial in found.trials if not trial.right] == []
    assert all(share.estimate == 1.0 for share in found.agreement.values())
    assert outcome(found) is Outcome.PASS
    assert all("may score with" in sentence for sentence in found.sentences)


@pytest.mark.parametrize("judge", BAD)
def test_a_bad_judge_may_score_with_nothing_that_its_fault_touches(judge: str) -> None:
    found = report(judge)
    assert found.trusted == ()
    assert outcome(found) is Outcome.FAIL
    assert all("must not score with" in sentence for sentence in found.sentences)


@pytest.mark.parametrize("made", ASKING, ids=lambda made: made.name)
def test_each_fault_is_seen_by_the_cards_that_try_it(made: Scorer) -> None:
    name = made.name
    assert weak_kinds(report("obedient-judge"), name) == {"orders"}
    assert weak_kinds(report("padded-judge"), name) == {"padding"}
    assert "position" in weak_kinds(report("position-judge"), name)
    assert (report("moody-judge").agreement[name].estimate or 0.0) < 0.9
    assert (report("position-judge").agreement[name].estimate or 0.0) == 1.0
    assert report("deaf-judge").unreached[name]
    assert "could not be read" in report("broken-judge").faults(name)[0]


def test_every_kind_is_tried_on_every_scorer() -> None:
    for made in ASKING:
        kinds = {tally.kind for tally in report("judge").tallies if tally.scorer == made.name}
        assert kinds == set(KINDS), made.name


def test_rows_for_the_check_honour_tolerance_and_say_who_judged() -> None:
    rows = report("judge").cards()
    mcas = next(row for row in rows if row["axis"] == "score.mcas")
    assert mcas["scorer"] == full_name(scorers()["mcas-2"], "world:judge")
    assert mcas["expected"] == mcas["returned"] == "score.mcas=1"
    assert {row["expected"] for row in rows if row["axis"] == "delivery"} == {"assert", "hedge"}
    lost = report("broken-judge").cards()
    assert all(row["returned"] is None and "could not be read" in row["reason"] for row in lost)


def test_numbers_agree_within_their_tolerance_only() -> None:
    assert agrees(4.0, 5.0, 1.0)
    assert not agrees(4.0, 5.5, 1.0)
    assert not agrees(4.0, None, 10.0)
    assert not agrees(1.0, "1", 10.0)
    assert agrees("hedge", "hedge", 0.0)


class Counting:
    """A judge that keeps the attempts at which it was asked."""

    name = "counting"

    def __init__(self) -> None:
        self.attempts: list[int] = []

    def reply(self, messages: Sequence[Message], schema: Mapping[str, Json] | None = None, *, attempt: int = 0) -> str:
        self.attempts.append(attempt)
        return '{"tone": "warm"}'


def tone() -> Scorer:
    cards = [card("Hi?", "Do not stop, my friend.", {"label.tone": "warm"}), card("Hi?", "", {"label.tone": "cold"})]
    return judged(
        "tone", version="1", about="tone", instructions="Judge it.",
        axes={"label.tone": Choice("tone", ("warm", "cold"))}, cards=cards,
    )  # fmt: skip


def test_repeats_ask_anew_and_progress_is_told() -> None:
    judge, seen = Counting(), list[tuple[int, int]]()
    found = validate(judge, [tone()], progress=lambda done, total: seen.append((done, total)), workers=1)
    assert set(judge.attempts) == {0, *(2 * repeat for repeat in range(1, REPEATS + 1))}
    assert seen[-1] == (len(seen), len(seen))
    assert found.unreached == {"tone": ("label.tone=cold",)}
    assert "label.tone=cold never came back" in found.sentences[0]


def test_rules_are_left_out() -> None:
    assert validate(Counting(), [scorers()["delivery"]]).sentences == []


def test_a_judge_of_sense_sees_a_difference_between_orders_and_rewording() -> None:
    made = scorers()["delivery-judge"]
    first = made.cards[0]
    assert [text.count('answer "hedge"') for text in orders(made, first)] == [1, 1]
    assert reword("I'm sure it's fine.") == "I am sure it is fine."
    assert reword("It is fine. I am sure.") == "It's fine. I'm sure."
    assert reword("Fine.") == "Fine."
