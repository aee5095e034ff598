"""The five steps through which a probe has to pass before a sidecar may trust it, in order.

    1 within-distribution  cross-validated on the training answers, its gate too
    2 fresh prompts        on prompts that another hand wrote; the threshold was chosen in training
    3 axes                 what else it should tell, each on both, and whether the axes are distinct
    4 layers and pooling   whether another reading changes the answer; never chosen on fresh prompts
    5 second family        steps 1 and 2 again on another model

A step has passed only where an interval carries it: an estimate that reaches its bar with chance still in its interval is
not settled, and neither is one that misses a bar which its interval still contains. Every step says what it could have seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from counterclaim import stats
from counterclaim.audit.metrics import Floats
from counterclaim.errors import InputError
from counterclaim.lab.config import Bars, FiveSteps, Layer, Position, ProbePlan
from counterclaim.lab.probing import crossval, gates
from counterclaim.lab.probing.classifiers import cross_decisions_with
from counterclaim.lab.probing.probe import fit_probe
from counterclaim.lab.probing.taxonomy import agreement, passes, taxonomy, within_fresh
from counterclaim.lab.probing.twosample import TwoSample, c2st, interval_of
from counterclaim.records import Estimate, Json
from counterclaim.wording import number, with_interval

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Tokens = Floats | Sequence[Floats]
Read = Callable[[Layer, int, Position], tuple[Floats, Floats]]
Watch = Callable[[str], None]

NAMES = ("within-distribution", "fresh prompts", "axes", "layers and pooling", "second model family")
"""What the steps are called, in order."""

REFITS = 99
"""Most label shuffles where every one of them is a fit by itself: all classifiers but logistic regression."""

SWEEP_SPLITS, SWEEP_SHUFFLES = 3, 200
"""At most, of the comparison of readings, whose null has that many fits for each of them."""

DRAWN = 300
"""Most answers of each split in the picture of the features."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model's answers to training and fresh prompts, as probes read them.

    Every pair is (training, fresh); rows of one side go together.

    Attributes:
        model: its name.
        layers: indices of the decoder layers that can be read, from the bottom up.
        n_layers: decoder layers that the model has, those that nobody reads included.
        read: features (n, d) and (m, d) at a layer, the mean of so many layers up to it, and a position.
        labels: cohort (``metrics.in_cohort``) to float (n,) and (m,): 1, 0, or NaN where it was not scored.
        ids: what the answers are called; the fresh ones are keys of ``scores``.
        read_tokens: features of every token of the response, a list of (tokens, d), for classifiers that read them all.
        asserted: float, 1 where the answer was asserted, 0 where hedged, NaN where that was not scored.
        cut: whether the budget ended the answer; None where it is not known.
        style: (n, k) and (m, k): length, hedges, headings.
    """

    model: str
    layers: tuple[int, ...]
    n_layers: int
    read: Read
    labels: Mapping[str, tuple[Floats, Floats]]
    ids: tuple[Sequence[str], Sequence[str]]
    read_tokens: Callable[[Layer], tuple[Tokens, Tokens]] | None = None
    asserted: tuple[Floats, Floats] | None = None
    cut: tuple[Bools, Bools] | None = None
    style: tuple[Floats, Floats] | None = None


def five_steps(
    first: Subject,
    second: Subject | None,
    probe: ProbePlan,
    plan: FiveSteps,
    *,
    seed: int = 0,
    level: float = 0.95,
    watch: Watch | None = None,
) -> dict[str, Json]:
    """Put a probe through the five steps.

    Args:
        first: the model whose probe it is.
        second: a model of another family; None leaves step 5 undone.
        probe: what is read and how it is fitted.
        plan: what is tried, and the bars.
        seed: of splits and shuffles.
        level: of every interval.
        watch: told what is being done.

    Returns:
        plain JSON: ``steps`` (each with ``passed`` true, false or null where the data do not settle it, its ``tests``
        against bars, ``because``, ``power`` and ``rows``), ``correlations`` of the axes, ``c2st_auc``, ``taxonomy``, the
        ``gap`` to what a judge says of the same answers, ``endpoint``, ``pca`` and the ``scores`` of the fresh answers.

    Raises:
        InputError: the probe's own labels lack a class, or a cohort of the plan was not labelled.
    """
    say = watch or (lambda _: None)
    bench = _Bench(first, plan, seed, level)
    say("steps 1 and 2: the probe itself")
    own = bench.fitted(probe.cohort, probe)
    if own.problem is not None and own.cv is None:
        raise InputError(
            f"no probe can be trained: {own.problem}", remedy="label more answers, or choose a cohort that splits them"
        )
    steps = [_own_step(at, own, plan.bars, level) for at in (1, 2)]
    fitted = [own]
    for axis in plan.axes:
        say(f"step 3: {axis}")
        fitted.append(bench.fitted(axis, probe))
    correlations = _correlations(first, [probe.cohort, *plan.axes], level)
    steps.append(_axes(fitted, correlations, plan.bars, level))
    say("step 4: layers and pooling")
    steps.append(_readings(bench, probe, plan.bars))
    if second is not None:
        say(f"step 5: {second.model}")
    steps.append(_second_model(first, second, probe, plan, seed, level))
    say("telling why")
    x, z = (_taken(side, at) for side, at in zip(bench.features(probe), own.kept, strict=True))
    pooled = not probe.reads_tokens
    apart = (
        c2st(x, z, splits=min(5, plan.splits), permutations=min(200, plan.permutations), seed=seed, level=level)
        if pooled
        else None
    )
    return {
        "cohort": probe.cohort,
        "model": first.model,
        "second_model": None if second is None else second.model,
        "probe": asdict(probe),
        "bars": asdict(plan.bars),
        "splits": plan.splits,
        "permutations": plan.permutations,
        "level": level,
        "passed": _all(step["passed"] for step in steps),
        "steps": steps,
        "correlations": correlations,
        "c2st_auc": None if apart is None else apart.auc.to_json(),
        "taxonomy": _why(first, own, z if pooled else None, apart, plan, seed, level),
        "gap": _gap(first, own, level),
        "endpoint": _endpoint(first, own),
        "pca": _pca(x, z, own.labels) if pooled else None,
        "scores": {"fresh": _scores(first, own)},
    }


# one probe ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A probe for one cohort, cross-validated on the training answers, fitted on all of them, read on the fresh ones.

    ``problem`` says why there is none, and the rest is None then. Rows that were not scored are left out everywhere:
    ``kept`` holds the places of the others among (training, fresh).
    """

    model: str
    axis: str
    plan: ProbePlan
    kept: tuple[Ints, Ints]
    labels: tuple[Bools, Bools]
    problem: str | None = None
    cv: crossval.CrossValidated | None = None
    fresh: Floats | None = None
    fresh_auc: Estimate | None = None
    gate_cv: gates.Gate | None = None
    gate_fresh: gates.Gate | None = None
    peeked: gates.Peeked | None = None

    def cv_auc(self, level: float) -> Estimate:
        """Mean AUC over splits, with an interval that knows what out-of-fold decisions share."""
        if self.cv is None:
            return Estimate.undefined(self.problem or "", n=len(self.labels[0]), level=level, method="cross-validated")
        return interval_of(self.cv, self.labels[0], level)

    def auc(self, level: float) -> Estimate:
        """AUC on the fresh answers, with DeLong's interval."""
        if self.fresh_auc is not None:
            return self.fresh_auc
        return Estimate.undefined(self.problem or "", n=len(self.labels[1]), level=level, method="DeLong, logit t")

    def _shuffled_p(self) -> float:
        """How often label shuffles make the gate at least as calibrated on fresh answers."""
        assert self.fresh is not None
        assert self.gate_fresh is not None
        return gates.shuffled_p(gates.probability(self.fresh), self.labels[1], self.gate_fresh.threshold)

    def row(self, level: float) -> dict[str, Json]:
        """What the tables show of it."""
        train, fresh = self.labels
        upper = self.auc(level).high
        return {
            "model": self.model, "axis": self.axis, **_reading(self.plan),
            "n": len(train), "n_pos": int(train.sum()), "n_fresh": len(fresh), "n_fresh_pos": int(fresh.sum()),
            "problem": self.problem,
            "cv_auc": None if self.cv is None else {**self.cv.to_json(), "interval": self.cv_auc(level).to_json()},
            "fresh_auc": self.auc(level).to_json(),
            "asymmetry_cv": None if self.gate_cv is None else {**self.gate_cv.to_json(), "threshold": None},
            "asymmetry_honest": None if self.gate_fresh is None else {
                **self.gate_fresh.to_json(), "shuffled_p": self._shuffled_p(),
            },
            "asymmetry_peeked": None if self.peeked is None else self.peeked.to_json(),
            "excludes_auc_above": upper,
        }  # fmt: skip


