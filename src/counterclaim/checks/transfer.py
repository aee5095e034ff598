"""Does it hold elsewhere: other prompts, thresholds chosen in advance, healthy base rates, real endings."""

from __future__ import annotations

import numpy as np

from counterclaim import stats
from counterclaim.audit.evidence import Arm, Evidence
from counterclaim.audit.metrics import Floats
from counterclaim.audit.probing import TELLING, TOO_MANY_CUT, ProbeResult, Reading
from counterclaim.checks.findings import (
    FEW,
    bars,
    conclusion,
    how_to_pass,
    needs_responses,
    needs_two_arms,
    not_run,
    with_probe,
)
from counterclaim.records import Estimate, Json, Outcome
from counterclaim.registry import Finding, Metric, check
from counterclaim.text.overlap import two_sample_auc
from counterclaim.wording import number, p_value, percent, with_interval

WELL_KNOWN = 0.02
"""Share of answers that were cut, or may have been, that needs no warning."""


@check(
    "shift",
    group="transfer",
    question="Can a classifier tell test prompts from training prompts, and did the base rate move?",
    must_fail=("shifted",),
    must_pass=("with_clean_training_data",),
)
def shift(evidence: Evidence) -> Finding:
    """FAIL when prompts, or what a probe reads of the answers, are told apart and the base rate moved; WARN for one of the two.

    A probe that holds on fresh prompts all the same has stood the shift: then it is a WARN at most.
    """
    return with_probe(evidence, _prompts_shift(evidence), features_shift)


def features_shift(result: ProbeResult) -> Finding:
    """Whether training and fresh items differ in what the probe reads, and in their base rate."""
    apart, reading, second = result.c2st_auc, result.reading, result.on_fresh
    if apart is None or apart.estimate is None:
        why = "were not compared" if apart is None else f"cannot be compared: {apart.reason}"
        return not_run(f"Training and fresh features {why}.", "Give more items, with one row of features for each.")
    moved = _positives_moved(reading, result.level)
    text = f"A probe tells fresh from training features with AUC {with_interval(apart)}; the positive rate differs by {with_interval(moved)}"
    has_held = second is not None and second.passed is True
    remedy = "Train the probe on prompts drawn like those that it is used on, or restrict the claim to such prompts."
    return _shift(text, apart, moved, remedy, n=apart.n, most=Outcome.WARN if has_held else Outcome.FAIL)


def _positives_moved(reading: Reading, level: float) -> Estimate:
    """Share of positives, fresh minus training."""
    return stats.newcombe_difference(
        reading.n_fresh_pos or 0, reading.n_fresh or 0, reading.n_pos or 0, reading.n or 0, level
    )


def _shift(
    text: str, apart: Estimate, moved: Estimate | None, remedy: str, *, n: int, most: Outcome = Outcome.FAIL
) -> Finding:
    """FAIL (or ``most``) when the sets are told apart and the base rate moved by a tenth or more; WARN for one of the two."""
    is_apart = apart.low is not None and apart.low > 0.5 and (apart.estimate or 0.0) >= TELLING
    rate_moved = moved is not None and moved.interval is not None and not moved.interval[0] <= 0 <= moved.interval[1]
    if not is_apart and not rate_moved:
        return Finding(Outcome.PASS, f"{text}.", estimate=apart, n=n)
    both = is_apart and rate_moved and moved is not None and abs(moved.estimate or 0.0) >= 0.1
    return Finding(most if both else Outcome.WARN, f"{text}.", remedy, apart, n)


def _prompts_shift(evidence: Evidence) -> Finding:
    splits = {
        split: [p.text for p in evidence.prompts.values() if p.split == split and p.messages] for split in _SPLITS
    }
    train = list(evidence.train_sample) or splits["train"]
    test = splits["test"] + splits["fresh"]
    if len(train) < 20 or len(test) < 20:
        return not_run(
            "There are no training prompts to compare the test prompts with.",
            "If the treated arm was trained, "
            + how_to_pass(
                evidence,
                "--train-data FILE, or map a split column (train/dev/test/fresh) with --map split=COLUMN",
                "train_data = FILE",
            )
            + ".",
        )
    apart = two_sample_auc(train, test, evidence.claim.level)
    text = f"A classifier tells test from training prompts with AUC {with_interval(apart)}"
    moved = _base_rate_move(evidence)
    if moved is not None:
        text += f"; accuracy differs by {with_interval(moved)} between training and test prompts"
    remedy = "Restrict the claim to prompts like the test prompts, or test on prompts drawn like the training prompts."
    return _shift(text, apart, moved, remedy, n=len(train) + len(test))


