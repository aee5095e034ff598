"""What ``counterclaim probe`` says of a probe: cross-validated, on fresh items, through a gate, and why it fails if it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from counterclaim import stats
from counterclaim.errors import InputError
from counterclaim.lab.config import Bars
from counterclaim.lab.probing import gates
from counterclaim.lab.probing.crossval import CrossValidated, Watch, cross_validate, hash_of_row
from counterclaim.lab.probing.features import Features, same_model
from counterclaim.lab.probing.labels import Labels
from counterclaim.lab.probing.taxonomy import CUT, Agreement, agreement, passes, taxonomy, within_fresh
from counterclaim.lab.probing.twosample import TwoSample, c2st
from counterclaim.records import CheckResult, Estimate, Group, Json, Outcome
from counterclaim.stats import Logistic
from counterclaim.wording import number, percent, with_interval

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

FEW = 10
"""Items of a class below which a rate within it is an anecdote; the check ``base-rate`` has the same."""

GOOD = 0.6
"""Cohen's kappa of labels that agree; the check ``label-agreement`` has the same."""

MANY_TIES = 0.1
"""Share of scores on the threshold that deserves a warning; the check ``label-ties`` has the same."""


WELL_KNOWN = 0.02
"""Share of answers cut or of unknown ending that is let pass; the check ``endpoint`` has the same."""

SAME = 0.01
"""Share of fresh rows that may equal a training row by chance: a few answers to different prompts are alike."""

_BARS = Bars()


@dataclass(frozen=True, slots=True)
class _OnFresh:
    """A probe with one C that was fitted on all training items, on the fresh ones."""

    auc: Estimate
    bootstrap: Estimate
    honest: gates.Gate
    honest_p: float
    peeked: gates.Peeked


def probe_report(
    train: Features | ArrayLike,
    train_labels: Labels | ArrayLike,
    fresh: Features | ArrayLike | None = None,
    fresh_labels: Labels | ArrayLike | None = None,
    *,
    C: Sequence[float] = (1.0, 0.1),
    splits: int = 20,
    folds: int = 5,
    permutations: int = 1_000,
    seed: int = 0,
    level: float = 0.95,
    style: ArrayLike | None = None,
    cut: Sequence[bool | None] | None = None,
    second_labels: Labels | ArrayLike | None = None,
    watch: Watch | None = None,
) -> dict[str, Json]:
    """Everything that can be said of a linear probe from features and labels.

    Args:
        train: (n, d), what the probe is fitted on.
        train_labels: (n,), row by row with ``train`` (``labels.joined``); both classes.
        fresh: (m, d), items that were never used to choose anything; None leaves all that needs them out.
        fresh_labels: (m,).
        C: inverse strengths of the L2 penalty. The first one is the probe; the others say whether it matters.
        splits: of the cross-validation.
        folds: of each split.
        permutations: label shuffles of each null.
        seed: of splits, shuffles and the bootstrap.
        level: of every interval.
        style: (m, k), what shows of the fresh answers' style, for the taxonomy.
        cut: (m,), whether the token budget cut the answer, None where unknown; as ``fresh`` says where left out.
        second_labels: (m,), another label of the same construct of the fresh items; NaN scores are left out.
        watch: told how far things are.

    Returns:
        The contract's JSON. Without fresh items ``fresh``, ``excludes_auc_above`` and ``c2st_auc`` are null, and so is
        every entry of ``C`` that needs them.

    Raises:
        InputError: labels of one class, fewer items of a class than folds, features of different models or widths.
    """
    learnt, labels = _features(train), Labels.of(train_labels)
    positive = _labelled(learnt, labels)
    bar = _BARS.fresh_auc
    cross = cross_validate(
        learnt.x, positive, C=C, folds=folds, splits=splits, permutations=permutations, seed=seed, watch=watch
    )
    said: dict[str, Json] = {
        "train": {"n": len(positive), "n_pos": int(positive.sum()), "d": learnt.x.shape[1]},
        "fresh": None,
        "C": [_row(found, None) for found in cross],
        "excludes_auc_above": None,
        "c2st_auc": None,
        "taxonomy": [],
        "bars": {"fresh_auc": bar, "fresh_asymmetry": _BARS.fresh_asymmetry, "keep": _BARS.keep},
    }
    if fresh is None or fresh_labels is None:
        return {**said, "checks": [check.to_json() for check in _checks_without_fresh(positive, labels)]}
    tested, truth = _features(fresh), Labels.of(fresh_labels)
    right = _labelled(tested, truth)
    same_model(learnt, tested)
    cut = tested.cut if cut is None else cut
    probes = [stats.fit_logistic(learnt.x, positive, strength) for strength in C]
    found = [
        _on_fresh(probe, each, positive, tested, right, permutations, seed, level)
        for probe, each in zip(probes, cross, strict=True)
    ]
    if watch is not None:
        watch("telling fresh from training", 0, 1)
    shift = c2st(learnt.x, tested.x, permutations=min(permutations, 200), seed=seed, level=level)
    agreed = None if second_labels is None else _agreed(right, Labels.of(second_labels), level)
    counts = (int(positive.sum()), len(positive)), (int(right.sum()), len(right))
    cut_known = None if cut is None else [ended for ended in cut if ended is not None]
    within = within_fresh(tested.x, right, seed=seed, permutations=min(permutations, 200))
    shown = None if style is None else within_fresh(np.asarray(style, np.float64), right, seed=seed)
    highest = [each.auc.high for each in found]
    said |= {
        "fresh": {"n": len(right), "n_pos": int(right.sum())},
        "C": [_row(each, there) for each, there in zip(cross, found, strict=True)],
        "excludes_auc_above": None if None in highest else max(high for high in highest if high is not None),
        "c2st_auc": shift.to_json(),
        "taxonomy": taxonomy(
            found[0].auc, *counts, within=within, style=shown, shift=shift,
            cut=(sum(cut_known), len(cut_known)) if cut_known else None, labels=agreed, level=level,
        ),
    }  # fmt: skip
    checks = [
        _contamination(learnt, tested, level),
        _fresh(found[0].auc, cross[0], bar),
        _threshold(found[0]),
        _base_rate(found[0], *counts),
        _shift(shift, counts, level),
        _endpoint(cut, len(right), level),
        _label_ties(learnt, labels, tested, truth, C[0], bar, level),
        _label_agreement(agreed),
    ]
    return {**said, "checks": [check.to_json() for check in checks]}


