"""One study of a series: run it, and say what came of it beside what would have been said without an audit."""

from __future__ import annotations

import math
import time
from pathlib import Path

from counterclaim import folder as store
from counterclaim.audit.evidence import Evidence
from counterclaim.audit.intake import evidence_of
from counterclaim.audit.judging import Judged
from counterclaim.lab.answers import Progress
from counterclaim.lab.config import Chapter, Reported
from counterclaim.lab.run import run_study
from counterclaim.lab.suite.naive import PROTOCOLS, naive_test
from counterclaim.records import CONTROL, Json
from counterclaim.report import probe_figures

STEPS = "steps"
"""In place of a check's name: the picture of the five steps."""


def run_chapter(chapter: Chapter, folder: Path, watchers: Progress, *, overwrite: bool = False) -> dict[str, Json]:
    """Run a study, from nothing or from where it stopped, and tell what came of it.

    Args:
        chapter: the study.
        folder: its run folder.
        watchers: called with how far things are.
        overwrite: replace another study in the folder.

    Raises:
        InputError: something in the study file cannot be used, or the folder holds something else.
        ModelError: a model cannot be used.
        BudgetSpent: the budget for tokens or money is used up; a rerun goes on from there.
    """
    began = time.monotonic()
    judged = run_study(chapter.plan, folder, watchers, overwrite=overwrite)
    evidence = evidence_of(store.read_run(folder))
    row: dict[str, Json] = {
        **described(chapter),
        **{key: judged.verdict[key] for key in ("verdict", "because", "decided_by", "status", "effect", "guards")},
        "naive": _naive(evidence),
        "instead": _instead(chapter, evidence),
        "figure": _figure(chapter, judged),
        "seconds": round(time.monotonic() - began, 1),
    }
    row["as_expected"] = not chapter.expected or row["verdict"] in row["expected"]
    return row


def described(chapter: Chapter) -> dict[str, Json]:
    """What is known of a study before it is run."""
    return {
        "name": chapter.name,
        "arc": chapter.arc,
        "claim": chapter.claim,
        "expected": sorted(str(word) for word in chapter.expected),
        "in_short": chapter.in_short,
        "truth": chapter.because,
        "lesson": chapter.lesson,
        "paper": chapter.paper,
        "reported": [_reported(number) for number in chapter.numbers],
        "run": chapter.name,
    }


def _reported(reported: Reported) -> dict[str, Json]:
    return {"id": reported.id, "claim": reported.claim, "found": reported.found, "note": reported.note}


def _naive(evidence: Evidence) -> dict[str, Json]:
    """What a comparison of two means reports, and which of the naive protocols would have believed the claim."""
    difference, p = naive_test(evidence)
    cv = None if evidence.probing is None else evidence.probing.reading.cv_auc
    return {
        "difference": None if math.isnan(difference) else difference,
        "p": None if math.isnan(p) else p,
        "cv_auc": None if cv is None else cv.mean,
        **{name: protocol(evidence) for name, protocol in PROTOCOLS.items()},
    }


def _instead(chapter: Chapter, evidence: Evidence) -> list[dict[str, Json]]:
    """What a system prompt alone does, for every arm that differs from control in nothing else."""
    control = chapter.plan.arms[0]
    found = []
    for arm in chapter.plan.arms[2:]:
        prompt = arm.decode.system_prompt
        if arm.change is None and arm.model == control.model and prompt and prompt != control.decode.system_prompt:
            difference = evidence.effect_of(evidence.metric, control=CONTROL, treated=arm.id).difference
            found.append({"arm": arm.name, "system_prompt": prompt, "difference": difference.to_json()})
    return found


def _figure(chapter: Chapter, judged: Judged) -> Json:
    """The picture that shows what happened: a check's, the five steps of a probe, or the effect's interval."""
    if chapter.figure == STEPS:
        return next((figure for figure, _ in probe_figures(judged.page)), None)
    of_check = next((row.get("figure") for row in judged.checks if row["check"] == chapter.figure), None)
    if of_check is not None:
        return of_check
    effect = judged.verdict["effect"]
    difference = effect["difference"]
    return {
        "kind": "interval", "estimate": difference["estimate"], "low": difference["low"], "high": difference["high"],
        "zero": 0, "margin": effect["margin"], "direction": -1 if effect["direction"] == "decrease" else 1,
        "label": f"change of {effect['metric']}, treated minus control",
    }  # fmt: skip
