"""One probe: cross-validated, fitted on all training items, tested on fresh ones; and what ``counterclaim probe`` reports of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from counterclaim import stats
from counterclaim.audit.probing import (
    Agreement,
    BarTest,
    Endings,
    Endpoint,
    GateResult,
    Overlap,
    Peeked,
    ProbeResult,
    Reading,
    Step,
    Tied,
    Ties,
)
from counterclaim.checks import check_probe
from counterclaim.errors import InputError
from counterclaim.lab.config import Bars, ProbePlan
from counterclaim.lab.probing import gates
from counterclaim.lab.probing.classifiers import classifier, decider
from counterclaim.lab.probing.crossval import (
    Bools,
    CrossValidated,
    Floats,
    Ints,
    Watch,
    blocked_splits,
    c2st,
    cross_validate,
    hash_of_row,
    interval_of,
    order_of_rows,
)
from counterclaim.lab.probing.features import Features, same_model
from counterclaim.lab.probing.labels import Labels
from counterclaim.lab.probing.taxonomy import failure_modes
from counterclaim.records import Estimate, Json
from counterclaim.wording import number

Tokens = Floats | Sequence[Floats]
"""(n, d); for classifiers that read every token, one (tokens, d) for each answer."""

NAMES = ("within-distribution", "fresh prompts", "axes", "layers and pooling", "second model family")
"""Names of the five steps, in order."""


def fit_probe(probe: ProbePlan, x: Tokens, labels: Bools, seed: int) -> Callable[[Any], Floats]:
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


def out_of_fold(probe: ProbePlan, x: Tokens, labels: Bools, folds: NDArray[np.int64], seed: int) -> Floats:
    """Decision values (n,), each of a probe that was fitted on the other folds.

    Args:
        probe: which classifier, and its ``C``.
        x: what it reads.
        labels: (n,).
        folds: (n,), the fold that each answer is in.
        seed: of classifiers that draw.
    """
    decisions = decider(probe.classifier, seed)(x, labels[None], folds[None], (probe.C,))
    return np.asarray(decisions[0, 0, 0], np.float64)


@dataclass(frozen=True, slots=True)
class Trial:
    """How probes are tried.

    Attributes:
        bars: what has to be reached.
        splits: of the cross-validation.
        permutations: label shuffles of each null.
        seed: of splits and shuffles.
        level: of every interval.
    """

    bars: Bars
    splits: int
    permutations: int
    seed: int
    level: float


@dataclass(frozen=True, slots=True)
class FittedProbe:
    """A probe for one cohort, cross-validated on the training items, fitted on all of them, read on the fresh ones.

    ``problem`` says why there is none, and the rest is None then. Items that were not scored are left out everywhere:
    ``kept`` holds the rows of the others among (training, fresh).
    """

    model: str
    axis: str
    plan: ProbePlan
    trial: Trial
    kept: tuple[Ints, Ints]
    labels: tuple[Bools, Bools]
    problem: str | None = None
    cv: CrossValidated | None = None
    fresh: Floats | None = None
    fresh_auc: Estimate | None = None
    gate_cv: gates.Gate | None = None
    gate_fresh: gates.Gate | None = None
    peeked: Peeked | None = None

    @property
    def cv_auc(self) -> Estimate:
        """Mean AUC over splits, with an interval that knows what out-of-fold decisions share."""
        if self.cv is None:
            return self._undefined(0, "cross-validated")
        return interval_of(self.cv, self.labels[0], self.trial.level)

    @property
    def auc(self) -> Estimate:
        """AUC on the fresh items, with DeLong's interval."""
        return self._undefined(1, "DeLong, logit t") if self.fresh_auc is None else self.fresh_auc

    def _undefined(self, side: int, method: str) -> Estimate:
        return Estimate.undefined(
            self.problem or "there are no fresh items", n=len(self.labels[side]), level=self.trial.level, method=method
        )  # fmt: skip

    def read_fresh(self, decisions: Floats) -> FittedProbe:
        """The same with its decisions on the fresh items, and what a gate with the threshold of training gives there."""
        fresh, bars = self.labels[1], self.trial.bars
        assert self.cv is not None
        if not 0 < fresh.sum() < len(fresh):
            return replace(
                self, fresh=decisions, problem=f"{int(fresh.sum())} of {len(fresh)} fresh answers are positive"
            )
        chances, inner = gates.probability(decisions), gates.probability(self.cv.decisions[0])
        chosen = gates.choose_threshold(inner, self.labels[0], bars.keep).value
        return replace(
            self,
            fresh=decisions,
            fresh_auc=stats.delong(decisions, fresh, self.trial.level),
            gate_fresh=gates.gate(chances, fresh, chosen, self.trial.level),
            peeked=gates.peek(
                chances, fresh, keep=bars.keep, bar=bars.fresh_asymmetry, permutations=self.trial.permutations,
                seed=self.trial.seed,
            ),
        )  # fmt: skip

    def reading(self) -> Reading:
        """All its numbers."""
        train, fresh = self.labels
        honest: GateResult | None = None
        if self.gate_fresh is not None and self.fresh is not None:
            at = self.gate_fresh.threshold
            honest = self.gate_fresh.result(at, gates.shuffled_p(gates.probability(self.fresh), fresh, at))
        return Reading(
            model=self.model, axis=self.axis, **read_at(self.plan), problem=self.problem,
            n=len(train), n_pos=int(train.sum()), n_fresh=len(fresh), n_fresh_pos=int(fresh.sum()),
            cv_auc=None if self.cv is None else self.cv.summary(self.cv_auc), fresh_auc=self.auc,
            asymmetry_cv=None if self.gate_cv is None else self.gate_cv.result(None, None),
            asymmetry_honest=honest, asymmetry_peeked=self.peeked, excludes_auc_above=self.auc.high,
        )  # fmt: skip

    def tests_in_training(self) -> list[BarTest]:
        """Tests of step 1."""
        bars = self.trial.bars
        tests = [BarTest.against("cv_auc", "the cross-validated AUC", self.cv_auc, bars.cv_auc)]
        return tests + _gate_tests("cv_asymmetry", "in cross-validation", self.gate_cv, bars)

    def tests_on_fresh(self) -> list[BarTest]:
        """Tests of step 2."""
        bars = self.trial.bars
        tests = [BarTest.against("fresh_auc", "the AUC on fresh prompts", self.auc, bars.fresh_auc)]
        return tests + _gate_tests("fresh_asymmetry", "on fresh prompts", self.gate_fresh, bars)

    def step(self, at: int) -> Step:
        """Step 1 or 2."""
        side, null_sd = self.labels[at - 1], None
        if at == 1 and self.cv is not None and len(self.cv.null):
            null_sd = self.cv.null_sd
        bar = self.trial.bars.cv_auc if at == 1 else self.trial.bars.fresh_auc
        tests = self.tests_in_training() if at == 1 else self.tests_on_fresh()
        return step_of(at, tests, power(int(side.sum()), len(side), bar, self.trial.level, null_sd), [self.reading()])


