"""Intervals and permutation tests beside those of scipy and scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.timing import row, take_turns
from counterclaim.records import Estimate, Json
from counterclaim.stats import bootstrap_auc, bootstrap_counts, bootstrap_means, sign_flip_test

DRAWS = 10_000
_LEVEL = 0.95
_ENDS = ((1 - _LEVEL) / 2, (1 + _LEVEL) / 2)

Floats = NDArray[np.float64]
Numbers = Sequence[float]


@dataclass(frozen=True, slots=True)
class Duel:
    """One row: two ways to the same numbers.

    Attributes:
        name: what is computed, at what size.
        ours: computes it with this package and returns the numbers to compare.
        peer: the peer's name.
        theirs: computes it with the peer.
        share: how much of the whole job the peer's call does; its time is divided by this.
        price: the ratio is ours over the peer's (what more work costs), not the peer's over ours (how much faster).
    """

    name: str
    ours: Callable[[], Numbers]
    peer: str
    theirs: Callable[[], Numbers]
    share: float = 1.0
    price: bool = False


def statistics_duels(quick: bool, progress: Callable[[str], None]) -> list[dict[str, Json]]:
    """Time every duel of ``ROWS``.

    Args:
        quick: one repetition instead of seven.
        progress: told the name of each row before it is timed.

    Returns:
        rows ``{"name", "ours", "peer", "peer_s", "ratio", "agreement"}``: median seconds, the ratio peer_s / ours (of a
        price: ours / peer_s), and the largest absolute difference between the two answers' numbers.
    """
    rows = []
    for make in ROWS:
        duel = make()
        progress(duel.name)
        rows.append(fight(duel, 1 if quick else 7))
    return rows


def fight(duel: Duel, rounds: int) -> dict[str, Json]:
    """Both sides in turn, this often, and their medians: a row as ``statistics_duels`` gives it."""
    sides = {"ours": duel.ours, "theirs": duel.theirs}
    numbers, seconds = take_turns(sides, rounds)
    apart = float(np.max(np.abs(np.subtract(numbers["ours"], numbers["theirs"]))))
    return row(duel.name, seconds["ours"], duel.peer, seconds["theirs"] / duel.share, apart, price=duel.price)


def _ends(draws: Floats) -> Numbers:
    return [float(end) for end in np.quantile(draws, _ENDS)]


def _interval(estimate: Estimate) -> Numbers:
    if estimate.interval is None:
        raise RuntimeError(f"a benchmark's interval is undefined: {estimate.reason}")
    return estimate.interval


def _scipy_ends(data: tuple[Floats, ...], statistic: Callable[..., Floats], *, paired: bool = False) -> Numbers:
    from scipy.stats import bootstrap

    interval = bootstrap(
        data,
        statistic,
        n_resamples=DRAWS,
        vectorized=True,
        paired=paired,
        confidence_level=_LEVEL,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _arms(n: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(0)
    control = rng.normal(size=n)
    return control + 0.05 + 0.5 * rng.normal(size=n), control


def _gap(treated: Floats, control: Floats, axis: int = -1) -> Floats:
    return np.asarray(treated.mean(axis=axis) - control.mean(axis=axis))


def paired_mean_row() -> Duel:
    """Bootstrap of a paired mean, the way its users call scipy: both arms, paired."""
    treated, control = _arms(1000)
    return Duel(
        "bootstrap 10,000 x paired mean, n = 1,000",
        lambda: _ends(bootstrap_means(treated - control, DRAWS)),
        "scipy.stats.bootstrap, vectorised, percentile, paired",
        lambda: _scipy_ends((treated, control), _gap, paired=True),
    )


def differences_row() -> Duel:
    """The same, the cheapest way to call scipy: the differences as one sample."""
    treated, control = _arms(1000)
    return Duel(
        "bootstrap 10,000 x mean of differences, n = 1,000",
        lambda: _ends(bootstrap_means(treated - control, DRAWS)),
        "scipy.stats.bootstrap, vectorised, percentile, one sample",
        lambda: _scipy_ends((treated - control,), np.mean),
    )


def fifty_metrics_row() -> Duel:
    """What fifty metrics cost, in units of one."""
    x = np.random.default_rng(0).normal(size=(1000, 50))
    return Duel(
        "50 metrics over 1 (price), bootstrap 10,000, n = 1,000",
        lambda: _ends(bootstrap_means(x, DRAWS)[:, 0]),
        "ours, 1 metric",
        lambda: _ends(bootstrap_means(x[:, :1], DRAWS)[:, 0]),
        price=True,
    )


def _ranked(n: int) -> tuple[Floats, NDArray[np.bool_]]:
    rng = np.random.default_rng(0)
    labels = rng.random(n) < 0.5
    return rng.normal(size=n) + 0.6 * labels, labels


def auc_scipy_row() -> Duel:
    """Bootstrap of an AUC against scipy's, with a statistic that works on whole batches."""
    from scipy.stats import rankdata

    scores, labels = _ranked(164)

    def batch_auc(score: Floats, label: Floats, axis: int = -1) -> Floats:
        positives = label.sum(axis=axis)
        ranks = (rankdata(score, axis=axis) * label).sum(axis=axis)
        pairs = positives * (label.shape[axis] - positives)
        return np.asarray((ranks - positives * (positives + 1) / 2) / pairs)

    return Duel(
        "bootstrap 10,000 x AUC, n = 164",
        lambda: _interval(bootstrap_auc(scores, labels, _LEVEL, DRAWS)),
        "scipy.stats.bootstrap, vectorised, percentile, paired",
        lambda: _scipy_ends((scores, labels.astype(np.float64)), batch_auc, paired=True),
    )


