"""``[[reported]]`` of a study file: what a paper, or an earlier run, found in this very study; no part of the study itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from counterclaim.config import line_of, read_toml, validated
from counterclaim.config.claim import claim_schema
from counterclaim.config.written import Written, as_told, decimals_of, rounds_to
from counterclaim.errors import InputError

if TYPE_CHECKING:
    from pydantic import BaseModel

Direction = Literal["increase", "decrease", "none", "no-increase", "no-decrease"]
"""What was concluded of treated minus control: a change, none either way, or none of that sign, as large as the margin."""

Range = tuple[float, float]
Four = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class ReportedCounts:
    """k of n in two arms.

    Attributes:
        control: k and n.
        treated: k and n.
        both: how many succeeded under both arms, where that was told.
        same_items: whether both arms answered the same items; two samples that only overlap are taken as independent.
        percent: as it was told, where the counts were derived from percentages.
    """

    control: tuple[int, int]
    treated: tuple[int, int]
    both: int | None = None
    same_items: bool = True
    percent: Range | None = None

    @property
    def told(self) -> str:
        (k0, n0), (k1, n1) = self.control, self.treated
        n = f"n = {n0}" if n0 == n1 else f"{k0} of {n0}, {k1} of {n1}"
        shares = self.percent or (round(100 * k0 / n0, 1), round(100 * k1 / n1, 1))
        decimals = max(map(decimals_of, shares))
        return f"{shares[0]:.{decimals}f} % -> {shares[1]:.{decimals}f} % ({shares[1] - shares[0]:+.{decimals}f} points), {n}"


@dataclass(frozen=True, slots=True)
class ReportedMeans:
    """Means of two arms on a bounded scale over the same items, without a spread.

    Attributes:
        control: mean.
        treated: mean.
        n: items.
        scale: the ends of the scale.
    """

    control: float
    treated: float
    n: int
    scale: Range = (0.0, 1.0)

    @property
    def told(self) -> str:
        change = round(self.treated - self.control, 6)
        scale = f"{self.scale[0]:g} to {self.scale[1]:g}"
        return f"{as_told(self.control)} -> {as_told(self.treated)} ({change:+g} on {scale}), n = {self.n}"


@dataclass(frozen=True, slots=True)
class ReportedCells:
    """The disposition 2×2 (cr, hr, cw, hw) of one arm, or of two on the same items.

    Attributes:
        control: of the control, or of the only arm.
        treated: of the treated arm, once for each seed; empty where there is one arm.
        asymmetry: P(assert | wrong) − P(assert | correct) of the last arm, where it was told.
    """

    control: Four
    treated: tuple[Four, ...] = ()
    asymmetry: float | None = None

    @property
    def told(self) -> str:
        arms = (self.control, *self.treated)
        shown = ["/".join(map(str, cells)) for cells in arms]
        values = [f"{_asymmetry(cells):+.3f}" for cells in arms]
        n = f"n = {sum(self.control)}"
        if not self.treated:
            return f"{shown[0]} (asymmetry {values[0]}), {n}"
        return f"{shown[0]} -> {' and '.join(shown[1:])} (asymmetry {values[0]} -> {' and '.join(values[1:])}), {n}"


@dataclass(frozen=True, slots=True)
class ReportedAuc:
    """An area under the ROC curve.

    Attributes:
        value: of the area.
        n: items.
        positives: how many of them; None where it was not told.
        folds: of the cross-validation that it comes from; None where the items are not those of the training.
        C: inverse strength of the probe's penalty.
    """

    value: float
    n: int
    positives: int | None = None
    folds: int | None = None
    C: float | None = None

    @property
    def told(self) -> str:
        classes = "" if self.positives is None else f" ({self.positives} positive)"
        folds = "" if self.folds is None else f", {self.folds} folds"
        strength = "" if self.C is None else f", C = {self.C:g}"
        return f"AUC {as_told(self.value)}, n = {self.n}{classes}{folds}{strength}"


@dataclass(frozen=True, slots=True)
class ReportedAsymmetry:
    """The assertion asymmetry that a gate gives, without the counts behind it.

    Attributes:
        value: P(assert | wrong) − P(assert | correct), as it was rounded.
        right: correct answers.
        wrong: wrong ones.
        decimals: to how many it was rounded; as it is written where None.
        folds: of the cross-validation that it comes from; None where the answers are not those of the training.
    """

    value: float
    right: int
    wrong: int
    decimals: int | None = None
    folds: int | None = None

    @property
    def rounded(self) -> str:
        """The value in as many decimals as it was told in."""
        return f"{self.value:+.{decimals_of(self.value) if self.decimals is None else self.decimals}f}"

    @property
    def told(self) -> str:
        folds = "" if self.folds is None else f", {self.folds} folds"
        return f"asymmetry {self.rounded}, {self.right} right and {self.wrong} wrong{folds}"


@dataclass(frozen=True, slots=True)
class ReportedLargestD:
    """The largest |Cohen's d| of so many heads.

    Attributes:
        d: its size.
        heads: how many were looked at.
        cohorts: answers on either side; None where that was not told.
        n: answers in all, where only that is known.
    """

    d: float
    heads: int
    cohorts: tuple[int, int] | None = None
    n: int | None = None

    @property
    def told(self) -> str:
        sides = "" if self.cohorts is None else f", {self.cohorts[0]} against {self.cohorts[1]} answers"
        return f"largest |d| {as_told(self.d)} of {self.heads} heads{sides}"


@dataclass(frozen=True, slots=True)
class ReportedDirection:
    """Cohen's d along the difference of two cohorts' means, estimated on the answers that are projected.

    Attributes:
        low: the smallest that was told.
        high: the largest.
        width: entries of the vectors.
        cohorts: answers on either side.
        heads: how many were looked at, of which those that were told are the largest; 1 where it was chosen beforehand; None
            where that was not told.
    """

    low: float
    high: float
    width: int
    cohorts: tuple[int, int]
    heads: int | None = None

    @property
    def told(self) -> str:
        heads = "" if self.heads is None else f", of {self.heads} heads" if self.heads > 1 else ", one head"
        return (
            f"d {as_told(self.low)} to {as_told(self.high)} in sample{heads}, {self.width} wide, "
            f"{self.cohorts[0]} against {self.cohorts[1]} answers"
        )


@dataclass(frozen=True, slots=True)
class ReportedCosine:
    """Cosine of two cohorts' mean vectors: the smallest and the largest that were told."""

    low: float
    high: float

    @property
    def told(self) -> str:
        return f"cosine {as_told(self.low)} to {as_told(self.high)}"