_SPLITS = ("train", "dev", "test", "fresh")


def _base_rate_move(evidence: Evidence) -> Estimate | None:
    """Accuracy of control answers on test minus on training prompts; None where there are not both."""
    if not evidence.pair or "correct" not in evidence.axes:
        return None
    arm = evidence.pair[0]
    right = arm.numbers("correct")
    split = np.array([evidence.prompts[r.prompt_id].split for r in arm.responses])
    train, test = (
        right[(split == "train") & ~np.isnan(right)],
        right[np.isin(split, ("test", "fresh")) & ~np.isnan(right)],
    )
    if len(train) < FEW or len(test) < FEW:
        return None
    return stats.newcombe_difference(int(test.sum()), len(test), int(train.sum()), len(train), evidence.claim.level)


@check(
    "threshold",
    group="transfer",
    question="Was every threshold chosen without looking at the test set?",
    must_fail=("threshold_peeked",),
    must_pass=("threshold_honest", "probe_holds"),
)
def threshold(evidence: Evidence) -> Finding:
    """FAIL when the claim says that thresholds were chosen on the test split.

    A probe's threshold is chosen in training: WARN where only one that is chosen on the fresh items would reach the bars.
    """
    if evidence.claim.thresholds_chosen_on is None and evidence.probing is not None:
        return threshold_of_gate(evidence.probing)
    return _stated_threshold(evidence)


def threshold_of_gate(result: ProbeResult) -> Finding:
    """Whether only a threshold that is chosen on the fresh items reaches the bars."""
    honest, peeked = result.reading.asymmetry_honest, result.reading.asymmetry_peeked
    text = "The gate's threshold was chosen on training items out of fold"
    if honest is None or peeked is None or honest.estimate is None:
        return Finding(Outcome.PASS, f"{text}.")
    text += f", and gives an assertion asymmetry of {with_interval(honest)} on fresh items"
    bar, keep = result.bars["fresh_asymmetry"], result.bars["keep"]
    if peeked.estimate is None:
        because = f"{text}; no threshold keeps P(assert | correct) at {keep:g} there."
        return Finding(Outcome.PASS, because, estimate=honest.asymmetry, n=honest.n)
    text += f"; the best threshold chosen on them gives {number(peeked.estimate)}"
    if peeked.permutations:
        text += (
            f", and on shuffled labels such a choice reaches the bar of {bar:g} in {percent(peeked.null_p_at_bar)} of "
            f"{peeked.permutations:,} draws"
        )
    reaches = honest.estimate <= bar and (honest.p_assert_correct or 0.0) >= keep
    if peeked.estimate <= bar and not reaches:
        because = f"{text}: only the threshold chosen on the test items reaches the bars."
        remedy = "Report the threshold from training; the other one is an upper bound and supports nothing."
        return Finding(Outcome.WARN, because, remedy, honest.asymmetry, honest.n)
    return Finding(Outcome.PASS, f"{text}.", estimate=honest.asymmetry, n=honest.n)


def _stated_threshold(evidence: Evidence) -> Finding:
    chosen = evidence.claim.thresholds_chosen_on
    if chosen is None:
        return not_run(
            "The claim does not say on which split its thresholds were chosen.",
            'State thresholds_chosen_on = "train" (or "dev", "test") in the claim file, if there is a threshold.',
        )
    if chosen in ("test", "fresh"):
        because = (
            f"Thresholds were chosen on the {chosen} split, so the number is an upper bound that supports no claim."
        )
        return Finding(Outcome.FAIL, because, "Choose them on training folds and score the test split once.")
    return Finding(Outcome.PASS, f"Thresholds were chosen on the {chosen} split.")


@check(
    "base-rate",
    group="transfer",
    question="Could the number arise from class imbalance alone?",
    must_fail=("tiny_positive_class", "few_fresh"),
    must_pass=("clean_asymmetry", "probe_holds"),
)
def base_rate(evidence: Evidence) -> Finding:
    """INCONCLUSIVE with fewer than ten answers in a class; FAIL when shuffled labels give an effect as large.

    So are a probe's classes, in training and on fresh prompts, where shuffled labels as good as its own are INCONCLUSIVE, too.
    """
    return with_probe(evidence, _classes_of_arms(evidence), classes_of_probe)


