"""All that a run folder holds, laid out as checks want to read it: arms as aligned columns, prompts, effects.

Evidence is read-only and cheap to ask twice. It never judges: that is for the checks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from counterclaim import stats
from counterclaim.audit.effect import (
    Counts,
    Effect,
    Ints,
    auc_effect,
    cluster_mean,
    cluster_sum,
    counts_effect,
    mean_effect,
    ratio_effect,
    ratio_estimate,
)
from counterclaim.audit.metrics import DISPOSITION, Floats, resolve
from counterclaim.audit.probing import ProbeResult
from counterclaim.errors import InputError
from counterclaim.records import (
    CONTROL,
    TREATED,
    ArmId,
    Claim,
    Estimate,
    FinishReason,
    Json,
    Prompt,
    Quote,
    Response,
    Score,
)
from counterclaim.registry import Metric
from counterclaim.text.overlap import OverlapReport

Mask = npt.NDArray[np.bool_]
GENERATED = "generated"
"""Format of a source that is no file: answers that a study of one's own generated."""


@dataclass(slots=True)
class Column:
    """One axis of one arm, aligned with the arm's responses.

    Attributes:
        values: number, label or None where unscored or absent.
        reasons: why unscored, by position.
        scorers: every scorer that scored this axis.
        scorer_of: the scorer by position, "" where absent.
    """

    values: list[float | str | None]
    reasons: dict[int, str] = field(default_factory=dict)
    scorers: set[str] = field(default_factory=set)
    scorer_of: list[str] = field(default_factory=list)


class Arm:
    """The answers of one arm, ordered by prompt, replicate and sample, with their scores as aligned columns."""

    def __init__(
        self, id: ArmId, responses: Iterable[Response], scores: Iterable[Score], position: Mapping[str, int]
    ) -> None:
        self.id = id
        self.name = str(id)
        self.responses = sorted(responses, key=lambda r: (r.prompt_id, r.replicate, r.sample))
        self.index: Ints = np.array([position[r.prompt_id] for r in self.responses], dtype=np.int64)
        row = {(r.prompt_id, r.sample): i for i, r in enumerate(self.responses)}
        self.columns: dict[str, Column] = {}
        for score in scores:
            at = row.get((score.prompt_id, score.sample))
            if at is None:
                continue
            column = self.columns.get(score.axis)
            if column is None:
                column = Column([None] * len(self.responses), scorer_of=[""] * len(self.responses))
                self.columns[score.axis] = column
            column.values[at] = score.value
            column.scorers.add(score.scorer)
            column.scorer_of[at] = score.scorer
            if score.unscored is not None:
                column.reasons[at] = score.unscored

    def __len__(self) -> int:
        return len(self.responses)

    def numbers(self, axis: str) -> Floats:
        """Float (n,): the axis as numbers, NaN where unscored or not a number."""
        column = self.columns.get(axis)
        if column is None:
            return np.full(len(self), np.nan)
        return np.array([v if isinstance(v, int | float) else np.nan for v in column.values], dtype=np.float64)

    def labels(self, axis: str) -> list[str | None]:
        """The axis as text labels, None where unscored."""
        column = self.columns.get(axis)
        if column is None:
            return [None] * len(self)
        return [None if v is None else v if isinstance(v, str) else f"{v:g}" for v in column.values]

    def values(self, metric: Metric) -> Floats:
        """Float (n,): one number per response for a mean metric, NaN where unscored."""
        axis, per_answer = metric.axes[0], metric.per_answer
        if metric.label is not None:
            return np.array([np.nan if v is None else float(v == metric.label) for v in self.labels(axis)])
        if per_answer is None:
            return self.numbers(axis)
        if not all(axis in self.columns for axis in metric.axes):
            return np.full(len(self), np.nan)
        rows = zip(*(self.columns[axis].values for axis in metric.axes), strict=True)
        try:
            return np.array([np.nan if None in row else per_answer(*row) for row in rows], dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"the metric {metric.name!r} cannot be computed from these scores ({error})") from error

    def cells(self, correct: Floats | None = None, metric: Metric = DISPOSITION) -> Floats:
        """Float (n, 4): one-hot cells of a ratio metric's 2×2 (cr, hr, cw, hw); zeros where an axis is unscored.

        Args:
            correct: float (n,) to use in place of the scores of ``correct``.
            metric: whose 2×2: its second axis and the label that makes the first column.
        """
        right = self.numbers("correct") if correct is None else correct
        labels = self.labels(metric.axes[1])
        first = np.array([v == metric.label for v in labels])
        scored = ~np.isnan(right) & np.array([v is not None for v in labels])
        yes = right == 1
        columns = [yes & first, yes & ~first, ~yes & first, ~yes & ~first]
        return np.asarray(np.stack(columns, axis=1) & scored[:, None], dtype=np.float64)

    def scored(self, metric: Metric) -> Mask:
        """Bool (n,): which responses have every axis that the metric needs."""
        keep = np.ones(len(self), dtype=bool)
        for axis in metric.axes:
            column = self.columns.get(axis)
            keep &= np.array([v is not None for v in column.values], dtype=bool) if column else False
        return keep

    @cached_property
    def finished(self) -> Mask:
        """Bool (n,): which answers are known to have ended on their own."""
        return np.array([r.finish_reason is FinishReason.STOP for r in self.responses], dtype=bool)

    @cached_property
    def cut(self) -> Mask:
        """Bool (n,): which answers were cut by a budget, as recorded or inferred."""
        return np.array([r.finish_reason is FinishReason.LENGTH for r in self.responses], dtype=bool)

    @cached_property
    def unknown(self) -> Mask:
        """Bool (n,): which answers ended in an unknown way."""
        return np.array([r.finish_reason is FinishReason.UNKNOWN for r in self.responses], dtype=bool)

    @cached_property
    def texts(self) -> list[str | None]:
        """The answers' texts, None where not kept."""
        return [r.text for r in self.responses]

    @cached_property
    def replicates(self) -> npt.NDArray[np.str_]:
        """Text (n,): the seed or file that each answer belongs to."""
        return np.array([r.replicate for r in self.responses], dtype=np.str_)

    def scorers(self, axes: Iterable[str]) -> dict[str, set[str]]:
        """Scorers by axis, for the axes that this arm holds."""
        return {axis: self.columns[axis].scorers for axis in axes if axis in self.columns}


