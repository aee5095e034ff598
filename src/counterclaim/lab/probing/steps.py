"""The five steps through which a probe has to pass before a sidecar may trust it, in order.

    1 within-distribution  cross-validated on the training answers, its gate too
    2 fresh prompts        on prompts that another hand wrote; the threshold was chosen in training
    3 axes                 what else it should distinguish, each on both, and whether the axes are distinct
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

from counterclaim import stats
from counterclaim.audit.probing import Agreement, BarTest, CrossAuc, ProbeResult, Reading, Step, Tied, Ties
from counterclaim.errors import InputError
from counterclaim.lab.config import FiveSteps, Layer, Position, ProbePlan
from counterclaim.lab.probing.classifiers import decider
from counterclaim.lab.probing.crossval import (
    Bools,
    Floats,
    Ints,
    blocked_splits,
    c2st,
    cross_validate,
    fold_auc,
    order_of_rows,
)
from counterclaim.lab.probing.probe import (
    FittedProbe,
    Tokens,
    Trial,
    all_passed,
    auc_with,
    endpoint,
    fit_probe,
    in_training,
    overlap,
    power,
    read_at,
    step_of,
    ties,
)
from counterclaim.lab.probing.taxonomy import failure_modes
from counterclaim.records import Estimate, Json
from counterclaim.wording import number

Read = Callable[[Layer, int, Position], tuple[Floats, Floats]]
Watch = Callable[[str], None]

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
        n_layers: decoder layers that the model has, including those that are not read.
        read: features (n, d) and (m, d) at a layer, the mean over a number of layers up to it, and a position.
        labels: cohort (``metrics.in_cohort``) to float (n,) and (m,): 1, 0, or NaN where it was not scored.
        ids: what the answers are called; the fresh ones are keys of ``scores``.
        read_tokens: features of every token of the response, a list of (tokens, d), for classifiers that read them all.
        asserted: float, 1 where the answer was asserted, 0 where hedged, NaN where that was not scored.
        cut: of every answer whether the budget ended it, None where that is unknown; None where no ending was recorded.
        style: (n, k) and (m, k): length, hedges, headings.
        tied: of the probe's cohort, which scores sit exactly on its threshold; None where it has no threshold.
        threshold: of the probe's cohort.
    """

    model: str
    layers: tuple[int, ...]
    n_layers: int
    read: Read
    labels: Mapping[str, tuple[Floats, Floats]]
    ids: tuple[Sequence[str], Sequence[str]]
    read_tokens: Callable[[Layer], tuple[Tokens, Tokens]] | None = None
    asserted: tuple[Floats, Floats] | None = None
    cut: tuple[Sequence[bool | None], Sequence[bool | None]] | None = None
    style: tuple[Floats, Floats] | None = None
    tied: tuple[Bools, Bools] | None = None
    threshold: float | None = None

    def features(self, probe: ProbePlan) -> tuple[Tokens, Tokens]:
        """What the probe reads: (n, d) and (m, d), or lists of (tokens, d). Raises InputError where it cannot be read."""
        if not probe.reads_tokens:
            return self.read(probe.layer, probe.average, probe.position)
        if self.read_tokens is None:
            raise InputError("single tokens of the answers were not kept", remedy="try another classifier")
        return self.read_tokens(probe.layer)

    def labelled(self, axis: str) -> tuple[tuple[Ints, Ints], tuple[Bools, Bools]]:
        """Rows of the answers that were scored, and their labels. Raises InputError for a cohort without labels."""
        if axis not in self.labels:
            known = ", ".join(sorted(self.labels)) or "none"
            raise InputError(f"no answer was labelled with {axis} (labelled: {known})", remedy="name one that is")
        a, b = self.labels[axis]
        kept = np.flatnonzero(~np.isnan(a)), np.flatnonzero(~np.isnan(b))
        return kept, (a[kept[0]] == 1, b[kept[1]] == 1)

    def fitted(self, axis: str, probe: ProbePlan, trial: Trial) -> FittedProbe:
        """Cross-validate, fit, choose the threshold in training and read the fresh answers."""
        kept, labels = self.labelled(axis)
        train = labels[0]
        probe = replace(probe, cohort=axis)
        fewest = int(min(train.sum(), (~train).sum()))
        if fewest < 2:
            problem = f"{int(train.sum())} of {len(train)} training answers are positive"
            return FittedProbe(self.model, axis, probe, trial, kept, labels, problem)
        x, z = (_rows(side, at) for side, at in zip(self.features(probe), kept, strict=True))
        folds = min(probe.folds, fewest)
        shuffles = trial.permutations if probe.classifier == "logistic" else min(trial.permutations, REFITS)
        cv = cross_validate(
            x, train, C=(probe.C,), folds=folds, splits=trial.splits, permutations=shuffles, seed=trial.seed,
            decide=decider(probe.classifier, trial.seed),
        )[0]  # fmt: skip
        made = in_training(self.model, probe, trial, kept, labels, x, cv, folds)
        return made.read_fresh(fit_probe(probe, x, train, trial.seed)(z))