def read_at(probe: ProbePlan) -> dict[str, Any]:
    """What of a plan tells readings apart."""
    return {
        "layer": probe.layer, "average": probe.average, "position": probe.position, "classifier": probe.classifier,
        "C": probe.C,
    }  # fmt: skip


def in_training(
    model: str, plan: ProbePlan, trial: Trial, kept: tuple[Ints, Ints], labels: tuple[Bools, Bools], x: Floats,
    cv: CrossValidated, folds: int,
) -> FittedProbe:  # fmt: skip
    """A probe that was cross-validated, with its gate in cross-validation: of every fold the threshold that the others choose."""
    train, inner = labels[0], gates.probability(cv.decisions[0])
    split = blocked_splits(train, folds, 1, trial.seed, order=order_of_rows(x, train)).folds[0]
    asserted = np.zeros(len(train), bool)
    for fold in np.unique(split):
        held_out = split == fold
        chosen = gates.choose_threshold(inner[~held_out], train[~held_out], trial.bars.keep).value
        asserted[held_out] = inner[held_out] >= chosen
    gate = gates.gate(asserted.astype(np.float64), train, 0.5, trial.level)
    return FittedProbe(model, plan.cohort, plan, trial, kept, labels, cv=cv, gate_cv=gate)


# against the bars -----------------------------------------------------------------------------------------------


