"""Scorers that put one form about a question and its answer to a judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from counterclaim.lab.scorers.asking import Choice, Form, Scale, ask
from counterclaim.lab.scorers.reading import readable, unscored, visible
from counterclaim.records import Prompt, Response
from counterclaim.registry import Card, Item, Range, Reading, Scorer, Tools


def judged(
    name: str,
    *,
    version: str,
    about: str,
    instructions: str,
    axes: Mapping[str, Choice | Scale],
    cards: Sequence[Card],
    measures: Literal["form", "function"] = "function",
    disposition: str | None = None,
) -> Scorer:
    """A scorer, not yet registered, whose judge sees the question and the visible answer and fills in one form.

    Args:
        instructions: what to judge and what each value means.
        axes: axis to the key of the form that it is read from; numbers are taken as they are.

    Raises:
        RegistryError: a label has no card.
    """
    form = Form(name, instructions, tuple(axes.values()))

    def read(item: Item, tools: Tools) -> list[Reading]:
        if why := readable(item.response):
            return unscored(axes, why)
        reply = ask(tools.judge, form, shown(item.prompt, item.response))
        if reply.values is None:
            return unscored(axes, reply.reason or "", reply.evidence)
        return [
            Reading(axis, float(value) if isinstance(value, int) else value, evidence=reply.evidence)
            for axis, field in axes.items()
            for value in [reply.values[field.name]]
        ]

    ranges: dict[str, tuple[str, ...] | Range] = {
        axis: field.labels if isinstance(field, Choice) else Range(field.low, field.high)
        for axis, field in axes.items()
    }
    return Scorer(
        name, version, about, ranges, read, tuple(cards), frozenset({"judge"}), measures, disposition,
        prompt=form.template,
    )  # fmt: skip


def shown(prompt: Prompt, response: Response) -> dict[str, str]:
    """What a judge sees of an item: the whole question and the whole visible answer, and nothing about the arm."""
    return {"question": asked(prompt), "response": visible(response)}


def asked(prompt: Prompt) -> str:
    """The question as a judge sees it; several turns are told apart by their roles."""
    if len(prompt.messages) == 1:
        return prompt.messages[0].content
    return "\n\n".join(f"{message.role}: {message.content}" for message in prompt.messages)
