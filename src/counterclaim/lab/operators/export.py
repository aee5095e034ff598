"""An edit folded into the weights of a model, so that anything can serve it.

What is linear in the input or in the output of a projection is a change of its weights, and exact: heads at the input of
``o_proj`` are columns of its weight, a subspace of the output of ``down_proj`` is one of its rows. What is added needs a bias
that is there. The residual stream is the output of no single weight, and weights do not know where a response starts: such edits
are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import GenerationConfig

from counterclaim import __version__
from counterclaim.errors import InputError, ModelError
from counterclaim.folder import dump, make_folder, whole_folder, write_new
from counterclaim.lab.models import open_model
from counterclaim.lab.models.hf.edits import Edit, Overlay, Piece, check_edit, load_edit
from counterclaim.lab.models.hf.fingerprint import edit_hash
from counterclaim.lab.models.hf.loading import without_progress_bar
from counterclaim.lab.models.hf.model import HfModel
from counterclaim.lab.models.hf.sites import heads_of, place
from counterclaim.lab.operators.reading import readable
from counterclaim.records import Json
from counterclaim.registry import ModelSpec, Runtime

CARD = "card.json"
"""What lies beside an exported model, and says from what it was made."""

_MADE_BY = "export-tempered"
_PROBE = 32  # tokens of a sequence on which the export is held against the edit


def export(folder: Path, spec: ModelSpec, dose: float, out: Path, *, overwrite: bool = False) -> dict[str, Json]:
    """Write a model folder with an edit in its weights: weights, configuration, tokenizer and chat template.

    Weights keep the precision in which the checkpoint stores them; an adapter is merged first. On the way, logits of the new
    weights are held against those of the edit laid over the old ones.

    Args:
        folder: of the edit.
        spec: the model that it is folded into.
        dose: by how much.
        out: the folder to write; it appears whole or not at all.
        overwrite: replace an export that is there.

    Returns:
        the card: model, edit, dose, names of the weights that were changed, largest difference of a logit.

    Raises:
        ModelError: the edit was made for another model, or the weights cannot hold it.
        InputError: there is something in that place, or it cannot be written.
    """
    _check_place(out, overwrite)
    edit = load_edit(folder)
    if edit.span != "all":
        raise ModelError(
            "weights act on every token, and this edit on responses alone",
            path=folder,
            remedy='fit it with span = "all", or lay it over the model in a study',
        )
    with closing(open_model(replace(spec, dtype="stored"), Runtime(device="cpu"))) as opened:
        model = readable(opened)
        check_edit(edit, model.ref, model.network)
        _check_adapter(edit, model)
        ref = model.ref
        expected = _logits(model.network, Overlay(model.network, [(edit, dose)]))
        if spec.adapter is not None:
            model.network = model.network.merge_and_unload()
        changed = [name for piece in edit.pieces for name in _fold(model.network, piece, dose, folder)]
        apart = float((_logits(model.network) - expected).abs().max())
        card: dict[str, Json] = {
            "made_by": _MADE_BY, "counterclaim": __version__,
            "model": {"repo": ref.repo, "revision": ref.revision, "dtype": ref.dtype, "adapter_hash": ref.adapter_hash},
            "edit": {"operator": edit.operator, "hash": edit_hash(folder), "pieces": [_described(piece) for piece in edit.pieces]},
            "dose": dose, "changed": list(changed), "largest_logit_difference": apart,
        }  # fmt: skip
        with whole_folder(out, replace=overwrite) as made:
            _save(model, made)
            write_new(made / CARD, dump(card))
    return card


def _check_place(out: Path, overwrite: bool) -> None:
    """See, before a model is loaded, that the place is free, or holds an export that may be replaced."""
    if not out.exists():
        make_folder(out.parent)
        return
    if not overwrite:
        raise InputError("is there already", path=out, remedy="name another place, or replace it with --overwrite")
    try:
        made_by = json.loads((out / CARD).read_text(encoding="utf-8")).get("made_by")
    except (OSError, ValueError, AttributeError):
        made_by = None
    if made_by != _MADE_BY:
        raise InputError(
            "is no model that was exported here, so it is not replaced", path=out, remedy="name another place"
        )


def _check_adapter(edit: Edit, model: HfModel) -> None:
    """See that an edit that was fitted over an adapter is not folded into the bare model."""
    theirs = edit.base.get("adapter_hash")
    if theirs is not None and theirs != model.ref.adapter_hash:
        raise ModelError(
            "the edit was fitted on this model with an adapter over it",
            path=edit.folder,
            remedy="name that adapter with --adapter, and it is merged",
        )


def _fold(network: Any, piece: Piece, dose: float, folder: Path) -> Iterator[str]:
    """Change the weight of one projection as a piece of the edit says; names of what was changed."""
    if piece.site == "residual":
        raise ModelError(
            "the residual stream is the output of no single weight, so an edit of it cannot be folded",
            path=folder,
            remedy="lay it over the model in a study, or edit o_proj, v_proj or down_proj",
        )
    there = place(network, piece.layer, piece.site)
    weight, bias = there.module.weight, there.module.bias
    where = f"{piece.site} in layer {piece.layer}"
    if piece.kind == "add" and bias is None:
        raise ModelError(
            f"what is added at {where} would have to be a bias, and there is none",
            path=folder,
            remedy="lay it over the model in a study, or ablate the direction",
        )
    if not weight.is_floating_point():
        raise ModelError(
            f"the weight of {where} is quantised", path=folder, remedy="name the model without quantisation"
        )
    names = _names(network, weight), _names(network, bias)
    if shared := next((each for each in names if len(each) > 1), None):
        raise ModelError(f"{' and '.join(shared)} are one weight, and the edit is of one of them", path=folder)
    with torch.no_grad():
        if piece.kind == "add":
            assert piece.vectors is not None
            vector = dose * piece.vectors[0]
            bias.copy_(bias.float() + (weight.float() @ vector if there.reads_input else vector))
            yield from names[1]
            return
        width = heads_of(network, piece.layer)[1] if piece.kind == "temper" else 0
        if there.reads_input:
            weight.copy_(_applied(weight.float(), piece, dose, width))
        else:
            weight.copy_(_applied(weight.float().T, piece, dose, width).T)
            if bias is not None:
                bias.copy_(_applied(bias.float()[None], piece, dose, width)[0])
                yield from names[1]
    yield from names[0]


def _applied(rows: Tensor, piece: Piece, dose: float, head_width: int) -> Tensor:
    """Rows (n, width) with the linear map of a piece applied to each; that map is symmetric, so it works from either side."""
    if piece.kind == "temper":
        out = rows.clone()
        for head in piece.heads:
            out[:, head * head_width : (head + 1) * head_width] *= 1 - dose
        return out
    assert piece.vectors is not None
    onto = rows @ piece.vectors.T @ piece.vectors
    return rows - dose * onto if piece.kind == "ablate" else (1 - dose) * rows + dose * onto


def _names(network: Any, weight: Tensor | None) -> list[str]:
    """Under which names the model has a weight; several where it is shared."""
    return [name for name, each in network.named_parameters(remove_duplicate=False) if each is weight]


def _described(piece: Piece) -> dict[str, Json]:
    rank = {"heads": list(piece.heads)} if piece.vectors is None else {"rank": len(piece.vectors)}
    return {"layer": piece.layer, "site": piece.site, "kind": piece.kind, **rank}


def _logits(network: Any, overlay: Overlay | None = None) -> Tensor:
    """Logits (tokens, vocabulary) of a sequence of tokens, float32, under an edit of everything or without."""
    n = network.config.get_text_config().vocab_size
    ids = torch.randint(n, (1, _PROBE), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), nullcontext() if overlay is None else overlay:
        logits: Tensor = network(ids).logits[0].float()
    return logits


def _save(model: HfModel, made: Path) -> None:
    with without_progress_bar():
        model.network.save_pretrained(made)
    model.tokenizer.save_pretrained(made)
    config, settings = model.network.config, cast(Any, GenerationConfig)
    try:  # what the checkpoint asks for when it is served, which answers of ours leave out
        own = settings.from_pretrained(config.name_or_path, revision=getattr(config, "_commit_hash", None))
    except OSError:
        return
    own.to_json_file(made / "generation_config.json")
