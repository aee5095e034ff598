"""Did it move: the paired effect, what the design could have seen, seeds, and how much was looked at."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from counterclaim import stats
from counterclaim.audit.effect import cluster_mean
from counterclaim.audit.evidence import Arm, Evidence
from counterclaim.checks.findings import (
    SETTLE_FIRST,
    conclusion,
    forest,
    how_to_pass,
    needs_two_arms,
    needs_two_sets,
    not_run,
)
from counterclaim.records import Estimate, Json, Outcome
from counterclaim.registry import Finding, Metric, check, metrics
from counterclaim.wording import number, p_value, with_interval

POWER = 0.8


@check(
    "paired-effect",
    group="effect",
    question="How large is the paired difference, against zero and against the margin that matters?",
    must_fail=("null", "wrong_direction", "tiny_effect"),
    must_pass=("clean", "clean_asymmetry"),
)
def paired_effect(evidence: Evidence) -> Finding:
    """PASS: excludes zero in the claimed direction with p <= alpha. FAIL: excludes the margin. Else INCONCLUSIVE."""
    if missing := needs_two_sets(evidence):
        return missing
    claim, effect = evidence.claim, evidence.effect
    p = "" if effect.p is None else f", p = {p_value(effect.p)} ({effect.p_method})"
    if effect.p_range is not None and effect.p_range[0] != effect.p_range[1]:
        p = f", p between {p_value(effect.p_range[0])} and {p_value(effect.p_range[1])} depending on the pairing"
    text = f"{effect.metric} changed by {with_interval(effect.difference)}{p}"
    common: dict[str, Json] = {"estimate": effect.difference, "n": effect.n_paired, "figure": _paired_figure(evidence)}
    concluded = conclusion(evidence, effect)
    word = claim.direction
    if concluded == "for":
        because = f"{text}: the interval excludes zero in the claimed direction ({word})."
        return Finding(Outcome.PASS, because, **common)
    if concluded == "against":
        interval = effect.difference.interval
        wrong = interval is not None and (interval[1] < 0 if claim.sign > 0 else interval[0] > 0)
        where = "on the wrong side of zero" if wrong else f"below the margin {number(claim.margin)} that matters"
        because = f"{text}: the whole interval lies {where} for a claimed {word}."
        return Finding(Outcome.FAIL, because, "Drop the claim, or claim a smaller margin in a new test.", **common)
    interval = effect.difference.interval
    if interval is not None and (interval[0] > 0 if claim.sign > 0 else interval[1] < 0):
        because = f"{text}: suggestive, but not significant at the test level {claim.alpha:g}."
        return Finding(Outcome.INCONCLUSIVE, because, _more_to_find(evidence, interval), **common)
    open_to = "the interval leaves" if interval is not None else "without an interval there is"
    because = f"{text}: {open_to} room for no change and for a change that matters ({number(claim.margin)})."
    return Finding(Outcome.INCONCLUSIVE, because, _more_to_settle(evidence, interval), **common)


def _more_to_settle(evidence: Evidence, interval: tuple[float, float] | None) -> str:
    more = "more prompts"
    if interval is not None:
        more = f"about {_prompts_to_settle(evidence, (interval[1] - interval[0]) / 2)} paired prompts in all"
    return f"Collect {more}: then the interval cannot hold both no change and one that matters."


def _more_to_find(evidence: Evidence, interval: tuple[float, float]) -> str:
    claim, found = evidence.claim, evidence.effect.difference
    assert found.estimate is not None
    sd = _spread(evidence, interval)
    if sd == 0:
        return "Collect more prompts: these leave the spread of the effect unknown."
    many = max(_present(evidence) + 1, stats.n_for(sd, found.estimate, claim.alpha, POWER))
    return (
        f"Collect about {many} paired prompts in all, fixed in advance: if the effect is as large as it seems, four of five "
        f"such studies find it at {claim.alpha:g}. Effects that were noticed because they stood out are often smaller."
    )


def _prompts_to_settle(evidence: Evidence, half: float) -> int:
    return stats.n_to_settle(half, _present(evidence), evidence.claim.margin)


def _spread(evidence: Evidence, interval: tuple[float, float]) -> float:
    """Standard deviation of a prompt's difference, from the interval of their mean."""
    error = (interval[1] - interval[0]) / 2 / float(ndtri((1 + evidence.claim.level) / 2))
    return float(error * _present(evidence) ** 0.5)


def _present(evidence: Evidence) -> int:
    return evidence.effect.n_paired or (evidence.counts.control.n if evidence.counts else 0)


