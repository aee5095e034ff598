"""What was found of a probe, typed: ``probe`` and studies make it, checks read it, ``extras.json`` keeps it under ``probing``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from counterclaim import stats
from counterclaim.errors import InputError
from counterclaim.records import Estimate, Json
from counterclaim.wording import number, with_interval

Bools = NDArray[np.bool_]

POOR, GOOD = 0.4, 0.6
"""Cohen's kappa: wholly below the one, labels are not of one construct; wholly at or above the other, they agree."""

TELLING = 0.7
"""An AUC at which a classifier tells two sets apart for practical purposes."""

TOO_MANY_CUT = 0.1
"""Share of cut answers above which a reading at the last token is not one at the end."""


_CHANCE: Mapping[str, float] = {
    "cv_auc": 0.5, "fresh_auc": 0.5, "axis_cv": 0.5, "axis_transfer": 0.5, "cv_asymmetry": 0.0, "fresh_asymmetry": 0.0,
}  # fmt: skip
"""The value of a quantity where there is no effect; passing its bar takes an interval that excludes it."""

_AT_MOST = ("cv_asymmetry", "fresh_asymmetry", "axis_correlation")


@dataclass(frozen=True, slots=True)
class BarTest:
    """An estimate against its bar.

    Attributes:
        of: the name of the bar, as the table [pipeline.bars] of a study file has it.
        what: the quantity, as a sentence names it.
        estimate: with its interval.
        bar: what has to be reached.
        rule: from which side.
        passed: None where the data do not settle it.
        said: a sentence without its full stop.
        axis: for which axis, in step 3.
    """

    of: str
    what: str
    estimate: Estimate
    bar: float
    rule: Literal["at least", "at most"]
    passed: bool | None
    said: str
    axis: str | None = None

    @classmethod
    def against(cls, of: str, what: str, estimate: Estimate, bar: float, axis: str | None = None) -> Self:
        """Passed where the estimate reaches the bar and its interval excludes chance; missed where the interval excludes the bar."""
        above, chance = of not in _AT_MOST, _CHANCE.get(of)
        sign = 1 if above else -1
        text, bar_text = f"{what} {with_interval(estimate)}", f"the bar of {number(bar)}"
        value, low, high = estimate.estimate, estimate.low, estimate.high
        passed: bool | None = None
        if value is None:
            sentence = text
        elif low is None or high is None:
            sentence = f"{text} cannot be compared with {bar_text}"
        elif sign * (value - bar) >= 0:
            if chance is None or (low > chance if above else high < chance):
                passed, sentence = True, f"{text} meets {bar_text}"
            else:
                sentence = f"{text} meets {bar_text}, but its interval still contains chance ({chance:g})"
        elif high < bar if above else low > bar:
            passed, sentence = False, f"{text} excludes {bar_text}"
        else:
            sentence = f"{text} misses {bar_text}, which its interval still contains"
        return cls(of, what, estimate, bar, "at least" if above else "at most", passed, sentence, axis)


@dataclass(frozen=True, slots=True)
class CrossAuc:
    """AUC on held-out folds: mean and range over splits, and the same with labels shuffled (None without shuffles)."""

    mean: float
    splits: int
    min: float | None = None
    max: float | None = None
    permutation_p: float | None = None
    null_sd: float | None = None
    null_mean: float | None = None
    permutations: int = 0
    interval: Estimate | None = None