def auc_sklearn_row() -> Duel:
    """Bootstrap of an AUC against the loop that most papers' code runs."""
    from sklearn.metrics import roc_auc_score

    scores, labels = _ranked(164)
    timed = 500

    def loop() -> Numbers:
        rng = np.random.default_rng(1)
        picks = rng.integers(0, len(scores), (timed, len(scores)))
        return _ends(np.array([roc_auc_score(labels[pick], scores[pick]) for pick in picks]))

    return Duel(
        f"bootstrap 10,000 x AUC, n = 164 (peer timed on {timed} draws and scaled)",
        lambda: _interval(bootstrap_auc(scores, labels, _LEVEL, DRAWS)),
        "loop over sklearn.metrics.roc_auc_score",
        loop,
        share=timed / DRAWS,
    )


def permutation_row() -> Duel:
    """Paired permutation test of a mean difference."""
    treated, control = _arms(1000)

    def theirs() -> Numbers:
        from scipy.stats import permutation_test

        found = permutation_test(
            (treated, control),
            _gap,
            permutation_type="samples",
            vectorized=True,
            n_resamples=DRAWS,
            rng=np.random.default_rng(1),
        )
        return [float(found.pvalue)]

    return Duel(
        "paired permutation test, 10,000 draws, n = 1,000",
        lambda: [sign_flip_test(treated - control, DRAWS)],
        "scipy.stats.permutation_test, vectorised",
        theirs,
    )


def asymmetry_row() -> Duel:
    """Bootstrap of assertion asymmetry from the four cells of the disposition profile."""
    rng = np.random.default_rng(0)
    correct = (rng.random(1000) < 0.58).astype(np.float64)
    asserts = (rng.random(1000) < 0.9 - 0.05 * correct).astype(np.float64)
    cells = np.column_stack(
        [correct * asserts, correct * (1 - asserts), (1 - correct) * asserts, (1 - correct) * (1 - asserts)]
    )

    def of_cells(sums: Floats) -> Floats:
        cr, hr, cw, hw = sums.T
        return np.asarray(cw / (cw + hw) - cr / (cr + hr))

    def of_items(right: Floats, sure: Floats, axis: int = -1) -> Floats:
        n_right = right.sum(axis=axis)
        sure_right = (right * sure).sum(axis=axis)
        wrong = right.shape[axis] - n_right
        return np.asarray((sure.sum(axis=axis) - sure_right) / wrong - sure_right / n_right)

    return Duel(
        "bootstrap 10,000 x assertion asymmetry, n = 1,000",
        lambda: _interval(bootstrap_counts(cells, of_cells, _LEVEL, DRAWS)),
        "scipy.stats.bootstrap, vectorised, percentile, paired",
        lambda: _scipy_ends((correct, asserts), of_items, paired=True),
    )


ROWS: list[Callable[[], Duel]] = [
    paired_mean_row,
    differences_row,
    fifty_metrics_row,
    auc_scipy_row,
    auc_sklearn_row,
    permutation_row,
    asymmetry_row,
]
"""What ``statistics_duels`` times, in order; append to it to add a row."""
