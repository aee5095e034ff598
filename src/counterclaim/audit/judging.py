"""The right-hand path, in order: records in, evidence, checks, verdict, pages, files.

    import_study, or a study of one's own ─> Records ─> evidence_of ─> run_all ─> decide ─> verdict.json, checks.jsonl, pages

Everything after ``Records`` is pure: ``check`` redoes it from a run folder to the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from counterclaim.audit.effect import effect_from_json
from counterclaim.audit.evidence import Evidence
from counterclaim.audit.intake import DEFAULT_MARGIN, AuditRequest, OnStage, Options, evidence_of, known_names, silent
from counterclaim.audit.items import paired_items
from counterclaim.audit.metrics import CELLS
from counterclaim.checks import ONE_ARM, run_all
from counterclaim.checks.cost import guards as watched_guards
from counterclaim.errors import InputError, RecordError
from counterclaim.folder import (
    Records,
    dump,
    dump_lines,
    read_checks,
    read_run,
    read_study,
    read_verdict,
    rounded,
    write_outputs,
    write_run,
)
from counterclaim.importers import load
from counterclaim.importers.endings import infer_finish
from counterclaim.records import (
    CONTROL,
    TREATED,
    CheckResult,
    Claim,
    Estimate,
    Json,
    Verdict,
    VerdictOutcome,
    check_from_json,
    to_json,
)
from counterclaim.registry import checks as registered_checks
from counterclaim.report import Page, render_html, render_junit, render_markdown, render_sarif
from counterclaim.report.changes import describe_arms
from counterclaim.report.page import GuardEffect, Source
from counterclaim.verdict import decide

MOST_ITEMS = 500


@dataclass(frozen=True, slots=True)
class Judged:
    """What came out.

    Attributes:
        verdict: the contract's verdict.json.
        checks: lines of checks.jsonl.
        page: what the pages are drawn from.
    """

    verdict: dict[str, Json]
    checks: list[dict[str, Json]]
    page: Page

    def files(self) -> dict[str, str]:
        """Name to content of everything on the right-hand side of the run folder."""
        return {"checks.jsonl": dump_lines(self.checks), "verdict.json": dump(self.verdict), **_pages(self.page)}


def example(wanted: AuditRequest) -> tuple[dict[str, list[Path]], AuditRequest]:
    """The files of the example that ships with the package, and the claim that its README makes of them."""
    folder = Path(__file__).parents[1] / "example"
    files = {arm.name: [folder / f"{arm}.jsonl"] for arm in (CONTROL, TREATED)}
    return files, wanted if wanted.metric or wanted.file else replace(wanted, metric="accuracy")


# judging --------------------------------------------------------------------------------------------------------


def judge(records: Records, progress: OnStage = silent) -> Judged:
    """Run every check on records and decide: a pure function of the run folder."""
    return _judge(records, evidence_of(records), progress)


def _judge(records: Records, evidence: Evidence, progress: OnStage) -> Judged:
    known_names(evidence.claim)
    results = run_all(evidence, progress=lambda name: progress(f"checking {name}", None))
    verdict = decide(evidence.claim, results)
    checks = rounded([result.to_record() for result in results])
    body = rounded(_verdict_json(evidence, records.study, results, verdict))
    return Judged(body, checks, _page(records, evidence, body, checks))


def _verdict_json(
    evidence: Evidence, study: Mapping[str, Json], results: Sequence[CheckResult], verdict: Verdict
) -> dict[str, Json]:
    claim = evidence.claim
    guards = [
        {
            "metric": guard.metric,
            "difference": evidence.effect_of(evidence.metric_named(guard.metric)).difference.to_json(),
            "allowed": guard.allowed,
            "better": guard.better,
            "declared": bool(claim.guards),
        }
        for guard in watched_guards(evidence)
    ]
    return {
        "verdict": str(verdict.outcome),
        "because": verdict.because,
        "decided_by": list(verdict.decided_by),
        "claim_hash": verdict.claim_hash,
        "status": study["status"],
        "status_because": study["status_because"],
        "effect": {**evidence.effect.to_json(claim.margin), "direction": claim.direction, "alpha": claim.alpha},
        "pairing": evidence.pairing,
        "guards": guards,
        "checks": [result.to_json() for result in results],
        "next": list(verdict.next),
    }


def _page(
    records: Records, evidence: Evidence, verdict: Mapping[str, Json], checks: Sequence[Mapping[str, Json]]
) -> Page:
    """The page of a run folder's records with its verdict.json and the lines of its checks.jsonl."""
    study, effect = records.study, verdict["effect"]
    found = tuple(check_from_json(row) for row in checks)
    items, total = paired_items(evidence, most=MOST_ITEMS, first=[prompt for row in found for prompt in row.evidence])
    return Page(
        claim=evidence.claim,
        verdict=Verdict(
            verdict["claim_hash"], VerdictOutcome(verdict["verdict"]), verdict["because"],
            tuple(verdict.get("decided_by", ())), tuple(verdict["next"]),
        ),
        status=verdict["status"],
        effect=effect_from_json(effect),
        guards=tuple(
            GuardEffect(row["metric"], Estimate(**row["difference"]), row["allowed"]) for row in verdict["guards"]
        ),
        checks=found,
        items=tuple(items),
        n_items_total=total,
        sources=tuple(
            Source(row["arm"], row["path"], row["format"], row.get("rows"), row.get("sha256", ""))
            for row in study["sources"]
        ),
        pairing=evidence.pairing,
        arms=describe_arms(study.get("arms", ())),
        notes=tuple(study["notes"]),
        questions={check.name: check.question for check in registered_checks()},
        training=records.extras.get("training"),
        edits=records.extras.get("edits"),
        probing=records.extras.get("probing"),
        version=study["code_version"],
        study_hash=study["study_hash"],
    )  # fmt: skip


