"""The series file: several studies, and what one page says of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from annotated_types import MinLen

from counterclaim.config import After, Before, Beside, TableError, read_toml, table, validated
from counterclaim.errors import InputError
from counterclaim.lab.config.reported import Reported, load_reported
from counterclaim.lab.config.study import StudyPlan, load_study
from counterclaim.records import VerdictOutcome


def _paragraph(text: str) -> str:
    return " ".join(text.split())


def _paragraphs(text: object) -> object:
    return [part for part in text.strip().split("\n\n") if part.strip()] if isinstance(text, str) else text


Paragraph = Annotated[str, After(_paragraph)]


@table
class Arc:
    """One of ``[[arcs]]``.

    Attributes:
        name: heading
        told: what stands under it
    """

    name: Annotated[str, MinLen(1)]
    told: Paragraph = ""


@table
class StudyEntry:
    """One of ``[[studies]]``: a study of a series, and what the page says of it.

    Attributes:
        study: a study file, beside this one; its name is that of its run folder
        arc: heading under which it stands
        claim: what is claimed, in words for people
        expected: verdicts that are right by construction; none when they are not known
        in_short: why the claim stands or falls, in a few words
        because: why those verdicts are right
        lesson: what one learns from it
        figure: check whose picture shows it, or `steps`; the effect's interval when not set
        paper: what a paper found for the corresponding claim, in a sentence
        reported: the numbers behind that: `FILE.toml:ID`
    """

    study: Annotated[Path, Beside()]
    arc: str
    claim: Annotated[Paragraph, MinLen(1)]
    expected: frozenset[VerdictOutcome] = frozenset()
    in_short: Paragraph = ""
    because: Paragraph = ""
    lesson: Paragraph = ""
    figure: str = ""
    paper: Paragraph = ""
    reported: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the study, and of its run folder within the series'."""
        return self.study.stem


@table
class Chapter(StudyEntry):
    """A study of a series, read.

    Attributes:
        plan: the study.
        numbers: what its ``reported`` names.
    """

    plan: StudyPlan
    numbers: tuple[Reported, ...]


@table
class SeriesFile:
    """A whole series file.

    Attributes:
        title: of the page
        told: what the page begins with; an empty line begins a paragraph
        paper: whose numbers stand beside ours
        together: whether studies may run beside each other, one for each core
        out: run folder; `runs/NAME` when not set
        arcs: headings in their order
        studies: the studies, in the order of the page
    """

    title: Annotated[str, MinLen(1)]
    told: Annotated[tuple[Paragraph, ...], Before(_paragraphs)] = ()
    paper: str = ""
    together: bool = False
    out: Path | None = None
    arcs: Annotated[tuple[Arc, ...], MinLen(1)]
    studies: Annotated[tuple[StudyEntry, ...], MinLen(1)]

    def __post_init__(self) -> None:
        arcs = [arc.name for arc in self.arcs]
        for at, name in enumerate(arcs):
            if name in arcs[:at]:
                raise TableError(
                    f"{name!r} is there already",
                    key=("arcs", at, "name"),
                    remedy="choose another name, or join the two",
                )
        for at, entry in enumerate(self.studies):
            if entry.arc not in arcs:
                raise TableError(
                    f"there is no arc {entry.arc!r}", key=("studies", at, "arc"),
                    remedy=f"name one of {', '.join(arcs)}, or add it under [[arcs]]",
                )  # fmt: skip
        names = [entry.name for entry in self.studies]
        if repeated := [name for name in names if names.count(name) > 1]:
            raise TableError(
                f"two files are called {repeated[0]}.toml, and each has a run folder of its name", key=("studies",),
                remedy="rename one of them",
            )  # fmt: skip


@table
class Series(SeriesFile):
    """A series file, read.

    Attributes:
        path: the file.
        out: run folder.
        chapters: its studies.
    """

    path: Path
    out: Path
    chapters: tuple[Chapter, ...]


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
    file = validated(SeriesFile, data, text, path, "see docs/series.md")
    chapters = [
        Chapter(**vars(entry), plan=load_study(entry.study), numbers=_reported(entry.reported, path, f"studies.{at}.reported"))
        for at, entry in enumerate(file.studies)
    ]  # fmt: skip
    out = Path("runs") / path.stem if file.out is None else file.out
    return Series(**{**vars(file), "out": out}, path=path, chapters=tuple(chapters))


def _reported(names: Sequence[str], path: Path, where: str) -> tuple[Reported, ...]:
    """What is reported under ``FILE.toml:ID``, files beside the series file."""
    found = []
    for name in names:
        file, _, wanted = name.rpartition(":")
        known = {item.id: item for item in load_reported(path.parent / file)} if file else {}
        if wanted not in known:
            raise InputError(
                f"{where}: {name!r} names no number that was reported",
                path=path,
                remedy=f"write FILE.toml:ID{f' with one of {sorted(known)}' if known else ''}",
            )
        found.append(known[wanted])
    return tuple(found)
