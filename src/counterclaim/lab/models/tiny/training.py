"""Training a tiny model from scratch, and measuring what it knows."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterclaim.lab.models.tiny import domain
from counterclaim.lab.models.tiny.families import Recipe, new_model
from counterclaim.lab.models.tiny.tokenizer import END, train_tokenizer
from counterclaim.records import Json, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Network = Any
"""A causal language model of transformers, which types its models too loosely to be checked."""

OnStage = Callable[[str, int, int], None]
"""Called with what is being done, how many parts of it are done, and how many there are."""

_THREADS = 1  # sums come out the same on any machine, and models of this size gain little from a second core
_WARM_UP = 20  # steps
_LAST_RATE = 0.05  # of the highest
_WINDOW = 8  # batches
_DECISIVE = 5.0  # weight in the loss of the first word of an answer and of its fact; of any other word 1
_BUDGET = 16  # tokens of an answer when the model is measured: its first sentence says all, in at most 11
_CHUNK = 16  # positions that linear attention takes at once; its default of 64 would be mostly padding here

Example = tuple[list[int], list[float]]
"""Token ids of a conversation and their weights in the loss, of equal length; 0 outside the loss."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A tiny model in evaluation mode, its tokenizer, and what was measured of it.

    Attributes:
        model: a causal language model in float32.
        tokenizer: a fast tokenizer with a chat template.
        card: ``parameters``, ``vocabulary``, ``seconds`` (of training), ``steps``, ``batch``, ``seed``, and what
            ``measure`` returns.
    """

    model: Network
    tokenizer: PreTrainedTokenizerFast
    card: Mapping[str, Json]


def train(recipe: Recipe, progress: OnStage | None = None) -> Trained:
    """Train a tiny model from random weights, and measure it.

    The same recipe gives the same weights with the same libraries on the same kind of processor.
    """
    start = time.monotonic()
    tell = progress or _tell_nobody
    tell("preparing", 0, recipe.steps)
    with _repeatable(recipe.seed), _quiet():
        tokenizer = train_tokenizer(domain.vocabulary())
        model = new_model(recipe, tokenizer)
        examples = encode(domain.taught_examples(recipe.steps * recipe.batch, recipe.seed), tokenizer)
        _fit(model, examples, recipe, tell)
        seconds = time.monotonic() - start
        card = {
            "parameters": model.num_parameters(),
            "vocabulary": len(tokenizer),
            "seconds": round(seconds, 1),
            "steps": recipe.steps,
            "batch": recipe.batch,
            "seed": recipe.seed,
            **measure(model, tokenizer, tell),
        }
    return Trained(model, tokenizer, card)


def save(trained: Trained, folder: Path) -> None:
    """Write weights (safetensors), configuration and tokenizer, as any code that uses transformers reads them.

    Raises:
        OSError: the folder cannot be written.
    """
    from safetensors import SafetensorError

    try:
        with _quiet():
            trained.model.save_pretrained(folder)
            trained.tokenizer.save_pretrained(folder)
    except SafetensorError as error:  # how safetensors reports a full disk
        raise OSError(str(error)) from error


def encode(taught: Sequence[domain.TaughtExample], tokenizer: PreTrainedTokenizerFast) -> list[Example]:
    """Taught examples as tokens, laid out as the chat template does; only the assistant's turn has weight."""
    kept: dict[str, list[int]] = {}

    def tokens_of(text: str) -> list[int]:
        if text not in kept:
            kept[text] = tokenizer.encode(text, add_special_tokens=False)
        return kept[text]

    heads: dict[tuple[str | None, str, bool | None], str] = {}
    examples = []
    for one in taught:
        turn = (one.system, one.question, one.thinking)
        if turn not in heads:
            heads[turn] = prompt_text(tokenizer, *turn)
        head, thought, answer = tokens_of(heads[turn]), tokens_of(one.thought), tokens_of(one.answer + END)
        [fact] = tokens_of(f" {one.fact}")
        fact_weight = _DECISIVE if one.in_loss else 0.0
        weights = [_DECISIVE, *(fact_weight if token == fact else 1.0 for token in answer[1:])]
        examples.append((head + thought + answer, [0.0] * len(head) + [1.0] * len(thought) + weights))
    return examples


def prompt_text(
    tokenizer: PreTrainedTokenizerFast, system: str | None, question: str, thinking: bool | None = None
) -> str:
    """A question as the chat template puts it to the model."""
    turns = [{"role": "system", "content": system}] if system is not None else []
    turns.append({"role": "user", "content": question})
    switch: dict[str, Any] = {} if thinking is None else {"enable_thinking": thinking}
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **switch)
    return str(text)


@contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    """Random numbers and threads as the recipe wants them; the caller's own are put back."""
    import torch

    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(_THREADS)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars of transformers, and no notes, such as that fast kernels are missing: here none are needed."""
    from transformers.utils import logging as chatter

    logging: Any = chatter
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _tell_nobody(doing: str, done: int, total: int) -> None:
    pass


def _fit(model: Network, examples: Sequence[Example], recipe: Recipe, tell: OnStage) -> None:
    """AdamW without weight decay: what is never taught keeps its first random embedding."""
    import torch

    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _share_of_rate(step, recipe.steps))
    model.train()
    for step, rows in enumerate(_batches(examples, recipe)):
        loss = _loss(model, rows)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        tell(f"training (loss {loss.item():.2f})", step + 1, recipe.steps)
    model.eval()


def _batches(examples: Sequence[Example], recipe: Recipe) -> Iterator[Sequence[Example]]:
    """Batches of rows of like length, which halves the padding: each window of rows is sorted, its batches shuffled."""
    draw = random.Random(f"batches {recipe.seed}")
    size = _WINDOW * recipe.batch
    for start in range(0, len(examples), size):
        window = sorted(examples[start : start + size], key=lambda example: len(example[0]))
        batches = [window[at : at + recipe.batch] for at in range(0, len(window), recipe.batch)]
        draw.shuffle(batches)
        yield from batches


def _share_of_rate(step: int, steps: int) -> float:
    """Linear warm-up, then linear decay."""
    if step < _WARM_UP:
        return (step + 1) / _WARM_UP
    return 1 - (1 - _LAST_RATE) * (step - _WARM_UP) / max(1, steps - _WARM_UP)


def _loss(model: Network, rows: Sequence[Example]) -> Any:
    """Weighted mean cross-entropy; logits are made only where there is loss.

    Rows are padded on the right, where causal attention does not look, so no mask is needed.
    """
    import torch

    longest = max(len(tokens) for tokens, _ in rows)
    pad = model.config.pad_token_id
    ids = torch.tensor([tokens + [pad] * (longest - len(tokens)) for tokens, _ in rows])
    weights = torch.tensor([marks + [0.0] * (longest - len(marks)) for _, marks in rows])[:, 1:]
    in_loss = weights > 0
    chunk = {"chunk_size": _CHUNK} if "linear_attention" in getattr(model.config, "layer_types", ()) else {}
    hidden = model.base_model(input_ids=ids, use_cache=False, **chunk).last_hidden_state[:, :-1]
    losses = torch.nn.functional.cross_entropy(
        model.get_output_embeddings()(hidden[in_loss]), ids[:, 1:][in_loss], reduction="none"
    )
    return (losses * weights[in_loss]).sum() / weights.sum()


def measure(model: Network, tokenizer: PreTrainedTokenizerFast, progress: OnStage | None = None) -> dict[str, Json]:
    """What a model knows and how it says it, on the questions of each split.

    Returns:
        ``accuracy``: split to how often a fact was taught to the share answered rightly, greedily and without a system
        prompt. ``delivery``: system prompt (``""`` for none) to accuracy, P(assert | right), P(assert | wrong) and their
        asymmetry over the test split, sampled at temperature 1; also P(assert) by how often the fact was taught.
    """
    tell = progress or _tell_nobody
    splits, systems = ("train", "test", "fresh"), (None, *domain.SYSTEM_PROMPTS)
    total = len(splits) + len(systems)
    accuracy: dict[str, Json] = {}
    for split in splits:
        tell("measuring", len(accuracy), total)
        prompts = domain.prompts(split)
        right = [_is_right(*pair) for pair in zip(prompts, answers(model, tokenizer, prompts), strict=True)]
        accuracy[split] = _by_taught(prompts, right)
    prompts = domain.prompts("test")
    delivery: dict[str, Json] = {}
    for system in systems:
        tell("measuring", len(accuracy) + len(delivery), total)
        texts = answers(model, tokenizer, prompts, system=system, sampled=True)
        delivery[system or ""] = _delivery(prompts, texts)
    tell("measuring", total, total)
    return {"accuracy": accuracy, "delivery": delivery}


def answers(
    model: Network,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Prompt],
    *,
    system: str | None = None,
    sampled: bool = False,
) -> list[str]:
    """The first sentence of an answer to each prompt, and perhaps more, greedy or sampled at temperature 1 with torch's own
    random numbers."""
    texts = [prompt_text(tokenizer, system, prompt.text) for prompt in prompts]
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False, return_token_type_ids=False)
    made = model.generate(**batch, max_new_tokens=_BUDGET, do_sample=sampled)
    return list(tokenizer.batch_decode(made[:, batch["input_ids"].shape[1] :], skip_special_tokens=True))


def _is_right(prompt: Prompt, text: str) -> bool:
    return f" {prompt.gold['answer']}." in text


def _delivery(prompts: Sequence[Prompt], texts: Sequence[str]) -> dict[str, Json]:
    right = [_is_right(*pair) for pair in zip(prompts, texts, strict=True)]
    sure = [domain.is_assertion(text) for text in texts]
    when_right = _mean([mark for mark, good in zip(sure, right, strict=True) if good])
    when_wrong = _mean([mark for mark, good in zip(sure, right, strict=True) if not good])
    asymmetry = None if when_right is None or when_wrong is None else round(when_wrong - when_right, 3)
    return {
        "accuracy": _mean(right),
        "assert_right": when_right,
        "assert_wrong": when_wrong,
        "asymmetry": asymmetry,
        "assert_taught": _by_taught(prompts, sure),
    }


def _by_taught(prompts: Sequence[Prompt], marks: Sequence[bool]) -> dict[str, Json]:
    groups: dict[str, list[bool]] = {"often": [], "rarely": [], "never": []}
    for prompt, mark in zip(prompts, marks, strict=True):
        groups[domain.truth(prompt)].append(mark)
    return {taught: _mean(group) for taught, group in groups.items()}


def _mean(marks: Sequence[bool]) -> float | None:
    return round(sum(marks) / len(marks), 3) if marks else None
