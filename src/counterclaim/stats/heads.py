"""Which attention heads differ between two cohorts of answers, and how large the largest difference would be by chance.

Many heads are looked at and the best is reported. So every Cohen's d stands beside the null of the largest one: cohorts are
shuffled, everything that was done is done again, and the largest d of all heads is kept (Westfall and Young 1993).

A direction that is estimated on the answers onto which it is projected separates them even where there is nothing: for pure
noise with covariance S the in-sample d comes near ``sqrt((1/n1 + 1/n0) tr(S)^2 / tr(S^2))``, the noise of the difference of
two means over the spread along it. Estimated out of fold it is centred at 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from counterclaim.stats.distributions import chi_ratios, normal_tails, t_tail
from counterclaim.stats.permutation import cohen_d, max_null, permuted_max_d
from counterclaim.stats.weights import Floats

SMALLEST_COHORT = 4
"""Answers that a cohort needs: two in each of two folds, so that every fold has a spread."""
FOLDS = 5


@dataclass(frozen=True, slots=True)
class HeadScores:
    """Cohen's d of every head, with the null of the largest.

    Attributes:
        d: (heads,).
        p: (heads,), adjusted for having looked at all heads: the share of shuffles whose largest d is as large.
        null: (draws,), the largest d of each shuffle.
        best: the head with the largest d; of a two-sided one, with the largest |d|.
    """

    d: Floats
    p: Floats
    null: Floats
    best: int

    def null_quantile(self, q: float) -> float:
        """A quantile of the null of the largest d."""
        return float(np.quantile(self.null, q))


@dataclass(frozen=True, slots=True)
class Directions:
    """How far two cohorts lie apart along the difference of their means, head by head.

    Attributes:
        out_of_fold: d of projections on directions that were estimated without the projected answers; one-sided, for only a d
            above 0 says that there is a direction.
        in_sample: d of projections on a direction that was estimated on the same answers; means nothing but beside its null.
        cosine: (heads,), of the two cohorts' mean vectors.
        folds: how many.
    """

    out_of_fold: HeadScores
    in_sample: HeadScores
    cosine: Floats
    folds: int


def magnitude(norms: ArrayLike, cohort: ArrayLike, *, permutations: int = 1_000, seed: int = 0) -> HeadScores:
    """Cohen's d of the norms of every head between a cohort and the other answers; two-sided.

    Args:
        norms: (answers, heads), finite.
        cohort: bool (answers,), whether an answer is of the cohort or of the one that it is compared with.
        permutations: shuffles of the cohorts.
        seed: of a PCG64.

    Raises:
        ValueError: shapes do not fit, or a cohort has fewer than ``SMALLEST_COHORT`` answers.
    """
    chosen = _cohorts(cohort)
    d = cohen_d(norms, chosen)
    null = permuted_max_d(norms, chosen, permutations, seed)
    return HeadScores(d, max_null(null, d), null, int(np.abs(d).argmax()))


def directional(
    slices: Sequence[ArrayLike],
    cohort: ArrayLike,
    *,
    folds: int = FOLDS,
    permutations: int = 1_000,
    seed: int = 0,
    watch: Callable[[int, int], None] | None = None,
) -> Directions:
    """How far the cohorts lie apart along the difference of their means, out of fold and in sample.

    Answers are dealt into folds by cohort, as evenly as they go. A fold is projected on the unit vector between the means of
    the cohorts in the other folds, from the middle between them; d is that of all projections together. Every shuffle moves
    cohorts within folds, so that all folds keep their sizes, and does all of it again.

    An offset that all answers share changes nothing but the cosine.

    Args:
        slices: of every head (answers, head_dim), finite; heads may differ in head_dim.
        cohort: bool (answers,).
        folds: at most; fewer where a cohort would have fewer than two answers in each.
        permutations: shuffles of the cohorts.
        seed: of a PCG64: folds and shuffles.
        watch: called with how many heads are done, and how many there are.

    Raises:
        ValueError: shapes do not fit, or a cohort has fewer than ``SMALLEST_COHORT`` answers.
    """
    chosen = _cohorts(cohort)
    k = max(2, min(folds, int(min(chosen.sum(), (~chosen).sum())) // 2))
    rng = np.random.Generator(np.random.PCG64(seed))
    fold = _dealt(chosen, k, rng)
    labels = np.concatenate([chosen[None], _shuffled_within(chosen, fold, permutations, rng)])
    passes = [(fold != f, fold == f) for f in range(k)]
    out, within = np.empty((2, len(slices), len(labels)))
    cosine = np.empty(len(slices))
    for head, given in enumerate(slices):
        x = np.asarray(given, np.float64)
        if x.ndim != 2 or len(x) != len(chosen):
            raise ValueError("every head has one row per answer")
        means = x[chosen].mean(axis=0), x[~chosen].mean(axis=0)
        norms = math.prod(float(np.linalg.norm(mean)) for mean in means)
        cosine[head] = float(means[0] @ means[1]) / norms if norms else 0.0
        centred = x - x.mean(axis=0)
        gram = centred @ centred.T if len(x) < 2 * x.shape[1] else None
        projected = np.empty(labels.shape)
        for train, test in passes:
            projected[:, test] = _projections(centred, gram, labels, train)[:, test]
        out[head] = _d_of_rows(projected, labels)
        within[head] = _d_of_rows(_projections(centred, gram, labels, np.ones(len(x), bool)), labels)
        if watch is not None:
            watch(head + 1, len(slices))
    return Directions(_against_largest(out), _against_largest(within), cosine, k)


@dataclass(frozen=True, slots=True)
class LargestD:
    """The null of the largest |Cohen's d| over independent heads, in closed form.

    Under the null d is Student's t with n1 + n0 - 2 degrees of freedom, scaled; the largest of m independent ones has the
    m-th power of its distribution. Heads of one model are correlated, which makes their largest d smaller: that of the
    shuffled cohorts is exact, and this one is what can be said of published numbers.

    Attributes:
        heads: how many were looked at.
        n1: answers in the cohort.
        n0: answers in the other.
    """

    heads: int
    n1: int
    n0: int

    def p(self, d: float, true: float = 0.0) -> float:
        """Probability of a largest |d| at least as large.

        Args:
            d: of the head that differs most.
            true: the difference that every head has.
        """
        return of_largest(self._two_tails(abs(d) / self._scale, abs(true) / self._scale), self.heads)

    def quantile(self, q: float) -> float:
        """The largest |d| that is reached with probability 1 - q."""
        from scipy.special import stdtrit

        return float(stdtrit(self.n1 + self.n0 - 2, (1 + q ** (1 / self.heads)) / 2)) * self._scale

    def _two_tails(self, t: float, shift: float) -> float:
        """P(|T| > t) of Student's t, not central where it is shifted."""
        df = self.n1 + self.n0 - 2
        if shift == 0:
            return 2 * t_tail(t, df)
        ratios, weights = chi_ratios(df)
        return float(weights @ (normal_tails(t * ratios - shift) + normal_tails(t * ratios + shift)))

    @property
    def _scale(self) -> float:
        return math.sqrt(1 / self.n1 + 1 / self.n0)


