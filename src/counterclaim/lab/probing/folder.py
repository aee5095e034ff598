"""A feature folder: activations of answers as safetensors, with what they are and whose.

While it is filled it holds parts, one for each batch, so that a run that was killed goes on with what is missing. At the end
they are joined to one file; no more than one part is in memory at a time.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from counterclaim.errors import InputError
from counterclaim.folder.paths import make_folder
from counterclaim.folder.run import write_new, writing
from counterclaim.records import Json, canonical_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

CARD, TENSORS = "features.json", "features.safetensors"
_PARTS, _IDENTITY, _ROWS = "parts", "identity.json", "rows"
_DTYPES = {"float32": "F32", "int32": "I32"}


class FeatureFolder:
    """A feature folder that is being filled, or is complete.

    Args:
        folder: where; made where it is missing.
        identity: what determines its numbers (any JSON value); parts of other work are never taken for this one's.
        overwrite: throw other features away.

    Attributes:
        done: indices of the rows that are there.
        complete: whether nothing is missing any more.

    Raises:
        InputError: the folder holds other features or something else, a part of it is damaged, or it cannot be written.
    """

    def __init__(self, folder: Path, identity: Json, *, overwrite: bool = False) -> None:
        self.folder = folder
        self._parts = folder / _PARTS
        self._identity = canonical_json(identity)
        self.complete = False
        self.done: set[int] = set()
        make_folder(folder)
        self._begin(overwrite)

    def _begin(self, overwrite: bool) -> None:
        with writing(self.folder, "the feature folder"):
            present = {path.name for path in self.folder.iterdir() if not path.name.startswith(".")}
            if present - {CARD, TENSORS, _PARTS}:
                raise InputError(
                    "the folder is not empty and holds no features", path=self.folder, remedy="choose another --out"
                )
            same = self._present_identity(present) == self._identity
            if present and not same and not overwrite:
                raise InputError(
                    "the folder holds other features (another model, other answers, layers or positions)",
                    path=self.folder,
                    remedy="choose another --out, or replace it with --overwrite",
                )
            if same and {CARD, TENSORS} <= present:
                self.complete = True
                return
            if not same:
                for name in present:
                    shutil.rmtree(self.folder / name) if name == _PARTS else (self.folder / name).unlink()
            self._parts.mkdir(exist_ok=True)
            if not same:
                write_new(self._parts / _IDENTITY, self._identity)
        for _, rows, _ in self._read_parts(blocks=False):
            self.done.update(rows)

    def _present_identity(self, present: set[str]) -> str | None:
        """The identity of what the folder holds; None where it holds nothing, or it is unknown."""
        try:
            if CARD in present:
                return canonical_json(json.loads((self.folder / CARD).read_text(encoding="utf-8"))["identity"])
            if _PARTS in present:
                return (self._parts / _IDENTITY).read_text(encoding="utf-8")
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return None

    def add(self, rows: Sequence[int], blocks: Mapping[str, NDArray[Any]]) -> None:
        """Keep a batch: each block has one row for each of ``rows``.

        Raises:
            InputError: the disk is full or gone; earlier batches are safe.
        """
        import numpy as np

        with writing(self.folder, "the feature folder"):
            beside = self._parts / f".{min(rows)}.npz"
            try:
                np.savez(beside, allow_pickle=False, **{_ROWS: np.asarray(rows, np.int64), **blocks})
                beside.replace(self._parts / f"{min(rows)}.npz")
            finally:
                beside.unlink(missing_ok=True)
        self.done.update(rows)

    def finish(self, card: Mapping[str, Json]) -> dict[str, Json]:
        """Join the parts in the order of their rows, and write the card; returns it with the shape of every block.

        Raises:
            InputError: the disk is full or gone; the parts are safe.
        """
        place = {row: at for at, row in enumerate(sorted(self.done))}
        shapes: dict[str, tuple[int, ...]] = {}
        kinds: dict[str, str] = {}
        for _, _, blocks in self._read_parts():
            shapes = {name: (len(place), *block.shape[1:]) for name, block in blocks.items()}
            kinds = {name: str(block.dtype) for name, block in blocks.items()}
            break
        identity = json.loads(self._identity)
        with writing(self.folder, "the feature folder"):
            beside = self.folder / f".{TENSORS}.{os.getpid()}"
            try:
                with _new_tensors(
                    beside, shapes, kinds, {"format": "pt", "model": canonical_json(card.get("model"))}
                ) as to:
                    for _, rows, blocks in self._read_parts():
                        at = [place[row] for row in rows]
                        for name, block in blocks.items():
                            to[name][at] = block
                beside.replace(self.folder / TENSORS)
            finally:
                beside.unlink(missing_ok=True)
        finished = {**card, "blocks": {name: list(shape) for name, shape in shapes.items()}, "identity": identity}
        write_new(self.folder / CARD, json.dumps(finished, indent=1, ensure_ascii=False) + "\n", overwrite=True)
        shutil.rmtree(self._parts, ignore_errors=True)
        self.complete = True
        return finished

    def card(self) -> dict[str, Json]:
        """The card of a complete folder."""
        card: dict[str, Json] = json.loads((self.folder / CARD).read_text(encoding="utf-8"))
        return card

    def _read_parts(self, *, blocks: bool = True) -> Iterator[tuple[Path, list[int], dict[str, NDArray[Any]]]]:
        import numpy as np

        for path in sorted(self._parts.glob("[0-9]*.npz"), key=lambda path: int(path.stem)):
            try:
                with path.open("rb") as file, np.load(file, allow_pickle=False) as part:
                    rows = [int(row) for row in part[_ROWS]]
                    present = {name: part[name] for name in part.files if name != _ROWS} if blocks else {}
            except (OSError, ValueError, KeyError, BadZipFile) as error:
                raise InputError(
                    f"is damaged ({error})", path=path, remedy="delete it, and what it held is read again"
                ) from error
            yield path, rows, present


@contextmanager
def _new_tensors(
    path: Path, shapes: Mapping[str, tuple[int, ...]], kinds: Mapping[str, str], metadata: Mapping[str, str]
) -> Iterator[dict[str, NDArray[Any]]]:
    """A new safetensors file of these shapes, its arrays mapped to be filled."""
    import math

    import numpy as np

    header: dict[str, Json] = {"__metadata__": dict(metadata)}
    end = 0
    for name, shape in shapes.items():
        size = math.prod(shape) * 4  # both dtypes have four bytes
        header[name] = {"dtype": _DTYPES[kinds[name]], "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    encoded = json.dumps(header, ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % 8)
    begin = 8 + len(encoded)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        file.truncate(begin + end)
    arrays = {
        name: np.memmap(path, kinds[name], "r+", begin + header[name]["data_offsets"][0], shape)
        for name, shape in shapes.items()
        if math.prod(shape)
    }
    yield dict(arrays)
    for array in arrays.values():
        array.flush()
