"""Raw server responses, one a line: OpenAI-style chat completions and batches, vLLM, llama.cpp."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from counterclaim.errors import InputError
from counterclaim.importers.axes import score_cell
from counterclaim.importers.collect import AnswerRow, Collector
from counterclaim.importers.columns import FAMILIES
from counterclaim.importers.reading import InputFile, Row
from counterclaim.importers.values import (
    as_float,
    as_int,
    as_name,
    as_text,
    content_text,
    iso_time,
    messages_of,
    shown,
)
from counterclaim.records import Json, Message
from counterclaim.registry import importer

_AXES = ("correct", "delivery", "coverage")
_LLAMA_STOPS = {"eos": "stop", "word": "stop", "limit": "length", "none": None}
_MOST_NEIGHBOURS = 50
_NO_PROMPT = (
    "put the file of requests beside it, add the request to each line, or say with --pair-by id that custom ids "
    "name the same question in both files"
)

Asked = tuple[tuple[Message, ...] | None, dict[str, Any]]
"""(the turns that were sent, the settings they were sent with)"""


def recognises_openai(file: InputFile) -> bool:
    """JSONL of chat or text completions, bare, under ``response``, or as batch lines."""
    return (
        file.kind == "jsonl"
        and bool(file.sample)
        and any(_completion(row) is not None or _is_batch(row) for row in file.sample[:3])
    )


def recognises_vllm(file: InputFile) -> bool:
    """JSONL of vLLM's RequestOutput: a prompt and its ``outputs``."""
    return file.kind == "jsonl" and bool(file.sample) and isinstance(file.sample[0].get("outputs"), list)


def recognises_llama(file: InputFile) -> bool:
    """JSONL of llama.cpp's own ``/completion`` responses."""
    first = file.sample[0] if file.kind == "jsonl" and file.sample else {}
    return "content" in first and bool({"stop_type", "generation_settings", "stopped_limit"} & set(first))


@importer(
    "openai",
    about="OpenAI-style chat completions or batch output .jsonl (and requests beside it)",
    sniff=recognises_openai,
)
def read_openai(file: InputFile, out: Collector) -> None:
    """Read completions; the prompts come from the lines themselves or from a file of batch requests beside them."""
    _check_kind(file, out)
    requests: dict[str, Asked] | None = None
    for line, row in file.rows():
        name = as_name(row.get("custom_id"))
        asked = _asked(row.get("request")) if isinstance(row.get("request"), dict) else _asked(row)
        if asked[0] is None and name is not None:
            if requests is None:
                requests = _requests_beside(file, out)
            asked = requests.get(name, asked)
        _completion_row(out, line, row, name, asked)


@importer("vllm", about="vLLM request outputs .jsonl", sniff=recognises_vllm)
def read_vllm(file: InputFile, out: Collector) -> None:
    """Read vLLM's request outputs; every output of a request is a sample."""
    _check_kind(file, out)
    for line, row in file.rows():
        turns = messages_of(row.get("messages")) or messages_of(row.get("prompt"))
        outputs = row.get("outputs")
        if not isinstance(outputs, list) or not outputs:
            raise out.fail("the row has no outputs", line)
        for answer in outputs:
            if not isinstance(answer, dict):
                raise out.fail(f"an output is {shown(answer)} and not an object", line)
            tokens = answer.get("token_ids")
            _emit(out, row, AnswerRow(
                line=line, text=as_text(answer.get("text")), turns=turns, source_id=as_name(row.get("id")),
                finish=answer.get("finish_reason"), n_tokens=len(tokens) if isinstance(tokens, list) else None,
                decode=_settings(_mapping(row.get("sampling_params"))), model=_repo(row.get("model")),
            ))  # fmt: skip


@importer("llama.cpp", about="llama.cpp server completions .jsonl", sniff=recognises_llama)
def read_llama(file: InputFile, out: Collector) -> None:
    """Read llama.cpp completions. ``truncated`` speaks of the context only, so the stop type alone is used."""
    _check_kind(file, out)
    for line, row in file.rows():
        settings = _mapping(row.get("generation_settings"))
        if "stop_type" in row:
            word = as_name(row.get("stop_type"))
            finish = _LLAMA_STOPS.get(word or "none", word)
        else:
            ended = row.get("stopped_eos") is True or row.get("stopped_word") is True
            finish = "length" if row.get("stopped_limit") is True else "stop" if ended else None
        if row.get("truncated") is True:
            out.count("{n} prompts were cut to fit llama.cpp's context")
        _emit(out, row, AnswerRow(
            line=line, text=as_text(row.get("content")), turns=messages_of(row.get("messages")) or messages_of(row.get("prompt")),
            source_id=as_name(row.get("id")), finish=finish, n_tokens=as_int(row.get("tokens_predicted")),
            decode=_settings(settings), model=_repo(row.get("model") or settings.get("model")),
        ))  # fmt: skip


