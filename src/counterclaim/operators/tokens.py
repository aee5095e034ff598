"""Training examples as tokens and labels: which tokens of a conversation are learnt, and which are only read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from counterclaim.errors import InputError, ModelError
from counterclaim.records import Example
from counterclaim.spec import Sft

IGNORED = -100
"""The label of a token that is not learnt."""

_THOUGHT = re.compile(r"<think>.*?(</think>\s*|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Row:
    """One example as the model sees it.

    Attributes:
        input_ids: token ids of the whole conversation, as the chat template lays it out.
        labels: of equal length; the token where it is learnt, ``IGNORED`` where it is only read.
    """

    input_ids: list[int]
    labels: list[int]


def rows_of(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, plan: Sft, template: str | None
) -> tuple[list[Row], int]:
    """Examples as tokens and labels, and how many were left out because they are longer than ``max_length``.

    An example that is cut would teach to stop in the middle, so it is left out instead.

    Args:
        examples: what is learnt.
        tokenizer: a fast tokenizer.
        plan: what the loss is on.
        template: a chat template that marks the turns of the assistant, for ``loss_on = "assistant"``; else the tokenizer's own.

    Raises:
        InputError: no example is left, or none has a token that is learnt.
        ModelError: the tokenizer does not say where its tokens stand.
    """
    if plan.mask_think and not tokenizer.is_fast:
        raise ModelError(
            "thoughts cannot be left out of the loss: the tokenizer does not say where its tokens stand in the text",
            remedy="use a model with a fast tokenizer (tokenizer.json), or set mask_think = false",
        )
    rows = [_row(example, tokenizer, plan, template) for example in examples]
    fitting = [row for row in rows if len(row.input_ids) <= plan.max_length]
    if not fitting:
        shortest = min(len(row.input_ids) for row in rows)
        raise InputError(
            f"none of the {len(rows)} examples has at most {plan.max_length} tokens; the shortest has {shortest}",
            remedy=f"raise tune.sft.max_length to {shortest} or more",
        )
    learnt = [row for row in fitting if any(label != IGNORED for label in row.labels)]
    if not learnt:
        raise InputError(
            f"none of the {len(fitting)} examples has a token that is learnt: their answers are nothing but thoughts",
            remedy="set tune.sft.mask_think = false, or give examples with answers",
        )
    return learnt, len(rows) - len(learnt)


def _row(example: Example, tokenizer: PreTrainedTokenizerBase, plan: Sft, template: str | None) -> Row:
    turns = [{"role": turn.role, "content": turn.content} for turn in example.prompt]
    whole = [*turns, {"role": "assistant", "content": example.chosen}]
    if plan.loss_on == "assistant":
        marked: Any = tokenizer.apply_chat_template(
            whole, tokenize=True, return_dict=True, return_assistant_tokens_mask=True, chat_template=template
        )
        ids, learnt = list(marked["input_ids"]), [bool(mark) for mark in marked["assistant_masks"]]
        text = str(tokenizer.apply_chat_template(whole, tokenize=False, chat_template=template))
    else:
        text = str(tokenizer.apply_chat_template(whole, tokenize=False))
        ids = list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        learnt = [True] * len(ids)
        if plan.loss_on == "completion":
            head = str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
            asked = tokenizer(head, add_special_tokens=False, verbose=False)["input_ids"]
            learnt = [at >= _common(asked, ids) for at in range(len(ids))]
    if plan.mask_think:
        ends = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
        thoughts = [match.span() for match in _THOUGHT.finditer(text)]
        learnt = [
            mark and not any(start < end and first <= start and end <= last for first, last in thoughts)
            for mark, (start, end) in zip(learnt, ends, strict=True)
        ]
    return Row(ids, [token if mark else IGNORED for token, mark in zip(ids, learnt, strict=True)])


def _common(asked: Sequence[int], whole: Sequence[int]) -> int:
    """How many tokens the prompt and the conversation share at the start.

    The prompt alone may end in tokens that merge with the answer's first, or that the template drops once there is an
    answer; the answer begins where the two part.
    """
    pairs = zip(asked, whole, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(asked), len(whole)))