@dataclass(frozen=True, slots=True)
class ReportedFiltering:
    """How many were left of how many after filtering."""

    before: int
    after: int

    @property
    def told(self) -> str:
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


@dataclass(frozen=True, slots=True)
class Reported:
    """One claim that was drawn from reported numbers.

    Attributes:
        id: unique in the file.
        claim: what was concluded, a sentence.
        numbers: what was reported.
        metric: what they measure.
        direction: what was concluded of it.
        margin: the smallest change that matters, in the metric's unit; for an AUC its distance from 0.5.
        alpha: of the test; ``test.alpha`` of the file.
        level: of intervals; ``test.level`` of the file.
        setting: under which the numbers came about, where it tells two claims apart.
        note: what the authors themselves said of it later.
        assumes: what is taken for granted here because it was not told.
        corrected_by: id of the claim in this file that took its place.
    """

    id: str
    claim: str
    numbers: Numbers
    metric: str
    direction: Direction
    margin: float
    alpha: float = 0.01
    level: float = 0.95
    setting: str = ""
    note: str = ""
    assumes: str = ""
    corrected_by: str | None = None

    @property
    def found(self) -> str:
        """The reported numbers in one line."""
        return self.numbers.told + (f", {self.setting}" if self.setting else "")

    @property
    def sign(self) -> int:
        """1 where the claim is about an increase (or about there being none), -1 where about a decrease."""
        return -1 if self.direction.endswith("decrease") else 1


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


def load_reported(path: Path) -> tuple[Reported, ...]:
    """What a study file says was reported, in its order; empty where it says nothing.

    Reads ``[[reported]]``, and from ``[target]`` and ``[test]`` what a claim leaves unsaid. The rest of the file is
    ``load_study``'s.

    Raises:
        InputError: the file cannot be read, a key is unknown, missing or malformed, or numbers contradict each other.
    """
    data, text = read_toml(path, "study file", "copy one from counterclaim run --new study.toml")
    read: dict[str, Any] = {key: data[key] for key in ("target", "test", "reported") if key in data}
    tables: Any = validated(_ledger_schema(), read, text, path, "docs/replicate.md has all keys")
    made: list[Reported] = []
    for at, table in enumerate(tables.reported):
        if table.id in {other.id for other in made}:
            raise InputError(
                f"reported: the id {table.id!r} stands there twice",
                path=path,
                line=line_of(("reported", at, "id"), text),
                remedy="give each claim an id of its own",
            )
        made.append(_to_reported(table, tables))
    known = {reported.id for reported in made}
    for at, reported in enumerate(made):
        if reported.corrected_by is not None and (reported.corrected_by not in known - {reported.id}):
            raise InputError(
                f"reported.corrected_by: no other claim here has the id {reported.corrected_by!r}",
                path=path,
                line=line_of(("reported", at, "corrected_by"), text),
                remedy=f"name one of {', '.join(sorted(known - {reported.id})) or 'the claims of this file'}",
            )
    return tuple(made)


