"""The size of a change: treated minus control, paired by prompt, with its interval and its test.

Answers of one prompt are one cluster: repeated samples and seeds are averaged (or summed, for cell counts) within the
prompt before anything is compared, so that no number of samples per prompt can pass for more prompts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from counterclaim import stats
from counterclaim.audit.metrics import Floats
from counterclaim.records import Estimate, Json
from counterclaim.registry import Metric

Ints = npt.NDArray[np.int64]
SEED = 2604


@dataclass(frozen=True, slots=True)
class Effect:
    """A paired comparison of one metric between two arms.

    Attributes:
        metric: its name.
        control: the control arm's value over the paired prompts.
        treated: the treated arm's value over the paired prompts.
        difference: treated minus control.
        p: two-sided p-value against no difference; None where undefined.
        p_method: the test behind it, or why there is none.
        n_paired: number of prompts with a scored answer in both arms.
        p_range: smallest and largest exact McNemar p over all pairings, where only margins are known.
    """

    metric: str
    control: Estimate
    treated: Estimate
    difference: Estimate
    p: float | None
    p_method: str
    n_paired: int
    p_range: tuple[float, float] | None = None

    def to_json(self, margin: float) -> dict[str, Json]:
        """The contract's ``effect`` block."""
        out: dict[str, Json] = {
            "metric": self.metric,
            "control": self.control.to_json(),
            "treated": self.treated.to_json(),
            "difference": self.difference.to_json(),
            "p": self.p,
            "p_method": self.p_method,
            "n_paired": self.n_paired,
            "margin": margin,
        }
        if self.p_range is not None:
            out["p_range"] = list(self.p_range)
        return out

    def conclusion(self, sign: int, margin: float, alpha: float) -> str:
        """``for``, ``against`` or ``open``: what this effect says of a change in direction ``sign`` that matters.

        *Against* needs an interval wholly below the margin (or on the wrong side); *for* needs an interval that
        excludes zero and p <= alpha.
        """
        interval = self.difference.interval
        if interval is None:
            return "open"
        low, high = interval if sign > 0 else (-interval[1], -interval[0])
        if high < margin:
            return "against"
        worst_p = self.p_range[1] if self.p_range else self.p
        return "for" if low > 0 and worst_p is not None and worst_p <= alpha else "open"


