"""Raw server responses, one a line: OpenAI-style chat completions and batches, vLLM, llama.cpp."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from counterclaim.errors import InputError
from counterclaim.importers.collector import AnswerRow, Collector
from counterclaim.importers.columns import FAMILIES
from counterclaim.importers.files import InputFile, Row
from counterclaim.importers.values import (
    as_int,
    as_name,
    as_text,
    content_text,
    decode_of,
    iso_time,
    mapping_of,
    messages_of,
    objects_of,
    shown,
)
from counterclaim.records import Json, Message
from counterclaim.registry import importer

_AXES = ("correct", "delivery", "coverage")
_BUDGET = ("max_completion_tokens", "max_tokens", "max_new_tokens", "n_predict")
_LLAMA_STOPS = {"eos": "stop", "word": "stop", "limit": "length", "none": None}
_MOST_NEIGHBOURS = 50

Sent = tuple[tuple[Message, ...] | None, dict[str, Any]]
"""(the turns that were sent, the settings they were sent with)"""


def _first(file: InputFile) -> Row:
    return file.sample[0] if file.kind == "jsonl" and file.sample else {}


def _rows(file: InputFile, out: Collector) -> Iterator[tuple[int, Row]]:
    if file.kind != "jsonl":
        raise out.fail(f"{out.importer.name} responses are read as JSONL, one response a line")
    return file.rows()


def _is_openai(file: InputFile) -> bool:
    return file.kind == "jsonl" and any(
        _completion(row) is not None or ("custom_id" in row and ("response" in row or "error" in row))
        for row in file.sample[:3]
    )


@importer(
    "openai", about="OpenAI-style chat completions or batch output .jsonl (and requests beside it)", sniff=_is_openai
)
def read_openai(file: InputFile, out: Collector) -> None:
    """Read completions; the prompts come from the lines themselves or from a file of batch requests beside them."""
    requests: dict[str, Sent] | None = None
    for line, row in _rows(file, out):
        name = as_name(row.get("custom_id"))
        sent = _sent(row["request"] if isinstance(row.get("request"), dict) else row)
        if sent[0] is None and name is not None:
            if requests is None:
                requests = _requests_beside(file, out)
            sent = requests.get(name, sent)
        found = AnswerRow(line, None, turns=sent[0], source_id=name, decode=sent[1])
        body = _completion(row)
        error = _error(row) or ("the line holds no completion" if body is None else None)
        if error is not None or body is None:
            _emit(out, row, replace(found, error=error))
            continue
        out.created = out.created or iso_time(body.get("created"))
        choices = objects_of(body["choices"])
        if not choices:
            _emit(out, row, replace(found, error="the completion has no choices"))
        # Usage is summed over the choices of one request, so it says nothing of each of several.
        used = as_int(mapping_of(body.get("usage")).get("completion_tokens")) if len(choices) == 1 else None
        for choice in choices:
            message = mapping_of(choice.get("message"))
            text = content_text(message.get("content")) if message else as_text(choice.get("text"))
            finish = choice.get("finish_reason")
            _emit(out, row, replace(found, text=text, finish=finish, model=_repo(body.get("model")), n_tokens=used))


@importer("vllm", about="vLLM request outputs .jsonl", sniff=lambda file: isinstance(_first(file).get("outputs"), list))
def read_vllm(file: InputFile, out: Collector) -> None:
    """Read vLLM's request outputs; every output of a request is a sample."""
    for line, row in _rows(file, out):
        outputs = row.get("outputs")
        if not isinstance(outputs, list) or not outputs:
            raise out.fail("the row has no outputs", line)
        for answer in outputs:
            if not isinstance(answer, dict):
                raise out.fail(f"an output is {shown(answer)} and not an object", line)
            tokens = answer.get("token_ids")
            _emit(out, row, AnswerRow(
                line, as_text(answer.get("text")), turns=_turns(row), source_id=as_name(row.get("id")),
                finish=answer.get("finish_reason"), n_tokens=len(tokens) if isinstance(tokens, list) else None,
                decode=_settings(mapping_of(row.get("sampling_params"))), model=_repo(row.get("model")),
            ))  # fmt: skip


def _is_llama(file: InputFile) -> bool:
    first = _first(file)
    return "content" in first and bool({"stop_type", "generation_settings", "stopped_limit"} & set(first))