def _to_reported(table: Any, tables: Any) -> Reported:
    said = table.model_dump(exclude_none=True)
    kind = next(kind for kind in KINDS if kind in said)
    target = tables.target
    return Reported(
        **{key: value for key, value in said.items() if key not in KINDS and key not in ("metric", "direction", "margin")},
        numbers=KINDS[kind](**said[kind]),
        metric=table.metric or target.metric,
        direction=table.direction or target.direction,
        margin=target.margin if table.margin is None else table.margin,
        alpha=tables.test.alpha,
        level=tables.test.level,
    )  # fmt: skip


def _asymmetry(cells: Sequence[int]) -> float:
    cr, hr, cw, hw = cells
    return cw / (cw + hw) - cr / (cr + hr)


def _check_ends(low: float, high: float) -> None:
    """Whether the smallest that was told is not above the largest.

    Raises:
        ValueError: it is.
    """
    if low > high:
        raise ValueError(f"low = {as_told(low)} is above high = {as_told(high)}")


def _check_folds(folds: int | None, positives: int, negatives: int) -> None:
    """Whether so many items can be cross-validated: a probe needs both classes where it is fitted and where it is held out.

    Raises:
        ValueError: they cannot.
    """
    if folds is None:
        return
    if min(positives, negatives) < 2:
        raise ValueError(f"{positives} against {negatives} cannot be cross-validated: each side needs two at least")
    if folds > positives + negatives:
        raise ValueError(f"{folds} folds are more than the {positives + negatives} items")


def _ledger_schema() -> type[BaseModel]:
    """The schema of those parts of a study file that ``load_reported`` reads."""
    from pydantic import Field, create_model

    claim = claim_schema()
    target, test = (claim.model_fields[name] for name in ("target", "test"))
    parts: dict[str, Any] = {
        "target": (target.annotation, ...),
        "test": (test.annotation, test.default),
        "reported": (list[reported_schema()], Field(default_factory=list)),  # type: ignore[misc]  # made on call
    }
    return create_model("Ledger", **parts)


