"""Features from files: npz, npy, safetensors, and the folders of ``counterclaim capture``."""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from counterclaim.errors import HostileInputError, InputError
from counterclaim.records import Json
from counterclaim.wording import listing

Array = NDArray[Any]

KEY = "X"
"""The array that is read where none is named."""

CARD, TENSORS = "features.json", "features.safetensors"

_PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib")
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_MOST_HEADER = 100 << 20  # bytes, as the format's own reader allows
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)  # what damaged archives raise
_STEP = 1 << 22  # numbers looked at together


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What a probe reads of some items.

    Attributes:
        x: float (n, d), finite; memory-mapped where the file allows it.
        ids: what the items are called, (n,); None where the file does not say.
        source: the file, and the array in it.
        card: what the file says of itself: ``model`` and more; empty where it says nothing.
        cut: whether the token budget cut each answer, None where that is unknown; None where the file does not say.
    """

    x: Array
    ids: tuple[str, ...] | None = None
    source: str = "features"
    card: Mapping[str, Json] = field(default_factory=dict)
    cut: tuple[bool | None, ...] | None = None

    @property
    def position(self) -> str:
        """Where the features were read, as the name of a captured block says; "" where it does not."""
        name = self.source.rpartition(":")[2].rpartition("/")[2]
        return name if name in ("last", "mean", "prompt-end") else ""

    def rows(self, at: Sequence[int] | NDArray[np.int64]) -> Features:
        """These rows, in this order; all rows in their own order stay memory-mapped."""
        wanted = np.asarray(at, np.int64)
        if len(wanted) == len(self.x) and (wanted == np.arange(len(wanted))).all():
            return self
        ids = None if self.ids is None else tuple(self.ids[i] for i in wanted)
        cut = None if self.cut is None else tuple(self.cut[i] for i in wanted)
        return replace(self, x=self.x[wanted], ids=ids, cut=cut)


def load_features(path: Path, key: str | None = None) -> Features:
    """Read features from a file or a folder.

    ``.npz`` and ``.npy`` without pickles, ``.safetensors``, or a folder with ``features.json`` and
    ``features.safetensors``. Arrays are memory-mapped, except compressed ones and bfloat16, which numpy lacks. An array
    ``ids`` in an npz file names the rows; a folder's card does.

    Args:
        path: of the file or folder.
        key: name of the array; ``X`` where there is one of that name, else the only one with two dimensions.

    Raises:
        InputError: missing, damaged, empty, no such array, not of two dimensions, not numbers, NaN or infinite.
        HostileInputError: it holds Python objects, which would have to be unpickled.
    """
    if path.suffix in _PICKLES:
        raise HostileInputError(
            "this is a pickle, and opening a pickle runs whatever code it holds", path=path,
            remedy="save the features with numpy.savez or safetensors",
        )  # fmt: skip
    try:
        if path.is_dir():
            found = _from_folder(path, key)
        elif path.suffix == ".npz":
            found = _from_npz(path, key)
        elif path.suffix == ".npy":
            found = Features(_mapped_npy(path), None, str(path))
        elif path.suffix == ".safetensors":
            found = _from_safetensors(path, key)
        else:
            raise InputError(
                "features are read from .npz, .npy and .safetensors files and from folders of counterclaim capture",
                path=path, remedy="save them with numpy.savez(FILE, X=features, ids=ids)",
            )  # fmt: skip
    except FileNotFoundError as error:
        raise InputError("there is no such file", path=path, remedy="name a file that exists") from error
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", path=path) from error
    return _checked(found, path)


def load_arrays(path: Path) -> dict[str, Array]:
    """All arrays of an npz file by name, or the one of an npy file under the file's name; without pickles.

    Raises:
        InputError: damaged.
        HostileInputError: an array holds Python objects.
    """
    if path.suffix == ".npy":
        return {path.stem: _mapped_npy(path)}
    arrays = _NpzFile(path)
    return {name: arrays.read(name) for name in arrays.headers}


def same_model(train: Features, fresh: Features) -> None:
    """Refuse features that two different models, or two readings of one, produced.

    Raises:
        InputError: the cards name different models, or the numbers of columns differ.
    """
    models = [_model(side.card) for side in (train, fresh)]
    if all(models) and models[0] != models[1]:
        raise InputError(
            f"the training features are of {models[0]} and the fresh ones of {models[1]} ({train.source}, {fresh.source})",
            remedy="a probe reads one model: capture both sets with the same",
        )
    if train.x.shape[1] != fresh.x.shape[1]:
        raise InputError(
            f"the training features have {train.x.shape[1]:,} columns and the fresh ones {fresh.x.shape[1]:,} "
            f"({train.source}, {fresh.source})",
            remedy="take the same layer and position of the same model",
        )


def _model(card: Mapping[str, Json]) -> str | None:
    """The model that a card names, in words; None where it names none."""
    named = card.get("model")
    if isinstance(named, str) and named.lstrip().startswith("{"):
        named = json.loads(named)
    if isinstance(named, dict):
        parts = [
            str(named[name])
            for name in ("repo", "name", "revision", "adapter_hash", "operator_hash")
            if named.get(name)
        ]
        return " ".join(parts) or None
    return str(named) if named else None


def _checked(found: Features, path: Path) -> Features:
    """Two dimensions, something in them, real numbers, all finite: looked at block by block."""
    x = found.x
    if x.dtype.kind not in "fiub" or x.dtype.itemsize > 8:
        raise InputError(f"{found.source} holds {x.dtype} and not numbers", path=path, remedy="save a float array")
    if x.ndim != 2:
        raise InputError(
            f"{found.source} has {x.ndim} dimensions, shape {x.shape}", path=path,
            remedy="a probe reads one row for each item: choose a position or take the mean over tokens",
        )  # fmt: skip
    if not x.size:
        raise InputError(f"{found.source} is empty, shape {x.shape}", path=path, remedy="check what wrote it")
    step = max(1, _STEP // x.shape[1])
    broken = [
        start + np.flatnonzero(~np.isfinite(x[start : start + step]).all(axis=1)) for start in range(0, len(x), step)
    ]
    rows = np.concatenate(broken)
    if len(rows):
        raise InputError(
            f"{len(rows)} of {len(x)} rows of {found.source} hold NaN or infinity, the first is row {rows[0] + 1}", path=path,
            remedy="leave these items out or compute their features again; float16 overflows above 65,504",
        )  # fmt: skip
    if found.ids is not None:
        if len(found.ids) != len(x):
            raise InputError(
                f"there are {len(found.ids)} ids for {len(x)} rows", path=path, remedy="save one id for each row"
            )
        if len(set(found.ids)) != len(found.ids):
            twice = next(name for name in found.ids if found.ids.count(name) > 1)
            raise InputError(f"two rows are called {twice!r}", path=path, remedy="give each row an id of its own")
    return found if x.dtype.kind == "f" else replace(found, x=np.array(x, np.float32))


def _chosen(shapes: Mapping[str, Sequence[int]], key: str | None, path: Path) -> str:
    """Name of the array to read."""
    flat = [name for name, shape in shapes.items() if len(shape) == 2]
    if key is None:
        key = KEY if KEY in shapes else flat[0] if len(flat) == 1 else None
    if key is None or key not in shapes:
        known = listing((f"{name} {tuple(shape)}" for name, shape in shapes.items()), 12) or "none"
        problem = (
            "several arrays could be the features" if key is None and flat else f"there is no array {key or KEY!r}"
        )
        raise InputError(f"{problem} (it holds {known})", path=path, remedy="name one with --key")
    return key


# numpy ----------------------------------------------------------------------------------------------------------


def _from_npz(path: Path, key: str | None) -> Features:
    arrays = _NpzFile(path)
    chosen = _chosen({name: header[0] for name, header in arrays.headers.items()}, key, path)
    ids = arrays.read("ids") if "ids" in arrays.headers and chosen != "ids" else None
    if ids is not None and ids.ndim != 1:
        raise InputError(f"the array ids has shape {ids.shape}", path=path, remedy="save one id for each row")
    return Features(arrays.read(chosen), None if ids is None else tuple(map(str, ids.tolist())), f"{path}:{chosen}")


Header = tuple[tuple[int, ...], bool, np.dtype[Any], int]
"""Shape, whether columns run first, dtype, and bytes of the header."""


def _npy_header(file: Any, path: Path, name: str) -> Header:
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, columns_first, dtype = read(file)
    except Exception as error:  # a damaged header makes numpy's parser raise its own errors, tokenize's and more
        raise InputError(
            f"{name} is not a numpy array ({error})", path=path, remedy="save it with numpy.savez"
        ) from error
    if dtype.hasobject:
        raise HostileInputError(
            f"{name} holds Python objects, which would have to be unpickled", path=path,
            remedy="save numbers, and ids as an array of text: numpy.array(ids, dtype=str)",
        )  # fmt: skip
    if any(size < 0 for size in shape):
        raise InputError(f"{name} has shape {shape}", path=path, remedy="save it again")
    return shape, columns_first, dtype, file.tell()


class _NpzFile:
    """An npz file: headers of all arrays at once, arrays on request."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self._items = {item.filename.removesuffix(".npy"): item for item in archive.infolist()}
                self.headers = {name: self._header(archive, name) for name in self._items}
        except _DAMAGED as error:
            raise InputError(
                f"is not an npz archive ({error})", path=path, remedy="save it with numpy.savez"
            ) from error

    def _header(self, archive: zipfile.ZipFile, name: str) -> Header:
        with archive.open(self._items[name]) as file:
            return _npy_header(file, self.path, name)

    def read(self, name: str) -> Array:
        """An array, mapped where it is stored as it is."""
        item, (shape, columns_first, dtype, skipped) = self._items[name], self.headers[name]
        if item.compress_type == zipfile.ZIP_STORED:
            with self.path.open("rb") as file:
                file.seek(item.header_offset + 26)
                named, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
            return _mapped(self.path, dtype, item.header_offset + 30 + named + extra + skipped, shape, columns_first)
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(item) as file:
                return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
        except (*_DAMAGED, ValueError) as error:
            raise InputError(f"{name} is damaged ({error})", path=self.path, remedy="copy the file again") from error


