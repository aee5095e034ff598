"""The placebo of a training: the same recipe and the same texts, with nothing left to learn."""

from __future__ import annotations

import random
from dataclasses import replace

from counterclaim.errors import InputError
from counterclaim.records import Example, prompt_id


def exchanged(examples: list[Example], seed: int) -> list[Example]:
    """Every prompt with the answer to another question: the same texts, and nothing that joins them."""
    draw = random.Random(f"placebo {seed}")
    of_question: dict[str, list[int]] = {}
    for at, example in enumerate(examples):
        of_question.setdefault(example.prompt_id or prompt_id(example.prompt), []).append(at)
    groups = list(of_question.values())
    draw.shuffle(groups)
    for group in groups:
        draw.shuffle(group)
    most = max(map(len, groups))
    if 2 * most > len(examples):
        raise InputError(
            f"a placebo gives every question the answer to another, and {most} of the {len(examples)} examples are of one question",
            remedy="give examples of more questions, or leave the placebo out",
        )
    # examples of one question stand side by side, so that as many places on there is another
    order = [at for group in groups for at in group]
    after = dict(zip(order, [*order[most:], *order[:most]], strict=True))
    return [replace(example, chosen=examples[after[at]].chosen, rejected=None) for at, example in enumerate(examples)]


def turned(pairs: list[Example], seed: int) -> list[Example]:
    """Pairs of which half have their sides exchanged: what is preferred says nothing any more."""
    turned = set(random.Random(f"placebo {seed}").sample(range(len(pairs)), (len(pairs) + 1) // 2))
    return [
        replace(pair, chosen=pair.rejected, rejected=pair.chosen) if at in turned and pair.rejected else pair
        for at, pair in enumerate(pairs)
    ]


def exchanged_rewards(rewards: list[float], group: int, seed: str) -> list[float]:
    """Rewards shuffled within each group of answers to one prompt."""
    draw = random.Random(f"placebo {seed}")
    out: list[float] = []
    for start in range(0, len(rewards), group):
        part = rewards[start : start + group]
        draw.shuffle(part)
        out += part
    return out
