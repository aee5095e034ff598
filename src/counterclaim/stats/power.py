"""Power: what a design could have detected, and how many items would settle a question."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from counterclaim.stats.distributions import (
    binomial_cdf,
    binomial_quantile,
    chi_ratios,
    log_binomial_law,
    normal_quantile,
    normal_tails,
    t_quantile,
)

_LARGE = 10_000_000


def power_paired_t(sd: float, n: int, effect: float, alpha: float = 0.05) -> float:
    """Power of the two-sided one-sample t test on n normal paired differences; 0 for n < 2.

    The noncentral t law, as the average over the sample's standard deviation of a normal power.
    """
    if n < 2:
        return 0.0
    if sd == 0:
        return 1.0 if effect else alpha
    shift = abs(effect) / sd * math.sqrt(n)
    ratios, weights = chi_ratios(n - 1)
    critical = t_quantile(1 - alpha, n - 1) * ratios
    return float(weights @ (normal_tails(critical - shift) + normal_tails(critical + shift)))


def mde(sd: float, n: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """Minimum detectable effect: the mean paired difference that a t test on n pairs finds with this power.

    Args:
        sd: standard deviation of the differences, >= 0.
        n: pairs.
        alpha: two-sided level.
        power: wanted.

    Returns:
        In the unit of sd, to a relative 1e-6; infinity for n < 2, where no difference can be detected.
    """
    _check(alpha, power)
    if n < 2:
        return math.inf
    if sd == 0:
        return 0.0
    high = sd
    while power_paired_t(sd, n, high, alpha) < power:
        high *= 2
    return _bisect(lambda effect: power_paired_t(sd, n, effect, alpha) >= power, 0.0, high)


def n_for(sd: float, effect: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """The smallest number of pairs on which a two-sided t test finds this mean difference with this power."""
    _check(alpha, power)
    if effect == 0:
        raise ValueError("no number of pairs detects an effect of 0")
    return _smallest(lambda n: power_paired_t(sd, n, effect, alpha) >= power, 2)


def power_mcnemar(discordant_rate: float, n: int, effect: float, alpha: float = 0.05) -> float:
    """Exact power of the exact two-sided McNemar test on n pairs.

    Args:
        discordant_rate: share of pairs on which the arms disagree; raised to |effect| where that is larger.
        n: pairs.
        effect: difference of the two rates, in [-1, 1].
        alpha: two-sided level.
    """
    rate = min(1.0, max(discordant_rate, abs(effect)))
    if rate == 0 or n < 1:
        return 0.0
    spread = 8 * math.sqrt(n * rate * (1 - rate)) + 1
    m = np.arange(max(0, math.floor(n * rate - spread)), min(n, math.ceil(n * rate + spread)) + 1)
    law = np.exp(log_binomial_law(m, n, rate)) if rate < 1 else (m == n).astype(np.float64)
    # The largest smaller count that is still significant among m discordant pairs.
    critical = binomial_quantile(alpha / 2, m, 0.5)
    share = (rate + abs(effect)) / (2 * rate)
    reject = binomial_cdf(critical, m, share) + binomial_cdf(critical, m, 1 - share)
    return float(np.sum(law * reject))


def mde_binary_paired(discordant_rate: float, n: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """Minimum detectable difference of two paired rates, by the exact power of the exact McNemar test.

    Args:
        discordant_rate: share of pairs on which the arms disagree, as observed; a difference larger than this
            implies at least as much disagreement, and is computed so.
        n: pairs.
        alpha: two-sided level.
        power: wanted.

    Returns:
        A fraction in (0, 1], or infinity where even a difference of 1 would be missed.
    """
    _check(alpha, power)
    if power_mcnemar(discordant_rate, n, 1.0, alpha) < power:
        return math.inf
    return _bisect(lambda effect: power_mcnemar(discordant_rate, n, effect, alpha) >= power, 0.0, 1.0)


def n_for_binary_paired(discordant_rate: float, effect: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Pairs on which the exact McNemar test finds this difference of rates with this power.

    Exact power climbs in saw teeth; the answer is one from which it holds, to within a tooth.
    """
    _check(alpha, power)
    if effect == 0:
        raise ValueError("no number of pairs detects an effect of 0")
    return _smallest(lambda n: power_mcnemar(discordant_rate, n, effect, alpha) >= power, 1)


def mde_auc(n_pos: int, n_neg: int, alpha: float = 0.05, power: float = 0.8, null_sd: float | None = None) -> float:
    """The smallest AUC above 0.5 that a two-sided test against chance finds with this power.

    Variances are those of Hanley and McNeil (1982) for exponential scores; the quantile is Student's t on the smaller class.

    Args:
        n_pos: positives.
        n_neg: negatives.
        alpha: two-sided level.
        power: wanted.
        null_sd: standard deviation of the estimate at chance, where it is known to be larger than the class sizes say (that
            of a cross-validated AUC is); it scales the standard deviation elsewhere, too.

    Returns:
        A fraction in (0.5, 1), or infinity where a class has fewer than two items or even perfect ranking would be missed.
    """
    _check(alpha, power)
    fewer = min(n_pos, n_neg)
    if fewer < 2:
        return math.inf
    at_chance = _hanley_mcneil(0.5, n_pos, n_neg)
    scale = 1.0 if null_sd is None else null_sd / at_chance
    critical, needed = t_quantile(1 - alpha, fewer - 1), normal_quantile(power)

    def found(area: float) -> bool:
        return area - 0.5 >= scale * (critical * at_chance + needed * _hanley_mcneil(area, n_pos, n_neg))

    return _bisect(found, 0.5, 1.0) if found(1.0) else math.inf


def _hanley_mcneil(area: float, n_pos: int, n_neg: int) -> float:
    both_above, both_below = area / (2 - area), 2 * area * area / (1 + area)
    spread = area * (1 - area) + (n_pos - 1) * (both_above - area**2) + (n_neg - 1) * (both_below - area**2)
    return math.sqrt(max(spread, 0.0) / (n_pos * n_neg))


def n_to_settle(half_width: float, n: int, margin: float) -> int:
    """Items at which the interval is too narrow to hold both 0 and the margin.

    The half-width shrinks with the root of n; an interval of half-width below margin/2 cannot hold both.

    Args:
        half_width: of the present interval, > 0.
        n: present items.
        margin: > 0, in the same unit.

    Returns:
        At least n.
    """
    if half_width < 0 or margin <= 0:
        raise ValueError("a half-width and a margin are positive")
    return max(n, math.floor(n * (2 * half_width / margin) ** 2) + 1)


def _check(alpha: float, power: float) -> None:
    if not (0 < alpha < 1 and 0 < power < 1):
        raise ValueError("alpha and power lie between 0 and 1")


def _bisect(enough: Callable[[float], bool], low: float, high: float) -> float:
    """The least value in (low, high] that is enough, to a relative 1e-6."""
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        if enough(middle):
            high = middle
        else:
            low = middle
    return high


def _smallest(enough: Callable[[int], bool], start: int) -> int:
    """The least n that is enough, up to ten million, by doubling and halving."""
    high = start
    while not enough(high):
        if high >= _LARGE:
            return _LARGE
        high = min(high * 2, _LARGE)
    low = max(start - 1, high // 2)
    while high - low > 1:
        middle = (low + high) // 2
        if enough(middle):
            high = middle
        else:
            low = middle
    return high
