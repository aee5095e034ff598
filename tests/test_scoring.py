"""Scoring: each answer read once by each scorer that has shown that it can, whatever stops it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from counterclaim.errors import BudgetSpent, InputError, RegistryError, SandboxError
from counterclaim.folder import Journal, Records
from counterclaim.lab import sandbox
from counterclaim.lab.scorers import scoring
from counterclaim.lab.scorers.scoring import ChosenScorer, ScoreProgress, ScoringContext
from counterclaim.records import (
    CONTROL,
    TREATED,
    ArmId,
    Decode,
    FinishReason,
    ModelRef,
    Prompt,
    Provenance,
    Response,
    Score,
    score_from_json,
)
from counterclaim.registry import Card, Item, Range, Reading, Scorer, Tools

PROMPTS = [Prompt.of_text(f"Question {i}?", gold={"answer": "yes"}) for i in range(30)]
BY_ID = {prompt.id: prompt for prompt in PROMPTS}


def said(text: str | None, i: int = 0, arm: str = "control") -> Response:
    error = None if text is not None else "it broke"
    reason = FinishReason.STOP if text is not None else FinishReason.ERROR
    return Response(
        PROMPTS[i].id,
        ArmId.parse(arm),
        0,
        text,
        reason,
        Provenance.RECORDED,
        Decode(64),
        ModelRef("m"),
        n_tokens=3,
        error=error,
    )


ANSWERS = [said("yes" if i % 2 else "no", i, arm) for arm in ("control", "treated") for i in range(30)]


def scorer(
    read: Callable[[Item, Tools], list[Reading]], name: str = "planted", needs: Sequence[str] = (), **more: object
) -> Scorer:
    cards = (Card(PROMPTS[0], "yes", {"correct": 1.0}), Card(PROMPTS[0], "no", {"correct": 0.0}))
    return Scorer(name, "1", "planted", {"correct": Range()}, read, cards, frozenset(needs), **more)  # type: ignore[arg-type]


def says_yes(item: Item, tools: Tools) -> list[Reading]:
    return [Reading("correct", float(item.response.text == "yes"))]


def chosen(made: Scorer, **axes: str) -> ChosenScorer:
    return ChosenScorer(made, axes or {axis: axis for axis in made.axes}, f"{made.name}@1")


def scores(
    tmp_path: Path, *items: ChosenScorer, answers: Sequence[Response] = ANSWERS, bench: ScoringContext | None = None,
    known: Sequence[Score] = (), watch: Callable[[ScoreProgress], None] | None = None,
) -> list[Score]:  # fmt: skip
    with Journal(tmp_path / "scores.journal", "me") as journal:
        kept = [*known, *map(score_from_json, journal.rows)]
        return scoring.score(
            answers, BY_ID, items, bench or ScoringContext(workers=1), journal, known=kept, watch=watch
        )


# choosing -------------------------------------------------------------------------------------------------------


def test_one_axis_has_one_scorer_and_the_way_out_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"both read correct.*numeric:correct=label.numeric"):
        scoring.choose(["exact", "numeric"], None)
    both = scoring.choose(["exact", "numeric:correct=label.numeric"], None)
    assert [dict(made.axes) for made in both] == [{"correct": "correct"}, {"correct": "label.numeric"}]
    with pytest.raises(InputError, match="exact does not read 'delivery'"):
        scoring.choose(["exact:delivery"], None)


def test_an_axis_that_was_renamed_is_filed_under_its_new_name(tmp_path: Path) -> None:
    found = scores(tmp_path, chosen(scorer(says_yes), correct="label.mine"))
    assert {made.axis for made in found} == {"label.mine"}


def test_what_rests_on_an_oracle_names_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="recovery must know which answers are right"):
        scoring.choose(["recovery"], None)
    _, recovery = scoring.choose(["exact", "recovery"], None)
    _, by_number = scoring.choose(["numeric", "recovery"], None)
    assert recovery.name != by_number.name
    assert "oracle=exact@" in recovery.name


def test_programs_that_ran_without_a_sandbox_are_marked_in_every_score() -> None:
    (walled,), (bare,) = scoring.choose(["code"], None), scoring.choose(["code"], None, unsafe_local=True)
    assert bare.name == f"{walled.name}#sandbox=none"
    (exact,), (same,) = scoring.choose(["exact"], None), scoring.choose(["exact"], None, unsafe_local=True)
    assert exact == same, "it runs no programs"


# reading --------------------------------------------------------------------------------------------------------


def test_an_scorer_that_fails_its_cards_does_not_score(tmp_path: Path) -> None:
    always = scorer(lambda item, tools: [Reading("correct", 1.0)])
    with pytest.raises(InputError, match="planted fails 1 of its own known-answer cards"):
        scores(tmp_path, chosen(always))
    assert len(scores(tmp_path, chosen(scorer(says_yes)))) == 60


def test_an_axis_that_was_not_declared_is_a_broken_contract(tmp_path: Path) -> None:
    def strange(item: Item, tools: Tools) -> list[Reading]:
        seen = says_yes(item, tools)
        return seen if str(item.response.arm) == "card" else [Reading("delivery", "hedge")]

    with pytest.raises(RegistryError, match="'delivery', an axis that it does not declare"):
        scores(tmp_path, chosen(scorer(strange)))


def test_the_oracle_is_what_is_filed_as_correct(tmp_path: Path) -> None:
    def by_length(item: Item, tools: Tools) -> list[Reading]:
        text = item.response.text or ""
        return [Reading("score.short", float(len(text) < 5)), Reading("correct", float(text == "yes"))]

    short = replace(
        scorer(by_length, "by-length"),
        axes={"score.short": Range(), "correct": Range()},
        cards=(
            Card(PROMPTS[0], "yes", {"correct": 1.0, "score.short": 1.0}),
            Card(PROMPTS[0], "not at all", {"correct": 0.0, "score.short": 0.0}),
        ),
    )
    (recovery,) = (made for made in scoring.choose(["exact", "recovery"], None) if made.scorer.name == "recovery")
    answers = [said("yes"), said("never", arm="control/recovery")]
    for axes, expected in (({"correct": "correct"}, "wrong"), ({"score.short": "correct"}, "wrong")):
        found = scores(tmp_path / expected, ChosenScorer(short, axes, "by-length@1"), recovery, answers=answers)
        assert [made.value for made in found if made.axis == "revised"] == [expected]
    answers = [said("yes"), said("no", arm="control/recovery")]
    found = scores(
        tmp_path / "x", ChosenScorer(short, {"score.short": "correct"}, "by-length@1"), recovery, answers=answers
    )
    assert [made.value for made in found if made.axis == "revised"] == ["right"], "short is what counts as right here"


def test_recovery_reads_the_turn_of_its_own_arm_and_budget(tmp_path: Path) -> None:
    exact, recovery = scoring.choose(["exact", "recovery"], None)
    answers = [
        said("yes"), said("no", arm="control/recovery"), said("yes", arm="control@4"),
        said("yes", arm="treated@4"), said("yes", arm="treated@4/recovery"), said(None, 1),
    ]  # fmt: skip
    found = {
        (str(m.arm), m.prompt_id): m for m in scores(tmp_path, exact, recovery, answers=answers) if m.axis == "revised"
    }
    first, second = PROMPTS[0].id, PROMPTS[1].id
    assert found["control", first].value == "wrong"
    assert found["control@4", first].unscored == "the scripted next turn was not put to the model"
    assert found["treated@4", first].value == "right"
    assert found["control", second].unscored == "the model gave no answer: it broke"
    assert len(found) == 4, "turns themselves are not scored"


def test_a_scripted_next_turn_is_no_arm_of_its_own_whatever_scores(tmp_path: Path) -> None:
    (exact,) = scoring.choose(["exact"], None)
    answers = [said("yes"), said("no", arm="control/recovery"), said("yes", arm="treated")]
    assert [str(made.arm) for made in scores(tmp_path, exact, answers=answers)] == ["control", "treated"]


def test_side_by_side_gives_what_one_by_one_gives(tmp_path: Path) -> None:
    judged = chosen(scorer(says_yes, needs=["judge"]))
    one = scores(tmp_path / "one", judged, bench=ScoringContext(workers=1))
    assert scores(tmp_path / "many", judged, bench=ScoringContext(workers=7)) == one
    assert len(one) == 60


# resuming -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 3])
def test_stopped_anywhere_it_reads_nothing_twice_that_was_written_down(tmp_path: Path, workers: int) -> None:
    read: list[str] = []

    def limited(item: Item, tools: Tools) -> list[Reading]:
        if str(item.response.arm) != "card":
            if len(read) == 40:
                read.append("stop")
                raise BudgetSpent("enough")
            read.append(str(item.response.arm) + item.prompt.id)
        return says_yes(item, tools)

    judged = chosen(scorer(limited, needs=["judge"]))
    with pytest.raises(BudgetSpent):
        scores(tmp_path, judged, bench=ScoringContext(workers=workers))
    whole = 8 * workers * (40 // (8 * workers))
    seen: list[tuple[int, int]] = []
    tallied = lambda tally: seen.append((tally.kept, tally.done))  # noqa: E731
    found = scores(tmp_path, judged, bench=ScoringContext(workers=workers), watch=tallied)
    assert found == scores(tmp_path / "fresh", judged)
    assert (seen[0][0], seen[-1]) == (whole, (whole, 60))


def test_what_is_scored_already_needs_no_sandbox_no_judge_and_no_cards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(item: Item, tools: Tools) -> list[Reading]:
        raise AssertionError("nothing is left to read")

    monkeypatch.setattr("counterclaim.lab.sandbox.pool.available", lambda: "bubblewrap is missing; install it")
    programs = chosen(scorer(broken, needs=["sandbox"]))
    known = [Score(r.prompt_id, r.arm, r.sample, programs.name, "correct", 1.0) for r in ANSWERS]
    assert scores(tmp_path, programs, known=known) == known
    with pytest.raises(SandboxError, match=r"bubblewrap is missing.*--unsafe-local"):
        scores(tmp_path / "new", programs, known=known[1:])


@pytest.mark.skipif(sandbox.available() is not None, reason="there is no sandbox here")
def test_a_program_is_right_or_wrong_by_its_tests(tmp_path: Path) -> None:
    (code,) = scoring.choose(["code"], None)
    tests = "def check(candidate):\n    assert candidate(2) == 4\n"
    prompts = {PROMPTS[i].id: replace(PROMPTS[i], gold={"tests": tests, "entry_point": "double"}) for i in range(2)}
    answers = [said("def double(n):\n    return n + n\n"), said("def double(n):\n    return n\n", 1)]
    with Journal(tmp_path / "j", "me") as journal:
        found = scoring.score(answers, prompts, [code], ScoringContext(workers=1), journal)
    assert [made.value for made in found] == [1.0, 0.0]
    assert [json.loads(made.evidence or "")["outcome"] for made in found] == ["passed", "failed"]


def test_gold_that_nobody_has_is_asked_for_by_name(tmp_path: Path) -> None:
    (checklist,) = scoring.choose(["checklist"], "world:judge")
    with pytest.raises(InputError, match=r"checklist needs the checklist of each prompt.*add gold.checklist"):
        scores(tmp_path, checklist)


def test_other_answers_golds_or_scorers_are_other_work() -> None:
    one = [chosen(scorer(says_yes))]
    base = scoring.scoring_hash(ANSWERS, BY_ID, one)
    gold = {**BY_ID, PROMPTS[0].id: replace(PROMPTS[0], gold={"answer": "no"})}
    assert base == scoring.scoring_hash(list(ANSWERS), dict(BY_ID), one)
    assert base != scoring.scoring_hash([*ANSWERS[1:], said("else")], BY_ID, one)
    assert base != scoring.scoring_hash(ANSWERS, gold, one)
    assert base != scoring.scoring_hash(ANSWERS, BY_ID, [chosen(scorer(says_yes, "other"))])


def test_a_judge_at_an_address_says_which_model_it_is() -> None:
    with pytest.raises(InputError, match=r"does not say which model judges.*name it http://here:8000/v1#MODEL"):
        scoring.choose(["checklist"], "http://here:8000/v1")
    for judge in ("http://here:8000/v1#small", "world:judge"):
        assert judge in scoring.choose(["checklist"], judge)[0].name
    with pytest.raises(InputError, match="asks a judge, and none was named"):
        scoring.choose(["checklist"], None)


def test_only_what_waits_for_a_judge_or_a_program_is_read_side_by_side(tmp_path: Path) -> None:
    where: dict[str, set[int]] = {"plain": set(), "judged": set()}

    def reads(name: str) -> ChosenScorer:
        def read(item: Item, tools: Tools) -> list[Reading]:
            if str(item.response.arm) != "card":
                where[name].add(threading.get_ident())
            return says_yes(item, tools)

        needs = ["judge"] if name == "judged" else []
        return chosen(scorer(read, name, needs), correct=f"label.{name}")

    scores(tmp_path, reads("plain"), reads("judged"), bench=ScoringContext(workers=4))
    assert where["plain"] == {threading.get_ident()}
    assert threading.get_ident() not in where["judged"]


def test_progress_shows_what_is_read_how_much_gave_no_value_and_how_long_it_took(tmp_path: Path) -> None:
    assert ScoreProgress() == ScoreProgress("", 0, 0, 0, 0, 0.0)

    def half(item: Item, tools: Tools) -> list[Reading]:
        if item.response.arm == TREATED:
            return [Reading("correct", None, "no reply")]
        return says_yes(item, tools)

    seen: list[ScoreProgress] = []
    scores(tmp_path, chosen(scorer(half)), watch=lambda progress: seen.append(replace(progress)))
    assert [(each.scorer, each.total, each.kept) for each in seen] == [("planted", 60, 0)] * len(seen)
    assert (seen[-1].done, seen[-1].unscored) == (60, 30)
    assert 0 <= seen[0].seconds <= seen[-1].seconds < 60


def test_scores_stay_true_while_the_answer_its_next_turn_and_its_gold_are_what_they_were() -> None:
    """Each of them changed in turn, and an answer that is gone."""
    answers = [said("yes", i) for i in range(5)]
    turns = [replace(said("yes", i), arm=replace(CONTROL, turn="planted")) for i in range(5)]
    made = [Score(PROMPTS[i].id, CONTROL, 0, "planted@1", "correct", 1.0) for i in range(5)]
    earlier = Records({}, BY_ID, [*answers, *turns], made)
    assert list(scoring.still_true(None, answers, BY_ID)) == []
    assert list(scoring.still_true(earlier, earlier.responses, BY_ID)) == made
    now = [said("no", 0), *answers[1:3], answers[4], *turns[:1], replace(turns[1], text="no"), *turns[2:]]
    golds = {**BY_ID, PROMPTS[2].id: replace(PROMPTS[2], gold={"answer": "no"})}
    assert list(scoring.still_true(earlier, now, golds)) == [made[4]]
    unasked = replace(earlier, prompts={key: prompt for key, prompt in BY_ID.items() if key != PROMPTS[4].id})
    assert list(scoring.still_true(unasked, now, golds)) == []


@pytest.mark.parametrize("unsafe", [False, True])
def test_what_the_sandbox_has_to_say_is_noted_unless_every_score_says_it(
    monkeypatch: pytest.MonkeyPatch, unsafe: bool
) -> None:
    class Fake:
        notes = ("no cgroups here",)

        def __init__(self, workers: int, unsafe_local: bool) -> None:
            assert (workers, unsafe_local) == (1, unsafe)

        def __enter__(self) -> Fake:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr("counterclaim.lab.sandbox.Pool", Fake)
    context = ScoringContext(workers=1, unsafe_local=unsafe)
    item = chosen(scorer(says_yes, needs=["sandbox"]))
    with scoring._tools([item], [item], context) as tools:
        assert isinstance(tools.sandbox, Fake)
    assert list(context.notes) == ([] if unsafe else ["no cgroups here"])
    with scoring._tools([item], [], context) as tools:
        assert tools.sandbox is None
