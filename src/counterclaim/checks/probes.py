"""Does a probe transfer: to fresh prompts, other axes, other layers, another model family.

``lab.probing`` fits and tests; checks read its ``ProbeResult`` and fit nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from counterclaim.audit.evidence import Evidence
from counterclaim.audit.probing import BarTest, ProbeResult
from counterclaim.checks.findings import conclusion, needs_two_arms, not_run
from counterclaim.records import Json, Outcome
from counterclaim.registry import Finding, check
from counterclaim.wording import number, with_interval

NO_FRESH = (
    "There are no fresh items.",
    "Give them with --fresh and --fresh-labels; cross-validation by itself supports no claim.",
)
_NO_PROBE = ("The claim is not about a probe.", "Nothing to do for this claim.")


def _texts(tests: Iterable[BarTest]) -> str:
    return "; ".join(test.said for test in tests) + "."


def _sentence(tests: Iterable[BarTest]) -> str:
    text = _texts(tests)
    return f"{text[:1].upper()}{text[1:]}"


@check(
    "fresh",
    group="transfer",
    question="Does it hold on prompts written independently, after the claim was fixed?",
    must_fail=("probe_forgets", "effect_forgets"),
    must_pass=("probe_holds", "effect_holds"),
)
def fresh(evidence: Evidence) -> Finding:
    """FAIL when a probe's fresh numbers, or the effect on fresh prompts, exclude what has to be reached; INCONCLUSIVE where they do not settle it; WARN when a probe meets its bars on prompts that are only held out."""
    if evidence.probing is None:
        return _effect_on_fresh(evidence)
    found = probe_on_fresh(evidence.probing)
    own = sorted({evidence.prompts[r.prompt_id].split for arm in evidence.pair[:1] for r in arm.responses} - {"fresh"})
    if found.outcome is not Outcome.PASS or not own:
        return found
    because = f"{found.because} They are of the split {' and '.join(own)}, not known to be written by another author."
    remedy = "If they were, put them into the split fresh; else let another model write some with `counterclaim fresh`."
    return Finding(Outcome.WARN, because, remedy, found.estimate, found.n)


def probe_on_fresh(result: ProbeResult) -> Finding:
    """Whether a probe meets its bars on fresh items, after it met them in training."""
    outside, before = result.on_fresh, result.in_training.tests[0]
    if outside is None:
        return not_run(*NO_FRESH)
    auc = outside.tests[0].estimate
    trained = f"In training {before.said}."
    if outside.passed is False:
        missed = [test for test in outside.tests if test.passed is False]
        why = "".join(f" {mode.mode.capitalize()}: {mode.because}" for mode in result.taxonomy[:2])
        remedy = "Use this probe on prompts like its training prompts only, or train it on prompts of several authors."
        return Finding(Outcome.FAIL, f"{_sentence(missed)} {trained}{why}", remedy, auc, auc.n)
    if outside.passed is None:
        unsettled = [test for test in outside.tests if test.passed is None]
        remedy = "Answer more fresh prompts, especially ones that give the rarer class."
        return Finding(Outcome.INCONCLUSIVE, f"{_sentence(unsettled)} {outside.power}", remedy, auc, auc.n)
    if before.passed is not True:
        because = f"{_sentence(outside.tests[:1])} {trained} A probe that is good on fresh answers alone was probably chosen on them."
        remedy = "Choose layer, position and penalty by cross-validation in training, and test on other fresh prompts."
        return Finding(Outcome.INCONCLUSIVE, because, remedy, auc, auc.n)
    return Finding(Outcome.PASS, f"{_sentence(outside.tests)} {trained}", estimate=auc, n=auc.n)


def _effect_on_fresh(evidence: Evidence) -> Finding:
    if missing := needs_two_arms(evidence):
        return missing
    control, treated = (
        np.array([evidence.prompts[r.prompt_id].split == "fresh" for r in arm.responses]) for arm in evidence.pair
    )
    if not control.any() and not treated.any():
        return not_run(
            "No prompt is marked as written independently of the training prompts.",
            "Let another model write some with `counterclaim fresh`, and answer them too (split fresh).",
        )
    if control.all() and treated.all():
        n = evidence.effect.n_paired
        return Finding(Outcome.PASS, f"All {n} paired prompts are fresh, so the effect itself is the test.", n=n)
    effect = evidence.effect_of(evidence.metric, keep=(control, treated))
    text = f"On the {effect.n_paired} fresh prompts alone the difference is {with_interval(effect.difference)}"
    common: dict[str, Json] = {"estimate": effect.difference, "n": effect.n_paired}
    concluded = conclusion(evidence, effect)
    if concluded == "against":
        because = f"{text}, below the margin of {number(evidence.claim.margin)}."
        return Finding(Outcome.FAIL, because, "Claim the effect for prompts like the others only.", **common)
    if concluded == "open":
        return Finding(Outcome.INCONCLUSIVE, f"{text}, which settles nothing.", "Answer more fresh prompts.", **common)
    return Finding(Outcome.PASS, f"{text}.", **common)


