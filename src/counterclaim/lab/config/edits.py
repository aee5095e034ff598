"""``[treatment.temper]``, ``.steer`` and ``.sidecar`` of a study file: what is read off the model's own answers, and what is
done with it; and ``[pipeline]``, the five steps through which a probe has to pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from counterclaim.audit.metrics import in_cohort
from counterclaim.errors import InputError
from counterclaim.lab.config.prompts import Doses, PromptChoice, prompts_schema
from counterclaim.records import Json

if TYPE_CHECKING:
    from pydantic import BaseModel

Site = Literal["residual", "o_proj", "v_proj", "down_proj"]
Kind = Literal["add", "ablate", "project"]
Span = Literal["response", "all"]
Position = Literal["last", "mean", "prompt-end"]
Layer = int | Literal["last"]
Classifier = Literal["logistic", "rbf", "mlp", "attention", "max"]


@dataclass(frozen=True, slots=True)
class OwnAnswers:
    """The model's own answers, from which operators without training learn.

    Attributes:
        prompts: what is asked; never the split on which the claim is tested.
        samples: answers per prompt.
        scorers: what labels them, as ``score.scorers`` takes it; those of the study where empty.
    """

    prompts: PromptChoice
    samples: int = 1
    scorers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TemperPlan:
    """Attention heads scaled at the input of ``o_proj``; dose d is the scale λ = 1 − d.

    Attributes:
        answers: what the heads are chosen on.
        cohort: answers whose heads are looked for, as ``metrics.in_cohort`` reads it.
        against: answers that they are compared with.
        rank_by: ``magnitude`` (Cohen's d of the heads' L2 norms) or ``directional`` (out-of-fold d of the projection on the
            cohorts' mean difference).
        top: how many heads are tempered.
        heads: layer and head of each, chosen by hand; then nothing is ranked.
        last_tokens: tokens at the end of the response over which a head is read.
        seeds: of the permutation null and of random heads; each is a replicate where there are several.
        placebo: temper as many random heads instead.
    """

    operator: ClassVar[str] = "temper"

    answers: OwnAnswers | None
    cohort: str = "cw"
    against: str = "cr"
    rank_by: Literal["magnitude", "directional"] = "magnitude"
    top: int = 5
    heads: tuple[tuple[int, int], ...] = ()
    last_tokens: int = 32
    seeds: tuple[int, ...] = (0,)
    placebo: bool = False


@dataclass(frozen=True, slots=True)
class SteerPlan:
    """A direction, or a subspace of low rank, added to activations or taken out of them; the dose is by how much.

    Attributes:
        answers: what the direction is estimated on.
        toward: answers towards which the direction points, as ``metrics.in_cohort`` reads it.
        away: answers from which it points.
        contrast: two system prompts; the model's answers under the first are then ``toward``, those under the second ``away``
            (``CONTRASTED``). An empty one is no system prompt.
        site: where: the residual stream after a layer, the input of ``o_proj``, the output of ``v_proj``, or that of the MLP
            (``down_proj``).
        layers: which layers.
        kind: ``add`` the mean difference (contrastive activation addition), ``ablate`` the subspace, or ``project`` onto it.
        rank: of the subspace; above 1 the leading right singular vectors of the differences from the other cohort's mean.
        span: ``response`` acts from the token on that predicts the first of the answer; ``all`` on the prompt, too.
        read: activations at which position of the answers the direction is estimated.
        seeds: of random directions, and of nothing else; each is a replicate where there are several.
        placebo: a random direction of equal norm (a random subspace of equal rank) instead.
    """

    operator: ClassVar[str] = "steer"

    answers: OwnAnswers
    toward: str
    away: str
    contrast: tuple[str, str] | None = None
    site: Site = "residual"
    layers: tuple[int, ...] = ()
    kind: Kind = "add"
    rank: int = 1
    span: Span = "response"
    read: Position = "mean"
    seeds: tuple[int, ...] = (0,)
    placebo: bool = False


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """What a probe reads, and how it is fitted.

    Attributes:
        cohort: answers that count as positive, as ``metrics.in_cohort`` reads it; all others that were scored are negative.
        layer: index of a decoder layer (its output), or ``last``: after the last layer and the final norm (``h_last``).
        average: of how many layers up to that one the mean is taken.
        position: the last token of the response, the mean over its tokens, or the last token of the prompt.
        classifier: logistic regression, or one that is not linear.
        C: inverse strength of the L2 penalty, as scikit-learn has it; ``RBF`` uses it too.
        folds: of the cross-validation on which the threshold is chosen.
    """

    cohort: str = "correct=1"
    layer: Layer = "last"
    average: int = 1
    position: Position = "last"
    classifier: Classifier = "logistic"
    C: float = 1.0
    folds: int = 5

    @property
    def reads_tokens(self) -> bool:
        """Whether the classifier reads every token of an answer, and not one row of features."""
        return self.classifier in ("attention", "max")


@dataclass(frozen=True, slots=True)
class SidecarPlan:
    """A gate beside a frozen model: where a probe's confidence in an answer is low, the answer is hedged or asked for again.

    The threshold is chosen on out-of-fold confidences of the training answers. The dose scales it: 0 never acts.

    Attributes:
        answers: what the probe is trained on.
        probe: the probe.
        action: ``hedge`` puts ``says`` in front of the answer; ``careful`` asks again with ``says`` as the user's next turn.
        says: the hedge, or the next turn.
        keep: P(assert | correct) that the threshold has to keep on the training folds.
        on_cut: what is done with answers that the budget cut, whose last token is no end: ``refuse`` to train on them, or
            read them anyway; then the check ``endpoint`` fails.
        seeds: of the folds; each is a replicate where there are several.
        placebo: train the probe on shuffled labels.
    """

    operator: ClassVar[str] = "sidecar"

    answers: OwnAnswers
    probe: ProbePlan = ProbePlan()
    action: Literal["hedge", "careful"] = "hedge"
    says: str = "I am not sure, but it may be this: "
    keep: float = 0.70
    on_cut: Literal["refuse", "read"] = "refuse"
    seeds: tuple[int, ...] = (0,)
    placebo: bool = False


@dataclass(frozen=True, slots=True)
class CustomPlan:
    """An operator of a plug-in, with the settings that its table holds.

    Attributes:
        operator: its registered name.
        settings: handed to it as they are.
        answers: the model's own answers that it is fitted on; None where it needs none.
        seeds: each is a replicate where there are several.
        placebo: fit the operator's placebo instead.
    """

    operator: str
    settings: Mapping[str, Json] = field(default_factory=dict)
    answers: OwnAnswers | None = None
    seeds: tuple[int, ...] = (0,)
    placebo: bool = False


CONTRASTED = ("system_prompt=toward", "system_prompt=away")
"""Cohorts of the answers under two contrasted system prompts."""

Edit = TemperPlan | SteerPlan | SidecarPlan | CustomPlan
"""How an operator that does not train changes a model."""


@dataclass(frozen=True, slots=True)
class Bars:
    """What each step has to reach; the defaults are the paper's.

    Attributes:
        cv_auc: step 1, cross-validated AUC on the training prompts.
        cv_asymmetry: step 1, assertion asymmetry of the gate; at most.
        fresh_auc: step 2, on fresh prompts.
        fresh_asymmetry: step 2; at most.
        keep: P(assert | correct) in both; at least.
        axis_cv: step 3, every axis cross-validated.
        axis_transfer: step 3, every axis on fresh prompts.
        axis_correlation: step 3, largest |r| between the scores of two axes; below.
    """

    cv_auc: float = 0.65
    cv_asymmetry: float = -0.20
    fresh_auc: float = 0.63
    fresh_asymmetry: float = -0.15
    keep: float = 0.70
    axis_cv: float = 0.65
    axis_transfer: float = 0.60
    axis_correlation: float = 0.80


@dataclass(frozen=True, slots=True)
class FiveSteps:
    """The five steps through which a sidecar's probe has to pass, beside the arms of the study.

    Attributes:
        axes: what else probes are trained to tell, as ``metrics.in_cohort`` reads it, beside the sidecar's own cohort.
        layers: layers that are tried; every one where empty.
        positions: positions that are tried.
        averages: means over so many last layers that are tried.
        classifiers: kinds of probe that are tried.
        C: strengths of the penalty that are tried.
        same_construct: another cohort that claims to be what the probe is for; where the two disagree on the fresh answers, no probe
            can reach the bar of the one by knowing the other. None where there is none.
        second_model: a model of another family, with which steps 1 and 2 are done again; None leaves step 5 undone.
        splits: seeds of the cross-validation.
        permutations: label shuffles of each null.
        bars: what each step has to reach.
    """

    axes: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()
    positions: tuple[Position, ...] = ("last", "mean")
    averages: tuple[int, ...] = (1, 4)
    classifiers: tuple[Classifier, ...] = ("logistic",)
    C: tuple[float, ...] = (1.0, 0.1)
    same_construct: str | None = None
    second_model: str | None = None
    splits: int = 20
    permutations: int = 1_000
    bars: Bars = Bars()


def to_edit(operator: str, table: Any, path: Path, where: str) -> tuple[Edit, Doses]:
    """The plan that a validated table of an operator stands for, and the arms that it brings along.

    Args:
        operator: name of the table: ``temper``, ``steer``, ``sidecar``, or ``operator`` for one of a plug-in.
        table: as ``edit_schemas`` validated it.
        path: the study file; files that the table names are found from its folder.
        where: the table's name, for messages.

    Raises:
        InputError: a cohort cannot be read, there is nothing to learn from, or settings contradict each other.
    """
    said = table.model_dump(exclude_none=True)
    answers = None
    if "prompts" in said:
        answers = OwnAnswers(
            PromptChoice.of_table(said["prompts"], path, f"{where}.prompts"), said.get("samples", 1),
            tuple(said.get("scorers", ())),
        )  # fmt: skip
    seeds = tuple(said.get("seeds", (0,)))
    if repeated := [seed for seed in seeds if seeds.count(seed) > 1]:
        raise InputError(
            f"{where}.seeds: {repeated[0]} stands there twice, and each seed is one fit",
            path=path,
            remedy="name different seeds",
        )
    doses = Doses(tuple(sorted(set(said.get("doses", ())))), said.get("placebo", False), said.get("dose", 1.0))
    if operator == "operator":
        return CustomPlan(said["name"], said.get("settings", {}), answers, seeds), doses
    if operator == "temper" and said.get("heads"):
        if answers is not None:
            raise InputError(
                f"{where}: heads are named, and prompts to choose them on",
                path=path,
                remedy="leave one of them out",
            )
    elif answers is None:
        raise InputError(
            f"{where}: nobody said on which prompts the model's own answers are read",
            path=path,
            remedy=f'add prompts = {{ set = "tiny", split = "train" }} to [{where}], or file = "prompts.jsonl"',
        )
    for key in ("cohort", "against", "toward", "away"):
        if key in said:
            _check_cohort(said[key], path, f"{where}.{key}")
    kind = _PLANS[operator]
    settings = {item.name: said[item.name] for item in fields(kind) if item.name in said}
    settings |= {"answers": answers, "seeds": seeds, "placebo": False}
    if operator == "temper":
        settings["heads"] = tuple((layer, head) for layer, head in said.get("heads", ()))
        others = tuple(sorted({_dose_of(scale) for scale in said.get("scales", ())}))
        doses = Doses(others, doses.placebo, _dose_of(said.get("scale", 0.5)))
    if operator == "steer":
        settings["layers"] = tuple(said.get("layers", ()))
        if "contrast" in said:
            settings |= {"contrast": tuple(said["contrast"]), "toward": CONTRASTED[0], "away": CONTRASTED[1]}
        if ("contrast" in said) == bool({"toward", "away"} & said.keys()) or not {"toward", "away"} <= settings.keys():
            raise InputError(
                f"{where}: a direction leads from one kind of answers to another, and which two is said "
                f"{'twice' if 'contrast' in said else 'only in part' if {'toward', 'away'} & said.keys() else 'nowhere'}",
                path=path,
                remedy="name both cohorts, toward and away, or else two system prompts to contrast",
            )
        if said.get("kind", "add") == "add" and said.get("rank", 1) != 1:
            raise InputError(
                f"{where}.rank: one direction is added, and its rank is 1",
                path=path,
                remedy='leave rank out, or take kind = "ablate" or "project"',
            )
    if operator == "sidecar":
        settings["probe"] = ProbePlan(**said.get("probe", {}))
        _check_cohort(settings["probe"].cohort, path, f"{where}.probe.cohort")
        if "says" not in said and said.get("action") == "careful":
            settings["says"] = CAREFUL
    return kind(**settings), doses


CAREFUL = "Are you sure? Check your answer, and say so where you do not know."
"""What a sidecar says by default where it asks again."""

_PLANS: Mapping[str, Any] = {"temper": TemperPlan, "steer": SteerPlan, "sidecar": SidecarPlan}


def to_steps(table: Any, path: Path) -> FiveSteps:
    """The five steps that a validated ``[pipeline]`` table stands for.

    Raises:
        InputError: an axis cannot be read.
    """
    said = table.model_dump(exclude_none=True)
    for axis in said.get("axes", ()):
        _check_cohort(axis, path, "pipeline.axes")
    if "same_construct" in said:
        _check_cohort(said["same_construct"], path, "pipeline.same_construct")
    bars = Bars(**said.pop("bars", {}))
    settings: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in said.items()}
    return FiveSteps(bars=bars, **settings)


def _check_cohort(name: str, path: Path, where: str) -> None:
    try:
        in_cohort({}, name)
    except InputError as error:
        raise InputError(f"{where}: {error.problem}", path=path, remedy=error.remedy) from error


def _dose_of(scale: float) -> float:
    return round(1 - scale, 12)  # 1 - 0.9 is not quite 0.1


def edit_schemas() -> dict[str, type[BaseModel]]:
    """The schemas of the tables by their names, ``pipeline`` included; what is left out comes from the dataclasses above."""
    from pydantic import BaseModel, ConfigDict, Field

    Prompts = prompts_schema(learnt=True)

    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    class Common(Strict):
        prompts: Prompts | None = None  # type: ignore[valid-type]  # a class that is made on call
        samples: int | None = Field(default=None, ge=1)
        scorers: list[str] | None = None
        seeds: list[int] | None = Field(default=None, min_length=1)
        placebo: bool | None = None

    class TemperTable(Common):
        cohort: str | None = None
        against: str | None = None
        rank_by: Literal["magnitude", "directional"] | None = None
        top: int | None = Field(default=None, ge=1)
        heads: list[tuple[int, int]] | None = None
        last_tokens: int | None = Field(default=None, ge=1)
        scale: float | None = None
        scales: list[float] | None = None

    class SteerTable(Common):
        toward: str | None = None
        away: str | None = None
        contrast: tuple[str, str] | None = None
        site: Site | None = None
        layers: list[int] | None = None
        kind: Kind | None = None
        rank: int | None = Field(default=None, ge=1)
        span: Span | None = None
        read: Position | None = None
        dose: float | None = None
        doses: list[float] | None = None

    class ProbeTable(Strict):
        cohort: str = "correct=1"
        layer: int | Literal["last"] = "last"
        average: int = Field(default=1, ge=1)
        position: Position = "last"
        classifier: Classifier = "logistic"
        C: float = Field(default=1.0, gt=0)
        folds: int = Field(default=5, ge=2)

    class SidecarTable(Common):
        probe: ProbeTable | None = None
        action: Literal["hedge", "careful"] | None = None
        says: str | None = Field(default=None, min_length=1)
        keep: float | None = Field(default=None, ge=0, le=1)
        on_cut: Literal["refuse", "read"] | None = None
        dose: float | None = None
        doses: list[float] | None = None

    class OperatorTable(Common):
        name: str
        settings: dict[str, Any] | None = None
        dose: float | None = None
        doses: list[float] | None = None

    class BarsTable(Strict):
        cv_auc: float | None = Field(default=None, ge=0, le=1)
        cv_asymmetry: float | None = Field(default=None, ge=-1, le=1)
        fresh_auc: float | None = Field(default=None, ge=0, le=1)
        fresh_asymmetry: float | None = Field(default=None, ge=-1, le=1)
        keep: float | None = Field(default=None, ge=0, le=1)
        axis_cv: float | None = Field(default=None, ge=0, le=1)
        axis_transfer: float | None = Field(default=None, ge=0, le=1)
        axis_correlation: float | None = Field(default=None, ge=0, le=1)

    class PipelineTable(Strict):
        axes: list[str] | None = None
        layers: list[int] | None = None
        positions: list[Position] | None = Field(default=None, min_length=1)
        averages: list[int] | None = Field(default=None, min_length=1)
        classifiers: list[Classifier] | None = Field(default=None, min_length=1)
        C: list[float] | None = Field(default=None, min_length=1)
        same_construct: str | None = None
        second_model: str | None = None
        splits: int | None = Field(default=None, ge=1)
        permutations: int | None = Field(default=None, ge=1)
        bars: BarsTable | None = None

    return {
        "temper": TemperTable, "steer": SteerTable, "sidecar": SidecarTable, "operator": OperatorTable,
        "pipeline": PipelineTable,
    }  # fmt: skip