def _pages(page: Page) -> dict[str, str]:
    return {
        "report.html": render_html(page),
        "report.md": render_markdown(page),
        "junit.xml": render_junit(page),
        "verdict.sarif": render_sarif(page),
    }


# files ----------------------------------------------------------------------------------------------------------


def write(folder: Path, records: Records, judged: Judged, *, overwrite: bool = False) -> None:
    """Write a new run folder, records and everything made from them, whole or not at all."""
    write_run(folder, records, judged.files(), overwrite=overwrite)


def check(folder: Path, progress: OnStage = silent) -> Judged:
    """Redo checks, verdict and pages of a run folder.

    Raises:
        InputError: it is no run folder, or is damaged (names the file).
    """
    progress("reading the run folder", None)
    judged = _judge(*_read(folder), progress)
    write_outputs(folder, judged.files())
    return judged


def report(folder: Path) -> Judged:
    """Redraw the pages of a run folder from its checks and verdict, without running a check.

    Raises:
        InputError: it is no run folder, or is damaged (names the file).
    """
    records, evidence = _read(folder)
    verdict, checks = read_verdict(folder), read_checks(folder)
    with _as_written(folder / "verdict.json"):
        page = _page(records, evidence, verdict, checks)
    write_outputs(folder, _pages(page))
    return Judged(verdict, checks, page)


_OF_A_STUDY = (
    "study_hash", "claim", "status", "status_because", "sources", "counts", "quotes", "notes", "code_version",
)  # fmt: skip


def _read(folder: Path) -> tuple[Records, Evidence]:
    """A run folder's records and the evidence in them."""
    begun = read_study(folder)
    if begun is not None and begun.get("finished") is False:
        raise InputError(
            "the run is not finished", path=folder, remedy="run the command that began it again; it goes on from there"
        )
    records = read_run(folder)
    if "claim" in records.study and records.study["claim"] is None:
        raise InputError(
            "the run folder holds answers and no claim to judge",
            path=folder,
            remedy="judge two of them: counterclaim audit --control A --treated B --metric NAME",
        )
    if missing := [key for key in _OF_A_STUDY if key not in records.study]:
        raise InputError(f"lacks {', '.join(missing)}", path=folder / "study.json", remedy=_AGAIN)
    with _as_written(folder):
        evidence = evidence_of(records)
        answered = sum(len(arm) > 0 for arm in evidence.pair)  # lays the arms out, which reads every answer's prompt
    if evidence.counts is None and answered < 2:
        raise InputError(
            "the run folder does not hold the answers of both arms", path=folder / "responses.jsonl", remedy=_AGAIN
        )
    return records, evidence


_AGAIN = "make the run folder again with counterclaim audit"


@contextmanager
def _as_written(path: Path) -> Iterator[None]:
    """Turn what goes wrong where a file does not hold what this package writes into a sentence."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, RecordError) as error:
        problem = f"does not hold what this package writes ({type(error).__name__}: {error})"
        raise InputError(problem, path=path, remedy=_AGAIN) from error


# profile --------------------------------------------------------------------------------------------------------


def profile(path: Path, options: Options, same_construct: tuple[tuple[str, ...], ...] = ()) -> dict[str, Json]:
    """The disposition 2×2 of one file with its rates, their intervals, and every check that one file allows.

    Raises:
        InputError: the file cannot be read, or holds no delivery or no correctness.
    """
    imported = load(
        path, arm=CONTROL, format=options.format, mapping=options.mapping, rows=options.rows, pair_by=options.pair_by,
        need_pairs=False,
    )  # fmt: skip
    responses = infer_finish(imported.responses, no_generation=imported.no_generation)
    claim = Claim("assertion_asymmetry", "decrease", DEFAULT_MARGIN, same_construct=same_construct)
    source = {"arm": str(CONTROL), "no_generation": imported.no_generation, **to_json(imported.source)}
    evidence = Evidence(
        claim,
        imported.prompts,
        responses,
        imported.scores,
        sources=[source],
        quotes=imported.quotes,
        notes=imported.notes,
    )
    arm = evidence.control
    metric = evidence.metric  # raises InputError where the two labels are not there
    scored = arm.scored(metric)
    cells = arm.cells().sum(axis=0)
    rates = {
        name: evidence.arm_estimate(evidence.metric_named(name), arm)
        for name in ("accuracy", "assertion_rate", "hallucination_rate", "over_hedging_rate", "assertion_asymmetry")
    }
    results = run_all(evidence, only=ONE_ARM)
    return {
        "n": int(scored.sum()),
        "n_unscored": int((~scored).sum()),
        "cells": {name: int(count) for name, count in zip(CELLS, cells, strict=True)},
        **{name: rounded(estimate.to_json()) for name, estimate in rates.items()},
        "checks": rounded([result.to_json() for result in results]),
        "notes": list(imported.notes),
    }