def classes_of_probe(result: ProbeResult) -> Finding:
    """Whether both classes are there in training and on fresh items, and shuffled labels do worse than the probe's gate."""
    reading, step = result.reading, result.on_fresh
    honest = reading.asymmetry_honest
    sizes = [
        (name, positives or 0, (n or 0) - (positives or 0))
        for name, positives, n in (
            ("training", reading.n_pos, reading.n),
            ("fresh", reading.n_fresh_pos, reading.n_fresh),
        )
    ]
    counts = ", ".join(f"{name} {yes} positive and {no} negative" for name, yes, no in sizes)
    common: dict[str, Json] = {"estimate": _positives_moved(reading, result.level), "n": reading.n_fresh or 0}
    fewest = min(min(yes, no) for _, yes, no in sizes)
    if fewest < FEW:
        because = f"The probe's smaller class has {fewest} answers ({counts}). {'' if step is None else step.power}"
        remedy = f"Find prompts with at least {FEW} answers of each class on both sides; a few dozen are better."
        return Finding(Outcome.INCONCLUSIVE, because, remedy, **common)
    if honest is None or honest.estimate is None or honest.shuffled_p is None:
        return Finding(Outcome.PASS, f"The probe has both classes ({counts}).", **common)
    text = f"The probe has both classes ({counts}); its gate's asymmetry of {number(honest.estimate)} has p = {p_value(honest.shuffled_p)} on shuffled labels"
    if honest.estimate <= result.bars["fresh_asymmetry"] and honest.shuffled_p > 0.05:
        remedy = "Answer more fresh prompts of the rarer class."
        return Finding(Outcome.INCONCLUSIVE, f"{text}: imbalance alone may give that.", remedy, **common)
    return Finding(Outcome.PASS, f"{text}.", **common)


def _classes_of_arms(evidence: Evidence) -> Finding:
    if missing := needs_responses(evidence, "class sizes"):
        return missing
    metric = evidence.metric
    if metric.kind == "mean" or "correct" not in evidence.axes:
        return not_run(f"{metric.name} does not condition on correctness.", "Nothing to do for this metric.")
    right = [arm.numbers("correct") for arm in evidence.pair]
    sizes = {
        arm.name: (int(np.nansum(x)), int((~np.isnan(x)).sum() - np.nansum(x)))
        for arm, x in zip(evidence.pair, right, strict=True)
    }
    summary = ", ".join(f"{name} {yes} right and {no} wrong" for name, (yes, no) in sizes.items())
    n = sum(yes + no for yes, no in sizes.values())
    figure = bars(
        "share of answers that are right", {name: yes / max(yes + no, 1) for name, (yes, no) in sizes.items()}
    )
    classes = _conditioned_on(metric)
    smallest = min(pair[at] for pair in sizes.values() for at in classes)
    if smallest < FEW:
        wanted = " and ".join(f"{FEW} {('right', 'wrong')[at]}" for at in classes)
        remedy = f"Find prompts with at least {wanted} answers in each arm; a few dozen are better."
        because = f"The smaller class has {smallest} answers ({summary}): a rate within it is uninformative."
        return Finding(Outcome.INCONCLUSIVE, because, remedy, n=n, figure=figure)
    if len(evidence.pair) < 2 or metric.kind != "ratio" or metric.statistic is None:
        return Finding(Outcome.PASS, f"Both classes are represented ({summary}).", n=n, figure=figure)
    null = _shuffled(evidence, evidence.pair, right)
    observed = evidence.effect.difference.estimate
    if observed is None or len(null) == 0:
        because = f"The rate is undefined ({summary})."
        return Finding(Outcome.INCONCLUSIVE, because, "Score more answers.", n=n, figure=figure)
    p = float((1 + (np.abs(null) >= abs(observed)).sum()) / (1 + len(null)))
    concluded = conclusion(evidence)
    text = f"With correctness labels shuffled within each arm a change as large as {number(observed)} has p = {p:.2g} ({summary})"
    remedy = "Report the rate within each class with its n, and test on prompts with a healthier base rate."
    if concluded == "for" and p > 0.05 and metric.name == "assertion_asymmetry":
        return Finding(Outcome.FAIL, f"{text}: imbalance alone gives that.", remedy, n=n, figure=figure)
    return Finding(Outcome.PASS, f"{text}.", n=n, figure=figure)


def _conditioned_on(metric: Metric) -> tuple[int, ...]:
    """Without which classes a metric is undefined: 0 for right answers, 1 for wrong ones."""
    if metric.statistic is None:
        return 0, 1
    without_right, without_wrong = metric.statistic(np.array([[0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0]]))
    return tuple(at for at, value in enumerate((without_right, without_wrong)) if np.isnan(value))


