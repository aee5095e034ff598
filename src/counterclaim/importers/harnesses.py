"""Formats that take a page each: run folders of our own, lighteval, EvalPlus, human-eval, promptfoo, TRL."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

from counterclaim.folder import read_run
from counterclaim.importers.collector import AnswerRow, Collector, Key
from counterclaim.importers.files import InputFile, Row
from counterclaim.importers.values import (
    as_float,
    as_int,
    as_name,
    as_text,
    decode_of,
    is_number,
    iso_time,
    listing,
    mapping_of,
    messages_of,
    shallow,
    shown,
    texts_of,
)
from counterclaim.records import ArmId, Json, Provenance, Response, Score
from counterclaim.registry import importer

NOTHING_GENERATED = "nothing was generated: the answers are log-likelihoods, so nothing can have been cut"

# run folders ------------------------------------------------------------------------------------------------------

_RECORD_KEYS = frozenset({"prompt_id", "arm", "sample", "finish_reason", "decode", "model"})


@importer(
    "counterclaim",
    about="a run folder of our own with the answers of an arm, or its responses.jsonl",
    sniff=lambda file: file.kind == "jsonl" and set(file.columns) >= _RECORD_KEYS,
)
def read_run_folder(file: InputFile, out: Collector) -> None:
    """Read one arm of a run folder: the one of the request, or the only one there is.

    What was derived from it (answers cut to a budget, answers to a scripted next turn) comes along.
    """
    records, request = read_run(file.path.parent), out.request
    rows: list[Response | Score] = [*records.responses, *records.scores]
    for row in rows:
        if not isinstance(row.prompt_id, str):
            problem = f"a record has the prompt {shown(row.prompt_id)}, which is no text"
            raise out.fail(problem, remedy="make the run folder again")
    arms = list(dict.fromkeys(response.arm.base for response in records.responses))
    if not arms:
        raise out.fail("the run folder holds no answers", remedy="finish it with counterclaim generate")
    if request.arm not in arms and len(arms) > 1:
        raise out.fail(
            f"the run folder holds the arms {listing(map(str, arms))}, and none is called {request.arm}",
            remedy="name a folder that holds one arm, or judge this one with counterclaim check",
        )
    arm = request.arm if request.arm in arms else arms[0]

    def renamed(derived: ArmId) -> ArmId:
        budget, turn = derived.budget or request.arm.budget, derived.turn or request.arm.turn
        return replace(request.arm, budget=budget, turn=turn)

    out.responses = [
        replace(row, arm=renamed(row.arm), replicate=request.replicate or row.replicate)
        for row in records.responses
        if row.arm.base == arm
    ]
    if any(row.finish_provenance not in (None, Provenance.RECORDED) for row in out.responses):
        raise out.fail(
            "the endings of these answers were inferred, not recorded",
            remedy="give the files from which the run folder was made",
        )
    answered = {row.prompt_id for row in out.responses}
    if missing := sorted(answered - set(records.prompts)):
        raise out.fail(f"prompt {missing[0]} is answered and is not in prompts.jsonl")
    began = records.study.get("began")
    out.created = began if isinstance(began, str) else None
    out.prompts = {key: prompt for key, prompt in records.prompts.items() if key in answered}
    out.scores = [replace(row, arm=renamed(row.arm)) for row in records.scores if row.arm.base == arm]
    out.cards = list(records.extras.get("cards", ()))


# lighteval --------------------------------------------------------------------------------------------------------

_PARTS = (("doc", "__doc__"), ("model_response", "__model_response__"), ("metric", "__metric__"))
"""Columns of a document, its answers and their metrics, as newer and older versions spell them."""


def _is_lighteval(file: InputFile) -> bool:
    return file.kind == "parquet" and all(any(name in file.columns for name in names) for names in _PARTS)


@importer("lighteval", about="lighteval details_*.parquet", sniff=_is_lighteval)
def read_lighteval(file: InputFile, out: Collector) -> None:
    """Read the details of one task; several answers to a document become its samples."""
    out.note("lighteval keeps no finish reason; its truncated_tokens_count is about the prompt and is not used")
    out.no_generation = True
    for line, row in file.rows():
        doc, answer, metrics = (_part(row, names) for names in _PARTS)
        texts, tokens = texts_of(answer.get("text")), answer.get("output_tokens")
        counts = [len(ids) if isinstance(ids, list) else None for ids in tokens] if isinstance(tokens, list) else []
        found = AnswerRow(
            line, None, turns=messages_of(doc.get("query")), source_id=as_name(doc.get("id")), gold=_gold_choice(doc),
            decode=decode_of(doc, budget=("generation_size",), stop="stop_sequences"),
        )  # fmt: skip
        keys = [
            out.add(replace(found, text=text, n_tokens=counts[index] if index < len(counts) else None))
            for index, text in enumerate(texts)
        ] or [out.add(found)]
        out.no_generation &= not texts
        for name, value in metrics.items():
            if not (value is None or is_number(value)):
                out.note(f"the metric {name!r} is not one number per document and is not used")
                continue
            number = None if value is None else out.number(f"metric.{name}", value, line)
            out.metric(keys[0], name, number, f"lighteval:{name}@unversioned")
            for key in keys[1:]:
                unscored = "lighteval scores the answers to one document together"
                out.metric(key, name, None, f"lighteval:{name}@unversioned", unscored=unscored)
    if out.no_generation:
        out.note(NOTHING_GENERATED)
    axes = out.settle(right_or_wrong=("extractive_match", "exact_match", "acc", "em", "pass@1", "quasi_exact_match"))
    out.note(f"metrics: {listing(f'{name} as {axis}' for name, axis in axes.items())}")


def _part(row: Row, spellings: tuple[str, ...]) -> Mapping[str, Json]:
    """A struct column, also where an older version stored it as JSON text; empty where it is neither."""
    value = next((row[spelling] for spelling in spellings if spelling in row), None)
    try:
        return mapping_of(json.loads(value) if isinstance(value, str) else value)
    except ValueError:
        return {}


def _gold_choice(doc: Mapping[str, Json]) -> dict[str, Json]:
    choices, index = doc.get("choices"), doc.get("gold_index")
    indices = index if isinstance(index, list) else [index]
    if not isinstance(choices, list):
        return {}
    right = [choices[i] for i in indices if isinstance(i, int) and 0 <= i < len(choices)]
    return {"answer": shallow(right[0] if len(right) == 1 else right)} if right else {}


# code benchmarks --------------------------------------------------------------------------------------------------

_EVALPLUS, _HUMAN_EVAL = "evalplus@unversioned", "human-eval@unversioned"
_NO_ENDING = "the file keeps neither finish reasons, token counts nor the token budget"


def _has_task(file: InputFile) -> bool:
    return file.kind == "jsonl" and "task_id" in file.columns and bool({"solution", "completion"} & set(file.columns))


def _is_evalplus(file: InputFile) -> bool:
    if file.kind == "json":
        document = mapping_of(file.document)
        return isinstance(document.get("eval"), dict) and "plan" not in document
    return _has_task(file) and not ({"passed", "response", "correct"} & set(file.columns))


@importer("evalplus", about="EvalPlus samples .jsonl, or its eval_results.json", sniff=_is_evalplus, ids="shared")
def read_evalplus(file: InputFile, out: Collector) -> None:
    """Read EvalPlus samples with the results beside them, or the results alone (they hold the solutions too).

    ``correct`` asks for the base tests and, where they were run, the extra ones; ``score.base`` for the base tests.
    """
    out.note(_NO_ENDING)
    if file.kind == "json":
        for number, (task, verdict) in enumerate(_verdicts(file), start=1):
            _score_evalplus(out, out.add(_task_answer(number, {"task_id": task, **verdict})), verdict)
        _summary(file, out)
        return
    if file.kind != "jsonl":
        raise out.fail("EvalPlus samples are JSONL", remedy="name the samples or eval_results.json")
    stem = file.path.name.removesuffix(".jsonl")
    names = (file.path.with_name(stem + end) for end in (".eval_results.json", "_eval_results.json"))
    path = next((path for path in names if path.is_file()), None)
    if path is None:
        out.note("no eval_results.json lies beside the samples, so nothing is scored; run evalplus.evaluate first")
        for line, row in file.rows():
            out.add(_task_answer(line, row))
        return
    results = InputFile(path, file.limits)
    waiting: dict[str, list[Mapping[str, Json]]] = {}
    for task, verdict in _verdicts(results):
        waiting.setdefault(task, []).append(verdict)
    for line, row in file.rows():
        key = out.add(_task_answer(line, row))
        found = _take(waiting.get(as_name(row.get("task_id")) or "", []), row)
        if found is None:
            out.score(key, "correct", None, _EVALPLUS, unscored="no result for this solution in the file beside it")
        else:
            _score_evalplus(out, key, found)
    out.note(f"results are those of {path.name}")
    _summary(results, out)


def _task_answer(line: int, row: Row) -> AnswerRow:
    text = as_text(row.get("solution"))
    return AnswerRow(
        line, as_text(row.get("completion")) if text is None else text, turns=messages_of(row.get("prompt")),
        source_id=as_name(row.get("task_id")), finish=row.get("finish_reason"),
    )  # fmt: skip


def _score_evalplus(out: Collector, key: Key, verdict: Mapping[str, Json]) -> None:
    base, plus = (as_name(verdict.get(name)) for name in ("base_status", "plus_status"))
    if base is None:
        out.score(key, "correct", None, _EVALPLUS, unscored="the base tests have no status")
        return
    passed = base == "pass" and plus in (None, "pass")
    out.score(key, "correct", float(passed), _EVALPLUS, evidence=f"base: {base}" + (f", plus: {plus}" if plus else ""))
    if plus is not None:
        out.score(key, "score.base", float(base == "pass"), _EVALPLUS)
        out.note("correct means that the base and the extra tests pass; score.base that the base tests do")


def _take(verdicts: list[Mapping[str, Json]], row: Row) -> Mapping[str, Json] | None:
    """The result of this very solution, or the next in order where the results keep no text."""
    solution = row.get("solution")
    for index, verdict in enumerate(verdicts):
        if "solution" not in verdict or solution is None or verdict["solution"] == solution:
            return verdicts.pop(index)
    return None


def _verdicts(results: InputFile) -> Iterator[tuple[str, Mapping[str, Json]]]:
    tasks = mapping_of(results.document).get("eval")
    if not isinstance(tasks, dict):
        raise results.fail("these are not EvalPlus results (no object `eval`)")
    for task, verdicts in tasks.items():
        for verdict in verdicts if isinstance(verdicts, list) else ():
            if isinstance(verdict, dict):
                yield task, verdict


def _summary(results: InputFile, out: Collector) -> None:
    """What EvalPlus states about the whole run."""
    out.created = iso_time(results.document.get("date"))
    stated = mapping_of(results.document.get("pass_at_k"))
    sets = stated if all(isinstance(value, dict) for value in stated.values()) else {"base": stated}
    has_plus = any(score.axis == "score.base" for score in out.scores)
    for name, axis in (("plus", "correct"), ("base", "score.base" if has_plus else "correct")):
        out.quote(axis, mapping_of(sets.get(name)).get("pass@1"), None, f"pass_at_k.{name}.pass@1")


def _is_human_eval(file: InputFile) -> bool:
    return _has_task(file) and {"completion", "result", "passed"} <= set(file.columns)


@importer("human-eval", about="human-eval *_results.jsonl", sniff=_is_human_eval, ids="shared")
def read_human_eval(file: InputFile, out: Collector) -> None:
    """Read ``*_results.jsonl``; ``passed`` is correct, ``result`` its evidence."""
    if file.kind != "jsonl":
        raise out.fail("human-eval results are JSONL", remedy="name the *_results.jsonl")
    out.note(_NO_ENDING)
    for line, row in file.rows():
        key, why = out.add(_task_answer(line, row)), as_text(row.get("result"))
        out.cell(key, "correct", "passed", row.get("passed"), line=line, scorer=_HUMAN_EVAL, evidence=why)


# promptfoo --------------------------------------------------------------------------------------------------------

_PROMPTFOO = "promptfoo:assertions@unversioned"
_ERRORED = 2  # promptfoo's failureReason: 0 none, 1 an assertion, 2 an error


def _promptfoo_rows(file: InputFile) -> list[Mapping[str, Json]]:
    """The rows of ``results.results``; none where this is not promptfoo's output."""
    rows = mapping_of(mapping_of(file.document).get("results")).get("results") if file.kind == "json" else None
    return rows if isinstance(rows, list) and all(isinstance(row, dict) for row in rows) else []