def _features(given: Features | ArrayLike) -> Features:
    return given if isinstance(given, Features) else Features(np.asarray(given, np.float64))


def _labelled(features: Features, labels: Labels) -> Bools:
    positive = labels.positive
    if positive.shape != features.x.shape[:1]:
        raise InputError(
            f"{features.source} has {len(features.x)} rows and {labels.source} {len(positive)} labels",
            remedy="give one label for each row",
        )
    if np.isnan(labels.score).any():
        raise InputError(f"{labels.source} holds items that were not scored", remedy="leave them out of both")
    if positive.all() or not positive.any():
        raise InputError(
            f"all {len(positive)} labels of {labels.source} are of one class", remedy="a probe tells two apart"
        )
    return positive


def _on_fresh(
    probe: Logistic, cross: CrossValidated, positive: Bools, fresh: Features, right: Bools, permutations: int,
    seed: int, level: float,
) -> _OnFresh:  # fmt: skip
    decisions = probe.decision(fresh.x)
    chances, inner = gates.probability(decisions), gates.probability(cross.decisions[0])
    # The bootstrap draws places: in this order they hold the same items however the rows were sorted.
    order = np.lexsort((right, decisions))
    chosen = gates.choose_threshold(inner, positive, _BARS.keep).value
    return _OnFresh(
        stats.delong(decisions, right, level),
        stats.bootstrap_auc(decisions[order], right[order], level, seed=seed),
        gates.gate(chances, right, chosen, level),
        gates.shuffled_p(chances, right, chosen),
        gates.peek(
            chances, right, keep=_BARS.keep, bar=_BARS.fresh_asymmetry, permutations=permutations, seed=seed
        ),
    )  # fmt: skip


def _row(cross: CrossValidated, fresh: _OnFresh | None) -> dict[str, Json]:
    return {
        "C": cross.C,
        "fresh_auc": None if fresh is None else fresh.auc.to_json(),
        "fresh_auc_bootstrap": None if fresh is None else fresh.bootstrap.to_json(),
        "cv_auc": cross.to_json(),
        "asymmetry_honest": None if fresh is None else {**fresh.honest.to_json(), "shuffled_p": fresh.honest_p},
        "asymmetry_peeked": None if fresh is None else fresh.peeked.to_json(),
    }


