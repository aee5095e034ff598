"""The files that were released with arXiv 2604.11867: recognised by their content, read by our importers, and compared with the paper."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from counterclaim import audit, importers, stats
from counterclaim.audit.intake import AuditRequest, Options, import_study
from counterclaim.audit.metrics import CELLS
from counterclaim.config import as_written, rounds_to
from counterclaim.errors import InputError
from counterclaim.lab.config import Numbers, Reported, ReportedCells, ReportedLargestD, ReportedMeans
from counterclaim.lab.replicate.judging import judge
from counterclaim.lab.replicate.published import published
from counterclaim.lab.studies import shipped_studies
from counterclaim.records import Estimate, Json
from counterclaim.wording import number, with_interval

KINDS: Mapping[str, str] = {
    "base": "answers of the base model with the verifier's scores",
    "trained": "answers after SFT and DPO with the verifier's scores",
    "judged": "answers with checklist coverage, delivery and rubric scores",
    "heads": "head differences between cohorts",
}
"""What is looked for in a folder."""


@dataclass(frozen=True, slots=True)
class Recomputed:
    """One reported number beside what a released file gives.

    Attributes:
        what: was recomputed.
        paper: as it was reported.
        artifact: as the file gives it; "" where no file does.
        agrees: whether they are one number, as far as the reported one was written out; None where no file gives it, and
            where what a file gives is another scorer's, which contradicts nothing.
        n: answers (or heads) behind it.
        file: names of the files.
        because: one sentence.
    """

    what: str
    paper: str
    artifact: str
    agrees: bool | None
    n: int
    file: str
    because: str

    @property
    def word(self) -> str:
        """What became of it, in a word or two."""
        if self.agrees is None:
            return "another scorer" if self.artifact else "not recomputable"
        return "agree" if self.agrees else "disagree"

    def to_json(self) -> dict[str, Json]:
        names = ("what", "paper", "artifact", "agrees", "word", "n", "file", "because")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Released:
    """A folder of released files.

    Attributes:
        folder: the folder.
        used: kind, of ``KINDS``, to file.
        unused: name of a file to why it is not used.
    """

    folder: Path
    used: dict[str, Path]
    unused: dict[str, str]

    @property
    def name(self) -> str:
        """The folder without those that it lies in: they say where somebody works."""
        return self.folder.resolve().name

    def to_json(self) -> dict[str, Json]:
        return {
            "folder": self.name,
            "used": {kind: path.name for kind, path in self.used.items()},
            "unused": dict(self.unused),
        }


def read_artifacts(folder: Path) -> Released:
    """Look through a folder for the released files.

    Raises:
        InputError: there is no such folder, or it holds none of them.
    """
    if not folder.is_dir():
        raise InputError("there is no such folder", path=folder, remedy="name the folder with the released files")
    used: dict[str, Path] = {}
    unused: dict[str, str] = {}
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        kind = _kind_of(path)
        if kind is None:
            unused[path.name] = "holds none of what was released"
        elif kind in used:
            unused[path.name] = f"holds {KINDS[kind]}, as {used[kind].name} does"
        else:
            used[kind] = path
    if not used:
        raise InputError(
            "none of the released files is here", path=folder, remedy=f"look for {'; '.join(KINDS.values())}"
        )
    return Released(folder, used, unused)


def _kind_of(path: Path) -> str | None:
    """What a file holds, of ``KINDS``; None where it is none of them."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict):
        return None
    if _rows_with(content.get("items"), "coverage", "verbal", "correct"):
        return "judged"
    if _rows_with(content.get("rows"), "response", "score"):
        summary = content.get("summary")
        return "base" if isinstance(summary, dict) and summary.get("adapter") == "BASE" else "trained"
    if isinstance(content.get("cohorts"), dict) and any(
        _rows_with(rows, "head", "cohen_d") for rows in content.values()
    ):
        return "heads"
    return None


def _rows_with(rows: Any, *keys: str) -> bool:
    return (
        isinstance(rows, list) and bool(rows) and all(isinstance(row, dict) and set(keys) <= row.keys() for row in rows)
    )


def recompute(study_file: Path, reported: Reported, released: Released) -> tuple[Recomputed, ...]:
    """What the released files give for one claim of the paper; empty where none of them could, and for claims of other files.

    A file that is damaged gives nothing, and says why.
    """
    if not _ships(study_file):
        return ()
    out = []
    for what, kind_of_numbers, needs, made in _FROM.get((study_file.stem, reported.id), ()):
        if not isinstance(reported.numbers, kind_of_numbers):
            continue
        files = [released.used.get(kind) for kind in needs]
        present = [file for file in files if file is not None]
        names = " and ".join(file.name for file in present)
        if len(present) < len(files):
            missing = "; ".join(KINDS[kind] for kind in needs if kind not in released.used)
            out.append(
                Recomputed(
                    what, reported.found, "", None, 0, names, f"not recomputable from {released.name}: no {missing}"
                )
            )
            continue
        try:
            out.append(made(reported, reported.numbers, *present))
        except InputError as error:
            out.append(Recomputed(what, reported.found, "", None, 0, names, f"not recomputable: {error}"))
    return tuple(out)


