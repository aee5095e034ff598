"""Known-answer cards: answers whose score is undisputed. Those of the built-in scorers, and their wordings, are data files."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from counterclaim.records import ArmId, Decode, FinishReason, Json, ModelRef, Prompt, Provenance, Response
from counterclaim.registry import Card, Item

DATA = Path(__file__).parent / "data"


@cache
def data_of(file: str) -> dict[str, Any]:
    """A TOML file of this room."""
    return tomllib.loads((DATA / file).read_text(encoding="utf-8"))


def cards_of(scorer: str) -> tuple[Card, ...]:
    """The cards of a built-in scorer, from ``data/cards.toml``."""
    return tuple(card(**{**row, "tags": tuple(row.get("tags", ()))}) for row in data_of("cards.toml")[scorer])


def card(
    question: str,
    response: str,
    expects: Mapping[str, float | str],
    *,
    gold: Mapping[str, Json] | None = None,
    tags: tuple[str, ...] = (),
    follow_up: str | None = None,
    kind: str = "label",
    tolerance: float = 0.0,
) -> Card:
    """A card about a question of one turn."""
    prompt = Prompt.of_text(question, gold=gold or {}, tags=tags)
    return Card(prompt, response, expects, follow_up, kind, tolerance)


def item_of(card: Card) -> Item:
    """A card as an item to be scored: its texts as finished answers."""
    follow_up = None if card.follow_up is None else _answered(card.prompt, card.follow_up)
    return Item(card.prompt, _answered(card.prompt, card.response), follow_up)


def _answered(prompt: Prompt, text: str) -> Response:
    return Response(
        prompt.id, ArmId("card"), 0, text, FinishReason.STOP, Provenance.RECORDED, Decode(None), ModelRef("card")
    )
