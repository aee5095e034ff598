"""What did it break: capability, mere mimicry of style, a global switch instead of judgement, collapsed answers."""

from __future__ import annotations

from typing import Literal

import numpy as np

from counterclaim import stats
from counterclaim.checks.wording import listing, needs_two_arms, not_run, number, percent, with_interval
from counterclaim.effect import cluster_mean
from counterclaim.evidence import Arm, Evidence
from counterclaim.metrics import Floats, Metric
from counterclaim.records import Guard, Json, Outcome
from counterclaim.registry import Finding, check
from counterclaim.text import STYLE_FEATURES, split_think, style, words_of

ANCHOR_LOSS = 0.05  # loss of a capability anchor that nobody declared but that is in the files
MOST_TEXTS = 4_000
COLLAPSED = 2 / 3
FEWEST_MOVED = 5  # a style measure that changed on fewer pairs has a slope of a few answers, not of a style

GuardOutcome = tuple[Guard, Metric, Outcome, str]


def guards(evidence: Evidence) -> list[Guard]:
    """The declared guards, or the capability anchor in the files when none was declared and it is not the target."""
    if evidence.claim.guards or len(evidence.pair) < 2:
        return list(evidence.claim.guards)
    for name in ("correct", "coverage"):
        if name in evidence.axes and evidence.metric.axes[0] not in ("correct", "coverage"):
            return [Guard(name, ANCHOR_LOSS)]
        if name in evidence.axes and evidence.metric.kind == "ratio":
            return [Guard("accuracy" if name == "correct" else name, ANCHOR_LOSS)]
    return []


@check(
    "content",
    group="cost",
    question="Is capability kept within the allowed loss (non-inferiority)?",
    must_fail=("content_loss",),
    must_pass=("clean_guarded",),
)
def content(evidence: Evidence) -> Finding:
    """PASS when every guard's interval excludes a loss beyond what is allowed; FAIL when one shows such a loss."""
    if missing := needs_two_arms(evidence):
        return missing
    watched = guards(evidence)
    if not watched:
        return not_run(
            "No guard was stated and the files hold no capability score beside the target.",
            "State what must not be lost beside the target: --guard NAME=ALLOWED_LOSS, for a score that both files hold.",
        )
    told, rows, outcomes = [], [], []
    worst = None
    for guard in watched:
        metric = evidence.metric_named(guard.metric)
        difference = evidence.effect_of(metric).difference
        outcome = _loss(guard.better, guard.allowed, difference.interval)
        outcomes.append(outcome)
        word = {Outcome.PASS: "kept", Outcome.FAIL: "lost"}.get(outcome, "not shown to be kept")
        told.append(f"{guard.metric} {with_interval(difference)} ({word}; allowed loss {number(guard.allowed)})")
        rows.append({"name": guard.metric, **{k: getattr(difference, k) for k in ("estimate", "low", "high")}})
        if worst is None or _severity(outcome) > _severity(worst[0]):
            worst = (outcome, difference, evidence.effect_of(metric).n_paired)
    assert worst is not None
    figure = {
        "kind": "forest",
        "label": "change of what must not be lost",
        "rows": rows,
        "pooled": None,
        "margin": None,
    }
    declared = bool(evidence.claim.guards)
    because = (
        f"{listing(told, 4)}{'' if declared else ' — no guard was declared, so the files’ own anchor was watched'}."
    )
    common: dict[str, Json] = {"estimate": worst[1], "n": worst[2], "figure": figure}
    if worst[0] is Outcome.FAIL:
        return Finding(
            Outcome.FAIL, because, "The change costs more than was allowed: say so, or reduce the dose.", **common
        )
    if worst[0] is Outcome.INCONCLUSIVE:
        outcome = Outcome.INCONCLUSIVE if declared else Outcome.WARN
        return Finding(
            outcome, because, "Collect more prompts, so that the loss can be told from what is allowed.", **common
        )
    return Finding(Outcome.PASS, because, **common)