def _check_kind(file: InputFile, out: Collector) -> None:
    if file.kind != "jsonl":
        raise out.fail(f"{out.format} responses are read as JSONL, one response a line")


def _completion_row(out: Collector, line: int, row: Row, name: str | None, asked: Asked) -> None:
    turns, settings = asked
    item = AnswerRow(line=line, text=None, turns=turns, source_id=name, decode=settings)
    error = _error(row)
    body = _completion(row)
    if error is None and body is None:
        error = "the line holds no completion"
    if error is not None or body is None:
        _emit(out, row, replace(item, error=error))
        return
    out.created = out.created or iso_time(body.get("created"))
    choices = [choice for choice in body["choices"] if isinstance(choice, dict)]
    if not choices:
        _emit(out, row, replace(item, error="the completion has no choices"))
    used = as_int(_mapping(body.get("usage")).get("completion_tokens"))
    for choice in choices:
        message = _mapping(choice.get("message"))
        text = content_text(message.get("content")) if message else as_text(choice.get("text"))
        _emit(out, row, replace(
            item, text=text, finish=choice.get("finish_reason"), model=_repo(body.get("model")),
            # Usage is summed over the choices of one request, so it says nothing of each of several.
            n_tokens=used if len(choices) == 1 else None,
        ))  # fmt: skip


def _emit(out: Collector, row: Row, item: AnswerRow) -> None:
    if item.turns is None and out.request.pair_by == "prompt" and out.request.need_pairs:
        raise out.fail(
            "the line has no prompt, and rows are paired by the content of the prompt", item.line, _NO_PROMPT
        )
    key = out.add(item)
    for column, cell in row.items():
        if column in _AXES or (column.startswith(FAMILIES) and column not in FAMILIES):
            score_cell(out, key, column, column, cell, line=item.line, scorer=f"imported:{out.format}@unversioned")


def _completion(row: Row) -> Mapping[str, Json] | None:
    """The completion object of a line: bare, under ``response``, or in a batch's ``response.body``."""
    for value in (row, row.get("response"), _mapping(row.get("response")).get("body")):
        if isinstance(value, dict) and isinstance(value.get("choices"), list):
            return value
    return None


def _is_batch(row: Row) -> bool:
    return "custom_id" in row and ("response" in row or "error" in row)


def _error(row: Row) -> str | None:
    response = _mapping(row.get("response"))
    held = row.get("error") or response.get("error") or _mapping(response.get("body")).get("error")
    if held:
        return as_text(_mapping(held).get("message")) or as_text(held) or shown(held)
    status = as_int(response.get("status_code"))
    return f"HTTP status {status}" if status is not None and status >= 400 else None


def _asked(request: Json) -> Asked:
    held = _mapping(request)
    body = _mapping(held.get("body")) or held
    turns = messages_of(body.get("messages")) or messages_of(body.get("prompt"))
    return turns, _settings(body)


def _requests_beside(file: InputFile, out: Collector) -> dict[str, Asked]:
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
    return {name: _asked(row) for _, row in found[0].rows() if (name := as_name(row.get("custom_id"))) is not None}


def _settings(body: Mapping[str, Json]) -> dict[str, Any]:
    """Decoding settings under the names that these servers use; a negative llama.cpp n_predict is no budget."""
    decode: dict[str, Any] = {}
    budget = next(
        (n for key in ("max_completion_tokens", "max_tokens", "max_new_tokens", "n_predict")
         if (n := as_int(body.get(key))) is not None and n > 0),
        None,
    )  # fmt: skip
    if budget is not None:
        decode["max_new_tokens"] = budget
    readers: dict[str, tuple[str, Callable[[Json], Any]]] = {
        "temperature": ("temperature", as_float),
        "top_p": ("top_p", as_float),
        "top_k": ("top_k", as_int),
        "presence_penalty": ("presence_penalty", as_float),
        "repetition_penalty": ("repetition_penalty", as_float),
        "repeat_penalty": ("repetition_penalty", as_float),
        "seed": ("seed", as_int),
    }
    for key, (name, convert) in readers.items():
        value = convert(body.get(key))
        if value is not None and value == value:  # not NaN
            decode[name] = value
    stop = body.get("stop")
    if isinstance(stop, str):
        stop = [stop]
    if isinstance(stop, list) and stop:
        decode["stop"] = tuple(text for item in stop if (text := as_text(item)) is not None)
    return decode


def _repo(value: Json) -> dict[str, str | None]:
    name = as_name(value)
    return {} if name is None else {"repo": name}


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}
