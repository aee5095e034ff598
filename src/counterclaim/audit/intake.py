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

from counterclaim import __version__, importers
from counterclaim import config as spec
from counterclaim import folder as store
from counterclaim.audit.effect import Counts, as_counts
from counterclaim.audit.evidence import Evidence
from counterclaim.audit.metrics import available, better, resolve
from counterclaim.audit.probing import ProbeResult
from counterclaim.checks.parity import SETTINGS
from counterclaim.errors import InputError
from counterclaim.folder import Records
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
        progress: told what is going on.

    Raises:
        InputError: something given cannot be used; nothing has been written.
    """
    records = Records(study={})
    sources: list[dict[str, Json]] = []
    quotes: list[Quote] = []
    notes: list[str] = []
    brought: list[list[Json]] = []
    for arm, paths in arms.items():
        for number, path in enumerate(paths, 1):
            progress(f"reading {path.name}", None)
            replicate = str(number) if len(paths) > 1 else ""
            brought.append(_add_file(records, sources, quotes, notes, arm, path, replicate, options))
    axes = _shared_axes(records, arms)
    claim = _claim(wanted, axes, records)
    known_names(claim)
    extras = records.extras
    if train_data is not None:
        extras["overlap"], extras["train_sample"] = scan_training(
            records, importers.load_training_texts(train_data), progress
        )
    if cards is not None:
        extras["cards"] = _load_cards(cards)
    elif all(brought):  # cards of one arm's judge say nothing of another's
        extras["cards"] = [card for of_file in brought for card in of_file]
    records.study = _study(claim, wanted.file, sources, quotes, notes, extras, counts=None, options=options)
    evidence_of(records).require_pairs()
    return records


def count_study(counts: Counts, wanted: AuditRequest) -> Records:
    """A study of which only counts are known."""
    if wanted.file is not None:
        claim = spec.load_claim(wanted.file)
        if claim.guards:
            raise InputError(
                "the claim names guards, and counts hold nothing but the target",
                path=wanted.file,
                remedy="give the per-item results with --control FILE --treated FILE",
            )
    else:
        metric = wanted.metric or "accuracy"
        direction = wanted.direction or ("increase" if better(metric) == "higher" else "decrease")
        claim = _with_flags(Claim(metric, direction, wanted.margin or DEFAULT_MARGIN), wanted)
    known_names(claim)
    return Records(study=_study(claim, wanted.file, [], [], [], {}, counts=counts, options=Options()))


def _add_file(
    records: Records,
    sources: list[dict[str, Json]],
    quotes: list[Quote],
    notes: list[str],
    arm: str,
    path: Path,
    replicate: str,
    options: Options,
) -> list[Json]:
    """Add one file's records; the known-answer cards that it brought along."""
    imported = importers.load(
        path, arm=arm, format=options.format, mapping=options.mapping, rows=options.rows, pair_by=options.pair_by,
        replicate=replicate,
    )  # fmt: skip
    responses = infer_finish(imported.responses, no_generation=imported.no_generation)
    # several files of one arm are its seeds: their samples of one prompt must not collide
    shift = 1 + max((r.sample for r in records.responses if r.arm == ArmId.parse(arm)), default=-1)
    if shift:
        responses = [replace(r, sample=r.sample + shift) for r in responses]
        imported.scores = [replace(s, sample=s.sample + shift) for s in imported.scores]
    for prompt in imported.prompts.values():
        known = records.prompts.get(prompt.id)
        if known is None or (prompt.gold and not known.gold):
            records.prompts[prompt.id] = prompt
    records.responses += responses
    records.scores += imported.scores
    quotes += imported.quotes
    notes += [f"{arm}: {note}" for note in imported.notes]
    sources.append(
        {"arm": arm, "replicate": replicate, "no_generation": imported.no_generation, **to_json(imported.source)}
    )
    return imported.cards


def _shared_axes(records: Records, arms: Mapping[str, Sequence[Path]]) -> frozenset[str]:
    held: dict[ArmId, set[str]] = {arm: set() for arm in map(ArmId.parse, arms) if arm in (CONTROL, TREATED)}
    for score in records.scores:
        if score.arm in held:
            held[score.arm].add(score.axis)
    return frozenset(set.intersection(*held.values())) if held else frozenset()


