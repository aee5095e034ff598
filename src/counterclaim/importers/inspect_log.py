"""Inspect logs: ``.eval`` archives and ``.json`` logs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from counterclaim.errors import InputError
from counterclaim.importers.archive import Archive, open_archive
from counterclaim.importers.collect import AnswerRow, Collector, Key
from counterclaim.importers.imported import Limits
from counterclaim.importers.reading import InputFile
from counterclaim.importers.scorers import scorer
from counterclaim.importers.values import (
    as_float,
    as_int,
    as_name,
    as_text,
    content_text,
    is_number,
    iso_time,
    listing,
    messages_of,
    shallow,
)
from counterclaim.records import Json, Message
from counterclaim.registry import importer

_LETTERS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
_ATTACHMENT = "attachment://"
_NO_VALUE = "the scorer gave no value"
_CUTTING_LIMITS = frozenset({"token", "context", "message", "time", "working", "turn", "cost"})


def recognises(file: InputFile) -> bool:
    """A zip with a header or journal and samples, or a JSON document with ``eval`` and ``samples``."""
    if file.kind == "zip":
        with open_archive(file.path, file.limits) as archive:
            return any(name in ("header.json", "_journal/start.json") for name in archive.names)
    if file.kind != "json" or not isinstance(file.document, dict):
        return False
    return isinstance(file.document.get("eval"), dict) and "plan" in file.document


@importer("inspect", about="Inspect logs: .eval, or .json with samples", sniff=recognises)
def read(file: InputFile, out: Collector) -> None:
    """Read every sample of a log.

    Scorers that grade with letters (C, I, P, N as 1, 0, .5, 0) say right or wrong: the first one that never gives
    a part mark is ``correct``. Other values become ``score.SCORER`` or ``label.SCORER``.
    """
    if file.kind == "zip":
        with open_archive(file.path, file.limits) as archive:
            _Log(out, _header(archive)).read(_archived(archive, file.limits))
        return
    if file.kind != "json" or not isinstance(file.document, dict):
        raise InputError("this is not an Inspect log", path=file.path, remedy="name a .eval file or a .json log")
    samples = file.document.get("samples")
    if not isinstance(samples, list):
        raise InputError(
            "the log holds no samples", path=file.path, remedy="it may be a header only; export the full log"
        )
    _Log(out, file.document).read(enumerate(samples, start=1))


def _header(archive: Archive) -> Mapping[str, Json]:
    for name in ("header.json", "_journal/start.json"):
        if name in archive.names:
            header = _entry(archive, name)
            return header if isinstance(header, dict) else {}
    raise InputError("the archive is not an Inspect log (it has no header)", path=archive.path)


def _archived(archive: Archive, limits: Limits) -> Iterator[tuple[int, Json]]:
    names = [name for name in archive.names if name.startswith("samples/") and name.endswith(".json")]
    if len(names) > limits.max_rows:
        raise InputError(f"the log holds more than {limits.max_rows:,} samples", path=archive.path)
    for number, name in enumerate(names, start=1):
        yield number, _entry(archive, name)


def _entry(archive: Archive, name: str) -> Json:
    try:
        return json.loads(archive.read(name).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"the entry {name!r} is not readable JSON", path=archive.path) from error


class _Log:
    """One log while it is read."""

    def __init__(self, out: Collector, header: Mapping[str, Json]) -> None:
        self._out = out
        self._header = header
        self._eval = _mapping(header.get("eval"))
        plan = _mapping(header.get("plan"))
        self._decode = _decode(_mapping(self._eval.get("model_generate_config")), _mapping(plan.get("config")))
        self._model = self._model_ref()
        self._lettered: dict[str, None] = {}
        self._scorers = {as_name(s.get("name")) or "": s for s in _rows(self._eval.get("scorers"))}
        self._named: dict[str, str] = {}
        self._ids: dict[tuple[Message, ...] | None, dict[str | None, int]] = {}
        self._out.created = iso_time(self._eval.get("created"))

    def read(self, samples: Iterator[tuple[int, Json]]) -> None:
        status = self._header.get("status")
        if status != "success":
            self._out.note(f"the log's status is {as_name(status) or 'not given'!r}: samples may be missing")
        if (self._model.get("repo") or "").startswith("hf/"):
            self._out.note(
                "Inspect's hf provider counts the padded batch's tokens and knows no stop reason; its counts are not used"
            )
        for number, sample in samples:
            if not isinstance(sample, dict):
                raise self._out.fail(f"sample {number} is not an object", number)
            self._sample(number, sample)
        order = [name for name in self._scorers if name in self._lettered]
        axes = self._out.settle(right_or_wrong=(*order, *self._lettered))
        self._quote(axes)

    def _model_ref(self) -> dict[str, str | None]:
        arguments = _mapping(self._eval.get("model_args"))
        model = {
            "repo": as_name(self._eval.get("model")),
            "revision": as_name(arguments.get("revision")),
            "dtype": as_name(arguments.get("dtype")) or as_name(arguments.get("torch_dtype")),
        }
        return {part: value for part, value in model.items() if value is not None}

    def _sample(self, number: int, sample: Mapping[str, Json]) -> None:
        attachments = _mapping(sample.get("attachments"))
        turns = messages_of(_attached(sample.get("input"), attachments))
        choices = sample.get("choices")
        if turns and isinstance(choices, list) and choices:
            options = "\n".join(f"- {text}" for item in choices if (text := as_text(item)) is not None)
            turns = (*turns[:-1], Message(turns[-1].role, f"{turns[-1].content}\n\n{options}"))
        output = _mapping(_attached(sample.get("output"), attachments))
        choice = next(iter(_rows(output.get("choices"))), {})
        text = content_text(_mapping(choice.get("message")).get("content"))
        if text is None:
            text = as_text(output.get("completion")) if choice else None
        error = _mapping(sample.get("error")).get("message")
        decode = dict(self._decode)
        system = [
            turn for turn in messages_of(_attached(sample.get("messages"), attachments)) or () if turn.role == "system"
        ]
        if system:
            decode["system_prompt"] = "\n\n".join(turn.content for turn in system)
        epoch = as_int(sample.get("epoch"))
        key = self._out.add(
            AnswerRow(
                line=number,
                text=text,
                turns=turns,
                source_id=as_name(sample.get("id")),
                sample=self._number(turns, as_name(sample.get("id")), epoch),
                finish=self._finish(sample, choice),
                error=(as_text(error) or "error") if error is not None else self._no_output(choice, output),
                n_tokens=self._tokens(output),
                decode=decode,
                model=self._model,
                gold={} if sample.get("target") in (None, "", []) else {"answer": shallow(sample["target"])},
            )
        )
        if epoch is not None and epoch > 1:
            self._out.note("epochs are read as samples of one prompt")
        for name, score in _mapping(sample.get("scores")).items():
            self._score(key, name, _mapping(score))

    def _number(self, turns: tuple[Message, ...] | None, name: str | None, epoch: int | None) -> int | None:
        """Epoch 1 is sample 0; ids that share a prompt take turns of as many samples as there are epochs."""
        if epoch is None or epoch < 1:
            return None
        ids = self._ids.setdefault(turns, {})
        turn = ids.setdefault(name, len(ids))
        epochs = as_int(_mapping(self._eval.get("config")).get("epochs")) or 1
        return turn * max(epochs, 1) + epoch - 1

    def _finish(self, sample: Mapping[str, Json], choice: Mapping[str, Json]) -> Json:
        limit = as_name(_mapping(sample.get("limit")).get("type"))
        if limit in _CUTTING_LIMITS:
            self._out.count(f"{{n}} samples were ended by Inspect's {limit} limit and are read as cut")
            return "length"
        return choice.get("stop_reason")

    def _no_output(self, choice: Mapping[str, Json], output: Mapping[str, Json]) -> str | None:
        if choice:
            return None
        return as_text(output.get("error")) or "the log holds no output for this sample"

    def _tokens(self, output: Mapping[str, Json]) -> int | None:
        if (self._model.get("repo") or "").startswith("hf/"):
            return None
        n_tokens = as_int(_mapping(output.get("usage")).get("output_tokens"))
        return n_tokens if n_tokens else None

    def _scorer(self, name: str) -> str:
        if name not in self._named:
            version = as_name(_mapping(self._eval.get("packages")).get("inspect_ai"))
            options = _mapping(_mapping(self._scorers.get(name)).get("options"))
            self._named[name] = scorer(name, f"inspect_ai-{version}" if version else None, prompt=dict(options) or None)
        return self._named[name]

    def _score(self, key: Key, name: str, score: Mapping[str, Json]) -> None:
        value = score.get("value")
        reason = as_text(score.get("reason")) or as_text(_mapping(score.get("metadata")).get("unscored_reason"))
        evidence = as_text(score.get("explanation"))
        named = value.items() if isinstance(value, dict) else [("", value)]
        for part, cell in named:
            self._value(key, f"{name}.{part}" if part else name, self._scorer(name), cell, reason, evidence)

    def _value(
        self, key: Key, name: str, scorer_name: str, cell: Json, reason: str | None, evidence: str | None
    ) -> None:
        if isinstance(cell, str) and cell in _LETTERS and not (reason and cell == "N"):
            self._lettered[name] = None
            if cell == "P":
                self._out.count("{n} part marks (P) are read as 0.5")
            self._out.metric(key, name, _LETTERS[cell], scorer_name, evidence=evidence)
        elif cell is None or cell == "N" or (isinstance(cell, float) and math.isnan(cell)):
            # Inspect's own sign for "not scored" is NaN.
            self._out.metric(key, name, None, scorer_name, unscored=reason or _NO_VALUE, evidence=evidence)
        elif is_number(cell):
            number = as_float(cell)
            if number is None or math.isinf(number):
                raise self._out.fail(f"the score {name!r} holds an infinite number, which is not a score")
            self._out.metric(key, name, number, scorer_name, evidence=evidence)
        elif isinstance(cell, str) and (label := as_name(cell)) is not None:
            self._out.score(key, f"label.{name}", label, scorer_name, evidence=evidence)
        else:
            self._out.note(f"values of the scorer {name!r} are neither numbers nor texts and are not used")

    def _quote(self, axes: Mapping[str, str]) -> None:
        results = _mapping(self._header.get("results"))
        skipped = []
        for score in _rows(results.get("scores")):
            name = as_name(score.get("name")) or ""
            if as_name(score.get("reducer")) not in (None, "mean"):
                continue
            for metric, held in _mapping(score.get("metrics")).items():
                if metric.split("/")[-1] in ("accuracy", "mean") and name in axes:
                    n = as_int(score.get("scored_samples"))
                    self._out.quote(axes[name], _mapping(held).get("value"), n, f"results.scores.{name}.{metric}")
                elif metric.split("/")[-1] not in ("stderr", "std", "var"):
                    skipped.append(f"{name}.{metric}")
        if skipped:
            self._out.note(f"numbers of the log that name no axis here: {listing(skipped)}")


def _decode(*configs: Mapping[str, Json]) -> dict[str, Any]:
    """Generation settings, the later configuration first in command."""
    decode: dict[str, Any] = {}
    for config in configs:
        for source, name, convert in (
            ("max_tokens", "max_new_tokens", as_int),
            ("temperature", "temperature", as_float),
            ("top_p", "top_p", as_float),
            ("top_k", "top_k", as_int),
            ("presence_penalty", "presence_penalty", as_float),
            ("seed", "seed", as_int),
            ("system_message", "system_prompt", as_text),
        ):
            value = convert(config.get(source))
            if value is not None and value == value:
                decode[name] = value
        stops = config.get("stop_seqs")
        if isinstance(stops, list):
            decode["stop"] = tuple(text for item in stops if (text := as_text(item)) is not None)
    return decode


def _attached(value: Json, attachments: Mapping[str, Json]) -> Json:
    """``value`` with ``attachment://HASH`` texts replaced by what they stand for."""
    if not attachments:
        return value
    if isinstance(value, str):
        return attachments.get(value[len(_ATTACHMENT) :], value) if value.startswith(_ATTACHMENT) else value
    if isinstance(value, list):
        return [_attached(item, attachments) for item in value]
    if isinstance(value, dict):
        return {key: _attached(item, attachments) for key, item in value.items()}
    return value


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}


def _rows(value: Json) -> list[Mapping[str, Json]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
