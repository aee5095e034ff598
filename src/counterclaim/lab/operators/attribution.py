"""Which attention heads go with an answer's cohort: read in one pass, and compared with the null of the largest difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from counterclaim.lab.models.hf.activations import CaptureSpec, read
from counterclaim.lab.models.hf.sites import layers_of, layers_with
from counterclaim.lab.operators.reading import check_sizes, exchange_of, of_cohorts, readable, was_cut
from counterclaim.records import Json
from counterclaim.registry import Labelled, Model, Watch
from counterclaim.report.figures import draw
from counterclaim.report.fitted import maps_of
from counterclaim.report.html import page_of
from counterclaim.report.words import number, one_line, p_value, signed
from counterclaim.stats.heads import SMALLEST_COHORT, Directions, HeadScores, directional, magnitude
from counterclaim.stats.weights import Floats

RankBy = Literal["magnitude", "directional"]


@dataclass(frozen=True, slots=True)
class Cohort:
    """Some answers.

    Attributes:
        name: as ``metrics.in_cohort`` reads it.
        n: how many were read.
        cut: how many of them the token budget cut, so that what is read of them is no end.
        norms: (heads,), mean norm of every head.
    """

    name: str
    n: int
    cut: int
    norms: Floats


@dataclass(frozen=True, slots=True)
class Attribution:
    """What heads tell of two cohorts of answers. Every array has one entry for each of ``where``.

    Attributes:
        cohort: the answers that are looked for.
        against: those with which they are compared.
        where: layer and head of each head.
        n_layers: decoder layers of the model.
        without: layers that have no ``o_proj``, and so no heads.
        magnitude: of the L2 norm of a head's slice of the input of ``o_proj``; above 0 where it is larger in the cohort.
        directions: of the slice's projection on the difference of the cohorts' means.
        unread: answers of the cohorts that could not be read.
        last_tokens: tokens at the end of the response over which slices are averaged.
        permutations: shuffles of each null.
        seed: of shuffles and folds.
    """

    cohort: Cohort
    against: Cohort
    where: tuple[tuple[int, int], ...]
    n_layers: int
    without: tuple[int, ...]
    magnitude: HeadScores
    directions: Directions
    unread: int
    last_tokens: int
    permutations: int
    seed: int

    def heads(self, rank_by: RankBy = "magnitude") -> list[tuple[int, int, float]]:
        """(layer, head, d) of every head, best first: the largest d, of the norms or of the projections out of fold.

        A head whose norm is smaller in the cohort has a d below 0 and comes last: damping it takes nothing of the cohort away.
        """
        d = (self.magnitude if rank_by == "magnitude" else self.directions.out_of_fold).d
        rows = [(layer, head, float(each)) for (layer, head), each in zip(self.where, d, strict=True)]
        return sorted(rows, key=lambda row: (-row[2], row[0], row[1]))

    def because(self) -> str:
        """One sentence: the largest d of each kind, and what the null of the largest says of it."""
        norms, out = self.magnitude, self.directions.out_of_fold
        return (
            f"Of {len(self.where)} heads, the norms of {_named(self.where[norms.best])} differ most ({_with_null(norms)}); out of fold, "
            f"{_named(self.where[out.best])} has the clearest direction ({_with_null(out)})."
        )

    def to_json(self) -> dict[str, Json]:
        """Everything, as ``counterclaim attribute --json`` prints it: a summary, then one row for each head."""
        parts = (self.magnitude, self.directions.out_of_fold, self.directions.in_sample)
        summaries = dict(zip(("magnitude", "directional", "in_sample"), map(_summary, parts), strict=True))
        rows = zip(
            self.where, self.cohort.norms, self.against.norms, *(part.d for part in parts), *(part.p for part in parts),
            self.directions.cosine, strict=True,
        )  # fmt: skip
        return {
            "cohort": _cohort_json(self.cohort), "against": _cohort_json(self.against), "unread": self.unread,
            "last_tokens": self.last_tokens, "permutations": self.permutations, "seed": self.seed,
            "folds": self.directions.folds, "n_layers": self.n_layers, "n_heads": len(self.where),
            "layers_without_o_proj": list(self.without), **summaries, "because": self.because(),
            "heads": [
                {
                    "layer": layer, "head": head, "mean_cohort": float(mean1), "mean_against": float(mean0), "d": float(d),
                    "p": float(p), "directional_d": float(out), "directional_p": float(p_out), "in_sample_d": float(within),
                    "in_sample_p": float(p_within), "cosine": float(cosine),
                }
                for (layer, head), mean1, mean0, d, out, within, p, p_out, p_within, cosine in rows
            ],
        }  # fmt: skip


def attribute(
    model: Model,
    answers: Sequence[Labelled],
    *,
    cohort: str = "cw",
    against: str = "cr",
    last_tokens: int = 32,
    permutations: int = 1_000,
    seed: int = 0,
    watch: Watch = lambda doing, done, total: None,
) -> Attribution:
    """Compare every attention head between two cohorts of answers.

    Each answer is read once, all heads of all layers together: the slices of the input of ``o_proj`` over the last tokens of the
    response. Layers without ``o_proj`` (linear attention) have no heads, and are named.

    Args:
        model: who answered, opened.
        answers: its scored answers.
        cohort: answers that are looked for, as ``metrics.in_cohort`` reads it; confident and wrong by default.
        against: answers with which they are compared.
        last_tokens: at the end of each response.
        permutations: shuffles of the cohorts for each null.
        seed: of shuffles and folds.
        watch: called with what is done, how far, and of how much.

    Raises:
        InputError: a cohort has too few answers, or an answer is in both.
        ModelError: the model has no ``o_proj``, or cannot be read.
    """
    opened = readable(model)
    chosen = of_cohorts(answers, cohort, against, SMALLEST_COHORT)
    wanted = CaptureSpec((), (), head_norms=last_tokens, head_means=last_tokens)
    found = read(
        opened,
        [exchange_of(answer) for answer, _ in chosen],
        wanted,
        lambda done, total: watch("reading heads", done, total),
    )
    kept = [chosen[row] for row in found.rows]
    labels = np.array([label for _, label in kept])
    check_sizes(labels.tolist(), cohort, against, SMALLEST_COHORT)
    layers = layers_with(opened.network, "o_proj")
    norms = np.concatenate([found.blocks[f"layer.{layer}/head_norm"] for layer in layers], axis=1)
    heads = {
        (layer, head): slices
        for layer in layers
        for head, slices in enumerate(found.blocks[f"layer.{layer}/head_mean"].transpose(1, 0, 2))
    }
    directions = directional(
        list(heads.values()), labels, permutations=permutations, seed=seed,
        watch=lambda done, total: watch("shuffling cohorts", done, total),
    )  # fmt: skip
    cut = np.array([was_cut(answer) is True for answer, _ in kept])
    n_layers = len(layers_of(opened.network))
    sides = [
        Cohort(name, int(rows.sum()), int(cut[rows].sum()), norms[rows].mean(axis=0))
        for name, rows in ((cohort, labels), (against, ~labels))
    ]
    return Attribution(
        sides[0], sides[1], tuple(heads), n_layers, tuple(layer for layer in range(n_layers) if layer not in layers),
        magnitude(norms, labels, permutations=permutations, seed=seed), directions, len(found.refused), last_tokens,
        permutations, seed,
    )  # fmt: skip


def _named(where: tuple[int, int]) -> str:
    return f"layer {where[0]} head {where[1]}"


def _with_null(scores: HeadScores) -> str:
    return (
        f"d {scores.d[scores.best]:+.2f}, p {scores.p[scores.best]:.3g}; the largest of shuffled cohorts is "
        f"{scores.null_quantile(0.5):.2f} in the median"
    )


def _summary(scores: HeadScores) -> dict[str, Json]:
    return {
        "largest_d": float(scores.d[scores.best]), "p": float(scores.p[scores.best]),
        "null": {"median": scores.null_quantile(0.5), "q95": scores.null_quantile(0.95)},
    }  # fmt: skip


def _cohort_json(cohort: Cohort) -> dict[str, Json]:
    return {"name": cohort.name, "n": cohort.n, "cut": cohort.cut}


# the page ------------------------------------------------------------------------------------------------

_MOST_ROWS = 20


def render_attribution(summary: Mapping[str, Json], title: str) -> str:
    """The page of an attribution: two heat maps of layers and heads, and the heads with the largest differences.

    Args:
        summary: ``Attribution.to_json()``.
        title: whose answers these are.
    """
    heads = summary["heads"]
    maps = [
        {"title": figure["label"], "told": caption, "picture": draw(figure, f"heads-{at}") or ""}
        for at, (figure, caption) in enumerate(maps_of(summary))
    ]
    without = summary["layers_without_o_proj"]
    facts = [
        *((side, _cohort(summary[side])) for side in ("cohort", "against")),
        ("heads", f"{summary['n_heads']} in {summary['n_layers'] - len(without)} of {summary['n_layers']} layers"),
        ("read", f"the last {summary['last_tokens']} tokens of each answer"),
        ("null", f"{summary['permutations']} shuffles, seed {summary['seed']}; {summary['folds']} folds"),
    ]
    if without:
        named = f"layer {without[0]} has" if len(without) == 1 else f"layers {', '.join(map(str, without))} have"
        facts.append(("no heads", f"{named} no o_proj"))
    if summary["unread"]:
        facts.append(("not read", f"{summary['unread']} answers, without text or too long"))
    ranked = sorted(heads, key=lambda row: (-max(abs(row["d"]), row["directional_d"]), row["layer"], row["head"]))
    return page_of(
        "attribution.html.j2",
        {
            "title": one_line(title), "cohort": one_line(summary["cohort"]["name"]), "against": one_line(summary["against"]["name"]),
            "because": one_line(summary["because"]), "facts": [(name, one_line(text)) for name, text in facts], "maps": maps,
            "rows": [_row(row) for row in ranked[:_MOST_ROWS]], "in_sample": number(summary["in_sample"]["null"]["median"]),
        },
    )  # fmt: skip


def _cohort(side: Mapping[str, Json]) -> str:
    cut = f", {side['cut']} of them cut by the token budget" if side["cut"] else ""
    return f"{side['name']}: {side['n']} answers{cut}"


def _row(row: Mapping[str, Json]) -> dict[str, Json]:
    cells = [
        signed(row["d"]), p_value(row["p"]), signed(row["directional_d"]), p_value(row["directional_p"]),
        signed(row["in_sample_d"]), number(row["cosine"]),
    ]  # fmt: skip
    return {"name": f"layer {row['layer']} head {row['head']}", "cells": cells}