class _Bench:
    """A subject's features and labels, and how probes are fitted on them."""

    def __init__(self, subject: Subject, plan: FiveSteps, seed: int, level: float) -> None:
        self.subject, self.plan, self.seed, self.level = subject, plan, seed, level

    def features(self, probe: ProbePlan) -> tuple[Tokens, Tokens]:
        """What the probe reads: (n, d) and (m, d), or lists of (tokens, d). Raises InputError where it cannot be read."""
        if not probe.reads_tokens:
            return self.subject.read(probe.layer, probe.average, probe.position)
        if self.subject.read_tokens is None:
            raise InputError("single tokens of the answers were not kept", remedy="try another classifier")
        return self.subject.read_tokens(probe.layer)

    def labelled(self, axis: str) -> tuple[tuple[Ints, Ints], tuple[Bools, Bools]]:
        """Places of the answers that were scored, and their labels. Raises InputError for a cohort without labels."""
        if axis not in self.subject.labels:
            known = ", ".join(sorted(self.subject.labels)) or "none"
            raise InputError(f"no answer was labelled with {axis} (labelled: {known})", remedy="name one that is")
        kept = tuple(np.flatnonzero(~np.isnan(side)) for side in self.subject.labels[axis])
        sides = zip(self.subject.labels[axis], kept, strict=True)
        labels = tuple(np.asarray(side[at] == 1) for side, at in sides)
        return (kept[0], kept[1]), (labels[0], labels[1])

    def fitted(self, axis: str, probe: ProbePlan) -> _Fitted:
        """Cross-validate, fit, choose the threshold in training and read the fresh answers."""
        kept, (train, fresh) = self.labelled(axis)
        made = _Fitted(self.subject.model, axis, probe, kept, (train, fresh))
        fewest = int(min(train.sum(), (~train).sum()))
        if fewest < 2:
            return replace(made, problem=f"{int(train.sum())} of {len(train)} training answers are positive")
        x, z = (_taken(side, at) for side, at in zip(self.features(probe), kept, strict=True))
        folds = min(probe.folds, fewest)
        cv = crossval.cross_validate(
            x, train, C=(probe.C,), folds=folds, splits=self.plan.splits, permutations=self._shuffles(probe),
            seed=self.seed, decide=_decide(probe, self.seed),
        )[0]  # fmt: skip
        decisions = fit_probe(probe, x, train, self.seed)(z)
        bars, inner = self.plan.bars, gates.probability(cv.decisions[0])
        split = crossval.blocked_splits(train, folds, 1, self.seed, order=crossval.order_of_rows(x, train)).folds[0]
        made = replace(made, cv=cv, fresh=decisions, gate_cv=_cross_fitted(inner, train, split, bars.keep, self.level))
        if not 0 < fresh.sum() < len(fresh):
            return replace(made, problem=f"{int(fresh.sum())} of {len(fresh)} fresh answers are positive")
        chosen = gates.choose_threshold(inner, train, bars.keep)
        return replace(
            made,
            fresh_auc=stats.delong(decisions, fresh, self.level),
            gate_fresh=gates.gate(gates.probability(decisions), fresh, chosen.value, self.level),
            peeked=gates.peek(
                gates.probability(decisions), fresh, keep=bars.keep, bar=bars.fresh_asymmetry,
                permutations=self.plan.permutations, seed=self.seed,
            ),
        )  # fmt: skip

    def _shuffles(self, probe: ProbePlan) -> int:
        return self.plan.permutations if probe.classifier == "logistic" else min(self.plan.permutations, REFITS)


