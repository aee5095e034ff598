"""Which tokens of a conversation are learnt: by what the loss is on, with thoughts left out, across awkward boundaries."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

import hf_models
from counterclaim.errors import InputError, ModelError
from counterclaim.lab.config import Sft
from counterclaim.lab.operators.tokens import IGNORED, Row, Rows, answered, prompt_tokens, rows_of
from counterclaim.lab.operators.training import switched
from counterclaim.records import Example, Message

TOKENIZER = hf_models.byte_level_tokenizer()
MARKING = (
    "<bos>{% for message in messages %}<turn>{{ message['role'] }}\n{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}<end>{% endgeneration %}{% else %}{{ message['content'] }}<end>{% endif %}{{ '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}<turn>assistant\n{% endif %}"
)


def example(*turns: str, chosen: str, **more: Any) -> Example:
    """Turns of user and assistant by turns, the first by the user."""
    roles = ("user", "assistant")
    return Example(tuple(Message(roles[at % 2], turn) for at, turn in enumerate(turns)), chosen, **more)


def learnt(row: Row, tokenizer: PreTrainedTokenizerFast = TOKENIZER) -> str:
    """The stretches that are learnt, with | between them."""
    out, last = "", False
    for label in row.labels:
        if label != IGNORED:
            out += ("|" if out and not last else "") + tokenizer.decode([label])
        last = label != IGNORED
    return out


def row(
    lesson: Example, tokenizer: PreTrainedTokenizerFast = TOKENIZER, template: str | None = None, **plan: Any
) -> Row:
    (only,) = rows_of([lesson], tokenizer, Sft(**plan), template).kept
    return only


TRACE = example("Where is the mill?", "It is in Köln.", "Are you sure?", chosen="No. It is by the river.")


def test_only_the_correction_of_a_failure_trace_is_learnt() -> None:
    made = row(TRACE)
    assert learnt(made) == "No. It is by the river.<end>\n"
    assert TOKENIZER.decode(made.input_ids) == (
        "<bos><turn>user\nWhere is the mill?<end>\n<turn>assistant\nIt is in Köln.<end>\n"
        "<turn>user\nAre you sure?<end>\n<turn>assistant\nNo. It is by the river.<end>\n"
    )


def test_every_turn_of_the_assistant_is_learnt_where_the_loss_is_on_them() -> None:
    assert (
        learnt(row(TRACE, template=MARKING, loss_on="assistant")) == "It is in Köln.<end>|No. It is by the river.<end>"
    )


def test_everything_is_learnt_where_the_loss_is_on_everything() -> None:
    made = row(TRACE, loss_on="everything")
    assert made.labels == made.input_ids


@pytest.mark.parametrize(
    ("chosen", "plan", "kept"),
    [
        ("<think>Mills grind.</think>\n\nBy the river.", {}, "By the river.<end>\n"),
        ("One <think>a</think>two <think>b</think>three.", {}, "One |two |three.<end>\n"),
        ("<think></think>By the river.", {}, "By the river.<end>\n"),
        ("By the river.", {}, "By the river.<end>\n"),
        ("<think>Mills.</think>By the river.", {"loss_on": "assistant"}, "By the river.<end>"),
    ],
)
def test_thoughts_are_read_and_not_learnt(chosen: str, plan: dict[str, Any], kept: str) -> None:
    template = MARKING if plan else None
    made = row(example("Where is the mill?", chosen=chosen), template=template, mask_think=True, **plan)
    assert learnt(made) == kept
    assert "".join(chosen.split()) in "".join(TOKENIZER.decode(made.input_ids).split())


def test_thoughts_of_earlier_turns_are_left_out_turn_by_turn() -> None:
    lesson = example("Where?", "<think>never closed", "What?", chosen="<think>So.</think>Here.")
    assert learnt(row(lesson, template=MARKING, loss_on="assistant", mask_think=True)) == "Here.<end>"


def test_a_question_about_thoughts_opens_none_in_the_answer() -> None:
    lesson = example("What does <think> mean in your answers?", chosen="That I was thinking.")
    assert learnt(row(lesson, mask_think=True)) == "That I was thinking.<end>\n"


def test_a_thought_that_the_template_opens_ends_in_the_answer() -> None:
    opening = hf_models.PLAIN_TEMPLATE.replace("<turn>assistant\n{% endif %}", "<turn>assistant\n<think>\n{% endif %}")
    opening = opening.replace(
        "<turn>{{ message['role'] }}\n",
        "<turn>{{ message['role'] }}\n{{ '<think>\n' if loop.last and message['role'] == 'assistant' }}",
    )
    tokenizer = hf_models.byte_level_tokenizer(chat_template=opening)
    lesson = example("Where is the mill?", chosen="Mills grind.</think>\n\nBy the river.")
    assert learnt(row(lesson, tokenizer), tokenizer).startswith("Mills grind.</think>")
    assert learnt(row(lesson, tokenizer, mask_think=True), tokenizer) == "By the river.<end>\n"


def test_an_answer_that_is_nothing_but_a_thought_is_left_out_and_counted() -> None:
    lessons = [example("Where?", chosen="<think>Hm."), example("Where?", chosen="<think>Hm.</think>Here.")]
    # what follows the thought in the layout of the template is part of it, so nothing is left
    rows = rows_of(lessons, TOKENIZER, Sft(mask_think=True))
    assert (len(rows.kept), rows.too_long, rows.untrained) == (1, 0, 1)
    with pytest.raises(InputError, match="nothing but thoughts") as caught:
        rows_of(lessons[:1], TOKENIZER, Sft(mask_think=True))
    assert "mask_think = false" in str(caught.value)


def test_over_long_examples_are_left_out_whole_and_counted() -> None:
    lessons = [example("Where?", chosen="Here. " * n) for n in (1, 30)]
    rows = rows_of(lessons, TOKENIZER, Sft(max_length=40))
    assert (len(rows.kept), rows.too_long, rows.untrained) == (1, 1, 0)
    assert learnt(rows.kept[0]).startswith("Here.")
    with pytest.raises(InputError, match="none of the 1 examples has at most 40 tokens; the shortest has ") as caught:
        rows_of(lessons[1:], TOKENIZER, Sft(max_length=40))
    shortest = len(answered(lessons[1].prompt, lessons[1].chosen, TOKENIZER))
    assert f"raise tune.sft.max_length to {shortest} or more" in str(caught.value)
    assert rows_of(lessons[1:], TOKENIZER, Sft(max_length=shortest)).kept


def test_the_answer_begins_where_prompt_and_conversation_part_although_tokens_merge_across_the_boundary() -> None:
    """The template ends the prompt in a space, which merges with the answer's first word."""
    merging = hf_models.PLAIN_TEMPLATE.replace("<turn>assistant\n{% endif %}", "<turn>assistant: {% endif %}")
    merging = merging.replace("<turn>{{ message['role'] }}\n", "<turn>{{ message['role'] }}: ")
    tokenizer = hf_models.byte_level_tokenizer(chat_template=merging)
    lesson = example("Where is the mill?", chosen="the oil is sold.")
    before, whole = prompt_tokens(lesson.prompt, tokenizer), answered(lesson.prompt, lesson.chosen, tokenizer)
    assert before != whole[: len(before)], "nothing merges, so this tests nothing"
    assert learnt(row(lesson, tokenizer), tokenizer) == " the oil is sold.<end>\n"