def _agreed(right: Bools, other: Labels, level: float) -> Agreement:
    if other.score.shape != right.shape:
        raise InputError(
            f"{other.source} has {len(other.score)} labels for {len(right)} fresh items", remedy="give one for each"
        )
    kept = ~np.isnan(other.score)
    return agreement(right[kept], other.positive[kept], level)


# checks ---------------------------------------------------------------------------------------------------------

_NO_FRESH = "There are no fresh items"
_GIVE_FRESH = "Give them with --fresh and --fresh-labels; cross-validation by itself supports no claim."


def _check(
    name: str,
    group: Group,
    outcome: Outcome,
    because: str,
    remedy: str = "",
    estimate: Estimate | None = None,
    n: int = 0,
) -> CheckResult:
    return CheckResult(name, group, outcome, because, "" if outcome is Outcome.PASS else remedy, estimate, n=n)


def _checks_without_fresh(positive: Bools, labels: Labels) -> list[CheckResult]:
    return [
        _check("contamination", "ruler", Outcome.NOT_RUN, f"{_NO_FRESH} that could be training items.", _GIVE_FRESH),
        _check("fresh", "transfer", Outcome.NOT_RUN, f"{_NO_FRESH}, so nobody knows whether the probe reads more than its own training set.", _GIVE_FRESH),
        _check("threshold", "transfer", Outcome.NOT_RUN, f"{_NO_FRESH} to which a threshold from training could be held.", _GIVE_FRESH),
        _check("base-rate", "transfer", Outcome.NOT_RUN, f"{_NO_FRESH} whose base rate could be looked at ({int(positive.sum())} of {len(positive)} training items are positive).", _GIVE_FRESH),
        _check("shift", "transfer", Outcome.NOT_RUN, f"{_NO_FRESH} to tell from the training items.", _GIVE_FRESH),
        _check("endpoint", "transfer", Outcome.NOT_RUN, f"{_NO_FRESH} whose ending could be looked at.", _GIVE_FRESH),
        _check("label-ties", "ruler", Outcome.NOT_RUN, f"{_NO_FRESH}; {_tied(labels)}.", _GIVE_FRESH),
        _check("label-agreement", "ruler", Outcome.NOT_RUN, f"{_NO_FRESH} that carry two labels.", _GIVE_FRESH),
    ]  # fmt: skip


def _contamination(learnt: Features, tested: Features, level: float) -> CheckResult:
    """FAIL where fresh items have an id of the training set, or where more than ``SAME`` of their rows are training rows."""
    named = 0 if learnt.ids is None or tested.ids is None else len(set(learnt.ids) & set(tested.ids))
    known = {hash_of_row(row) for row in learnt.x}
    same = sum(hash_of_row(row) in known for row in tested.x)
    n = len(tested.x)
    share = stats.wilson(max(named, same), n, level)
    told = f"{same} of {n} fresh items have the features of a training item, and {named} its id"
    remedy = "Take items that were used for nothing else; an AUC on training items says what was learnt by heart."
    if named or same / n > SAME:
        return _check("contamination", "ruler", Outcome.FAIL, f"{told}: they are not fresh.", remedy, share, n)
    outcome = Outcome.WARN if same else Outcome.PASS
    return _check("contamination", "ruler", outcome, f"{told}.", remedy, share, n)


def _fresh(auc: Estimate, cross: CrossValidated, bar: float) -> CheckResult:
    told = f"The AUC is {number(cross.mean)} in cross-validation and {with_interval(auc)} on fresh items; the bar is {bar:g}"
    if passes(auc, bar):
        outcome, because, remedy = Outcome.PASS, f"{told}.", ""
    elif auc.high is not None and auc.high < bar:
        outcome, because = Outcome.FAIL, f"{told}, which the interval excludes."
        remedy = "Do not gate on this probe; the failure modes say where to look."
    else:
        outcome, because = Outcome.INCONCLUSIVE, f"{told}, and the interval does not settle it."
        remedy = "Label more fresh items, of the rarer class above all."
    return _check("fresh", "transfer", outcome, because, remedy, auc, auc.n)


