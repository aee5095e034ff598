"""lm-evaluation-harness: ``samples_<task>_<time>.jsonl`` and the ``results_<time>.json`` beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from counterclaim.errors import InputError
from counterclaim.importers.collector import AnswerRow, Collector, Key
from counterclaim.importers.files import InputFile, Row
from counterclaim.importers.harnesses import NOTHING_GENERATED
from counterclaim.importers.values import (
    as_int,
    as_name,
    as_text,
    decode_of,
    is_number,
    iso_time,
    listing,
    mapping_of,
    messages_of,
    scorer_name,
    shallow,
    texts_of,
)
from counterclaim.records import Json
from counterclaim.registry import importer

_OWN = frozenset(
    {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash",
     "prompt_hash", "target_hash", "finish_reason", "stop_reason"}
)  # fmt: skip
_BUDGET = ("max_gen_toks", "max_new_tokens", "max_tokens")
_TOGETHER = "lm-eval scores the repeated answers to a document together"
_INVALID = "[invalid]"


@dataclass(frozen=True)
class RunInfo:
    """What a results file says of the run as a whole."""

    decode: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, str | None] = field(default_factory=dict)
    version: str | None = None
    created: str | None = None
    metrics: Mapping[str, Json] = field(default_factory=dict)
    n: int | None = None
    name: str = ""


@dataclass(frozen=True)
class _Metric:
    """One metric of one document under one filter."""

    doc: str
    filter: str
    name: str
    value: Json
    line: int
    picked: str | None


@importer(
    "lm-eval",
    about="lm-evaluation-harness samples_*.jsonl (and results_*.json beside it)",
    sniff=lambda file: (
        file.kind == "jsonl" and bool(file.sample) and {"doc", "arguments", "resps"} <= set(file.sample[0])
    ),
)
def read(file: InputFile, out: Collector) -> None:
    """Read the samples of one task.

    lm-eval writes one row per document and filter. The strictest filter gives the scores, the others are kept as
    ``score.METRIC@FILTER``. Prompts are paired by content; with ``pair_by="id"`` by ``doc_hash``, never ``doc_id``.
    """
    task, time = _name_parts(file.path)
    run = _run_info(file, task, time, out)
    out.created = run.created
    keys: dict[str, list[Key]] = {}
    seen: dict[tuple[str, str], int] = {}
    metrics: list[_Metric] = []
    out.no_generation = True
    for line, row in file.rows():
        name, doc = as_name(row.get("filter")) or "none", _doc_key(row, line)
        if (before := seen.setdefault((doc, name), line)) != line:
            problem = f"document {as_name(row.get('doc_id'))} with filter {name!r} is already on line {before}"
            raise out.fail(problem, line, "the file may hold two runs; split it")
        if doc not in keys:
            keys[doc] = _answers(out, row, line, run)
        picked = _first_text(row.get("filtered_resps"))
        metrics += [_Metric(doc, name, metric, cell, line, picked) for metric, cell in _metrics(row).items()]
    filters = dict.fromkeys(metric.filter for metric in metrics) or {"none": None}
    chosen = min(filters, key=lambda name: 0 if "strict" in name else 1 if name == "none" else 2)
    if len(filters) > 1:
        out.note(
            f"scores are those of the filter {chosen!r}; the others ({listing(f for f in filters if f != chosen)}) "
            "are kept as score.METRIC@FILTER"
        )
    if out.no_generation:
        out.note(NOTHING_GENERATED)
    else:
        out.note("lm-eval keeps no finish reason, and its answers are already cut at the stop strings")
    for metric in metrics:
        _score(out, metric, keys[metric.doc], chosen, task, run)
    axes = out.settle()
    for stated, value in run.metrics.items():
        name, _, filter_name = stated.partition(",")
        axis = axes.get(name if (filter_name or "none") == chosen else f"{name}@{filter_name}")
        if axis is not None:
            out.quote(axis, value, run.n, f"{run.name} {stated}")


def _score(out: Collector, metric: _Metric, keys: list[Key], chosen: str, task: str, run: RunInfo) -> None:
    if not (metric.value is None or is_number(metric.value)):
        out.note(f"the metric {metric.name!r} is not one number per document and is not used")
        return
    name = ":".join(part for part in ("lm-eval", task, metric.name) if part)
    scorer = scorer_name(name, run.version, parameters=None if metric.filter == "none" else {"filter": metric.filter})
    shown_as = metric.name if metric.filter == chosen else f"{metric.name}@{metric.filter}"
    number = None if metric.value is None else out.number(metric.name, metric.value, metric.line)
    if metric.picked == _INVALID and metric.filter == chosen:
        out.count(f"{{n}} scores rest on no answer found by the filter '{chosen}', which lm-eval counts as wrong")
    out.metric(keys[0], shown_as, number, scorer, evidence=metric.picked)
    for key in keys[1:]:
        out.metric(key, shown_as, None, scorer, unscored=_TOGETHER)


def _answers(out: Collector, row: Row, line: int, run: RunInfo) -> list[Key]:
    """Record the answers of one document."""
    context, settings = _arguments(row)
    texts = _texts(row) if isinstance(settings, dict) else []
    out.no_generation &= not texts
    found = AnswerRow(
        line, None, turns=messages_of(context), source_id=as_name(row.get("doc_hash")) or as_name(row.get("doc_id")),
        decode={**run.decode, **_decode(mapping_of(settings))}, model=run.model,
        gold={} if row.get("target") is None else {"answer": shallow(row["target"])},
    )  # fmt: skip
    reasons = row.get("finish_reason", row.get("stop_reason"))
    keys = []
    for index, text in enumerate(texts or [None]):
        reason = reasons[index] if isinstance(reasons, list) and index < len(reasons) else reasons
        keys.append(out.add(replace(found, text=text, finish=None if isinstance(reason, list) else reason)))
    return keys


def _doc_key(row: Row, line: int) -> str:
    parts = [as_name(row.get(name)) for name in ("doc_id", "doc_hash", "prompt_hash")]
    return "/".join(part for part in parts if part) or f"line {line}"


def _arguments(row: Row) -> tuple[Json, Json]:
    """(context, generation settings or continuation) of the first request of a document, in either layout."""
    arguments = row.get("arguments")
    if isinstance(arguments, dict):
        first = mapping_of(arguments.get("gen_args_0"))
        return first.get("arg_0"), first.get("arg_1")
    if isinstance(arguments, list) and arguments and isinstance(arguments[0], list) and arguments[0]:
        return arguments[0][0], arguments[0][1] if len(arguments[0]) > 1 else None
    return None, None


def _texts(row: Row) -> list[str]:
    """The generated answers: ``resps`` is a list per request of a list per repeat."""
    responses = row.get("resps")
    first = responses[0] if isinstance(responses, list) and responses else None
    return texts_of(first if isinstance(first, list) else [first])


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
    decode = decode_of(settings, budget=_BUDGET, stop="until")
    return {**decode, "temperature": 0.0} if settings.get("do_sample") is False else decode


def _name_parts(path: Path) -> tuple[str, str]:
    """(task, time stamp) as the file's name gives them; "" where it does not."""
    match = re.fullmatch(r"samples_(.+?)_(\d{4}-\d\d-\d\dT[\d.\-:]+)", path.stem)
    return (match[1], match[2]) if match else ("", "")


