"""Every interval keeps the promise of its level, or says by how much it does not.

Each row of ``CASES`` names the interval, the design, and the coverage measured over 10,000 simulations (4,000
of a bootstrap) at a nominal 95 %. A test repeats a few hundred of them and asks for the measured coverage
within four binomial standard deviations. Run this file as a script to measure the table again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from counterclaim import stats
from counterclaim.records import Estimate

LEVEL = 0.95
DRAWS = 400
Simulation = Callable[[np.random.Generator], tuple[Estimate, float]]


@dataclass(frozen=True)
class Case:
    name: str
    simulate: Simulation
    measured: float
    runs: int = 1000


def _wilson(n: int, p: float) -> Simulation:
    return lambda rng: (stats.wilson(int(rng.binomial(n, p)), n), p)


def _newcombe(n1: int, p1: float, n0: int, p0: float) -> Simulation:
    def simulate(rng: np.random.Generator) -> tuple[Estimate, float]:
        return stats.newcombe_difference(int(rng.binomial(n1, p1)), n1, int(rng.binomial(n0, p0)), n0), p1 - p0

    return simulate


def _newcombe_paired(n: int, cells: tuple[float, float, float, float]) -> Simulation:
    def simulate(rng: np.random.Generator) -> tuple[Estimate, float]:
        both, only1, only0, neither = (int(cell) for cell in rng.multinomial(n, cells))
        return stats.newcombe_paired(both, only1, only0, neither), cells[1] - cells[2]

    return simulate


def _paired_widest(n: int, cells: tuple[float, float, float, float]) -> Simulation:
    def simulate(rng: np.random.Generator) -> tuple[Estimate, float]:
        both, only1, only0, _ = (int(cell) for cell in rng.multinomial(n, cells))
        return stats.paired_difference_range(both + only0, both + only1, n)[1], cells[1] - cells[2]

    return simulate


def _kappa(n: int, table: list[list[float]]) -> Simulation:
    law = np.array(table)
    chance = float(law.sum(axis=1) @ law.sum(axis=0))
    truth = (float(np.trace(law)) - chance) / (1 - chance)
    return lambda rng: (stats.cohen_kappa(rng.multinomial(n, law.ravel()).reshape(law.shape)), truth)


def _mean_of(n: int, draw: Callable[[np.random.Generator, int], np.ndarray], truth: float) -> Simulation:
    return lambda rng: (stats.mean(draw(rng, n)), truth)


def _bounded_rare(n: int, p: float) -> Simulation:
    return lambda rng: (stats.paired_mean((rng.random(n) < p).astype(float), scale=(0.0, 1.0)), p)


def _paired_three_valued(n: int, up: float, down: float) -> Simulation:
    def simulate(rng: np.random.Generator) -> tuple[Estimate, float]:
        return stats.paired_mean(rng.choice([1.0, -1.0, 0.0], n, p=[up, down, 1 - up - down])), up - down

    return simulate


def _seeds(k: int, between: float, own: float, shared: float, *, floor: bool) -> Simulation:
    def simulate(rng: np.random.Generator) -> tuple[Estimate, float]:
        effects = 0.1 + shared * rng.normal() + between * rng.normal(size=k) + own * rng.normal(size=k)
        return stats.random_effects(effects, np.full(k, own) if floor else None, shared), 0.1

    return simulate


def _ancova(n: int) -> Simulation:
    def simulate(rng: np.random.Generator) -> tuple[Estimate, float]:
        style = rng.normal(0.5, 1.0, (n, 2))
        noise = rng.normal(size=n) * (0.5 + np.abs(style[:, 0]))
        return stats.ancova(0.2 + style @ [0.4, -0.1] + noise, style)[0], 0.2

    return simulate


def _rate_gap(cells: np.ndarray) -> np.ndarray:
    """P(assert | wrong) - P(assert | correct) from columns cr, hr, cw, hw."""
    cr, hr, cw, hw = cells.T
    return cw / (cw + hw) - cr / (cr + hr)


def _hallucination_gap(cells: np.ndarray) -> np.ndarray:
    """Hallucination rate, treated (columns 4-7) minus control (0-3)."""
    return cells[:, 6] / (cells[:, 6] + cells[:, 7]) - cells[:, 2] / (cells[:, 2] + cells[:, 3])


def _asymmetry(n: int, law: tuple[float, float, float, float]) -> Simulation:
    truth = law[2] / (law[2] + law[3]) - law[0] / (law[0] + law[1])

    def simulate(rng: np.random.Generator) -> tuple[Estimate, float]:
        cells = np.eye(4)[rng.choice(4, n, p=law)]
        return stats.bootstrap_counts(cells, _rate_gap, draws=DRAWS, seed=int(rng.integers(1 << 30))), truth

    return simulate


def _asymmetry_clustered(prompts: int, samples: int) -> Simulation:
    """Samples of one prompt agree: each repeats the prompt's first cell with probability one half."""
    law = np.array([0.4, 0.15, 0.3, 0.15])
    truth = law[2] / (law[2] + law[3]) - law[0] / (law[0] + law[1])

    def simulate(rng: np.random.Generator) -> tuple[Estimate, float]:
        cell = rng.choice(4, (prompts, samples), p=law)
        cell = np.where(rng.random(cell.shape) < 0.5, cell[:, :1], cell)
        counts = np.eye(4)[cell].sum(axis=1)
        return stats.bootstrap_counts(counts, _rate_gap, draws=DRAWS, seed=int(rng.integers(1 << 30))), truth

    return simulate