def _claim(wanted: AuditRequest, axes: frozenset[str], records: Records) -> Claim:
    """The claim of a file, or of flags with defaults where they are safe."""
    if wanted.file is not None:
        claim = spec.load_claim(wanted.file)
        for name in (claim.metric, *(guard.metric for guard in claim.guards)):
            resolve(name, axes)
        _fits_scale(claim, axes, records)
        return claim
    if wanted.metric is None:
        known = available(axes) + sorted(f"{axis}=VALUE" for axis in axes if axis.startswith("label."))
        raise InputError(
            f"no metric was named; of these results can be taken: {', '.join(known) or 'none, for they hold no scores'}",
            remedy="name the target with --metric NAME, or give a claim file with --claim FILE",
        )
    metric = resolve(wanted.metric, axes)
    direction = wanted.direction or ("increase" if metric.better == "higher" else "decrease")
    margin = wanted.margin
    if margin is None:
        if not metric.fraction and not _is_fraction(records, metric.axes[0]):
            raise InputError(
                f"{metric.name} is not a fraction, so there is no sensible default for the change that matters",
                remedy="state it in the metric's own unit with --margin X",
            )
        margin = DEFAULT_MARGIN
    guards = []
    for name, allowed in wanted.guards:
        guard = resolve(name, axes)
        guards.append(Guard(name, margin if allowed is None else allowed, guard.better))
    claim = _with_flags(Claim(metric.name, direction, margin, tuple(guards)), wanted)
    _fits_scale(claim, axes, records)
    return claim


def _fits_scale(claim: Claim, axes: frozenset[str], records: Records) -> None:
    """Raise InputError where a margin or an allowed loss cannot be meant: percent for a fraction."""
    named = [(claim.metric, claim.margin, "margin"), *((g.metric, g.allowed, "allowed loss") for g in claim.guards)]
    for name, size, what in named:
        metric = resolve(name, axes)
        if size >= 1 and (metric.fraction or _is_fraction(records, metric.axes[0])):
            raise InputError(
                f"the {what} {size:g} of {name} is as large as the whole scale, which runs from 0 to 1",
                remedy="write fractions, not percent: 0.05 for five points",
            )


def _with_flags(claim: Claim, wanted: AuditRequest) -> Claim:
    """The claim with what else flags said of it."""
    return replace(
        claim,
        required=wanted.required,
        alpha=claim.alpha if wanted.alpha is None else wanted.alpha,
        level=claim.level if wanted.level is None else wanted.level,
        same_construct=wanted.same_construct,
        varies=wanted.varies,
        looked_at=wanted.looked_at,
    )


def _is_fraction(records: Records, axis: str) -> bool:
    values = [s.value for s in records.scores if s.axis == axis and isinstance(s.value, int | float)]
    return bool(values) and min(values) >= 0 and max(values) <= 1


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
    rows = store.read_lines(path)
    for line, row in rows:
        if not isinstance(row, dict) or not {"expected", "returned"} <= set(row):
            raise InputError(
                "a card needs the keys expected and returned", path=path, line=line, remedy="add them (and kind)"
            )
    return [row for _, row in rows]


def _study(
    claim: Claim,
    claim_file: Path | None,
    sources: list[dict[str, Json]],
    quotes: list[Quote],
    notes: list[str],
    extras: Mapping[str, Json],
    *,
    counts: Counts | None,
    options: Options,
) -> dict[str, Json]:
    """study.json of results that were read: the frozen claim and where everything came from, with hashes."""
    return study_json(
        claim,
        _status(claim, claim_file, sources),
        sources,
        notes,
        extras,
        made_by=["read", dict(options.mapping), options.rows, options.pair_by],
        quotes=quotes,
        counts=counts,
    )


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
        "extras": content_hash(store.rounded(extras)) if extras else None,
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
        "notes": list(notes),
        "code_version": __version__,
        "environment": {
            "python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__,
        },
    }  # fmt: skip


def _status(
    claim: Claim, claim_file: Path | None, sources: Sequence[Mapping[str, Json]]
) -> tuple[Literal["confirmatory", "exploratory"], str]:
    """Confirmatory only when the claim was frozen, has not changed since, and no source says that it is older."""
    lock = None if claim_file is None else spec.read_lock(claim_file)
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