@dataclass(frozen=True, slots=True)
class GateResult(Estimate):
    """P(assert | wrong) - P(assert | correct) of a gate whose threshold was chosen elsewhere.

    Attributes:
        threshold: assert where the probability is at least this; None where every fold has its own.
        p_assert_correct: P(assert | correct).
        shuffled_p: share of label shuffles that are at least as calibrated.
    """

    threshold: float | None = None
    p_assert_correct: float | None = None
    shuffled_p: float | None = None

    @property
    def asymmetry(self) -> Estimate:
        """The estimate alone."""
        return Estimate(self.estimate, self.low, self.high, self.level, self.method, self.n, self.reason)

    def to_json(self) -> dict[str, Json]:
        """The contract's ``asymmetry_honest``."""
        return {
            **Estimate.to_json(self), "threshold": self.threshold, "p_assert_correct": self.p_assert_correct,
            "shuffled_p": self.shuffled_p,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Peeked:
    """The best threshold of a sweep, chosen on the very items that it is reported on: an upper bound, and no evidence.

    Attributes:
        estimate: assertion asymmetry; None where no threshold keeps enough.
        threshold: None likewise.
        p_assert_correct: None likewise.
        null_p_at_bar: share of label shuffles in which the best threshold reaches the bar all the same.
        permutations: shuffles.
    """

    estimate: float | None
    threshold: float | None
    p_assert_correct: float | None
    null_p_at_bar: float
    permutations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One probe, cross-validated in training and tested on fresh items.

    Attributes:
        problem: why it could not be read, fitted or tested; what is missing is None then.
        n: training items that were scored, of which ``n_pos`` are positive; None in the comparison of step 4.
        n_fresh: fresh items likewise.
        excludes_auc_above: upper end of the interval of ``fresh_auc``.
        passed: whether the fresh AUC meets its bar (step 4).
        fresh_p_holm: its p against chance, adjusted for all readings (step 4).
        chosen: whether training chooses this reading (step 4).
    """

    model: str
    axis: str
    layer: int | str
    average: int
    position: str
    classifier: str
    C: float
    problem: str | None = None
    n: int | None = None
    n_pos: int | None = None
    n_fresh: int | None = None
    n_fresh_pos: int | None = None
    cv_auc: CrossAuc | None = None
    fresh_auc: Estimate | None = None
    asymmetry_cv: GateResult | None = None
    asymmetry_honest: GateResult | None = None
    asymmetry_peeked: Peeked | None = None
    excludes_auc_above: float | None = None
    passed: bool | None = None
    fresh_p_holm: float | None = None
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One of the five steps.

    Attributes:
        step: from 1.
        name: what it is called.
        passed: whether every test passed; None where one is not settled, or none was done.
        because: the tests in a sentence.
        power: what could have been seen.
        tests: estimates against their bars.
        rows: what was read.
        tried: readings compared (step 4).
        best_p: p of the best reading, corrected for the number tried (step 4).
        reach_the_bar: readings whose fresh AUC reaches the bar (step 4).
        survive_holm: readings that differ from chance after correction (step 4).
    """

    step: int
    name: str
    passed: bool | None
    because: str
    power: str
    tests: tuple[BarTest, ...] = ()
    rows: tuple[Reading, ...] = ()
    tried: int | None = None
    best_p: float | None = None
    reach_the_bar: int | None = None
    survive_holm: int | None = None


@dataclass(frozen=True, slots=True)
class Mode:
    """A reason for failing on fresh prompts, with the number behind it."""

    mode: str
    because: str
    value: float | None


@dataclass(frozen=True, slots=True)
class Endings:
    """How many answers the probe read, and how many of them the budget cut, or may have cut."""

    n: int
    cut: int
    unknown: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where in the answers the probe reads, and how these ended.

    Attributes:
        position: ``last``, ``mean`` or ``prompt-end``.
        train_cut: share of the training answers that were cut; None unless every ending is known.
        fresh_cut: of the fresh ones.
        train: counts; None where no ending was recorded.
        fresh: likewise.
    """

    position: str
    train_cut: float | None
    fresh_cut: float | None
    train: Endings | None = None
    fresh: Endings | None = None


@dataclass(frozen=True, slots=True)
class Overlap:
    """Fresh items that are training items too: how many have the features of one, and how many its id."""

    n: int
    same_features: int
    same_id: int


@dataclass(frozen=True, slots=True)
class Tied:
    """How many of n scores sit exactly at the threshold that makes labels of them; ``threshold`` None where there is none."""

    n: int
    tied: int
    threshold: float | None


@dataclass(frozen=True, slots=True)
class Ties:
    """Scores at the threshold, and the AUC on fresh items with these counted as positive (≥) and as negative (>).

    Attributes:
        train: of the training items.
        fresh: of the fresh ones.
        at_least: AUC with ≥; None where nothing is tied.
        above: AUC with >.
        n_at_least: fresh positives with ≥.
        n_above: fresh positives with >.
    """

    train: Tied
    fresh: Tied
    at_least: Estimate | None = None
    above: Estimate | None = None
    n_at_least: int = 0
    n_above: int = 0


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two labels of the same items.

    Attributes:
        table: counts; rows are the other label (no, yes), columns the label itself.
    """

    table: tuple[tuple[int, int], tuple[int, int]]

    @classmethod
    def of(cls, other: Bools, own: Bools) -> Self:
        """From labels (n,) each, of the same items in the same order."""
        rows = [[int((a & b).sum()) for b in (~own, own)] for a in (~other, other)]
        return cls(((rows[0][0], rows[0][1]), (rows[1][0], rows[1][1])))

    @property
    def n(self) -> int:
        """Items."""
        return sum(map(sum, self.table))

    @property
    def share(self) -> float:
        """Share of items on which the labels agree."""
        return (self.table[0][0] + self.table[1][1]) / self.n

    def kappa(self, level: float = 0.95) -> Estimate:
        """Cohen's kappa."""
        return stats.cohen_kappa(self.table, level)

    def ceiling(self, level: float = 0.95) -> Estimate:
        """AUC that a perfect predictor of the other label reaches on the label itself."""
        other, own = (
            np.repeat([0.0, 0.0, 1.0, 1.0], np.ravel(self.table)),
            np.repeat([0, 1, 0, 1], np.ravel(self.table)),
        )
        return stats.delong(other, own == 1, level)


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """A probe that was fitted on training items and tested on fresh ones.

    Attributes:
        cohort: what the probe tells apart.
        model: whose answers it reads.
        second_model: of another family, in step 5.
        probe: what is read and how it is fitted.
        bars: what has to be reached, by name.
        splits: of the cross-validation.
        permutations: label shuffles of each null.
        level: of the intervals.
        passed: whether every step passed.
        steps: the five steps; without fresh items the first, of ``probe`` at most the first two.
        correlations: of the axes, for the page.
        c2st_auc: how well a probe tells fresh from training features; None where it was not computed.
        taxonomy: why it fails on fresh items.
        gap: what others say of the same answers, for the page.
        endpoint: how the answers that it reads ended.
        pca: a picture of the features, for the page.
        scores: decisions on the fresh answers, by id.
        overlap: fresh items among the training items; None in folders that are older than this field.
        ties: scores at the threshold; None where labels are not made from scores.
        agreement: with another label of the same construct, on fresh items; None where there is none.
        identity: what the result depends on, so that it is not computed again.
    """

    cohort: str
    model: str
    bars: Mapping[str, float]
    level: float
    passed: bool | None
    steps: tuple[Step, ...]
    c2st_auc: Estimate | None
    taxonomy: tuple[Mode, ...]
    endpoint: Endpoint
    second_model: str | None = None
    probe: Mapping[str, Json] | None = None
    splits: int = 0
    permutations: int = 0
    correlations: Mapping[str, Json] | None = None
    gap: Mapping[str, Json] | None = None
    pca: Mapping[str, Json] | None = None
    scores: Mapping[str, Json] | None = None
    overlap: Overlap | None = None
    ties: Ties | None = None
    agreement: Agreement | None = None
    identity: str | None = None

    @property
    def in_training(self) -> Step:
        """Step 1."""
        return self.steps[0]

    @property
    def on_fresh(self) -> Step | None:
        """Step 2; None without fresh items."""
        return self.steps[1] if len(self.steps) > 1 else None

    @property
    def reading(self) -> Reading:
        """The probe itself."""
        return (self.on_fresh or self.in_training).rows[0]

    def to_json(self) -> dict[str, Json]:
        """The object under ``probing`` in ``extras.json``."""
        made: dict[str, Json] = _plain(self)
        return made

    @classmethod
    def from_json(cls, value: Json) -> Self:
        """Read what ``to_json`` wrote.

        Raises:
            InputError: fields are missing or of another kind.
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(cls).validate_python(_with_counts(value))
        except (ValidationError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise InputError(
                f"what extras.json holds of the probe is damaged ({str(error).splitlines()[0]})",
                remedy="run the study again",
            ) from error


def _plain(value: Any) -> Json:
    if isinstance(value, Estimate):
        return value.to_json()
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return dict(value) if isinstance(value, Mapping) else value


def _with_counts(value: Any) -> Json:
    """Folders from before endings were counted hold shares, and null where some ending is unknown."""
    ends, row = dict(value["endpoint"]), value["steps"][0]["rows"][0]
    for side, n in (("train", row["n"]), ("fresh", row["n_fresh"])):
        if side not in ends:
            share = ends[f"{side}_cut"]
            ends[side] = {"n": n, "cut": 0 if share is None else round(share * n), "unknown": n if share is None else 0}
    return {**value, "endpoint": ends}
