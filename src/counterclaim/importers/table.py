"""Plain tables: JSONL, JSON with one list inside, CSV and parquet, with columns that the user may map."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, get_args

from counterclaim.errors import InputError
from counterclaim.importers.axes import finite, score_cell
from counterclaim.importers.collect import AnswerRow, Collector, Key
from counterclaim.importers.columns import Columns, is_bookkeeping
from counterclaim.importers.reading import InputFile, Row
from counterclaim.importers.repeats import second_answers
from counterclaim.importers.scorers import from_parameters, scorer
from counterclaim.importers.values import (
    as_float,
    as_int,
    as_name,
    as_text,
    is_missing,
    is_number,
    iso_time,
    listing,
    messages_of,
    shallow,
    shown,
)
from counterclaim.records import Json, Split
from counterclaim.registry import importer

ROW_KEYS = ("rows", "items", "samples", "results", "data", "responses", "records", "examples")
"""Where a JSON document usually keeps its rows, the most usual first."""

_MOST_LABELS, _LONGEST_LABEL = 12, 40
_SCORE_OBJECTS = frozenset({"scores", "score", "metrics", "ratings"})
_DECODE: Mapping[str, Callable[[Json], Any]] = {
    "max_new_tokens": as_int,
    "temperature": as_float,
    "top_p": as_float,
    "top_k": as_int,
    "repetition_penalty": as_float,
    "presence_penalty": as_float,
    "seed": as_int,
    "chat_template": as_name,
}
_MODEL = {
    "model": "repo",
    "revision": "revision",
    "dtype": "dtype",
    "quantisation": "quantisation",
    "adapter": "adapter_hash",
}
_HEAD = 100  # rows that decide which columns there are


@dataclass
class Wrapped:
    """A JSON document's rows and what it says beside them."""

    rows: list[Row]
    key: str | None = None
    beside: Mapping[str, Json] = field(default_factory=dict)


def find_rows(file: InputFile, wanted: str | None) -> Wrapped:
    """The list of rows inside a JSON document.

    Raises:
        InputError: there is none, there are several and none has a usual name, or ``wanted`` is not one.
    """
    document = file.document
    if wanted is not None:
        value = document
        for part in wanted.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if not _is_rows(value):
            found = [key for key, item in document.items() if _is_rows(item)] if isinstance(document, dict) else []
            raise InputError(
                f"--rows {wanted} names no list of objects", path=file.path,
                remedy=f"lists here: {listing(found)}" if found else "the file holds no list of objects",
            )  # fmt: skip
        return Wrapped(value, wanted, document if isinstance(document, dict) else {})
    if isinstance(document, list):
        if not document:
            raise InputError("the JSON list is empty", path=file.path)
        for number, row in enumerate(document, start=1):
            if not isinstance(row, dict):
                raise InputError(
                    f"a row has to be a JSON object, and row {number} is a {type(row).__name__}",
                    path=file.path, line=number,
                )  # fmt: skip
        return Wrapped(document)
    if not isinstance(document, dict):
        raise InputError(f"the JSON is a {type(document).__name__} and not a list of rows", path=file.path)
    lists = [key for key, value in document.items() if _is_rows(value)]
    usual = [key for key in ROW_KEYS if key in lists]
    if usual or len(lists) == 1:
        key = (usual or lists)[0]
        return Wrapped(document[key], key, document)
    if lists:
        raise InputError(
            f"the JSON holds several lists of objects ({listing(lists)})", path=file.path,
            remedy="name the one with the results with --rows KEY",
        )  # fmt: skip
    if any(key in document for key in ("prompt", "response", "question", "completion")):
        return Wrapped([document])
    raise InputError(
        f"the JSON holds no list of results; its keys are {listing(document)}", path=file.path,
        remedy="write one object per answer in a list called rows",
    )  # fmt: skip