def five_steps(
    first: Subject,
    second: Subject | None,
    probe: ProbePlan,
    plan: FiveSteps,
    *,
    seed: int = 0,
    level: float = 0.95,
    watch: Watch | None = None,
) -> ProbeResult:
    """Put a probe through the five steps.

    Args:
        first: the model whose probe it is.
        second: a model of another family; None leaves step 5 undone.
        probe: what is read and how it is fitted.
        plan: what is tried, and the bars.
        seed: of splits and shuffles.
        level: of every interval.
        watch: called with what is being done.

    Raises:
        InputError: the probe's own labels lack a class, or a cohort of the plan was not labelled.
    """
    report = watch or (lambda _: None)
    trial = Trial(plan.bars, plan.splits, plan.permutations, seed, level)
    report("steps 1 and 2: the probe itself")
    own = first.fitted(probe.cohort, probe, trial)
    if own.problem is not None and own.cv is None:
        raise InputError(
            f"no probe can be trained: {own.problem}", remedy="label more answers, or choose a cohort that splits them"
        )
    steps = [own.step(1), own.step(2)]
    fitted = [own]
    for axis in plan.axes:
        report(f"step 3: {axis}")
        fitted.append(first.fitted(axis, probe, trial))
    correlations = _correlations(first, [probe.cohort, *plan.axes], level)
    steps.append(_axes(fitted, correlations, trial))
    report("step 4: layers and pooling")
    steps.append(_readings(first, probe, plan, trial))
    if second is not None:
        report(f"step 5: {second.model}")
    steps.append(_second_model(first, second, probe, trial))
    report("telling why")
    x, z = (_rows(side, at) for side, at in zip(first.features(probe), own.kept, strict=True))
    pooled = not probe.reads_tokens
    shift = (
        c2st(x, z, splits=min(5, plan.splits), permutations=min(200, plan.permutations), seed=seed, level=level)
        if pooled
        else None
    )
    style = None if first.style is None else first.style[1][own.kept[1]]
    agreement = _agreement(first, own, plan.same_construct)
    ended = endpoint(probe.position, *_ends(first, own))
    return ProbeResult(
        probe.cohort, first.model, asdict(plan.bars), level, all_passed(step.passed for step in steps), tuple(steps),
        None if shift is None else shift.auc,
        failure_modes(
            own.auc, own.labels, z if pooled else None, style, shift, ended.fresh, agreement, bar=plan.bars.fresh_auc,
            level=level, permutations=plan.permutations, seed=seed,
        ),
        ended,
        second_model=None if second is None else second.model, probe=asdict(probe), splits=plan.splits,
        permutations=plan.permutations, correlations=correlations, gap=_gap(first, own, level),
        pca=_pca(x, z, own.labels) if pooled else None, scores={"fresh": _scores(first, own)},
        overlap=overlap(x if pooled else None, z if pooled else None, _ids(first, own), len(own.labels[1])),
        ties=_ties(first, own, x, z), agreement=agreement,
    )  # fmt: skip


def _rows(side: Tokens, at: Ints) -> Floats:
    """Rows of features; a list of token features stays one (its annotation is a white lie that classifiers undo)."""
    return side[at] if isinstance(side, np.ndarray) else [side[i] for i in at]  # type: ignore[return-value]


# the steps ------------------------------------------------------------------------------------------------------