def all_passed(passed: Iterable[bool | None]) -> bool | None:
    """False where one is false, else None where one is not settled."""
    found = list(passed)
    return False if False in found else None if None in found else True


def _gate_tests(of: str, where: str, gate: gates.Gate | None, bars: Bars) -> list[BarTest]:
    """Tests of a gate. Its threshold was chosen to keep P(assert | correct): that is missed only where the interval says so."""
    if gate is None:
        return []
    asymmetry = BarTest.against(of, f"the gate's assertion asymmetry {where}", gate.asymmetry, getattr(bars, of))
    kept = BarTest.against("keep", "the gate's P(assert | correct)", gate.p_assert_correct, bars.keep)
    passed = None if gate.p_assert_correct.estimate is None else kept.passed is not False
    return [asymmetry, replace(kept, passed=passed)]


def step_of(at: int, tests: Sequence[BarTest], power: str, rows: Sequence[Reading], because: str = "") -> Step:
    """A step that has passed where all of its tests have."""
    sentence = because or "; ".join(test.said for test in tests)
    sentence = f"{sentence[:1].upper()}{sentence[1:]}" + ("" if sentence.endswith(".") else ".")
    passed = all_passed(test.passed for test in tests) if tests else None
    return Step(at, NAMES[at - 1], passed, sentence, power, tuple(tests), tuple(rows))


def power(n_pos: int, n: int, bar: float, level: float, null_sd: float | None = None) -> str:
    """What AUC these class sizes tell from chance, and whether the bar can be seen at all."""
    least = stats.mde_auc(n_pos, n - n_pos, 1 - level, null_sd=null_sd)
    sizes = f"With {n_pos} positive and {n - n_pos} negative answers"
    if not least < 1:
        return f"{sizes} no AUC can be told from chance."
    blind = f", so the bar of {number(bar)} lies below what can be seen" if least > bar else ""
    return f"{sizes} an AUC of {number(least)} is told from chance four times in five{blind}."


# what the checks look at beside the numbers ---------------------------------------------------------------------


def overlap(
    x: Tokens | None, z: Tokens | None, ids: tuple[Sequence[str] | None, Sequence[str] | None], n: int
) -> Overlap:
    """Fresh items that are training items too: by their features (None: not compared), and by their ids."""
    train_ids, fresh_ids = ids
    named = 0 if train_ids is None or fresh_ids is None else len(set(train_ids) & set(fresh_ids))
    same = 0
    if x is not None and z is not None:
        known = {hash_of_row(row) for row in x}
        same = sum(hash_of_row(row) in known for row in z)
    return Overlap(n, same, named)


def ties(train: Tied, fresh: Tied, auc_of: Callable[[bool], tuple[Estimate, int]]) -> Ties | None:
    """Scores at the threshold; None where neither side has one.

    Args:
        train: of the training items.
        fresh: of the fresh ones.
        auc_of: the fresh AUC and the fresh positives, given whether ties are counted as the labels have them.
    """
    if train.threshold is None and fresh.threshold is None:
        return None
    if not train.tied + fresh.tied:
        return Ties(train, fresh)
    (at_least, n_at_least), (above, n_above) = auc_of(True), auc_of(False)
    return Ties(train, fresh, at_least, above, n_at_least, n_above)


def auc_with(probe: ProbePlan, x: Tokens, train: Bools, z: Tokens, fresh: Bools, trial: Trial) -> Estimate:
    """AUC on fresh items of a probe that is fitted with these labels."""
    if train.all() or not train.any():
        return Estimate.undefined("the training labels are of one class", n=len(fresh), level=trial.level)
    return stats.delong(fit_probe(probe, x, train, trial.seed)(z), fresh, trial.level)


def endings(cut: Sequence[bool | None] | None) -> Endings | None:
    """Counts of endings; None where nothing is known of any."""
    if cut is None:
        return None
    return Endings(len(cut), sum(bool(end) for end in cut), sum(end is None for end in cut))


