"""The main path, in order: records in, checks, verdict, pages.

    import_study, or perform ─> Records ─> evidence_of ─> run_all ─> decide ─> verdict.json, checks.jsonl, pages

Everything after ``Records`` is pure: ``check`` redoes it from a run folder to the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from counterclaim import folder as store
from counterclaim import importers
from counterclaim.audit.evidence import Evidence
from counterclaim.audit.intake import DEFAULT_MARGIN, AuditRequest, OnStage, Options, evidence_of, known_names, silent
from counterclaim.audit.items import paired_items
from counterclaim.audit.metrics import CELLS
from counterclaim.checks import ONE_ARM, run_all
from counterclaim.checks.cost import guards as watched_guards
from counterclaim.errors import InputError, RecordError
from counterclaim.folder import Records
from counterclaim.importers.endings import infer_finish
from counterclaim.records import CONTROL, TREATED, CheckResult, Claim, Json, Verdict, to_json
from counterclaim.registry import checks as registered_checks
from counterclaim.registry import load_plugins
from counterclaim.report import Page, render_html, render_junit, render_markdown, render_sarif
from counterclaim.report.changes import describe_change
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
        return {
            "checks.jsonl": store.dump_lines(self.checks),
            "verdict.json": store.dump(self.verdict),
            **_pages(self.page),
        }


def _pages(page: Page) -> dict[str, str]:
    return {
        "report.html": render_html(page),
        "report.md": render_markdown(page),
        "junit.xml": render_junit(page),
        "verdict.sarif": render_sarif(page),
    }


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
    checks = store.rounded([result.to_record() for result in results])
    body = store.rounded(_verdict_json(evidence, records.study, results, verdict))
    return Judged(body, checks, _page(records, evidence, body, checks))


def _verdict_json(
    evidence: Evidence, study: Mapping[str, Json], results: Sequence[CheckResult], verdict: Verdict
) -> dict[str, Json]:
    claim = evidence.claim
    effect = evidence.effect.to_json(claim.margin)
    effect["direction"], effect["alpha"] = claim.direction, claim.alpha
    guards = []
    for guard in watched_guards(evidence):
        difference = evidence.effect_of(evidence.metric_named(guard.metric)).difference
        guards.append({
            "metric": guard.metric, "difference": difference.to_json(), "allowed": guard.allowed,
            "better": guard.better, "declared": bool(claim.guards),
        })  # fmt: skip
    return {
        "verdict": str(verdict.outcome),
        "because": verdict.because,
        "decided_by": list(verdict.decided_by),
        "claim_hash": verdict.claim_hash,
        "status": study["status"],
        "status_because": study["status_because"],
        "effect": effect,
        "pairing": evidence.pairing,
        "guards": guards,
        "checks": [result.to_json() for result in results],
        "next": list(verdict.next),
    }


def _page(
    records: Records,
    evidence: Evidence,
    verdict: dict[str, Json],
    checks: list[dict[str, Json]],
) -> Page:
    study = records.study
    pointed_at = [prompt for row in checks for prompt in row["evidence"]]
    items, total = paired_items(evidence, most=MOST_ITEMS, first=pointed_at)
    return Page(
        verdict=verdict,
        checks=checks,
        items=items,
        n_items_total=total,
        meta={
            "title": f"{evidence.claim.metric}: treated against control",
            "claim": study["claim"],
            "sources": study["sources"],
            "pairing": evidence.pairing,
            "version": study["code_version"],
            "study_hash": study["study_hash"],
            "status_because": study["status_because"],
            "notes": study["notes"],
            "arms": _arms_told(study.get("arms", ())),
            "training": records.extras.get("training", []),
            "edits": records.extras.get("edits", []),
            "probing": records.extras.get("probing"),
            "questions": {check.name: check.question for check in registered_checks()},
        },
    )


def _arms_told(arms: Sequence[Mapping[str, Json]]) -> list[list[str]]:
    """What was done in each arm of a study of one's own: the control's model and settings, then what differs from them."""
    out: list[list[str]] = []
    control: dict[str, Json] = {}
    treated = next((arm.get("change") for arm in arms if arm["arm"] == "treated"), None)
    for arm in arms:
        settings = {**arm["decode"], **arm["model"]}
        model = settings.pop("name")
        changed = [
            f"{key.replace('_', ' ')} {_quoted(value)}" for key, value in settings.items() if control.get(key) != value
        ]
        changed += [f"no {key.replace('_', ' ')}" for key in control if key not in (*settings, "model")]
        if not out:
            told = ", ".join([model, *changed])
            control = {**settings, "model": model}
        elif model != control["model"]:
            told = ", ".join([model, *changed])
        else:
            if "change" in arm:
                dose = f", dose {arm['dose']:g}" if arm["change"]["operator"] != "tune" else ""
                again = dose and arm["arm"] != "treated" and arm["change"] == treated
                changed.insert(0, ("what was done to treated" if again else describe_change(arm["change"])) + dose)
            told = f"the same with {', '.join(changed)}"
        out.append([arm["arm"], told])
    return out


def _quoted(value: Json) -> str:
    return f"“{value}”" if isinstance(value, str) and " " in value else str(value)


def write(folder: Path, records: Records, judged: Judged, *, overwrite: bool = False) -> None:
    """Write a new run folder, records and everything made from them, whole or not at all."""
    store.write_run(folder, records, judged.files(), overwrite=overwrite)


def check(folder: Path, progress: OnStage = silent) -> Judged:
    """Redo checks, verdict and pages of a run folder.

    Raises:
        InputError: it is no run folder, or is damaged (names the file).
    """
    progress("reading the run folder", None)
    judged = _judge(*_read(folder), progress)
    store.write_outputs(folder, judged.files())
    return judged


def report(folder: Path) -> Judged:
    """Redraw the pages of a run folder from its checks and verdict, without running a check.

    Raises:
        InputError: it is no run folder, or is damaged (names the file).
    """
    load_plugins()  # the pages tell what every check asks
    records, evidence = _read(folder)
    verdict, checks = store.read_verdict(folder), store.read_checks(folder)
    _require(folder / "verdict.json", verdict, _OF_A_VERDICT)
    for row in checks:
        _require(folder / "checks.jsonl", row, _OF_A_CHECK)
    page = _page(records, evidence, verdict, checks)
    store.write_outputs(folder, _pages(page))
    return Judged(verdict, checks, page)


_OF_A_STUDY = (
    "study_hash",
    "claim",
    "status",
    "status_because",
    "sources",
    "counts",
    "quotes",
    "notes",
    "code_version",
)
_OF_A_VERDICT = (
    "verdict", "because", "decided_by", "claim_hash", "status", "effect", "pairing", "guards", "checks", "next",
)  # fmt: skip
_OF_A_CHECK = ("check", "group", "outcome", "estimate", "because", "remedy", "required", "evidence")


def _read(folder: Path) -> tuple[Records, Evidence]:
    """A run folder's records and the evidence in them."""
    begun = store.read_study(folder)
    if begun is not None and begun.get("finished") is False:
        raise InputError(
            "the run is not finished", path=folder, remedy="run the command that began it again; it goes on from there"
        )
    records = store.read_run(folder)
    if "claim" in records.study and records.study["claim"] is None:
        raise InputError(
            "the run folder holds answers and no claim to judge",
            path=folder,
            remedy="judge two of them: counterclaim audit --control A --treated B --metric NAME",
        )
    _require(folder / "study.json", records.study, _OF_A_STUDY)
    try:
        evidence = evidence_of(records)
    except (KeyError, TypeError, ValueError, AttributeError, RecordError) as error:
        raise InputError(
            f"the files of the run folder do not fit together ({type(error).__name__}: {error})",
            path=folder,
            remedy="make the run folder again with counterclaim audit",
        ) from error
    if evidence.counts is None and sum(len(arm) > 0 for arm in evidence.pair) < 2:
        raise InputError(
            "the run folder does not hold the answers of both arms",
            path=folder / "responses.jsonl",
            remedy="make the run folder again with counterclaim audit",
        )
    return records, evidence


def _require(path: Path, row: Json, keys: Sequence[str]) -> None:
    """Raise InputError where a file of the run folder lacks what it must say."""
    missing = [key for key in keys if not isinstance(row, dict) or key not in row]
    if missing:
        raise InputError(
            f"does not say {', '.join(missing)}", path=path, remedy="make the run folder again with counterclaim audit"
        )


# profile --------------------------------------------------------------------------------------------------------


def profile(path: Path, options: Options, same_construct: tuple[tuple[str, ...], ...] = ()) -> dict[str, Json]:
    """The disposition 2×2 of one file with its rates, their intervals, and every check that one file allows.

    Raises:
        InputError: the file cannot be read, or holds no delivery or no correctness.
    """
    imported = importers.load(
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
        **{name: store.rounded(estimate.to_json()) for name, estimate in rates.items()},
        "checks": store.rounded([result.to_json() for result in results]),
        "notes": list(imported.notes),
    }
