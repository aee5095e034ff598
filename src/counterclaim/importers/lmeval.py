"""lm-evaluation-harness: ``samples_<task>_<time>.jsonl`` and the ``results_<time>.json`` beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from counterclaim.errors import InputError
from counterclaim.importers.axes import finite
from counterclaim.importers.collect import AnswerRow, Collector, Key
from counterclaim.importers.imported import Limits
from counterclaim.importers.reading import InputFile, Row
from counterclaim.importers.scorers import scorer
from counterclaim.importers.values import (
    as_float,
    as_int,
    as_name,
    as_text,
    is_number,
    iso_time,
    listing,
    messages_of,
    shallow,
)
from counterclaim.records import Json
from counterclaim.registry import importer

_OWN = frozenset(
    {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash",
     "prompt_hash", "target_hash", "finish_reason", "stop_reason"}
)  # fmt: skip
_TOGETHER = "lm-eval scores the repeated answers to a document together"
_INVALID = "[invalid]"


def recognises(file: InputFile) -> bool:
    """JSONL whose rows hold a document, its arguments and its responses."""
    return file.kind == "jsonl" and bool(file.sample) and {"doc", "arguments", "resps"} <= set(file.sample[0])


@dataclass
class Beside:
    """What a results file says of the run as a whole."""

    decode: dict[str, Any] = field(default_factory=dict)
    model: dict[str, str | None] = field(default_factory=dict)
    version: str | None = None
    task_version: str | None = None
    created: str | None = None
    metrics: Mapping[str, Json] = field(default_factory=dict)
    n: int | None = None
    name: str = ""


@importer("lm-eval", about="lm-evaluation-harness samples_*.jsonl (and results_*.json beside it)", sniff=recognises)
def read(file: InputFile, out: Collector) -> None:
    """Read the samples of one task.

    lm-eval writes one row per document and filter. The strictest filter gives the scores, the others are kept as
    ``score.METRIC@FILTER``. Prompts are paired by content; with ``pair_by="id"`` by ``doc_hash``, never ``doc_id``.
    """
    task, time = _name_parts(file.path)
    beside = _beside(file, task, time, out, file.limits)
    out.created = beside.created
    keys: dict[str, list[Key]] = {}
    seen: dict[tuple[str, str], int] = {}
    cells: list[tuple[str, str, str, Json, int, str | None]] = []
    generated = 0
    for line, row in file.rows():
        name = as_name(row.get("filter")) or "none"
        doc = _doc_key(row, line)
        if (before := seen.setdefault((doc, name), line)) != line:
            raise out.fail(
                f"document {as_name(row.get('doc_id'))} with filter {name!r} is already on line {before}", line,
                "the file may hold two runs; split it",
            )  # fmt: skip
        if doc not in keys:
            keys[doc], is_generation = _responses(out, row, line, beside)
            generated += is_generation
        picked = _first_text(row.get("filtered_resps"))
        for metric, cell in _metrics(row).items():
            cells.append((doc, name, metric, cell, line, picked))
    filters = dict.fromkeys(name for _, name, *_ in cells) or {"none": None}
    chosen = min(filters, key=lambda name: 0 if "strict" in name else 1 if name == "none" else 2)
    if len(filters) > 1:
        out.note(
            f"scores are those of the filter {chosen!r}; the others ({listing(f for f in filters if f != chosen)}) "
            "are kept as score.METRIC@FILTER"
        )
    out.no_generation = generated == 0
    if out.no_generation:
        out.note("nothing was generated: the answers are log-likelihoods, so nothing can have been cut")
    else:
        out.note("lm-eval keeps no finish reason, and its answers are already cut at the stop strings")
    axes = _score(out, cells, keys, chosen, task, beside)
    for name, value in beside.metrics.items():
        metric, _, filter_name = name.partition(",")
        axis = axes.get(metric if (filter_name or "none") == chosen else f"{metric}@{filter_name}")
        if axis is not None:
            out.quote(axis, value, beside.n, f"{beside.name} {name}")


def _score(
    out: Collector,
    cells: list[tuple[str, str, str, Json, int, str | None]],
    keys: Mapping[str, list[Key]],
    chosen: str,
    task: str,
    beside: Beside,
) -> dict[str, str]:
    scorers: dict[tuple[str, str], str] = {}
    version = "/".join(part for part in (beside.version, beside.task_version) if part) or None
    for doc, name, metric, cell, line, picked in cells:
        if not (cell is None or is_number(cell)):
            out.note(f"the metric {metric!r} is not one number per document and is not used")
            continue
        if (name, metric) not in scorers:
            scorers[name, metric] = scorer(
                ":".join(part for part in ("lm-eval", task, metric) if part),
                version,
                parameters=None if name == "none" else {"filter": name},
            )
        shown_as = metric if name == chosen else f"{metric}@{name}"
        number = None if cell is None else finite(out, metric, cell, line)
        if picked == _INVALID and name == chosen:
            out.count(f"{{n}} scores rest on no answer found by the filter '{name}', which lm-eval counts as wrong")
        out.metric(keys[doc][0], shown_as, number, scorers[name, metric], evidence=picked)
        for key in keys[doc][1:]:
            out.metric(key, shown_as, None, scorers[name, metric], unscored=_TOGETHER)
    return out.settle()


def _responses(out: Collector, row: Row, line: int, beside: Beside) -> tuple[list[Key], bool]:
    """Record the answers of one document; whether they were generated."""
    context, settings = _arguments(row)
    texts = _texts(row)
    is_generation = isinstance(settings, Mapping) and bool(texts)
    decode = {**beside.decode, **(_decode(settings) if isinstance(settings, Mapping) else {})}
    reasons = row.get("finish_reason", row.get("stop_reason"))
    item = AnswerRow(
        line=line,
        text=None,
        turns=messages_of(context),
        source_id=as_name(row.get("doc_hash")) or as_name(row.get("doc_id")),
        decode=decode,
        model=beside.model,
        gold={} if row.get("target") is None else {"answer": shallow(row["target"])},
    )
    keys = []
    for index, text in enumerate(texts if is_generation else [None]):
        reason = reasons[index] if isinstance(reasons, list) and index < len(reasons) else reasons
        keys.append(out.add(replace(item, text=text, finish=None if isinstance(reason, list) else reason)))
    return keys, is_generation


def _doc_key(row: Row, line: int) -> str:
    parts = [as_name(row.get(name)) for name in ("doc_id", "doc_hash", "prompt_hash")]
    return "/".join(part for part in parts if part) or f"line {line}"


def _arguments(row: Row) -> tuple[Json, Json]:
    """(context, generation settings or continuation) of the first request of a document, in either layout."""
    arguments = row.get("arguments")
    if isinstance(arguments, dict):
        first = arguments.get("gen_args_0")
        return (first.get("arg_0"), first.get("arg_1")) if isinstance(first, dict) else (None, None)
    if isinstance(arguments, list) and arguments and isinstance(arguments[0], list) and arguments[0]:
        return arguments[0][0], arguments[0][1] if len(arguments[0]) > 1 else None
    return None, None


def _texts(row: Row) -> list[str]:
    """The generated answers: ``resps`` is a list per request of a list per repeat."""
    responses = row.get("resps")
    first = responses[0] if isinstance(responses, list) and responses else None
    repeats = first if isinstance(first, list) else [first]
    return [text for item in repeats if (text := as_text(item)) is not None]


def _first_text(value: Json) -> str | None:
    while isinstance(value, list) and value:
        value = value[0]
    return as_text(value)


def _metrics(row: Row) -> dict[str, Json]:
    named = row.get("metrics")
    if isinstance(named, list) and named:
        return {name: row.get(name) for name in named if isinstance(name, str)}
    return {name: cell for name, cell in row.items() if name not in _OWN}


def _decode(settings: Mapping[str, Json]) -> dict[str, Any]:
    decode: dict[str, Any] = {}
    for name in ("max_gen_toks", "max_new_tokens", "max_tokens"):
        if (budget := as_int(settings.get(name))) is not None:
            decode["max_new_tokens"] = budget
            break
    for name, convert in (("temperature", as_float), ("top_p", as_float), ("top_k", as_int), ("seed", as_int)):
        if (value := convert(settings.get(name))) is not None and value == value:  # not NaN
            decode[name] = value
    if settings.get("do_sample") is False:
        decode["temperature"] = 0.0
    stops = settings.get("until")
    if isinstance(stops, str):
        stops = [stops]
    if isinstance(stops, list):
        decode["stop"] = tuple(text for item in stops if (text := as_text(item)) is not None)
    return decode


def _name_parts(path: Path) -> tuple[str, str]:
    """(task, time stamp) as the file's name gives them; "" where it does not."""
    match = re.fullmatch(r"samples_(.+?)_(\d{4}-\d\d-\d\dT[\d.\-:]+)", path.stem)
    if match:
        return match[1], match[2]
    return "", ""


