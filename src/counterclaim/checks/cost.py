"""What did it break: capability, mere mimicry of style, talk without better behaviour, a global switch instead of judgement, collapsed
answers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np

from counterclaim import stats
from counterclaim.audit.effect import SEED, Effect, cluster_mean, cluster_sum
from counterclaim.audit.evidence import Arm, Evidence
from counterclaim.audit.metrics import Floats, resolve
from counterclaim.checks.findings import (
    NO_TEXTS,
    SETTLE_FIRST,
    bars,
    conclusion,
    forest,
    how_to_pass,
    needs_two_arms,
    not_run,
    severity,
)
from counterclaim.records import CONTROL, DO_NOTHING, PROMPT_BASELINE, TREATED, ArmId, Estimate, Guard, Json, Outcome
from counterclaim.registry import Finding, Metric, built_in_metric, check
from counterclaim.text import STYLE_FEATURES, split_think, style
from counterclaim.wording import listing, number, percent, with_interval

ANCHOR_LOSS = 0.05  # loss of a capability anchor that nobody declared but that is in the files
MOST_TEXTS = 4_000
COLLAPSED = 2 / 3
KEPT = (0.5, 0.8, 1.25)  # edges of the shares of length kept, between which accuracy is shown
MORE_TALK = 0.1  # rise of the self-verification rate, below which language is said not to have risen
MORE_DONE = 0.05  # rise of a rate of behaviour that counts as one, where the claim states no margin for it
FEWEST_KEPT = 10  # prompts behind a share of length that the sentence speaks of; the figure shows all
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
    summary, rows, outcomes = [], [], []
    worst = None
    for guard in watched:
        metric = evidence.metric_named(guard.metric)
        difference = evidence.effect_of(metric).difference
        outcome = _loss(guard.better, guard.allowed, difference.interval)
        outcomes.append(outcome)
        word = {Outcome.PASS: "kept", Outcome.FAIL: "lost"}.get(outcome, "not shown to be kept")
        summary.append(f"{guard.metric} {with_interval(difference)} ({word}; allowed loss {number(guard.allowed)})")
        rows.append((guard.metric, difference))
        if worst is None or severity(outcome) < severity(worst[0]):
            worst = (outcome, difference, evidence.effect_of(metric).n_paired)
    assert worst is not None
    declared = bool(evidence.claim.guards)
    stated = "" if declared else " — no guard was declared, so the capability score in the files was checked"
    because = f"{listing(summary, 4)}{stated}."
    figure = forest("change of the guarded metrics", rows)
    common: dict[str, Json] = {"estimate": worst[1], "n": worst[2], "figure": figure}
    if worst[0] is Outcome.FAIL:
        remedy = "The change costs more than was allowed: report it, or reduce the dose."
        return Finding(Outcome.FAIL, because, remedy, **common)
    if worst[0] is Outcome.INCONCLUSIVE:
        outcome = Outcome.INCONCLUSIVE if declared else Outcome.WARN
        return Finding(outcome, because, "Collect more prompts to tell the loss from the allowed one.", **common)
    return Finding(Outcome.PASS, because, **common)


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
        how = "The check uniformity asks whether form follows content."
        return not_run(f"{metric.name} measures form itself.", how)
    concluded = conclusion(evidence)
    if concluded != "for":
        n = evidence.effect.n_paired
        if concluded == "against":
            return Finding(Outcome.PASS, "There is no apparent effect that style could explain.", n=n)
        because = "Whether there is an effect is still open, so style has nothing to explain yet."
        return Finding(Outcome.INCONCLUSIVE, because, SETTLE_FIRST, n=n)
    table = _paired_style(evidence, metric)
    if table is None:
        return NO_TEXTS
    d, x, names = table
    if len(d) < max(40, 3 * len(names)) or not names:
        return not_run(f"{len(d)} paired texts are too few to adjust for style.", "Give at least 40 paired responses.")
    adjusted, slopes, r2 = stats.ancova(d, x, claim.level)
    raw = float(d.mean())
    r2_adjusted = 1 - (1 - r2) * (len(d) - 1) / max(len(d) - len(names) - 1, 1)
    parts = slopes * x.mean(axis=0)
    order = np.argsort(-np.abs(parts))[:6]
    top = max(float(np.abs(parts).max()), abs(raw))
    shares = {names[i]: float(parts[i]) for i in order}
    figure = bars("part of the change that goes with a change of style", shares, top)
    common: dict[str, Json] = {"estimate": adjusted, "n": len(d), "figure": figure}
    if adjusted.estimate is None or adjusted.low is None or adjusted.high is None:
        because = f"Style cannot be adjusted for: {adjusted.reason}."
        return Finding(Outcome.INCONCLUSIVE, because, "Give more pairs.", **common)
    share = 1 - adjusted.estimate / raw if raw else 0.0
    part = "none of it" if share <= 0 else "all of it" if share >= 1 else f"{percent(share)} of it"
    low = adjusted.low if claim.sign > 0 else -adjusted.high
    text = (
        f"At equal style the effect is {with_interval(adjusted)} instead of {number(raw)}; "
        f"style explains {part} (most: {names[order[0]]}) "
        f"and {percent(max(r2_adjusted, 0.0))} of the paired variation"
    )
    remedy = "Compare answers at equal length and format, or score with a scorer that ignores both."
    oracle = metric.axes[0] == "correct"
    if low > 0 and share < 0.5:
        return Finding(Outcome.PASS, f"{text}.", **common)
    if share >= 0.5 and r2_adjusted >= 0.05:
        outcome = Outcome.WARN if oracle else Outcome.FAIL
        return Finding(outcome, f"{text}.", remedy, **common)
    because = f"{text}: style and treatment move together too closely to be told apart."
    return Finding(Outcome.WARN, because, remedy, **common)


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


_LEFT_OUT = ("n_chars", "words_per_sentence", "questions", "tables", "think_words")
_FEATURES = [name for name in STYLE_FEATURES if name not in _LEFT_OUT]
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
    if switch:
        outcome = Outcome.FAIL if "delivery" in evidence.metric.axes else Outcome.WARN
        return Finding(outcome, f"{text}: right and wrong answers are hedged alike.", remedy, **common)
    return Finding(Outcome.INCONCLUSIVE, f"{text}: too few answers to tell.", "Collect more prompts.", **common)


@check(
    "language-to-behaviour",
    group="cost",
    question="Does more talk of checking come with better answers, or is it talk alone?",
    must_fail=("talk_alone",),
    must_pass=("talk_and_mending",),
)
def language_to_behaviour(evidence: Evidence) -> Finding:
    """FAIL when self-verification language rose while behaviour fell, or is shown not to have risen noticeably.

    Language is the self-verification rate. Behaviour is the recovery rate where a scripted next turn was scored, else
    accuracy. The ratio is the relative change of the one over that of the other, and undefined where the latter may be zero.
    WARN instead of FAIL where behaviour merely stayed and the claim is about right and wrong in another way. The details
    hold form and function of every trained arm.
    """
    if missing := needs_two_arms(evidence):
        return missing
    speaks = _TALK.axes[0] in evidence.axes
    behaviour = next((metric for metric in _BEHAVIOUR if set(metric.axes) <= evidence.axes), None)
    details = _form_and_function(evidence, behaviour) if speaks or "revised" in evidence.axes else {}
    if not speaks or behaviour is None:
        lacks = "whether answers mention checking themselves" if not speaks else "whether answers are right or wrong"
        how = (
            how_to_pass(evidence, "--map score.svr=COLUMN", '"svr" under [score]')
            if not speaks
            else how_to_pass(evidence, "--map correct=COLUMN", '"recovery" and an oracle such as "exact" under [score]')
        )
        because, remedy = f"No score measures {lacks}.", f"Score both arms on it: {how}."
        return Finding(Outcome.NOT_RUN, because, remedy, details=details)
    claim, target = evidence.claim, evidence.metric
    talk, done = evidence.effect_of(_TALK), evidence.effect_of(behaviour)
    of_talk, of_done, ratio = _relative_changes(evidence, behaviour, TREATED)
    named = _words(behaviour)
    text = (
        f"The self-verification rate changed by {with_interval(talk.difference)} and {named} by "
        f"{with_interval(done.difference)}; relatively by {with_interval(of_talk)} and {with_interval(of_done)}, so the "
        f"language-to-behaviour ratio is {with_interval(ratio)}"
    )
    figure = forest("change from control", [("self-verification", talk.difference), (named, done.difference)])
    n = min(talk.n_paired, done.n_paired)
    common: dict[str, Json] = {"estimate": ratio, "n": n, "details": details, "figure": figure}
    if _rose(done, claim.alpha):
        return Finding(Outcome.PASS, f"{text}: behaviour improved.", **common)
    if not _rose(talk, claim.alpha):
        if talk.difference.high is not None and talk.difference.high < MORE_TALK:
            return Finding(Outcome.PASS, f"{text}: there is no more talk than before.", **common)
        remedy = "Collect more prompts to tell a change of language from none."
        return Finding(Outcome.INCONCLUSIVE, f"{text}: whether there is more talk is open.", remedy, **common)
    remedy = "Claim what answers say and not what they do, or reward answers for being right instead of for wording."
    high = done.difference.high
    is_target = (target.kind, target.axes, target.statistic) == (behaviour.kind, behaviour.axes, behaviour.statistic)
    enough = claim.margin if is_target else MORE_DONE
    if high is not None and high < 0:
        return Finding(Outcome.FAIL, f"{text}: more talk, and worse answers.", remedy, **common)
    if high is not None and high < enough:
        # a claim on right and wrong in another way (asymmetry, coverage) does not fall with this one
        outcome = Outcome.WARN if target.axes[0] in _MEASURED and not is_target else Outcome.FAIL
        because = f"{text}: more talk, and {named} is shown not to have risen by {number(enough)}."
        return Finding(outcome, because, remedy, **common)
    remedy = f"Collect more prompts{', especially ones that are first answered wrongly' if behaviour.kind == 'ratio' else ''}."
    return Finding(Outcome.INCONCLUSIVE, f"{text}: more talk, and whether {named} rose is open.", remedy, **common)


_TALK = resolve("score.svr", {"score.svr"})
_BEHAVIOUR = (built_in_metric("recovery_rate"), built_in_metric("accuracy"))
_SHOWN = (built_in_metric("recovery_rate"), built_in_metric("capitulation_rate"), _TALK, built_in_metric("accuracy"))
_MEASURED = ("correct", "coverage", "delivery")
_UNTRAINED = (CONTROL, DO_NOTHING, PROMPT_BASELINE)


def _words(metric: Metric) -> str:
    return metric.name.removeprefix("score.").replace("_", " ")


def _rose(effect: Effect, alpha: float) -> bool:
    return effect.p is not None and effect.p <= alpha and (effect.difference.estimate or 0.0) > 0


def _form_and_function(evidence: Evidence, behaviour: Metric | None) -> dict[str, Json]:
    """Rates of control and of every trained arm, with the ratio of their relative changes, as the report shows them."""
    trained = [arm for arm in evidence.arms if arm not in _UNTRAINED and arm.is_base]
    arms: dict[str, Json] = {}
    for id in (CONTROL, *sorted(trained, key=lambda arm: (arm != TREATED, str(arm)))):
        arm = evidence.arms[id]
        held = [metric for metric in _SHOWN if set(metric.axes) <= set(arm.columns)]
        arms[arm.name] = {
            metric.name.removeprefix("score."): evidence.arm_estimate(metric, arm).to_json() for metric in held
        }
        if id != CONTROL and behaviour in held and _TALK in held and _TALK.axes[0] in evidence.control.columns:
            changes = _relative_changes(evidence, behaviour, id)
            for key, estimate in zip(("svr_change", "behaviour_change", "language_to_behaviour"), changes, strict=True):
                arms[arm.name][key] = estimate.to_json()
    return {"behaviour": None if behaviour is None else behaviour.name, "arms": arms}


def _relative_changes(evidence: Evidence, behaviour: Metric, treated: ArmId) -> tuple[Estimate, Estimate, Estimate]:
    """Relative change of language, that of behaviour, and their ratio; prompts are resampled, both arms together."""
    counts = np.hstack([_paired_counts(evidence, metric, treated) for metric in (_TALK, behaviour)])
    counts = counts[counts.any(axis=1)]
    level = evidence.claim.level

    def change(sums: Floats) -> Floats:
        return np.asarray(sums[..., 2] / sums[..., 3] / (sums[..., 0] / sums[..., 1]) - 1, dtype=np.float64)

    def resampled(statistic: stats.Statistic) -> Estimate:
        return stats.bootstrap_counts(counts, statistic, level=level, draws=evidence.draws, seed=SEED)

    talk, done = resampled(lambda sums: change(sums[..., :4])), resampled(lambda sums: change(sums[..., 4:]))
    if done.interval is None or done.interval[0] <= 0 <= done.interval[1]:
        reason = "the relative change of behaviour may be zero"
        return talk, done, Estimate.undefined(reason, n=len(counts), level=level, method=talk.method)
    return talk, done, resampled(lambda sums: change(sums[..., :4]) / change(sums[..., 4:]))


def _paired_counts(evidence: Evidence, metric: Metric, treated: ArmId) -> Floats:
    """What a rate counts and what it is a share of, in control and in treated, by prompt: float (n_prompts, 4).

    A prompt that is not scored in both arms has zeros.
    """
    size = len(evidence.prompt_ids)
    parts, both = [], np.ones(size, dtype=bool)
    for name in (CONTROL, treated):
        arm = evidence.arms[name]
        if metric.kind == "ratio":  # the recovery rate: how many of the first answers that were wrong were corrected
            cells = cluster_sum(arm.cells(metric=metric), arm.index, size)
            scored = cells.any(axis=1)
            parts.append(np.stack([cells[:, 2], cells[:, 2] + cells[:, 3]], axis=1))
        else:
            means = cluster_mean(arm.values(metric), arm.index, size)
            scored = ~np.isnan(means)
            parts.append(np.stack([np.nan_to_num(means), np.ones(size)], axis=1))
        both &= scored
    return np.hstack(parts) * both[:, None]


@check(
    "compression",
    group="cost",
    question="Did reasoning or response length collapse, and accuracy with it?",
    must_fail=("collapse", "thoughts_cut"),
    must_pass=("clean", "null", "thoughts_kept"),
)
def compression(evidence: Evidence) -> Finding:
    """FAIL when length fell below two thirds and the capability anchor fell too; WARN for length alone.

    Think blocks and visible answers are compared apart, with those of the training texts where these were given. The
    figure and the details hold the change of the anchor by the share of its length that an answer kept.
    """
    if missing := needs_two_arms(evidence):
        return missing
    if not all(any(text is not None for text in arm.texts) for arm in evidence.pair):
        return NO_TEXTS
    lengths = [_lengths(evidence, arm) for arm in evidence.pair]
    trained = _training_lengths(evidence.train_sample) if evidence.train_words is None else evidence.train_words
    summary, collapsed = [], []
    words: dict[str, Json] = {}
    n = 0
    for at, name in enumerate(("think blocks", "answers")):
        c, t = (both[at] for both in lengths)
        usable = ~np.isnan(c) & ~np.isnan(t) & (c + t > 0)
        if not usable.any() or (at == 0 and not c[usable].any()):
            continue
        n = max(n, int(usable.sum()))
        ratio = stats.mean(np.log1p(t[usable]) - np.log1p(c[usable]), evidence.claim.level)
        assert ratio.estimate is not None
        medians = {"control": float(np.median(c[usable])), "treated": float(np.median(t[usable]))}
        part = f"{name} have {np.exp(ratio.estimate):.2f} times the words ({medians['control']:.0f} in the median of control, "
        part += f"{medians['treated']:.0f} of treated"
        if trained and trained[at] > 0:
            medians["training"] = trained[at]
            part += f", {trained[at]:.0f} of the training texts"
        summary.append(f"{part})")
        words[name] = {**medians, "ratio": float(np.exp(ratio.estimate))}
        if ratio.high is not None and np.exp(ratio.high) < COLLAPSED:
            collapsed.append(name)
    text = f"Treated {' and '.join(summary) or 'answers cannot be compared'}, by geometric mean over {n} prompts"
    common: dict[str, Json] = {"n": n, "details": {"words": words}}
    anchor = next((name for name in ("correct", "coverage") if name in evidence.axes), None)
    kept: dict[str, Effect] = {}
    if anchor is not None:
        kept = _by_length_kept(evidence, anchor, *(thought + answer for thought, answer in lengths))
        common["details"]["retention"] = [
            {
                "kept": share, "n": effect.n_paired,
                **{name: getattr(effect, name).to_json() for name in ("control", "treated", "difference")},
            }
            for share, effect in kept.items()
        ]  # fmt: skip
        common["figure"] = _retention_figure(anchor, kept)
    if not collapsed:
        return Finding(Outcome.PASS, f"{text}.", **common)
    remedy = "Train on answers as long as the base model's, or report accuracy at equal length."
    if anchor is not None:
        if most := {share: effect for share, effect in kept.items() if effect.n_paired >= FEWEST_KEPT}:
            text += f"; by the share of words kept {anchor} changed by " + ", ".join(
                f"{with_interval(effect.difference)} ({share}, {effect.n_paired} prompts)"
                for share, effect in most.items()
            )
        loss = evidence.effect_of(evidence.metric_named(anchor))
        text += f"; over all prompts {anchor} changed by {with_interval(loss.difference)}"
        if loss.difference.high is not None and loss.difference.high < 0:
            return Finding(Outcome.FAIL, f"{text}.", remedy, estimate=loss.difference, **common)
    return Finding(Outcome.WARN, f"{text}.", remedy, **common)


def _lengths(evidence: Evidence, arm: Arm) -> tuple[Floats, Floats]:
    """Words of the think blocks and of the visible answer, mean per prompt: two float (n_prompts,), NaN without a text."""
    split = [None if text is None else split_think(text) for text in arm.texts]
    counts = [np.array([np.nan if two is None else len(two[at].split()) for two in split]) for at in (0, 1)]
    thought, answer = (cluster_mean(column, arm.index, len(evidence.prompt_ids)) for column in counts)
    return thought, answer


def _training_lengths(texts: Sequence[str]) -> Sequence[float]:
    """Median words of a training text's think block and of its answer, where they are not told apart; empty without texts.

    A training text is its turns, joined by blank lines: what stands before the first think block is the question. Where
    there is none, the question ends at the first blank line; a pair of answers counts as half of both.
    """
    if not texts:
        return ()
    rows = []
    for text in texts:
        before, mark, rest = text.partition("<think")
        if not mark:
            before, _, answer = text.partition("\n\n")
            rows.append((0.0, float(len((answer or before).split()))))
            continue
        thought, answer = split_think(mark + rest)
        blocks = text.count("<think")
        rows.append((len(thought.split()) / blocks, len(answer.split()) / blocks))
    thought_words, answer_words = np.median(np.array(rows), axis=0)
    return float(thought_words), float(answer_words)


def _by_length_kept(evidence: Evidence, anchor: str, control: Floats, treated: Floats) -> dict[str, Effect]:
    """The change of the anchor by treated over control length, named by its bounds; lengths are float (n_prompts,)."""
    metric = evidence.metric_named(anchor)
    share = np.full(len(control), np.nan)
    np.divide(treated, control, out=share, where=control > 0)
    c, t = evidence.pair
    found: dict[str, Effect] = {}
    for low, high in pairwise((0.0, *KEPT, np.inf)):
        within = (share >= low) & (share < high)
        effect = evidence.effect_of(metric, keep=(within[c.index], within[t.index]))
        if effect.n_paired:
            name = f"below {high:g}" if low == 0 else f"{low:g} or more" if high == np.inf else f"{low:g} to {high:g}"
            found[name] = effect
    return found


def _retention_figure(anchor: str, kept: dict[str, Effect]) -> dict[str, Json]:
    changes = [(f"{share} ({effect.n_paired})", effect.difference) for share, effect in kept.items()]
    return forest(f"change of {anchor}, by share of words kept", changes)