@importer("llama.cpp", about="llama.cpp server completions .jsonl", sniff=_is_llama)
def read_llama(file: InputFile, out: Collector) -> None:
    """Read llama.cpp completions. ``truncated`` speaks of the context only, so the stop type alone is used."""
    for line, row in _rows(file, out):
        settings = mapping_of(row.get("generation_settings"))
        if "stop_type" in row:
            word = as_name(row.get("stop_type"))
            finish = _LLAMA_STOPS.get(word or "none", word)
        else:
            ended = row.get("stopped_eos") is True or row.get("stopped_word") is True
            finish = "length" if row.get("stopped_limit") is True else "stop" if ended else None
        if row.get("truncated") is True:
            out.count("{n} prompts were cut to fit llama.cpp's context")
        _emit(out, row, AnswerRow(
            line, as_text(row.get("content")), turns=_turns(row), source_id=as_name(row.get("id")), finish=finish,
            n_tokens=as_int(row.get("tokens_predicted")), decode=_settings(settings),
            model=_repo(row.get("model") or settings.get("model")),
        ))  # fmt: skip


def _emit(out: Collector, row: Row, found: AnswerRow) -> None:
    if found.turns is None and out.request.pair_by == "prompt" and out.request.need_pairs:
        raise out.fail(
            "the line has no prompt, and rows are paired by the content of the prompt", found.line,
            "put the file of requests beside it, add the request to each line, or say with --pair-by id that custom ids "
            "name the same question in both files",
        )  # fmt: skip
    key = out.add(found)
    for column, cell in row.items():
        if column in _AXES or (column.startswith(FAMILIES) and column not in FAMILIES):
            scorer = f"imported:{out.importer.name}@unversioned"
            out.cell(key, column, column, cell, line=found.line, scorer=scorer)


def _completion(row: Row) -> Mapping[str, Json] | None:
    """The completion object of a line: bare, under ``response``, or in a batch's ``response.body``."""
    for value in (row, row.get("response"), mapping_of(row.get("response")).get("body")):
        if isinstance(value, dict) and isinstance(value.get("choices"), list):
            return value
    return None


def _error(row: Row) -> str | None:
    response = mapping_of(row.get("response"))
    error = row.get("error") or response.get("error") or mapping_of(response.get("body")).get("error")
    if error:
        return as_text(mapping_of(error).get("message")) or as_text(error) or shown(error)
    status = as_int(response.get("status_code"))
    return f"HTTP status {status}" if status is not None and status >= 400 else None


def _turns(body: Mapping[str, Json]) -> tuple[Message, ...] | None:
    return messages_of(body.get("messages")) or messages_of(body.get("prompt"))


def _sent(request: Mapping[str, Json]) -> Sent:
    body = mapping_of(request.get("body")) or request
    return _turns(body), _settings(body)


def _requests_beside(file: InputFile, out: Collector) -> dict[str, Sent]:
    """Prompts by custom id from the one file of batch requests in the same folder; empty where there is none."""
    found = []
    for path in islice(sorted(file.path.parent.glob("*.jsonl")), _MOST_NEIGHBOURS):
        if path.resolve() == file.path.resolve():
            continue
        try:
            other = InputFile(path, file.limits)
            first = next(iter(other.rows()), (0, {}))[1] if other.kind == "jsonl" else {}
        except InputError:
            continue
        if "custom_id" in first and isinstance(first.get("body"), dict) and "response" not in first:
            found.append(other)
    if len(found) != 1:
        if found:
            out.note(f"{len(found)} files of requests lie beside the answers, so none is used")
        return {}
    out.note(f"prompts are those of the requests in {found[0].path.name}")
    return {name: _sent(row) for _, row in found[0].rows() if (name := as_name(row.get("custom_id"))) is not None}


def _settings(body: Mapping[str, Json]) -> dict[str, Any]:
    """Decoding settings under the names that these servers use; a negative llama.cpp n_predict is no budget."""
    if "repeat_penalty" in body:
        body = {**body, "repetition_penalty": body["repeat_penalty"]}
    decode = decode_of(body, budget=_BUDGET, stop="stop")
    return {name: value for name, value in decode.items() if value != ()}


def _repo(value: Json) -> dict[str, str | None]:
    name = as_name(value)
    return {} if name is None else {"repo": name}
