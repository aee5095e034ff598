"""The series file: several studies, and what is told of them on one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from counterclaim.config import line_of, read_toml, validated
from counterclaim.errors import InputError
from counterclaim.lab.config.reported import Reported, load_reported
from counterclaim.lab.config.study import StudyPlan, load_study
from counterclaim.records import VerdictOutcome

if TYPE_CHECKING:
    from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class Chapter:
    """One study of a series, and what is told of it.

    Attributes:
        name: of the study, and of its run folder within the series'.
        arc: heading under which it stands.
        claim: what is claimed, in words for people.
        plan: the study.
        expected: verdicts that are fair by construction; empty where nobody knows.
        in_short: why the claim stands or falls, in a few words.
        because: why those verdicts are fair.
        lesson: what one learns from it.
        figure: name of the check whose picture shows it, or ``steps``; "" for the interval of the effect.
        paper: what a paper found for the corresponding claim, in a sentence.
        reported: the numbers behind that sentence.
    """

    name: str
    arc: str
    claim: str
    plan: StudyPlan
    expected: frozenset[VerdictOutcome]
    in_short: str
    because: str
    lesson: str
    figure: str
    paper: str
    reported: tuple[Reported, ...]


@dataclass(frozen=True, slots=True)
class Series:
    """A series file, read.

    Attributes:
        path: the file.
        title: of the page.
        told: what the page begins with, a paragraph each.
        arcs: headings in their order, each with what is told under it.
        paper: whose numbers stand beside ours; "" where none do.
        together: whether studies may run beside each other, one for each core.
        chapters: in the order of the page.
        out: run folder.
    """

    path: Path
    title: str
    told: tuple[str, ...]
    arcs: tuple[tuple[str, str], ...]
    paper: str
    together: bool
    chapters: tuple[Chapter, ...]
    out: Path


def is_series(path: Path) -> bool:
    """Whether a TOML file lists studies rather than being one.

    Raises:
        InputError: it is missing, or is not TOML.
    """
    data, _ = read_toml(path, "study file", "copy one from counterclaim run --new study.toml")
    return isinstance(data.get("studies"), list) or "arcs" in data


def load_series(path: Path) -> Series:
    """Read a series file, the studies that it lists, and what they are compared with.

    Raises:
        InputError: the file or one of the studies cannot be used (names file, key and line), or two have one name.
    """
    data, text = read_toml(path, "series file", "see counterclaim run three-arcs")
    tables: Any = validated(_schema(), data, text, path, "see docs/series.md")
    arcs = tuple((arc.name, _paragraph(arc.told)) for arc in tables.arcs)
    for at, (name, _) in enumerate(arcs):
        if name in dict(arcs[:at]):
            raise InputError(
                f"arcs.{at}.name: {name!r} is there already", path=path, line=line_of(("arcs", at, "name"), text),
                remedy="name it otherwise, or tell both under one",
            )  # fmt: skip
    chapters = []
    for at, table in enumerate(tables.studies):
        where = f"studies.{at}"
        if table.arc not in dict(arcs):
            raise InputError(
                f"{where}.arc: there is no arc {table.arc!r}",
                path=path,
                line=line_of(("studies", at, "arc"), text),
                remedy=f"name one of {', '.join(name for name, _ in arcs)}, or add it under [[arcs]]",
            )
        file = path.parent / table.study
        chapters.append(
            Chapter(
                file.stem, table.arc, _paragraph(table.claim), load_study(file),
                frozenset(VerdictOutcome(word) for word in table.expected), _paragraph(table.in_short), _paragraph(table.because),
                _paragraph(table.lesson), table.figure, _paragraph(table.paper), _reported(table.reported, path, f"{where}.reported"),
            )
        )  # fmt: skip
    names = [chapter.name for chapter in chapters]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise InputError(
            f"studies: two files are called {repeated[0]}.toml, and each has a run folder of its name",
            path=path,
            remedy="rename one of them",
        )
    return Series(
        path=path,
        title=tables.title,
        told=tuple(_paragraph(part) for part in tables.told.strip().split("\n\n") if part.strip()),
        arcs=arcs,
        paper=tables.paper,
        together=tables.together,
        chapters=tuple(chapters),
        out=Path("runs") / path.stem if tables.out is None else Path(tables.out),
    )


def _reported(names: Sequence[str], path: Path, where: str) -> tuple[Reported, ...]:
    """What is reported under ``FILE.toml:ID``, files beside the series file."""
    found = []
    for name in names:
        file, _, wanted = name.rpartition(":")
        told = {item.id: item for item in load_reported(path.parent / file)} if file else {}
        if wanted not in told:
            raise InputError(
                f"{where}: {name!r} names no number that was reported",
                path=path,
                remedy=f"write FILE.toml:ID{f' with one of {sorted(told)}' if told else ''}",
            )
        found.append(told[wanted])
    return tuple(found)


def _paragraph(text: str) -> str:
    return " ".join(text.split())


@cache
def _schema() -> type[BaseModel]:
    from pydantic import BaseModel, ConfigDict, Field

    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True)

    class Arc(Strict):
        name: str = Field(min_length=1, description="heading")
        told: str = Field("", description="what is told under it")

    class Listed(Strict):
        study: str = Field(min_length=1, description="a study file, beside this one")
        arc: str = Field(description="heading under which it stands")
        claim: str = Field(min_length=1, description="what is claimed, in words for people")
        expected: list[Literal["SUPPORTED", "REFUTED", "INCONCLUSIVE", "INVALID"]] = Field(
            [], description="verdicts that are fair by construction"
        )
        in_short: str = Field("", description="why the claim stands or falls, in a few words")
        because: str = Field("", description="why those verdicts are fair")
        lesson: str = Field("", description="what one learns from it")
        figure: str = Field(
            "", description="check whose picture shows it, or steps; the effect's interval when left out"
        )
        paper: str = Field("", description="what a paper found for the corresponding claim, in a sentence")
        reported: list[str] = Field([], description="the numbers behind that: FILE.toml:ID")

    class File(Strict):
        title: str = Field(min_length=1, description="of the page")
        told: str = Field("", description="what the page begins with; an empty line begins a paragraph")
        paper: str = Field("", description="whose numbers stand beside ours")
        together: bool = Field(False, description="whether studies may run beside each other, one for each core")
        out: str | None = Field(None, description="run folder; runs/NAME when left out")
        arcs: list[Arc] = Field(min_length=1)
        studies: list[Listed] = Field(min_length=1)

    return File
