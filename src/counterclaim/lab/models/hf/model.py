"""A causal language model of transformers that answers asks in batches."""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    StoppingCriteria,
    StoppingCriteriaList,
)

from counterclaim.errors import ModelError
from counterclaim.lab.models.hf.adapters import check_adapter, with_adapter
from counterclaim.lab.models.hf.batching import footprint, halves, plan
from counterclaim.lab.models.hf.detokenize import Detokenizer, decoder_of, detokenized
from counterclaim.lab.models.hf.devices import give_back, is_out_of_memory, threads_for
from counterclaim.lab.models.hf.edits import Edit, Overlay, check_edit, load_edit
from counterclaim.lab.models.hf.fingerprint import adapter_hash, edit_hash, hash_of_text
from counterclaim.lab.models.hf.loading import Loaded, settings
from counterclaim.lab.models.hf.sampling import KeyedSampler, PresencePenalty, row_key
from counterclaim.records import Decode, FinishReason, Message, ModelRef
from counterclaim.registry import Answer, Applied, Ask, ModelSpec, Runtime, operators

log = logging.getLogger("counterclaim.lab.models.hf")

Answered = list[tuple[int, Answer]]


@dataclass(frozen=True, slots=True)
class _Work:
    """What one call of ``answer`` is about.

    Attributes:
        asks: everything that is wanted.
        prompts: token ids of each ask's prompt.
        decode: how to sample.
        budget: most new tokens.
        done: indices that need no answer.
        edits: what asks have laid over the model for their rows, by folder.
        overlay: what lay over the whole model when they were asked.
    """

    asks: Sequence[Ask]
    prompts: dict[int, list[int]]
    decode: Decode
    budget: int
    done: Container[int]
    edits: Mapping[Path, Edit]
    overlay: Overlay | None