def _severity(outcome: Outcome) -> int:
    return (Outcome.PASS, Outcome.INCONCLUSIVE, Outcome.FAIL).index(outcome)


def _loss(better: Literal["higher", "lower"], allowed: float, interval: tuple[float, float] | None) -> Outcome:
    if interval is None:
        return Outcome.INCONCLUSIVE
    low, high = (-interval[1], -interval[0]) if better == "higher" else interval
    return Outcome.FAIL if low > allowed else Outcome.PASS if high < allowed else Outcome.INCONCLUSIVE


@check(
    "mimicry",
    group="cost",
    question="Is the change explained by style alone (length, openers, hedges, headings)?",
    must_fail=("style_only",),
    must_pass=("clean", "null"),
)
def mimicry(evidence: Evidence) -> Finding:
    """FAIL when the effect vanishes at equal style: paired score differences regressed on paired style differences."""
    if missing := needs_two_arms(evidence):
        return missing
    metric, claim = evidence.metric, evidence.claim
    if metric.kind != "mean" or "delivery" in metric.axes:
        return not_run(
            f"{metric.name} is about form itself.", "The check uniformity asks whether form follows content."
        )
    said = evidence.effect.conclusion(claim.sign, claim.margin, claim.alpha)
    if said != "for":
        n = evidence.effect.n_paired
        if said == "against":
            return Finding(Outcome.PASS, "There is no apparent effect that style could explain.", n=n)
        because = "Whether there is an effect is open, so there is none yet for style to explain."
        return Finding(
            Outcome.INCONCLUSIVE,
            because,
            "Settle the effect first: the check paired-effect says how many prompts that takes.",
            n=n,
        )
    table = _paired_style(evidence, metric)
    if table is None:
        return not_run("The files keep no response texts.", "Map the text column with --map response=COLUMN.")
    d, x, names = table
    if len(d) < max(40, 3 * len(names)) or not names:
        return not_run(f"{len(d)} paired texts are too few to adjust for style.", "Give at least 40 paired responses.")
    adjusted, slopes, r2 = stats.ancova(d, x, claim.level)
    raw = float(d.mean())
    r2_adjusted = 1 - (1 - r2) * (len(d) - 1) / max(len(d) - len(names) - 1, 1)
    parts = slopes * x.mean(axis=0)
    order = np.argsort(-np.abs(parts))[:6]
    figure: dict[str, Json] = {
        "kind": "bars", "label": "part of the change that goes with a change of style",
        "rows": [{"name": names[i], "value": float(parts[i])} for i in order],
        "max": max(float(np.abs(parts).max()), abs(raw)),
    }  # fmt: skip
    common: dict[str, Json] = {"estimate": adjusted, "n": len(d), "figure": figure}
    if adjusted.estimate is None or adjusted.low is None or adjusted.high is None:
        return Finding(
            Outcome.INCONCLUSIVE, f"Style cannot be adjusted for: {adjusted.reason}.", "Give more pairs.", **common
        )
    share = 1 - adjusted.estimate / raw if raw else 0.0
    part = "none of it" if share <= 0 else "all of it" if share >= 1 else f"{percent(share)} of it"
    low = adjusted.low if claim.sign > 0 else -adjusted.high
    text = (
        f"At equal style the effect is {with_interval(adjusted)} instead of {number(raw)}; "
        f"style explains {part} (most: {names[order[0]]}) "
        f"and {percent(max(r2_adjusted, 0.0))} of the paired variation"
    )
    remedy = "Compare answers at equal length and format, or score with an instrument that ignores both."
    oracle = metric.axes[0] == "correct"
    if low > 0 and share < 0.5:
        return Finding(Outcome.PASS, f"{text}.", **common)
    if share >= 0.5 and r2_adjusted >= 0.05:
        outcome = Outcome.WARN if oracle else Outcome.FAIL
        return Finding(outcome, f"{text}.", remedy, **common)
    return Finding(
        Outcome.WARN, f"{text}: style and treatment move together too closely to be told apart.", remedy, **common
    )


