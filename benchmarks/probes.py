"""The probe solver beside scikit-learn's, at its default tolerance and where it has converged."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.statistics import Duel, fight
from counterclaim.records import Json
from counterclaim.stats import cross_decisions, stratified_folds

FOLDS = 5

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Job:
    """Cross-validated probes.

    Attributes:
        name: what is computed, at what size.
        n: items.
        d: features.
        layers: sets of features, each with probes of its own.
        sets: label vectors, each fitted in every layer and fold.
        timed: fits of the peer that are timed, spread over the whole job.
        rounds: turns of each side.
    """

    name: str
    n: int
    d: int
    layers: int
    sets: int
    timed: int
    rounds: int

    @property
    def fits(self) -> int:
        return self.layers * self.sets * FOLDS


JOBS = (
    Job("probe, n = 100, d = 2,048, 5 folds x 1,000 permutations", 100, 2048, 1, 1000, 25, 5),
    Job("probe, n = 293, d = 1,536, 26 layers x 5 axes x 5 folds", 293, 1536, 26, 5, 26, 3),
    Job("probe, n = 2,000, d = 2,048, 5 folds x 100 label sets", 2000, 2048, 1, 100, 2, 1),
)
QUICK = (Job("probe, n = 60, d = 256, 5 folds x 20 permutations", 60, 256, 1, 20, 10, 1),)
TOLERANCES: dict[str, dict[str, float]] = {
    "default tolerance": {},
    "tight tolerance": {"tol": 1e-10, "max_iter": 10_000},
}


def probe_duels(quick: bool, progress: Callable[[str], None]) -> list[dict[str, Json]]:
    """Time every job against scikit-learn's LogisticRegression (lbfgs) behind a StandardScaler.

    Args:
        quick: a small job instead of ``JOBS``.
        progress: told the name of each row before it is timed.

    Returns:
        rows as ``statistics_duels`` gives them. ``agreement`` is the largest difference between decision values, on the
        fits of the peer that are timed.
    """
    rows = []
    for job in QUICK if quick else JOBS:
        layers, labels, folds = _data(job)
        for tolerance, settings in TOLERANCES.items():
            duel = _duel(job, layers, labels, folds, tolerance, settings)
            progress(f"{duel.name}, {tolerance}")
            rows.append(fight(duel, job.rounds))
    return rows


def _data(job: Job) -> tuple[list[Floats], Bools, Ints]:
    """Features like hidden states, of which the k-th direction carries 1/k of the variance; labels that they do not bear."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(job.d, job.d)))[0] * np.arange(1, job.d + 1)[:, None] ** -0.5
    layers = [rng.normal(size=(job.n, job.d)) @ turn for _ in range(job.layers)]
    first = np.arange(job.n) < 0.6 * job.n
    labels = np.stack([rng.permutation(first) for _ in range(job.sets)])
    return layers, labels, stratified_folds(labels[0], FOLDS, 0)


def _duel(
    job: Job, layers: list[Floats], labels: Bools, folds: Ints, tolerance: str, settings: dict[str, float]
) -> Duel:
    chosen = np.unravel_index(
        np.linspace(0, job.fits - 1, job.timed).round().astype(np.int64), (job.layers, job.sets, FOLDS)
    )
    fits = list(zip(*(index.tolist() for index in chosen), strict=True))

    def ours() -> Sequence[float]:
        found = [cross_decisions(x, labels, folds)[:, 0, 0] for x in layers]
        return _numbers([found[layer][which, folds == fold] for layer, which, fold in fits])

    def theirs() -> Sequence[float]:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        found = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of iterations that ran out, or of a line search that met rounding
            for layer, which, fold in fits:
                x, held = layers[layer], folds == fold
                probe = make_pipeline(StandardScaler(), LogisticRegression(**settings))
                probe.fit(x[~held], labels[which, ~held])
                found.append(probe.decision_function(x[held]))
        return _numbers(found)

    return Duel(
        f"{job.name} (peer timed on {job.timed} of {job.fits:,} fits and scaled)",
        ours,
        f"scikit-learn, lbfgs, {tolerance}",
        theirs,
        share=job.timed / job.fits,
    )


def _numbers(parts: Sequence[Floats]) -> list[float]:
    return [float(value) for value in np.concatenate(parts)]