def _threshold(found: _OnFresh) -> CheckResult:
    honest, peeked, bar = found.honest, found.peeked, _BARS.fresh_asymmetry
    told = (
        f"The threshold that training folds chose ({number(honest.threshold)}) gives an asymmetry of {with_interval(honest.asymmetry)} "
        f"on fresh items"
    )
    if peeked.asymmetry is None:
        because = f"{told}; no threshold of the sweep keeps P(assert | correct) at {_BARS.keep:g} there."
        return _check("threshold", "transfer", Outcome.PASS, because, n=honest.asymmetry.n)
    told += (
        f", and the best of {len(gates.SWEEP)} thresholds chosen there {number(peeked.asymmetry)}; shuffled labels reach the bar "
        f"of {bar:g} in {percent(peeked.null_p_at_bar)} of {peeked.permutations:,} draws"
    )
    if peeked.asymmetry <= bar and not honest.reaches(bar, _BARS.keep):
        because = f"{told}: only the peeked one reaches the bar."
        remedy = "Report the honest number; the peeked one is an upper bound and supports nothing."
        return _check("threshold", "transfer", Outcome.WARN, because, remedy, honest.asymmetry, honest.asymmetry.n)
    return _check("threshold", "transfer", Outcome.PASS, f"{told}.", "", honest.asymmetry, honest.asymmetry.n)


def _base_rate(found: _OnFresh, train: tuple[int, int], fresh: tuple[int, int]) -> CheckResult:
    moved = stats.newcombe_difference(*fresh, *train, found.auc.level)
    told = (
        f"{fresh[0]} of {fresh[1]} fresh items are positive ({percent(fresh[0] / fresh[1])}), {train[0]} of {train[1]} in "
        f"training ({percent(train[0] / train[1])}); the gate's asymmetry has p = {found.honest_p:.2g} under shuffled labels"
    )
    remedy = "Report rates within each class with their n, and test on prompts with a healthier base rate."
    fewest = min(fresh[0], fresh[1] - fresh[0])
    if fewest < FEW:
        outcome, because = (
            Outcome.INCONCLUSIVE,
            f"{told}: with {fewest} items in the rarer class a rate within it says next to nothing.",
        )
    elif found.honest.reaches(_BARS.fresh_asymmetry, _BARS.keep) and found.honest_p > 0.05:
        outcome, because = Outcome.FAIL, f"{told}: imbalance alone gives that."
    else:
        outcome, because = Outcome.PASS, f"{told}."
    return _check("base-rate", "transfer", outcome, because, remedy, moved, fresh[1])


def _shift(shift: TwoSample, counts: tuple[tuple[int, int], tuple[int, int]], level: float) -> CheckResult:
    (train, n), (fresh, m) = counts
    moved = stats.newcombe_difference(fresh, m, train, n, level)
    told = (
        f"A probe tells fresh from training features with AUC {with_interval(shift.auc)}, and the positive rate differs by "
        f"{with_interval(moved)}"
    )
    apart = shift.apart
    rate = moved.interval is not None and not moved.interval[0] <= 0 <= moved.interval[1]
    if shift.auc.estimate is None:
        outcome = Outcome.NOT_RUN
    elif apart and rate and abs(moved.estimate or 0.0) >= 0.1:
        outcome = Outcome.FAIL
    else:
        outcome = Outcome.WARN if apart or rate else Outcome.PASS
    remedy = "Say for which prompts the probe is meant, or test on prompts drawn like the training prompts."
    return _check("shift", "transfer", outcome, f"{told}.", remedy, shift.auc, n + m)


def _endpoint(cut: Sequence[bool | None] | None, n: int, level: float) -> CheckResult:
    remedy = "Read the features at the end of finished answers, generated with a larger budget."
    if cut is None:
        because = "Nobody says which answers were cut by the token budget."
        remedy = "Say it with --cut FILE:KEY; folders of counterclaim capture do so themselves."
        return _check("endpoint", "transfer", Outcome.NOT_RUN, because, remedy, None, n)
    gone, unknown = sum(ended is True for ended in cut), sum(ended is None for ended in cut)
    share = stats.wilson(gone, n, level)
    told = f"{percent(gone / n)} of {n} fresh answers were cut and {percent(unknown / n)} ended unknown"
    if gone / n > CUT:
        return _check(
            "endpoint", "transfer", Outcome.FAIL, f"{told}: their last token is not an end.", remedy, share, n
        )
    outcome = Outcome.WARN if (gone + unknown) / n > WELL_KNOWN else Outcome.PASS
    return _check("endpoint", "transfer", outcome, f"{told}.", remedy, share, n)