def endpoint(position: str, train: Sequence[bool | None] | None, fresh: Sequence[bool | None] | None) -> Endpoint:
    """Where the probe reads, and how the answers of either side ended."""
    sides = [endings(cut) for cut in (train, fresh)]
    shares = [None if side is None or side.unknown else side.cut / max(side.n, 1) for side in sides]
    return Endpoint(position, shares[0], shares[1], sides[0], sides[1])


# the command ----------------------------------------------------------------------------------------------------


def probe_report(
    train: Features | ArrayLike,
    train_labels: Labels | ArrayLike,
    fresh: Features | ArrayLike | None = None,
    fresh_labels: Labels | ArrayLike | None = None,
    *,
    C: Sequence[float] = (1.0, 0.1),
    splits: int = 20,
    folds: int = 5,
    permutations: int = 1_000,
    seed: int = 0,
    level: float = 0.95,
    style: ArrayLike | None = None,
    cut: Sequence[bool | None] | None = None,
    second_labels: Labels | ArrayLike | None = None,
    watch: Watch | None = None,
) -> dict[str, Json]:
    """All numbers and checks of a linear probe, from features and labels.

    Args:
        train: (n, d), what the probe is fitted on.
        train_labels: (n,), row by row with ``train`` (``labels.joined``); both classes.
        fresh: (m, d), items that were never used to choose anything; None leaves all that needs them out.
        fresh_labels: (m,).
        C: inverse strengths of the L2 penalty. The first one is the probe; the others say whether it matters.
        splits: of the cross-validation.
        folds: of each split.
        permutations: label shuffles of each null.
        seed: of splits, shuffles and the bootstrap.
        level: of every interval.
        style: (m, k), style features of the fresh answers, for the taxonomy.
        cut: (m,), whether the token budget cut the answer, None where unknown; as ``fresh`` says where left out.
        second_labels: (m,), another label of the same construct of the fresh items; NaN scores are left out.
        watch: called with the progress.

    Returns:
        The contract's JSON. Without fresh items ``fresh``, ``excludes_auc_above`` and ``c2st_auc`` are null, and so is
        every entry of ``C`` that needs them.

    Raises:
        InputError: labels of one class, fewer items of a class than folds, features of different models or widths.
    """
    seen, labels = _features(train), Labels.of(train_labels)
    positive = _labelled(seen, labels)
    trial = Trial(Bars(), splits, permutations, seed, level)
    tested, truth, right = seen, labels, np.zeros(0, bool)
    if fresh is not None and fresh_labels is not None:
        tested, truth = _features(fresh), Labels.of(fresh_labels)
        right = _labelled(tested, truth)
        same_model(seen, tested)
    cross = cross_validate(
        seen.x, positive, C=C, folds=folds, splits=splits, permutations=permutations, seed=seed, watch=watch
    )
    kept = np.arange(len(positive)), np.arange(len(right))
    plans = [ProbePlan(C=strength, folds=folds) for strength in C]
    probes = [
        in_training("", plan, trial, kept, (positive, right), seen.x, cv, folds)
        for plan, cv in zip(plans, cross, strict=True)
    ]
    if not len(right):
        bare = ProbeResult(
            "", "", asdict(trial.bars), level, None, (probes[0].step(1),), None, (), Endpoint(seen.position, None, None)
        )  # fmt: skip
        return _contract(bare, [_row(one, None) for one in probes], seen.x.shape[1])
    probes = [one.read_fresh(fit_probe(one.plan, seen.x, positive, seed)(tested.x)) for one in probes]
    if watch is not None:
        watch("telling fresh from training", 0, 1)
    shift = c2st(
        seen.x, tested.x, splits=min(5, splits), permutations=min(permutations, 200), seed=seed, level=level
    )  # fmt: skip
    agreement = None if second_labels is None else _agreement(right, Labels.of(second_labels))
    ended = endpoint(seen.position, seen.cut, tested.cut if cut is None else cut)

    def with_ties(as_labelled: bool) -> tuple[Estimate, int]:
        a, b = (each.positive if as_labelled else each.strictly for each in (labels, truth))
        return auc_with(plans[0], seen.x, a, tested.x, b, trial), int(b.sum())

    steps = probes[0].step(1), probes[0].step(2)
    result = ProbeResult(
        "", "", asdict(trial.bars), level, all_passed(step.passed for step in steps), steps, shift.auc,
        failure_modes(
            probes[0].auc, (positive, right), tested.x, None if style is None else np.asarray(style, np.float64), shift,
            ended.fresh, agreement, bar=trial.bars.fresh_auc, level=level, permutations=permutations, seed=seed,
        ),
        ended, overlap=overlap(seen.x, tested.x, (seen.ids, tested.ids), len(right)),
        ties=ties(labels.ties(), truth.ties(), with_ties), agreement=agreement,
    )  # fmt: skip
    bootstraps = [_bootstrap(one, right, trial) for one in probes]
    rows = [_row(one, each) for one, each in zip(probes, bootstraps, strict=True)]
    return _contract(result, rows, seen.x.shape[1], shift.p)


