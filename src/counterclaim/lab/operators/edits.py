"""What ``temper`` and ``steer`` leave behind: heads that are chosen, directions that are estimated, and their placebos."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from counterclaim.errors import InputError
from counterclaim.lab.config import SteerPlan, TemperPlan
from counterclaim.lab.models import open_model
from counterclaim.lab.models.hf.activations import CaptureSpec, read
from counterclaim.lab.models.hf.edits import Edit, Piece, Span, base_of, check_heads, save_edit
from counterclaim.lab.models.hf.fingerprint import edit_hash
from counterclaim.lab.models.hf.model import HfModel
from counterclaim.lab.models.hf.sites import heads_of, layers_with, place
from counterclaim.lab.operators.attribution import attribute
from counterclaim.lab.operators.reading import check_sizes, exchange_of, of_cohorts, readable, was_cut
from counterclaim.records import Json
from counterclaim.registry import Fitting

SMALLEST_COHORT = 2
"""Answers without which a mean has no spread."""

Floats = NDArray[np.float64]
Head = tuple[int, int]


def fit_temper(fitting: Fitting, folder: Path) -> dict[str, Json]:
    """Choose heads, by hand or by attribution, and leave the edit that scales them.

    It acts on the prompt, too: so scaling a head is scaling columns of a weight, and can be exported.

    Returns:
        the card: heads with their d, what the attribution found, hash of the edit, seconds.

    Raises:
        InputError: a cohort has too few answers, or there are fewer heads than are to be tempered.
        ModelError: the model has no such heads, or cannot be read.
    """
    plan: TemperPlan = fitting.plan
    started = time.monotonic()
    with closing(open_model(fitting.model, fitting.runtime)) as opened:
        model = readable(opened)
        heads, card = _heads(model, plan, fitting)
        if fitting.placebo:
            heads = _other_heads(model, heads, fitting.seed)
        by_layer: dict[int, list[int]] = defaultdict(list)
        for layer, head in heads:
            by_layer[layer].append(head)
        pieces = tuple(Piece(layer, "o_proj", "temper", tuple(sorted(by_layer[layer]))) for layer in sorted(by_layer))
        return _left(model, fitting, folder, pieces, "all", started, {"heads": [list(head) for head in heads], **card})


def _heads(model: HfModel, plan: TemperPlan, fitting: Fitting) -> tuple[list[Head], dict[str, Json]]:
    """The heads that the plan means, best first, and what the card says of how they were chosen."""
    if plan.heads:
        for layer, head in plan.heads:
            check_heads(model.network, layer, [head])
        return list(dict.fromkeys(plan.heads)), {"chosen": "by hand"}
    found = attribute(
        model, fitting.answers, cohort=plan.cohort, against=plan.against, last_tokens=plan.last_tokens,
        seed=fitting.seed, watch=fitting.watch,
    )  # fmt: skip
    ranked = found.heads(plan.rank_by)
    if len(ranked) < plan.top:
        raise InputError(
            f"{plan.top} heads are to be tempered, and the model has {len(ranked)}", remedy="set temper.top lower"
        )
    best = ranked[: plan.top]
    notes: list[Json] = []
    if smaller := sum(d <= 0 for _, _, d in best):
        notes.append(
            f"{smaller} of the {plan.top} heads are no larger in {plan.cohort} than in {plan.against}: "
            "scaling them down takes nothing of it away"
        )
    card: dict[str, Json] = {
        "chosen": f"by {plan.rank_by}", "d": [d for _, _, d in best], "notes": notes, "attribution": found.to_json(),
    }  # fmt: skip
    return [(layer, head) for layer, head, _ in best], card


def _other_heads(model: HfModel, chosen: Sequence[Head], seed: int) -> list[Head]:
    """As many random heads, none of them chosen."""
    layers = layers_with(model.network, "o_proj")
    others = [(layer, head) for layer in layers for head in range(heads_of(model.network, layer)[0])]
    others = [head for head in others if head not in set(chosen)]
    if len(others) < len(chosen):
        raise InputError(
            f"a placebo needs {len(chosen)} heads beside as many chosen ones, and {len(others)} are left",
            remedy="temper fewer heads, or leave the placebo out",
        )
    return random.Random(f"temper placebo {seed}").sample(others, len(chosen))


@dataclass(frozen=True, slots=True)
class _Cohorts:
    """Activations of two cohorts of answers, by layer, each (answers, width)."""

    toward: Mapping[int, Floats]
    away: Mapping[int, Floats]


def fit_steer(fitting: Fitting, folder: Path) -> dict[str, Json]:
    """Estimate a direction, or a subspace, at each layer, and leave the edit that adds it or takes it out.

    Returns:
        the card: layers with the norm of their mean difference and the cosine of the cohorts' means, how many answers each
        cohort has, hash of the edit, seconds.

    Raises:
        InputError: a cohort has too few answers for the rank, or there is no direction between the two.
        ModelError: the model has no such layer or site, or cannot be read.
    """
    plan: SteerPlan = fitting.plan
    started = time.monotonic()
    with closing(open_model(fitting.model, fitting.runtime)) as opened:
        model = readable(opened)
        layers = plan.layers or (_middle(model, plan),)
        for layer in layers:
            place(model.network, layer, plan.site)
        cohorts, card = _read_cohorts(model, plan, layers, fitting)
        pieces = []
        by_layer_facts: list[Json] = []
        for layer in layers:
            vectors, facts = _vectors(cohorts.toward[layer], cohorts.away[layer], plan)
            if fitting.placebo:
                vectors = _random_like(vectors, plan, np.random.default_rng([fitting.seed, layer]))
            pieces.append(Piece(layer, plan.site, plan.kind, vectors=torch.from_numpy(vectors).float()))
            by_layer_facts.append({"layer": layer, **facts})
        facts_of_all: dict[str, Json] = {
            "site": plan.site,
            "kind": plan.kind,
            "rank": plan.rank,
            "layers": by_layer_facts,
            **card,
        }
        return _left(model, fitting, folder, tuple(pieces), plan.span, started, facts_of_all)


def _middle(model: HfModel, plan: SteerPlan) -> int:
    """The layer in the middle, or the one nearest to it that has the site."""
    there = layers_with(model.network, plan.site)
    middle = len(layers_with(model.network, "residual")) // 2
    return min(there, key=lambda layer: (abs(layer - middle), layer), default=middle)


def _read_cohorts(
    model: HfModel, plan: SteerPlan, layers: Sequence[int], fitting: Fitting
) -> tuple[_Cohorts, dict[str, Json]]:
    """The activations of both cohorts, and what the card says of them."""
    chosen = of_cohorts(fitting.answers, *plan.sides, SMALLEST_COHORT)
    found = read(
        model, [exchange_of(answer) for answer, _ in chosen], CaptureSpec(tuple(layers), (plan.read,), plan.site),
        lambda done, total: fitting.watch("reading activations", done, total),
    )  # fmt: skip
    kept = [chosen[row] for row in found.rows]
    sides = np.array([side for _, side in kept])
    check_sizes(sides.tolist(), *plan.sides, SMALLEST_COHORT)
    name = "" if plan.site == "residual" else f"{plan.site}/"
    blocks = {layer: found.blocks[f"layer.{layer}/{name}{plan.read}"].astype(np.float64) for layer in layers}
    card: dict[str, Json] = {
        "toward": {"name": plan.sides[0], "n": int(sides.sum())}, "away": {"name": plan.sides[1], "n": int((~sides).sum())},
        "read": plan.read, "unread": len(found.refused), "cut": sum(was_cut(answer) is True for answer, _ in kept),
    }  # fmt: skip
    return _Cohorts({at: x[sides] for at, x in blocks.items()}, {at: x[~sides] for at, x in blocks.items()}), card


def _vectors(toward: Floats, away: Floats, plan: SteerPlan) -> tuple[Floats, dict[str, Json]]:
    """The vectors (rank, width) of one layer, and what the card says of it."""
    means = toward.mean(axis=0), away.mean(axis=0)
    difference = means[0] - means[1]
    norm = float(np.linalg.norm(difference))
    lengths = [float(np.linalg.norm(mean)) for mean in means]
    if norm <= 1e-6 * max(*lengths, 1e-30):
        raise InputError(
            f"answers that are {plan.sides[0]} and those that are {plan.sides[1]} have the same mean activations, so there is no direction",
            remedy="read another position or site",
        )
    facts: dict[str, Json] = {"norm": norm, "cosine": float(means[0] @ means[1] / max(lengths[0] * lengths[1], 1e-30))}
    if plan.kind == "add":
        return difference[None], facts
    if plan.rank == 1:
        return difference[None] / norm, facts
    if plan.rank > min(toward.shape):
        raise InputError(
            f"a subspace of rank {plan.rank} cannot be estimated from {len(toward)} answers of width {toward.shape[1]}",
            remedy="set steer.rank lower, or ask more prompts",
        )
    _, strengths, rows = np.linalg.svd(toward - means[1], full_matrices=False)
    return rows[: plan.rank], {**facts, "explained": float((strengths[: plan.rank] ** 2).sum() / (strengths**2).sum())}


def _random_like(vectors: Floats, plan: SteerPlan, draw: np.random.Generator) -> Floats:
    """A random direction of the same norm, or a random subspace of the same rank."""
    drawn = draw.standard_normal(vectors.shape)
    if plan.kind == "add":
        return np.asarray(drawn * (np.linalg.norm(vectors) / np.linalg.norm(drawn)))
    return np.ascontiguousarray(np.linalg.qr(drawn.T)[0].T)


def _left(
    model: HfModel, fitting: Fitting, folder: Path, pieces: tuple[Piece, ...], span: Span, started: float,
    by_layer_facts: Mapping[str, Json],
) -> dict[str, Json]:  # fmt: skip
    """Leave an edit in its folder; its card."""
    name = fitting.plan.operator
    save_edit(Edit(name, pieces, span, base_of(model.ref, model.network), folder))
    return {
        "operator": name, "seed": fitting.seed, "placebo": fitting.placebo, "model": fitting.model.name,
        "base": model.ref.revision, "adapter_hash": model.ref.adapter_hash, "span": span, **by_layer_facts,
        "edit_hash": edit_hash(folder), "seconds": round(time.monotonic() - started, 1),
        "libraries": {each: version(each) for each in ("torch", "transformers")},
    }  # fmt: skip