def _reading(probe: ProbePlan) -> dict[str, Json]:
    return {
        "layer": probe.layer, "average": probe.average, "position": probe.position, "classifier": probe.classifier,
        "C": probe.C,
    }  # fmt: skip


def _taken(side: Tokens, at: Ints) -> Floats:
    """Rows of features; a list of token features stays one (its annotation is a white lie that classifiers undo)."""
    return side[at] if isinstance(side, np.ndarray) else [side[i] for i in at]  # type: ignore[return-value]


def _decide(probe: ProbePlan, seed: int) -> crossval.Decide | None:
    """Out-of-fold decisions of a classifier that is not the logistic one."""
    if probe.classifier == "logistic":
        return None

    def decide(x: Floats, labels: Bools, folds: Ints, C: Sequence[float]) -> Floats:
        values = [[cross_decisions_with(probe.classifier, x, one, folds, c, seed) for c in C] for one in labels]
        return np.stack([np.stack(each, axis=1) for each in values])

    return decide


def _cross_fitted(p: Floats, labels: Bools, folds: Ints, keep: float, level: float) -> gates.Gate:
    """The gate in cross-validation: of every fold with the threshold that the other folds choose."""
    asserted = np.zeros(len(p), bool)
    for fold in np.unique(folds):
        held = folds == fold
        asserted[held] = p[held] >= gates.choose_threshold(p[~held], labels[~held], keep).value
    return gates.gate(asserted.astype(np.float64), labels, 0.5, level)