def _shuffled(evidence: Evidence, arms: tuple[Arm, ...], right: list[Floats], draws: int = 2_000) -> Floats:
    """Difference of the metric over label shuffles within arms, (<= draws,), from the hypergeometric cells."""
    statistic = evidence.metric.statistic
    assert statistic is not None
    random = np.random.default_rng(0)
    values = []
    for arm, x in zip(arms, right, strict=True):
        cells = arm.cells(x, evidence.metric).sum(axis=0)
        yes, no = int(cells[0] + cells[1]), int(cells[2] + cells[3])
        asserts = int(cells[0] + cells[2])
        cr = random.hypergeometric(yes, no, asserts, size=draws).astype(float)
        values.append(statistic(np.stack([cr, yes - cr, asserts - cr, no - (asserts - cr)], axis=1)))
    null = values[1] - values[0]
    return np.asarray(null[~np.isnan(null)], dtype=np.float64)


@check(
    "endpoint",
    group="transfer",
    question="For anything read at 'the last token': did the response end there?",
    must_fail=("endpoint_cut", "probe_cut"),
    must_pass=("endpoint_whole", "probe_holds"),
)
def endpoint(evidence: Evidence) -> Finding:
    """FAIL when a score that ranks answers, or a probe, was read off answers that were cut.

    For a probe, answers with an unknown ending may have been cut: INCONCLUSIVE where that would decide.
    """
    return with_probe(evidence, _endings_of_arms(evidence), endings_of_probe)


def endings_of_probe(result: ProbeResult) -> Finding:
    """Whether the answers that the probe read ended by themselves, in training and on fresh prompts."""
    ends = result.endpoint
    if ends.position == "prompt-end":
        return Finding(Outcome.PASS, "The probe reads the end of the prompt, which no budget cuts.")
    sides = [
        (name, side) for name, side in (("training", ends.train), ("fresh", ends.fresh)) if side is not None and side.n
    ]
    if not sides:
        because = "Finish reasons are unknown for the answers that the probe reads."
        remedy = "Record finish reasons, or give --cut FILE:KEY; folders of counterclaim capture hold them."
        return not_run(because, remedy)
    parts = [
        f"{percent(side.cut / side.n)} of {side.n} {name} answers were cut and {percent(side.unknown / side.n)} have an unknown ending"
        for name, side in sides
    ]
    text = f"Of what the probe reads, {' and '.join(parts)}"
    worst = max((side for _, side in sides), key=lambda side: (side.cut / side.n, side.unknown / side.n))
    possible = max((side.cut + side.unknown) / side.n for _, side in sides)
    common: dict[str, Json] = {
        "estimate": stats.wilson(worst.cut, worst.n, result.level),
        "n": sum(s.n for _, s in sides),
    }
    remedy = "Read the probe at the end of finished answers only, after generating with a larger budget."
    if worst.cut / worst.n > TOO_MANY_CUT:
        return Finding(Outcome.FAIL, f"{text}: their last token is not an end.", remedy, **common)
    if possible > TOO_MANY_CUT:
        remedy = "Read the probe off answers whose finish reason is recorded."
        return Finding(Outcome.INCONCLUSIVE, f"{text}: too many may have been cut.", remedy, **common)
    if possible > WELL_KNOWN:
        return Finding(Outcome.WARN, f"{text}.", remedy, **common)
    return Finding(Outcome.PASS, f"{text}.", **common)


def _endings_of_arms(evidence: Evidence) -> Finding:
    if missing := needs_two_arms(evidence):
        return missing
    if evidence.metric.kind != "auc":
        return not_run(f"{evidence.metric.name} is not read at the last token.", "Nothing to do for this metric.")
    cut = sum(int(arm.cut.sum()) for arm in evidence.pair)
    unknown = sum(int(arm.unknown.sum()) for arm in evidence.pair)
    n = sum(len(arm) for arm in evidence.pair)
    share = stats.wilson(cut, n, evidence.claim.level)
    text = (
        f"{percent(cut / max(n, 1))} of {n} answers were cut and {percent(unknown / max(n, 1))} have an unknown ending"
    )
    remedy = "Read the score at the end of finished answers only, after generating with a larger budget."
    if cut / max(n, 1) > TOO_MANY_CUT:
        return Finding(Outcome.FAIL, f"{text}: their last token is not an end.", remedy, estimate=share, n=n)
    if (cut + unknown) / max(n, 1) > WELL_KNOWN:
        return Finding(Outcome.WARN, f"{text}.", remedy, estimate=share, n=n)
    return Finding(Outcome.PASS, f"{text}.", estimate=share, n=n)