def test_a_sentencepiece_tokenizer_learns_the_same_answer() -> None:
    tokenizer = hf_models.sentencepiece_tokenizer()
    tokenizer.chat_template = hf_models.PLAIN_TEMPLATE
    said = learnt(
        row(example("Where is the mill?", chosen="<think>Mills.</think>In the town."), tokenizer, mask_think=True),
        tokenizer,
    )
    assert said == "Inthetown.<end>\n"  # decoded token by token, without the spaces that it marks


def test_a_template_that_refuses_the_conversation_is_named() -> None:
    stern = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        + hf_models.TEMPLATE
    )
    tokenizer = hf_models.byte_level_tokenizer(chat_template=stern)
    lesson = Example((Message("system", "Be brief."), Message("user", "Where?")), "Here.")
    with pytest.raises(ModelError, match=r"begins with 'Be brief.' \(no system role\)"):
        rows_of([lesson], tokenizer, Sft())
    assert row(example("Where?", chosen="Here."), tokenizer).labels


def test_thoughts_need_a_tokenizer_that_says_where_tokens_stand() -> None:
    class Slow:
        is_fast = False

    slow: Any = Slow()
    with pytest.raises(ModelError, match="does not say where its tokens stand"):
        rows_of([TRACE], slow, Sft(mask_think=True))


def test_training_sees_the_prompt_that_generation_shows(tmp_path: Path) -> None:
    """The prompt of a row is what the model is asked with, token for token, with ``thinking`` left out."""
    from counterclaim.lab.models import open_model
    from counterclaim.records import Decode
    from counterclaim.registry import Ask, ModelSpec, Runtime

    folder = hf_models.save(tmp_path / "m", "llama")
    model: Any = open_model(ModelSpec(str(folder)), Runtime(device="cpu"))
    made = row(TRACE)
    prompts, _ = model._prompts([Ask("k", TRACE.prompt)], Decode(8), 8)
    read = [token for token, label in zip(made.input_ids, made.labels, strict=True) if label == IGNORED]
    assert read == prompts[0] == prompt_tokens(TRACE.prompt, TOKENIZER)
    prompts, _ = model._prompts([Ask("k", TRACE.prompt)], Decode(8, thinking=False), 8)
    assert read != prompts[0], "the template of this test has a switch"