def _axes(fitted: Sequence[FittedProbe], correlations: Mapping[str, Json], trial: Trial) -> Step:
    """Step 3: every axis cross-validated and on fresh prompts, and no two axes the same."""
    rows, bars = [one.reading() for one in fitted], trial.bars
    if len(fitted) < 2:
        return step_of(3, [], "Nothing was tested.", rows, "No other axis was named (axes in [pipeline])")
    tests, holds = [], 0
    for one in fitted:
        cv = BarTest.against("axis_cv", f"{one.axis} cross-validated", one.cv_auc, bars.axis_cv, one.axis)
        transfer = BarTest.against(
            "axis_transfer", f"{one.axis} on fresh prompts", one.auc, bars.axis_transfer, one.axis
        )
        tests += [cv, transfer]
        holds += cv.passed is True and transfer.passed is True
    because = f"{holds} of {len(fitted)} axes reach both of their bars"
    largest = correlations["largest"]
    if largest is not None:
        what = f"the largest |r| between two axes ({' and '.join(largest['axes'])})"
        distinct = BarTest.against("axis_correlation", what, Estimate(**largest["r"]), bars.axis_correlation)
        tests.append(distinct)
        because += f"; {distinct.said}" if distinct.passed is True else ""
    missed = [test.said for test in tests if test.passed is not True]
    fewest = min(fitted, key=lambda one: min(one.labels[1].sum(), (~one.labels[1]).sum()))
    sizes = power(int(fewest.labels[1].sum()), len(fewest.labels[1]), bars.axis_transfer, trial.level)
    return step_of(3, tests, f"{fewest.axis} has the fewest. {sizes}", rows, "; ".join([because, *missed]))


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


def _readings(subject: Subject, probe: ProbePlan, plan: FiveSteps, trial: Trial) -> Step:
    """Step 4: other layers, positions, averages, classifiers and penalties; the one that training chooses has to meet its bar."""
    fresh = subject.labelled(probe.cohort)[1][1]
    rows, null = _compared(subject, probe, plan, trial)
    at = {i: row for i, row in enumerate(rows) if row.cv_auc is not None}
    holm = _holm(list(at.values()), int(fresh.sum()), len(fresh))
    means = {i: row.cv_auc.mean for i, row in at.items() if row.cv_auc is not None}
    chosen = max(means, key=lambda i: means[i])  # the first of equals
    for i, p_holm in zip(at, holm, strict=True):
        rows[i] = replace(rows[i], fresh_p_holm=p_holm, chosen=i == chosen)
    area, best, p = rows[chosen].fresh_auc, means[chosen], None
    assert area is not None
    if len(null) and rows[chosen].classifier == "logistic":
        p = float((1 + (null >= best - 1e-12).sum()) / (1 + len(null)))
    bar = trial.bars.fresh_auc
    test = BarTest.against("fresh_auc", "its AUC on fresh prompts", area, bar)
    areas = [row.fresh_auc.estimate for row in at.values() if row.fresh_auc is not None]
    reach = sum(each is not None and each >= bar for each in areas)
    survive = sum(each is not None and each <= 1 - trial.level for each in holm)
    adjusted = "" if p is None else f"; as the best of {len(at)}, p = {p:.2g} on shuffled labels"
    because = (
        f"Of {len(at)} readings, {_name(rows[chosen])} does best in training (cross-validated AUC {number(best)}{adjusted}); "
        f"{test.said}. On fresh prompts {reach} of {len(at)} reach the bar, and after Holm's correction for that many "
        f"{survive} differ from chance"
    )
    step = step_of(4, [test], power(int(fresh.sum()), len(fresh), bar, trial.level), rows, because)
    return replace(step, tried=len(at), best_p=p, reach_the_bar=reach, survive_holm=survive)


def _compared(subject: Subject, probe: ProbePlan, plan: FiveSteps, trial: Trial) -> tuple[list[Reading], Floats]:
    """Every reading, all on the same splits, and the best logistic one on each of the same label shuffles."""
    kept, (train, fresh) = subject.labelled(probe.cohort)
    order = order_of_rows(_rows(subject.features(probe)[0], kept[0]), train)
    folds = min(probe.folds, int(min(train.sum(), (~train).sum())))
    made = blocked_splits(train, folds, min(SWEEP_SPLITS, plan.splits), trial.seed, order=order)
    shuffled = made.shuffle(train, min(plan.permutations, SWEEP_SHUFFLES), trial.seed)
    rows, null = [], np.full(len(shuffled), -np.inf)
    for plan_read in _tried(subject, probe, plan):
        row = Reading(model=subject.model, axis=probe.cohort, **read_at(plan_read))
        try:
            sides = subject.features(plan_read)
        except InputError as error:
            rows.append(replace(row, problem=error.problem))
            continue
        x, z = (_rows(side, at) for side, at in zip(sides, kept, strict=True))
        decide = decider(plan_read.classifier, trial.seed)
        sets = np.concatenate([train[None], shuffled]) if plan_read.classifier == "logistic" else train[None]
        found = decide(x, sets, made.folds, (plan_read.C,))[:, :, 0]
        areas = np.mean([fold_auc(found[:, s], sets, split) for s, split in enumerate(made.folds)], axis=0)
        if plan_read.classifier == "logistic":
            null = np.maximum(null, areas[1:])
        area = stats.delong(fit_probe(plan_read, x, train, trial.seed)(z), fresh, trial.level)
        passed = BarTest.against("fresh_auc", "", area, trial.bars.fresh_auc).passed
        cv_auc = CrossAuc(float(areas[0]), len(made.folds))
        rows.append(replace(row, cv_auc=cv_auc, fresh_auc=area, passed=passed))
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


