"""``[[reported]]`` of a study file: what a paper, or an earlier run, found in this very study; no part of the study itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, MinLen

from counterclaim.config import TableError, Written, as_written, decimals_of, read_toml, rounds_to, table, validated
from counterclaim.config.claim import TargetTable, TestTable
from counterclaim.lab.config.common import Count

Direction = Literal["increase", "decrease", "none", "no-increase", "no-decrease"]
"""What was concluded of treated minus control: a change, none either way, or none of that sign, as large as the margin."""

Range = tuple[float, float]
_Whole = Annotated[int, Ge(0)]
_Two = Annotated[int, Ge(2)]
Four = tuple[_Whole, _Whole, _Whole, _Whole]


@table(kw_only=False)
class ReportedCounts:
    """k of n in two arms.

    Attributes:
        control: k and n, `[24, 164]`
        treated: k and n
        both: how many succeeded under both arms
        same_items: whether both arms answered the same items; two samples that only overlap are taken as independent
        percent: both shares as they were reported, `[14.6, 29.9]`; counts that do not round to them, in the decimals in which they
            are written, are refused
    """

    control: tuple[_Whole, Count]
    treated: tuple[_Whole, Count]
    both: _Whole | None = None
    same_items: bool = True
    percent: tuple[Written, Written] | None = None

    def __post_init__(self) -> None:
        for name, (k, n) in (("control", self.control), ("treated", self.treated)):
            if k > n:
                raise TableError(f"{name} has {k} of {n}, which is more than all")
        if self.same_items and self.control[1] != self.treated[1]:
            raise TableError("arms with the same items have the same n; write same_items = false where they differ")
        least = max(0, self.control[0] + self.treated[0] - self.control[1])
        most = min(self.control[0], self.treated[0])
        if self.both is not None and not (self.same_items and least <= self.both <= most):
            raise TableError(f"both = {self.both} does not fit the counts, which allow {least} to {most}")
        for (k, n), share in zip((self.control, self.treated), self.percent or (), strict=False):
            if not rounds_to(100 * k / n, share):
                raise TableError(f"{k} of {n} is {100 * k / n:.3f} percent and not {as_written(share)}")

    @property
    def text(self) -> str:
        (k0, n0), (k1, n1) = self.control, self.treated
        n = f"n = {n0}" if n0 == n1 else f"{k0} of {n0}, {k1} of {n1}"
        shares = self.percent or (round(100 * k0 / n0, 1), round(100 * k1 / n1, 1))
        decimals = max(map(decimals_of, shares))
        return f"{shares[0]:.{decimals}f} % -> {shares[1]:.{decimals}f} % ({shares[1] - shares[0]:+.{decimals}f} points), {n}"


@table(kw_only=False)
class ReportedMeans:
    """Means of two arms on a bounded scale over the same items, without a spread.

    Attributes:
        control: a mean
        treated: a mean over the same items
        n: items
        scale: the ends of the scale
    """

    control: Written
    treated: Written
    n: Count
    scale: Range = (0.0, 1.0)

    def __post_init__(self) -> None:
        low, high = self.scale
        if not (low < high and low <= min(self.control, self.treated) and max(self.control, self.treated) <= high):
            raise TableError(
                f"the means {self.control:g} and {self.treated:g} do not lie on a scale from {low:g} to {high:g}"
            )

    @property
    def text(self) -> str:
        change = round(self.treated - self.control, 6)
        scale = f"{self.scale[0]:g} to {self.scale[1]:g}"
        return f"{as_written(self.control)} -> {as_written(self.treated)} ({change:+g} on {scale}), n = {self.n}"


@table(kw_only=False)
class ReportedCells:
    """The disposition 2×2 (cr, hr, cw, hw) of one arm, or of two on the same items.

    Attributes:
        control: cr, hr, cw, hw: asserted and hedged right answers, asserted and hedged wrong ones
        treated: the same of the treated arm, once for each seed; empty where there is one arm
        asymmetry: P(assert given wrong) − P(assert given correct) of the last arm as it was reported; cells that do not round to
            it are refused
    """

    control: Four
    treated: tuple[Four, ...] = ()
    asymmetry: Written | None = None

    def __post_init__(self) -> None:
        arms = [self.control, *self.treated]
        for cells in arms:
            if not (cells[0] + cells[1] and cells[2] + cells[3]):
                raise TableError("cr, hr, cw, hw need right and wrong answers in every arm")
            if sum(cells) != sum(self.control):
                raise TableError("arms answered the same items, so their cells have one sum")
        if self.asymmetry is not None and not rounds_to(_asymmetry(arms[-1]), self.asymmetry):
            raise TableError(
                f"the cells have an asymmetry of {_asymmetry(arms[-1]):.4f} and not {as_written(self.asymmetry)}"
            )

    @property
    def text(self) -> str:
        arms = (self.control, *self.treated)
        shown = ["/".join(map(str, cells)) for cells in arms]
        values = [f"{_asymmetry(cells):+.3f}" for cells in arms]
        n = f"n = {sum(self.control)}"
        if not self.treated:
            return f"{shown[0]} (asymmetry {values[0]}), {n}"
        return f"{shown[0]} -> {' and '.join(shown[1:])} (asymmetry {values[0]} -> {' and '.join(values[1:])}), {n}"


@table(kw_only=False)
class ReportedAuc:
    """An area under the ROC curve.

    Attributes:
        value: the area
        n: items
        positives: how many of them are positive
        folds: folds, where it was cross-validated; not set where the items are not those of the training
        C: inverse strength of the probe's penalty, to tell two apart
    """

    value: Annotated[Written, Ge(0), Le(1)]
    n: Annotated[int, Ge(4)]
    positives: Count | None = None
    folds: _Two | None = None
    C: Annotated[float, Gt(0)] | None = None

    def __post_init__(self) -> None:
        if self.positives is not None and self.positives >= self.n:
            raise TableError(f"{self.positives} positives of {self.n} leave no negatives")
        positives = self.n // 2 if self.positives is None else self.positives
        _check_folds(self.folds, positives, self.n - positives)

    @property
    def text(self) -> str:
        classes = "" if self.positives is None else f" ({self.positives} positive)"
        folds = "" if self.folds is None else f", {self.folds} folds"
        strength = "" if self.C is None else f", C = {self.C:g}"
        return f"AUC {as_written(self.value)}, n = {self.n}{classes}{folds}{strength}"


@table(kw_only=False)
class ReportedAsymmetry:
    """The assertion asymmetry that a gate gives, without the counts behind it.

    Attributes:
        value: P(assert given wrong) − P(assert given correct), as it was rounded
        right: right answers
        wrong: wrong ones
        decimals: to how many it was rounded; as many as `value` is written with when not set
        folds: folds, where it was cross-validated; not set where the answers are not those of the training
    """

    value: Annotated[Written, Ge(-1), Le(1)]
    right: Count
    wrong: Count
    decimals: Annotated[int, Ge(0), Le(6)] | None = None
    folds: _Two | None = None

    def __post_init__(self) -> None:
        _check_folds(self.folds, self.right, self.wrong)

    @property
    def rounded(self) -> str:
        """The value in the decimals in which it was reported."""
        return f"{self.value:+.{decimals_of(self.value) if self.decimals is None else self.decimals}f}"

    @property
    def text(self) -> str:
        folds = "" if self.folds is None else f", {self.folds} folds"
        return f"asymmetry {self.rounded}, {self.right} right and {self.wrong} wrong{folds}"


@table(kw_only=False)
class ReportedLargestD:
    """The largest |Cohen's d| of several heads.

    Attributes:
        d: its size
        heads: how many were looked at
        cohorts: answers on either side
        n: answers in all, where only that is known
    """

    d: Annotated[Written, Gt(0)]
    heads: Count
    cohorts: tuple[_Two, _Two] | None = None
    n: Annotated[int, Ge(4)] | None = None

    def __post_init__(self) -> None:
        if self.cohorts is not None and self.n not in (None, sum(self.cohorts)):
            raise TableError(f"cohorts of {self.cohorts[0]} and {self.cohorts[1]} answers are not {self.n} in all")

    @property
    def text(self) -> str:
        sides = "" if self.cohorts is None else f", {self.cohorts[0]} against {self.cohorts[1]} answers"
        return f"largest |d| {as_written(self.d)} of {self.heads} heads{sides}"


@table(kw_only=False)
class ReportedDirection:
    """Cohen's d along the difference of two cohorts' means, estimated on the answers that are projected.

    Attributes:
        low: the smallest that was reported
        high: the largest
        width: entries of the vectors
        cohorts: answers on either side
        heads: how many heads were looked at, of which those reported are the largest; 1 for one that was chosen beforehand
    """

    low: Annotated[Written, Ge(0)]
    high: Annotated[Written, Ge(0)]
    width: Count
    cohorts: tuple[_Two, _Two]
    heads: Count | None = None

    def __post_init__(self) -> None:
        _check_ends(self.low, self.high)

    @property
    def text(self) -> str:
        heads = "" if self.heads is None else f", of {self.heads} heads" if self.heads > 1 else ", one head"
        return (
            f"d {as_written(self.low)} to {as_written(self.high)} in sample{heads}, {self.width} wide, "
            f"{self.cohorts[0]} against {self.cohorts[1]} answers"
        )


@table(kw_only=False)
class ReportedCosine:
    """Cosine of two cohorts' mean vectors.

    Attributes:
        low: the smallest that was reported
        high: the largest
    """

    low: Annotated[Written, Ge(-1), Le(1)]
    high: Annotated[Written, Ge(-1), Le(1)]

    def __post_init__(self) -> None:
        _check_ends(self.low, self.high)

    @property
    def text(self) -> str:
        return f"cosine {as_written(self.low)} to {as_written(self.high)}"


@table(kw_only=False)
class ReportedFiltering:
    """How many were left of how many after filtering.

    Attributes:
        before: how many there were
        after: how many were left
    """

    before: Count
    after: _Whole

    def __post_init__(self) -> None:
        if self.after > self.before:
            raise TableError(f"{self.after} of {self.before} is more than all")

    @property
    def text(self) -> str:
        return f"{self.before:,} -> {self.after:,} ({100 * self.after / self.before:.1f} %)"


Numbers = (
    ReportedCounts
    | ReportedMeans
    | ReportedCells
    | ReportedAuc
    | ReportedAsymmetry
    | ReportedLargestD
    | ReportedDirection
    | ReportedCosine
    | ReportedFiltering
)


KINDS: dict[str, type[Numbers]] = {
    "counts": ReportedCounts,
    "means": ReportedMeans,
    "cells": ReportedCells,
    "auc": ReportedAuc,
    "asymmetry": ReportedAsymmetry,
    "largest_d": ReportedLargestD,
    "direction_d": ReportedDirection,
    "cosine": ReportedCosine,
    "filtering": ReportedFiltering,
}
"""Kinds of numbers by the key under which a file gives them."""


@table
class _Concluded:
    """What was concluded from reported numbers, and what must be known of it.

    Attributes:
        id: its name, once in the file
        claim: what was concluded, a sentence
        setting: what distinguishes two claims with the same numbers: a budget, a harness
        note: what its authors said of it later
        assumes: what is assumed because it was not reported
        corrected_by: the id of the claim that took its place
    """

    id: Annotated[str, MinLen(1)]
    claim: Annotated[str, MinLen(1)]
    setting: str = ""
    note: str = ""
    assumes: str = ""
    corrected_by: str | None = None


@table
class ReportedTable(_Concluded):
    """One of ``[[reported]]``; its numbers stand under one of ``KINDS``.

    Attributes:
        metric: what the numbers measure; that of `[target]` when not set
        direction: `increase` or `decrease`; `none`, where nothing moved by the margin either way; `no-increase` or `no-decrease`.
            That of `[target]` when not set
        margin: the smallest change that matters; of an AUC, its distance from 0.5. That of `[target]` when not set
        counts: k of n in two arms
        means: means of two arms, without a spread
        cells: the disposition 2×2 of one arm or of several
        auc: an area under the ROC curve
        asymmetry: an assertion asymmetry without the counts behind it
        largest_d: the largest |Cohen's d| of several heads
        direction_d: Cohen's d along the difference of two means, on the answers that gave the means
        cosine: cosine of two means
        filtering: how many were left after filtering
    """

    metric: str | None = None
    direction: Direction | None = None
    margin: Annotated[float, Gt(0)] | None = None
    counts: ReportedCounts | None = None
    means: ReportedMeans | None = None
    cells: ReportedCells | None = None
    auc: ReportedAuc | None = None
    asymmetry: ReportedAsymmetry | None = None
    largest_d: ReportedLargestD | None = None
    direction_d: ReportedDirection | None = None
    cosine: ReportedCosine | None = None
    filtering: ReportedFiltering | None = None

    def __post_init__(self) -> None:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise TableError(f"give the numbers once, under one of {', '.join(KINDS)}; here are {len(given)}")


@table
class Reported(_Concluded):
    """One claim that was drawn from reported numbers.

    Attributes:
        numbers: what was reported.
        metric: what they measure.
        direction: what was concluded of it.
        margin: the smallest change that matters, in the metric's unit; for an AUC its distance from 0.5.
        alpha: of the test; ``test.alpha`` of the file.
        level: of intervals; ``test.level`` of the file.
    """

    numbers: Numbers
    metric: str
    direction: Direction
    margin: float
    alpha: float = 0.01
    level: float = 0.95

    @property
    def found(self) -> str:
        """The reported numbers in one line."""
        return self.numbers.text + (f", {self.setting}" if self.setting else "")

    @property
    def sign(self) -> int:
        """1 where the claim is about an increase (or about there being none), -1 where about a decrease."""
        return -1 if self.direction.endswith("decrease") else 1


@table
class _Ledger:
    """The tables of a study file that ``load_reported`` reads."""

    target: TargetTable
    test: TestTable = TestTable()
    reported: tuple[ReportedTable, ...] = ()

    def __post_init__(self) -> None:
        ids = [entry.id for entry in self.reported]
        for at, entry in enumerate(self.reported):
            if entry.id in ids[:at]:
                raise TableError(
                    f"the id {entry.id!r} is taken", key=("reported", at, "id"), remedy="give each claim its own id"
                )
            others = set(ids) - {entry.id}
            if entry.corrected_by is not None and entry.corrected_by not in others:
                raise TableError(
                    f"no other claim here has the id {entry.corrected_by!r}", key=("reported", at, "corrected_by"),
                    remedy=f"name one of {', '.join(sorted(others)) or 'the claims of this file'}",
                )  # fmt: skip


def load_reported(path: Path) -> tuple[Reported, ...]:
    """What a study file says was reported, in its order; empty where it says nothing.

    Reads ``[[reported]]``, and from ``[target]`` and ``[test]`` what a claim leaves unsaid. The rest of the file is
    ``load_study``'s.

    Raises:
        InputError: the file cannot be read, a key is unknown, missing or malformed, or numbers contradict each other.
    """
    data, text = read_toml(path, "study file", "copy one from counterclaim run --new study.toml")
    parts = {key: value for key, value in data.items() if key in ("target", "test", "reported")}
    file = validated(_Ledger, parts, text, path, "docs/replicate.md has all keys")
    return tuple(_resolved(entry, file) for entry in file.reported)


def _resolved(entry: ReportedTable, file: _Ledger) -> Reported:
    target = file.target
    return Reported(
        **{item.name: getattr(entry, item.name) for item in fields(_Concluded)},
        numbers=next(numbers for kind in KINDS if (numbers := getattr(entry, kind)) is not None),
        metric=entry.metric or target.metric,
        direction=entry.direction or target.direction,
        margin=entry.margin or target.margin,
        alpha=file.test.alpha,
        level=file.test.level,
    )


def _asymmetry(cells: Sequence[int]) -> float:
    cr, hr, cw, hw = cells
    return cw / (cw + hw) - cr / (cr + hr)


def _check_ends(low: float, high: float) -> None:
    """Whether the smallest is not above the largest.

    Raises:
        TableError: it is.
    """
    if low > high:
        raise TableError(f"low = {as_written(low)} is above high = {as_written(high)}")


def _check_folds(folds: int | None, positives: int, negatives: int) -> None:
    """Whether this many items can be cross-validated: a probe needs both classes where it is fitted and where it is held out.

    Raises:
        TableError: they cannot.
    """
    if folds is None:
        return
    if min(positives, negatives) < 2:
        raise TableError(f"{positives} against {negatives} cannot be cross-validated: each side needs two at least")
    if folds > positives + negatives:
        raise TableError(f"{folds} folds are more than the {positives + negatives} items")
