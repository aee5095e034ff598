"""What an importer is given and what it hands back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from counterclaim.records import Json, Prompt, Quote, Response, Score

MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True)
class Limits:
    """How much of a file may be taken in, so that a hostile or mistaken one cannot exhaust the machine.

    Attributes:
        max_bytes: size of a file that is streamed (JSONL, CSV, parquet, archives), in bytes.
        max_json_bytes: size of a JSON document, which has to be held whole, in bytes.
        max_line_bytes: length of one line or one CSV cell, in bytes.
        max_rows: rows, or samples of an archive.
        max_entries: entries of an archive.
        max_entry_bytes: one archive entry, unpacked, in bytes.
        max_total_bytes: everything unpacked from one archive or parquet file, in bytes.
        max_ratio: unpacked over packed size of an archive entry above 1 MiB.
    """

    max_bytes: int = 4 * GIB
    max_json_bytes: int = 512 * MIB
    max_line_bytes: int = 64 * MIB
    max_rows: int = 5_000_000
    max_entries: int = 200_000
    max_entry_bytes: int = 256 * MIB
    max_total_bytes: int = 8 * GIB
    max_ratio: int = 2_000


@dataclass(frozen=True)
class ImportRequest:
    """What the user asked of one file; the arguments of ``load``."""

    path: Path
    arm: str
    mapping: Mapping[str, str] = field(default_factory=dict)
    rows: str | None = None
    pair_by: Literal["prompt", "id"] = "prompt"
    replicate: str = ""
    need_pairs: bool = True
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Source:
    """Which bytes the records came from.

    Attributes:
        path: the file, as the user named it (for a folder: the file that was taken from it).
        format: name of the importer that read it.
        sha256: of the file's bytes, 64 hex digits.
        bytes: size of the file.
        rows: rows (samples, documents) that became responses.
        created: ISO 8601 time recorded inside the file or its harness's metadata; None where there is none.
        second_answers: how many prompts of the rows the file answers once more beside them, and how many of these
            second answers differ; None where it holds none.
    """

    path: str
    format: str
    sha256: str
    bytes: int
    rows: int
    created: str | None = None
    second_answers: tuple[int, int] | None = None


@dataclass
class Imported:
    """One file as records.

    Attributes:
        quotes: numbers that the file states about itself, under the name of the axis they are the mean of.
        notes: sentences on what was noticed or decided while reading.
        cards: what a judge returned on its known-answer cards, where the source kept that.
        no_generation: nothing was generated (log-likelihood tasks), so nothing can have been cut.
    """

    source: Source
    prompts: dict[str, Prompt]
    responses: list[Response]
    scores: list[Score]
    quotes: list[Quote] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cards: list[Json] = field(default_factory=list)
    no_generation: bool = False