class HfModel:
    """An opened model of transformers (the ``Model`` of the registry).

    Besides answering, it lends its parts to those who train it or read its activations.

    Attributes:
        network: the causal language model, or the PEFT model around it.
        tokenizer: its tokenizer.
        device: where it is.
        pad: id of the token that fills shorter rows.
        needs: what its rows need of the device's memory.
        batch_size: rows per batch, where the user has fixed it.
    """

    def __init__(self, loaded: Loaded, runtime: Runtime) -> None:
        self.network: Any = loaded.network
        self.tokenizer = loaded.tokenizer
        self.device = loaded.device
        self._ref = loaded.ref
        self._template = loaded.template
        self._ends = loaded.ends
        self.pad = loaded.pad
        self._runtime = runtime
        self._decode_tokens = decoder_of(loaded.tokenizer)
        self._text_config = loaded.network.config.get_text_config()
        weights = sum(value.numel() * value.element_size() for value in loaded.network.parameters())
        element = 2 if loaded.network.dtype in (torch.float16, torch.bfloat16) else 4
        self.needs = footprint(self._text_config, weights, element, loaded.device)
        self.batch_size = runtime.batch_size
        self._told: set[str] = set()
        self._overlay: Overlay | None = None

    @property
    def ref(self) -> ModelRef:
        """Its fingerprint, kept with every answer."""
        return self._ref

    @property
    def chat_template(self) -> str | None:
        """Hash of the chat template in use (16 hex digits), or ``raw``."""
        return "raw" if self._template is None else hash_of_text(self._template)

    def answer(self, asks: Sequence[Ask], decode: Decode, done: Container[int] = ()) -> Iterator[Answered]:
        """Answers in finished batches, as (index in ``asks``, answer).

        Sampling belongs to the row (``sampling``), and what ``decode`` does not ask for is off, whatever the checkpoint
        says of itself. Temperature None or 0 takes the likeliest token. The repetition penalty counts the prompt,
        the presence penalty only the answer.

        Rows are batched by ``asks`` alone. A batch of which all rows are done is skipped; any other is run whole, as it
        would have been without ``done``, so a resumed run gives the same answers to the bit.

        What an ask has laid over the model (``Ask.applied``) acts on its row alone. The edits of all asks are read once.

        Raises:
            ModelError: a setting of ``decode`` makes no sense, none of the prompts can be put to the model, or an edit was
                made for another model.
        """
        budget = _checked_budget(decode)
        edits = self._edits(asks)
        prompts, refused = self._prompts(asks, decode, budget)
        if refused and not prompts:
            raise ModelError(f"none of the {len(asks)} prompts can be answered; the first: {refused[0].error}")
        return self._answers(_Work(asks, prompts, decode, budget, done, edits, self._overlay), refused)

    def ref_with(self, applied: Applied) -> ModelRef:
        """The fingerprint of a row that has something laid over the model."""
        return replace(
            self._ref, operator=applied.operator, operator_hash=edit_hash(applied.folder), operator_dose=applied.dose
        )

    @contextmanager
    def edited(self, folder: Path, dose: float = 1.0) -> Iterator[None]:
        """The model with an edit over every forward pass of it, by a dose, for as long as the block lasts.

        Forward passes that are not made by ``answer`` have to say where responses start (``responses_from``), unless the
        edit acts on everything.

        Raises:
            ModelError: the edit was made for another model, or the model is edited already.
        """
        self._check_unedited()
        edit, ref = self._edit(folder), self._ref
        overlay = Overlay(self.network, [(edit, dose)])
        self._ref = self.ref_with(Applied(edit.operator, folder, dose))
        self._overlay = overlay
        try:
            with overlay:
                yield
        finally:
            self._overlay, self._ref = None, ref

    def responses_from(self, starts: int | Sequence[int]) -> AbstractContextManager[None]:
        """Where responses start in the forward passes of a block, for an edit that acts on responses alone.

        Args:
            starts: of each row the column of the last token of its prompt; an int where all rows have the same.
        """
        return nullcontext() if self._overlay is None else self._overlay.starting(starts)

    @contextmanager
    def adapted(self, folder: Path, dose: float = 1.0) -> Iterator[None]:
        """The model with an adapter over it, scaled by a dose, for as long as the block lasts.

        Raises:
            ModelError: the adapter does not fit, or the model is edited already.
        """
        self._check_unedited()
        base, ref = self.network, self._ref
        spec = ModelSpec(str(base.config.name_or_path), adapter=folder, dose=dose)
        check_adapter(spec)
        laid = with_adapter(base, spec)
        self.network = laid
        self._ref = replace(ref, adapter_hash=adapter_hash(folder), adapter_dose=dose)
        try:
            yield
        finally:
            self.network, self._ref = laid.unload(), ref

    def close(self) -> None:
        """Give back the memory of the weights; the model cannot answer any more."""
        self.network = None
        gc.collect()
        give_back(self.device)

    def _check_unedited(self) -> None:
        if self._overlay is not None:
            raise ModelError(
                "the model is edited already, and nothing else is laid over an edit",
                remedy="lay adapters first, and one edit over them",
            )

    def _edits(self, asks: Sequence[Ask]) -> dict[Path, Edit]:
        """What asks have laid over the model for their rows, by folder, seen to fit."""
        all_applied = {ask.applied.folder: ask.applied for ask in asks if ask.applied is not None}
        if all_applied:
            self._check_unedited()
        for applied in all_applied.values():
            known = operators().get(applied.operator)
            if known is not None and not known.by_row:
                raise ModelError(
                    f"{applied.operator} cannot be laid over single rows of a batch",
                    remedy="lay it over the whole model (Operator.on)",
                )
        return {folder: self._edit(folder) for folder in all_applied}

    def _edit(self, folder: Path) -> Edit:
        edit = load_edit(folder)
        check_edit(edit, self._ref, self.network)
        return edit

    def _edited_rows(self, part: list[int], work: _Work, start: int) -> AbstractContextManager[Any]:
        """The edits of a batch's rows, or of the whole model, whose responses start at a column."""
        if self._overlay is not work.overlay:
            raise ModelError(
                "the model was edited, or given back, between asking and answering",
                remedy="take all answers inside the block in which they were asked for",
            )
        if self._overlay is not None:
            return self._overlay.starting(start)
        applied = [work.asks[index].applied for index in part]
        rows = [None if each is None else (work.edits[each.folder], each.dose) for each in applied]
        return Overlay(self.network, rows, start) if any(rows) else nullcontext()

    def _answers(self, work: _Work, refused: dict[int, Answer]) -> Iterator[Answered]:
        if news := [(index, answer) for index, answer in refused.items() if index not in work.done]:
            yield news
        lengths = {index: len(tokens) for index, tokens in work.prompts.items()}
        too_large = math.inf  # tokens of the smallest batch that did not fit into memory
        for batch in plan(lengths, work.budget, self.needs, self.batch_size):
            parts = [batch]
            while parts:
                part = parts.pop(0)
                if all(index in work.done for index in part):
                    continue
                size = len(part) * (max(lengths[index] for index in part) + work.budget)
                # What is as large as one that failed is halved untried. A resumed run, which has not seen that one fail,
                # tries, fails and halves: the parts are the same.
                if len(part) > 1 and size >= too_large:
                    parts[:0] = halves(part)
                    continue
                answered = self._answered_if_it_fits(part, work)
                if answered is None:
                    too_large = min(too_large, size)
                    parts[:0] = halves(part)
                else:
                    yield [(index, answer) for index, answer in answered if index not in work.done]

    def _answered_if_it_fits(self, part: list[int], work: _Work) -> Answered | None:
        """Answers of a batch; None where it did not fit into memory and can be halved."""
        try:
            with threads_for(self.network, self.device):
                return self._generated(part, work)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Only here, when the exception no longer holds the frames and their tensors, is there anything to give back.
        gc.collect()
        give_back(self.device)
        if len(part) > 1:
            return None
        n_prompt = len(work.prompts[part[0]])
        why = (
            f"the {n_prompt:,} tokens of the prompt with {work.budget:,} new ones do not fit into the memory of "
            f"{self.device}, even alone; allow fewer new tokens, or use a device with more memory."
        )
        return [(part[0], _refused(why, n_prompt))]

    def _prompts(
        self, asks: Sequence[Ask], decode: Decode, budget: int
    ) -> tuple[dict[int, list[int]], dict[int, Answer]]:
        """Token ids of every prompt that can be put to the model, and error answers for the others."""
        texts: dict[int, str] = {}
        refused: dict[int, Answer] = {}
        for index, ask in enumerate(asks):
            try:
                texts[index] = self.rendered(ask.messages, decode.thinking)
            except (TemplateError, ValueError, TypeError) as error:
                refused[index] = _refused(
                    f"the chat template does not take this conversation ({error}); "
                    "change its roles, or use another template."
                )
        if decode.thinking is not None and texts:
            self._tell_if_thinking_is_ignored(asks[min(texts)])
        prompts: dict[int, list[int]] = {}
        for index, tokens in zip(texts, self.encoded(list(texts.values())), strict=True):
            if (why := self._no_room(len(tokens), budget)) is not None:
                refused[index] = _refused(why, len(tokens))
            else:
                prompts[index] = tokens
        return prompts, refused

    def encoded(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of prompts as ``rendered`` gives them; a template has written special tokens already."""
        if not texts:
            return []
        made = self.tokenizer(list(texts), add_special_tokens=self._template is None, verbose=False)["input_ids"]
        return [list(tokens) for tokens in made]

    def rendered(self, messages: Sequence[Message], thinking: bool | None) -> str:
        """A conversation as the model reads it, up to where its answer begins.

        Raises:
            TemplateError, ValueError, TypeError: the chat template does not take it.
        """
        if self._template is None:
            return "\n\n".join(message.content for message in messages)
        switch: dict[str, Any] = {} if thinking is None else {"enable_thinking": thinking}
        turns = [{"role": message.role, "content": message.content} for message in messages]
        return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **switch))

    def _tell_if_thinking_is_ignored(self, ask: Ask) -> None:
        if "thinking" not in self._told and self.rendered(ask.messages, True) == self.rendered(ask.messages, False):
            self._told.add("thinking")
            log.warning("The chat template of %s has no thinking switch: `thinking` changes nothing.", self._ref.repo)

    def _no_room(self, n_prompt: int, budget: int) -> str | None:
        """Why a prompt of this length cannot be answered with this budget, or None."""
        if n_prompt == 0:
            return "the prompt has no tokens; ask something."
        context = getattr(self._text_config, "max_position_embeddings", None)
        if context is None or n_prompt + budget <= context:
            return None
        left = context - n_prompt
        remedy = f"allow at most {left:,} new tokens, or shorten the prompt" if left > 0 else "shorten the prompt"
        return (
            f"the prompt has {n_prompt:,} tokens and {budget:,} new ones are allowed, together more than the "
            f"{context:,} of the model's context; {remedy}."
        )

    def _generated(self, part: list[int], work: _Work) -> Answered:
        """Run one batch to its end."""
        prompts = [work.prompts[index] for index in part]
        width = max(map(len, prompts))
        padding = [width - len(prompt) for prompt in prompts]
        rows = [[self.pad] * n + prompt for n, prompt in zip(padding, prompts, strict=True)]
        mask = [[0] * n + [1] * (width - n) for n in padding]
        watch = _Watch(
            [Detokenizer(self._decode_tokens, work.decode.stop or ()) for _ in part], self._ends, self._runtime.progress
        )
        watched = work.decode.stop or self._runtime.progress
        numbers = _Numbers(len(part), self.device)
        with self._edited_rows(part, work, width - 1):
            output = self.network.generate(
                input_ids=torch.tensor(rows, device=self.device),
                attention_mask=torch.tensor(mask, device=self.device),
                generation_config=settings(
                    self._ends,
                    self.pad,
                    max_new_tokens=work.budget,
                    do_sample=False,  # a drawn token is the only one that the sampler leaves
                ),
                logits_processor=LogitsProcessorList([numbers, *self._processors(part, work, padding, width)]),
                stopping_criteria=StoppingCriteriaList([watch] if watched else []),
            )
        generated = output[:, width:].tolist()
        if watched:
            texts = watch.texts
        else:
            texts = [detokenized(self._answer_tokens(row), self._decode_tokens) for row in generated]
        return [
            (index, _refused(_NOT_A_NUMBER, len(prompt)) if lost else self._as_answer(text, tokens, len(prompt)))
            for index, text, tokens, prompt, lost in zip(
                part, texts, generated, prompts, numbers.lost.tolist(), strict=True
            )
        ]

    def _processors(self, part: list[int], work: _Work, padding: list[int], width: int) -> list[LogitsProcessor]:
        """Penalties, then sampling, in the order of transformers."""
        decode = work.decode
        made: list[LogitsProcessor] = []
        if decode.repetition_penalty not in (None, 1.0):
            unread = torch.tensor(padding, device=self.device)  # padding is no prompt, and must not be penalised
            made.append(RepetitionPenaltyLogitsProcessor(float(decode.repetition_penalty), unread))
        if decode.presence_penalty:
            made.append(PresencePenalty(decode.presence_penalty, width))
        if decode.temperature:
            keys = [row_key(decode.seed, work.asks[index].key, work.asks[index].sample) for index in part]
            made.append(
                KeyedSampler(
                    keys,
                    width,
                    temperature=decode.temperature,
                    top_k=decode.top_k if decode.top_k and decode.top_k > 0 else None,
                    top_p=decode.top_p if decode.top_p is not None and decode.top_p < 1 else None,
                    device=self.device,
                )
            )
        return made

    def _answer_tokens(self, generated: list[int]) -> list[int]:
        """What was generated up to the token that ends the answer, which is included, without padding after it."""
        end = next((at for at, token in enumerate(generated) if token in self._ends), len(generated))
        return generated[: end + 1]

    def _as_answer(self, made: Detokenizer, generated: list[int], n_prompt: int) -> Answer:
        n_tokens = len(made.token_chars)
        ended = made.stopped or generated[n_tokens - 1] in self._ends
        return Answer(
            text=made.text,
            finish_reason=FinishReason.STOP if ended else FinishReason.LENGTH,
            n_tokens=n_tokens,
            prompt_tokens=n_prompt,
            token_chars=tuple(made.token_chars),
        )


_NOT_A_NUMBER = (
    "the model computed no numbers (NaN) for this prompt, so what it wrote means nothing; load it with another dtype "
    "(float16 overflows where bfloat16 and float32 do not), or check its weights."
)


class _Numbers(LogitsProcessor):
    """Remembers the rows whose logits stopped being numbers, and lets the others go on.

    Attributes:
        lost: bool (rows,).
    """

    def __init__(self, rows: int, device: torch.device) -> None:
        self.lost = torch.zeros(rows, dtype=torch.bool, device=device)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.lost |= scores[:, 0].isnan()  # a NaN in the last hidden state is one in every logit
        return torch.nan_to_num(scores) if self.lost.any() else scores


class _Watch(StoppingCriteria):
    """Reports new tokens as they come, and ends rows that have written a stop string.

    Args:
        texts: of each row, filled token by token.
        ends: ids of tokens that end an answer.
        progress: called with how many tokens each step has made.
    """

    def __init__(self, texts: list[Detokenizer], ends: frozenset[int], progress: Callable[[int], None] | None) -> None:
        self.texts = texts
        self._ends = ends
        self._progress = progress
        self._running = list(range(len(texts)))

    def __call__(self, input_ids: Tensor, scores: Any, **rest: Any) -> Tensor:
        if self._progress is not None:
            self._progress(len(self._running))
        newest = input_ids[:, -1].tolist()
        stopped = torch.zeros(len(newest), dtype=torch.bool, device=input_ids.device)
        running = []
        for row in self._running:
            text = self.texts[row]
            text.push(newest[row])
            if newest[row] in self._ends:
                text.end()
            elif text.stopped:
                stopped[row] = True
            else:
                running.append(row)
        self._running = running
        return stopped


def _refused(why: str, n_prompt: int | None = None) -> Answer:
    return Answer(None, FinishReason.ERROR, prompt_tokens=n_prompt, error=why)


def _checked_budget(decode: Decode) -> int:
    """The most new tokens, when all settings make sense.

    Raises:
        ModelError: one does not.
    """
    if decode.max_new_tokens is None:
        raise ModelError("the number of tokens that an answer may have is not set", remedy="give max_new_tokens")
    wrong = [
        (decode.max_new_tokens < 1, f"max_new_tokens is {decode.max_new_tokens}", "give at least 1"),
        ((decode.temperature or 0) < 0, f"temperature is {decode.temperature}", "give 0 (greedy) or more"),
        (
            decode.top_p is not None and not 0 < decode.top_p <= 1,
            f"top_p is {decode.top_p}",
            "give more than 0, at most 1",
        ),
        (
            decode.repetition_penalty is not None and decode.repetition_penalty <= 0,
            f"repetition_penalty is {decode.repetition_penalty}",
            "give more than 0; 1 is off",
        ),
        ("" in (decode.stop or ()), "a stop string is empty", "leave it out"),
    ]
    for is_wrong, problem, remedy in wrong:
        if is_wrong:
            raise ModelError(problem, remedy=remedy)
    return decode.max_new_tokens
