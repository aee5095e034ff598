"""Can the scores be trusted: unscored items, stuck axes, labels that never come back, a judge's known-answer cards."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np

from counterclaim import stats
from counterclaim.audit.effect import Effect
from counterclaim.audit.evidence import Evidence
from counterclaim.audit.metrics import Floats
from counterclaim.checks.findings import bars, conclusion, how_to_pass, needs_responses, not_run
from counterclaim.records import LABELS, Json, Outcome
from counterclaim.registry import Finding, Metric, check
from counterclaim.wording import listing, number, percent, with_interval

STUCK = 0.98
FEW = 20  # values below which an axis cannot be called stuck, nor alive; and prompts below which not stuck
MANY_UNSCORED = 0.05
ENOUGH_TO_MISS = 50  # a label used once in twenty is missed by chance in this many items with probability .08
CARD_ACCURACY = 0.9


@check(
    "unscored",
    group="ruler",
    question="How many items were not scored, per arm, and can the worst-case assignment flip the result?",
    must_fail=("unscored_flip",),
    must_pass=("clean", "null"),
)
def unscored(evidence: Evidence) -> Finding:
    """FAIL when giving the unscored items to either side turns the effect around."""
    if missing := needs_responses(evidence, "which items were left unscored"):
        return missing
    axes = evidence.metric.axes
    lost = {arm.name: ~arm.scored(evidence.metric) for arm in evidence.pair}
    share = {name: float(mask.mean()) if len(mask) else 0.0 for name, mask in lost.items()}
    n, n_lost = sum(len(arm) for arm in evidence.pair), sum(int(mask.sum()) for mask in lost.values())
    reasons = Counter(
        reason
        for arm in evidence.pair
        for axis in axes
        if axis in arm.columns
        for reason in arm.columns[axis].reasons.values()
    )  # fmt: skip
    figure = bars("share of answers not scored", share) if n_lost else None
    common: dict[str, Json] = {"n": n, "n_unscored": n_lost, "figure": figure}
    if n_lost == 0:
        return Finding(Outcome.PASS, f"All {n} answers were scored on {listing(axes)}.", **common)
    summary = ", ".join(f"{name} {percent(value)}" for name, value in share.items())
    why = f" Reasons: {listing(f'{reason} ({count})' for reason, count in reasons.most_common(3))}." if reasons else ""
    remedy = "Score the missing items again, or report why they cannot be scored; never count them as zero."
    if len(evidence.pair) < 2:
        outcome = Outcome.WARN if max(share.values()) > MANY_UNSCORED else Outcome.PASS
        return Finding(outcome, f"Not scored: {summary}.{why}", "" if outcome is Outcome.PASS else remedy, **common)
    extremes = _worst_cases(evidence)
    if extremes is None:
        outcome = Outcome.FAIL if max(share.values()) > 2 * MANY_UNSCORED else Outcome.WARN
        because = f"Not scored: {summary}; their possible influence on {evidence.metric.name} has no bound.{why}"
        return Finding(outcome, because, remedy, **common)
    claim, base = evidence.claim, evidence.effect
    concluded = conclusion(evidence, base)
    against, favour = extremes
    span = f"from {number(_signed(against))} to {number(_signed(favour))}"
    hard = against if concluded == "for" else favour
    turned = (concluded == "for" and claim.sign * _signed(against) <= 0) or (
        concluded == "against" and conclusion(evidence, favour) == "for"
    )
    because = f"Not scored: {summary}; over every way to score them the effect ranges {span}.{why}"
    if turned:
        return Finding(Outcome.FAIL, because, remedy, estimate=hard.difference, **common)
    still = concluded == "open" or conclusion(evidence, hard) == concluded
    if not still:
        return Finding(Outcome.INCONCLUSIVE, because, remedy, estimate=hard.difference, **common)
    if max(share.values()) > MANY_UNSCORED:
        return Finding(Outcome.WARN, because, remedy, estimate=hard.difference, **common)
    return Finding(Outcome.PASS, because, estimate=hard.difference, **common)


def _signed(effect: Effect) -> float:
    return effect.difference.estimate or 0.0


def _worst_cases(evidence: Evidence) -> tuple[Effect, Effect] | None:
    """The effect with unscored items scored most against and most in favour of the claim; None where unbounded."""
    metric, sign = evidence.metric, evidence.claim.sign
    if metric.kind != "mean":
        return None
    control, treated = (arm.values(metric) for arm in evidence.pair)
    seen = np.concatenate([control, treated])
    seen = seen[~np.isnan(seen)]
    if len(seen) == 0:
        return None
    low, high = (0.0, 1.0) if metric.fraction else (float(seen.min()), float(seen.max()))

    def filled(worst: bool) -> Effect:
        up, down = (high, low) if (sign > 0) != worst else (low, high)
        pair = np.where(np.isnan(control), down, control), np.where(np.isnan(treated), up, treated)
        return evidence.effect_of(metric, values=pair)

    return filled(True), filled(False)


@check(
    "saturation",
    group="ruler",
    question="Is an axis stuck at nearly one value, so that no change could show?",
    must_fail=("saturated",),
    must_pass=("clean", "null"),
)
def saturation(evidence: Evidence) -> Finding:
    """FAIL when the target is stuck or has less room than the margin; WARN when another axis is stuck."""
    if missing := needs_responses(evidence, "how scores are spread"):
        return missing
    metric, claim = evidence.metric, evidence.claim
    if metric.kind == "mean":
        values = np.concatenate([arm.values(metric) for arm in evidence.pair])
        values = values[~np.isnan(values)]
        if len(values) == 0:
            return not_run("Nothing was scored on the target metric.", "Map the column that holds it.")
        if len(values) < FEW:
            because = f"{len(values)} values of {metric.name} are too few to see whether it is stuck."
            return Finding(Outcome.INCONCLUSIVE, because, "Score more answers.", n=len(values))
        share, value = _mode(values)
        estimate = stats.wilson(round(share * len(values)), len(values), claim.level)
        common: dict[str, Json] = {"estimate": estimate, "n": len(values)}
        remedy = "Use harder (or easier) prompts or a finer scale, so that a change has room to show."
        if share >= STUCK and _n_prompts(evidence) < FEW:
            because = (
                f"{percent(share)} of {len(values)} values of {metric.name} are {value:g}, on {_n_prompts(evidence)} prompts: too few "
                "to say that it is stuck."
            )
            return Finding(Outcome.INCONCLUSIVE, because, "Ask more prompts.", **common)
        if share >= STUCK:
            because = f"{percent(share)} of {len(values)} values of {metric.name} are {value:g}: no change could show."
            return Finding(Outcome.FAIL, because, remedy, **common)
        room = _room(evidence, metric)
        if room is not None and room < claim.margin:
            because = (
                f"The control arm leaves room for only {number(room)} in the claimed direction, "
                f"less than the margin {number(claim.margin)}."
            )
            return Finding(Outcome.FAIL, because, remedy, **common)
    else:
        common = {"n": sum(len(arm) for arm in evidence.pair)}
        remedy = "Use prompts on which the axis varies, or test whether its scorer can return the other values."
    stuck = _stuck_axes(evidence)
    needed = [axis for axis in stuck if axis in metric.axes]
    if needed:
        because = f"The axis {listing(needed)}, which {metric.name} is made of, is stuck: {stuck[needed[0]]}."
        return Finding(Outcome.FAIL, because, remedy, **common)
    if stuck:
        because = "Stuck besides the target: " + listing(f"{axis} ({what})" for axis, what in stuck.items()) + "."
        return Finding(Outcome.WARN, because, "Do not draw conclusions from the stuck axes.", **common)
    return Finding(Outcome.PASS, f"{metric.name} varies and has room in the claimed direction.", **common)


def _mode(values: Floats) -> tuple[float, float]:
    found, counts = np.unique(values, return_counts=True)
    top = int(counts.argmax())
    return float(counts[top] / counts.sum()), float(found[top])


def _room(evidence: Evidence, metric: Metric) -> float | None:
    """Largest change in the claimed direction that a fraction leaves, at the favourable end of the control's interval."""
    if not metric.fraction or len(evidence.pair) < 2:
        return None
    interval = evidence.effect.control.interval
    if interval is None:
        return None
    return 1 - interval[0] if evidence.claim.sign > 0 else interval[1]


