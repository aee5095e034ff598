"""Results in, records out: files read, the claim frozen beside them, everything hashed.

The expensive or random part of a study ends here; what follows reads ``Records`` only.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np

from counterclaim import __version__
from counterclaim.audit.effect import Counts, as_counts
from counterclaim.audit.evidence import Evidence
from counterclaim.audit.metrics import available, better, resolve
from counterclaim.audit.probing import ProbeResult
from counterclaim.checks.parity import SETTINGS
from counterclaim.config import load_claim, read_lock
from counterclaim.errors import InputError
from counterclaim.folder import Records, read_lines, rounded
from counterclaim.importers import load, load_training_texts
from counterclaim.importers.endings import infer_finish
from counterclaim.records import (
    CONTROL,
    TREATED,
    ArmId,
    Claim,
    Guard,
    Json,
    Quote,
    claim_from_json,
    content_hash,
    quote_from_json,
    to_json,
)
from counterclaim.registry import Metric, left_out
from counterclaim.registry import checks as registered_checks
from counterclaim.text.overlap import OverlapReport, scan

DEFAULT_MARGIN = 0.05
TRAIN_SAMPLE = 1_000

OnStage = Callable[[str, int | None], None]
"""Called with what is being done and how many rows are done so far (None where that is not counted)."""


def silent(stage: str, done: int | None) -> None:
    del stage, done


@dataclass(frozen=True, slots=True)
class Options:
    """How files are read.

    Attributes:
        format: name of a format; detected when None.
        mapping: field to column.
        rows: key of the list inside a JSON file.
        pair_by: what identifies a prompt.
    """

    format: str | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    rows: str | None = None
    pair_by: Literal["prompt", "id"] = "prompt"


@dataclass(frozen=True, slots=True)
class AuditRequest:
    """The claim as flags say it; None leaves it to the metric, ``file`` replaces all of it."""

    file: Path | None = None
    metric: str | None = None
    direction: Literal["increase", "decrease"] | None = None
    margin: float | None = None
    guards: tuple[tuple[str, float | None], ...] = ()
    alpha: float | None = None
    level: float | None = None
    required: tuple[str, ...] = ()
    same_construct: tuple[tuple[str, ...], ...] = ()
    varies: tuple[str, ...] = ()
    looked_at: int | None = None


def import_study(
    arms: Mapping[str, Sequence[Path]],
    wanted: AuditRequest,
    options: Options,
    *,
    train_data: Path | None = None,
    cards: Path | None = None,
    progress: OnStage = silent,
) -> Records:
    """Read all files into records, with the claim frozen beside them.

    Args:
        arms: arm name to its files; several files of one arm are its replicates (seeds).
        wanted: the claim.
        options: how to read the files.
        train_data: the treated arm's training data, for ``contamination`` and ``shift``.
        cards: known-answer cards of the judge with what it returned; those that every source brought along when None.
        progress: called with what is going on.

    Raises:
        InputError: something given cannot be used; nothing has been written.
    """
    files = _Files(options)
    for arm, paths in arms.items():
        for number, path in enumerate(paths, 1):
            progress(f"reading {path.name}", None)
            files.add(arm, path, replicate=str(number) if len(paths) > 1 else "")
    records = files.records
    claim = _claim(wanted, records)
    known_names(claim)
    extras = records.extras
    if train_data is not None:
        extras["overlap"], extras["train_sample"] = scan_training(records, load_training_texts(train_data), progress)
    if cards is not None:
        extras["cards"] = _load_cards(cards)
    elif all(files.cards):  # cards of one arm's judge say nothing of another's
        extras["cards"] = [card for of_file in files.cards for card in of_file]
    records.study = study_json(
        claim,
        _status(claim, wanted.file, files.sources),
        files.sources,
        files.notes,
        extras,
        made_by=_made_by(options),
        quotes=files.quotes,
    )
    evidence_of(records).require_pairs()
    return records


def count_study(counts: Counts, wanted: AuditRequest) -> Records:
    """A study of which only counts are known."""
    claim = _claim(wanted, None)
    known_names(claim)
    status = _status(claim, wanted.file, [])
    return Records(study=study_json(claim, status, [], [], {}, made_by=_made_by(Options()), counts=counts))


def _made_by(options: Options) -> Json:
    return ["read", dict(options.mapping), options.rows, options.pair_by]


class _Files:
    """What the files of all arms hold.

    Attributes:
        records: prompts, answers and scores.
        sources: of each file, as study.json has it.
        quotes: numbers that files state.
        notes: what importers noticed.
        cards: of each file, the known-answer cards that it brought along.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.records = Records(study={})
        self.sources: list[dict[str, Json]] = []
        self.quotes: list[Quote] = []
        self.notes: list[str] = []
        self.cards: list[list[Json]] = []

    def add(self, arm: str, path: Path, replicate: str) -> None:
        """Read one file of an arm."""
        options, records = self.options, self.records
        imported = load(
            path, arm=arm, format=options.format, mapping=options.mapping, rows=options.rows, pair_by=options.pair_by,
            replicate=replicate,
        )  # fmt: skip
        # several files of one arm are its seeds: their samples of one prompt must not collide
        shift = 1 + max((r.sample for r in records.responses if r.arm == ArmId.parse(arm)), default=-1)
        responses = infer_finish(imported.responses, no_generation=imported.no_generation)
        records.responses += [replace(r, sample=r.sample + shift) for r in responses] if shift else responses
        scores = imported.scores
        records.scores += [replace(s, sample=s.sample + shift) for s in scores] if shift else scores
        for prompt in imported.prompts.values():
            known = records.prompts.get(prompt.id)
            if known is None or (prompt.gold and not known.gold):
                records.prompts[prompt.id] = prompt
        self.quotes += imported.quotes
        self.notes += [f"{arm}: {note}" for note in imported.notes]
        self.cards.append(imported.cards)
        source = to_json(imported.source)
        self.sources.append(
            {"arm": arm, "replicate": replicate, "no_generation": imported.no_generation, **source}
        )  # fmt: skip


