"""How often each failure mode of a probe is named where it is planted, and where it is not: rates for docs/probes.md.

python scripts/measure_probe_modes.py [--draws 400] [--only MODE]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from counterclaim import stats
from counterclaim.audit.probing import Agreement
from counterclaim.lab.probing.crossval import c2st
from counterclaim.lab.probing.taxonomy import taxonomy, within_fresh

Random = np.random.Generator
N_TRAIN, N_FRESH, D = 100, 193, 16  # the source paper's prompts
FAILED = stats.delong(np.arange(193) % 7, np.arange(193) % 2 == 0)  # AUC 0.50: so that the taxonomy is asked at all


@dataclass(frozen=True)
class Case:
    """What one draw gives to the taxonomy, with the mode planted or not."""

    mode: str
    planted: str
    clean: str
    draw: Callable[[Random, bool], list[str]]


def modes(**found: object) -> list[str]:
    """Names of the modes that hold."""
    given = {"fresh_auc": FAILED, "train": (56, N_TRAIN), "fresh": (54, N_FRESH), **found}
    return [mode.mode for mode in taxonomy(**given)]  # type: ignore[arg-type]


def alike(random: Random, planted: bool) -> list[str]:
    labels = random.random(N_FRESH) < 0.28
    x = random.standard_normal((N_FRESH, D))
    x[:, 0] += 0.0 if planted else 1.2 * labels  # AUC 0.8 along one direction
    within = within_fresh(x, labels, permutations=100, seed=int(random.integers(1 << 30)))
    return modes(fresh=(int(labels.sum()), N_FRESH), within=within)


def cliff(random: Random, planted: bool) -> list[str]:
    before, after = random.binomial(N_TRAIN, 0.56), random.binomial(N_FRESH, 0.05 if planted else 0.40)
    return modes(train=(int(before), N_TRAIN), fresh=(int(after), N_FRESH))


def shifted(random: Random, planted: bool) -> list[str]:
    train, fresh = random.standard_normal((N_TRAIN, D)), random.standard_normal((N_FRESH, D))
    fresh[:, 0] += 1.5 if planted else 0.0  # the best classifier has an AUC of 0.86
    return modes(shift=c2st(train, fresh, permutations=100, seed=int(random.integers(1 << 30))))


def unfinished(random: Random, planted: bool) -> list[str]:
    return modes(cut=(int(random.binomial(N_FRESH, 0.25 if planted else 0.03)), N_FRESH))


def underpowered(random: Random, planted: bool) -> list[str]:
    n, positives = (N_FRESH, 9) if planted else (600, 170)
    labels = np.arange(n) < positives
    scores = random.standard_normal(n) + (0.18 if planted else 0.0) * labels  # AUC 0.55, and 0.5
    return modes(fresh_auc=stats.delong(scores, labels), fresh=(positives, n))


def disagreeing(random: Random, planted: bool) -> list[str]:
    labels = random.random(N_FRESH) < 0.4
    other = np.where(random.random(N_FRESH) < (0.9 if planted else 0.1), random.random(N_FRESH) < 0.4, labels)
    return modes(labels=Agreement.of(other, labels))


CASES = (
    Case("single output distribution", "noise, 28 % positive", "a direction with AUC 0.80", alike),
    Case("capability cliff", "56 % positive in training, 5 % fresh", "56 %, 40 %", cliff),
    Case("distribution shift", "means 1.5 sd apart on one of 16 axes", "one distribution", shifted),
    Case("unfinished responses", "a quarter of the answers cut", "3 % cut", unfinished),
    Case("underpowered", "9 positives of 193, AUC 0.55", "170 of 600, AUC 0.5", underpowered),
    Case("label disagreement", "labels made anew in nine of ten (kappa 0.1)", "in one of ten (kappa 0.9)", disagreeing),
)


def rates(case: Case, draws: int) -> tuple[float, float]:
    """Shares of draws in which the mode is named: planted, and not planted."""
    named = [
        np.mean([case.mode in case.draw(np.random.default_rng([planted, draw]), planted) for draw in range(draws)])
        for planted in (True, False)
    ]
    return float(named[0]), float(named[1])


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--draws", type=int, default=400)
    asked.add_argument("--only")
    arguments = asked.parse_args()
    print("| mode | planted | named | not planted | named |\n| --- | --- | --- | --- | --- |")
    for case in CASES:
        if arguments.only in (None, case.mode):
            caught, alarmed = rates(case, arguments.draws)
            print(f"| {case.mode} | {case.planted} | {caught:.1%} | {case.clean} | {alarmed:.1%} |", flush=True)


if __name__ == "__main__":
    main()