def _hallucination(n: int, law: tuple[float, float, float, float]) -> Simulation:
    def simulate(rng: np.random.Generator) -> tuple[Estimate, float]:
        control = rng.choice(4, n, p=law)
        treated = np.where(rng.random(n) < 0.5, control, rng.choice(4, n, p=law))
        cells = np.hstack([np.eye(4)[control], np.eye(4)[treated]])
        seed = int(rng.integers(1 << 30))
        return stats.bootstrap_counts(cells, _hallucination_gap, draws=DRAWS, seed=seed), 0.0

    return simulate


def _scores(rng: np.random.Generator, labels: np.ndarray, area: float, shared: np.ndarray | float) -> np.ndarray:
    from scipy.special import ndtri

    return math.sqrt(2) * float(ndtri(area)) * labels + np.sqrt(0.5) * (shared + rng.normal(size=len(labels)))


def _delong(positives: int, negatives: int, area: float) -> Simulation:
    labels = np.arange(positives + negatives) < positives

    def simulate(rng: np.random.Generator) -> tuple[Estimate, float]:
        return stats.delong(_scores(rng, labels, area, rng.normal(size=len(labels))), labels), area

    return simulate


def _auc_of(
    n: int, interval: Callable[..., Estimate], area: float = 0.75, *, relabel: float | None = None, **rest: object
) -> Simulation:
    """Two correlated arms; with ``relabel``, the treated arm's labels are partly drawn anew."""
    control_labels = np.arange(n) < n // 2

    def simulate(rng: np.random.Generator) -> tuple[Estimate, float]:
        shared = rng.normal(size=n)
        treated_labels = control_labels
        if relabel is not None:
            treated_labels = np.where(rng.random(n) < relabel, rng.random(n) < 0.5, control_labels)
        treated = _scores(rng, treated_labels, area, shared)
        control = _scores(rng, control_labels, 0.65, shared)
        return interval(treated, treated_labels, control, control_labels, **rest), area - 0.65

    return simulate


def _bootstrap_auc(n: int, area: float) -> Simulation:
    labels = np.arange(n) % 2 == 0

    def simulate(rng: np.random.Generator) -> tuple[Estimate, float]:
        scores = _scores(rng, labels, area, rng.normal(size=n))
        return stats.bootstrap_auc(scores, labels, draws=DRAWS, seed=int(rng.integers(1 << 30))), area

    return simulate


def _bootstrap_auc_clustered(prompts: int, samples: int, area: float) -> Simulation:
    clusters = np.repeat(np.arange(prompts), samples)
    labels = clusters % 2 == 0

    def simulate(rng: np.random.Generator) -> tuple[Estimate, float]:
        scores = _scores(rng, labels, area, rng.normal(size=prompts)[clusters])
        seed = int(rng.integers(1 << 30))
        return stats.bootstrap_auc(scores, labels, draws=DRAWS, seed=seed, clusters=clusters), area

    return simulate