def _n_prompts(evidence: Evidence) -> int:
    """Prompts that were answered: two arms that agree on a dozen of them have seen a dozen, and not two."""
    return len({response.prompt_id for arm in evidence.pair for response in arm.responses})


def _stuck_axes(evidence: Evidence) -> dict[str, str]:
    out: dict[str, str] = {}
    if _n_prompts(evidence) < FEW:
        return out
    for axis in sorted(evidence.axes):
        values = [v for arm in evidence.pair for v in arm.labels(axis) if v is not None]
        if len(values) < FEW:
            continue
        top, count = Counter(values).most_common(1)[0]
        if count / len(values) >= STUCK:
            out[axis] = f"{count} of {len(values)} are {top}"
    return out


@check(
    "parser",
    group="ruler",
    question="Can every allowed label be returned, and do all parse failures stay unscored?",
    must_fail=("deaf_judge",),
    must_pass=("clean_asymmetry",),
)
def parser(evidence: Evidence) -> Finding:
    """FAIL when a label that the target depends on never came back; WARN for other axes."""
    if missing := needs_responses(evidence, "which labels came back"):
        return missing
    reachable = _labels_on_cards(evidence)
    labelled = sorted(axis for axis in evidence.axes if _allowed(axis))
    if not labelled:
        return not_run("No axis has a fixed set of labels.", "Map a label column such as --map delivery=COLUMN.")
    silent: dict[str, str] = {}
    n = 0
    for axis in labelled:
        allowed = _allowed(axis)
        seen = Counter(v for arm in evidence.pair for v in arm.labels(axis) if v is not None)
        total = sum(seen.values())
        n = max(n, total)
        never = [label for label in allowed if not seen[label] and label not in reachable]
        strange = sorted(set(seen) - set(allowed))
        if strange:
            silent[axis] = (
                f"labels outside {listing(allowed)} came back ({listing(strange)}): parse failures kept as labels"
            )
        elif never and total >= ENOUGH_TO_MISS:
            inside = [f"{never_one} contains {got}" for never_one in never for got in seen if got in never_one]
            hint = f" (a parser that looks for part of a label would do this: {listing(inside)})" if inside else ""
            silent[axis] = f"{listing(never)} never came back in {total} items{hint}"
    if not silent:
        return Finding(Outcome.PASS, f"Every allowed label of {listing(labelled)} came back at least once.", n=n)
    summary = "; ".join(f"{axis}: {what}" for axis, what in silent.items()) + "."
    remedy = "Show the scorer items whose label is known to be the missing one (--judge-cards FILE)."
    outcome = Outcome.FAIL if any(axis in evidence.metric.axes for axis in silent) else Outcome.WARN
    return Finding(outcome, summary[0].upper() + summary[1:], remedy, n=n)