# against the bars -----------------------------------------------------------------------------------------------


def _all(passed: Iterable[bool | None]) -> bool | None:
    """False where one is false, else None where one is not settled."""
    found = list(passed)
    return False if False in found else None if None in found else True


_CHANCE: Mapping[str, float] = {
    "cv_auc": 0.5, "fresh_auc": 0.5, "axis_cv": 0.5, "axis_transfer": 0.5, "cv_asymmetry": 0.0, "fresh_asymmetry": 0.0,
}  # fmt: skip
"""What a quantity is where there is nothing; passing its bar takes an interval that excludes it."""

_AT_MOST = ("cv_asymmetry", "fresh_asymmetry", "axis_correlation")


def _test(of: str, what: str, estimate: Estimate, bars: Bars) -> dict[str, Json]:
    """An estimate against its bar: passed, missed, or not settled, and a sentence that says which and why.

    Args:
        of: the bar, a field of ``Bars``.
        what: the quantity, as a sentence names it.
        estimate: with its interval.
        bars: what has to be reached.
    """
    bar, above, chance = getattr(bars, of), of not in _AT_MOST, _CHANCE.get(of)
    sign = 1 if above else -1
    told = f"{what} {with_interval(estimate)}"
    value, low, high = estimate.estimate, estimate.low, estimate.high
    bar_told = f"the bar of {number(bar)}"
    passed: bool | None = None
    if value is None:
        said = told
    elif low is None or high is None:
        said = f"{told} cannot be held against {bar_told}"
    elif sign * (value - bar) >= 0:
        if chance is None or (low > chance if above else high < chance):
            passed, said = True, f"{told} meets {bar_told}"
        else:
            said = f"{told} meets {bar_told}, but its interval still contains chance ({chance:g})"
    elif high < bar if above else low > bar:
        passed, said = False, f"{told} excludes {bar_told}"
    else:
        said = f"{told} misses {bar_told}, which its interval still contains"
    return {
        "of": of, "what": what, "estimate": estimate.to_json(), "bar": bar, "rule": "at least" if above else "at most",
        "passed": passed, "said": said,
    }  # fmt: skip


def _step(
    at: int, tests: Sequence[Mapping[str, Json]], power: str, rows: Sequence[Json], because: str = ""
) -> dict[str, Json]:
    said = because or "; ".join(test["said"] for test in tests)
    return {
        "step": at, "name": NAMES[at - 1], "passed": _all(test["passed"] for test in tests) if tests else None,
        "because": _sentence(said), "power": power, "tests": list(tests), "rows": list(rows),
    }  # fmt: skip


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith(".") else ".")


def _power(n_pos: int, n: int, bar: float, level: float, null_sd: float | None = None) -> str:
    """What AUC these class sizes tell from chance, and whether the bar can be seen at all."""
    least = stats.mde_auc(n_pos, n - n_pos, 1 - level, null_sd=null_sd)
    sizes = f"With {n_pos} positive and {n - n_pos} negative answers"
    if not least < 1:
        return f"{sizes} no AUC can be told from chance."
    blind = f", so the bar of {number(bar)} lies below what can be seen" if least > bar else ""
    return f"{sizes} an AUC of {number(least)} is told from chance four times in five{blind}."


def _in_training(one: _Fitted, bars: Bars, level: float) -> list[dict[str, Json]]:
    """Tests of step 1."""
    tests = [_test("cv_auc", "the cross-validated AUC", one.cv_auc(level), bars)]
    return tests if one.gate_cv is None else [*tests, *_gated("cv_asymmetry", "in cross-validation", one.gate_cv, bars)]


