"""Do labels mean one thing: two scorers for one construct, and items that sit exactly on a threshold."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np

from counterclaim import stats
from counterclaim.audit.evidence import Arm, Evidence
from counterclaim.audit.metrics import Floats, find_axis
from counterclaim.audit.probing import GOOD, POOR, Agreement, BarTest, ProbeResult, Tied
from counterclaim.checks.findings import bars, conclusion, needs_responses, not_run, with_probe
from counterclaim.records import Json, Outcome
from counterclaim.registry import Finding, check
from counterclaim.wording import listing, number, percent, with_interval

THRESHOLD = 0.5  # coverage at which an answer counts as correct (design: measures)
RATING_AT = 4.0  # five-point ratings are binarised at >= 4 (design: measures)
MANY_TIES = 0.1


@check(
    "label-agreement",
    group="ruler",
    question="Do scorers that claim to measure one construct agree, and how far could a gate on one reach?",
    must_fail=("disagreeing_labels",),
    must_pass=("agreeing_labels",),
)
def label_agreement(evidence: Evidence) -> Finding:
    """FAIL when Cohen's kappa lies wholly below 0.4; its estimate is kappa of the worst pair.

    So it does for a second label of a probe's fresh items.
    """
    return with_probe(evidence, _agreement_of_scorers(evidence), second_label_agrees)


def second_label_agrees(result: ProbeResult) -> Finding:
    """Whether a second label of the fresh items agrees with the one that the probe is for."""
    if result.agreement is None:
        return not_run(
            "The fresh items carry one label.",
            "Give another of the same construct: --second-labels FILE:KEY, or same_construct in [pipeline].",
        )
    return _agreement("the second label", "the probe's own label", result.agreement, result.level)


def _agreement_of_scorers(evidence: Evidence) -> Finding:
    if missing := needs_responses(evidence, "how labels agree"):
        return missing
    if not evidence.claim.same_construct:
        return not_run(
            "The claim does not say which labels measure one construct.",
            "Name them, for example --same-construct correct,factual.",
        )
    found = []
    for group in evidence.claim.same_construct:
        axes = []
        for name in group:
            axis = find_axis(name, evidence.axes, shortened=True)
            if axis is None:
                return not_run(
                    f"The results hold no label {name!r}.", f"Name one of {listing(sorted(evidence.axes), 12)}."
                )
            axes.append(axis)
        found += [_agreement_of_axes(evidence, a, b) for a, b in combinations(axes, 2)]
    if not found:
        return not_run("A construct needs two labels.", "Name two or more: --same-construct A,B.")
    return max(found, key=_rank)


def _rank(finding: Finding) -> tuple[int, float]:
    order = [Outcome.PASS, Outcome.WARN, Outcome.INCONCLUSIVE, Outcome.NOT_RUN, Outcome.FAIL]
    kappa = finding.estimate.estimate if finding.estimate and finding.estimate.estimate is not None else 1.0
    return order.index(finding.outcome), -kappa


def _agreement_of_axes(evidence: Evidence, a: str, b: str) -> Finding:
    x, y = (np.concatenate([_binary(arm, axis) for arm in evidence.pair]) for axis in (a, b))
    keep = ~np.isnan(x) & ~np.isnan(y)
    if keep.sum() < 2:
        return not_run(f"No response carries both {a} and {b}.", "Score the same responses with both scorers.")
    table = Agreement.of(x[keep] == 1, y[keep] == 1)
    return replace(_agreement(a, b, table, evidence.claim.level), n_unscored=int((~keep).sum()))


def _agreement(a: str, b: str, found: Agreement, level: float) -> Finding:
    """What labels agree on; rows of the table are ``a``."""
    kappa, ceiling = found.kappa(level), found.ceiling(level).estimate
    top = "" if ceiling is None else f"; a perfect predictor of {a} would reach AUC {ceiling:.2f} on {b}"
    because = f"{a} and {b} agree on {percent(found.share)} of {found.n} responses, Cohen's kappa {with_interval(kappa)}{top}."
    because = because[:1].upper() + because[1:] if a.startswith("the ") else because
    table = [list(row) for row in found.table]
    details: dict[str, Json] = {"axes": [a, b], "agreement": found.share, "ceiling_auc": ceiling, "table": table}
    figure = {
        "kind": "table2x2", "rows": [f"{b} no", f"{b} yes"], "cols": [f"{a} no", f"{a} yes"],
        "arms": [{"name": f"{a} against {b}", "cells": [list(row) for row in zip(*table, strict=True)]}],
    }  # fmt: skip
    common: dict[str, Json] = {"estimate": kappa, "n": found.n, "details": details, "figure": figure}
    remedy = "Decide which label counts before gating on either; have people label a sample of both."
    if kappa.high is not None and kappa.high < POOR:
        return Finding(Outcome.FAIL, because, remedy, **common)
    if kappa.low is not None and kappa.low >= GOOD:
        return Finding(Outcome.PASS, because, **common)
    if kappa.estimate is not None and kappa.estimate < GOOD:
        return Finding(Outcome.WARN, because, remedy, **common)
    return Finding(Outcome.INCONCLUSIVE, because, "Label more responses with both scorers.", **common)


def _binary(arm: Arm, axis: str) -> Floats:
    """An axis as 0/1: 0/1 as it is, fractions at >= 0.5, five-point ratings at >= 4, two labels in sorted order."""
    values = arm.numbers(axis)
    known = values[~np.isnan(values)]
    if len(known):
        cut = 1.0 if np.isin(known, (0, 1)).all() else THRESHOLD if known.min() >= 0 and known.max() <= 1 else RATING_AT
        return np.where(np.isnan(values), np.nan, (values >= cut) * 1.0)
    labels = arm.labels(axis)
    yes = {"true", "yes", "correct", "right", "assert", "pass"}
    top = sorted({v for v in labels if v is not None})[-1:]
    return np.array(
        [
            np.nan if v is None else float(v.lower() in yes or ([v] == top and v.lower() not in {"wrong"}))
            for v in labels
        ]
    )


@check(
    "label-ties",
    group="ruler",
    question="How much of the sample sits exactly at a binarising threshold, and does the result flip between ≥ and >?",
    must_fail=("tied_threshold",),
    must_pass=("clean_asymmetry",),
)
def label_ties(evidence: Evidence) -> Finding:
    """FAIL when counting ties the other way changes what is concluded, of the effect or of a probe on fresh items."""
    return with_probe(evidence, _ties_of_coverage(evidence), ties_of_probe)


def ties_of_probe(result: ProbeResult) -> Finding:
    """Whether counting scores on the threshold as negative, in training and on fresh items, changes what is concluded."""
    found = result.ties
    if found is None:
        return not_run(
            "The labels are not made from a score and a threshold.", "Nothing to do unless they are: --label-threshold."
        )
    n, tied = found.fresh.n, found.fresh.tied + found.train.tied
    share = stats.wilson(found.fresh.tied, n, result.level)
    text = f"Of the fresh items {_tied(found.fresh)}, in training {_tied(found.train)}"
    if found.at_least is None or found.above is None:
        return Finding(Outcome.PASS, f"{text}.", estimate=share, n=n)
    text += (
        f"; the AUC is {with_interval(found.at_least)} with ≥ ({found.n_at_least} positives) and {with_interval(found.above)} "
        f"with > ({found.n_above})"
    )
    bar = result.bars["fresh_auc"]
    before, after = (BarTest.against("fresh_auc", "", auc, bar).passed for auc in (found.at_least, found.above))
    if before is not after:
        return Finding(Outcome.FAIL, f"{text}: the ties decide.", _COUNT_BOTH_WAYS, share, n)
    if tied / (n + found.train.n) > MANY_TIES:
        return Finding(Outcome.WARN, f"{text}.", _COUNT_BOTH_WAYS, share, n)
    return Finding(Outcome.PASS, f"{text}.", estimate=share, n=n)


def _tied(side: Tied) -> str:
    if side.threshold is None:
        return "no score was cut at a threshold"
    return f"{side.tied} of {side.n} ({percent(side.tied / side.n)}) sit exactly at {side.threshold:g}"


_COUNT_BOTH_WAYS = "Use checklists of odd length or a continuous score, and report both ways of counting."


def _ties_of_coverage(evidence: Evidence) -> Finding:
    if missing := needs_responses(evidence, "which items sit on a threshold"):
        return missing
    metric, claim = evidence.metric, evidence.claim
    if "correct" not in metric.axes:
        return not_run(
            f"{metric.name} is not made from a binarised label.", "Nothing to do unless a threshold is used."
        )
    if "coverage" not in evidence.axes:
        return not_run(
            "The files hold no coverage from which 'correct' could have been made.",
            "Nothing to do unless 'correct' is a score above a threshold: then map that score with --map coverage=COLUMN.",
        )
    coverage = [arm.numbers("coverage") for arm in evidence.pair]
    correct = [arm.numbers("correct") for arm in evidence.pair]
    loose = [np.where(np.isnan(x), np.nan, (x >= THRESHOLD) * 1.0) for x in coverage]
    strict = [np.where(np.isnan(x), np.nan, (x > THRESHOLD) * 1.0) for x in coverage]
    both = [~np.isnan(x) & ~np.isnan(y) for x, y in zip(coverage, correct, strict=True)]
    agree = [np.mean((y == z)[k]) if k.any() else 1.0 for y, z, k in zip(correct, loose, both, strict=True)]
    if min(agree) < 0.95:
        return not_run(
            "'correct' is not coverage ≥ 0.5 in these files.", "Nothing to do: correctness has its own oracle."
        )
    n = int(sum(k.sum() for k in both))
    tied = int(sum((x == THRESHOLD).sum() for x in coverage))
    share = stats.wilson(tied, n, claim.level)
    text = f"{tied} of {n} items ({percent(tied / max(n, 1))}) have coverage exactly {THRESHOLD}"
    remedy = _COUNT_BOTH_WAYS
    common: dict[str, Json] = {"estimate": share, "n": n, "figure": _levels(evidence)}
    if len(evidence.pair) == 2:
        a, b = (evidence.effect_of(metric, values=(pair[0], pair[1])) for pair in (loose, strict))
        before, after = (conclusion(evidence, e) for e in (a, b))
        text += f"; the effect is {with_interval(a.difference)} with ≥ and {with_interval(b.difference)} with >"
        flipped = before != after
    else:
        arm = evidence.pair[0]
        accuracy = evidence.metric_named("accuracy")
        rates = [evidence.arm_estimate(accuracy, arm, correct=x[0]) for x in (loose, strict)]
        one, two = rates[0], rates[1].estimate
        text += f"; accuracy is {with_interval(one)} with ≥ and {number(two or 0.0)} with >"
        flipped = two is not None and one.interval is not None and not one.interval[0] <= two <= one.interval[1]
    if flipped and tied:
        return Finding(Outcome.FAIL, f"{text}: the ties decide.", remedy, **common)
    if n and tied / n > MANY_TIES:
        return Finding(Outcome.WARN, f"{text}.", remedy, **common)
    return Finding(Outcome.PASS, f"{text}.", **common)


def _levels(evidence: Evidence) -> dict[str, Json]:
    values = np.concatenate([arm.numbers("coverage") for arm in evidence.pair])
    found, counts = np.unique(np.round(values[~np.isnan(values)], 3), return_counts=True)
    shown = {f"{value:g}": int(count) for value, count in zip(found[:24], counts[:24], strict=True)}
    return bars("items by coverage", shown, int(counts.max()) if len(counts) else 1)