def _mapped_npy(path: Path) -> Array:
    with path.open("rb") as file:
        shape, columns_first, dtype, begin = _npy_header(file, path, path.name)
    return _mapped(path, dtype, begin, shape, columns_first)


def _mapped(path: Path, dtype: Any, begin: int, shape: Sequence[int], columns_first: bool = False) -> Array:
    dtype = np.dtype(dtype)
    if begin + math.prod(shape) * dtype.itemsize > path.stat().st_size:
        raise InputError("the file ends before its array does", path=path, remedy="copy it again")
    if not math.prod(shape):
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", begin, tuple(shape), "F" if columns_first else "C")


# safetensors ----------------------------------------------------------------------------------------------------


def _from_folder(path: Path, key: str | None) -> Features:
    if not (path / CARD).is_file():
        raise InputError(
            f"the folder holds no {CARD}", path=path,
            remedy="name a file of features, or a folder in which counterclaim capture has finished",
        )  # fmt: skip
    try:
        card = json.loads((path / CARD).read_text(encoding="utf-8"))
        ids, cut = card.get("ids"), card.get("cut")
    except (ValueError, AttributeError) as error:
        raise InputError(f"is damaged ({error})", path=path / CARD, remedy="capture the features again") from error
    found = _from_safetensors(path / TENSORS, key)
    return replace(
        found,
        ids=tuple(map(str, ids)) if isinstance(ids, list) else None,
        card=card,
        cut=tuple(cut) if isinstance(cut, list) and len(cut) == len(found.x) else None,
    )