def _paired_style(evidence: Evidence, metric: Metric) -> tuple[Floats, Floats, list[str]] | None:
    """Paired differences of the score (n,) and of standardised style features (n, f), with the features' names."""
    control, treated = evidence.pair
    if not any(control.texts) or not any(treated.texts):
        return None
    size = len(evidence.prompt_ids)
    c, t = (cluster_mean(arm.values(metric), arm.index, size) for arm in (control, treated))
    both = np.flatnonzero(~np.isnan(c) & ~np.isnan(t))
    if len(both) > MOST_TEXTS:
        both = np.sort(np.random.default_rng(0).choice(both, MOST_TEXTS, replace=False))
    chosen = np.zeros(size, dtype=bool)
    chosen[both] = True
    features = [_style_by_prompt(arm, chosen) for arm in (control, treated)]
    usable = ~np.isnan(features[0]).any(axis=1) & ~np.isnan(features[1]).any(axis=1) & chosen
    d = (t - c)[usable]
    x = (features[1] - features[0])[usable]
    if len(x) == 0:
        return d, x, []
    spread = x.std(axis=0)
    kept = (spread > 1e-9) & ((x != 0).sum(axis=0) >= FEWEST_MOVED)
    return d, x[:, kept] / spread[kept], [name for name, keep in zip(_FEATURES, kept, strict=True) if keep]


_FEATURES = [
    name
    for name in STYLE_FEATURES
    if name not in ("n_chars", "words_per_sentence", "questions", "tables", "think_words")
]
_COUNTS = {"n_words", "headings", "bullets", "bold", "emoji", "exclamations", "code_fences"}


