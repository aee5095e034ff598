"""Means of scores: one arm, paired differences, over seeds, and at equal style."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from counterclaim.records import Estimate
from counterclaim.stats.distributions import Floats, t_quantile


def mean(x: ArrayLike, level: float = 0.95, *, scale: tuple[float, float] | None = None) -> Estimate:
    """The mean of one number per independent item (n,), with Student's t interval.

    Args:
        x: float (n,), finite; repeated samples of one prompt averaged first.
        level: of the interval.
        scale: its ends, where it has any (0 and 1 for rates): the interval keeps to it.

    Returns:
        Undefined for n = 0. The interval is undefined for n = 1. When all values are equal a t interval would
        have no width, which no finite sample can support: the interval then reaches as far as unseen values
        could move the mean (by the exact binomial bound on the share of items that differ, times how far off
        the end of the scale is), and is undefined where the scale has no ends.
    """
    return _t_interval(x, level, "t", scale)


def paired_mean(d: ArrayLike, level: float = 0.95, *, scale: tuple[float, float] | None = None) -> Estimate:
    """The mean of per-prompt differences, treated minus control (n,), with the paired t interval.

    One number per prompt: averaging samples and seeds within a prompt first clusters by prompt. The arguments
    and the undefined cases are those of ``mean``.
    """
    return _t_interval(d, level, "paired t", scale)


def _t_interval(x: ArrayLike, level: float, method: str, scale: tuple[float, float] | None) -> Estimate:
    values = np.asarray(x, np.float64).ravel()
    n = len(values)
    if n == 0:
        return Estimate.undefined("there are no items", level=level, method=method)
    centre = float(values.mean())
    if n == 1:
        return Estimate(centre, None, None, level, method, 1, "one item has no spread to measure")
    # differences of equal scores are equal up to the rounding of the scores, which is no spread either
    if np.ptp(values) <= 1e-9 * float(np.abs(values).max()):
        centre = float(values[0])
        if scale is None:
            reason = f"all {n} values are equal, so their spread is unknown"
            return Estimate(centre, None, None, level, method, n, reason)
        unseen = -float(np.expm1(np.log((1 - level) / 2) / n))
        low, high = (centre + unseen * (end - centre) for end in scale)
        return Estimate(centre, low, high, level, "exact bound on unseen values", n)
    half = t_quantile(level, n - 1) * float(values.std(ddof=1)) / np.sqrt(n)
    least, most = (-np.inf, np.inf) if scale is None else scale
    return Estimate(centre, max(centre - half, least), min(centre + half, most), level, method, n)


def random_effects(
    effects: ArrayLike,
    within_se: ArrayLike | None = None,
    shared_se: float = 0.0,
    level: float = 0.95,
) -> Estimate:
    """The mean effect over seeds, as it would be for a new seed set on new prompts.

    Model: effect of seed s = truth + error that all seeds share (the same prompts) + random effect of the seed
    + the seed's own sampling error. The variance of the mean is s^2/k + shared_se^2, where s^2 is the variance
    between the k effects, and not less than the mean of within_se^2, which it contains. Degrees of freedom by
    Satterthwaite (1946), the shared part taken as known.

    Args:
        effects: (k,), one difference per seed.
        within_se: (k,), the part of each effect's standard error that seeds do not share.
        shared_se: the part they share, >= 0: the standard error over prompts of the mean over seeds.
        level: of the interval.

    Returns:
        n is the number of seeds. With one seed the interval is undefined: nothing is known of other seeds.
    """
    values = np.asarray(effects, np.float64).ravel()
    k, method = len(values), "random effect of seed, Satterthwaite t"
    if shared_se < 0:
        raise ValueError("a standard error is not negative")
    if k == 0:
        return Estimate.undefined("there are no seeds", level=level, method=method)
    centre = float(values.mean())
    if k == 1:
        reason = "one seed says nothing of how seeds differ"
        return Estimate(centre, None, None, level, method, 1, reason)
    between = float(values.var(ddof=1))
    if within_se is not None:
        between = max(between, float(np.mean(np.asarray(within_se, np.float64) ** 2)))
    own = between / k
    variance = own + shared_se**2
    if variance == 0:
        reason = f"all {k} effects are equal, so the spread between seeds is unknown"
        return Estimate(centre, None, None, level, method, k, reason)
    df = (k - 1) * (variance / own) ** 2 if own > 0 else np.inf
    half = t_quantile(level, df) * float(np.sqrt(variance))
    return Estimate(centre, centre - half, centre + half, level, method, k)


def ancova(d: ArrayLike, x: ArrayLike, level: float = 0.95) -> tuple[Estimate, Floats, float]:
    """The effect at equal style: intercept of paired score differences on paired style differences.

    Least squares with HC3 standard errors (MacKinnon and White 1985) and t quantiles with n - rank degrees of
    freedom. Columns that repeat one another are shared out evenly (least-norm solution).

    Args:
        d: (n,) score differences, treated minus control.
        x: (n, f) or (n,) style differences, treated minus control; 0 means equal style.
        level: of the interval.

    Returns:
        The intercept, the slopes (f,) in score units per style unit, and R^2 in [0, 1]. The intercept is
        undefined when no n is left over or a style changes by the same amount on every prompt, so that its
        effect cannot be told from the treatment's.
    """
    y = np.asarray(d, np.float64).ravel()
    style = np.asarray(x, np.float64).reshape(len(y), -1)
    n, features = style.shape
    method = "ANCOVA intercept, HC3 t"
    scale = np.abs(style).max(axis=0, initial=0.0)
    scale[scale == 0] = 1.0
    design = np.column_stack([np.ones(n), style / scale])
    left, singular, right = np.linalg.svd(design, full_matrices=False)
    rank = int(np.sum(singular > 1e-10 * singular.max(initial=0.0)))
    left, singular, right = left[:, :rank], singular[:rank], right[:rank]
    if n - rank < 1:
        reason = f"{n} pairs are too few for {features} style measures"
        return Estimate.undefined(reason, n=n, level=level, method=method), np.zeros(features), 0.0
    solve = (right.T / singular) @ left.T
    beta = solve @ y
    total = float(np.sum((y - y.mean()) ** 2))
    residual = y - design @ beta
    r2 = 0.0 if total == 0 else min(1.0, max(0.0, 1 - float(residual @ residual) / total))
    slopes = beta[1:] / scale
    # The intercept is estimable exactly when its unit vector lies in the row space of the design.
    if float(right[:, 0] @ right[:, 0]) < 1 - 1e-8:
        reason = "a style measure changes by the same amount on every prompt: style and treatment cannot be told apart"
        return Estimate.undefined(reason, n=n, level=level, method=method), slopes, r2
    leverage = np.sum(left**2, axis=1)
    if (leverage > 1 - 1e-8).any():
        reason = "one pair alone decides a style's slope"
        return Estimate(float(beta[0]), None, None, level, method, n, reason), slopes, r2
    se = float(np.sqrt(np.sum((solve[0] * residual / (1 - leverage)) ** 2)))
    if se <= 1e-12 * float(np.abs(y).max(initial=0.0)) or se == 0:
        reason = "the style measures fit every pair exactly, so the spread is unknown"
        return Estimate(float(beta[0]), None, None, level, method, n, reason), slopes, r2
    half = t_quantile(level, n - rank) * se
    return Estimate(float(beta[0]), float(beta[0]) - half, float(beta[0]) + half, level, method, n), slopes, r2