def of_largest(p: float, heads: int) -> float:
    """The p of the largest of that many independent heads from that of a single one."""
    if p >= 1:
        return 1.0
    # A tail below the least positive number is small, not impossible.
    return max(float(-np.expm1(heads * np.log1p(-p))), float(np.finfo(np.float64).tiny))


@dataclass(frozen=True, slots=True)
class InSampleD:
    """The law of Cohen's d along the difference of two cohorts' means, estimated on the answers that are projected.

    For noise that is alike in r dimensions, d² over r times its scale is F with r and n - 2 degrees of freedom: the gap of two
    means is the length of r normal numbers, and how answers spread around their means does not depend on the means. Noise that
    fills fewer dimensions gives less.

    Attributes:
        width: r, dimensions.
        n1: answers in the cohort.
        n0: answers in the other.
    """

    width: int
    n1: int
    n0: int

    def p(self, d: float, true: float = 0.0) -> float:
        """Probability of a d at least as large.

        Args:
            d: at least 0, as every d along its own direction is.
            true: how far the cohorts lie apart, in the spread of the noise.
        """
        from scipy.special import fdtrc, ncfdtr

        scale, df = in_sample_theory([1.0], self.n1, self.n0), self.n1 + self.n0 - 2
        ratio = (d / scale) ** 2 / self.width
        if true == 0:
            return float(fdtrc(self.width, df, ratio))
        return float(1 - ncfdtr(self.width, df, (true / scale) ** 2, ratio))


