"""promptfoo's eval output (``promptfoo eval -o out.json``)."""

from __future__ import annotations

import json
from collections.abc import Mapping

from counterclaim.errors import InputError
from counterclaim.importers.axes import score_cell
from counterclaim.importers.collect import AnswerRow, Collector, Key
from counterclaim.importers.reading import InputFile
from counterclaim.importers.values import as_float, as_int, as_name, as_text, iso_time, listing, messages_of, shallow
from counterclaim.records import Json
from counterclaim.registry import importer

_SCORER = "promptfoo:assertions@unversioned"
_ERRORED = 2  # promptfoo's failureReason: 0 none, 1 an assertion, 2 an error


def recognises(file: InputFile) -> bool:
    """A JSON document with ``results.results``."""
    return file.kind == "json" and _results(file) is not None


@importer("promptfoo", about="promptfoo eval output .json", sniff=recognises)
def read(file: InputFile, out: Collector) -> None:
    """Read the answers of one provider: ``success`` is correct, ``score`` and ``namedScores`` are kept as scores."""
    rows = _results(file) if file.kind == "json" else None
    if rows is None:
        raise InputError("this is not promptfoo output (no results.results)", path=file.path)
    document = file.document
    out.created = iso_time(document["results"].get("timestamp")) or iso_time(document.get("createdAt"))
    providers = dict.fromkeys(_provider(row) or "(unnamed)" for row in rows)
    if len(providers) > 1:
        raise out.fail(
            f"the file holds answers of {len(providers)} providers ({listing(providers)})",
            remedy="export one provider a file, with promptfoo eval --filter-providers",
        )
    for number, row in enumerate(rows, start=1):
        _row(out, number, row)


def _row(out: Collector, number: int, row: Mapping[str, Json]) -> None:
    response = _mapping(row.get("response"))
    prompt = row.get("prompt")
    raw = prompt.get("raw") if isinstance(prompt, dict) else prompt
    error = as_text(response.get("error"))
    if error is None and (row.get("failureReason") == _ERRORED or not response):
        error = as_text(row.get("error")) or "promptfoo recorded no response"
    config = _mapping(_mapping(row.get("provider")).get("config"))
    settings = (
        ("max_new_tokens", as_int(config.get("max_tokens"))),
        ("temperature", as_float(config.get("temperature"))),
    )
    key = out.add(
        AnswerRow(
            line=number,
            text=_output(response.get("output")),
            turns=messages_of(raw),
            source_id=as_name(row.get("testIdx")),
            finish=response.get("finishReason"),
            error=error,
            n_tokens=as_int(_mapping(response.get("tokenUsage")).get("completion")) or None,
            decode={name: value for name, value in settings if value is not None and value == value},
            model={"repo": _provider(row)},
        )
    )
    if response.get("cached") is True:
        out.count("{n} answers came from promptfoo's cache, so repeated ones may be one answer counted twice")
    _scores(out, key, number, row, error)


def _scores(out: Collector, key: Key, number: int, row: Mapping[str, Json], error: str | None) -> None:
    reason = as_text(_mapping(row.get("gradingResult")).get("reason"))
    cells = {"correct": ("success", row.get("success")), "score.score": ("score", row.get("score"))}
    for name, value in _mapping(row.get("namedScores")).items():
        cells[f"score.{name}"] = (f"namedScores.{name}", value)
    for axis, (column, cell) in cells.items():
        if error is not None:
            out.score(key, axis, None, _SCORER, unscored=error)
        else:
            score_cell(out, key, axis, column, cell, line=number, scorer=_SCORER, evidence=reason)


def _output(value: Json) -> str | None:
    if value is None or isinstance(value, str):
        return as_text(value)
    return json.dumps(shallow(value), ensure_ascii=False)


def _provider(row: Mapping[str, Json]) -> str | None:
    provider = row.get("provider")
    return as_name(provider.get("id")) if isinstance(provider, dict) else as_name(provider)


def _results(file: InputFile) -> list[Mapping[str, Json]] | None:
    outer = file.document.get("results") if isinstance(file.document, dict) else None
    rows = outer.get("results") if isinstance(outer, dict) else None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        return None
    return rows


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}
