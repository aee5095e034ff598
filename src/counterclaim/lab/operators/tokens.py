"""Training examples as tokens and labels: which tokens of a conversation are trained on, and which are only read.

A conversation is laid out by the chat template of the model, its thinking switch as answers will be asked for
(``Fitting.thinking``), in SFT, in DPO and in the prompts of GRPO alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from counterclaim.errors import InputError, ModelError
from counterclaim.lab.config import Sft
from counterclaim.records import Example, Message

IGNORED = -100
"""The label of a token that is not trained on."""

_THOUGHT = re.compile(r"<think>.*?(</think>\s*|\Z)", re.DOTALL)
_REST_OF_THOUGHT = re.compile(r"\A.*?(</think>\s*|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Row:
    """One example as the model sees it.

    Attributes:
        input_ids: token ids of the whole conversation, as the chat template lays it out.
        labels: of equal length; the token where it is trained on, ``IGNORED`` where it is only read.
    """

    input_ids: list[int]
    labels: list[int]


@dataclass(frozen=True, slots=True)
class Rows:
    """Examples as the model sees them, and what became of the others.

    Attributes:
        kept: those that are trained on; each has at least one such token.
        too_long: how many are longer than ``max_length``. One that is cut would teach to stop in the middle.
        untrained: how many have no token that is trained on, such as an answer that is nothing but a thought.
    """

    kept: list[Row]
    too_long: int
    untrained: int


def rows_of(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, plan: Sft, template: str | None = None
) -> Rows:
    """Examples as tokens and labels.

    Args:
        examples: the training examples.
        tokenizer: of the model; a fast one where thoughts are left out of the loss.
        plan: what the loss is on.
        template: a chat template that marks the turns of the assistant, for ``loss_on = "assistant"``; the tokenizer's own
            when None.

    Raises:
        InputError: no example is left, or none has a token that is trained on.
        ModelError: the chat template does not take a conversation, or the tokenizer does not say where its tokens stand.
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
    trained = [row for row in fitting if any(label != IGNORED for label in row.labels)]
    if not trained:
        raise InputError(
            f"none of the {len(fitting)} examples has a token to train on: their answers are nothing but thoughts",
            remedy="set tune.sft.mask_think = false, or give examples with answers",
        )
    return Rows(trained, len(rows) - len(fitting), len(fitting) - len(trained))


def prompt_tokens(prompt: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of a prompt, up to where the answer begins.

    Raises:
        ModelError: the chat template does not take the conversation.
    """
    return _ids(_text(turns_of(prompt), tokenizer, None, asking=True), tokenizer)


def answered(prompt: Sequence[Message], answer: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of a prompt and an answer to it.

    Raises:
        ModelError: the chat template does not take the conversation.
    """
    return _ids(_text([*turns_of(prompt), {"role": "assistant", "content": answer}], tokenizer, None), tokenizer)


def _row(example: Example, tokenizer: PreTrainedTokenizerBase, plan: Sft, template: str | None) -> Row:
    conversation = [*turns_of(example.prompt), {"role": "assistant", "content": example.chosen}]
    text = _text(conversation, tokenizer, template if plan.loss_on == "assistant" else None)
    ids = _ids(text, tokenizer)
    trained = [True] * len(ids)
    if plan.loss_on == "assistant":
        marked: Any = tokenizer.apply_chat_template(
            conversation, tokenize=True, return_dict=True, return_assistant_tokens_mask=True, chat_template=template
        )
        trained = [bool(mark) for mark in marked["assistant_masks"]]
    elif plan.loss_on == "completion":
        begins = _common(prompt_tokens(example.prompt, tokenizer), ids)
        trained = [at >= begins for at in range(len(ids))]
    if plan.mask_think:
        spans = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
        thoughts = list(_thoughts(text, spans, trained))
        trained = [
            mark and not any(start < end and first <= start and end <= last for first, last in thoughts)
            for mark, (start, end) in zip(trained, spans, strict=True)
        ]
    return Row(ids, [token if mark else IGNORED for token, mark in zip(ids, trained, strict=True)])


def _thoughts(text: str, spans: Sequence[tuple[int, int]], trained: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Where in the text thoughts stand, searched in each stretch of trained tokens by itself.

    What a user says about ``<think>`` opens no thought in the answer. Where the template has opened one before the
    answer begins, the answer begins with the rest of it.
    """
    for mark, stretch in groupby(zip(spans, trained, strict=True), key=lambda pair: pair[1]):
        if not mark:
            continue
        ends = [span for span, _ in stretch]
        begin, end = ends[0][0], ends[-1][1]
        part = text[begin:end]
        if text[:begin].rstrip().endswith("<think>") and (rest := _REST_OF_THOUGHT.match(part)):
            yield begin, begin + rest.end()
            begin, part = begin + rest.end(), part[rest.end() :]
        for thought in _THOUGHT.finditer(part):
            yield begin + thought.start(), begin + thought.end()


def _common(prompt_tokens: Sequence[int], whole: Sequence[int]) -> int:
    """How many tokens the prompt and the conversation share at the start.

    The prompt alone may end in tokens that merge with the answer's first, or that the template drops once there is an
    answer; the answer begins where the two part.
    """
    pairs = zip(prompt_tokens, whole, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(prompt_tokens), len(whole)))


def turns_of(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _text(
    turns: list[dict[str, str]], tokenizer: PreTrainedTokenizerBase, template: str | None, asking: bool = False
) -> str:
    try:
        return str(
            tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=asking, chat_template=template)
        )
    except (TemplateError, ValueError, TypeError) as error:
        raise ModelError(
            f"the chat template does not take the conversation that begins with {turns[0]['content'][:60]!r} ({error})",
            remedy="change its roles, leave it out, or use another template",
        ) from error


def _ids(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