def _contract(
    result: ProbeResult, rows: Sequence[Mapping[str, Json]], width: int, shift_p: float | None = None
) -> dict[str, Json]:
    """``probe --json``."""
    own, highest = result.reading, [row["fresh_auc"] and row["fresh_auc"]["high"] for row in rows]
    c2st_auc = result.c2st_auc
    return {
        "train": {"n": own.n, "n_pos": own.n_pos, "d": width},
        "fresh": {"n": own.n_fresh, "n_pos": own.n_fresh_pos} if own.n_fresh else None,
        "C": list(rows),
        "excludes_auc_above": None if None in highest else max(highest),
        "c2st_auc": None if c2st_auc is None else {**c2st_auc.to_json(), "permutation_p": shift_p},
        "taxonomy": [asdict(mode) for mode in result.taxonomy],
        "bars": {name: result.bars[name] for name in ("fresh_auc", "fresh_asymmetry", "keep")},
        "checks": [check.to_json() for check in check_probe(result)],
    }


def _row(probe: FittedProbe, bootstrap: Estimate | None) -> dict[str, Json]:
    reading = probe.reading()
    is_tested, honest, peeked = bootstrap is not None, reading.asymmetry_honest, reading.asymmetry_peeked
    assert reading.cv_auc is not None
    return {
        "C": reading.C,
        "fresh_auc": probe.auc.to_json() if is_tested else None,
        "fresh_auc_bootstrap": None if bootstrap is None else bootstrap.to_json(),
        "cv_auc": {name: value for name, value in asdict(reading.cv_auc).items() if name != "interval"},
        "asymmetry_honest": None if honest is None else honest.to_json(),
        "asymmetry_peeked": None if peeked is None else asdict(peeked),
    }


def _bootstrap(probe: FittedProbe, right: Bools, trial: Trial) -> Estimate:
    assert probe.fresh is not None
    # the bootstrap draws rows: in this order they hold the same items however the rows were sorted
    order = np.lexsort((right, probe.fresh))
    return stats.bootstrap_auc(probe.fresh[order], right[order], trial.level, seed=trial.seed)


def _features(given: Features | ArrayLike) -> Features:
    return given if isinstance(given, Features) else Features(np.asarray(given, np.float64))


def _labelled(features: Features, labels: Labels) -> Bools:
    positive = labels.positive
    if positive.shape != features.x.shape[:1]:
        raise InputError(
            f"{features.source} has {len(features.x)} rows and {labels.source} {len(positive)} labels",
            remedy="give one label for each row",
        )
    if np.isnan(labels.score).any():
        raise InputError(f"{labels.source} holds items that were not scored", remedy="leave them out of both")
    if positive.all() or not positive.any():
        raise InputError(
            f"all {len(positive)} labels of {labels.source} are of one class", remedy="a probe tells two apart"
        )
    return positive


def _agreement(right: Bools, other: Labels) -> Agreement:
    if other.score.shape != right.shape:
        raise InputError(
            f"{other.source} has {len(other.score)} labels for {len(right)} fresh items", remedy="give one for each"
        )
    kept = ~np.isnan(other.score)
    return Agreement.of(other.positive[kept], right[kept])