def _name(row: Reading) -> str:
    """A reading in words: ``layer 3, mean of tokens, logistic, C 0.1``."""
    layer = "last state" if row.layer == "last" else f"layer {row.layer}"
    if row.average > 1:
        layer = f"mean of {row.average} layers up to {layer}"
    return f"{layer}, {POSITIONS[row.position]}, {row.classifier}, C {row.C:g}"


POSITIONS: Mapping[str, str] = {"last": "last token", "mean": "mean of tokens", "prompt-end": "end of prompt"}
"""Names of positions in sentences."""


def _holm(rows: Sequence[Reading], n_pos: int, n: int) -> list[float | None]:
    """p of the AUC of every row on fresh prompts, one-sided against chance, adjusted for all rows; None without both classes."""
    if not 0 < n_pos < n:
        return [None] * len(rows)
    sd = math.sqrt((n + 1) / (12 * n_pos * (n - n_pos)))
    areas = [row.fresh_auc.estimate for row in rows if row.fresh_auc is not None]
    return [float(p) for p in stats.holm([NormalDist().cdf((0.5 - (area or 0.0)) / sd) for area in areas])]


def _second_model(first: Subject, second: Subject | None, probe: ProbePlan, trial: Trial) -> Step:
    """Step 5: steps 1 and 2 on another model, at the same depth."""
    if second is None:
        return step_of(5, [], "Nothing was tested.", [], "No second model was named (second_model in [pipeline])")
    one = second.fitted(probe.cohort, at_same_depth(probe, first.n_layers, second.n_layers), trial)
    tests = [*one.tests_in_training(), *one.tests_on_fresh()]
    sizes = power(int(one.labels[1].sum()), len(one.labels[1]), trial.bars.fresh_auc, trial.level)
    sentence = "; ".join(test.said for test in tests)
    return step_of(5, tests, sizes, [one.reading()], f"On {second.model}: {sentence[:1].lower()}{sentence[1:]}")


def at_same_depth(probe: ProbePlan, here: int, there: int) -> ProbePlan:
    """A probe of a model with ``here`` layers for one with ``there`` layers: at the same relative depth."""
    if probe.layer == "last":
        return replace(probe, average=min(probe.average, there))
    layer = round(probe.layer / max(here - 1, 1) * (there - 1))
    return replace(probe, layer=layer, average=min(probe.average, layer + 1))


# beside the steps -----------------------------------------------------------------------------------------------


def _ids(subject: Subject, one: FittedProbe) -> tuple[list[str], list[str]]:
    a, b = ([ids[at] for at in kept] for ids, kept in zip(subject.ids, one.kept, strict=True))
    return a, b


def _ends(subject: Subject, one: FittedProbe) -> tuple[Sequence[bool | None] | None, Sequence[bool | None] | None]:
    if subject.cut is None:
        return None, None
    a, b = ([side[at] for at in kept] for side, kept in zip(subject.cut, one.kept, strict=True))
    return a, b


def _agreement(subject: Subject, one: FittedProbe, other: str | None) -> Agreement | None:
    """The fresh labels beside another cohort of the same construct, on answers that carry both."""
    if other is None:
        return None
    marks = subject.labels[other][1][one.kept[1]]
    both = ~np.isnan(marks)
    return Agreement.of(marks[both] == 1, one.labels[1][both]) if both.any() else None


def _ties(subject: Subject, one: FittedProbe, x: Tokens, z: Tokens) -> Ties | None:
    if subject.tied is None or subject.threshold is None:
        return None
    tied = [side[at] for side, at in zip(subject.tied, one.kept, strict=True)]
    counts = [Tied(len(side), int(side.sum()), subject.threshold) for side in tied]

    def with_ties(as_labelled: bool) -> tuple[Estimate, int]:
        # a cohort counts ties one way; where they are counted the other way, their labels change
        train, fresh = (labels ^ (side & (not as_labelled)) for labels, side in zip(one.labels, tied, strict=True))
        return auc_with(one.plan, x, train, z, fresh, one.trial), int(fresh.sum())

    return ties(counts[0], counts[1], with_ties)


def _gap(subject: Subject, one: FittedProbe, level: float) -> dict[str, Json] | None:
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


def _scores(subject: Subject, one: FittedProbe) -> dict[str, Json]:
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