# the claim ------------------------------------------------------------------------------------------------------


def _claim(wanted: AuditRequest, records: Records | None) -> Claim:
    """The claim of a file, or of flags with defaults where they are safe.

    Args:
        wanted: the file, or the flags.
        records: what the claim is about; None where only counts are known, of a metric that any name is good for.
    """
    axes = _shared_axes(records)
    claim = _of_flags(wanted, records, axes) if wanted.file is None else load_claim(wanted.file)
    if records is None:
        if claim.guards:
            raise InputError(
                "the claim names guards, and counts hold nothing but the target",
                path=wanted.file,
                remedy="give the per-item results with --control FILE --treated FILE",
            )
        return claim
    sizes = [(claim.metric, claim.margin, "margin"), *((g.metric, g.allowed, "allowed loss") for g in claim.guards)]
    for name, size, what in sizes:
        if size >= 1 and _is_fraction(resolve(name, axes), records):
            raise InputError(
                f"the {what} {size:g} of {name} is as large as the whole scale, which runs from 0 to 1",
                remedy="write fractions, not percent: 0.05 for five points",
            )
        resolve(name, axes)
    return claim


def _of_flags(wanted: AuditRequest, records: Records | None, axes: frozenset[str]) -> Claim:
    margin = wanted.margin
    if records is None:
        name = wanted.metric or "accuracy"
        best = better(name)
    elif wanted.metric is None:
        known = available(axes) + sorted(f"{axis}=VALUE" for axis in axes if axis.startswith("label."))
        raise InputError(
            f"no metric was named; these results allow: {', '.join(known) or 'none, for they hold no scores'}",
            remedy="name the target with --metric NAME, or give a claim file with --claim FILE",
        )
    else:
        metric = resolve(wanted.metric, axes)
        name, best = metric.name, metric.better
        if margin is None and not _is_fraction(metric, records):
            raise InputError(
                f"{name} is not a fraction, so there is no sensible default for the change that matters",
                remedy="state it in the metric's own unit with --margin X",
            )
    margin = margin or DEFAULT_MARGIN
    guards = tuple(
        Guard(guard, margin if allowed is None else allowed, resolve(guard, axes).better)
        for guard, allowed in wanted.guards
    )
    strictness = {key: value for key in ("alpha", "level") if (value := getattr(wanted, key)) is not None}
    return Claim(
        name,
        wanted.direction or ("increase" if best == "higher" else "decrease"),
        margin,
        guards,
        required=wanted.required,
        same_construct=wanted.same_construct,
        varies=wanted.varies,
        looked_at=wanted.looked_at,
        **strictness,
    )


def _shared_axes(records: Records | None) -> frozenset[str]:
    """Axes on which both arms were scored."""
    axes: dict[ArmId, set[str]] = {}
    for arm, axis in {(score.arm, score.axis) for score in records.scores} if records else ():
        axes.setdefault(arm, set()).add(axis)
    return frozenset(axes.get(CONTROL, set()) & axes.get(TREATED, set()))


def _is_fraction(metric: Metric, records: Records) -> bool:
    """Whether a metric's values lie in [0, 1], by definition or as they were found."""
    if metric.fraction:
        return True
    values = [s.value for s in records.scores if s.axis == metric.axes[0] and isinstance(s.value, int | float)]
    return bool(values) and min(values) >= 0 and max(values) <= 1


# training data and cards ----------------------------------------------------------------------------------------


def scan_training(records: Records, trained_on: Iterable[str], progress: OnStage) -> tuple[Json, list[str]]:
    """What training texts share with the prompts, and a uniform sample of them."""
    kept = _Sample()
    prompts = {prompt.id: prompt.text for prompt in records.prompts.values() if prompt.messages}
    if not prompts:
        raise InputError(
            "the results hold no prompt texts to look for in the training data",
            remedy="map the prompt column with --map prompt=COLUMN, or leave out --train-data",
        )
    report = scan(prompts, kept.through(trained_on), progress=lambda done: progress("scanning training data", done))
    return report.to_json(), kept.texts


