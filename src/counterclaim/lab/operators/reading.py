"""Answers of a model as it reads them itself: activations of a run's answers, in memory or in a feature folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from counterclaim import __version__
from counterclaim.errors import InputError, ModelError
from counterclaim.lab.generation import conversation
from counterclaim.lab.models.hf.activations import H_LAST, Capture, CaptureSpec, Exchange
from counterclaim.lab.models.hf.model import HfModel
from counterclaim.lab.models.hf.sites import layers_of
from counterclaim.lab.probing.folder import FeatureFolder
from counterclaim.records import FinishReason, Json, content_hash, to_json
from counterclaim.registry import Labelled, Model, Watch

OnCut = Literal["refuse", "read"]

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


def told(answer: Labelled) -> Exchange:
    """An answer as its model is to read it: with the system prompt and the thinking switch with which it was asked for."""
    decode = answer.response.decode
    return Exchange(conversation(answer.prompt, decode), answer.response.text, decode.thinking)


def was_cut(answer: Labelled) -> bool | None:
    """Whether the token budget cut an answer, so that its last token is no end; None where nobody knows how it ended."""
    reason = answer.response.finish_reason
    return None if reason is FinishReason.UNKNOWN else reason is FinishReason.LENGTH


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
        watch: told how far it is.
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
    reading = Capture(opened, [told(answer) for answer in answers], wanted)
    if len(reading.refused) == len(answers):
        raise ModelError(f"none of the {len(answers)} answers can be read; the first: {reading.refused[0]}")
    what: dict[str, Json] = {
        "model": to_json(opened.ref), "chat_template": opened.chat_template, "wanted": asdict(wanted),
        "answers": content_hash([[name, to_json(told(one))] for name, one in zip(ids, answers, strict=True)]),
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