@check(
    "axes",
    group="transfer",
    question="Does each axis transfer, and are the axes distinct?",
    must_fail=("axes_forget",),
    must_pass=("probe_holds",),
)
def axes(evidence: Evidence) -> Finding:
    """FAIL when the claim's own axis, or half of all axes, exclude the bar on fresh prompts; WARN when another one does, there or in training, or two are one."""
    probing = evidence.probing
    if probing is None:
        return not_run(*_NO_PROBE)
    third = probing.steps[2]
    if not third.tests:
        return not_run(
            "The probe reads one axis only.", "Name others under axes in the table [pipeline] of the study file."
        )
    transfer = {test.axis: test for test in third.tests if test.of == "axis_transfer"}
    lost = [axis for axis, test in transfer.items() if test.passed is False]
    untrained = [test for test in third.tests if test.of == "axis_cv" and test.passed is False]
    unsettled = [test for test in third.tests if test.passed is None]
    same = [test for test in third.tests if test.of == "axis_correlation" and test.passed is False]
    text = _texts([*(transfer[axis] for axis in lost), *untrained, *same])
    n = max(test.estimate.n for test in transfer.values())
    if probing.cohort in lost or 2 * len(lost) >= len(transfer):
        because = f"{len(lost)} of {len(transfer)} axes do not transfer to fresh prompts: {text}"
        return Finding(Outcome.FAIL, because, "Claim only the axes that transfer.", n=n)
    if lost or untrained or same:
        remedy = "Claim only axes that transfer, and each of them once."
        return Finding(Outcome.WARN, f"Not every axis transfers and is distinct: {text}", remedy, n=n)
    if unsettled:
        because = (
            f"{len(unsettled)} of {len(third.tests)} numbers are not settled: {_texts(unsettled[:3])} {third.power}"
        )
        return Finding(Outcome.INCONCLUSIVE, because, "Label more answers on these axes.", n=n)
    because = f"All {len(transfer)} axes hold in training and on fresh prompts, and all are distinct."
    return Finding(Outcome.PASS, because, n=n)


@check(
    "layers",
    group="transfer",
    question="Does another layer or pooling change the answer?",
    must_fail=("lucky_layer",),
    must_pass=("probe_holds",),
)
def layers(evidence: Evidence) -> Finding:
    """FAIL when most other readings miss the bar that the claimed one meets and correction for their number leaves nothing of it.

    WARN when only most others miss it, or when the claimed one misses it and another does not.
    """
    probing = evidence.probing
    if probing is None:
        return not_run(*_NO_PROBE)
    fourth = probing.steps[3]
    claimed, *others = [row for row in fourth.rows if row.fresh_auc is not None]
    area, p = claimed.fresh_auc, claimed.fresh_p_holm
    if not others or area is None:
        return not_run(
            "No other layer, position or classifier was tried.",
            "Name layers, positions or classifiers in the table [pipeline] of the study file.",
        )
    if area.estimate is None or p is None:
        because = f"On fresh prompts no reading can be told from another: {area.reason}."
        return Finding(Outcome.INCONCLUSIVE, because, "Answer fresh prompts that give both classes.", n=area.n)
    met = sum(row.passed is True for row in others)
    text = (
        f"The claimed reading has AUC {with_interval(area)} on fresh prompts (p = {p:.2g} after correction for "
        f"{len(others) + 1} readings), and {met} of {len(others)} others meet the bar"
    )
    common: dict[str, Json] = {"estimate": area, "n": area.n}
    if claimed.passed is True:
        if 2 * met >= len(others):
            return Finding(Outcome.PASS, f"{text}.", **common)
        if p > evidence.claim.alpha:
            because = f"{text}: the best of {len(others) + 1} would do as well by luck."
            return Finding(Outcome.FAIL, because, "Choose the reading in training, and test that one.", **common)
        remedy = "Say for which layer and position the claim holds."
        return Finding(Outcome.WARN, f"{text}. {fourth.because}", remedy, **common)
    if met:
        remedy = "Choose the reading by cross-validation in training, freeze it, and test it on other fresh prompts."
        return Finding(Outcome.WARN, f"{text}. {fourth.because}", remedy, **common)
    if claimed.passed is None:
        return Finding(Outcome.INCONCLUSIVE, f"{text}. {fourth.power}", "Answer more fresh prompts.", **common)
    return Finding(Outcome.PASS, f"{text}: another reading does not change the answer.", **common)


@check(
    "models",
    group="transfer",
    question="Does it hold on a second model family?",
    must_fail=("one_family",),
    must_pass=("probe_holds",),
)
def models(evidence: Evidence) -> Finding:
    """FAIL when the second model excludes a bar, INCONCLUSIVE where it settles nothing; WARN when it holds there alone."""
    probing = evidence.probing
    if probing is None:
        return not_run(*_NO_PROBE)
    fifth, outside = probing.steps[4], probing.on_fresh
    if not fifth.tests:
        return not_run(
            "The probe was tried on one model only.", "Name a model of another family with second_model in [pipeline]."
        )
    area = next(test.estimate for test in fifth.tests if test.of == "fresh_auc")
    if fifth.passed is not True:
        tests = "; ".join(test.said for test in fifth.tests if test.passed is fifth.passed)
        text = f"On {probing.second_model}: {tests}."
        if fifth.passed is False:
            remedy = "Claim it for the first model only, and say that it fails on another."
            return Finding(Outcome.FAIL, text, remedy, area, area.n)
        return Finding(Outcome.INCONCLUSIVE, f"{text} {fifth.power}", "Label more of its answers.", area, area.n)
    if outside is None or outside.passed is not True:
        because = f"{fifth.because} It does not on {probing.model}."
        return Finding(Outcome.WARN, because, "Find out what the second model has that the first lacks.", area, area.n)
    return Finding(Outcome.PASS, fifth.because, estimate=area, n=area.n)
