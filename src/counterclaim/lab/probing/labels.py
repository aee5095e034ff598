"""Labels from files, joined with features by id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from counterclaim.audit.metrics import in_cohort
from counterclaim.audit.probing import Tied
from counterclaim.errors import InputError
from counterclaim.folder import read_run
from counterclaim.importers import InputFile, Limits
from counterclaim.importers.table import find_rows
from counterclaim.importers.values import as_float, is_missing, shown, truth
from counterclaim.lab.probing.features import Features, load_arrays
from counterclaim.records import Json
from counterclaim.wording import listing

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

IDS = ("id", "ids", "prompt_id")
"""Columns that name the rows of a table, the first that is there."""


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """One label for each item, true for positives.

    Attributes:
        score: float (n,); NaN where an item was not scored.
        threshold: a score of at least this is positive; None where the scores are 0 and 1.
        ids: what the items are called; None where the file does not say.
        source: file and key.
    """

    score: Floats
    threshold: float | None = None
    ids: tuple[str, ...] | None = None
    source: str = "labels"

    @classmethod
    def of(cls, values: ArrayLike | Labels, threshold: float | None = None) -> Labels:
        """Labels from an array of booleans, of 0 and 1, or of scores with a threshold."""
        return values if isinstance(values, Labels) else cls(np.asarray(values, np.float64), threshold)

    @property
    def positive(self) -> Bools:
        """(n,), scores of at least the threshold."""
        return np.asarray(self.score >= (0.5 if self.threshold is None else self.threshold))

    @property
    def strictly(self) -> Bools:
        """(n,), scores above the threshold: the same without those that sit on it."""
        return np.asarray(self.score > (0.5 if self.threshold is None else self.threshold))

    def ties(self) -> Tied:
        """How many scores sit exactly on the threshold."""
        return Tied(len(self.score), int((self.score == self.threshold).sum()), self.threshold)

    def rows(self, at: NDArray[np.int64]) -> Labels:
        """These items, in this order."""
        return replace(self, score=self.score[at], ids=None if self.ids is None else tuple(self.ids[i] for i in at))


def load_labels(reference: str, threshold: float | None = None) -> Labels:
    """Read labels from ``FILE:KEY``.

    A list or an object of id to value in JSON (the entire document, or under a key), a column of JSON rows, JSONL, CSV or parquet, an array of
    an npz file, ``RUN:COHORT`` or ``RUN:ARM:COHORT`` of a run folder (``RUN:correct=1``), or an npy file, which needs no key.

    Args:
        reference: the file and the key in it.
        threshold: a score of at least this is positive; without one values have to be 0 and 1, or true and false.

    Raises:
        InputError: no such file or key, values that are no labels, ids that occur twice.
    """
    path, key = _split(reference)
    if path.is_dir():
        named, values = _from_run(path, key)
    elif path.suffix in (".npz", ".npy"):
        named, values = _from_arrays(path, key)
    else:
        named, values = _from_table(path, key)
    ids = None if named is None else tuple(named)
    score = np.array(
        [_value(value, threshold, row, reference, path) for row, value in enumerate(values, 1)], np.float64
    )
    if ids is not None and len(set(ids)) != len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise InputError(f"two labels are for {twice!r}", path=path, remedy="keep one label for each item")
    return Labels(score, threshold, ids, reference)


def joined(features: Features, labels: Labels) -> tuple[Features, Labels]:
    """Features and labels of the same items in the same order, without those that were not scored.

    Raises:
        InputError: see ``matched`` and ``scored``.
    """
    labels = matched(features, labels)
    kept = scored(labels)
    return features.rows(kept), labels.rows(kept)


def matched(features: Features, labels: Labels) -> Labels:
    """The labels of all rows of the features, in their order.

    By id where both have ids, whatever the order and whatever else is labelled; else by position.

    Raises:
        InputError: lengths differ, or a row has no label.
    """
    at = row_order(features, labels.ids, len(labels.score), labels.source)
    return labels if at is None else labels.rows(at)


def row_order(features: Features, ids: Sequence[str] | None, n: int, source: str) -> NDArray[np.int64] | None:
    """Indices (n,) that bring n rows, which may have ids, into the order of the features; None where they are in it already.

    Raises:
        InputError: lengths differ, or a row is not there.
    """
    if features.ids is not None and ids is not None:
        row = {name: at for at, name in enumerate(ids)}
        missing = [name for name in features.ids if name not in row]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(features.ids)} rows of {features.source} are not in {source} "
                f"(the first is {shown(missing[0])}, and there are {listing(map(shown, ids), 3)})",
                remedy="give every row (null where an item was not scored), or leave the ids out of one file",
            )
        return np.array([row[name] for name in features.ids], np.int64)
    if len(features.x) != n:
        raise InputError(
            f"{features.source} has {len(features.x)} rows and {source} {n}",
            remedy="give one for each row, or ids in both files",
        )
    return None


def scored(labels: Labels) -> NDArray[np.int64]:
    """Rows that were scored.

    Raises:
        InputError: nothing was, or all labels are of one class.
    """
    kept = np.flatnonzero(~np.isnan(labels.score))
    positives = int(labels.positive[kept].sum())
    if 0 < positives < len(kept):
        return kept
    every = (
        f"all {len(kept)} labels are {'positive' if positives else 'negative'}" if len(kept) else "no item is labelled"
    )
    raise InputError(
        f"{every} in {labels.source}, and a probe tells two classes apart",
        remedy="check the key and the threshold, or take items of both classes",
    )


def _split(reference: str) -> tuple[Path, str | None]:
    """The file and the key; the longest head that is a file or a folder is one."""
    parts = reference.split(":")
    for count in range(len(parts), 0, -1):
        path = Path(":".join(parts[:count]))
        if path.exists():
            return path, ":".join(parts[count:]) or None
    raise InputError(
        "there is no such file", path=reference.rpartition(":")[0] or reference, remedy="labels are named FILE:KEY"
    )


def _value(value: Json, threshold: float | None, row: int, reference: str, path: Path) -> float:
    if is_missing(value, from_text=path.suffix in (".csv", ".tsv")):
        return np.nan
    number = truth(value) if threshold is None else as_float(value)
    if number is None and threshold is None and value in ("yes", "no"):
        number = float(value == "yes")
    if number is None or not np.isfinite(number):
        if threshold is None and as_float(value) is not None:
            problem, remedy = (
                "is a score and not a label",
                "say from which score on an item is positive: --label-threshold 0.5",
            )
        else:
            problem, remedy = "is no label", "write 0 and 1, or true and false, or null where an item was not scored"
        raise InputError(f"item {row} of {reference}, {shown(value)}, {problem}", remedy=remedy)
    return number


def _from_run(path: Path, key: str | None) -> tuple[list[str] | None, list[Json]]:
    """Answers of one arm of a run folder, named as ``counterclaim capture`` names them."""
    records = read_run(path)
    arms = list(dict.fromkeys(str(response.arm) for response in records.responses))
    arm, _, cohort = (key or "").rpartition(":")
    arm = arm or ("control" if "control" in arms or not arms else arms[0])
    if not cohort or arm not in arms:
        raise InputError(
            f"{'no cohort of answers is named' if not cohort else f'there is no arm {arm!r}'} (arms: {listing(arms)})",
            path=path, remedy=f"name them like {path}:correct=1 or {path}:ARM:correct=1",
        )  # fmt: skip
    ids = [f"{response.prompt_id}/{response.sample}" for response in records.responses if str(response.arm) == arm]
    if len(set(ids)) < len(ids):
        raise InputError(
            f"arm {arm} was answered under several seeds, and one answer has one label", path=path,
            remedy="name an arm with one seed",
        )  # fmt: skip
    values: dict[str, dict[str, float | str]] = {name: {} for name in ids}
    for score in records.scores:
        if str(score.arm) == arm and score.value is not None:
            values[f"{score.prompt_id}/{score.sample}"][score.axis] = score.value
    return ids, [in_cohort(found, cohort) for found in values.values()]


def _from_arrays(path: Path, key: str | None) -> tuple[list[str] | None, list[Json]]:
    arrays = load_arrays(path)
    if key is None and len(arrays) == 1:
        key = next(iter(arrays))
    if key not in arrays:
        raise InputError(
            f"there is no array {key!r} (it holds {listing(arrays, 12)})" if key else "no array is named",
            path=path, remedy=f"name one: {path}:KEY",
        )  # fmt: skip
    column = arrays[key]
    if column.ndim != 1:
        raise InputError(f"{key} has shape {column.shape}", path=path, remedy="labels are one number for each item")
    ids = arrays.get("ids")
    same = ids is not None and key != "ids" and ids.shape == column.shape
    missing = np.isnan(column) if column.dtype.kind == "f" else np.zeros(len(column), bool)
    values = [None if gone else value for gone, value in zip(missing, column.tolist(), strict=True)]
    return list(map(str, ids.tolist())) if ids is not None and same else None, values


def _from_table(path: Path, key: str | None) -> tuple[list[str] | None, list[Json]]:
    file = InputFile(path, Limits())
    if file.kind != "json":
        return _column((row for _, row in file.rows()), key, path)
    document = file.document
    if key is None and isinstance(document, list) and not any(isinstance(item, dict) for item in document):
        return None, document
    if isinstance(document, dict) and key is not None and isinstance(found := _inside(document, key), list | dict):
        if isinstance(found, dict):
            return list(found), list(found.values())
        ids = next((document[name] for name in IDS if isinstance(document.get(name), list)), None)
        return list(map(str, ids)) if ids is not None and len(ids) == len(found) else None, found
    if (
        isinstance(document, dict)
        and key is None
        and not any(isinstance(item, dict | list) for item in document.values())
    ):
        return list(document), list(document.values())
    if isinstance(document, dict) and (key is None or not any(isinstance(item, list) for item in document.values())):
        raise InputError(
            f"{'no key is named' if key is None else f'there is no list or object {key!r} of labels'} "
            f"(the keys are {listing(map(shown, document), 12)})",
            path=path, remedy=f"name one: {path}:KEY",
        )  # fmt: skip
    return _column(find_rows(file).rows, key, path)


def _inside(document: Mapping[str, Any], key: str) -> Json:
    """The value under ``key``, or under its parts between dots."""
    if key in document:
        return document[key]
    value: Json = document
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _column(rows: Iterable[Mapping[str, Json]], key: str | None, path: Path) -> tuple[list[str] | None, list[Json]]:
    table = list(rows)
    columns: Sequence[str] = list(dict.fromkeys(name for row in table for name in row))
    if key is None or not any(_inside(row, key) is not None for row in table):
        raise InputError(
            "no column is named" if key is None else f"there is no column {key!r} (it has {listing(columns, 12)})",
            path=path, remedy=f"name the column with the labels: {path}:COLUMN",
        )  # fmt: skip
    name = next((name for name in IDS if all(row.get(name) is not None for row in table)), None)
    return None if name is None else [str(row[name]) for row in table], [_inside(row, key) for row in table]