def _style_by_prompt(arm: Arm, chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Floats:
    """Style features averaged per prompt, float (n_prompts, f), counts on a log scale; NaN where there is no text."""
    table = np.full((len(arm), len(_FEATURES)), np.nan)
    for i, text in enumerate(arm.texts):
        if text is not None and chosen[arm.index[i]]:
            found = style(text)
            table[i] = [np.log1p(found[name]) if name in _COUNTS else found[name] for name in _FEATURES]
    return np.stack([cluster_mean(column, arm.index, len(chosen)) for column in table.T], axis=1)


@check(
    "uniformity",
    group="cost",
    question="Does the disposition depend on the question, or is it a global switch (hedging on right and wrong alike)?",
    must_fail=("uniform_hedge",),
    must_pass=("clean_asymmetry",),
)
def uniformity(evidence: Evidence) -> Finding:
    """FAIL when hedging moved on right answers too and its dependence on correctness did not improve."""
    if missing := needs_two_arms(evidence):
        return missing
    if not {"correct", "delivery"} <= evidence.axes:
        return not_run(
            "The files do not hold both correct and delivery.",
            "Map them: --map correct=COLUMN,delivery=COLUMN (assert/hedge).",
        )
    asked = {"delivery"} & set(evidence.metric.axes)
    alpha = evidence.claim.alpha
    overall = evidence.effect_of(evidence.metric_named("hedging_rate"))
    on_right = evidence.effect_of(evidence.metric_named("over_hedging_rate"))
    selective = evidence.effect_of(evidence.metric_named("assertion_asymmetry"))
    text = (
        f"Hedging changed by {with_interval(overall.difference)} overall and by {with_interval(on_right.difference)} on "
        f"right answers; assertion asymmetry by {with_interval(selective.difference)}"
    )
    figure = {
        "kind": "table2x2", "rows": ["right", "wrong"], "cols": ["assert", "hedge"],
        "arms": [{"name": arm.name, "cells": arm.cells().sum(axis=0).reshape(2, 2).tolist()} for arm in evidence.pair],
    }  # fmt: skip
    common: dict[str, Json] = {"estimate": selective.difference, "n": selective.n_paired, "figure": figure}
    moved = overall.p is not None and overall.p <= alpha
    if not moved:
        return Finding(Outcome.PASS, f"{text}: no global switch was thrown.", **common)
    # at the test level: the interval alone would let one uniform hedger in forty through
    follows = selective.p is not None and selective.p <= alpha
    better = follows and selective.difference.high is not None and selective.difference.high < 0
    if better:
        return Finding(Outcome.PASS, f"{text}: it follows correctness.", **common)
    remedy = "Reward hedging only where the answer is wrong; report asymmetry beside any hedging rate."
    switch = on_right.p is not None and on_right.p <= alpha
    if switch and asked:
        return Finding(Outcome.FAIL, f"{text}: right and wrong answers are hedged alike.", remedy, **common)
    if switch:
        return Finding(Outcome.WARN, f"{text}: right and wrong answers are hedged alike.", remedy, **common)
    return Finding(Outcome.INCONCLUSIVE, f"{text}: too few answers to tell.", "Collect more prompts.", **common)


@check(
    "compression",
    group="cost",
    question="Did reasoning or response length collapse, and accuracy with it?",
    must_fail=("collapse",),
    must_pass=("clean", "null"),
)
def compression(evidence: Evidence) -> Finding:
    """FAIL when length fell below two thirds and the capability anchor fell too; WARN for length alone."""
    if missing := needs_two_arms(evidence):
        return missing
    control, treated = evidence.pair
    answer = _log_ratio(evidence, control, treated, thought=False)
    if answer is None:
        return not_run("The files keep no response texts.", "Map the text column with --map response=COLUMN.")
    thought = _log_ratio(evidence, control, treated, thought=True)
    ratios = {"answers": stats.mean(answer, evidence.claim.level)}
    if thought is not None:
        ratios["think blocks"] = stats.mean(thought, evidence.claim.level)
    told, collapsed = [], []
    for name, estimate in ratios.items():
        if estimate.estimate is None:
            continue
        told.append(f"{name} have {np.exp(estimate.estimate):.2f} times the words")
        if estimate.high is not None and np.exp(estimate.high) < COLLAPSED:
            collapsed.append(name)
    text = f"Treated {listing(told) or 'answers cannot be compared'} (geometric mean over {len(answer)} prompts)"
    n = len(answer)
    if evidence.train_sample:
        words = float(np.median([len(words_of(row)) for row in evidence.train_sample]))
        text += f"; training texts have {words:.0f} words in the median"
    if not collapsed:
        return Finding(Outcome.PASS, f"{text}.", n=n)
    remedy = "Train on answers as long as the base model's, or report accuracy at equal length."
    anchor = next((name for name in ("correct", "coverage") if name in evidence.axes), None)
    if anchor is not None:
        loss = evidence.effect_of(evidence.metric_named(anchor))
        text += f", and {anchor} changed by {with_interval(loss.difference)}"
        if loss.difference.high is not None and loss.difference.high < 0:
            return Finding(Outcome.FAIL, f"{text}.", remedy, estimate=loss.difference, n=n)
    return Finding(Outcome.WARN, f"{text}.", remedy, n=n)


def _log_ratio(evidence: Evidence, control: Arm, treated: Arm, *, thought: bool) -> Floats | None:
    """log(treated words / control words) by prompt, (n,); None where no text (or no think block) is kept."""
    means = []
    for arm in (control, treated):
        if not any(text is not None and (not thought or "<think" in text) for text in arm.texts):
            return None
        part = 0 if thought else 1
        counts = [np.nan if text is None else float(len(split_think(text)[part].split())) for text in arm.texts]
        means.append(cluster_mean(np.array(counts), arm.index, len(evidence.prompt_ids)))
    c, t = means
    usable = ~np.isnan(c) & ~np.isnan(t) & (c + t > 0)
    return np.log1p(t[usable]) - np.log1p(c[usable]) if usable.any() else None
