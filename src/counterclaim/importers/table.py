"""Plain tables: JSONL, JSON with one list inside, CSV and parquet, with columns that the user may map."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, get_args

from counterclaim.errors import InputError
from counterclaim.importers.collector import AnswerRow, Collector, Key
from counterclaim.importers.columns import Columns, is_bookkeeping
from counterclaim.importers.files import InputFile, Row
from counterclaim.importers.values import (
    SETTINGS,
    as_float,
    as_int,
    as_name,
    as_text,
    is_missing,
    is_number,
    iso_time,
    listing,
    mapping_of,
    messages_of,
    scorer_name,
    shallow,
    shown,
    texts_of,
)
from counterclaim.records import ArmId, Json, Prompt, Response, Split, normalise_text
from counterclaim.registry import importer

ROW_KEYS = ("rows", "items", "samples", "results", "data", "responses", "records", "examples")
"""Where a JSON document usually keeps its rows, the most usual first."""

_MOST_LABELS, _LONGEST_LABEL = 12, 40
_SCORE_OBJECTS = frozenset({"scores", "score", "metrics", "ratings"})
_DECODE: Mapping[str, Callable[[Json], Any]] = {"max_new_tokens": as_int, "chat_template": as_name, **SETTINGS}
_MODEL = {
    "model": "repo", "revision": "revision", "dtype": "dtype", "quantisation": "quantisation", "adapter": "adapter_hash",
}  # fmt: skip
_SPLITS: Mapping[str, Split] = {
    **{name: name for name in get_args(Split)}, "training": "train", "validation": "dev", "val": "dev", "valid": "dev",
}  # fmt: skip
_HEAD = 100  # rows that decide which columns there are


# JSON documents ---------------------------------------------------------------------------------------------------


@dataclass
class RowList:
    """The rows of a JSON document, the key that they stand under, and the document around them."""

    rows: list[Row]
    key: str | None = None
    document: Mapping[str, Json] = field(default_factory=dict)


def find_rows(file: InputFile, wanted: str | None = None) -> RowList:
    """The list of rows inside a JSON document.

    Raises:
        InputError: there is none, there are several and none has a usual name, or ``wanted`` is not one.
    """
    document = file.document
    lists = [key for key, value in mapping_of(document).items() if _is_rows(value)]
    if wanted is not None:
        value = document
        for part in wanted.split("."):
            value = mapping_of(value).get(part)
        if not _is_rows(value):
            remedy = f"lists here: {listing(lists)}" if lists else "the file holds no list of objects"
            raise file.fail(f"--rows {wanted} names no list of objects", remedy=remedy)
        return RowList(value, wanted, mapping_of(document))
    if isinstance(document, list):
        if not document:
            raise file.fail("the JSON list is empty")
        for number, row in enumerate(document, start=1):
            if not isinstance(row, dict):
                problem = f"a row has to be a JSON object, and row {number} is a {type(row).__name__}"
                raise file.fail(problem, number)
        return RowList(document)
    if not isinstance(document, dict):
        raise file.fail(f"the JSON is a {type(document).__name__} and not a list of rows")
    usual = [key for key in ROW_KEYS if key in lists]
    if usual or len(lists) == 1:
        key = (usual or lists)[0]
        return RowList(document[key], key, document)
    if lists:
        problem = f"the JSON holds several lists of objects ({listing(lists)})"
        raise file.fail(problem, remedy="name the one with the results with --rows KEY")
    if any(key in document for key in ("prompt", "response", "question", "completion")):
        return RowList([document])
    raise file.fail(
        f"the JSON holds no list of results; its keys are {listing(document)}",
        remedy="write one object per answer in a list called rows",
    )


def _is_rows(value: Json) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


@importer(
    "table",
    about="JSONL, JSON, CSV or parquet with one answer a row; columns by name or --map",
    sniff=lambda file: file.kind != "zip",
    ids="row",
)
def read(file: InputFile, out: Collector) -> None:
    """Read a plain table."""
    if file.kind == "zip":
        raise out.fail("a zip archive is not a table", remedy="unpack it first")
    if file.kind == "json":
        found = find_rows(file, out.request.rows)
        _Table(out, found).read(enumerate(found.rows, start=1))
        return
    if out.request.rows is not None:
        raise out.fail("--rows names a list inside a JSON document, and this file has one row a line")
    _Table(out, RowList([])).read(file.rows())


# rows -------------------------------------------------------------------------------------------------------------


class _Table:
    """One table while it is read."""

    def __init__(self, out: Collector, found: RowList) -> None:
        self._out = out
        self._from_text = out.file.kind == "csv"
        self._document = found.document
        self._rows_key = found.key
        if found.key is not None:
            out.note(f"the rows are those under the key {found.key!r}")
        self._file_scorer = _scorer_of_params(mapping_of(self._document.get("params")))
        self._file_model = self._model_of_document()
        self._scorers: dict[tuple[str, ...], str] = {}
        self._extras: dict[str, _Extra] = {}
        self._skipped: dict[str, bool] = {}
        self._read: list[tuple[Key, int, str]] = []  # (key, line, scorer) of every answer
        self._arms: dict[str, int] = {}

    def read(self, rows: Iterator[tuple[int, Row]]) -> None:
        head = list(islice(rows, _HEAD))
        arm = str(self._out.request.arm)
        try:
            self._columns = Columns((row for _, row in head), self._out.request.mapping)
        except InputError as error:
            raise self._out.fail(error.problem, remedy=error.remedy) from error
        for column, name in self._columns.renamed:
            self._out.note(f"the column {column!r} is read as {name}")
        for line, row in head:
            self._row(line, row)
        del head
        for line, row in rows:
            self._row(line, row)
        if self._arms and not self._read:
            raise self._out.fail(
                f"no row has the arm {arm!r}; the arms are {listing(self._arms)}",
                remedy="rename the arms in the column arm to control and treated, or give each arm a file of its own",
            )
        if len(self._arms) > 1:
            self._out.note(
                f"only the {len(self._read):,} rows of arm {arm!r} are read; "
                f"the file also holds {listing(other for other in self._arms if other != arm)}"
            )
        self._emit_extras()
        self._quote_summary()
        for key in ("created", "date", "timestamp"):
            self._out.created = self._out.created or iso_time(self._document.get(key))
        others = [value for key, value in self._document.items() if key != self._rows_key]
        repeated = self._out.second_answers = second_answers(others, self._out.prompts, self._out.responses)
        if repeated is not None:
            again, differ = repeated
            self._out.note(f"the file answers {again} of its prompts once more beside the rows; {differ} differ")

    def _row(self, line: int, row: Row) -> None:
        columns = self._columns
        if "arm" in columns.column_of:
            arm = as_name(columns.get(row, "arm")) or "(none)"
            self._arms[arm] = self._arms.get(arm, 0) + 1
            if ArmId.parse(arm) != self._out.request.arm:
                return
        key = self._out.add(self._answer(line, row))
        scorer = self._scorer(row)
        reply = as_text(columns.get(row, "judge_reply"))
        self._read.append((key, line, scorer))
        for axis, column in columns.axes:
            self._out.cell(
                key, axis, column, columns.get(row, axis),
                line=line, scorer=scorer, from_text=self._from_text, evidence=reply,
            )  # fmt: skip
        self._collect_extras(row)

    def _cell(self, row: Row, name: str) -> Json:
        """The value of a field; None where the table has no such column, or the cell means that there is no value."""
        cell = self._columns.get(row, name)
        return None if is_missing(cell, from_text=self._from_text) else cell

    def _answer(self, line: int, row: Row) -> AnswerRow:
        get = self._columns.get
        prompt = get(row, "prompt")
        turns = messages_of(prompt)
        if turns is None and not is_missing(prompt):
            problem = f"the prompt is {shown(prompt)}, which is neither text nor a list of messages"
            raise self._out.fail(problem, line, "map the right column with --map prompt=COLUMN")
        if turns is None:
            self._refuse_choice("prompt")
        error = self._cell(row, "error")
        return AnswerRow(
            line,
            self._response(row, line),
            turns=turns,
            source_id=as_name(get(row, "id")),
            sample=self._whole(row, "sample", line),
            finish=get(row, "finish_reason"),
            error=None if error is None or error is False else as_text(error) or shown(error),
            n_tokens=self._whole(row, "n_tokens", line),
            seed=(as_name(get(row, "seed")) or "unstated") if "seed" in self._columns.column_of else None,
            decode=self._decode(row, line) if self._columns.has_settings else {},
            model={**self._file_model, **self._names(row, self._columns.get)},
            gold=self._gold(row),
            split=self._split(row, line),
        )

    def _refuse_choice(self, name: str) -> None:
        """Refuse to choose among several columns that could be a field."""
        if options := self._columns.ambiguous.get(name):
            raise self._out.fail(
                f"several columns could be the {name} ({listing(options)})",
                remedy=f"say which with --map {name}=COLUMN",
            )

    def _response(self, row: Row, line: int) -> str | None:
        if "response" not in self._columns.column_of:
            self._refuse_choice("response")
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
            remedy = "map the column with the text, also inside an object, with --map response=COLUMN.KEY"
            raise self._out.fail(f"the response is {shown(cell)}, which is not text", line, remedy)
        return text

    def _whole(self, row: Row, name: str, line: int) -> int | None:
        cell = self._cell(row, name)
        if cell is None or (isinstance(cell, float) and cell != cell):
            return None
        number = as_int(cell)
        if number is None or number < 0:
            column = self._columns.column_of[name]
            raise self._out.fail(f"column {column!r} holds {shown(cell)}, and {name} is a whole number from 0 on", line)
        return number

    def _split(self, row: Row, line: int) -> Split:
        cell = as_name(self._columns.get(row, "split"))
        if cell is None:
            return "test"
        if cell.lower() not in _SPLITS:
            raise self._out.fail(f"the split is {shown(cell)}; splits are {listing(get_args(Split))}", line)
        return _SPLITS[cell.lower()]

    def _gold(self, row: Row) -> dict[str, Json]:
        gold: dict[str, Json] = {}
        if (cell := self._cell(row, "gold")) is not None:
            gold = shallow(cell) if isinstance(cell, dict) else {"answer": shallow(cell)}
        if (cell := self._cell(row, "checklist")) is not None:
            gold["checklist"] = shallow(cell)
        return gold

    def _decode(self, row: Row, line: int) -> dict[str, Any]:
        decode: dict[str, Any] = {}
        for name, convert in _DECODE.items():
            cell = self._cell(row, f"decode.{name}")
            if cell is None:
                continue
            column = self._columns.column_of[f"decode.{name}"]
            decode[name] = self._out.number(column, cell, line) if convert is as_float else convert(cell)
            if decode[name] is None:
                raise self._out.fail(f"column {column!r} holds {shown(cell)}, which is no {name}", line)
        stop = self._columns.get(row, "decode.stop")
        if isinstance(stop, list) or (isinstance(stop, str) and stop):
            decode["stop"] = tuple(texts_of(stop if isinstance(stop, list) else [stop]))
        if (thinking := self._cell(row, "decode.thinking")) is not None:
            decode["thinking"] = str(thinking).strip().lower() in ("true", "1", "on", "yes")
        if (system := as_text(self._columns.get(row, "system_prompt"))) is not None:
            decode["system_prompt"] = system
        return decode

    @staticmethod
    def _names(holder: Mapping[str, Json], get: Callable[[Mapping[str, Json], str], Json]) -> dict[str, str]:
        """What a row or an object says of the model, by the fields of ``ModelRef``."""
        return {part: value for name, part in _MODEL.items() if (value := as_name(get(holder, name))) is not None}

    def _model_of_document(self) -> dict[str, str]:
        """Which model answered, where the document says it once for all rows."""
        model: dict[str, str] = {}
        for key in ("config", "metadata", "meta", "summary"):
            model |= self._names(mapping_of(self._document.get(key)), lambda holder, name: holder.get(name))
        return model | self._names(self._document, lambda holder, name: holder.get(name))

    def _scorer(self, row: Row) -> str:
        cells = {name: cell for name in self._columns.judged_by if (cell := self._cell(row, name)) is not None}
        if not cells:
            return self._file_scorer
        cache_key = tuple(f"{name}={shallow(cell)!r}" for name, cell in cells.items())
        if cache_key not in self._scorers:
            given = cells.get("judge_params")
            parameters = dict(given) if isinstance(given, dict) else {"params": given} if given else {}
            if "judge_view_chars" in cells:
                parameters["view_chars"] = cells["judge_view_chars"]
            self._scorers[cache_key] = scorer_name(
                as_name(cells.get("judge")) or "judge", as_name(cells.get("judge_version")),
                prompt=cells.get("judge_prompt"), parameters=parameters or None,
            )  # fmt: skip
        return self._scorers[cache_key]

    # columns that no field claims

    def _collect_extras(self, row: Row) -> None:
        """Keep the cells of columns that no field claims until all of them are known."""
        at = len(self._read) - 1
        for column, cell in row.items():
            skip = self._skipped.get(column)
            if skip is None:
                ours = self._columns.is_used(column) or is_bookkeeping(column)
                skip = self._skipped[column] = ours or re.match(r"judge\b|judge_", column) is not None
            if skip:
                continue
            extra = self._extras.get(column)
            if extra is None:
                extra = self._extras[column] = _Extra()
            extra.take(at, cell, from_text=self._from_text)

    def _emit_extras(self) -> None:
        read_as: dict[str, list[str]] = {"score": [], "label": [], "unused": []}
        taken = set(self._columns.column_of)
        for column, extra in self._extras.items():
            if extra.kind == "objects":
                read_as["score"].append(column)
                self._emit_objects(column, extra, taken)
            elif extra.kind in ("score", "label"):
                read_as[extra.kind].append(column)
                self._emit(f"{extra.kind}.{column}", column, extra.cells, taken)
            else:
                read_as["unused"].append(column)
        for kind, words in (
            ("score", "columns of numbers are read as score.NAME"),
            ("label", "columns of a few short texts are read as label.NAME"),
            ("unused", "columns not used"),
        ):
            if read_as[kind]:
                self._out.note(f"{words}: {listing(read_as[kind])}")

    def _emit(self, axis: str, column: str, cells: Mapping[int, Json], taken: set[str]) -> None:
        while axis in taken:
            axis += "_"
        taken.add(axis)
        # A column is there for the whole table: a row that leaves its key out is a row without a score.
        for at, (key, line, scorer) in enumerate(self._read):
            self._out.cell(key, axis, column, cells.get(at), line=line, scorer=scorer, from_text=self._from_text)

    def _emit_objects(self, column: str, extra: _Extra, taken: set[str]) -> None:
        prefix = "" if column in _SCORE_OBJECTS else f"{column}."
        for name in dict.fromkeys(name for cell in extra.cells.values() for name in _numbers(cell)):
            cells = {}
            for at, cell in extra.cells.items():
                failed = isinstance(cell.get("error"), str) and name not in cell
                cells[at] = {"error": cell["error"]} if failed else cell.get(name)
            self._emit(f"score.{prefix}{name}", f"{column}.{name}", cells, taken)

    def _quote_summary(self) -> None:
        axes = {score.axis for score in self._out.scores}
        unknown = []
        for holder in ("summary", "aggregate", "metrics"):
            values = mapping_of(self._document.get(holder))
            for name, value in values.items():
                if not is_number(value) or isinstance(value, bool) or name == "n":
                    continue
                axis = _axis_of_summary(name, axes)
                if axis is None:
                    unknown.append(name)
                else:
                    self._out.quote(axis, value, as_int(values.get("n")), f"{holder}.{name}")
        if unknown:
            self._out.note(f"numbers beside the rows that name no axis here: {listing(unknown)}")


@dataclass
class _Extra:
    """The cells of one column that no field claims, kept only while they may still be scores."""

    kind: str = "empty"
    cells: dict[int, Json] = field(default_factory=dict)
    labels: set[str] = field(default_factory=set)

    def take(self, at: int, cell: Json, *, from_text: bool) -> None:
        if self.kind == "other" or is_missing(cell, from_text=from_text):
            return
        kind = "other"
        if is_number(cell) or (from_text and as_float(cell) is not None):
            kind = "score"
        elif isinstance(cell, str) and len(cell) <= _LONGEST_LABEL:
            kind = "label"
            self.labels.add(cell)
        elif isinstance(cell, dict) and (_numbers(cell) or isinstance(cell.get("error"), str)):
            kind = "objects"
        self.cells[at] = cell
        self.kind = kind if self.kind in ("empty", kind) and len(self.labels) <= _MOST_LABELS else "other"
        if self.kind == "other":
            self.cells.clear()


def _numbers(cell: Json) -> list[str]:
    return [name for name, value in mapping_of(cell).items() if is_number(value)]


def _scorer_of_params(params: Mapping[str, Json]) -> str:
    """The scorer that a ``params`` object beside the rows describes, or the one that says only where scores are from."""
    rest = dict(params)

    def taken(*keys: str) -> str | None:
        key = next((key for key in keys if as_name(rest.get(key)) is not None), None)
        return None if key is None else as_name(rest.pop(key))

    name = taken("judge_model", "judge", "grader", "scorer")
    version = taken("rubric_version", "judge_version", "version")
    if name is None and version is None:
        return "imported:table@unversioned"
    return scorer_name(name or "judge", version, prompt=rest.pop("judge_prompt", None), parameters=rest)


def _axis_of_summary(name: str, axes: set[str]) -> str | None:
    """The axis that a summary's number is the mean of, where its name leaves no doubt."""
    if name in ("pass_rate", "accuracy", "pass@1", "mean_correct"):
        return "correct" if "correct" in axes else None
    stem = re.sub(r"^(avg|mean)_|_(mean|avg|rate)$", "", name)
    options = [axis for axis in (stem, f"score.{stem}", f"score.{stem}_count") if axis in axes]
    return options[0] if len(options) == 1 else None


