"""``[treatment.temper]``, ``.steer``, ``.sidecar`` and ``.operator`` of a study file: what is read off the model's own answers, and
what is done with it; and ``[pipeline]``, the five steps through which a probe has to pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, MinLen

from counterclaim.audit.metrics import in_cohort
from counterclaim.config import After, TableError, table
from counterclaim.errors import InputError
from counterclaim.lab.config.common import Ascending, Count, Seeds, Share, TrainingPrompts

Site = Literal["residual", "o_proj", "v_proj", "down_proj"]
Kind = Literal["add", "ablate", "project"]
Span = Literal["response", "all"]
Position = Literal["last", "mean", "prompt-end"]
Layer = int | Literal["last"]
Classifier = Literal["logistic", "rbf", "mlp", "attention", "max"]


def _cohort(name: str) -> str:
    try:
        in_cohort({}, name)
    except InputError as error:
        raise TableError(error.problem, remedy=error.remedy or "") from error
    return name


CohortName = Annotated[str, After(_cohort)]
"""Answers of a kind, as ``metrics.in_cohort`` reads it: a cell (``cr``, ``hr``, ``cw``, ``hw``) or ``AXIS=VALUE``."""


@table
class _Operator:
    """What every operator without training takes.

    Attributes:
        prompts: the prompts whose answers are read
        samples: answers per prompt
        scorers: what scores them; those of `[score]` when not set
        seeds: each is a fit of its own and a replicate of the arm
        placebo: add an arm `placebo`
    """

    prompts: TrainingPrompts | None = None
    samples: Count = 1
    scorers: tuple[str, ...] = ()
    seeds: Seeds = (0,)
    placebo: bool = False

    def _check_prompts(self) -> None:
        if self.prompts is None:
            raise TableError(
                "no prompts are named on which the model's own answers are read",
                remedy='add prompts = { set = "tiny", split = "train" }, or file = "prompts.jsonl"',
            )


@table
class _Dosed(_Operator):
    """An operator whose dose is stated.

    Attributes:
        dose: dose of the arm itself
        doses: doses of further arms: 0 is the arm `do-nothing`, others are `dose:VALUE`
    """

    dose: float = 1.0
    doses: Ascending = ()


@table
class TemperPlan(_Operator):
    """Attention heads scaled at the input of ``o_proj``; dose d is the scale λ = 1 − d.

    Attributes:
        placebo: add an arm `placebo` that tempers as many random heads
        cohort: answers whose heads are looked for: a cell (`cr`, `hr`, `cw`, `hw`) or `AXIS=VALUE`; `cw` is asserted and wrong
        against: answers that they are compared with
        rank_by: `magnitude` (Cohen's d of the norm of a head's output) or `directional` (of its projection on the cohorts' mean
            difference, out of fold)
        top: how many heads are tempered
        heads: layer and head of each, `[[16, 5], [20, 7]]`, chosen by hand; then no prompts are needed
        last_tokens: tokens at the end of an answer over which a head is read
        scale: λ of the arm itself; its dose is 1 − λ
        scales: λ of further arms; 1 is the arm `do-nothing`, 0.9 is `dose:0.1`
    """

    operator: ClassVar[str] = "temper"

    cohort: CohortName = "cw"
    against: CohortName = "cr"
    rank_by: Literal["magnitude", "directional"] = "magnitude"
    top: Count = 5
    heads: tuple[tuple[int, int], ...] = ()
    last_tokens: Count = 32
    scale: float = 0.5
    scales: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.heads:
            self._check_prompts()
        elif self.prompts is not None:
            raise TableError("heads are named, and prompts to choose them on", remedy="leave one of them out")

    @property
    def dose(self) -> float:
        """Dose of the arm itself."""
        return _dose_of(self.scale)

    @property
    def doses(self) -> tuple[float, ...]:
        """Doses of further arms, ascending."""
        return tuple(sorted({_dose_of(scale) for scale in self.scales}))


def _dose_of(scale: float) -> float:
    return round(1 - scale, 12)  # 1 - 0.9 is not quite 0.1


@table
class SteerPlan(_Dosed):
    """A direction, or a subspace of low rank, added to activations or taken out of them; the dose is by how much.

    Attributes:
        placebo: add an arm `placebo` with a random direction of equal norm, or a random subspace of equal rank
        toward: answers towards which the direction points, such as `delivery=hedge`
        away: answers from which it points
        contrast: instead of both: two system prompts, under which the answers are given; `""` is none
        site: `residual` (after a layer), `o_proj` (its input), `v_proj` or `down_proj` (their outputs)
        layers: which layers; the middle one when empty
        kind: `add` the mean difference (contrastive activation addition), `ablate` the subspace, or `project` onto it
        rank: of the subspace that is ablated or projected onto: the leading right singular vectors of the differences from the
            other cohort's mean
        span: `response` acts from the token on that predicts the first of the answer, `all` on the prompt, too
        read: where in the answers the direction is estimated: `last`, `mean` or `prompt-end`
    """

    operator: ClassVar[str] = "steer"

    toward: CohortName | None = None
    away: CohortName | None = None
    contrast: tuple[str, str] | None = None
    site: Site = "residual"
    layers: tuple[int, ...] = ()
    kind: Kind = "add"
    rank: Count = 1
    span: Span = "response"
    read: Position = "mean"

    def __post_init__(self) -> None:
        self._check_prompts()
        named = [side for side in (self.toward, self.away) if side is not None]
        if (self.contrast is not None) == bool(named) or len(named) == 1:
            how_often = "twice" if self.contrast else "only in part" if named else "nowhere"
            raise TableError(
                f"a direction leads from one kind of answers to another, and the two are named {how_often}",
                remedy="name both cohorts, toward and away, or else two system prompts to contrast",
            )
        if self.kind == "add" and self.rank != 1:
            raise TableError(
                "one direction is added, and its rank is 1", key=("rank",),
                remedy='leave rank out, or take kind = "ablate" or "project"',
            )  # fmt: skip

    @property
    def sides(self) -> tuple[str, str]:
        """The cohorts towards which and from which the direction points."""
        return CONTRASTED if self.toward is None or self.away is None else (self.toward, self.away)


CONTRASTED = ("system_prompt=toward", "system_prompt=away")
"""Cohorts of the answers under two contrasted system prompts."""


@table
class ProbePlan:
    """What a probe reads, and how it is fitted.

    Attributes:
        cohort: answers that count as positive; all others that were scored are negative
        layer: index of a decoder layer (its output), or `last`: after the last layer and the final norm
        average: mean of this many layers up to that one
        position: `last` token of the answer, `mean` over its tokens, or `prompt-end`
        classifier: `logistic`, `rbf`, `mlp`, or over single tokens `attention` or `max`
        C: inverse strength of the L2 penalty, as scikit-learn has it
        folds: folds of the cross-validation on which the threshold is chosen
    """

    cohort: CohortName = "correct=1"
    layer: Layer = "last"
    average: Count = 1
    position: Position = "last"
    classifier: Classifier = "logistic"
    C: Annotated[float, Gt(0)] = 1.0
    folds: Annotated[int, Ge(2)] = 5

    @property
    def reads_tokens(self) -> bool:
        """Whether the classifier reads every token of an answer, and not one row of features."""
        return self.classifier in ("attention", "max")


@table
class SidecarPlan(_Dosed):
    """A gate beside a frozen model: where a probe's confidence in an answer is low, the answer is hedged or asked for again.

    The threshold is chosen on out-of-fold confidences of the training answers. The dose scales it: 0 never acts.

    Attributes:
        placebo: add an arm `placebo` whose probe is trained on shuffled labels
        probe: the probe
        action: `hedge` puts `says` in front of the answer, `careful` asks again with `says` as the user's next turn
        says: the hedge, or the next turn
        keep: P(assert given correct) that the threshold has to keep in training
        on_cut: `refuse` answers that the budget cut, whose last token is no end, or `read` them anyway; then the check
            `endpoint` fails
    """

    operator: ClassVar[str] = "sidecar"

    probe: ProbePlan = ProbePlan()
    action: Literal["hedge", "careful"] = "hedge"
    says: Annotated[str, MinLen(1)] | None = None
    keep: Share = 0.70
    on_cut: Literal["refuse", "read"] = "refuse"

    def __post_init__(self) -> None:
        self._check_prompts()

    @property
    def text(self) -> str:
        """``says``, or the default text of the action."""
        return SAYS[self.action] if self.says is None else self.says


SAYS: Mapping[str, str] = {
    "hedge": "I am not sure, but it may be this: ",
    "careful": "Are you sure? Check your answer, and say so where you do not know.",
}
"""The default text of each action."""


@table
class CustomPlan(_Dosed):
    """An operator of a plug-in.

    Attributes:
        placebo: add an arm `placebo`, fitted as the operator's own placebo
        name: the operator that a plug-in registered
        settings: handed to it as they are
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def operator(self) -> str:
        """Its registered name."""
        return self.name


