"""lighteval's ``details_<task>_<time>.parquet``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from counterclaim.importers.axes import finite
from counterclaim.importers.collect import AnswerRow, Collector
from counterclaim.importers.reading import InputFile, Row
from counterclaim.importers.values import as_int, as_name, as_text, is_number, listing, messages_of, shallow
from counterclaim.records import Json
from counterclaim.registry import importer

_SPELLINGS = {
    "doc": ("doc", "__doc__"),
    "answer": ("model_response", "__model_response__"),
    "metric": ("metric", "__metric__"),
}


def recognises(file: InputFile) -> bool:
    """A parquet file with a document, a model response and a metric per row, in either spelling."""
    return file.kind == "parquet" and all(any(name in file.columns for name in names) for names in _SPELLINGS.values())


@importer("lighteval", about="lighteval details_*.parquet", sniff=recognises)
def read(file: InputFile, out: Collector) -> None:
    """Read the details of one task; several answers to a document become its samples."""
    out.note("lighteval keeps no finish reason; its truncated_tokens_count is about the prompt and is not used")
    generated = 0
    for line, row in file.rows():
        doc, answer, metric = (_part(row, name) for name in _SPELLINGS)
        texts = answer.get("text")
        texts = [text for item in texts if (text := as_text(item)) is not None] if isinstance(texts, list) else []
        generated += bool(texts)
        tokens = answer.get("output_tokens")
        keys = []
        for index, text in enumerate(texts or [None]):
            n_tokens = None
            if isinstance(tokens, list) and index < len(tokens) and isinstance(tokens[index], list):
                n_tokens = len(tokens[index]) if texts else None
            keys.append(
                out.add(
                    AnswerRow(
                        line=line, text=text, turns=messages_of(doc.get("query")), source_id=as_name(doc.get("id")),
                        sample=None, n_tokens=n_tokens, decode=_decode(doc), gold=_gold(doc),
                    )
                )
            )  # fmt: skip
        for name, value in metric.items():
            if not (value is None or is_number(value)):
                out.note(f"the metric {name!r} is not one number per document and is not used")
                continue
            number = None if value is None else finite(out, f"metric.{name}", value, line)
            out.metric(keys[0], name, number, f"lighteval:{name}@unversioned")
            for key in keys[1:]:
                out.metric(key, name, None, f"lighteval:{name}@unversioned",
                           unscored="lighteval scores the answers to one document together")  # fmt: skip
    out.no_generation = generated == 0
    if out.no_generation:
        out.note("nothing was generated: the answers are log-likelihoods, so nothing can have been cut")
    axes = out.settle(right_or_wrong=("extractive_match", "exact_match", "acc", "em", "pass@1", "quasi_exact_match"))
    out.note(f"metrics: {listing(f'{name} as {axis}' for name, axis in axes.items())}")


def _part(row: Row, name: str) -> Mapping[str, Json]:
    """A struct column, also where an older version stored it as JSON text; empty where it is neither."""
    value = next((row[spelling] for spelling in _SPELLINGS[name] if spelling in row), None)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}


def _decode(doc: Mapping[str, Json]) -> dict[str, Any]:
    decode: dict[str, Any] = {}
    if (budget := as_int(doc.get("generation_size"))) is not None and budget > 0:
        decode["max_new_tokens"] = budget
    stops = doc.get("stop_sequences")
    if isinstance(stops, list):
        decode["stop"] = tuple(text for item in stops if (text := as_text(item)) is not None)
    return decode


def _gold(doc: Mapping[str, Json]) -> dict[str, Json]:
    choices, index = doc.get("choices"), doc.get("gold_index")
    indices = index if isinstance(index, list) else [index]
    if isinstance(choices, list):
        right = [choices[i] for i in indices if isinstance(i, int) and 0 <= i < len(choices)]
        if right:
            return {"answer": shallow(right[0] if len(right) == 1 else right)}
    return {}