def _lognormal(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.lognormal(size=n)


def _normal(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.normal(size=n)


SKEWED = math.exp(0.5)
PAPER = (0.53, 0.05, 0.38, 0.04)

CASES = [
    Case("Wilson, n 10, p .1", _wilson(10, 0.1), 0.928),
    Case("Wilson, n 50, p .5", _wilson(50, 0.5), 0.936),
    Case("Wilson, n 200, p .01", _wilson(200, 0.01), 0.950),
    Case("Newcombe difference, 42 and 58, .905 and .914", _newcombe(42, 0.905, 58, 0.914), 0.956),
    Case("Newcombe difference, 15 and 15, .2 and .5", _newcombe(15, 0.2, 15, 0.5), 0.947),
    Case("Newcombe difference, 100 and 100, .02 and .05", _newcombe(100, 0.02, 100, 0.05), 0.967),
    Case("Newcombe paired, n 20", _newcombe_paired(20, (0.4, 0.2, 0.1, 0.3)), 0.954),
    Case("Newcombe paired, n 100, strong pairing", _newcombe_paired(100, (0.45, 0.08, 0.04, 0.43)), 0.959),
    Case("Newcombe paired, n 200, rare", _newcombe_paired(200, (0.9, 0.02, 0.05, 0.03)), 0.965),
    Case("widest over pairings, n 100 (for pairings unknown)", _paired_widest(100, (0.35, 0.15, 0.1, 0.4)), 1.0),
    Case("kappa, n 30", _kappa(30, [[0.4, 0.1], [0.1, 0.4]]), 0.954),
    Case("kappa, n 100, nearly perfect", _kappa(100, [[0.78, 0.01], [0.01, 0.2]]), 0.975),
    Case("kappa, n 60, one rare label", _kappa(60, [[0.85, 0.05], [0.05, 0.05]]), 0.953),
    Case(
        "kappa, n 100, three labels",
        _kappa(100, [[0.3, 0.1, 0.05], [0.1, 0.2, 0.02], [0.03, 0.05, 0.15]]),
        0.949,
    ),
    Case("t, n 5, normal", _mean_of(5, _normal, 0.0), 0.950),
    Case("t, n 20, lognormal", _mean_of(20, _lognormal, SKEWED), 0.861),
    Case("t, n 200, lognormal", _mean_of(200, _lognormal, SKEWED), 0.927),
    Case("paired t, n 30, differences in {-1, 0, 1}", _paired_three_valued(30, 0.2, 0.1), 0.956),
    Case("paired t, n 100, differences in {-1, 0, 1}, rare", _paired_three_valued(100, 0.06, 0.04), 0.949),
    Case("paired t or bound, n 20, one in a thousand differs", _bounded_rare(20, 0.001), 1.0),
    Case("random effects, 3 seeds, shared prompts", _seeds(3, 0.05, 0.03, 0.04, floor=False), 0.939),
    Case("random effects, 5 seeds, nothing between", _seeds(5, 0.0, 0.05, 0.02, floor=True), 0.976),
    Case("random effects, 10 seeds", _seeds(10, 0.1, 0.02, 0.0, floor=True), 0.949),
    Case("ANCOVA, n 25, unequal variances", _ancova(25), 0.963),
    Case("ANCOVA, n 100, unequal variances", _ancova(100), 0.953),
    Case("bootstrap asymmetry, n 100, paper's cells", _asymmetry(100, PAPER), 0.927, 400),
    Case("bootstrap asymmetry, n 300, paper's cells", _asymmetry(300, PAPER), 0.942, 400),
    Case("bootstrap asymmetry, n 40, even cells", _asymmetry(40, (0.3, 0.2, 0.2, 0.3)), 0.934, 400),
    Case("bootstrap asymmetry, 60 prompts x 4", _asymmetry_clustered(60, 4), 0.946, 300),
    Case("bootstrap hallucination difference, n 100", _hallucination(100, PAPER), 0.921, 400),
    Case("bootstrap hallucination difference, n 40", _hallucination(40, (0.3, 0.2, 0.2, 0.3)), 0.938, 400),
    Case("DeLong, 20 + 20, AUC .8", _delong(20, 20, 0.8), 0.967),
    Case("DeLong, 10 + 90, AUC .95", _delong(10, 90, 0.95), 0.929),
    Case("DeLong, 9 + 184, AUC .52", _delong(9, 184, 0.52), 0.958),
    Case("DeLong, 9 + 184, AUC .75", _delong(9, 184, 0.75), 0.943),
    Case("DeLong or Newcombe, 5 + 5, AUC .95", _delong(5, 5, 0.95), 0.994),
    Case("DeLong paired, n 60", _auc_of(60, stats.delong_paired), 0.946),
    Case("DeLong paired, n 100, labels differ", _auc_of(100, stats.delong_paired, relabel=0.4), 0.947),
    Case("bootstrap AUC, n 60", _bootstrap_auc(60, 0.75), 0.942, 400),
    Case("bootstrap AUC, n 200", _bootstrap_auc(200, 0.65), 0.943, 300),
    Case("bootstrap AUC, 60 prompts x 3", _bootstrap_auc_clustered(60, 3, 0.7), 0.940, 300),
    Case(
        "bootstrap AUC difference, n 80, labels differ",
        _auc_of(80, stats.bootstrap_auc_difference, relabel=0.4, draws=DRAWS),
        0.952,
        300,
    ),
]


def coverage(case: Case, runs: int, seed: int) -> tuple[float, int]:
    """The share of defined intervals that hold the truth, and how many were defined."""
    rng = np.random.default_rng(seed)
    held = defined = 0
    for _ in range(runs):
        estimate, truth = case.simulate(rng)
        if estimate.low is not None and estimate.high is not None:
            defined += 1
            held += estimate.low <= truth <= estimate.high
    return held / defined, defined


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_coverage(case: Case) -> None:
    measured, defined = coverage(case, case.runs, seed=20)
    expected = min(case.measured, 1 - 1 / defined)  # a measured 1.000 is a rounded one
    tolerance = 4 * math.sqrt(expected * (1 - expected) / defined)
    assert abs(measured - case.measured) <= tolerance


if __name__ == "__main__":
    for row in CASES:
        share, usable = coverage(row, 10_000 if row.runs == 1000 else 4000, seed=7)
        print(f"{row.name:55} {share:.3f} {usable}")