def _beside(file: InputFile, task: str, time: str, out: Collector, limits: Limits) -> Beside:
    folder = file.path.parent
    exact = folder / f"results_{time}.json"
    found = [exact] if time and exact.is_file() else sorted(folder.glob("results*.json"))
    fitting = []
    for path in found[:50]:
        try:
            document = InputFile(path, limits).document
        except InputError as error:
            out.note(f"the file {path.name} beside it cannot be used: {error.problem}")
            continue
        results = document.get("results") if isinstance(document, dict) else None
        if isinstance(results, dict) and (task in results or path == exact):
            fitting.append((path.name, document))
    if len(fitting) != 1:
        out.note(
            "no results_*.json of this run lies beside the file, so model, settings and harness version are not known"
            if not fitting
            else f"{len(fitting)} results files fit ({listing(name for name, _ in fitting)}), so none is used"
        )
        return Beside()
    return _read_beside(*fitting[0], task)


def _read_beside(name: str, document: Mapping[str, Json], task: str) -> Beside:
    config = _mapping(document.get("config"))
    arguments = _pairs(config.get("model_args"))
    decode = _decode(_pairs(config.get("gen_kwargs")))
    if (system := as_text(document.get("system_instruction"))) is not None:
        decode["system_prompt"] = system
    if (template := as_name(document.get("chat_template_sha"))) is not None:
        decode["chat_template"] = template
    model = {
        "repo": as_name(arguments.get("pretrained"))
        or as_name(arguments.get("model"))
        or as_name(document.get("model_name")),
        "revision": as_name(config.get("model_sha")) or as_name(arguments.get("revision")),
        "dtype": as_name(config.get("model_dtype")) or as_name(arguments.get("dtype")),
        "adapter_hash": as_name(arguments.get("peft")),
    }
    quantised = [bits for bits in ("load_in_4bit", "load_in_8bit") if str(arguments.get(bits)).lower() == "true"]
    if quantised:
        model["quantisation"] = quantised[0]
    counts = _mapping(_mapping(document.get("n-samples")).get(task))
    metrics = _mapping(_mapping(document.get("results")).get(task))
    return Beside(
        decode=decode,
        model={part: value for part, value in model.items() if value is not None},
        version=as_name(document.get("lm_eval_version")),
        task_version=as_name(_mapping(document.get("versions")).get(task)),
        created=iso_time(document.get("date")),
        metrics={key: value for key, value in metrics.items() if "_stderr" not in key and key != "alias"},
        n=as_int(counts.get("effective")),
        name=name,
    )  # fmt: skip


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}


def _pairs(value: Json) -> Mapping[str, Json]:
    """``a=1,b=x`` as a mapping; a mapping as it is."""
    if isinstance(value, str):
        split = (part.partition("=") for part in value.split(","))
        return {key.strip(): rest.strip() for key, mark, rest in split if mark}
    return _mapping(value)