def _paired_figure(evidence: Evidence) -> dict[str, Json] | None:
    if evidence.counts is not None or evidence.metric.kind != "mean":
        return None
    control, treated = evidence.pair
    size = len(evidence.prompt_ids)
    c = cluster_mean(control.values(evidence.metric), control.index, size)
    t = cluster_mean(treated.values(evidence.metric), treated.index, size)
    keep = ~np.isnan(c) & ~np.isnan(t)
    c, t = c[keep], t[keep]
    if len(c) and np.isin(c, (0, 1)).all() and np.isin(t, (0, 1)).all():
        both, neither = int((c * t).sum()), int(((1 - c) * (1 - t)).sum())
        alone = {"only_control": int(c.sum()) - both, "only_treated": int(t.sum()) - both}
        return {"kind": "pairs", "cells": {"both": both, **alone, "neither": neither}}
    shown = np.linspace(0, len(c) - 1, min(len(c), 400)).astype(int) if len(c) else np.array([], dtype=int)
    return {"kind": "paired_values", "control": c[shown].tolist(), "treated": t[shown].tolist()}


@check(
    "power",
    group="effect",
    question="What could this design have detected, and how many prompts would settle the question?",
    must_fail=("underpowered",),
    must_pass=("clean", "null"),
)
def power(evidence: Evidence) -> Finding:
    """INCONCLUSIVE when the interval contains both zero and the margin; always says the minimum detectable effect."""
    if missing := needs_two_sets(evidence):
        return missing
    claim, effect = evidence.claim, evidence.effect
    interval = effect.difference.interval
    if interval is None:
        because = f"The effect has no interval: {effect.difference.reason}."
        return Finding(Outcome.INCONCLUSIVE, because, "Give more scored pairs.", n=effect.n_paired)
    low, high = interval if claim.sign > 0 else (-interval[1], -interval[0])
    half = (high - low) / 2
    n = _present(evidence)
    detectable = stats.mde(_spread(evidence, interval), n, claim.alpha, POWER)
    if not np.isfinite(detectable):
        because = f"{n} paired prompts are too few to find a change of any size."
        return Finding(Outcome.INCONCLUSIVE, because, "Give more scored pairs.", n=n)
    seen = f"With {n} prompts a change of {number(detectable)} would be found {POWER:.0%} of the time at alpha {claim.alpha:g}"
    details: dict[str, Json] = {"minimum_detectable_effect": detectable}
    equivalence = stats.tost(effect.difference, claim.margin)
    if equivalence is not None:
        details["equivalence"] = {"p": equivalence.p, "equivalent": equivalence.equivalent, "margin": claim.margin}
        word = "is" if equivalence.equivalent else "is not"
        seen += f"; equivalence to no change within ±{number(claim.margin)} {word} shown (TOST p = {p_value(equivalence.p)})"
    if low <= 0 and high >= claim.margin:
        needed = _prompts_to_settle(evidence, half)
        details["n_to_settle"] = needed
        because = (
            f"{seen}; the interval contains both zero and the margin {number(claim.margin)}, so this is undecided."
        )
        remedy = f"About {needed} paired prompts would settle it (the interval would be narrower than the margin)."
        return Finding(Outcome.INCONCLUSIVE, because, remedy, n=n, details=details)
    return Finding(Outcome.PASS, f"{seen}; the interval tells zero from the margin.", n=n, details=details)


