"""A table of claims: every reported claim of the paper, or of a file, with its ruling and what its authors said of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from counterclaim import __version__
from counterclaim.errors import InputError
from counterclaim.folder import dump, make_folder, rounded, write_outputs
from counterclaim.lab.config import Reported, load_reported
from counterclaim.lab.replicate.artifacts import Recomputed, Released, recompute
from counterclaim.lab.replicate.judging import WORDS, Ruling, judge
from counterclaim.lab.replicate.page import render_replication
from counterclaim.lab.studies import find_study, shipped_studies
from counterclaim.records import Json

PAPER = "paper"
ARCS: Mapping[str, tuple[str, ...]] = {
    "Arc 1: imitation into weights": (
        "paper-qwen3-0.6b", "paper-qwen3-1.7b-attention", "paper-qwen3-1.7b-all-modules", "paper-gemma4-chef",
    ),
    "The profile to be moved": ("paper-gemma4-profile",),
    "Arc 2: attention heads, tempered": ("paper-qwen3.5-tempering", "paper-gemma4-tempering"),
    "Arc 3: a gate beside a frozen model": ("paper-gemma4-sidecar", "paper-smollm2-sidecar"),
}  # fmt: skip
"""The paper's studies in its order, as they ship."""

Watch = Callable[[str, int | None], None]


@dataclass(frozen=True, slots=True)
class ClaimRow:
    """One claim with its ruling.

    Attributes:
        arc: under which heading it stands.
        study: name of the study file.
        reported: the claim and its numbers.
        ruling: what the numbers support.
        beside: what its authors said of it, and which claim took its place.
        recomputed: what released files give.
    """

    arc: str
    study: str
    reported: Reported
    ruling: Ruling
    beside: str = ""
    recomputed: tuple[Recomputed, ...] = ()

    def to_json(self) -> dict[str, Json]:
        reported = self.reported
        return {
            "arc": self.arc, "study": self.study, "id": reported.id, "claim": reported.claim, "reported": reported.found,
            "metric": reported.metric, "direction": reported.direction, "margin": reported.margin, "alpha": reported.alpha,
            "level": reported.level, **self.ruling.to_json(), "beside": self.beside or None, "assumes": reported.assumes or None,
            "artifacts": [found.to_json() for found in self.recomputed],
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class ClaimTable:
    """Claims with their rulings.

    Attributes:
        title: whose claims these are.
        rows: in order.
        released: the files that were looked at; None where none were given.
    """

    title: str
    rows: tuple[ClaimRow, ...]
    released: Released | None = None

    @property
    def words(self) -> dict[str, int]:
        """How many claims came out under each word."""
        return {word: sum(row.ruling.word == word for row in self.rows) for word in WORDS}

    @property
    def taken_back(self) -> tuple[str, ...]:
        """Claims that their numbers support and that their authors took back: ``study: id``."""
        return tuple(
            f"{row.study}: {row.reported.id}"
            for row in self.rows
            if row.ruling.word == "supported" and row.reported.corrected_by is not None
        )

    def to_json(self) -> dict[str, Json]:
        """What ``replication.json`` holds; docs/replicate.md says what each key means."""
        return {
            "title": self.title,
            "code_version": __version__,
            "words": self.words,
            "taken_back": list(self.taken_back),
            "claims": [row.to_json() for row in self.rows],
            "artifacts": None if self.released is None else self.released.to_json(),
        }


def paper() -> list[tuple[str, str, Path]]:
    """(arc, name, file) of every study of the paper that ships, in order."""
    files = shipped_studies()
    return [(arc, name, files[name][0]) for arc, names in ARCS.items() for name in names]


def claim_table(name: str, released: Released | None = None, watch: Watch = lambda what, done: None) -> ClaimTable:
    """Judge what was reported, claim by claim.

    Args:
        name: ``paper``, a study that ships, or a study file.
        released: the paper's released files, to hold its numbers against.
        watch: gets what is being judged.

    Raises:
        InputError: a file cannot be read, or reports nothing.
    """
    if name == PAPER and not Path(name).exists():
        return _table("arXiv 2604.11867, claim by claim", paper(), released, watch)
    file = find_study(Path(name))
    if not load_reported(file):
        raise InputError("reports no claims", path=file, remedy="add [[reported]] tables (docs/replicate.md)")
    return _table(f"{file.stem}, claim by claim", [(file.stem, file.stem, file)], released, watch)


def _table(title: str, files: Sequence[tuple[str, str, Path]], released: Released | None, watch: Watch) -> ClaimTable:
    rows = []
    for arc, name, file in files:
        claims = load_reported(file)
        for reported in claims:
            watch(f"judging {name}: {reported.id}", None)
            recomputed = () if released is None else recompute(file, reported, released)
            rows.append(ClaimRow(arc, name, reported, judge(reported), _beside(reported, claims), recomputed))
    return ClaimTable(title, tuple(rows), released)


def _beside(reported: Reported, claims: Sequence[Reported]) -> str:
    """What its authors said of a claim, and which one took its place."""
    notes = [reported.note] if reported.note else []
    notes += [f"{other.id} took its place: {other.found}" for other in claims if other.id == reported.corrected_by]
    return "; ".join(notes)


def write(folder: Path, table: ClaimTable) -> Path:
    """Write ``replication.json`` and the page, and give the page's path.

    Raises:
        InputError: the folder cannot be written.
    """
    content = rounded(table.to_json())
    make_folder(folder)
    write_outputs(folder, {"replication.json": dump(content), "replication.html": render_replication(content)})
    return folder / "replication.html"