@importer("promptfoo", about="promptfoo eval output .json", sniff=lambda file: bool(_promptfoo_rows(file)))
def read_promptfoo(file: InputFile, out: Collector) -> None:
    """Read the answers of one provider: ``success`` is correct, ``score`` and ``namedScores`` are kept as scores."""
    rows = _promptfoo_rows(file)
    if not rows:
        raise out.fail("this is not promptfoo output (no results.results)")
    document = file.document
    out.created = iso_time(document["results"].get("timestamp")) or iso_time(document.get("createdAt"))
    providers = dict.fromkeys(_provider(row) or "(unnamed)" for row in rows)
    if len(providers) > 1:
        raise out.fail(
            f"the file holds answers of {len(providers)} providers ({listing(providers)})",
            remedy="export one provider a file, with promptfoo eval --filter-providers",
        )
    for number, row in enumerate(rows, start=1):
        _promptfoo_row(out, number, row)


def _promptfoo_row(out: Collector, number: int, row: Mapping[str, Json]) -> None:
    response, prompt = mapping_of(row.get("response")), row.get("prompt")
    error = as_text(response.get("error"))
    if error is None and (row.get("failureReason") == _ERRORED or not response):
        error = as_text(row.get("error")) or "promptfoo recorded no response"
    output = response.get("output")
    config = mapping_of(mapping_of(row.get("provider")).get("config"))
    key = out.add(
        AnswerRow(
            number,
            as_text(output) if output is None or isinstance(output, str) else json.dumps(shallow(output), ensure_ascii=False),
            turns=messages_of(prompt.get("raw") if isinstance(prompt, dict) else prompt),
            source_id=as_name(row.get("testIdx")),
            finish=response.get("finishReason"),
            error=error,
            n_tokens=as_int(mapping_of(response.get("tokenUsage")).get("completion")) or None,
            decode=decode_of(config, budget=("max_tokens",), stop="stop"),
            model={"repo": _provider(row)},
        )
    )  # fmt: skip
    if response.get("cached") is True:
        out.count("{n} answers came from promptfoo's cache, so repeated ones may be one answer counted twice")
    named = mapping_of(row.get("namedScores"))
    cells = {"correct": ("success", row.get("success")), "score.score": ("score", row.get("score"))}
    cells |= {f"score.{name}": (f"namedScores.{name}", value) for name, value in named.items()}
    reason = as_text(mapping_of(row.get("gradingResult")).get("reason"))
    for axis, (column, cell) in cells.items():
        if error is not None:
            out.score(key, axis, None, _PROMPTFOO, unscored=error)
        else:
            out.cell(key, axis, column, cell, line=number, scorer=_PROMPTFOO, evidence=reason)