def _label_ties(
    learnt: Features, labels: Labels, tested: Features, truth: Labels, C: float, bar: float, level: float
) -> CheckResult:
    """FAIL when counting scores on the threshold as negative, in training and on fresh items, changes what is concluded."""
    n = len(truth.score)
    if truth.threshold is None and labels.threshold is None:
        because, remedy = (
            "The labels are not made from a score and a threshold.",
            "Nothing to do unless they are: --label-threshold.",
        )
        return _check("label-ties", "ruler", Outcome.NOT_RUN, because, remedy, None, n)
    share = stats.wilson(truth.tied, n, level)
    told = f"Of the fresh items {_tied(truth)}, in training {_tied(labels)}"
    remedy = "Use checklists of odd length or a continuous score, and report both ways of counting."
    ties = truth.tied + labels.tied
    if not ties:
        return _check("label-ties", "ruler", Outcome.PASS, f"{told}.", "", share, n)
    loose, strict = (_auc_with(learnt, a, tested, b, C, level) for a, b in (
        (labels.positive, truth.positive), (labels.strictly, truth.strictly),
    ))  # fmt: skip
    told += (
        f"; the AUC is {with_interval(loose)} with ≥ ({int(truth.positive.sum())} positives) and {with_interval(strict)} with > "
        f"({int(truth.strictly.sum())})"
    )
    if _conclusion(loose, bar) != _conclusion(strict, bar):
        return _check("label-ties", "ruler", Outcome.FAIL, f"{told}: the ties decide.", remedy, share, n)
    outcome = Outcome.WARN if ties / (n + len(labels.score)) > MANY_TIES else Outcome.PASS
    return _check("label-ties", "ruler", outcome, f"{told}.", remedy, share, n)


def _tied(labels: Labels) -> str:
    if labels.threshold is None:
        return "no score was cut at a threshold"
    return f"{labels.tied} of {len(labels.score)} ({percent(labels.tied / len(labels.score))}) sit exactly at {labels.threshold:g}"


def _auc_with(learnt: Features, labels: Bools, tested: Features, truth: Bools, C: float, level: float) -> Estimate:
    if labels.all() or not labels.any():
        return Estimate.undefined("the training labels are of one class", n=len(truth), level=level)
    return stats.delong(stats.fit_logistic(learnt.x, labels, C).decision(tested.x), truth, level)


def _conclusion(auc: Estimate, bar: float) -> str:
    """What an AUC says: it passes, its interval excludes the bar, or it is open."""
    if passes(auc, bar):
        return "passes"
    return "excluded" if auc.high is not None and auc.high < bar else "open"


def _label_agreement(agreed: Agreement | None) -> CheckResult:
    if agreed is None:
        because, remedy = (
            "The fresh items carry one label.",
            "Give another of the same construct with --second-labels FILE:KEY.",
        )
        return _check("label-agreement", "ruler", Outcome.NOT_RUN, because, remedy)
    kappa = agreed.kappa
    because = (
        f"The two labels agree with Cohen's kappa {with_interval(kappa)} on {kappa.n} fresh items; a perfect predictor of the "
        f"second would reach AUC {with_interval(agreed.ceiling)} on the first."
    )
    remedy = "Settle which label is meant before gating on either; have people label a sample of both."
    if agreed.disagree:
        outcome = Outcome.FAIL
    elif kappa.low is not None and kappa.low >= GOOD:
        outcome = Outcome.PASS
    elif kappa.estimate is not None and kappa.estimate < GOOD:
        outcome = Outcome.WARN
    else:
        outcome, remedy = Outcome.INCONCLUSIVE, "Label more items with both scorers."
    return _check("label-agreement", "ruler", outcome, because, remedy, kappa, kappa.n)
