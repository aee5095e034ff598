"""Can features of one set be told from features of another? A classifier two-sample test (Lopez-Paz and Oquab 2017)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from counterclaim import stats
from counterclaim.lab.probing.crossval import CrossValidated, Floats, Watch, cross_validate
from counterclaim.records import Estimate, Json

TELLING = 0.7
"""An AUC at which two sets are told apart for practical purposes; the check ``shift`` has the same."""

FOLDS = 5
MOST_ROWS = 1_000
"""Rows of a set that are looked at: more sharpen nothing that ``TELLING`` could turn on."""

_C = 0.1  # many more columns than rows: the stronger of the two usual penalties
_METHOD = "cross-validated; DeLong, widened to the spread of shuffled labels"


@dataclass(frozen=True, slots=True)
class TwoSample:
    """How well a probe tells the two sets apart.

    Attributes:
        auc: cross-validated AUC; 0.5 where the sets could be of one source.
        p: of the permutation test, one-sided; None where there was none.
    """

    auc: Estimate
    p: float | None

    @property
    def apart(self) -> bool:
        """Whether the sets are told apart: reliably, and well enough to matter."""
        return (self.auc.estimate or 0.0) >= TELLING and self.auc.low is not None and self.auc.low > 0.5

    def to_json(self) -> dict[str, Json]:
        """The contract's ``c2st_auc``."""
        return {**self.auc.to_json(), "permutation_p": self.p}


def c2st(
    train: Floats,
    fresh: Floats,
    *,
    splits: int = 5,
    permutations: int = 200,
    seed: int = 0,
    level: float = 0.95,
    watch: Watch | None = None,
) -> TwoSample:
    """Cross-validate a probe that tells fresh features from training features.

    The interval is DeLong's for one split's out-of-fold scores, around the mean AUC of the splits, and widened by the
    factor by which AUCs of shuffled labels spread more than independent scores would: out-of-fold scores share training
    items, and DeLong alone covers 82 to 85 % where there is nothing to tell (n 120 to 293, d 32 to 2,048).

    Args:
        train: (n, d), finite. Of more than ``MOST_ROWS`` rows some are drawn, of ``fresh`` likewise.
        fresh: (m, d).
        splits: of the cross-validation.
        permutations: shuffles; without any, DeLong's interval stands as it is.
        seed: of draws, splits and shuffles.
        level: of the interval.
        watch: told about splits that are done.

    Returns:
        The test; undefined where a set has fewer than ``FOLDS`` rows.
    """
    n = len(train) + len(fresh)
    if min(len(train), len(fresh)) < FOLDS:
        reason = f"one of the sets has fewer than {FOLDS} rows"
        return TwoSample(Estimate.undefined(reason, n=n, level=level, method=_METHOD), None)
    sets = [_some(rows, seed) for rows in (train, fresh)]
    x = np.concatenate(sets)
    labels = np.repeat([False, True], [len(rows) for rows in sets])
    found = cross_validate(
        x, labels, C=(_C,), folds=FOLDS, splits=splits, permutations=permutations, seed=seed, watch=_named(watch)
    )[0]
    return TwoSample(interval_of(found, labels, level), found.p)


def interval_of(found: CrossValidated, labels: NDArray[np.bool_], level: float = 0.95) -> Estimate:
    """The mean cross-validated AUC with an interval that knows what out-of-fold scores share (see ``c2st``)."""
    plain = stats.delong(found.decisions[0], labels, level)
    mean, n = found.mean, len(labels)
    if plain.low is None or plain.high is None or not 0 < plain.low <= plain.high < 1 or not 0 < mean < 1:
        return Estimate(mean, plain.low, plain.high, level, _METHOD, n, plain.reason)
    half = (_logit(plain.high) - _logit(plain.low)) / 2
    if len(found.null):
        positives = int(labels.sum())
        alone = math.sqrt((n + 1) / (12 * positives * (n - positives)))
        half *= max(1.0, float(found.null.std()) / alone)
    return Estimate(mean, _share(_logit(mean) - half), _share(_logit(mean) + half), level, _METHOD, n)


def _some(rows: Floats, seed: int) -> Floats:
    if len(rows) <= MOST_ROWS:
        return rows
    return rows[np.sort(np.random.default_rng([seed, 3]).choice(len(rows), MOST_ROWS, replace=False))]


def _named(watch: Watch | None) -> Callable[[str, int, int], None] | None:
    return None if watch is None else lambda _, done, total: watch("telling fresh from training", done, total)


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _share(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))
