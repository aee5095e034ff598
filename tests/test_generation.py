"""The generation loop: every answer wanted, each made once, whatever stops it."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterclaim.errors import BudgetSpent, InputError, RegistryError
from counterclaim.folder import Journal
from counterclaim.lab.answers import AnsweringArm, AnswerProgress, generate
from counterclaim.records import (
    CONTROL,
    TREATED,
    ArmId,
    Decode,
    FinishReason,
    Message,
    ModelRef,
    Prompt,
    Provenance,
    Response,
    response_from_json,
)
from counterclaim.registry import Answer, Ask, Model, ModelSpec, Runtime

PROMPTS = [Prompt.of_text(f"Question {i}?") for i in range(7)]
PLANS = (
    AnsweringArm(CONTROL, ModelSpec("echo"), Decode(8, temperature=1.0)),
    AnsweringArm(TREATED, ModelSpec("echo"), Decode(8, temperature=1.0, system_prompt="Be brief.")),
    AnsweringArm(ArmId("other"), ModelSpec("echo-2"), Decode(8, temperature=1.0)),
)


class Echo:
    """Says what it was asked, in batches of two; stops or fails where it is told to."""

    def __init__(self, name: str, log: list[str], stop_after: int | None = None, fails: Container[str] = ()) -> None:
        self.ref = ModelRef(name)
        self.chat_template: str | None = "t1"
        self.log = log
        self.stop_after = stop_after
        self.fails = fails
        self.answered = 0

    def answer(
        self, asks: Sequence[Ask], decode: Decode, done: Container[int] = ()
    ) -> Iterator[list[tuple[int, Answer]]]:
        left = [i for i in range(len(asks)) if i not in done]
        for start in range(0, len(left), 2):
            if self.stop_after is not None and self.answered >= self.stop_after:
                raise BudgetSpent("enough")
            batch = []
            for i in left[start : start + 2]:
                ask = asks[i]
                self.log.append(f"{self.ref.repo} {ask.key} {ask.sample} {decode.seed} {decode.system_prompt}")
                text = f"{decode.seed}:{ask.sample}:" + " | ".join(turn.content for turn in ask.messages)
                if ask.messages[-1].content in self.fails:
                    batch.append((i, Answer(None, FinishReason.ERROR, error="it broke")))
                else:
                    batch.append((i, Answer(text, FinishReason.STOP, n_tokens=3, token_chars=(1, 1, len(text) - 2))))
                self.answered += 1
            yield batch

    def close(self) -> None:
        self.log.append(f"closed {self.ref.repo}")


def made(
    tmp_path: Path, log: list[str], *, stop_after: int | None = None, fails: Container[str] = (), **more: object
) -> list[Response]:
    def opened(spec: ModelSpec, runtime: Runtime) -> Model:
        log.append(f"opened {spec.name}")
        return Echo(spec.name, log, stop_after, fails)

    with Journal(tmp_path / "answers.journal", "me") as journal:
        known = [response_from_json(row) for row in journal.rows]
        return generate(PLANS, PROMPTS, journal, known=known, open=opened, **more)  # type: ignore[arg-type]


def test_every_arm_answers_every_prompt_and_arms_share_a_model(tmp_path: Path) -> None:
    log: list[str] = []
    answers = made(tmp_path, log, samples=2, seeds=(5, 6))
    assert [(str(a.arm), a.replicate) for a in answers[:: 2 * len(PROMPTS)]] == [
        (arm, seed) for arm in ("control", "treated", "other") for seed in ("5", "6")
    ]
    assert len({a.key for a in answers}) == len(answers) == 3 * 7 * 4
    assert {a.sample for a in answers} == {0, 1, 2, 3}
    assert [line for line in log if line.startswith(("opened", "closed"))] == [
        "opened echo", "closed echo", "opened echo-2", "closed echo-2",
    ]  # fmt: skip
    treated = next(a for a in answers if a.arm == TREATED)
    assert treated.text is not None
    assert "Be brief. | Question" in treated.text
    assert (treated.decode.chat_template, treated.decode.seed, treated.model.repo) == ("t1", 5, "echo")


@settings(max_examples=25, deadline=None)
@given(stops=st.lists(st.integers(0, 60), max_size=4))
def test_stopped_anywhere_any_number_of_times_it_ends_with_the_same_answers(
    tmp_path_factory: pytest.TempPathFactory, stops: list[int]
) -> None:
    whole: list[str] = []
    expected = made(tmp_path_factory.mktemp("whole"), whole, follow_ups={"recovery": "That is wrong."})
    folder, log = tmp_path_factory.mktemp("stopped"), []
    for stop in stops:
        try:
            made(folder, log, stop_after=stop, follow_ups={"recovery": "That is wrong."})
        except BudgetSpent:
            continue
    assert made(folder, log, follow_ups={"recovery": "That is wrong."}) == expected
    asked = [line for line in log if not line.startswith(("opened", "closed"))]
    assert len(asked) == len(set(asked)), "something was asked twice"


def test_a_scripted_next_turn_follows_the_answer_and_has_random_numbers_of_its_own(tmp_path: Path) -> None:
    log: list[str] = []
    answers = made(tmp_path, log, follow_ups={"recovery": "That is wrong."}, fails={"Question 3?"})
    follow = [a for a in answers if a.arm == ArmId("treated", turn="recovery")]
    assert len(follow) == 6, "a failed answer has no next turn"
    first = {a.prompt_id: a for a in answers if a.arm == TREATED}
    for answer in follow:
        said = first[answer.prompt_id].text
        assert said is not None
        assert answer.text is not None
        assert answer.text.endswith(f"{said} | That is wrong.")
    keys = {line.split()[1] for line in log if line.startswith("echo ")}
    assert {key for key in keys if key.endswith("/recovery")} == {f"{a.prompt_id}/recovery" for a in follow}


def test_failed_answers_are_records_and_are_asked_again_by_a_rerun(tmp_path: Path) -> None:
    first = made(tmp_path, [], fails={"Question 1?", "Question 2?"})
    assert [a.error for a in first if a.error] == ["it broke"] * 6
    again: list[str] = []
    mended = made(tmp_path, again)
    assert all(a.error is None for a in mended)
    assert len([line for line in again if line.startswith("echo")]) == 6
    third: list[str] = []
    assert made(tmp_path, third) == mended
    assert third == []


def test_the_tally_counts_what_was_kept_and_warns_of_cut_answers(tmp_path: Path) -> None:
    seen: list[tuple[int, int, int]] = []
    with pytest.raises(BudgetSpent):
        made(tmp_path, [], stop_after=6)
    made(tmp_path, [], watch=lambda tally: seen.append((tally.done, tally.total, tally.kept)))
    assert seen[-1] == (21, 21, 6)


def test_an_arm_that_is_cut_is_told_after_twenty_answers_however_many_another_arm_gave() -> None:
    def ended(reason: FinishReason) -> Response:
        error = "it broke" if reason is FinishReason.ERROR else None
        return Response("p", CONTROL, 0, "x", reason, Provenance.RECORDED, Decode(8), ModelRef(), error=error)

    tally = AnswerProgress()
    tally.begin("control")
    for _ in range(2000):
        tally.add(ended(FinishReason.STOP))
    assert not tally.many_cut
    tally.begin("treated")
    for number in range(20):
        assert not tally.many_cut
        tally.add(ended(FinishReason.ERROR))
        tally.add(ended(FinishReason.LENGTH if number % 5 == 0 else FinishReason.STOP))
    assert tally.many_cut
    assert (tally.cut_share, tally.done, tally.errors) == (0.2, 2040, 20)


def test_a_backend_that_leaves_a_question_out_is_found_out(tmp_path: Path) -> None:
    class Lazy(Echo):
        def answer(
            self, asks: Sequence[Ask], decode: Decode, done: Container[int] = ()
        ) -> Iterator[list[tuple[int, Answer]]]:
            yield from super().answer(asks[:-1], decode, done)

    with Journal(tmp_path / "j", 1) as journal, pytest.raises(RegistryError, match="gave no answer to 1 prompts"):
        generate(PLANS[:1], PROMPTS, journal, open=lambda spec, runtime: Lazy(spec.name, []))


def test_a_prompt_without_text_is_refused(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", 1) as journal, pytest.raises(InputError, match="has no text"):
        generate(PLANS[:1], [Prompt("id:7")], journal, open=lambda spec, runtime: Echo(spec.name, []))


def test_the_arms_system_prompt_goes_before_the_prompts_own(tmp_path: Path) -> None:
    prompt = Prompt("p", (Message("system", "Own."), Message("user", "Hi?")))
    with Journal(tmp_path / "j", 1) as journal:
        (answer,) = generate(PLANS[1:2], [prompt], journal, open=lambda spec, runtime: Echo(spec.name, []))
    assert answer.text == "0:0:Be brief.\n\nOwn. | Hi?"


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(1, 14))
def test_a_smaller_budget_is_the_prefix(chars: list[int], budget: int) -> None:
    text = "".join(chr(97 + i) * n for i, n in enumerate(chars))
    whole = Response(
        "p", CONTROL, 0, text, FinishReason.STOP, Provenance.RECORDED, Decode(64), ModelRef(),
        n_tokens=len(chars), token_chars=tuple(chars),
    )  # fmt: skip
    cut = whole.cut_to(budget)
    assert cut.decode.max_new_tokens == cut.arm.budget == budget
    if budget >= len(chars):
        assert (cut.text, cut.finish_reason) == (text, FinishReason.STOP)
    else:
        assert (cut.text, cut.finish_reason) == (text[: sum(chars[:budget])], FinishReason.LENGTH)
        assert cut.n_tokens == budget
        assert cut.cut_to(1).text == whole.cut_to(1).text


def test_an_answer_whose_tokens_nobody_counted_is_whole_within_its_budget() -> None:
    whole = Response(
        "p", CONTROL, 0, "abc", FinishReason.STOP, Provenance.RECORDED, Decode(9), ModelRef(), token_chars=(1, 1, 1)
    )
    assert whole.cut_to(3).finish_reason is FinishReason.STOP
    assert whole.cut_to(2).finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize(("cut", "of", "warned"), [(2, 20, False), (3, 20, True), (19, 19, False), (3, 31, False)])
def test_a_budget_is_called_too_small_where_more_than_one_in_ten_of_twenty_is_cut(
    cut: int, of: int, warned: bool
) -> None:
    progress = AnswerProgress()
    assert (progress.cut_share, progress.many_cut) == (0.0, False)
    progress.begin("control")
    for number in range(of):
        reason = FinishReason.LENGTH if number < cut else FinishReason.STOP
        progress.add(Response("p", "a", 0, "x", reason, Provenance.RECORDED, Decode(8), ModelRef()))
    assert progress.cut_share == cut / of
    assert progress.many_cut is warned


def test_each_of_several_seeds_is_a_replicate_and_a_lone_one_is_none(tmp_path: Path) -> None:
    def replicates(*seeds: int, plans: Sequence[AnsweringArm] = PLANS[:1]) -> dict[tuple[str, int], str]:
        with Journal(tmp_path / f"j{seeds}{len(plans)}", 1) as journal:
            found = generate(
                plans, PROMPTS[:1], journal, samples=2, seeds=seeds, open=lambda spec, runtime: Echo(spec.name, [])
            )
        return {(answer.replicate, answer.sample): (answer.text or "").partition(":")[0] for answer in found}

    assert replicates(5) == {("", 0): "5", ("", 1): "5"}
    assert replicates(5, 6) == {("5", 0): "5", ("5", 1): "5", ("6", 2): "6", ("6", 3): "6"}
    fits = [replace(PLANS[0], fit_seed=seed, first_sample=4 * at) for at, seed in enumerate((11, 12))]
    assert {name for name, _ in replicates(5, 6, plans=fits)} == {"11", "12"}, "fits of one arm are its replicates"
    assert {name for name, _ in replicates(5, 6, plans=fits[:1])} == {"5", "6"}