def _from_safetensors(path: Path, key: str | None) -> Features:
    with path.open("rb") as file:
        header, begin = _safetensors_header(file, path)
    metadata = header.pop("__metadata__", {})
    chosen = _chosen({name: tensor["shape"] for name, tensor in header.items()}, key, path)
    tensor = header[chosen]
    if tensor["dtype"] not in _DTYPES:
        raise InputError(
            f"{chosen} holds {tensor['dtype']} and not floating-point numbers", path=path,
            remedy=f"save it as one of {', '.join(_DTYPES)}",
        )  # fmt: skip
    x = _mapped(path, _DTYPES[tensor["dtype"]], begin + tensor["data_offsets"][0], tensor["shape"])
    if tensor["dtype"] == "BF16":
        x = (x.astype(np.uint32) << 16).view(np.float32)
    return Features(x, None, f"{path}:{chosen}", metadata if isinstance(metadata, dict) else {})


def _safetensors_header(file: BinaryIO, path: Path) -> tuple[dict[str, Any], int]:
    """What tensors there are, and where their bytes begin."""
    damaged = InputError("is not a safetensors file, or damaged", path=path, remedy="save or copy it again")
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(_MOST_HEADER, path.stat().st_size - 8):
        raise damaged
    try:
        header = json.loads(file.read(length))
        for name, tensor in header.items():
            if name == "__metadata__":
                continue
            shape, (start, end) = tensor["shape"], tensor["data_offsets"]
            if not all(isinstance(size, int) and size >= 0 for size in (*shape, start, end)) or start > end:
                raise damaged
            if not isinstance(tensor["dtype"], str):
                raise damaged
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged from error
    return header, 8 + length
