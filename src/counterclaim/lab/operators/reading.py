"""Answers of a model as it reads them itself: activations, cohorts, feature folders, and what probes take of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from counterclaim import __version__
from counterclaim.audit.metrics import in_cohort
from counterclaim.errors import InputError, ModelError
from counterclaim.lab.answers import conversation
from counterclaim.lab.config import Layer, Position, ProbePlan
from counterclaim.lab.models.hf.activations import COUNT, H_LAST, Activations, Capture, CaptureSpec, Exchange, read
from counterclaim.lab.models.hf.model import HfModel
from counterclaim.lab.models.hf.sites import layers_of
from counterclaim.lab.probing.folder import FeatureFolder
from counterclaim.records import FinishReason, Json, content_hash, to_json
from counterclaim.registry import Labelled, Model, Watch

OnCut = Literal["refuse", "read"]
Floats = NDArray[np.float64]

_SHOWN = 3
_END_OF_TURN = "not read: an answer is its text, and `last` the last token of that text"


def readable(model: Model) -> HfModel:
    """The model, where its activations can be read.

    Raises:
        ModelError: it is an endpoint or a planted world, which shows only its texts.
    """
    if not isinstance(model, HfModel):
        raise ModelError(
            f"activations of {model.ref.repo} cannot be read",
            remedy="use a model of transformers: a folder, a repository",
        )
    return model


def exchange_of(answer: Labelled) -> Exchange:
    """An answer as its model is to read it: with the system prompt and the thinking switch with which it was asked for."""
    decode = answer.response.decode
    return Exchange(conversation(answer.prompt, decode), answer.response.text, decode.thinking)


def was_cut(answer: Labelled) -> bool | None:
    """Whether the token budget cut an answer, so that its last token is no end; None where the finish reason is unknown."""
    reason = answer.response.finish_reason
    return None if reason is FinishReason.UNKNOWN else reason is FinishReason.LENGTH


def of_cohorts(answers: Sequence[Labelled], cohort: str, against: str, least: int) -> list[tuple[Labelled, bool]]:
    """Answers of either cohort, and whether they are of the first; the others, and those that were not scored, are left out.

    Raises:
        InputError: an answer is in both, or a cohort has fewer than ``least``.
    """
    chosen = []
    for answer in answers:
        inside, outside = in_cohort(answer.values, cohort), in_cohort(answer.values, against)
        if inside and outside:
            raise InputError(
                f"answer {answer.response.prompt_id}/{answer.response.sample} is both {cohort} and {against}",
                remedy="compare two cohorts that have no answer in common",
            )
        if inside or outside:
            chosen.append((answer, bool(inside)))
    check_sizes([label for _, label in chosen], cohort, against, least, f", of {len(answers)} answers")
    return chosen


def check_sizes(
    labels: Sequence[bool], cohort: str, against: str, least: int, of: str = ", of those that could be read"
) -> None:
    """Raise InputError where a cohort has fewer than ``least`` answers."""
    n = sum(labels)
    if min(n, len(labels) - n) < least:
        raise InputError(
            f"{n} answers are {cohort} and {len(labels) - n} are {against}{of}; each cohort needs {least}",
            remedy="ask more prompts, compare other cohorts, or see whether the answers are scored on the axes that decide it",
        )


def layers_named(model: Model, names: Sequence[str]) -> tuple[int | Literal["last"], ...]:
    """Layers by name: numbers, ``last`` for ``h_last``, ``all`` for every decoder layer and ``last``.

    Raises:
        InputError: a name is none of these.
        ModelError: the model shows only its texts.
    """
    out: list[int | Literal["last"]] = []
    for name in names:
        if name == "all":
            out += [*range(len(layers_of(readable(model).network))), "last"]
        elif name == "last" or name.isdigit():
            out.append("last" if name == "last" else int(name))
        else:
            raise InputError(f"{name!r} names no layer", remedy="write numbers from 0 on, last, or all")
    return tuple(dict.fromkeys(out))


def capture(
    model: Model,
    answers: Sequence[Labelled],
    wanted: CaptureSpec,
    folder: Path,
    watch: Watch = lambda doing, done, total: None,
    *,
    on_cut: OnCut = "refuse",
    overwrite: bool = False,
) -> dict[str, Json]:
    """Read answers into a feature folder: ``features.safetensors`` and the card ``features.json``, which is returned.

    Killed at any moment and called again, it reads only what is missing, and ends with the bytes of a run that was not. Memory
    holds one batch at a time, however many answers there are.

    Args:
        model: who answered, opened.
        answers: what is read; answers without text are left out, and the card says why.
        wanted: what is read of each.
        folder: where.
        watch: called with what is done, how far, and of how much.
        on_cut: what is done where the last token of a response is wanted, and answers were cut: ``refuse``, or ``read`` the
            token at which they were cut; the card marks them.
        overwrite: replace other features in the folder.

    Raises:
        InputError: there are no answers, some of them were cut, or the folder holds something else.
        ModelError: the model cannot be read as wanted, or no answer can.
    """
    opened = readable(model)
    if not answers:
        raise InputError("there are no answers to read", remedy="name a run and an arm that have some")
    cut = [was_cut(answer) for answer in answers]
    if "last" in wanted.positions and on_cut == "refuse":
        _check_uncut(answers, cut)
    ids = [f"{answer.response.prompt_id}/{answer.response.sample}" for answer in answers]
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise InputError(f"answer {twice} is there twice", remedy="read the answers of one arm and one replicate")
    reading = Capture(opened, [exchange_of(answer) for answer in answers], wanted)
    if len(reading.refused) == len(answers):
        raise ModelError(f"none of the {len(answers)} answers can be read; the first: {reading.refused[0]}")
    what: dict[str, Json] = {
        "model": to_json(opened.ref), "chat_template": opened.chat_template, "wanted": asdict(wanted),
        "answers": content_hash([[name, to_json(exchange_of(one))] for name, one in zip(ids, answers, strict=True)]),
        "batch_size": opened.batch_size, "on_cut": on_cut,
    }  # fmt: skip
    kept = FeatureFolder(folder, what, overwrite=overwrite)
    if kept.complete:
        return kept.card()
    total = len(answers) - len(reading.refused)
    watch("reading activations", len(kept.done), total)
    for rows, blocks in reading.batches(frozenset(kept.done)):
        kept.add(rows, blocks)
        watch("reading activations", len(kept.done), total)
    read = sorted(kept.done)
    return kept.finish({
        "format": 1, "model": to_json(opened.ref), "answered_by": to_json(answers[0].response.model),
        "chat_template": opened.chat_template,
        "layers": list(wanted.layers), "positions": list(wanted.positions), "site": wanted.site,
        "head_norms": wanted.head_norms, "head_means": wanted.head_means, "tokens": wanted.tokens,
        "h_last": H_LAST, "end_of_turn": _END_OF_TURN,
        "ids": [ids[row] for row in read], "cut": [cut[row] for row in read],
        "response_tokens": [reading.n_tokens[row] for row in read],
        "unread": {ids[row]: why for row, why in reading.refused.items()}, "counterclaim": __version__,
    })  # fmt: skip


def _check_uncut(answers: Sequence[Labelled], cut: Sequence[bool | None]) -> None:
    ids = [answer.response.prompt_id for answer, is_cut in zip(answers, cut, strict=True) if is_cut]
    if ids:
        more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
        raise InputError(
            f"the token budget cut {len(ids)} of {len(answers)} answers ({', '.join(ids[:_SHOWN])}{more}), so their last token "
            "is not the end of a response",
            remedy="generate them again with a larger budget, or read where they were cut (--on-cut read), and the check "
            "endpoint fails",
        )


# what probes read ------------------------------------------------------------------------------------------

TOKENS = 64
"""Response tokens, from the end, that a probe over single tokens reads."""


def read_for(
    model: HfModel,
    exchanges: Sequence[Exchange],
    probes: Sequence[ProbePlan],
    watch: Callable[[int, int], None] | None = None,
) -> Activations:
    """Everything that some probes read of the answers, in one pass.

    Raises:
        InputError: a layer, or as many layers up to it, is not there.
        ModelError: the model cannot be read, or no answer can.
    """
    n = len(layers_of(model.network))
    layers = {layer for probe in probes for layer in _layers(probe.layer, probe.average, n)}
    tokens = TOKENS if any(probe.reads_tokens for probe in probes) else 0
    ordered = sorted(layers, key=lambda layer: n if layer == "last" else layer)
    positions = tuple(dict.fromkeys(probe.position for probe in probes))
    return read(model, exchanges, CaptureSpec(tuple(ordered), positions, tokens=tokens), watch)


def rows_of(
    blocks: Mapping[str, NDArray[Any]], layer: Layer, average: int, position: Position, n_layers: int
) -> Floats:
    """Features (n, d): the mean over several layers up to this one, at a position."""
    parts = [blocks[f"{_block(each)}/{position}"] for each in _layers(layer, average, n_layers)]
    return np.asarray(np.mean(parts, axis=0, dtype=np.float64) if average > 1 else parts[0], np.float64)


def tokens_of(blocks: Mapping[str, NDArray[Any]], layer: Layer) -> list[Floats]:
    """Features of every token that was kept, one (tokens, d) for each answer."""
    states = blocks[f"{_block(layer)}/tokens"]
    return [np.asarray(row[: int(count)], np.float64) for row, count in zip(states, blocks[COUNT], strict=True)]


def probe_features(found: Activations, probe: ProbePlan, n_layers: int) -> Floats | list[Floats]:
    """What one probe reads, of the answers that could be read."""
    if probe.reads_tokens:
        return tokens_of(found.blocks, probe.layer)
    return rows_of(found.blocks, probe.layer, probe.average, probe.position, n_layers)


def _block(layer: Layer) -> str:
    return "h_last" if layer == "last" else f"layer.{layer}"


def _layers(layer: Layer, average: int, n_layers: int) -> list[Layer]:
    """The layers of which the mean is taken; ``last`` stands for the output of the last layer after the final norm."""
    top = n_layers - 1 if layer == "last" else layer
    if not 0 <= top < n_layers or average > top + 1:
        raise InputError(
            f"the model has {n_layers} layers, so there is no mean of {average} up to layer {layer}"
            if average > 1
            else f"the model has no layer {layer}, for it has {n_layers}",
            remedy=f"name a layer from 0 to {n_layers - 1}, and fewer layers to take the mean of",
        )
    below: list[Layer] = list(range(top - average + 1, top))
    return [*below, layer]