def _on_fresh(one: _Fitted, bars: Bars, level: float) -> list[dict[str, Json]]:
    """Tests of step 2."""
    tests = [_test("fresh_auc", "the AUC on fresh prompts", one.auc(level), bars)]
    return tests if one.gate_fresh is None else [*tests, *_gated("fresh_asymmetry", "there", one.gate_fresh, bars)]


def _gated(of: str, where: str, gate: gates.Gate, bars: Bars) -> list[dict[str, Json]]:
    """Tests of a gate. The threshold was chosen to keep P(assert | correct), which is missed only where its interval says so."""
    asymmetry = _test(of, f"the gate's assertion asymmetry {where}", gate.asymmetry, bars)
    kept = _test("keep", "its P(assert | correct)", gate.p_assert_correct, bars)
    return [
        asymmetry,
        {**kept, "passed": None if gate.p_assert_correct.estimate is None else kept["passed"] is not False},
    ]


def _own_step(at: int, one: _Fitted, bars: Bars, level: float) -> dict[str, Json]:
    """Step 1 or 2."""
    side = one.labels[at - 1]
    null_sd = one.cv.null_sd if at == 1 and one.cv is not None and len(one.cv.null) else None
    power = _power(int(side.sum()), len(side), (bars.cv_auc, bars.fresh_auc)[at - 1], level, null_sd)
    return _step(at, (_in_training, _on_fresh)[at - 1](one, bars, level), power, [one.row(level)])


def _axes(fitted: Sequence[_Fitted], correlations: Mapping[str, Json], bars: Bars, level: float) -> dict[str, Json]:
    """Step 3: every axis cross-validated and on fresh prompts, and no two axes the same."""
    rows = [one.row(level) for one in fitted]
    if len(fitted) < 2:
        return _step(3, [], "Nothing was looked at.", rows, "No other axis was named (axes in [pipeline])")
    tests = []
    for one in fitted:
        cv = _test("axis_cv", f"{one.axis} cross-validated", one.cv_auc(level), bars)
        transfer = _test("axis_transfer", f"{one.axis} on fresh prompts", one.auc(level), bars)
        tests += [{**cv, "axis": one.axis}, {**transfer, "axis": one.axis}]
    largest = correlations["largest"]
    if largest is not None:
        what = f"the largest |r| between two axes ({' and '.join(largest['axes'])})"
        tests.append(_test("axis_correlation", what, Estimate(**largest["r"]), bars))
    holds = [tests[2 * at]["passed"] is True and tests[2 * at + 1]["passed"] is True for at in range(len(fitted))]
    missed = [test["said"] for test in tests if test["passed"] is not True]
    because = f"{sum(holds)} of {len(fitted)} axes reach both of their bars"
    if largest is not None:
        because += f"; {tests[-1]['said']}" if tests[-1]["passed"] is True else ""
    fewest = min(fitted, key=lambda one: min(one.labels[1].sum(), (~one.labels[1]).sum()))
    power = f"{fewest.axis} has the fewest. " + _power(
        int(fewest.labels[1].sum()), len(fewest.labels[1]), bars.axis_transfer, level
    )
    return _step(3, tests, power, rows, "; ".join([because, *missed]))


def _correlations(subject: Subject, axes: Sequence[str], level: float) -> dict[str, Json]:
    """Pearson's r between labels of all axes, over training and fresh answers; the largest in size with its interval."""
    labels = {axis: np.concatenate(subject.labels[axis]) for axis in axes}
    matrix: list[list[float | None]] = [[1.0 if a == b else None for b in axes] for a in axes]
    largest: tuple[float, Estimate, list[str]] | None = None
    for (at, a), (to, b) in combinations(enumerate(axes), 2):
        found = _pearson(labels[a], labels[b], level)
        matrix[at][to] = matrix[to][at] = found.estimate
        if found.estimate is not None and (largest is None or found.estimate > largest[0]):
            largest = found.estimate, found, [a, b]
    return {
        "axes": list(axes), "matrix": matrix,
        "largest": None if largest is None else {"axes": largest[2], "r": largest[1].to_json()},
    }  # fmt: skip