def reported_schema() -> type[BaseModel]:
    """The schema of one ``[[reported]]`` table."""
    from pydantic import BaseModel, ConfigDict, Field, ValidatorFunctionWrapHandler, WrapValidator, model_validator

    def as_written(value: Any, valid: ValidatorFunctionWrapHandler) -> Written:
        checked = valid(value)
        return value if isinstance(value, Written) else Written(value if type(value) is int else checked)

    Told = Annotated[float, WrapValidator(as_written)]
    Count = Annotated[int, Field(ge=0)]
    Size = Annotated[int, Field(ge=1)]

    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    class Counts(Strict):
        control: tuple[Count, Size]
        treated: tuple[Count, Size]
        both: Count | None = None
        same_items: bool = True
        percent: tuple[Told, Told] | None = None

        @model_validator(mode="after")
        def _fits(self) -> Self:
            for name, (k, n) in (("control", self.control), ("treated", self.treated)):
                if k > n:
                    raise ValueError(f"{name} has {k} of {n}, which is more than all")
            if self.same_items and self.control[1] != self.treated[1]:
                raise ValueError("arms with the same items have the same n; write same_items = false where they differ")
            least, most = (
                max(0, self.control[0] + self.treated[0] - self.control[1]),
                min(self.control[0], self.treated[0]),
            )
            if self.both is not None and not (self.same_items and least <= self.both <= most):
                raise ValueError(f"both = {self.both} does not fit the counts, which allow {least} to {most}")
            if self.percent is not None:
                for (k, n), told in zip((self.control, self.treated), self.percent, strict=True):
                    if not rounds_to(100 * k / n, told):
                        raise ValueError(f"{k} of {n} is {100 * k / n:.3f} percent and not {as_told(told)}")
            return self

    class Means(Strict):
        control: Told
        treated: Told
        n: Size
        scale: tuple[float, float] = (0.0, 1.0)

        @model_validator(mode="after")
        def _fits(self) -> Self:
            low, high = self.scale
            if not (low < high and low <= min(self.control, self.treated) and max(self.control, self.treated) <= high):
                raise ValueError(
                    f"the means {self.control:g} and {self.treated:g} do not lie on a scale from {low:g} to {high:g}"
                )
            return self

    class Cells(Strict):
        control: tuple[Count, Count, Count, Count]
        treated: tuple[tuple[Count, Count, Count, Count], ...] = ()
        asymmetry: Told | None = None

        @model_validator(mode="after")
        def _fits(self) -> Self:
            arms = [self.control, *self.treated]
            for cells in arms:
                if not (cells[0] + cells[1] and cells[2] + cells[3]):
                    raise ValueError("cr, hr, cw, hw need right and wrong answers in every arm")
                if sum(cells) != sum(self.control):
                    raise ValueError("arms answered the same items, so their cells have one sum")
            if self.asymmetry is not None and not rounds_to(_asymmetry(arms[-1]), self.asymmetry):
                raise ValueError(
                    f"the cells have an asymmetry of {_asymmetry(arms[-1]):.4f} and not {as_told(self.asymmetry)}"
                )
            return self

    class Auc(Strict):
        value: Told = Field(ge=0, le=1)
        n: int = Field(ge=4)
        positives: Size | None = None
        folds: int | None = Field(default=None, ge=2)
        C: float | None = Field(default=None, gt=0)

        @model_validator(mode="after")
        def _fits(self) -> Self:
            if self.positives is not None and self.positives >= self.n:
                raise ValueError(f"{self.positives} positives of {self.n} leave no negatives")
            positives = self.n // 2 if self.positives is None else self.positives
            _check_folds(self.folds, positives, self.n - positives)
            return self

    class Asymmetry(Strict):
        value: Told = Field(ge=-1, le=1)
        right: Size
        wrong: Size
        decimals: int | None = Field(default=None, ge=0, le=6)
        folds: int | None = Field(default=None, ge=2)

        @model_validator(mode="after")
        def _fits(self) -> Self:
            _check_folds(self.folds, self.right, self.wrong)
            return self

    class LargestD(Strict):
        d: Told = Field(gt=0)
        heads: Size
        cohorts: tuple[Annotated[int, Field(ge=2)], Annotated[int, Field(ge=2)]] | None = None
        n: int | None = Field(default=None, ge=4)

        @model_validator(mode="after")
        def _fits(self) -> Self:
            if self.cohorts is not None and self.n not in (None, sum(self.cohorts)):
                raise ValueError(f"cohorts of {self.cohorts[0]} and {self.cohorts[1]} answers are not {self.n} in all")
            return self

    class Direction(Strict):
        low: Told = Field(ge=0)
        high: Told = Field(ge=0)
        width: Size
        cohorts: tuple[Annotated[int, Field(ge=2)], Annotated[int, Field(ge=2)]]
        heads: Size | None = None

        @model_validator(mode="after")
        def _fits(self) -> Self:
            _check_ends(self.low, self.high)
            return self

    class Cosine(Strict):
        low: Told = Field(ge=-1, le=1)
        high: Told = Field(ge=-1, le=1)

        @model_validator(mode="after")
        def _fits(self) -> Self:
            _check_ends(self.low, self.high)
            return self

    class Filtering(Strict):
        before: Size
        after: Count

        @model_validator(mode="after")
        def _fits(self) -> Self:
            if self.after > self.before:
                raise ValueError(f"{self.after} of {self.before} is more than all")
            return self

    class ReportedTable(Strict):
        id: str = Field(min_length=1)
        claim: str = Field(min_length=1)
        metric: str | None = None
        direction: Literal["increase", "decrease", "none", "no-increase", "no-decrease"] | None = None
        margin: float | None = Field(default=None, gt=0)
        setting: str = ""
        note: str = ""
        assumes: str = ""
        corrected_by: str | None = None
        counts: Counts | None = None
        means: Means | None = None
        cells: Cells | None = None
        auc: Auc | None = None
        asymmetry: Asymmetry | None = None
        largest_d: LargestD | None = None
        direction_d: Direction | None = None
        cosine: Cosine | None = None
        filtering: Filtering | None = None

        @model_validator(mode="after")
        def _one_kind(self) -> Self:
            given = [kind for kind in KINDS if getattr(self, kind) is not None]
            if len(given) != 1:
                raise ValueError(f"give the numbers once, under one of {', '.join(KINDS)}; here are {len(given)}")
            return self

    return ReportedTable
