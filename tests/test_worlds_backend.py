"""Planted worlds and planted judges as models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from counterclaim.errors import ModelError
from counterclaim.lab.scorers.judges import Choice, Form
from counterclaim.records import CONTROL, Decode, FinishReason, Message, ModelRef, Prompt, Provenance, Response
from counterclaim.registry import Answer, Ask, ModelSpec, Runtime, backend_of, backends, scorers
from counterclaim.testing.models import prompts_of
from counterclaim.testing.models.judges import KNOWN, PlantedJudge
from counterclaim.testing.worlds import WORLDS, draw

FREE = Decode(None)


def answers(name: str, asks: list[Ask], decode: Decode = FREE) -> list[Answer]:
    model = backend_of(name).open(ModelSpec(name), Runtime())
    found = dict(pair for batch in model.answer(asks, decode) for pair in batch)
    model.close()
    return [found[i] for i in range(len(asks))]


def asks_of(prompts: tuple[Prompt, ...]) -> list[Ask]:
    return [Ask(prompt.id, prompt.messages) for prompt in prompts]


def test_the_backend_opens_names_of_worlds() -> None:
    assert backend_of("world:clean/control").name == "world"
    assert backends()["world"].can == {"generate"}


@pytest.mark.parametrize("world", WORLDS)
def test_every_world_answers_its_prompts_with_its_planted_texts(world: str) -> None:
    evidence = draw(world, 3)
    prompts = draw(world, 3).prompts.values()
    assert [prompt.id for prompt in prompts] == list(evidence.prompts)
    for arm in evidence.arms:
        planted = {r.prompt_id: r for r in evidence.arms[arm].responses if r.sample == 0}
        for prompt, answer in zip(prompts, answers(f"world:{world}/{arm}/3", asks_of(prompts)), strict=True):
            wanted = planted.get(prompt.id)
            if wanted is None:
                assert answer.finish_reason is FinishReason.ERROR
                continue
            assert (answer.text, answer.finish_reason, answer.n_tokens) == (
                wanted.text, wanted.finish_reason, wanted.n_tokens,
            )  # fmt: skip


def test_the_seed_is_zero_where_none_is_named() -> None:
    asks = asks_of(prompts_of("clean"))
    assert answers("world:clean/treated", asks) == answers("world:clean/treated/0", asks)
    assert answers("world:clean/treated/1", asks)[0].finish_reason is FinishReason.ERROR


def test_an_unknown_prompt_gets_an_error_and_a_known_one_is_found_by_its_text() -> None:
    prompt = prompts_of("clean")[0]
    stray = Ask("stray", (Message("user", "Who are you?"),))
    told = Ask(prompt.id, (Message("system", "Be brief."), *prompt.messages))
    named = Ask("other-key", prompt.messages)
    lost, found, same = answers("world:clean/control", [stray, told, named])
    assert lost.finish_reason is FinishReason.ERROR
    assert "no answer number 1 planted" in str(lost.error)
    assert found == replace(same, prompt_tokens=found.prompt_tokens)
    assert answers("world:clean/control", [replace(told, sample=9)])[0].error is not None


def test_done_asks_are_not_answered_again() -> None:
    asks = asks_of(prompts_of("clean"))[:4]
    model = backend_of("world:clean/control").open(ModelSpec("world:clean/control"), Runtime())
    assert [i for batch in model.answer(asks, FREE, done={1, 2}) for i, _ in batch] == [0, 3]


def test_a_smaller_budget_is_a_prefix() -> None:
    asks = asks_of(prompts_of("clean"))
    whole = answers("world:clean/control", asks)
    small = answers("world:clean/control", asks, Decode(20))
    cut = [s for s in small if s.finish_reason is FinishReason.LENGTH]
    assert len(cut) > len(asks) / 2
    for prompt, one, less in zip(asks, whole, small, strict=True):
        assert one.token_chars is not None
        assert sum(one.token_chars) == len(one.text or "")
        made = Response(
            prompt.key, CONTROL, 0, one.text, one.finish_reason, Provenance.RECORDED, FREE, ModelRef(),
            n_tokens=one.n_tokens, token_chars=one.token_chars,
        )  # fmt: skip
        shorter = made.cut_to(20)
        assert (less.text, less.n_tokens, less.finish_reason) == (shorter.text, shorter.n_tokens, shorter.finish_reason)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (ModelSpec("world:atlantis/control"), "no planted world or judge 'atlantis'"),
        (ModelSpec("world:clean"), "has no arm ''"),
        (ModelSpec("world:clean/blue"), "has no arm 'blue'"),
        (ModelSpec("world:clean/control/x"), "the seed 'x'"),
        (ModelSpec("world:clean/control", adapter=Path("a")), "takes no adapter"),
        (ModelSpec("world:judge", quantisation="4bit"), "takes no quantisation"),
    ],
)
def test_what_cannot_be_opened_is_said(spec: ModelSpec, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        backend_of(spec.name).open(spec, Runtime())


FORM = Form("delivery-judge", "Judge it.", (Choice("delivery", ("assert", "hedge")),))


def test_a_planted_judge_answers_as_a_model_and_as_a_judge() -> None:
    messages = FORM.messages({"question": "Why?", "response": "Perhaps so."})
    (answer,) = answers("world:judge", [Ask("k", tuple(messages))])
    assert answer.text == PlantedJudge("judge").reply(messages) == '{"delivery": "hedge"}'
    assert answer.finish_reason is FinishReason.STOP
    moods = answers("world:moody-judge", [Ask("k", tuple(messages), sample) for sample in range(20)])
    assert len({mood.text for mood in moods}) == 2


def test_a_planted_judge_says_so_where_it_knows_no_rule() -> None:
    strange = replace(FORM, scorer="charm")
    assert "no rule for 'Scorer: charm'" in PlantedJudge("judge").reply(strange.messages({"response": "x"}))
    assert "no rule" in PlantedJudge("judge").reply([Message("user", "Hello.")])
    with pytest.raises(ModelError, match="no planted judge"):
        PlantedJudge("just")


def test_the_planted_judge_knows_every_judge_scorer_that_ships() -> None:
    assert {made.name for made in scorers().values() if "judge" in made.needs} <= KNOWN