Edit = TemperPlan | SteerPlan | SidecarPlan | CustomPlan
"""How an operator that does not train changes a model."""

_Asymmetry = Annotated[float, Ge(-1), Le(1)]


@table
class Bars:
    """What each step has to reach; the defaults are the paper's.

    Attributes:
        cv_auc: step 1: cross-validated AUC on the training prompts
        cv_asymmetry: step 1: assertion asymmetry of the gate, at most
        fresh_auc: step 2: AUC on fresh prompts
        fresh_asymmetry: step 2: asymmetry, at most
        keep: both: P(assert given correct), at least
        axis_cv: step 3: every axis in cross-validation
        axis_transfer: step 3: every axis on fresh prompts
        axis_correlation: step 3: largest |r| between the scores of two axes, below
    """

    cv_auc: Share = 0.65
    cv_asymmetry: _Asymmetry = -0.20
    fresh_auc: Share = 0.63
    fresh_asymmetry: _Asymmetry = -0.15
    keep: Share = 0.70
    axis_cv: Share = 0.65
    axis_transfer: Share = 0.60
    axis_correlation: Share = 0.80


@table
class FiveSteps:
    """The five steps through which a sidecar's probe has to pass, beside the arms of the study.

    Attributes:
        axes: what else probes should tell apart, each a cohort such as `delivery=hedge`
        layers: layers that are tried; every one when empty
        positions: positions that are tried
        averages: means over this many layers up to the probe's that are tried; those that are more than there are are left out
        classifiers: classifiers that are tried
        C: strengths of the penalty that are tried
        same_construct: another cohort that claims to be what the probe is for: where the two disagree on the fresh answers, no
            probe can reach the bar of the one by knowing the other
        second_model: a model of another family for the fifth step, read at the same share of its depth; the step is left undone
            without it
        splits: seeds of the cross-validation
        permutations: label shuffles of each null
        bars: what each step has to reach
    """

    axes: tuple[CohortName, ...] = ()
    layers: tuple[int, ...] = ()
    positions: Annotated[tuple[Position, ...], MinLen(1)] = ("last", "mean")
    averages: Annotated[tuple[int, ...], MinLen(1)] = (1, 4)
    classifiers: Annotated[tuple[Classifier, ...], MinLen(1)] = ("logistic",)
    C: Annotated[tuple[float, ...], MinLen(1)] = (1.0, 0.1)
    same_construct: CohortName | None = None
    second_model: str | None = None
    splits: Count = 20
    permutations: Count = 1_000
    bars: Bars = Bars()