def _run_info(file: InputFile, task: str, time: str, out: Collector) -> RunInfo:
    """What the one results file of this run in the same folder says; nothing where there is none."""
    folder = file.path.parent
    exact = folder / f"results_{time}.json"
    fitting = []
    for path in [exact] if time and exact.is_file() else sorted(folder.glob("results*.json"))[:50]:
        try:
            document = mapping_of(InputFile(path, file.limits).document)
        except InputError as error:
            out.note(f"the file {path.name} beside it cannot be used: {error.problem}")
            continue
        results = document.get("results")
        if isinstance(results, dict) and (task in results or path == exact):
            fitting.append((path.name, document))
    if len(fitting) == 1:
        return _from_results(*fitting[0], task)
    out.note(
        f"{len(fitting)} results files fit ({listing(name for name, _ in fitting)}), so none is used"
        if fitting
        else "no results_*.json of this run lies beside the file, so model, settings and harness version are not known"
    )
    return RunInfo()


def _from_results(name: str, document: Mapping[str, Json], task: str) -> RunInfo:
    config = mapping_of(document.get("config"))
    arguments = _pairs(config.get("model_args"))

    def first(*values: Json) -> str | None:
        return next((found for value in values if (found := as_name(value))), None)

    def of_task(table: str) -> Json:
        return mapping_of(document.get(table)).get(task)

    model = {
        "repo": first(arguments.get("pretrained"), arguments.get("model"), document.get("model_name")),
        "revision": first(config.get("model_sha"), arguments.get("revision")),
        "dtype": first(config.get("model_dtype"), arguments.get("dtype")),
        "adapter_hash": first(arguments.get("peft")),
        "quantisation": next(
            (bits for bits in ("load_in_4bit", "load_in_8bit") if str(arguments.get(bits)).lower() == "true"), None
        ),
    }
    prompts = {
        "system_prompt": as_text(document.get("system_instruction")),
        "chat_template": first(document.get("chat_template_sha")),
    }
    versions = (as_name(document.get("lm_eval_version")), as_name(of_task("versions")))
    metrics = mapping_of(of_task("results"))
    return RunInfo(
        decode={**_decode(_pairs(config.get("gen_kwargs"))), **{k: v for k, v in prompts.items() if v is not None}},
        model={part: value for part, value in model.items() if value is not None},
        version="/".join(part for part in versions if part) or None,
        created=iso_time(document.get("date")),
        metrics={key: value for key, value in metrics.items() if "_stderr" not in key and key != "alias"},
        n=as_int(mapping_of(of_task("n-samples")).get("effective")),
        name=name,
    )  # fmt: skip


def _pairs(value: Json) -> Mapping[str, Json]:
    """``a=1,b=x`` as a mapping; a mapping as it is."""
    if isinstance(value, str):
        split = (part.partition("=") for part in value.split(","))
        return {key.strip(): rest.strip() for key, mark, rest in split if mark}
    return mapping_of(value)
