"""What other arms show: a do-nothing arm, a placebo, a plain system prompt, several doses."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from counterclaim import stats
from counterclaim.audit.effect import SEED, Effect, cluster_mean, cluster_sum
from counterclaim.audit.evidence import Evidence
from counterclaim.audit.metrics import Floats
from counterclaim.checks.findings import conclusion, forest, how_to_pass, needs_two_arms, not_run
from counterclaim.records import (
    CONTROL,
    DO_NOTHING,
    DOSE_PREFIX,
    PLACEBO,
    PROMPT_BASELINE,
    TREATED,
    ArmId,
    Estimate,
    Json,
    Outcome,
    Response,
)
from counterclaim.registry import Finding, check
from counterclaim.wording import percent, with_interval


@check(
    "identity",
    group="ruler",
    question="Does the do-nothing arm (dose 0, disabled adapter) reproduce the baseline within its noise?",
    must_fail=("identity_drift", "same_file_twice"),
    must_pass=("with_do_nothing",),
)
def identity(evidence: Evidence) -> Finding:
    """FAIL when doing nothing moves the metric, or when the treated answers are the control answers."""
    if missing := needs_two_arms(evidence):
        return missing
    control, treated = (
        {s["sha256"] for s in evidence.sources if s["arm"] == arm.name and "sha256" in s} for arm in (CONTROL, TREATED)
    )
    if control & treated:
        because = "The same file was given for both arms, byte for byte."
        return Finding(Outcome.FAIL, because, "Give the treated arm's own results.", n=evidence.pairing["paired"])
    same, n = _identical(evidence, TREATED)
    if n and same == n:
        because = f"All {n} treated answers equal the control answers: the treatment did nothing, or one file was given twice."
        remedy = (
            "Check that the adapter or edit was active when the treated arm was generated, and which file is which."
        )
        return Finding(Outcome.FAIL, because, remedy, n=n)
    if DO_NOTHING not in evidence.arms:
        how = f"Answer the prompts with the edit at dose 0 and {_pass_arm(evidence, DO_NOTHING)}."
        return _second_answers(evidence) or not_run("There is no do-nothing arm.", how)
    claim = evidence.claim
    drift, effect = evidence.effect_of(evidence.metric, treated=DO_NOTHING), evidence.effect
    copies, pairs = _identical(evidence, DO_NOTHING, least=1)
    text = f"The do-nothing arm differs from control by {with_interval(drift.difference)}"
    if pairs:
        text += f" ({percent(copies / pairs)} of its answers are word for word the same)"
    common: dict[str, Json] = {
        "estimate": drift.difference,
        "n": drift.n_paired,
        "figure": _changes(evidence, {DO_NOTHING: drift, TREATED: effect}),
    }
    remedy = (
        "Find what else changed between the two runs (budget, template, judge, library), fix it, and run both again."
    )
    if pairs and copies == pairs:
        because = f"All {pairs} answers of the do-nothing arm equal the control's, word for word."
        return Finding(Outcome.PASS, because, **common)
    interval, moved = drift.difference.interval, drift.difference.estimate
    if interval is None or moved is None:
        return Finding(Outcome.INCONCLUSIVE, f"{text}.", remedy, **common)
    excludes_zero = drift.p is not None and drift.p <= claim.alpha
    if excludes_zero or abs(moved) >= max(claim.margin, abs(effect.difference.estimate or 0.0)):
        return Finding(Outcome.FAIL, f"{text}: doing nothing moved the metric.", remedy, **common)
    if -claim.margin < interval[0] and interval[1] < claim.margin:
        return Finding(Outcome.PASS, f"{text}, within the margin.", **common)
    return Finding(Outcome.INCONCLUSIVE, f"{text}; this is not shown to lie within the margin.", remedy, **common)


_HALF = ArmId("dose", 0.5)


def _pass_arm(evidence: Evidence, arm: ArmId) -> str:
    """How to provide an arm; a study whose treatment is an operator makes some of them by itself."""
    table = f'[arms."{arm}"]'
    if setting := {DO_NOTHING: "doses = [0]", PLACEBO: "placebo = true", _HALF: "doses = [0.5]"}.get(arm):
        table += f", or {setting} in the operator's own table ([treatment.tune], …),"
    return how_to_pass(evidence, f"--arm {arm}=FILE", table)


def _second_answers(evidence: Evidence) -> Finding | None:
    """WARN when a file answers some of its prompts a second time, and differently."""
    found = [(s["arm"], *s["second_answers"]) for s in evidence.sources if s.get("second_answers")]
    if not any(differ for _, _, differ in found):
        return None
    counts = " and ".join(f"{differ} of {again} in {arm}" for arm, again, differ in found)
    because = (
        f"The files answer some prompts twice, and the second answers differ ({counts}): they do not come from one "
        "deterministic run, so even doing nothing changes answers by an unknown amount."
    )
    how = f"answer the prompts once more with the untreated model and {_pass_arm(evidence, DO_NOTHING)}"
    return Finding(Outcome.WARN, because, f"Measure that noise: {how}.", n=sum(again for _, again, _ in found))


def _identical(evidence: Evidence, name: ArmId, least: int = 20) -> tuple[int, int]:
    """How many answers of an arm equal the control's answer to the same prompt and sample, and how many pairs.

    Of several fits of one arm, each is compared with the control: their samples are numbered one after the other.
    """
    first: dict[tuple[str | None, ...], int] = {}
    for r in evidence.arms[name].responses:
        first[_fit(r)] = min(r.sample, first.get(_fit(r), r.sample))
    shift = first if len(first) > 1 else {}
    own = {(r.prompt_id, r.sample): r.text for r in evidence.control.responses if r.text is not None}
    pairs = [
        (own[key], r.text)
        for r in evidence.arms[name].responses
        if r.text is not None and (key := (r.prompt_id, r.sample - shift.get(_fit(r), 0))) in own
    ]
    # a handful of equal short answers is what two models that are both right look like
    if sum(len(text) for text, _ in pairs) < least * len(pairs):
        return 0, 0
    return sum(a == b for a, b in pairs), len(pairs)


def _fit(response: Response) -> tuple[str | None, ...]:
    """What tells the fits of one arm apart."""
    return response.model.adapter_hash, response.model.operator_hash


@check(
    "placebo",
    group="effect",
    question="Does the same procedure on shuffled labels, random heads or random directions give the same effect?",
    must_fail=("placebo_equal",),
    must_pass=("with_placebo",),
)
def placebo(evidence: Evidence) -> Finding:
    """FAIL when the treatment is not shown to beat its own placebo and the placebo moves the metric by itself."""
    return _against(evidence, PLACEBO, "the placebo", "Train or edit with shuffled labels")


@check(
    "prompt-baseline",
    group="effect",
    question="Does a one-line system prompt do as much?",
    must_fail=("prompt_does_it",),
    must_pass=("with_weak_prompt",),
)
def prompt_baseline(evidence: Evidence) -> Finding:
    """FAIL when a system prompt alone does as much as the treatment."""
    how = "Answer the prompts with the base model and a system prompt"
    return _against(evidence, PROMPT_BASELINE, "a one-line system prompt", how)


def _against(evidence: Evidence, name: ArmId, what: str, how: str) -> Finding:
    if missing := needs_two_arms(evidence):
        return missing
    if name not in evidence.arms:
        return not_run(f"There is no {name} arm.", f"{how} and {_pass_arm(evidence, name)}.")
    alone = evidence.effect_of(evidence.metric, treated=name)
    beyond = evidence.effect_of(evidence.metric, control=name, treated=TREATED)
    text = (
        f"{what[0].upper()}{what[1:]} moves {alone.metric} by {with_interval(alone.difference)}; "
        f"the treatment adds {with_interval(beyond.difference)}"
    )
    common: dict[str, Json] = {
        "estimate": beyond.difference, "n": beyond.n_paired,
        "figure": _changes(evidence, {name: alone, TREATED: evidence.effect}),
    }  # fmt: skip
    concluded = conclusion(evidence, beyond)
    if concluded == "for":
        return Finding(Outcome.PASS, f"{text}.", **common)
    remedy = f"Claim only what the treatment does beyond {what}."
    if concluded == "against" or conclusion(evidence, alone) == "for":
        return Finding(Outcome.FAIL, f"{text}: this is not shown to come from the treatment itself.", remedy, **common)
    return Finding(Outcome.INCONCLUSIVE, f"{text}, which is too uncertain to tell them apart.", remedy, **common)


def _changes(evidence: Evidence, effects: dict[ArmId, Effect]) -> dict[str, Json]:
    rows = [(str(arm), effect.difference) for arm, effect in effects.items()]
    margin = evidence.claim.sign * evidence.claim.margin
    return forest(f"change of {evidence.metric.name} from control", rows, margin=margin)


@check(
    "dose-response",
    group="effect",
    question="Is the effect monotone in the dose?",
    must_fail=("dose_flat", "dose_flat_asymmetry"),
    must_pass=("dose_rising", "dose_half"),
)
def dose_response(evidence: Evidence) -> Finding:
    """PASS when the metric rises with the dose (slope over prompts) and no larger dose falls behind a smaller.

    The treated arm counts as the dose of its operator or its adapter, where no dose arm has that dose; control is dose 0.
    """
    if missing := needs_two_arms(evidence):
        return missing
    doses: dict[float, ArmId] = {}
    for arm in evidence.arms:
        if arm.is_base and arm.name.startswith(DOSE_PREFIX):
            return not_run(f"The arm {arm} has no number in its name.", "Name dose arms like dose:0.5.")
        if arm.is_base and arm.dose is not None:
            doses[arm.dose] = arm
    models = {response.model for response in evidence.treated.responses}
    whole = {model.adapter_dose if model.operator is None else model.operator_dose for model in models}
    if doses and len(whole) == 1 and (own := whole.pop()) is not None:
        doses.setdefault(own, TREATED)
    if sum(dose != 0 for dose in doses) < 2:
        how = f"Generate at least two doses, and {_pass_arm(evidence, _HALF)}."
        return not_run("There are fewer than two doses.", how)
    metric, claim = evidence.metric, evidence.claim
    steps = sorted({0.0: CONTROL, **doses}.items(), key=lambda step: step[0])
    reach = steps[-1][0] - steps[0][0]
    common: dict[str, Json] = {"n": len(steps), "figure": _dose_figure(evidence, steps)}
    remedy = "Add doses and seeds; an effect that comes and goes with the dose is likely noise."
    for (_, lower), (_, higher) in pairwise(steps[1:]):
        step = evidence.effect_of(metric, control=lower, treated=higher)
        interval = step.difference.interval
        back = interval is not None and (interval[1] < 0 if claim.sign > 0 else interval[0] > 0)
        if back and step.p is not None and step.p <= claim.alpha / max(len(steps) - 2, 1):
            because = (
                f"The effect falls from {lower} to {higher} by {with_interval(step.difference)}: it is not monotone."
            )
            return Finding(Outcome.FAIL, because, remedy, estimate=step.difference, **common)
    slope = _slope(evidence, steps)
    text = f"Per unit of dose {metric.name} changes by {with_interval(slope)}"
    if slope.interval is None:
        return Finding(Outcome.INCONCLUSIVE, f"{text}.", remedy, estimate=slope, **common)
    low, high = slope.interval if claim.sign > 0 else (-slope.interval[1], -slope.interval[0])
    if low > 0:
        return Finding(Outcome.PASS, f"{text}, in the claimed direction.", estimate=slope, **common)
    if high < claim.margin / reach:
        because = f"{text}: over the whole range of doses that is less than the margin."
        return Finding(Outcome.FAIL, because, remedy, estimate=slope, **common)
    return Finding(Outcome.INCONCLUSIVE, f"{text}, which does not exclude zero.", remedy, estimate=slope, **common)


def _slope(evidence: Evidence, steps: list[tuple[float, ArmId]]) -> Estimate:
    """Least-squares slope of the metric over doses, on the prompts that every dose answered.

    A mean has one slope for each prompt, and a t interval over them; a ratio is taken over all prompts at each dose, and
    prompts are resampled. For an AUC it is the slope from the smallest dose to the largest.
    """
    metric, size, level = evidence.metric, len(evidence.prompt_ids), evidence.claim.level
    dose = np.array([dose for dose, _ in steps])
    arms = [evidence.arms[name] for _, name in steps]
    weights = (dose - dose.mean()) / ((dose - dose.mean()) @ (dose - dose.mean()))
    if metric.kind == "mean":
        means = np.stack([cluster_mean(arm.values(metric), arm.index, size) for arm in arms])
        return stats.paired_mean(weights @ means[:, ~np.isnan(means).any(axis=0)], level)
    if metric.kind == "ratio":
        statistic = metric.statistic
        assert statistic is not None
        cells = np.stack([cluster_sum(arm.cells(metric=metric), arm.index, size) for arm in arms], axis=1)
        cells = cells[(cells.sum(axis=2) > 0).all(axis=1)]

        def slope(sums: Floats) -> Floats:
            return np.asarray(statistic(sums.reshape(*sums.shape[:-1], len(steps), 4)) @ weights, dtype=np.float64)

        return stats.bootstrap_counts(cells.reshape(len(cells), -1), slope, level, evidence.draws, SEED)
    ends = evidence.effect_of(metric, control=steps[0][1], treated=steps[-1][1]).difference
    if ends.estimate is None or ends.interval is None:
        return ends
    low, high = (end / float(np.ptp(dose)) for end in ends.interval)
    return replace(ends, estimate=ends.estimate / float(np.ptp(dose)), low=low, high=high)


def _dose_figure(evidence: Evidence, steps: list[tuple[float, ArmId]]) -> dict[str, Json] | None:
    """The change from control by dose; at dose 0 that of the do-nothing arm, where there is one."""
    points = []
    for dose, name in steps:
        if name == CONTROL and DO_NOTHING not in evidence.arms:
            points.append((dose, 0.0, 0.0, 0.0))
            continue
        change = evidence.effect_of(evidence.metric, treated=DO_NOTHING if name == CONTROL else name).difference
        if change.estimate is not None and change.interval is not None:
            points.append((dose, change.estimate, *change.interval))
    x, y, low, high = (list(column) for column in zip(*points, strict=True)) if points else ([], [], [], [])
    series = [{"name": evidence.metric.name, "x": x, "y": y, "low": low, "high": high}]
    return {"kind": "lines", "xlabel": "dose", "ylabel": "change from control", "series": series} if points else None
