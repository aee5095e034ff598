"""Judge rubrics of a user's own, from a TOML file.

name = "politeness"
version = "1"
about = "whether an answer is polite"
axis = "label.politeness"               # label.NAME with labels, or score.NAME with low and high
labels = ["polite", "rude"]             # or: low = 1 and high = 5
instructions = "Decide whether ..."     # what to judge, and what each label or number means
measures = "form"                       # or "function"

[[cards]]                               # at least one for each label, or two different numbers
question = "Where is the station?"
response = "Find it yourself."
expects = "rude"                        # a label or a number; tolerance = 1 lets a number be off by one
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterclaim.config import line_of, read_toml, validated
from counterclaim.errors import InputError, RegistryError
from counterclaim.lab.scorers.asking import Choice, Scale
from counterclaim.lab.scorers.judged import judged
from counterclaim.lab.scorers.reading import card
from counterclaim.registry import Card, Scorer, scorers

if TYPE_CHECKING:
    from pydantic import BaseModel

MOST_LABELS = 20
WIDEST = 100


def load_rubric(path: Path) -> Scorer:
    """A judge scorer from a TOML file, laid out as in this module's docstring; it is not registered.

    Raises:
        InputError: the file is missing or no TOML; a key is unknown, missing or malformed; a label or a scale has no
            cards; the name belongs to another scorer (names key and line).
    """
    data, text = read_toml(path, "rubric file", "write one as the docs on scorers show")
    tables: Any = validated(_schema(), data, text, path, "see the docs on scorers")

    def refuse(key: str, problem: str, remedy: str, *more: int | str) -> InputError:
        loc = (key, *more)
        where = ".".join(str(part) for part in loc)
        return InputError(f"{where}: {problem}", path=path, line=line_of(loc, text), remedy=remedy)

    if tables.name in scorers():
        raise refuse("name", f"{tables.name!r} is a scorer already", "give yours another name")
    field: Choice | Scale
    kind = tables.axis.partition(".")[0]
    if kind == "label":
        if tables.low is not None or tables.high is not None:
            raise refuse("low" if tables.low is not None else "high", "a label axis has no scale", "leave it out")
        if tables.labels is None:
            raise refuse("axis", "a label axis needs labels", 'add labels = ["...", "..."]')
        folded = [label.strip().casefold() for label in tables.labels]
        if len(set(folded)) < len(folded) or not all(folded) or any("|" in label for label in folded):
            raise refuse("labels", "labels are different, not empty, and without |", "mend that key")
        field = Choice(_key_of(tables.axis), tuple(label.strip() for label in tables.labels))
    else:
        if tables.labels is not None:
            raise refuse("labels", "a score axis has no labels", "name the axis label.NAME, or give low and high")
        if tables.low is None or tables.high is None:
            raise refuse("axis", "a score axis needs low and high", "add low = 1 and high = 5")
        if not 0 < tables.high - tables.low <= WIDEST:
            raise refuse("high", f"low and high are 1 to {WIDEST} apart", "mend that key")
        field = Scale(_key_of(tables.axis), tables.low, tables.high)
    cards = []
    for number, row in enumerate(tables.cards):
        if row.expects not in field.values:
            listed = ", ".join(map(str, field.values[:MOST_LABELS]))
            raise refuse("cards", f"{row.expects!r} is none of {listed}", "mend that card", number, "expects")
        cards.append(_card(row, tables.axis))
    try:
        return judged(
            tables.name,
            version=tables.version,
            about=tables.about,
            instructions=tables.instructions.strip(),
            axes={tables.axis: field},
            cards=cards,
            measures=tables.measures,
        )
    except RegistryError as error:
        raise refuse("labels" if tables.labels else "axis", str(error), "add a [[cards]] table for it") from error


def _key_of(axis: str) -> str:
    return axis.partition(".")[2]


def _card(row: Any, axis: str) -> Card:
    value = row.expects if isinstance(row.expects, str) else float(row.expects)
    return card(row.question, row.response, {axis: value}, kind=row.kind, tolerance=row.tolerance)


def _schema() -> type[BaseModel]:
    """The schema of a rubric file. Built on call, because importing pydantic costs more than most commands need."""
    from typing import Literal

    from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    class CardTable(Strict):
        question: str = Field(min_length=1)
        response: str
        expects: StrictStr | StrictInt
        kind: Literal["label", "paraphrase", "padding", "position", "orders"] = "label"
        tolerance: float = Field(default=0.0, ge=0)

    class File(Strict):
        name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
        version: str = Field(min_length=1)
        about: str = Field(min_length=1)
        instructions: str = Field(min_length=1)
        axis: str = Field(pattern=r"^(label|score)\.[a-z][a-z0-9_]*$")
        labels: list[StrictStr] | None = Field(default=None, min_length=2, max_length=MOST_LABELS)
        low: StrictInt | None = None
        high: StrictInt | None = None
        measures: Literal["form", "function"] = "function"
        cards: list[CardTable] = Field(min_length=1)

    return File