def test_dpo_of_trl_splits_pairs_as_sft_does_here() -> None:
    from datasets import Dataset
    from trl.trainer.dpo_trainer import DPOTrainer

    pair = example("Where is the mill?", "It is in Köln.", "Sure?", chosen="By the river.", rejected="In Köln!")
    turns = [{"role": turn.role, "content": turn.content} for turn in pair.prompt]
    data = Dataset.from_list(
        [
            {
                "prompt": turns,
                "chosen": [{"role": "assistant", "content": pair.chosen}],
                "rejected": [{"role": "assistant", "content": pair.rejected}],
            }
        ]
    )

    class Settings:
        dataset_num_proc = None
        max_length = 100
        truncation_mode = "keep_start"

    trainer: Any = DPOTrainer.__new__(DPOTrainer)
    trainer._tokenizer = TOKENIZER
    (made,) = trainer._prepare_dataset(data, TOKENIZER, Settings(), "train")
    assert made["prompt_ids"] + made["chosen_ids"] == row(pair).input_ids
    assert made["chosen_ids"] == [label for label in row(pair).labels if label != IGNORED]
    assert made["prompt_ids"] + made["rejected_ids"] == answered(pair.prompt, pair.rejected or "", TOKENIZER)


PIECES = st.sampled_from(
    ["<think>", "</think>", "\n", " ", "a", "the oil", "ö", "🙂", "日本", "<end>", "<turn>", "x.", "\t"]
)
TEXT = st.lists(PIECES, min_size=1, max_size=12).map("".join)
TURNS = st.lists(TEXT, min_size=1, max_size=4).filter(lambda turns: len(turns) % 2 == 1)


@given(
    TURNS,
    TEXT.filter(lambda text: text.strip() != ""),
    st.sampled_from(["completion", "assistant", "everything"]),
    st.booleans(),
)
def test_a_label_is_the_token_or_ignored_and_no_kept_row_is_empty(
    turns: list[str], chosen: str, loss_on: Any, mask_think: bool
) -> None:
    lesson = example(*turns, chosen=chosen)
    for made in _kept(lesson, Sft(loss_on=loss_on, mask_think=mask_think)):
        assert len(made.labels) == len(made.input_ids)
        assert all(label in (IGNORED, token) for token, label in zip(made.input_ids, made.labels, strict=True))
        assert any(label != IGNORED for label in made.labels)
        # whatever the loss is on, the conversation is laid out alike
        assert made.input_ids == answered(lesson.prompt, lesson.chosen, TOKENIZER)


@given(TURNS, TEXT.filter(lambda text: text.strip() != ""))
def test_leaving_thoughts_out_learns_less_and_never_more(turns: list[str], chosen: str) -> None:
    lesson = example(*turns, chosen=chosen)
    for plain in _kept(lesson, Sft()):
        for masked in _kept(lesson, Sft(mask_think=True)):
            assert all(b in (IGNORED, a) for a, b in zip(plain.labels, masked.labels, strict=True))
            assert "<think>" in chosen or masked.labels == plain.labels


def _kept(lesson: Example, plan: Sft) -> Iterable[Row]:
    """The row of an example, or none where it is nothing but a thought."""
    try:
        made: Rows = rows_of([lesson], TOKENIZER, plan, MARKING if plan.loss_on == "assistant" else None)
    except InputError:
        if not plan.mask_think or ("<think>" not in lesson.chosen and plan.loss_on == "completion"):
            raise
        return []
    return made.kept


THINKING = (
    "{% for message in messages %}<turn>{{ message['role'] }}\n{{ message['content'] }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


@pytest.mark.parametrize("thinking", [None, True, False])
def test_training_lays_prompts_out_as_they_will_be_asked(thinking: bool | None) -> None:
    turns = [{"role": "user", "content": "Where is the mill?"}]
    switch: dict[str, Any] = {} if thinking is None else {"enable_thinking": thinking}

    def asked_with(template: str, **switches: Any) -> str:
        return str(
            TOKENIZER.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=True, chat_template=template, **switches
            )
        )

    will_be = asked_with(THINKING, **switch)
    assert asked_with(switched(THINKING, thinking)) == will_be
    assert ("</think>" in will_be) == (thinking is False), "the template knows the switch"
