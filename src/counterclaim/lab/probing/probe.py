"""A probe as a plan says it: fitted on all answers, or out of fold, whichever classifier it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterclaim import stats
from counterclaim.lab.config import ProbePlan
from counterclaim.lab.probing.classifiers import classifier, cross_decisions_with

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Features = Floats | Sequence[Floats]
"""(n, d); for classifiers that read every token, one (tokens, d) for each answer."""


def fit_probe(probe: ProbePlan, x: Features, labels: Bools, seed: int) -> Callable[[Any], Floats]:
    """The decision function of a probe that is fitted on all of these answers.

    Args:
        probe: which classifier, and its ``C``.
        x: what it reads.
        labels: (n,).
        seed: of classifiers that draw.

    Returns:
        a function from features of m answers to (m,) decision values; positive means the cohort.
    """
    if probe.classifier == "logistic":
        return stats.fit_logistic(x, labels, probe.C).decision
    made: Callable[[Any], Floats] = classifier(probe.classifier).fit(x, labels, probe.C, seed).decision
    return made


def out_of_fold(probe: ProbePlan, x: Features, labels: Bools, folds: NDArray[np.int64], seed: int) -> Floats:
    """Decision values (n,), each of a probe that was fitted on the other folds.

    Args:
        probe: which classifier, and its ``C``.
        x: what it reads.
        labels: (n,).
        folds: (n,), the fold that each answer is in.
        seed: of classifiers that draw.
    """
    if probe.classifier == "logistic":
        return np.asarray(stats.cross_decisions(x, labels[None], folds[None], (probe.C,))[0, 0, 0], np.float64)
    return np.asarray(cross_decisions_with(probe.classifier, x, labels, folds[None], probe.C, seed)[0], np.float64)
