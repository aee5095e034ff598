"""The ledger: every reported claim of the paper, or of a file, with its ruling and what stands beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from counterclaim import __version__
from counterclaim import folder as store
from counterclaim.errors import InputError
from counterclaim.lab.config import Reported, load_reported
from counterclaim.lab.replicate.artifacts import Recomputed, Released, recompute
from counterclaim.lab.replicate.judging import judge
from counterclaim.lab.replicate.page import render_replication
from counterclaim.lab.replicate.ruling import WORDS, Ruling
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
class Line:
    """One claim of the ledger.

    Attributes:
        arc: under which heading it stands.
        study: name of the study file.
        reported: the claim and its numbers.
        ruling: what the numbers support.
        beside: what its authors said of it, and what the ledger holds against it.
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
class Ledger:
    """Claims with their rulings.

    Attributes:
        title: whose claims these are.
        lines: in order.
        released: the files that were looked at; None where nobody asked.
    """

    title: str
    lines: tuple[Line, ...]
    released: Released | None = None

    @property
    def words(self) -> dict[str, int]:
        """How many claims came out under each word."""
        return {word: sum(line.ruling.word == word for line in self.lines) for word in WORDS}

    @property
    def taken_back(self) -> tuple[str, ...]:
        """Claims that their numbers support and that their authors took back: ``study: id``."""
        return tuple(
            f"{line.study}: {line.reported.id}"
            for line in self.lines
            if line.ruling.word == "supported" and line.reported.corrected_by is not None
        )

    def to_json(self) -> dict[str, Json]:
        """What ``replication.json`` holds; docs/replicate.md says what each key means."""
        return {
            "title": self.title,
            "code_version": __version__,
            "words": self.words,
            "taken_back": list(self.taken_back),
            "claims": [line.to_json() for line in self.lines],
            "artifacts": None if self.released is None else self.released.to_json(),
        }


def paper() -> list[tuple[str, str, Path]]:
    """(arc, name, file) of every study of the paper that ships, in order."""
    files = shipped_studies()
    return [(arc, name, files[name][0]) for arc, names in ARCS.items() for name in names]


def replicate(name: str, released: Released | None = None, watch: Watch = lambda what, done: None) -> Ledger:
    """Judge what was reported, claim by claim.

    Args:
        name: ``paper``, a study that ships, or a study file.
        released: the paper's released files, to hold its numbers against.
        watch: told what is being judged.

    Raises:
        InputError: a file cannot be read, or reports nothing.
    """
    if name == PAPER and not Path(name).exists():
        return _ledger("arXiv 2604.11867, claim by claim", paper(), released, watch)
    file = find_study(Path(name))
    if not load_reported(file):
        raise InputError(
            "reports nothing that could be judged", path=file, remedy="add [[reported]] tables (docs/replicate.md)"
        )
    return _ledger(f"{file.stem}, claim by claim", [(file.stem, file.stem, file)], released, watch)


def _ledger(title: str, files: Sequence[tuple[str, str, Path]], released: Released | None, watch: Watch) -> Ledger:
    lines = []
    for arc, name, file in files:
        claims = load_reported(file)
        for reported in claims:
            watch(f"judging {name}: {reported.id}", None)
            recomputed = () if released is None else recompute(file, reported, released)
            lines.append(Line(arc, name, reported, judge(reported), _beside(reported, claims), recomputed))
    return Ledger(title, tuple(lines), released)


def _beside(reported: Reported, claims: Sequence[Reported]) -> str:
    """What its authors said of a claim, and which one took its place."""
    told = [reported.note] if reported.note else []
    told += [f"{other.id} took its place: {other.found}" for other in claims if other.id == reported.corrected_by]
    return "; ".join(told)


def write(folder: Path, ledger: Ledger) -> Path:
    """Write ``replication.json`` and the page, and give the page's path.

    Raises:
        InputError: the folder cannot be written.
    """
    told = store.rounded(ledger.to_json())
    store.make_folder(folder)
    store.write_outputs(folder, {"replication.json": store.dump(told), "replication.html": render_replication(told)})
    return folder / "replication.html"