@importer(
    "table",
    about="JSONL, JSON, CSV or parquet with one answer a row; columns by name or --map",
    sniff=lambda file: file.kind != "zip",
    ids="row",
)
def read(file: InputFile, out: Collector) -> None:
    """Read a plain table (the importer ``table``)."""
    wrapped: Wrapped | None = None
    if file.kind == "json":
        wrapped = find_rows(file, out.request.rows)
        rows: Iterator[tuple[int, Row]] = enumerate(wrapped.rows, start=1)
    elif file.kind == "zip":
        raise InputError("a zip archive is not a table", path=file.path, remedy="unpack it first")
    elif out.request.rows is not None:
        raise InputError("--rows names a list inside a JSON document, and this file has one row a line", path=file.path)
    else:
        rows = file.rows()
    _Table(out, wrapped).read(rows)


class _Table:
    """One table while it is read."""

    def __init__(self, out: Collector, wrapped: Wrapped | None) -> None:
        self._out = out
        self._request = out.request
        self._from_text = out.file.kind == "csv"
        self._beside = wrapped.beside if wrapped is not None else {}
        self._rows_key = wrapped.key if wrapped is not None else None
        if wrapped is not None and wrapped.key is not None:
            self._out.note(f"the rows are those under the key {wrapped.key!r}")
        self._file_scorer = "imported:table@unversioned"
        parameters = self._beside.get("params")
        if isinstance(parameters, dict) and (named := from_parameters(parameters)) is not None:
            self._file_scorer = named
        self._scorers: dict[tuple[str, ...], str] = {}
        self._file_model = self._model_beside()
        self._extras: dict[str, _Extra] = {}
        self._skipped: dict[str, bool] = {}
        self._rows_read: list[Key] = []
        self._lines: list[int] = []
        self._scorer_of: list[str] = []
        self._arms: dict[str, int] = {}

    def read(self, rows: Iterator[tuple[int, Row]]) -> None:
        head = list(islice(rows, _HEAD))
        try:
            self._columns = Columns((row for _, row in head), self._request.mapping)
        except InputError as error:
            raise self._out.fail(error.problem, remedy=error.remedy) from error
        for column, name in self._columns.renamed:
            self._out.note(f"the column {column!r} is read as {name}")
        for line, row in head:
            self._row(line, row)
        del head
        for line, row in rows:
            self._row(line, row)
        if self._arms and not self._rows_read:
            raise self._out.fail(
                f"no row has the arm {self._request.arm!r}; the arms are {listing(self._arms)}",
                remedy="rename the arms in the column arm to control and treated, or give each arm a file of its own",
            )
        if len(self._arms) > 1:
            self._out.note(
                f"only the {len(self._rows_read):,} rows of arm {self._request.arm!r} are read; "
                f"the file also holds {listing(arm for arm in self._arms if arm != self._request.arm)}"
            )
        self._emit_extras()
        self._quote_summary()
        for key in ("created", "date", "timestamp"):
            self._out.created = self._out.created or iso_time(self._beside.get(key))
        elsewhere = {key: value for key, value in self._beside.items() if key != self._rows_key}
        repeated = self._out.second_answers = second_answers(elsewhere, self._out.prompts, self._out.responses)
        if repeated is not None:
            again, differ = repeated
            self._out.note(f"the file answers {again} of its prompts once more beside the rows; {differ} differ")

    def _row(self, line: int, row: Row) -> None:
        get = self._columns.get
        arm = as_name(get(row, "arm"))
        if "arm" in self._columns.column_of:
            arm = arm or "(none)"
            self._arms[arm] = self._arms.get(arm, 0) + 1
            if arm != self._request.arm:
                return
        key = self._out.add(self._item(line, row))
        self._rows_read.append(key)
        scorer_here = self._scorer(row)
        reply = as_text(get(row, "judge_reply"))
        for axis in ("correct", "delivery", "coverage"):
            column = self._columns.column_of.get(axis)
            if column is not None:
                self._cell(key, axis, column, get(row, axis), line, scorer_here, reply)
        for axis, column in self._columns.families:
            self._cell(key, axis, column, get(row, axis), line, scorer_here, reply)
        self._lines.append(line)
        self._scorer_of.append(scorer_here)
        self._collect_extras(row)

    def _cell(
        self, key: Key, axis: str, column: str, cell: Json, line: int, scorer_here: str, reply: str | None
    ) -> None:
        score_cell(
            self._out, key, axis, column, cell,
            line=line, scorer=scorer_here, from_text=self._from_text, evidence=reply,
        )  # fmt: skip

    def _item(self, line: int, row: Row) -> AnswerRow:
        get = self._columns.get
        prompt = get(row, "prompt")
        turns = messages_of(prompt)
        if turns is None and prompt not in (None, "") and not (isinstance(prompt, str) and not prompt.strip()):
            raise self._out.fail(
                f"the prompt is {shown(prompt)}, which is neither text nor a list of messages", line,
                "map the right column with --map prompt=COLUMN",
            )  # fmt: skip
        if turns is None and (options := self._columns.ambiguous.get("prompt")):
            raise self._out.fail(
                f"several columns could be the prompt ({listing(options)})",
                remedy="say which with --map prompt=COLUMN",
            )
        return AnswerRow(
            line=line,
            text=self._response(row, line),
            turns=turns,
            source_id=as_name(get(row, "id")),
            sample=self._whole(row, "sample", line),
            finish=get(row, "finish_reason"),
            error=self._error(row),
            n_tokens=self._whole(row, "n_tokens", line),
            seed=(as_name(get(row, "seed")) or "unstated") if "seed" in self._columns.column_of else None,
            decode=self._decode(row, line),
            model=self._model(row),
            gold=self._gold(row),
            split=self._split(row, line),
        )

    def _response(self, row: Row, line: int) -> str | None:
        if "response" not in self._columns.column_of:
            if options := self._columns.ambiguous.get("response"):
                raise self._out.fail(
                    f"several columns could be the response ({listing(options)})",
                    remedy="say which with --map response=COLUMN",
                )
            self._out.note(
                "no column holds the answers, so nothing can be said of their text; map it with --map response=COLUMN"
            )
            return None
        cell = self._columns.get(row, "response")
        if cell is None:
            self._out.count("{n} rows have no response text")
            return None
        if isinstance(cell, list) and (turns := messages_of(cell)) is not None:
            return turns[-1].content
        text = as_text(cell)
        if text is None:
            raise self._out.fail(
                f"the response is {shown(cell)}, which is not text", line,
                "map the column with the text, also inside an object, with --map response=COLUMN.KEY",
            )  # fmt: skip
        return text

    def _error(self, row: Row) -> str | None:
        cell = self._columns.get(row, "error")
        if is_missing(cell, from_text=self._from_text) or cell is False:
            return None
        return as_text(cell) or shown(cell)

    def _whole(self, row: Row, name: str, line: int) -> int | None:
        cell = self._columns.get(row, name)
        if is_missing(cell, from_text=self._from_text) or (isinstance(cell, float) and cell != cell):
            return None
        number = as_int(cell)
        if number is None or number < 0:
            raise self._out.fail(
                f"column {self._columns.column_of[name]!r} holds {shown(cell)}, and {name} is a whole number from 0 on",
                line,
            )
        return number

    def _split(self, row: Row, line: int) -> Split:
        cell = as_name(self._columns.get(row, "split"))
        if cell is None:
            return "test"
        known: dict[str, Split] = {name: name for name in get_args(Split)}
        known |= {"training": "train", "validation": "dev", "val": "dev", "valid": "dev"}
        if cell.lower() not in known:
            raise self._out.fail(f"the split is {shown(cell)}; splits are {listing(get_args(Split))}", line)
        return known[cell.lower()]

    def _gold(self, row: Row) -> dict[str, Json]:
        gold: dict[str, Json] = {}
        if not is_missing(cell := self._columns.get(row, "gold"), from_text=self._from_text):
            gold = shallow(cell) if isinstance(cell, dict) else {"answer": shallow(cell)}
        if not is_missing(cell := self._columns.get(row, "checklist"), from_text=self._from_text):
            gold["checklist"] = shallow(cell)
        return gold

    def _decode(self, row: Row, line: int) -> dict[str, Any]:
        decode: dict[str, Any] = {}
        if not self._columns.has_settings:
            return decode
        for name, convert in _DECODE.items():
            column = self._columns.column_of.get(f"decode.{name}")
            cell = None if column is None else self._columns.get(row, f"decode.{name}")
            if column is None or is_missing(cell, from_text=self._from_text):
                continue
            if convert is as_float:
                decode[name] = finite(self._out, column, cell, line)
            elif (value := convert(cell)) is not None:
                decode[name] = value
            else:
                raise self._out.fail(f"column {column!r} holds {shown(cell)}, which is no {name}", line)
        stop = self._columns.get(row, "decode.stop")
        if isinstance(stop, str) and stop:
            decode["stop"] = (as_text(stop),)
        elif isinstance(stop, list):
            decode["stop"] = tuple(text for item in stop if (text := as_text(item)) is not None)
        thinking = self._columns.get(row, "decode.thinking")
        if not is_missing(thinking, from_text=self._from_text):
            decode["thinking"] = str(thinking).strip().lower() in ("true", "1", "on", "yes")
        if (system := as_text(self._columns.get(row, "system_prompt"))) is not None:
            decode["system_prompt"] = system
        return decode

    def _model(self, row: Row) -> Mapping[str, str | None]:
        if not any(name in self._columns.column_of for name in _MODEL):
            return self._file_model
        here = {
            part: value for name, part in _MODEL.items() if (value := as_name(self._columns.get(row, name))) is not None
        }
        return {**self._file_model, **here}

    def _model_beside(self) -> dict[str, str | None]:
        """Which model answered, where the document says it once for all rows."""
        model: dict[str, str | None] = {}
        for holder in (self._beside, *(self._beside.get(key) for key in ("summary", "meta", "metadata", "config"))):
            if isinstance(holder, Mapping):
                for name, part in _MODEL.items():
                    if (value := as_name(holder.get(name))) is not None:
                        model.setdefault(part, value)
        return model

    def _scorer(self, row: Row) -> str:
        names = [name for name in self._columns.column_of if name.startswith("judge") and name != "judge_reply"]
        if not names:
            return self._file_scorer
        cells = {name: self._columns.get(row, name) for name in names}
        cells = {name: cell for name, cell in cells.items() if not is_missing(cell, from_text=self._from_text)}
        if not cells:
            return self._file_scorer
        cache_key = tuple(f"{name}={shallow(cell)!r}" for name, cell in cells.items())
        if cache_key not in self._scorers:
            given = cells.get("judge_params")
            view = {"view_chars": cells["judge_view_chars"]} if "judge_view_chars" in cells else {}
            parameters = (
                {**given, **view} if isinstance(given, dict) else {**({"params": given} if given else {}), **view}
            )
            self._scorers[cache_key] = scorer(
                as_name(cells.get("judge")) or "judge",
                as_name(cells.get("judge_version")),
                prompt=cells.get("judge_prompt"),
                parameters=parameters or None,
            )
        return self._scorers[cache_key]

    def _collect_extras(self, row: Row) -> None:
        """Keep the cells of columns nobody named until it is known what they hold."""
        at = len(self._rows_read) - 1
        for column, cell in row.items():
            skip = self._skipped.get(column)
            if skip is None:
                skip = self._skipped[column] = (
                    self._columns.is_used(column)
                    or is_bookkeeping(column)
                    or re.match(r"judge\b|judge_", column) is not None
                )
            if skip:
                continue
            extra = self._extras.get(column)
            if extra is None:
                extra = self._extras[column] = _Extra()
            extra.take(at, cell, from_text=self._from_text)

    def _emit_extras(self) -> None:
        unused, scored, labelled = [], [], []
        taken = set(self._columns.column_of)
        for column, extra in self._extras.items():
            kind = extra.kind
            if kind == "numbers":
                axis = self._free(f"score.{column}", taken)
                scored.append(column)
                self._emit(axis, column, extra.cells)
            elif kind == "labels":
                axis = self._free(f"label.{column}", taken)
                labelled.append(column)
                self._emit(axis, column, extra.cells)
            elif kind == "objects":
                scored.append(column)
                self._emit_objects(column, extra, taken)
            else:
                unused.append(column)
        if scored:
            self._out.note(f"columns of numbers are read as score.NAME: {listing(scored)}")
        if labelled:
            self._out.note(f"columns of a few short texts are read as label.NAME: {listing(labelled)}")
        if unused:
            self._out.note(f"columns not used: {listing(unused)}")

    def _free(self, axis: str, taken: set[str]) -> str:
        while axis in taken:
            axis += "_"
        taken.add(axis)
        return axis

    def _emit(self, axis: str, column: str, cells: dict[int, Json]) -> None:
        # A column is there for the whole table: a row that leaves its key out is a row without a score.
        for at, key in enumerate(self._rows_read):
            score_cell(
                self._out, key, axis, column, cells.get(at),
                line=self._lines[at], from_text=self._from_text, scorer=self._scorer_of[at],
            )  # fmt: skip

    def _emit_objects(self, column: str, extra: _Extra, taken: set[str]) -> None:
        names = dict.fromkeys(name for cell in extra.cells.values() for name in _numbers(cell))
        prefix = "" if column in _SCORE_OBJECTS else f"{column}."
        for name in names:
            axis = self._free(f"score.{prefix}{name}", taken)
            cells = {}
            for at, cell in extra.cells.items():
                if isinstance(cell, dict):
                    failed = isinstance(cell.get("error"), str) and name not in cell
                    cells[at] = {"error": cell["error"]} if failed else cell.get(name)
            self._emit(axis, f"{column}.{name}", cells)

    def _quote_summary(self) -> None:
        axes = {score.axis for score in self._out.scores}
        strangers = []
        for holder in ("summary", "aggregate", "metrics"):
            values = self._beside.get(holder)
            if not isinstance(values, Mapping):
                continue
            n = as_int(values.get("n"))
            for name, value in values.items():
                if not is_number(value) or isinstance(value, bool) or name == "n":
                    continue
                axis = _axis_of_summary(name, axes)
                if axis is None:
                    strangers.append(name)
                else:
                    self._out.quote(axis, value, n, f"{holder}.{name}")
        if strangers:
            self._out.note(f"numbers beside the rows that name no axis here: {listing(strangers)}")