def in_sample_theory(eigenvalues: ArrayLike, n1: int, n0: int) -> float:
    """The in-sample directional d that pure noise with such a covariance spectrum comes near."""
    spectrum = np.asarray(eigenvalues, np.float64)
    return float(spectrum.sum() / np.sqrt((spectrum**2).sum()) * math.sqrt(1 / n1 + 1 / n0))


def _cohorts(cohort: ArrayLike) -> NDArray[np.bool_]:
    chosen = np.asarray(cohort, bool)
    sizes = int(chosen.sum()), int((~chosen).sum())
    if min(sizes) < SMALLEST_COHORT:
        raise ValueError(f"cohorts of {sizes[0]} and {sizes[1]} answers; each needs {SMALLEST_COHORT}")
    return chosen


def _dealt(chosen: NDArray[np.bool_], k: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """The fold of every answer: each cohort in random order, dealt like cards, the second going on where the first ended."""
    order = np.concatenate([rng.permutation(np.flatnonzero(chosen)), rng.permutation(np.flatnonzero(~chosen))])
    fold = np.empty(len(chosen), np.intp)
    fold[order] = np.arange(len(chosen)) % k
    return fold


def _shuffled_within(
    chosen: NDArray[np.bool_], fold: NDArray[np.intp], draws: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    shuffled = np.tile(chosen, (draws, 1))
    for f in range(int(fold.max()) + 1):
        inside = np.flatnonzero(fold == f)
        shuffled[:, inside] = rng.permuted(shuffled[:, inside], axis=1)
    return shuffled


def _projections(x: Floats, gram: Floats | None, labels: NDArray[np.bool_], train: NDArray[np.bool_]) -> Floats:
    """Every answer on the unit vector between the training means of the cohorts, from the middle between them.

    Args:
        x: (answers, head_dim), centred.
        gram: x @ x.T where that is the shorter way; None where it is not.
        labels: (draws, answers).
        train: (answers,), which answers give the means.

    Returns:
        (draws, answers); 0 where the means do not differ.
    """
    inside = labels & train, ~labels & train
    shares = [part / part.sum(axis=1, keepdims=True) for part in inside]
    weights = shares[0] - shares[1]
    raw = weights @ gram if gram is not None else (weights @ x) @ x.T
    length = np.sqrt(np.maximum((raw * weights).sum(axis=1), 0.0))
    middle = (raw * (shares[0] + shares[1])).sum(axis=1) / 2
    out = raw - middle[:, None]
    return np.asarray(np.divide(out, length[:, None], out=np.zeros_like(out), where=length[:, None] > 0), np.float64)


def _d_of_rows(values: Floats, labels: NDArray[np.bool_]) -> Floats:
    """Cohen's d of every row: values (draws, answers) under labels (draws, answers)."""
    n = values.shape[1]
    n1 = labels.sum(axis=1)
    centred = values - values.mean(axis=1, keepdims=True)
    gap = (centred * labels).sum(axis=1) * (1 / n1 + 1 / (n - n1))
    within = (centred**2).sum(axis=1) - gap**2 / (1 / n1 + 1 / (n - n1))
    spread = np.sqrt(np.maximum(within, 0.0) / (n - 2))
    return np.asarray(np.divide(gap, spread, out=np.zeros_like(gap), where=spread > 0), np.float64)


def _against_largest(d: Floats) -> HeadScores:
    """d (heads, 1 + draws), the first column observed, against the largest of each other column; one-sided."""
    null = d[:, 1:].max(axis=0)
    top = np.sort(null)
    as_large = len(top) - np.searchsorted(top, d[:, 0] - 1e-12 * np.abs(d[:, 0]), side="left")
    p = np.asarray((1 + as_large) / (len(top) + 1), np.float64)
    return HeadScores(d[:, 0].copy(), p, null, int(d[:, 0].argmax()))