def effect_from_json(row: Mapping[str, Json]) -> Effect:
    """The inverse of ``to_json`` on an Effect."""
    control, treated, difference = (Estimate(**row[name]) for name in ("control", "treated", "difference"))
    span = row.get("p_range")
    return Effect(
        row["metric"], control, treated, difference, row["p"], row["p_method"], row["n_paired"], tuple(span) if span else None
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ArmCounts:
    """k successes of n, all that is known of an arm; ``cut`` of them were cut by the budget, None if not known."""

    k: int
    n: int
    cut: int | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """A study of which only counts are known; ``both`` is how many prompts succeeded under both arms."""

    control: ArmCounts
    treated: ArmCounts
    both: int | None = None


def cluster_mean(values: Floats, index: Ints, n_prompts: int) -> Floats:
    """Mean per prompt, float (n_prompts,), of values (n,) with prompt indices (n,); NaN values are left out."""
    scored = ~np.isnan(values)
    total = np.bincount(index[scored], weights=values[scored], minlength=n_prompts)
    count = np.bincount(index[scored], minlength=n_prompts)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def cluster_sum(cells: Floats, index: Ints, n_prompts: int) -> Floats:
    """Sum per prompt, float (n_prompts, c), of cells (n, c)."""
    columns = [np.bincount(index, weights=column, minlength=n_prompts) for column in cells.T]
    return np.stack(columns, axis=1).astype(np.float64)


def mean_effect(
    metric: Metric,
    control: tuple[Floats, Ints],
    treated: tuple[Floats, Ints],
    n_prompts: int,
    *,
    level: float,
    draws: int,
) -> Effect:
    """Paired difference of a mean. Each arm is (values (n,), prompt index (n,)); NaN means unscored."""
    mean_c, mean_t = cluster_mean(*control, n_prompts), cluster_mean(*treated, n_prompts)
    paired = ~np.isnan(mean_c) & ~np.isnan(mean_t)
    c, t = mean_c[paired], mean_t[paired]
    single = all(
        int((~np.isnan(v)).sum()) == int((~np.isnan(m)).sum()) for v, m in ((control[0], mean_c), (treated[0], mean_t))
    )
    if single and len(c) and np.isin(c, (0, 1)).all() and np.isin(t, (0, 1)).all():
        return _binary_effect(metric.name, c == 1, t == 1, level)
    d = t - c
    p = stats.sign_flip_test(d, draws=draws, seed=SEED) if len(d) > 1 else None
    scale, of_differences = ((0.0, 1.0), (-1.0, 1.0)) if metric.fraction else (None, None)
    return Effect(
        metric.name, stats.mean(c, level, scale=scale), stats.mean(t, level, scale=scale),
        stats.paired_mean(d, level, scale=of_differences), p,
        "sign-flip permutation by prompt" if p is not None else "fewer than two pairs", len(d),
    )  # fmt: skip


def _binary_effect(name: str, c: npt.NDArray[np.bool_], t: npt.NDArray[np.bool_], level: float) -> Effect:
    both, only_t, only_c = int((c & t).sum()), int((~c & t).sum()), int((c & ~t).sum())
    n = len(c)
    return Effect(
        name,
        stats.wilson(both + only_c, n, level),
        stats.wilson(both + only_t, n, level),
        stats.newcombe_paired(both, only_t, only_c, n - both - only_t - only_c, level),
        stats.mcnemar_exact(only_t, only_c),
        "exact McNemar",
        n,
    )


def ratio_effect(
    metric: Metric,
    control: tuple[Floats, Ints],
    treated: tuple[Floats, Ints],
    n_prompts: int,
    *,
    level: float,
    draws: int,
) -> Effect:
    """Paired difference of a ratio of cell counts. Each arm is (one-hot cells (n, 4), prompt index (n,))."""
    cells_c, cells_t = cluster_sum(*control, n_prompts), cluster_sum(*treated, n_prompts)
    paired = (cells_c.sum(1) > 0) & (cells_t.sum(1) > 0)
    c, t = cells_c[paired], cells_t[paired]
    statistic = metric.statistic
    assert statistic is not None

    def difference(sums: Floats) -> Floats:
        return statistic(sums[..., 4:]) - statistic(sums[..., :4])

    n = int(paired.sum())
    return Effect(
        metric.name,
        ratio_estimate(metric, c, level=level, draws=draws),
        ratio_estimate(metric, t, level=level, draws=draws),
        stats.bootstrap_counts(np.hstack([c, t]), difference, level=level, draws=draws, seed=SEED),
        stats.arm_swap_test(c, t, statistic, draws=draws, seed=SEED) if n > 1 else None,
        "permutation of arms within prompts",
        n,
    )


def ratio_estimate(metric: Metric, cells: Floats, *, level: float, draws: int) -> Estimate:
    """One arm's ratio from per-prompt cell counts (n, 4): the metric's own interval, or a bootstrap by prompt when repeated."""
    assert metric.statistic is not None
    if metric.interval is None or (len(cells) and cells.sum(1).max() > 1):
        return stats.bootstrap_counts(cells, metric.statistic, level=level, draws=draws, seed=SEED)
    cr, hr, cw, hw = (int(x) for x in cells.sum(0)) if len(cells) else (0, 0, 0, 0)
    return metric.interval((cr, hr, cw, hw), level)


def auc_effect(
    metric: Metric,
    control: tuple[Floats, Floats, Ints],
    treated: tuple[Floats, Floats, Ints],
    *,
    level: float,
    draws: int,
) -> Effect:
    """Paired difference of AUC. Each arm is (scores (n,), labels 0/1 (n,), prompt index (n,)); NaN is unscored."""

    def scored(arm: tuple[Floats, Floats, Ints]) -> tuple[Floats, Floats, Ints]:
        keep = ~np.isnan(arm[0]) & ~np.isnan(arm[1])
        return arm[0][keep], arm[1][keep], arm[2][keep]

    control, treated = scored(control), scored(treated)
    common = np.intersect1d(control[2], treated[2])
    (sc, lc, ic), (st, lt, it) = (tuple(x[np.isin(arm[2], common)] for x in arm) for arm in (control, treated))
    bootstrap: dict[str, Json] = {"level": level, "draws": draws, "seed": SEED}
    difference = stats.bootstrap_auc_difference(st, lt == 1, sc, lc == 1, clusters=it, clusters_control=ic, **bootstrap)
    p = None
    if difference.interval and difference.estimate is not None and difference.interval[1] > difference.interval[0]:
        se = (difference.interval[1] - difference.interval[0]) / (2 * float(ndtri((1 + level) / 2)))
        p = float(2 * ndtr(-abs(difference.estimate) / se))
    return Effect(
        metric.name,
        stats.bootstrap_auc(sc, lc == 1, clusters=ic, **bootstrap),
        stats.bootstrap_auc(st, lt == 1, clusters=it, **bootstrap),
        difference,
        p,
        "normal, from the bootstrap interval's width",
        len(common),
    )


def counts_effect(metric: str, counts: Counts, *, level: float, same_items: bool = True) -> Effect:
    """The comparison that k-of-n counts can support.

    With the number of joint successes it is the exact paired analysis. With equal n and no pairing, the interval is
    the widest over all feasible pairings and p is the largest; with unequal n, or other items in each arm, the arms are
    taken as independent.
    """
    c, t = counts.control, counts.treated
    own = stats.wilson(c.k, c.n, level), stats.wilson(t.k, t.n, level)
    if counts.both is not None:
        only_t, only_c = t.k - counts.both, c.k - counts.both
        p = stats.mcnemar_exact(only_t, only_c)
        difference = stats.newcombe_paired(counts.both, only_t, only_c, c.n - counts.both - only_t - only_c, level)
        return Effect(metric, *own, difference, p, "exact McNemar", c.n, (p, p))
    if c.n == t.n and same_items:
        low, high = stats.mcnemar_range(c.k, t.k, c.n)
        _, widest = stats.paired_difference_range(c.k, t.k, c.n, level)
        return Effect(metric, *own, widest, high, "exact McNemar, largest over all pairings", c.n, (low, high))
    difference = stats.newcombe_difference(t.k, t.n, c.k, c.n, level)
    return Effect(metric, *own, difference, _two_sample_p(c, t), "Fisher's exact test, arms as independent", 0)


def _two_sample_p(c: ArmCounts, t: ArmCounts) -> float:
    from scipy.stats import fisher_exact

    return float(fisher_exact(np.array([[t.k, t.n - t.k], [c.k, c.n - c.k]])).pvalue)


def as_counts(row: Mapping[str, Json]) -> Counts:
    """The inverse of ``to_json`` on Counts."""
    return Counts(ArmCounts(**row["control"]), ArmCounts(**row["treated"]), row.get("both"))