def _provider(row: Mapping[str, Json]) -> str | None:
    provider = row.get("provider")
    return as_name(provider.get("id") if isinstance(provider, dict) else provider)


# TRL --------------------------------------------------------------------------------------------------------------

_NO_REWARDS = frozenset({"step", "prompt", "completion", "advantage", "images"})


def _is_trl(file: InputFile) -> bool:
    return file.kind == "parquet" and {"step", "prompt", "completion"} <= set(file.columns)


@importer("trl", about="TRL completions_*.parquet", sniff=_is_trl)
def read_trl(file: InputFile, out: Collector) -> None:
    """Read the completions of one or more steps; each reward becomes ``score.REWARD``."""
    out.note("TRL keeps no finish reason per answer, only the aggregate completions/clipped_ratio in its own log")
    steps = set()
    for line, row in file.rows():
        steps.add(row.get("step"))
        completion = row.get("completion")
        turns = messages_of(completion) if isinstance(completion, list) else None
        text = turns[-1].content if turns else as_text(completion)
        key = out.add(AnswerRow(line, text, turns=messages_of(row.get("prompt"))))
        for name, cell in row.items():
            if name in _NO_REWARDS or not (cell is None or is_number(cell)):
                continue
            scorer = f"trl:{name}@unversioned"
            if cell is None or math.isnan(as_float(cell) or 0.0):
                unscored = "the reward function did not apply to this row"
                out.score(key, f"score.{name}", None, scorer, unscored=unscored)
            else:
                out.cell(key, f"score.{name}", name, cell, line=line, scorer=scorer)
    if len(steps) > 1:
        out.note(f"the file holds completions of {len(steps)} training steps; they are read together")