@check(
    "seeds",
    group="effect",
    question="Does the sign hold over training and sampling seeds, with seed as a random effect?",
    must_fail=("lucky_seed",),
    must_pass=("steady_seeds",),
)
def seeds(evidence: Evidence) -> Finding:
    """PASS when the effect over seeds excludes zero in the claimed direction; FAIL when seeds contradict each other.

    Where all of them sample from one adapter it is WARN at best: training it again may give another. A training seed is
    compared with the whole of a control that has none, whatever the numbers of its sampling seeds.
    """
    if missing := needs_two_arms(evidence):
        return missing
    claim, metric = evidence.claim, evidence.metric
    control, treated = evidence.pair
    names = sorted(set(treated.replicates))
    adapters = {response.model.adapter_hash for response in treated.responses}
    one_adapter = len(adapters) == 1 and None not in adapters
    again = how_to_pass(
        evidence, "every file: --treated SEED1 --treated SEED2 ...",
        "treatment.tune.seeds = [1, 2, 3]" if one_adapter else "decode.seeds = [1, 2, 3]",
    )  # fmt: skip
    if len(names) < 2:
        return not_run(
            "All treated answers come from one seed, and one lucky seed can look like an effect.",
            f"Train or sample again with other seeds, and {again}.",
        )
    everything = np.ones(len(control), dtype=bool)
    paired_seeds = set(control.replicates) == set(names) and _sampled_with(control) == _sampled_with(treated)
    by_seed: dict[str, Estimate] = {}
    z = float(ndtri((1 + claim.level) / 2))
    for name in names:
        own = control.replicates == name if paired_seeds else everything
        difference = evidence.effect_of(metric, keep=(own, treated.replicates == name)).difference
        if difference.interval is not None:
            by_seed[name] = difference
    ends = [each.interval for each in by_seed.values() if each.interval is not None]
    effects = [each.estimate for each in by_seed.values() if each.estimate is not None]
    errors = [(high - low) / (2 * z) for low, high in ends]
    if len(effects) < 2:
        because = "Fewer than two seeds have a defined effect."
        return Finding(Outcome.INCONCLUSIVE, because, "Score more items per seed.")
    # prompts are shared by all seeds, so their part of the error does not shrink with more seeds
    whole = evidence.effect.difference.interval
    shared = (whole[1] - whole[0]) / (2 * z) if whole else float(np.mean(errors))
    pooled = stats.random_effects(np.array(effects), np.array(errors), shared, claim.level)
    strict = stats.random_effects(np.array(effects), np.array(errors), shared, 1 - claim.alpha)
    figure = forest(
        f"change of {metric.name} by seed", [(f"seed {name}", each) for name, each in by_seed.items()],
        margin=claim.sign * claim.margin,
        pooled={"name": "all seeds", "estimate": pooled.estimate, "low": pooled.low, "high": pooled.high},
    )  # fmt: skip
    common: dict[str, Json] = {"estimate": pooled, "n": len(effects), "figure": figure}
    agree = sum(claim.sign * value > 0 for value in effects)
    text = f"{agree} of {len(effects)} seeds move in the claimed direction; over seeds the effect is {with_interval(pooled)}"
    remedy = "Add seeds, and report every one of them."
    interval = strict.interval
    if interval is None:
        return Finding(Outcome.INCONCLUSIVE, f"{text}.", remedy, **common)
    low = interval[0] if claim.sign > 0 else -interval[1]
    if low > 0 and one_adapter:
        outcome = Outcome.INCONCLUSIVE if len(claim.seeds) > 1 else Outcome.WARN
        because = f"{text}; all of them sample from one adapter, and training it again may give another."
        return Finding(outcome, because, f"Train with other seeds, and {again}.", **common)
    if low > 0:
        return Finding(Outcome.PASS, f"{text}.", **common)
    concluded = conclusion(evidence)
    if concluded == "against":
        high = None if pooled.interval is None else claim.sign * pooled.interval[1 if claim.sign > 0 else 0]
        if high is not None and high < claim.margin:
            return Finding(Outcome.PASS, f"{text}: over seeds, too, the margin is excluded.", **common)
        because = f"{text}: prompts alone exclude the margin, but seeds differ too much to do so."
        return Finding(Outcome.INCONCLUSIVE, because, remedy, **common)
    contradicting = any(high < 0 if claim.sign > 0 else low > 0 for low, high in ends)
    if contradicting or (concluded == "for" and agree < len(effects)):
        return Finding(Outcome.FAIL, f"{text}: seeds contradict each other.", remedy, **common)
    return Finding(Outcome.INCONCLUSIVE, f"{text}, which does not exclude zero at the test level.", remedy, **common)


def _sampled_with(arm: Arm) -> dict[str, set[int | None]]:
    """The sampling seeds behind each replicate of an arm."""
    out: dict[str, set[int | None]] = {}
    for response in arm.responses:
        out.setdefault(response.replicate, set()).add(response.decode.seed)
    return out


@check(
    "multiplicity",
    group="effect",
    question="How many metrics, doses, layers or thresholds were looked at, and does the claim survive that?",
    must_fail=("double_dipped",),
    must_pass=("clean",),
)
def multiplicity(evidence: Evidence) -> Finding:
    """FAIL when the target's p, adjusted for everything that was or could have been looked at, exceeds alpha."""
    if missing := needs_two_arms(evidence):
        return missing
    claim, effect = evidence.claim, evidence.effect
    if effect.p is None:
        return not_run(f"The effect has no p-value ({effect.p_method}).", "Give more scored pairs.")
    concluded = conclusion(evidence, effect)
    remedy = "State the one metric before looking (counterclaim claim), or test the chosen one on fresh prompts."
    if claim.looked_at is not None:
        adjusted = min(1.0, effect.p * max(claim.looked_at, 1))
        text = f"{claim.looked_at} comparisons were looked at; adjusted p = {p_value(adjusted)} (Bonferroni)"
        n = claim.looked_at
    else:
        family = _family(evidence)
        values = [evidence.effect_of(metric).p for metric in family]
        known = [1.0 if value is None else value for value in values]
        adjusted = float(stats.holm(known)[0])
        n = len(family)
        text = (
            f"The files hold {n} metrics that could have been claimed; adjusted for all of them p = {p_value(adjusted)} (Holm)"
            if n > 1
            else "The target is the only metric in the files, and the claim does not say how much was looked at"
        )
    if concluded == "against":
        return Finding(Outcome.PASS, f"{text}; there is no apparent effect to explain away.", n=n)
    if concluded == "open":
        because = f"{text}; whether there is an effect is open, so there is nothing to correct yet."
        return Finding(Outcome.INCONCLUSIVE, because, SETTLE_FIRST, n=n)
    if adjusted <= claim.alpha:
        return Finding(Outcome.PASS, f"{text}.", n=n)
    return Finding(Outcome.FAIL, f"{text}, more than alpha {claim.alpha:g}.", remedy, n=n)


def _family(evidence: Evidence) -> list[Metric]:
    """The target first, then every other score that could have been the target, one metric per axis."""
    target = evidence.metric
    others = [
        evidence.metric_named(axis)
        for axis in sorted(evidence.axes)
        if axis not in target.axes and (axis.startswith("score.") or axis in metrics())
    ]
    return [target, *others]
