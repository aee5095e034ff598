"""Edits of a forward pass: heads scaled, directions added, subspaces taken out, by row of a batch, and always undone.

An edit lies in a folder as ``edit.json``, which says what is done where, and ``edit.safetensors`` with its vectors. All of
them are linear in the dose d:

========  ===================  ==========================================================================
kind      site                 what becomes of an activation x
========  ===================  ==========================================================================
temper    ``o_proj``           the slices of the heads are scaled by λ = 1 − d
add       any                  x + d·v
ablate    any                  x − d·UᵀU x, where the rows of U are orthonormal: without the subspace
project   any                  x + d·(UᵀU x − x): nothing but the subspace
========  ===================  ==========================================================================

So every site of every row comes down to one formula, ``x ∘ scale + shift + Uᵀ(weight ∘ U x)``, of which dose 0 is the
identity to the bit: scale 1, shift 0, weight 0. Rows of one batch may differ in all of it. It is computed in float32.

Positions are absolute: a row's response starts at a column of the whole sequence, and how much of it lies in the cache is
read off the cache in every forward pass. So an edit acts on the same tokens with the cache on and off. What reaches a site
are the last columns, which may be fewer than were put in: layers of Gemma 4 that share their keys drop all of a prompt but
its end.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from counterclaim.errors import ModelError
from counterclaim.folder import dump, write_new
from counterclaim.lab.models.hf.fingerprint import EDIT_FILES
from counterclaim.lab.models.hf.sites import Site, core_of, heads_of, place
from counterclaim.records import Json, ModelRef

Kind = Literal["temper", "add", "ablate", "project"]
Span = Literal["all", "response"]

_VERSION = 1
_SUBSPACES = ("ablate", "project")
_SQUARE = 1e-3  # how far from orthonormal the rows of a subspace may be
_REMEDY = "fit it again on this model"


@dataclass(frozen=True, slots=True)
class Piece:
    """What an edit does at one site.

    Attributes:
        layer: index of the decoder layer.
        site: where in it.
        kind: what is done.
        heads: of ``temper``: which.
        vectors: of the others: float32 (r, width), the rows of U; of ``add`` the one v.
    """

    layer: int
    site: Site
    kind: Kind
    heads: tuple[int, ...] = ()
    vectors: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Edit:
    """What an operator has fitted, as it lies in a folder.

    Attributes:
        operator: name of the operator.
        pieces: what is done where; one at each site of a layer.
        span: ``response`` acts from the token on that predicts the first of the answer, ``all`` on the prompt, too.
        base: the model that it was made for (``base_of``).
        folder: where it lies.
    """

    operator: str
    pieces: tuple[Piece, ...]
    span: Span
    base: Mapping[str, Json]
    folder: Path


def base_of(ref: ModelRef, network: Any) -> dict[str, Json]:
    """What an edit remembers of the model it is made for: name, weights, adapter and shape."""
    config = network.config.get_text_config()
    shape = ("model_type", "num_hidden_layers", "hidden_size", "num_attention_heads")
    return {
        "repo": ref.repo, "revision": ref.revision, "adapter_hash": ref.adapter_hash,
        "shape": {name: getattr(config, name) for name in shape},
    }  # fmt: skip


def save_edit(edit: Edit) -> None:
    """Leave an edit in its folder, in place of one that an earlier attempt left there.

    Raises:
        InputError: the folder cannot be written.
    """
    rows: list[Json] = []
    vectors = {}
    for at, piece in enumerate(edit.pieces):
        row: dict[str, Json] = {"layer": piece.layer, "site": piece.site, "kind": piece.kind}
        if piece.vectors is None:
            row["heads"] = list(piece.heads)
        else:
            row["tensor"] = f"piece.{at}"
            vectors[f"piece.{at}"] = piece.vectors.detach().to("cpu", torch.float32).contiguous()
        rows.append(row)
    words, numbers = (edit.folder / name for name in EDIT_FILES)
    save_file(vectors, numbers)
    made = {"version": _VERSION, "operator": edit.operator, "base": dict(edit.base), "span": edit.span, "pieces": rows}
    write_new(words, dump(made), overwrite=True)


def load_edit(folder: Path) -> Edit:
    """Read an edit.

    Raises:
        ModelError: the folder holds none, or it is broken.
    """
    words, numbers = (folder / name for name in EDIT_FILES)
    if not words.is_file() or not numbers.is_file():
        missing = next(file.name for file in (words, numbers) if not file.is_file())
        raise ModelError(
            f"is no folder of an edit, for it has no {missing}", path=folder, remedy="name what temper or steer left"
        )
    try:
        card = json.loads(words.read_text(encoding="utf-8"))
        version = card["version"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError("does not describe an edit", path=words, remedy=_REMEDY) from error
    if version != _VERSION:
        raise ModelError(
            f"the edit has format {version}, and this version reads {_VERSION}", path=words, remedy="fit it again"
        )
    try:
        vectors = load_file(numbers)
    except (OSError, SafetensorError) as error:
        raise ModelError("is no safetensors file", path=numbers, remedy=_REMEDY) from error
    try:
        pieces = tuple(_piece(row, vectors) for row in card["pieces"])
        edit = Edit(str(card["operator"]), pieces, card["span"], card["base"], folder)
        if edit.span not in get_args(Span) or not pieces:
            raise ValueError("it has no span, or does nothing")
        if len({(piece.layer, piece.site) for piece in pieces}) < len(pieces):
            raise ValueError("it does two things at one site")
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"does not describe an edit ({error})", path=words, remedy=_REMEDY) from error
    return edit


def check_edit(edit: Edit, ref: ModelRef, network: Any) -> None:
    """See that an edit was made for this model and acts in places that it has.

    Two folders, and two revisions of one repository, are compared by their hashes; else the shapes decide.

    Raises:
        ModelError: it was made for another model, or a layer, site or head is not there.
    """
    mine = base_of(ref, network)
    if edit.base.get("shape") != mine["shape"]:
        raise ModelError(
            f"the edit was made for {edit.base.get('repo')}, which has another shape than {ref.repo}",
            path=edit.folder,
            remedy=_REMEDY,
        )
    theirs, own = edit.base.get("revision"), mine["revision"]
    hashed = [str(revision).startswith("sha256:") for revision in (theirs, own)]
    if theirs and own and theirs != own and (all(hashed) or (not any(hashed) and edit.base.get("repo") == ref.repo)):
        raise ModelError(
            f"the edit was made for other weights of {edit.base.get('repo')} than those of {ref.repo}",
            path=edit.folder,
            remedy=_REMEDY,
        )
    for piece in edit.pieces:
        there = place(network, piece.layer, piece.site)
        if piece.kind == "temper":
            check_heads(network, piece.layer, piece.heads)
        elif piece.vectors is None or piece.vectors.shape[1] != there.width:
            raise ModelError(
                f"the edit has vectors of another width than the {there.width} of {piece.site} in layer {piece.layer}",
                path=edit.folder,
                remedy=_REMEDY,
            )


def check_heads(network: Any, layer: int, heads: Sequence[int]) -> None:
    """See that a layer has these heads.

    Raises:
        ModelError: it has not, or has no heads at all.
    """
    n, _ = heads_of(network, layer)
    if wrong := [head for head in heads if not 0 <= head < n]:
        raise ModelError(
            f"layer {layer} has no head {wrong[0]}, for it has {n}", remedy=f"name heads from 0 to {n - 1}"
        )


def _piece(row: Mapping[str, Any], vectors: Mapping[str, Tensor]) -> Piece:
    layer, site, kind = int(row["layer"]), row["site"], row["kind"]
    if site not in get_args(Site) or kind not in get_args(Kind):
        raise ValueError(f"{kind} at {site} is unknown")
    if kind == "temper":
        heads = tuple(int(head) for head in row["heads"])
        if site != "o_proj" or not heads or len(set(heads)) != len(heads):
            raise ValueError("heads are tempered at o_proj, each of them once")
        return Piece(layer, site, kind, heads)
    found = vectors[row["tensor"]].float()
    if found.ndim != 2 or not len(found) or not bool(found.isfinite().all()):
        raise ValueError("its vectors are no finite numbers")
    if kind == "add" and len(found) != 1:
        raise ValueError("one vector is added at a time")
    if kind in _SUBSPACES and float((found @ found.T - torch.eye(len(found))).abs().max()) > _SQUARE:
        raise ValueError("the vectors of a subspace are not orthonormal")
    return Piece(layer, site, kind, vectors=found)


@dataclass(slots=True)
class _Change:
    """What is done at one site to every row; every first axis counts rows, or is 1 for all of them alike.

    Attributes:
        scale: (rows, 1, width), or None where nothing is scaled.
        shift: (rows, 1, width), or None where nothing is added.
        basis: (rows, r, width), or None where no subspace is touched; rows of less rank end in zeros.
        weight: (rows, 1, r), by how much the projection on each vector of the basis is added.
    """

    scale: Tensor | None
    shift: Tensor | None
    basis: Tensor | None
    weight: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        """The changed activations (rows, tokens, width), in the dtype of ``x``."""
        given = x.float()
        out = given if self.scale is None else given * self.scale
        if self.shift is not None:
            out = out + self.shift
        if self.basis is not None and self.weight is not None:
            # bmm, and not one matmul for rows of one basis, so that a row comes out the same beside others
            basis = self.basis.expand(len(given), -1, -1)
            out = out + torch.bmm(torch.bmm(given, basis.mT) * self.weight, basis)
        return out.to(x.dtype)


Dosed = tuple[Edit, float]


class Overlay:
    """Edits over a network, for as long as it is entered.

    Args:
        network: the causal language model, or the PEFT model around it.
        rows: of each row of a batch an edit and its dose, or None; a single one stands for all rows of any batch.
        starts: the column at which each row's response starts, that of the last token of its prompt; an int where all rows
            have the same. None where it is not set yet (``starting``).
    """

    def __init__(self, network: Any, rows: Sequence[Dosed | None], starts: int | Sequence[int] | None = None) -> None:
        self._network = network
        self._rows = rows
        self._device = next(network.parameters()).device
        self._whole = [row is not None and row[0].span == "all" for row in rows]
        self._starts: Tensor | None = None
        self._first = self._last = 0
        self._end = 0  # columns of the sequence up to the end of this forward pass, those in the cache included
        self._hooks = ExitStack()
        if starts is not None:
            self._start(starts)

    def __enter__(self) -> Overlay:
        with ExitStack() as hooks:
            acting = [row if row is not None and row[1] != 0 else None for row in self._rows]
            sites: dict[tuple[int, Site], list[list[Piece]]] = defaultdict(lambda: [[] for _ in acting])
            for at, row in enumerate(acting):
                for piece in row[0].pieces if row is not None else ():
                    sites[piece.layer, piece.site][at].append(piece)
            if sites and not all(self._whole):
                handle = core_of(self._network).register_forward_pre_hook(self._see_cache, with_kwargs=True)
                hooks.callback(handle.remove)
            doses = [row[1] if row is not None else 0.0 for row in acting]
            for (layer, site), pieces in sites.items():
                hooks.callback(self._hook(layer, site, pieces, doses).remove)
            self._hooks = hooks.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        self._hooks.close()

    @contextmanager
    def starting(self, starts: int | Sequence[int]) -> Iterator[None]:
        """Where the responses of the rows start, for the forward passes of a block.

        Args:
            starts: as the class takes them.
        """
        before = self._starts, self._first, self._last
        self._start(starts)
        try:
            yield
        finally:
            self._starts, self._first, self._last = before

    def _start(self, starts: int | Sequence[int]) -> None:
        many = len(self._rows) if isinstance(starts, int) else len(starts)
        begins = [starts] * many if isinstance(starts, int) else list(starts)
        whole = self._whole * many if len(self._whole) == 1 else self._whole
        begin = [0 if all_of_it else start for start, all_of_it in zip(begins, whole, strict=True)]
        self._first, self._last = min(begin), max(begin)
        self._starts = torch.tensor(begin, device=self._device)

    def _see_cache(self, core: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if self._starts is None:
            raise ModelError(
                "it is not known where the responses start, and this edit acts on them alone",
                remedy="ask with answer(), or name the columns with HfModel.responses_from",
            )
        cache = kwargs.get("past_key_values")
        given = next(x for x in (*args[:1], kwargs.get("input_ids"), kwargs.get("inputs_embeds")) if x is not None)
        self._end = int(given.shape[1]) + (0 if cache is None else int(cache.get_seq_length()))

    def _hook(self, layer: int, site: Site, pieces: Sequence[Sequence[Piece]], doses: Sequence[float]) -> Any:
        """Register what changes one site, given the pieces and the dose of each row."""
        there = place(self._network, layer, site)
        width = heads_of(self._network, layer)[1] if site == "o_proj" else 0
        change = _change(pieces, doses, there.width, width, self._device)
        if there.reads_input:
            return there.module.register_forward_pre_hook(
                lambda module, given: (self._changed(given[0], change), *given[1:])
            )

        def after(module: Any, given: Any, out: Any) -> Any:
            return (self._changed(out[0], change), *out[1:]) if isinstance(out, tuple) else self._changed(out, change)

        return there.module.register_forward_hook(after)

    def _changed(self, x: Tensor, change: _Change) -> Tensor:
        """Activations (rows, tokens, width) with the change from where each row's edit starts."""
        if all(self._whole):
            return change(x)
        assert self._starts is not None  # seen to before the layers run
        behind = self._end - x.shape[1]  # columns before these
        first = max(0, self._first - behind)
        if first >= x.shape[1]:
            return x
        part = x[:, first:]
        out = change(part)
        if self._last > behind + first:
            columns = torch.arange(behind + first, self._end, device=self._device)
            out = torch.where((columns >= self._starts[:, None])[..., None], out, part)
        return torch.cat([x[:, :first], out], dim=1) if first else out