@dataclass(eq=False)
class Evidence:
    """Everything that checks may look at.

    Attributes:
        claim: what is claimed.
        prompts: all prompts by id.
        responses: all answers of all arms.
        scores: all scores of all arms.
        sources: where each arm came from: JSON objects with arm, path, format, rows, sha256, created, no_generation.
        quotes: numbers that the claim or the files state.
        overlap: what the scan of the training data found; None when there was none.
        train_sample: some training texts, for telling test prompts from training prompts.
        train_words: median words of the thoughts and of the answers that were to be imitated; empty where none were, None
            where it is not known.
        cards: a judge's known-answer cards with what it returned.
        probing: the probe that the claim is about; None where it is about none.
        counts: set instead of responses when only counts are known.
        notes: what the importers noticed.
        draws: bootstrap resamples and permutations.
    """

    claim: Claim
    prompts: Mapping[str, Prompt]
    responses: Sequence[Response] = ()
    scores: Sequence[Score] = ()
    _: KW_ONLY
    sources: Sequence[Mapping[str, Json]] = ()
    quotes: Sequence[Quote] = ()
    overlap: OverlapReport | None = None
    train_sample: Sequence[str] = ()
    train_words: Sequence[float] | None = None
    cards: Sequence[Mapping[str, Json]] = ()
    probing: ProbeResult | None = None
    counts: Counts | None = None
    notes: Sequence[str] = ()
    draws: int = 10_000

    def __post_init__(self) -> None:
        self.quotes = (*self.claim.quotes, *self.quotes)
        self.prompt_ids = sorted(self.prompts)
        self._effects: dict[object, Effect] = {}

    @cached_property
    def arms(self) -> dict[ArmId, Arm]:
        """Every arm, in the order of their names."""
        position = {prompt: i for i, prompt in enumerate(self.prompt_ids)}
        by_arm: dict[ArmId, tuple[list[Response], list[Score]]] = {}
        for response in self.responses:
            by_arm.setdefault(response.arm, ([], []))[0].append(response)
        for score in self.scores:
            by_arm.setdefault(score.arm, ([], []))[1].append(score)
        return {arm: Arm(arm, *by_arm[arm], position) for arm in sorted(by_arm, key=str)}

    # arms and metrics -------------------------------------------------------------------------------------------

    @property
    def control(self) -> Arm:
        """The control arm. Raises KeyError where only counts are known."""
        return self.arms[CONTROL]

    @property
    def treated(self) -> Arm:
        """The treated arm. Raises KeyError where only counts are known."""
        return self.arms[TREATED]

    @property
    def pair(self) -> tuple[Arm, ...]:
        """Control and treated, where there are responses at all."""
        return tuple(self.arms[name] for name in (CONTROL, TREATED) if name in self.arms)

    @cached_property
    def axes(self) -> frozenset[str]:
        """Axes that both arms hold (or the one arm, where there is only one)."""
        held = [set(arm.columns) for arm in self.pair]
        return frozenset(set.intersection(*held)) if held else frozenset()

    @cached_property
    def metric(self) -> Metric:
        """The claim's target metric. Raises InputError where the results do not hold it."""
        return self.metric_named(self.claim.metric)

    def metric_named(self, name: str) -> Metric:
        """Any metric by name. Raises InputError where the results do not hold it."""
        if self.counts is not None:
            return Metric(name, "mean", ("correct",))
        return resolve(name, self.axes)

    # effects ----------------------------------------------------------------------------------------------------

    @property
    def effect(self) -> Effect:
        """The target metric, treated minus control, over everything that was scored."""
        return self.effect_of(self.metric)

    def effect_of(
        self,
        metric: Metric,
        *,
        control: ArmId = CONTROL,
        treated: ArmId = TREATED,
        keep: tuple[Mask, Mask] | None = None,
        values: tuple[Floats, Floats] | None = None,
    ) -> Effect:
        """A metric, one arm against another.

        Args:
            metric: what to compare.
            control: the first arm.
            treated: the second arm.
            keep: for each arm a bool (n,): use only these answers.
            values: for each arm, float (n,) to use in place of the scores of a mean metric, or of ``correct`` in a
                ratio or auc metric.
        """
        if keep is not None or values is not None:
            return self._compute(metric, self.arms[control], self.arms[treated], keep, values)
        key = (metric.name, control, treated)
        if key not in self._effects:
            if self.counts is not None:
                self._effects[key] = counts_effect(metric.name, self.counts, level=self.claim.level)
            else:
                self._effects[key] = self._compute(metric, self.arms[control], self.arms[treated], None, None)
        return self._effects[key]

    def _compute(
        self,
        metric: Metric,
        c: Arm,
        t: Arm,
        keep: tuple[Mask, Mask] | None,
        values: tuple[Floats, Floats] | None,
    ) -> Effect:
        size: dict[str, Json] = {"level": self.claim.level, "draws": self.draws}

        def columns(at: int, arm: Arm) -> tuple[Any, ...]:
            """What the effect is made of, of one arm, then the prompts' indices; each cut down to what is kept."""
            new = None if values is None else values[at]
            mask = slice(None) if keep is None else keep[at]
            if metric.kind == "mean":
                of: tuple[Floats, ...] = (arm.values(metric) if new is None else new,)
            elif metric.kind == "ratio":
                of = (arm.cells(new, metric),)
            else:
                of = arm.numbers(metric.axes[0]), arm.numbers("correct") if new is None else new
            return tuple(column[mask] for column in (*of, arm.index))

        pair = columns(0, c), columns(1, t)
        if metric.kind == "auc":
            return auc_effect(metric, *pair, **size)
        effect = mean_effect if metric.kind == "mean" else ratio_effect
        return effect(metric, *pair, len(self.prompt_ids), **size)

    def arm_estimate(self, metric: Metric, arm: Arm, correct: Floats | None = None) -> Estimate:
        """A metric of one arm alone, clustered by prompt where prompts repeat."""
        n, level = len(self.prompt_ids), self.claim.level
        if metric.kind == "ratio":
            cells = cluster_sum(arm.cells(correct, metric), arm.index, n)
            return ratio_estimate(metric, cells[cells.sum(1) > 0], level=level, draws=self.draws)
        if metric.kind == "auc":
            x, y = arm.numbers(metric.axes[0]), arm.numbers("correct") if correct is None else correct
            keep = ~np.isnan(x) & ~np.isnan(y)
            return stats.bootstrap_auc(
                x[keep], y[keep] == 1, level=level, draws=self.draws, seed=0, clusters=arm.index[keep]
            )
        x = arm.values(metric) if correct is None else correct
        keep = ~np.isnan(x)
        single = len(np.unique(arm.index[keep])) == int(keep.sum())
        if single and keep.any() and np.isin(x[keep], (0, 1)).all():
            return stats.wilson(int(x[keep].sum()), int(keep.sum()), level)
        means = cluster_mean(x, arm.index, n)
        return stats.mean(means[~np.isnan(means)], level, scale=(0.0, 1.0) if metric.fraction else None)

    # pairing ----------------------------------------------------------------------------------------------------

    @cached_property
    def pairing(self) -> dict[str, int]:
        """How many prompts both arms answered, and how many only one of them."""
        if self.counts is not None:
            return {
                "paired": self.counts.control.n if self.counts.both is not None else 0,
                "only_control": 0,
                "only_treated": 0,
            }
        c, t = ({r.prompt_id for r in arm.responses} for arm in (self.control, self.treated))
        return {"paired": len(c & t), "only_control": len(c - t), "only_treated": len(t - c)}

    def require_pairs(self) -> None:
        """Raise InputError when no prompt was answered by both arms."""
        if self.counts is None and self.pairing["paired"] == 0:
            raise InputError(
                f"no prompt of the control arm ({len(self.control)} rows) occurs in the treated arm "
                f"({len(self.treated)} rows), so nothing can be compared",
                remedy="check that both files answer the same prompts; if only the chat template around them differs, map the "
                "bare question with --map prompt=COLUMN, or pair by document with --pair-by id",
            )

    @cached_property
    def generated(self) -> bool:
        """Whether a study file made these answers, so that what is missing is added there and not in a flag."""
        return any(source.get("format") == GENERATED for source in self.sources)

    @cached_property
    def no_generation(self) -> bool:
        """Whether the arms chose among given answers, so that nothing was generated that could be cut."""
        return bool(self.sources) and all(source.get("no_generation") for source in self.sources)