def _pearson(a: Floats, b: Floats, level: float) -> Estimate:
    """|r| over items that both hold, with Fisher's interval folded at 0."""
    both = ~np.isnan(a) & ~np.isnan(b)
    n, method = int(both.sum()), "Pearson, Fisher z"
    x, y = a[both], b[both]
    if n < 4 or x.std() == 0 or y.std() == 0:
        return Estimate.undefined("an axis does not vary", n=n, level=level, method=method)
    r = abs(float(np.corrcoef(x, y)[0, 1]))
    if r > 1 - 1e-12:
        return Estimate(1.0, 1.0, 1.0, level, method, n)
    z, half = math.atanh(r), stats.distributions.two_sided(level) / math.sqrt(n - 3)
    return Estimate(r, max(0.0, math.tanh(z - half)), math.tanh(z + half), level, method, n)


def _readings(bench: _Bench, probe: ProbePlan, bars: Bars) -> dict[str, Json]:
    """Step 4: other layers, positions, averages, classifiers and penalties; the one that training chooses is held to its bar."""
    fresh = bench.labelled(probe.cohort)[1][1]
    rows, null = _compared(bench, probe, bars)
    read = [row for row in rows if row["cv_auc"] is not None]
    _holm(read, int(fresh.sum()), len(fresh))
    chosen = max(read, key=lambda row: row["cv_auc"]["mean"])  # the first of equals
    chosen["chosen"] = True
    best = chosen["cv_auc"]["mean"]
    p = None
    if len(null) and chosen["classifier"] == "logistic":
        p = float((1 + (null >= best - 1e-12).sum()) / (1 + len(null)))
    test = _test("fresh_auc", "its AUC on fresh prompts", Estimate(**chosen["fresh_auc"]), bars)
    areas = [row["fresh_auc"]["estimate"] for row in read]
    reach = sum(area is not None and area >= bars.fresh_auc for area in areas)
    survive = sum(row["fresh_p_holm"] is not None and row["fresh_p_holm"] <= 1 - bench.level for row in read)
    adjusted = "" if p is None else f"; as the best of {len(read)}, p = {p:.2g} on shuffled labels"
    because = (
        f"Of {len(read)} readings, {told_reading(chosen)} does best in training (cross-validated AUC {number(best)}{adjusted}); "
        f"{test['said']}. On fresh prompts {reach} of {len(read)} reach the bar, and after Holm's correction for that many "
        f"{survive} differ from chance"
    )
    step = _step(4, [test], _power(int(fresh.sum()), len(fresh), bars.fresh_auc, bench.level), rows, because)
    return {**step, "tried": len(read), "best_p": p, "reach_the_bar": reach, "survive_holm": survive}


def _compared(bench: _Bench, probe: ProbePlan, bars: Bars) -> tuple[list[dict[str, Json]], Floats]:
    """A row for every reading, all on the same splits, and the best logistic one on each of the same label shuffles."""
    plan, (kept, (train, fresh)) = bench.plan, bench.labelled(probe.cohort)
    order = crossval.order_of_rows(_taken(bench.features(probe)[0], kept[0]), train)
    folds = min(probe.folds, int(min(train.sum(), (~train).sum())))
    made = crossval.blocked_splits(train, folds, min(SWEEP_SPLITS, plan.splits), bench.seed, order=order)
    shuffled = made.shuffle(train, min(plan.permutations, SWEEP_SHUFFLES), bench.seed)
    rows, null = [], np.full(len(shuffled), -np.inf)
    for reading in _tried(bench.subject, probe, plan):
        row: dict[str, Json] = {"model": bench.subject.model, "axis": probe.cohort, **_reading(reading)}
        try:
            sides = bench.features(reading)
        except InputError as error:
            rows.append({**row, "problem": error.problem, "cv_auc": None, "fresh_auc": None})
            continue
        x, z = (_taken(side, at) for side, at in zip(sides, kept, strict=True))
        decide = _decide(reading, bench.seed) or stats.cross_decisions
        sets = np.concatenate([train[None], shuffled]) if reading.classifier == "logistic" else train[None]
        found = decide(x, sets, made.folds, (reading.C,))[:, :, 0]
        areas = np.mean([crossval.fold_auc(found[:, s], sets, split) for s, split in enumerate(made.folds)], axis=0)
        if reading.classifier == "logistic":
            null = np.maximum(null, areas[1:])
        area = stats.delong(fit_probe(reading, x, train, bench.seed)(z), fresh, bench.level)
        rows.append({
            **row, "problem": None, "cv_auc": {"mean": float(areas[0]), "splits": len(made.folds)},
            "fresh_auc": area.to_json(), "passed": _test("fresh_auc", "", area, bars)["passed"],
        })  # fmt: skip
    return rows, null