@dataclass
class _Extra:
    """The cells of one column that no field claims, kept only while they may still be scores."""

    cells: dict[int, Json] = field(default_factory=dict)
    labels: set[str] = field(default_factory=set)
    kinds: set[str] = field(default_factory=set)

    def take(self, at: int, cell: Json, *, from_text: bool) -> None:
        if "other" in self.kinds:
            return
        if is_missing(cell, from_text=from_text):
            return
        if is_number(cell) or (from_text and as_float(cell) is not None):
            self.kinds.add("numbers")
        elif isinstance(cell, str) and len(cell) <= _LONGEST_LABEL:
            self.kinds.add("labels")
            self.labels.add(cell)
        elif isinstance(cell, dict) and (set(_numbers(cell)) or isinstance(cell.get("error"), str)):
            self.kinds.add("objects")
        else:
            self.kinds.add("other")
        if len(self.kinds) > 1 or len(self.labels) > _MOST_LABELS:
            self.kinds = {"other"}
            self.cells.clear()
            return
        self.cells[at] = cell

    @property
    def kind(self) -> str:
        return next(iter(self.kinds), "empty")


def _numbers(cell: Json) -> list[str]:
    if not isinstance(cell, dict):
        return []
    return [name for name, value in cell.items() if is_number(value)]


def _is_rows(value: Json) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _axis_of_summary(name: str, axes: set[str]) -> str | None:
    """The axis that a summary's number is the mean of, where its name leaves no doubt."""
    if name in ("pass_rate", "accuracy", "pass@1", "mean_correct"):
        return "correct" if "correct" in axes else None
    stem = re.sub(r"^(avg|mean)_|_(mean|avg|rate)$", "", name)
    options = [axis for axis in (stem, f"score.{stem}", f"score.{stem}_count") if axis in axes]
    return options[0] if len(options) == 1 else None