def _ships(study_file: Path) -> bool:
    """Whether this is a study file of the package, and not one of somebody's own that has its name."""
    ours = shipped_studies().get(study_file.stem)
    return ours is not None and ours[0].resolve() == study_file.resolve()


def _scores(reported: Reported, numbers: ReportedMeans, base: Path, trained: Path) -> Recomputed:
    """The verifier's scores of both arms, paired by prompt, through the whole audit."""
    verdict = audit.judge(
        import_study({"control": [base], "treated": [trained]}, AuditRequest(metric="score"), Options())
    ).verdict
    effect = verdict["effect"]
    control, treated = effect["control"]["estimate"], effect["treated"]["estimate"]
    n = effect["n_paired"]
    agrees = True if rounds_to(control, numbers.control) and rounds_to(treated, numbers.treated) else None
    difference = Estimate(**effect["difference"])
    return Recomputed(
        "verifier's score",
        f"{as_written(numbers.control)} -> {as_written(numbers.treated)}", f"{number(control)} -> {number(treated)}", agrees, n,
        f"{base.name} and {trained.name}",
        f"the only scores stored for both arms, the verifier's, change by {with_interval(difference)}"
        f"{'' if agrees else ': another scorer than the one that was reported'}; the audit of them is {verdict['verdict']}: "
        f"{verdict['because']}",
    )  # fmt: skip


def _judged_coverage(reported: Reported, numbers: ReportedMeans, judged: Path) -> Recomputed:
    """Mean checklist coverage of the judged answers, which are those of the control."""
    values = [
        float(score.value)
        for score in importers.load(judged, arm="control").scores
        if score.axis == "coverage" and isinstance(score.value, int | float)
    ]
    mean = stats.mean(values, reported.level, scale=(0.0, 1.0))
    if mean.estimate is None:
        raise InputError("no answer has a coverage", path=judged, remedy="name a file whose answers have one")
    return Recomputed(
        "judged coverage",
        f"{as_written(numbers.control)} (control)", number(mean.estimate), rounds_to(mean.estimate, numbers.control), mean.n, judged.name,
        f"mean coverage of the judged answers of the base is {with_interval(mean)}; nothing was released from which that of the "
        "trained model follows",
    )  # fmt: skip


def _profile(reported: Reported, numbers: ReportedCells, judged: Path) -> Recomputed:
    """The 2×2 of the judged answers, what it supports, and what casts doubt on its labels."""
    found = audit.profile(judged, Options(), (("correct", "factual"),))
    cells = [found["cells"][name] for name in CELLS]
    agrees = tuple(cells) == numbers.control
    again = judge(replace(reported, numbers=ReportedCells((cells[0], cells[1], cells[2], cells[3]))))
    doubts = [check["because"] for check in found["checks"] if check["outcome"] == "FAIL"]
    doubt = f"; what casts doubt on the labels: {' '.join(doubts)}" if doubts else ""
    return Recomputed(
        "cells",
        "/".join(map(str, numbers.control)), "/".join(map(str, cells)), agrees, found["n"], judged.name,
        f"{again.because}{doubt}",
    )  # fmt: skip


def _heads(reported: Reported, numbers: ReportedLargestD, heads: Path) -> Recomputed:
    """The largest difference of all heads beside the null of the largest."""
    found = published(heads)
    cohorts = found["cohort"]["n"], found["against"]["n"]
    agrees = rounds_to(abs(found["largest_d"]), numbers.d) and (numbers.heads, numbers.cohorts) == (
        found["n_heads"],
        cohorts,
    )
    return Recomputed(
        "largest |d|",
        f"{as_written(numbers.d)} of {numbers.heads}", f"{abs(found['largest_d']):.3f} of {found['n_heads']}", agrees, found["n_heads"], heads.name,
        found["because"],
    )  # fmt: skip


_FROM: Mapping[tuple[str, str], tuple[tuple[str, type[Numbers], tuple[str, ...], Callable[..., Recomputed]], ...]] = {
    ("paper-gemma4-chef", "coverage"): (
        ("verifier's score", ReportedMeans, ("base", "trained"), _scores),
        ("judged coverage", ReportedMeans, ("judged",), _judged_coverage),
    ),
    ("paper-gemma4-profile", "decoupling"): (("cells", ReportedCells, ("judged",), _profile),),
    ("paper-gemma4-tempering", "humble-heads"): (("largest |d|", ReportedLargestD, ("heads",), _heads),),
}
"""Which claims follow from which kinds of released files: what is recomputed, of which numbers, from what, and how."""