def _change(
    pieces: Sequence[Sequence[Piece]], doses: Sequence[float], width: int, head_width: int, device: torch.device
) -> _Change:
    """One site's change, from the pieces and the dose of each row."""
    n = len(pieces)
    rank = max(sum(len(_vectors(p)) for p in row if p.kind in _SUBSPACES) for row in pieces)
    kinds = {piece.kind for row in pieces for piece in row}
    scale = torch.ones(n, 1, width) if kinds & {"temper", "project"} else None
    shift = torch.zeros(n, 1, width) if "add" in kinds else None
    basis, weight = (torch.zeros(n, rank, width), torch.zeros(n, 1, rank)) if rank else (None, None)
    for at, (row, dose) in enumerate(zip(pieces, doses, strict=True)):
        filled = 0
        for piece in row:
            if piece.kind == "temper" and scale is not None:
                for head in piece.heads:
                    scale[at, 0, head * head_width : (head + 1) * head_width] -= dose
            elif piece.kind == "add" and shift is not None:
                shift[at, 0] += dose * _vectors(piece)[0]
            elif basis is not None and weight is not None:
                vectors = _vectors(piece)
                filled, start = filled + len(vectors), filled
                basis[at, start:filled] = vectors
                weight[at, 0, start:filled] = dose if piece.kind == "project" else -dose
                if piece.kind == "project" and scale is not None:
                    scale[at] -= dose
    return _Change(*(part if part is None else part.to(device) for part in (scale, shift, basis, weight)))


def _vectors(piece: Piece) -> Tensor:
    assert piece.vectors is not None
    return piece.vectors
