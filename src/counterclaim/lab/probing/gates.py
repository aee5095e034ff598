"""A gate asserts where a probe's probability reaches a threshold: how calibrated that makes assertions, and who chose it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from counterclaim import stats
from counterclaim.audit.probing import GateResult, Peeked
from counterclaim.errors import InputError
from counterclaim.records import Estimate

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

KEEP = 0.70
"""P(assert | correct) that a gate has to keep: one that hedges everything is calibrated and of no use."""

BAR = -0.15
"""Assertion asymmetry that a gate has to reach on fresh prompts (the source paper's bar)."""

SWEEP = np.round(np.linspace(0.05, 0.95, 91), 2)
"""Thresholds that are tried on the test items themselves."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold and what it gave on the items it was chosen on, which flatters it.

    Attributes:
        value: assert where the probability is at least this.
        asymmetry: P(assert | wrong) - P(assert | correct) there.
        p_assert_correct: P(assert | correct) there.
    """

    value: float
    asymmetry: float
    p_assert_correct: float


@dataclass(frozen=True, slots=True)
class Gate:
    """What a threshold gives on items that it was not chosen on.

    Attributes:
        threshold: assert where the probability is at least this.
        asymmetry: P(assert | wrong) - P(assert | correct), with Newcombe's interval.
        p_assert_correct: P(assert | correct), with Wilson's interval.
    """

    threshold: float
    asymmetry: Estimate
    p_assert_correct: Estimate

    def result(self, threshold: float | None, shuffled_p: float | None) -> GateResult:
        """As it is recorded: without the interval of P(assert | correct)."""
        e = self.asymmetry
        kept = self.p_assert_correct.estimate
        return GateResult(e.estimate, e.low, e.high, e.level, e.method, e.n, e.reason, threshold, kept, shuffled_p)


def probability(decisions: ArrayLike) -> Floats:
    """The logistic function of decision values."""
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * np.asarray(decisions, np.float64)))


def choose_threshold(probabilities: ArrayLike, labels: ArrayLike, keep: float = KEEP) -> Threshold:
    """The threshold with the least assertion asymmetry among those that keep P(assert | correct) >= ``keep``.

    To be honest it has to be chosen on out-of-fold probabilities of training items. Every distinct way to gate these items
    is looked at; a threshold lies half way between the probabilities it parts, and of equally good ones the lowest, which
    asserts most, is taken. Asserting everything (threshold 0, asymmetry 0) is always among them.

    Args:
        probabilities: (n,), in [0, 1].
        labels: (n,), true where the answer is correct.
        keep: in [0, 1].

    Raises:
        InputError: the labels are of one class.
    """
    value, correct = np.asarray(probabilities, np.float64), np.asarray(labels, bool)
    _both_classes(correct)
    levels, level_of = np.unique(value, return_inverse=True)
    right = np.bincount(level_of, weights=correct, minlength=len(levels))
    wrong = np.bincount(level_of, weights=~correct, minlength=len(levels))
    asserted_right = right[::-1].cumsum()[::-1] / right.sum()  # with a threshold just below each level
    asserted_wrong = wrong[::-1].cumsum()[::-1] / wrong.sum()
    # rounded, so that equally good thresholds are equal whatever the order of summation
    asymmetry = np.where(asserted_right >= keep - 1e-12, np.round(asserted_wrong - asserted_right, 12), np.inf)
    best = int(np.argmin(asymmetry))
    threshold = 0.0 if best == 0 else float(levels[best - 1] + levels[best]) / 2
    return Threshold(threshold, float(asymmetry[best]), float(asserted_right[best]))


def gate(probabilities: ArrayLike, labels: ArrayLike, threshold: float, level: float = 0.95) -> Gate:
    """What a threshold that was chosen elsewhere gives on these items.

    Args:
        probabilities: (n,).
        labels: (n,), true where the answer is correct.
        threshold: assert where the probability is at least this.
        level: of the intervals. They hold for a threshold that does not depend on these items.
    """
    asserted, correct = np.asarray(probabilities, np.float64) >= threshold, np.asarray(labels, bool)
    n_right, n_wrong = int(correct.sum()), int((~correct).sum())
    right, wrong = int((asserted & correct).sum()), int((asserted & ~correct).sum())
    return Gate(
        threshold, stats.newcombe_difference(wrong, n_wrong, right, n_right, level), stats.wilson(right, n_right, level)
    )


def shuffled_p(probabilities: ArrayLike, labels: ArrayLike, threshold: float) -> float:
    """How often a gate is at least as calibrated as this one when labels are shuffled: is it more than the base rate?

    Shuffling leaves as many items asserted and as many correct, so the share over all shuffles is a hypergeometric tail.

    Args:
        probabilities: (n,).
        labels: (n,), true where the answer is correct.
        threshold: assert where the probability is at least this.
    """
    asserted, correct = np.asarray(probabilities, np.float64) >= threshold, np.asarray(labels, bool)
    n, right, many, both = len(correct), int(correct.sum()), int(asserted.sum()), int((asserted & correct).sum())
    ways = sum(math.comb(right, k) * math.comb(n - right, many - k) for k in range(both, min(right, many) + 1))
    return ways / math.comb(n, many)


def peek(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    keep: float = KEEP,
    bar: float = BAR,
    permutations: int = 1_000,
    seed: int = 0,
) -> Peeked:
    """The best threshold of ``SWEEP`` on these items, and how often the best one reaches the bar on shuffled labels.

    Args:
        probabilities: (n,).
        labels: (n,), true where the answer is correct; both classes are there.
        keep: P(assert | correct) that a threshold has to keep.
        bar: asymmetry that has to be reached.
        permutations: label shuffles.
        seed: of the shuffles.

    Raises:
        InputError: the labels are of one class.
    """
    value, correct = np.asarray(probabilities, np.float64), np.asarray(labels, bool)
    _both_classes(correct)
    # sorted, so that the order of items changes no shuffle
    order = np.lexsort((correct, value))
    value, correct = value[order], correct[order]
    asserted = (value >= SWEEP[:, None]).astype(np.float64)
    n, n_right, total = len(value), int(correct.sum()), asserted.sum(axis=1)

    def swept(right: Floats) -> tuple[Floats, Floats]:
        """Asymmetry (infinite where too little is kept) and P(assert | correct) from asserted correct items."""
        kept = right / n_right
        return np.where(kept >= keep - 1e-12, (total - right) / (n - n_right) - kept, np.inf), kept

    random = np.random.default_rng([seed, 2])
    shuffled = random.permuted(np.broadcast_to(correct, (permutations, n)), axis=1).astype(np.float64)
    best = swept(shuffled @ asserted.T)[0].min(axis=1)
    reached = float((best <= bar + 1e-12).mean()) if permutations else float("nan")
    asymmetry, kept = swept(asserted @ correct)
    at = int(np.argmin(np.round(asymmetry, 12)))
    if not np.isfinite(asymmetry[at]):
        return Peeked(None, None, None, reached, permutations)
    return Peeked(float(asymmetry[at]), float(SWEEP[at]), float(kept[at]), reached, permutations)


def _both_classes(correct: Bools) -> None:
    if correct.all() or not correct.any():
        raise InputError("all labels are of one class", remedy="a gate is judged on correct and on wrong answers")
