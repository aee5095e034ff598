"""``[treatment.temper]``, ``.steer`` and ``.sidecar`` of a study file: what is read off the model's own answers, and what is
done with it; and ``[pipeline]``, the five steps through which a probe has to pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from counterclaim.spec._choices import PromptChoice

Site = Literal["residual", "o_proj", "v_proj", "down_proj"]
Kind = Literal["add", "ablate", "project"]
Span = Literal["response", "all"]
Position = Literal["last", "mean", "prompt-end"]
Layer = int | Literal["last"]
Classifier = Literal["logistic", "rbf", "mlp", "attention"]


@dataclass(frozen=True, slots=True)
class OwnAnswers:
    """The model's own answers, from which operators without training learn.

    Attributes:
        prompts: what is asked; never the split on which the claim is tested.
        samples: answers per prompt.
        instruments: what labels them, as ``score.instruments`` takes it; those of the study where empty.
    """

    prompts: PromptChoice
    samples: int = 1
    instruments: tuple[str, ...] = ()


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

    OPERATOR: ClassVar[str] = "temper"

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

    OPERATOR: ClassVar[str] = "steer"

    answers: OwnAnswers
    toward: str
    away: str
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

    OPERATOR: ClassVar[str] = "sidecar"

    answers: OwnAnswers
    probe: ProbePlan = ProbePlan()
    action: Literal["hedge", "careful"] = "hedge"
    says: str = "I am not sure, but it may be this: "
    keep: float = 0.70
    on_cut: Literal["refuse", "read"] = "refuse"
    seeds: tuple[int, ...] = (0,)
    placebo: bool = False


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
    second_model: str | None = None
    splits: int = 20
    permutations: int = 1_000
    bars: Bars = Bars()