def _tried(subject: Subject, probe: ProbePlan, plan: FiveSteps) -> list[ProbePlan]:
    """The probe itself, and every reading that differs from it in layer and position, or in one thing else."""
    layers: tuple[Layer, ...] = (*(plan.layers or subject.layers), "last")
    averages = averages_of(plan.averages, probe, subject.n_layers)
    made = [probe]
    made += [replace(probe, layer=layer, average=1, position=at) for layer in layers for at in plan.positions]
    made += [replace(probe, average=average, position=at) for average in averages for at in plan.positions]
    others = [replace(probe, classifier=name) for name in plan.classifiers]
    made += [replace(one, average=1) if one.reads_tokens else one for one in others]
    made += [replace(probe, C=strength) for strength in plan.C]
    return list(dict.fromkeys(made))


def averages_of(averages: Iterable[int], probe: ProbePlan, n_layers: int) -> list[int]:
    """Of how many layers up to the probe's the mean can be taken."""
    below = n_layers if probe.layer == "last" else probe.layer + 1
    return [average for average in averages if average <= below]


def told_reading(row: Mapping[str, Json]) -> str:
    """A reading in words: ``layer 3, mean of tokens, logistic, C 0.1``."""
    layer = "last state" if row["layer"] == "last" else f"layer {row['layer']}"
    if row["average"] > 1:
        layer = f"mean of {row['average']} layers up to {layer}"
    return f"{layer}, {POSITIONS[row['position']]}, {row['classifier']}, C {row['C']:g}"


POSITIONS: Mapping[str, str] = {"last": "last token", "mean": "mean of tokens", "prompt-end": "end of prompt"}
"""What positions are called in sentences."""


def _holm(rows: Sequence[dict[str, Json]], n_pos: int, n: int) -> None:
    """Give every row the p of its AUC on fresh prompts, one-sided against chance, adjusted for all rows; None without classes."""
    adjusted: Sequence[float | None] = [None] * len(rows)
    if 0 < n_pos < n:
        sd = math.sqrt((n + 1) / (12 * n_pos * (n - n_pos)))
        p = [NormalDist().cdf((0.5 - row["fresh_auc"]["estimate"]) / sd) for row in rows]
        adjusted = [float(value) for value in stats.holm(p)]
    for row, value in zip(rows, adjusted, strict=True):
        row["fresh_p_holm"] = value


def _second_model(
    first: Subject, second: Subject | None, probe: ProbePlan, plan: FiveSteps, seed: int, level: float
) -> dict[str, Json]:
    """Step 5: steps 1 and 2 on another model, at the same depth."""
    if second is None:
        return _step(5, [], "Nothing was looked at.", [], "No second model was named (second_model in [pipeline])")
    there = at_same_depth(probe, first.n_layers, second.n_layers)
    one = _Bench(second, plan, seed, level).fitted(probe.cohort, there)
    tests = [*_in_training(one, plan.bars, level), *_on_fresh(one, plan.bars, level)]
    power = _power(int(one.labels[1].sum()), len(one.labels[1]), plan.bars.fresh_auc, level)
    said = "; ".join(test["said"] for test in tests)
    return _step(5, tests, power, [one.row(level)], f"On {second.model}: {said[:1].lower()}{said[1:]}")


def at_same_depth(probe: ProbePlan, here: int, there: int) -> ProbePlan:
    """A probe of a model of so many layers, as it reads one of so many others: at the same share of the way up."""
    if probe.layer == "last":
        return replace(probe, average=min(probe.average, there))
    layer = round(probe.layer / max(here - 1, 1) * (there - 1))
    return replace(probe, layer=layer, average=min(probe.average, layer + 1))


# beside the steps -----------------------------------------------------------------------------------------------