def sample_of(texts: Iterable[str]) -> list[str]:
    """A uniform sample of texts, the beginning of each."""
    kept = _Sample()
    for _ in kept.through(texts):
        pass
    return kept.texts


class _Sample:
    """A uniform sample of texts that stream by (reservoir, seeded).

    Attributes:
        texts: the sample so far.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._random = np.random.default_rng(0)

    def through(self, texts: Iterable[str]) -> Iterator[str]:
        """The texts themselves, one by one."""
        for seen, text in enumerate(texts, 1):
            if len(self.texts) < TRAIN_SAMPLE:
                self.texts.append(text[:4000])
            elif (slot := int(self._random.integers(seen))) < TRAIN_SAMPLE:
                self.texts[slot] = text[:4000]
            yield text


def _load_cards(path: Path) -> list[Json]:
    rows = read_lines(path)
    for line, row in rows:
        if not isinstance(row, dict) or not {"expected", "returned"} <= set(row):
            raise InputError(
                "a card needs the keys expected and returned", path=path, line=line, remedy="add them (and kind)"
            )
    return [row for _, row in rows]


# study.json -----------------------------------------------------------------------------------------------------


def study_json(
    claim: Claim,
    status: tuple[Literal["confirmatory", "exploratory"], str],
    sources: Sequence[Mapping[str, Json]],
    notes: Sequence[str],
    extras: Mapping[str, Json],
    *,
    made_by: Json,
    quotes: Sequence[Quote] = (),
    counts: Counts | None = None,
) -> dict[str, Json]:
    """study.json: the frozen claim and where everything came from, with hashes.

    Args:
        claim: what is claimed.
        status: confirmatory or exploratory, and why.
        sources: where each arm's answers came from, with their hashes.
        notes: what was noticed on the way.
        extras: other inputs of checks.
        made_by: what else determines the records: how files were read, or how answers were generated and scored.
        quotes: numbers that the sources state.
        counts: set where only counts are known.
    """
    identity = {
        "claim": to_json(claim),
        "sources": [[s["arm"], s["format"], s["sha256"]] for s in sources],
        "made_by": made_by,
        "counts": None if counts is None else to_json(counts),
        "extras": content_hash(rounded(extras)) if extras else None,
    }
    import scipy

    return {
        "study_hash": content_hash(identity),
        "claim_hash": claim.hash,
        "claim": to_json(claim),
        "status": status[0],
        "status_because": status[1],
        "sources": list(sources),
        "counts": None if counts is None else to_json(counts),
        "quotes": [to_json(quote) for quote in quotes],
        "notes": [*notes, *(f"{problem[0].upper()}{problem[1:]}." for problem in left_out())],
        "code_version": __version__,
        "environment": {
            "python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__,
        },
    }  # fmt: skip


def _status(
    claim: Claim, claim_file: Path | None, sources: Sequence[Mapping[str, Json]]
) -> tuple[Literal["confirmatory", "exploratory"], str]:
    """Confirmatory only when the claim was frozen, has not changed since, and no source says that it is older."""
    lock = None if claim_file is None else read_lock(claim_file)
    if lock is None:
        return "exploratory", "the claim was not frozen before the test (counterclaim claim --freeze FILE)"
    if lock["claim_hash"] != claim.hash:
        return "exploratory", f"the claim was changed after it was frozen on {lock['frozen_at']}"
    frozen = datetime.fromisoformat(lock["frozen_at"])
    for source in sources:
        created = _time(source.get("created"))
        if created is not None and created < frozen:
            return "exploratory", f"{source['path']} was made on {source['created']}, before the claim was frozen"
    return "confirmatory", f"the claim was frozen on {lock['frozen_at']} and has not changed since"


def _time(text: Json) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.astimezone()


def evidence_of(records: Records) -> Evidence:
    """A run folder's records as checks read them."""
    study, extras = records.study, records.extras
    overlap, probing = extras.get("overlap"), extras.get("probing")
    return Evidence(
        claim_from_json(study["claim"]),
        records.prompts,
        records.responses,
        records.scores,
        sources=study["sources"],
        quotes=[quote_from_json(quote) for quote in study["quotes"]],
        overlap=None if overlap is None else OverlapReport.from_json(overlap),
        train_sample=extras.get("train_sample", ()),
        train_words=extras.get("train_words"),
        cards=extras.get("cards", ()),
        probing=None if probing is None else ProbeResult.from_json(probing),
        counts=None if study["counts"] is None else as_counts(study["counts"]),
        notes=study["notes"],
    )


def known_names(claim: Claim) -> None:
    """Raise InputError where the claim names a check or a setting that does not exist: a typo must not pass for one."""
    known = {check.name for check in registered_checks()}
    unknown = sorted(set(claim.required) - known)
    if unknown:
        raise InputError(
            f"the claim requires checks that do not exist: {', '.join(unknown)}",
            remedy=f"choose among {', '.join(sorted(known))}",
        )
    strange = sorted(set(claim.varies) - set(SETTINGS))
    if strange:
        raise InputError(
            f"the claim varies settings that do not exist: {', '.join(strange)}",
            remedy=f"choose among {', '.join(SETTINGS)}",
        )