def _allowed(axis: str) -> tuple[str, ...]:
    return LABELS.get(axis.removeprefix("label."), ())


def _labels_on_cards(evidence: Evidence) -> frozenset[str]:
    return frozenset(str(card["returned"]) for card in evidence.cards if card.get("returned") == card.get("expected"))


def _judged(evidence: Evidence) -> bool:
    """Whether a judge model stands behind any score, by the full names of the scorers."""
    columns = [column for arm in evidence.pair for column in arm.columns.values()]
    return any("judge=" in name for column in columns for name in column.scorers)


@check(
    "judge-cards",
    group="ruler",
    question="Does the judge return every label on its cards, and ignore padding and planted instructions?",
    must_fail=("deaf_judge_cards",),
    must_pass=("judged_with_cards",),
)
def judge_cards(evidence: Evidence) -> Finding:
    """FAIL when a label is never returned on its own cards, or one kind of card is often answered wrongly."""
    if not evidence.cards and evidence.generated and not _judged(evidence):
        names = sorted({name for arm in evidence.pair for column in arm.columns.values() for name in column.scorers})
        because = f"No judge scored these answers: {listing(names, 4)} had to pass their own known-answer cards before scoring."
        return Finding(Outcome.PASS, because, n=sum(len(arm) for arm in evidence.pair))
    if not evidence.cards:
        return not_run(
            "Nothing shows that the scorer can tell right from wrong: no known-answer cards were given.",
            "Run the judge on items whose label is known and "
            + how_to_pass(
                evidence, "--judge-cards FILE (JSONL: expected, returned, kind)", "score.validate_judge = true"
            )
            + ".",
        )
    kinds: dict[str, list[bool]] = defaultdict(list)
    expected: dict[str, int] = Counter()
    returned: dict[str, int] = Counter()
    for card in evidence.cards:
        right = card.get("expected") == card.get("returned")
        kinds[str(card.get("kind", "label"))].append(right)
        expected[str(card.get("expected"))] += 1
        returned[str(card.get("expected"))] += right
    n = len(evidence.cards)
    estimate = stats.wilson(sum(sum(rights) for rights in kinds.values()), n, evidence.claim.level)
    by_kind = {kind: sum(rights) / len(rights) for kind, rights in sorted(kinds.items())}
    figure = bars("share of cards answered correctly", by_kind)
    common: dict[str, Json] = {"n": n, "estimate": estimate, "figure": figure}
    deaf = sorted(label for label in expected if returned[label] == 0)
    weak = [f"{kind} {percent(share)}" for kind, share in by_kind.items() if share < CARD_ACCURACY]
    remedy = "Fix the judge prompt or its parser, or use another judge, and score everything again."
    if deaf:
        because = f"The judge never returned {listing(deaf)}, not even on cards where it is the answer."
        return Finding(Outcome.FAIL, because, remedy, **common)
    if weak:
        return Finding(Outcome.FAIL, f"The judge missed too many cards: right on {listing(weak)}.", remedy, **common)
    because = f"{with_interval(estimate)} of {n} known-answer cards were answered correctly."
    return Finding(Outcome.PASS, because, **common)