def _why(
    subject: Subject,
    one: _Fitted,
    fresh: Floats | None,
    apart: TwoSample | None,
    plan: FiveSteps,
    seed: int,
    level: float,
) -> list[dict[str, Json]]:
    """Failure modes of a probe that misses its bar on fresh prompts; none of one that meets it."""
    area, bars = one.auc(level), plan.bars
    if passes(area, bars.fresh_auc):
        return []
    train, marks = one.labels
    shuffles = min(200, plan.permutations)
    within = None if fresh is None else within_fresh(fresh, marks, permutations=shuffles, seed=seed)
    style = None
    if subject.style is not None:
        style = within_fresh(subject.style[1][one.kept[1]], marks, permutations=shuffles, seed=seed)
    cut = None if subject.cut is None else subject.cut[1][one.kept[1]]
    labels = None
    if plan.same_construct is not None:
        other = subject.labels[plan.same_construct][1][one.kept[1]]
        both = ~np.isnan(other)
        labels = agreement(marks[both], other[both] == 1, level) if both.any() else None
    return taxonomy(
        area, (int(train.sum()), len(train)), (int(marks.sum()), len(marks)),
        within=within, style=style, shift=apart,
        cut=None if cut is None else (int(cut.sum()), len(cut)), labels=labels, bars=bars, level=level,
    )  # fmt: skip


def _gap(subject: Subject, one: _Fitted, level: float) -> dict[str, Json] | None:
    """How well others tell the same fresh answers apart: what was asserted, and every other label; against the probe.

    AUCs and differences (probe minus other) are over the answers that both scored, paired.
    """
    if one.fresh is None or one.fresh_auc is None:
        return None
    others: dict[str, Floats] = {} if subject.asserted is None else {"asserted": subject.asserted[1]}
    others |= {axis: labels[1] for axis, labels in subject.labels.items() if axis != one.axis}
    rows = []
    for name, scores in others.items():
        score = scores[one.kept[1]]
        both = ~np.isnan(score)
        truth, decisions = one.labels[1][both], one.fresh[both]
        if not 0 < truth.sum() < len(truth):
            continue
        rows.append({
            "judge": name,
            "judge_auc": stats.delong(score[both], truth, level).to_json(),
            "probe_auc": stats.delong(decisions, truth, level).to_json(),
            "difference": stats.delong_paired(decisions, truth, score[both], truth, level).to_json(),
        })  # fmt: skip
    return {"probe_auc": one.fresh_auc.to_json(), "rows": rows}


def _endpoint(subject: Subject, one: _Fitted) -> dict[str, Json]:
    """Shares of the answers read that the budget cut; null where that is not known."""
    shares: list[float | None] = [None, None]
    if subject.cut is not None:
        shares = [float(side[at].mean()) if len(at) else 0.0 for side, at in zip(subject.cut, one.kept, strict=True)]
    return {"position": one.plan.position, "train_cut": shares[0], "fresh_cut": shares[1]}


def _scores(subject: Subject, one: _Fitted) -> dict[str, Json]:
    """Decision of the probe on every fresh answer that was scored, by its id."""
    if one.fresh is None:
        return {}
    return {subject.ids[1][at]: float(value) for at, value in zip(one.kept[1], one.fresh, strict=True)}


def _pca(x: Floats, z: Floats, labels: tuple[Bools, Bools]) -> dict[str, Json]:
    """The two leading principal components of all answers, standardised on the training ones; at most ``DRAWN`` points a side."""
    mean, scale = x.mean(axis=0), x.std(axis=0)
    both = np.concatenate([x, z]).astype(np.float64) - mean
    both /= np.where(scale > 0, scale, 1.0)
    both -= both.mean(axis=0)
    values, points = _leading(both)
    points *= np.where(points[np.abs(points).argmax(axis=0), [0, 1]] < 0, -1.0, 1.0)
    total = float((both**2).sum())
    rows: list[Json] = []
    for split, start, marks in (("train", 0, labels[0]), ("fresh", len(x), labels[1])):
        for at in np.unique(np.linspace(0, len(marks) - 1, min(DRAWN, len(marks))).round().astype(int)):
            across, up = points[start + at]
            rows.append([float(f"{across:.4g}"), float(f"{up:.4g}"), split, int(marks[at])])
    return {"explained": [float(value / total) if total else 0.0 for value in values], "points": rows}


def _leading(x: Floats) -> tuple[Floats, Floats]:
    """Sums of squares (2,) along the two leading components of centred rows (n, d), and the rows' scores (n, 2)."""
    from scipy.linalg import eigh

    n, d = x.shape
    values, points = np.zeros(2), np.zeros((n, 2))
    most = min(n, d)
    found = min(2, most)
    raw, vectors = eigh(x.T @ x if d <= n else x @ x.T, subset_by_index=[most - found, most - 1])
    values[:found], vectors = np.maximum(raw[::-1], 0.0), vectors[:, ::-1]
    points[:, :found] = x @ vectors if d <= n else vectors * np.sqrt(values[:found])
    return values, points