# answers that a file holds twice ----------------------------------------------------------------------------------

_PROMPT_KEYS = ("prompt", "question", "input")
_ANSWER_KEYS = ("response", "resp", "completion", "output", "answer", "text")
_LEAST_CHARS = 40  # shorter common beginnings say little


def second_answers(
    others: Sequence[Json], prompts: Mapping[str, Prompt], responses: Sequence[Response]
) -> tuple[int, int] | None:
    """(prompts answered again beside the rows, how many of these differ), or None where there are none.

    Evaluation scripts often keep a handful of "sanity" answers. Where these differ from the rows' answers to the same
    prompts, the two do not come from one deterministic run, and that is worth knowing before small effects are read.
    Only the beginning that both answers keep is compared, because such copies are often shortened.
    """
    first: dict[str, str] = {}
    for response in responses:
        if response.text is not None:
            first.setdefault(normalise_text(prompts[response.prompt_id].text), response.text)
    again = differ = 0
    for row in (row for value in others if isinstance(value, list) for row in value):
        prompt, answer = _text(row, _PROMPT_KEYS), _text(row, _ANSWER_KEYS)
        own = None if prompt is None else first.get(normalise_text(prompt))
        if own is None or answer is None:
            continue
        kept = min(len(own), len(answer))
        if kept >= _LEAST_CHARS:
            again += 1
            differ += own[:kept] != answer[:kept]
    return (again, differ) if again else None


def _text(row: Json, keys: Sequence[str]) -> str | None:
    return next((value for key in keys if isinstance(value := mapping_of(row).get(key), str)), None)
