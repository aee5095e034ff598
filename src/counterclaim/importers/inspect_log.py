"""Inspect logs: ``.eval`` archives and ``.json`` logs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from counterclaim.importers.archive import Archive, open_archive
from counterclaim.importers.collector import AnswerRow, Collector, Key
from counterclaim.importers.files import InputFile
from counterclaim.importers.values import (
    as_float,
    as_int,
    as_name,
    as_text,
    content_text,
    decode_of,
    is_number,
    iso_time,
    listing,
    mapping_of,
    messages_of,
    objects_of,
    scorer_name,
    shallow,
    texts_of,
)
from counterclaim.records import Json, Message
from counterclaim.registry import importer

_LETTERS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
_HEADERS = ("header.json", "_journal/start.json")
_ATTACHMENT = "attachment://"
_NO_VALUE = "the scorer gave no value"
_CUTTING_LIMITS = frozenset({"token", "context", "message", "time", "working", "turn", "cost"})


def _is_inspect(file: InputFile) -> bool:
    if file.kind == "zip":
        with open_archive(file) as archive:
            return any(name in archive.names for name in _HEADERS)
    document = mapping_of(file.document) if file.kind == "json" else {}
    return isinstance(document.get("eval"), dict) and "plan" in document


@importer("inspect", about="Inspect logs: .eval, or .json with samples", sniff=_is_inspect)
def read(file: InputFile, out: Collector) -> None:
    """Read every sample of a log.

    Scorers that grade with letters (C, I, P, N as 1, 0, .5, 0) say right or wrong: the first one that never gives
    a part mark is ``correct``. Other values become ``score.SCORER`` or ``label.SCORER``.
    """
    if file.kind == "zip":
        with open_archive(file) as archive:
            header = next((name for name in _HEADERS if name in archive.names), None)
            if header is None:
                raise out.fail("the archive is not an Inspect log (it has no header)")
            _Log(out, mapping_of(_entry(archive, header))).read(_samples(archive))
        return
    if file.kind != "json" or not isinstance(file.document, dict):
        raise out.fail("this is not an Inspect log", remedy="name a .eval file or a .json log")
    samples = file.document.get("samples")
    if not isinstance(samples, list):
        raise out.fail("the log holds no samples", remedy="it may be a header only; export the full log")
    _Log(out, file.document).read(enumerate(samples, start=1))


def _samples(archive: Archive) -> Iterator[tuple[int, Json]]:
    names = [name for name in archive.names if name.startswith("samples/") and name.endswith(".json")]
    if len(names) > archive.file.limits.max_rows:
        raise archive.file.fail(f"the log holds more than {archive.file.limits.max_rows:,} samples")
    for number, name in enumerate(names, start=1):
        yield number, _entry(archive, name)


def _entry(archive: Archive, name: str) -> Json:
    try:
        return json.loads(archive.read(name).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise archive.file.fail(f"the entry {name!r} is not readable JSON") from error


class _Log:
    """One log while it is read."""

    def __init__(self, out: Collector, header: Mapping[str, Json]) -> None:
        self._out = out
        self._header = header
        self._eval = mapping_of(header.get("eval"))
        plan = mapping_of(header.get("plan"))
        self._decode = {
            **_decode(mapping_of(self._eval.get("model_generate_config"))),
            **_decode(mapping_of(plan.get("config"))),
        }
        arguments = mapping_of(self._eval.get("model_args"))
        model = {
            "repo": as_name(self._eval.get("model")),
            "revision": as_name(arguments.get("revision")),
            "dtype": as_name(arguments.get("dtype")) or as_name(arguments.get("torch_dtype")),
        }
        self._model = {part: value for part, value in model.items() if value is not None}
        self._counts_padding = (model["repo"] or "").startswith("hf/")
        self._lettered: dict[str, None] = {}
        self._scorers = {as_name(s.get("name")) or "": s for s in objects_of(self._eval.get("scorers"))}
        self._named: dict[str, str] = {}
        self._ids: dict[tuple[Message, ...] | None, dict[str | None, int]] = {}
        out.created = iso_time(self._eval.get("created"))

    def read(self, samples: Iterator[tuple[int, Json]]) -> None:
        status = self._header.get("status")
        if status != "success":
            self._out.note(f"the log's status is {as_name(status) or 'not given'!r}: samples may be missing")
        if self._counts_padding:
            self._out.note(
                "Inspect's hf provider counts the padded batch's tokens and knows no stop reason; its counts are not used"
            )
        for number, sample in samples:
            if not isinstance(sample, dict):
                raise self._out.fail(f"sample {number} is not an object", number)
            self._sample(number, sample)
        order = [name for name in self._scorers if name in self._lettered]
        self._quote(self._out.settle(right_or_wrong=(*order, *self._lettered)))

    def _sample(self, number: int, sample: Mapping[str, Json]) -> None:
        attachments = mapping_of(sample.get("attachments"))
        turns = messages_of(_attached(sample.get("input"), attachments))
        choices = sample.get("choices")
        if turns and isinstance(choices, list) and choices:
            options = "\n".join(f"- {text}" for text in texts_of(choices))
            turns = (*turns[:-1], Message(turns[-1].role, f"{turns[-1].content}\n\n{options}"))
        output = mapping_of(_attached(sample.get("output"), attachments))
        choice = next(iter(objects_of(output.get("choices"))), {})
        text = content_text(mapping_of(choice.get("message")).get("content"))
        if text is None and choice:
            text = as_text(output.get("completion"))
        messages = messages_of(_attached(sample.get("messages"), attachments)) or ()
        system = [turn.content for turn in messages if turn.role == "system"]
        name, epoch = as_name(sample.get("id")), as_int(sample.get("epoch"))
        tokens = None if self._counts_padding else as_int(mapping_of(output.get("usage")).get("output_tokens"))
        key = self._out.add(
            AnswerRow(
                number,
                text,
                turns=turns,
                source_id=name,
                sample=self._number(turns, name, epoch),
                finish=self._finish(sample, choice),
                error=self._error(sample, choice, output),
                n_tokens=tokens or None,
                decode={**self._decode, **({"system_prompt": "\n\n".join(system)} if system else {})},
                model=self._model,
                gold={} if sample.get("target") in (None, "", []) else {"answer": shallow(sample["target"])},
            )
        )
        if epoch is not None and epoch > 1:
            self._out.note("epochs are read as samples of one prompt")
        for name, score in mapping_of(sample.get("scores")).items():
            self._score(key, name, mapping_of(score))

    def _number(self, turns: tuple[Message, ...] | None, name: str | None, epoch: int | None) -> int | None:
        """Epoch 1 is sample 0; ids that share a prompt take turns of as many samples as there are epochs."""
        if epoch is None or epoch < 1:
            return None
        ids = self._ids.setdefault(turns, {})
        turn = ids.setdefault(name, len(ids))
        epochs = as_int(mapping_of(self._eval.get("config")).get("epochs")) or 1
        return turn * max(epochs, 1) + epoch - 1

    def _finish(self, sample: Mapping[str, Json], choice: Mapping[str, Json]) -> Json:
        limit = as_name(mapping_of(sample.get("limit")).get("type"))
        if limit in _CUTTING_LIMITS:
            self._out.count(f"{{n}} samples were ended by Inspect's {limit} limit and are read as cut")
            return "length"
        return choice.get("stop_reason")

    def _error(self, sample: Mapping[str, Json], choice: Mapping[str, Json], output: Mapping[str, Json]) -> str | None:
        error = mapping_of(sample.get("error")).get("message")
        if error is not None:
            return as_text(error) or "error"
        return None if choice else as_text(output.get("error")) or "the log holds no output for this sample"

    def _scorer(self, name: str) -> str:
        if name not in self._named:
            version = as_name(mapping_of(self._eval.get("packages")).get("inspect_ai"))
            options = mapping_of(mapping_of(self._scorers.get(name)).get("options"))
            version = f"inspect_ai-{version}" if version else None
            self._named[name] = scorer_name(name, version, prompt=dict(options) or None)
        return self._named[name]

    def _score(self, key: Key, name: str, score: Mapping[str, Json]) -> None:
        value = score.get("value")
        reason = as_text(score.get("reason")) or as_text(mapping_of(score.get("metadata")).get("unscored_reason"))
        evidence = as_text(score.get("explanation"))
        for part, cell in value.items() if isinstance(value, dict) else [("", value)]:
            self._value(key, f"{name}.{part}" if part else name, self._scorer(name), cell, reason, evidence)

    def _value(self, key: Key, name: str, scorer: str, cell: Json, reason: str | None, evidence: str | None) -> None:
        if isinstance(cell, str) and cell in _LETTERS and not (reason and cell == "N"):
            self._lettered[name] = None
            if cell == "P":
                self._out.count("{n} part marks (P) are read as 0.5")
            self._out.metric(key, name, _LETTERS[cell], scorer, evidence=evidence)
        elif cell is None or cell == "N" or (isinstance(cell, float) and math.isnan(cell)):
            # Inspect's own sign for "not scored" is NaN.
            self._out.metric(key, name, None, scorer, unscored=reason or _NO_VALUE, evidence=evidence)
        elif is_number(cell):
            number = as_float(cell)
            if number is None or math.isinf(number):
                raise self._out.fail(f"the score {name!r} holds an infinite number, which is not a score")
            self._out.metric(key, name, number, scorer, evidence=evidence)
        elif isinstance(cell, str) and (label := as_name(cell)) is not None:
            self._out.score(key, f"label.{name}", label, scorer, evidence=evidence)
        else:
            self._out.note(f"values of the scorer {name!r} are neither numbers nor texts and are not used")

    def _quote(self, axes: Mapping[str, str]) -> None:
        results = mapping_of(self._header.get("results"))
        skipped = []
        for score in objects_of(results.get("scores")):
            name = as_name(score.get("name")) or ""
            if as_name(score.get("reducer")) not in (None, "mean"):
                continue
            for metric, stated in mapping_of(score.get("metrics")).items():
                if metric.split("/")[-1] in ("accuracy", "mean") and name in axes:
                    n = as_int(score.get("scored_samples"))
                    self._out.quote(axes[name], mapping_of(stated).get("value"), n, f"results.scores.{name}.{metric}")
                elif metric.split("/")[-1] not in ("stderr", "std", "var"):
                    skipped.append(f"{name}.{metric}")
        if skipped:
            self._out.note(f"numbers of the log that name no axis here: {listing(skipped)}")


def _decode(config: Mapping[str, Json]) -> dict[str, Any]:
    decode = decode_of(config, budget=("max_tokens",), stop="stop_seqs")
    system = as_text(config.get("system_message"))
    return decode if system is None else {**decode, "system_prompt": system}


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
