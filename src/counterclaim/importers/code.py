"""Code benchmarks: EvalPlus and human-eval, whose task ids name a question the whole field shares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from counterclaim.errors import InputError
from counterclaim.importers.axes import score_cell
from counterclaim.importers.collect import AnswerRow, Collector, Key
from counterclaim.importers.reading import InputFile, Row
from counterclaim.importers.values import as_name, as_text, iso_time, messages_of
from counterclaim.records import Json
from counterclaim.registry import importer

_EVALPLUS, _HUMAN_EVAL = "evalplus@unversioned", "human-eval@unversioned"
_NO_ENDING = "the file keeps neither finish reasons, token counts nor the token budget"


def recognises_evalplus(file: InputFile) -> bool:
    """Samples with a task id and a solution or completion and nothing else of a table, or an eval_results.json."""
    if file.kind == "json":
        document = file.document
        return isinstance(document, dict) and isinstance(document.get("eval"), dict) and "plan" not in document
    return file.kind == "jsonl" and _has_task(file) and not ({"passed", "response", "correct"} & set(file.columns))


def recognises_human_eval(file: InputFile) -> bool:
    """human-eval's results: task id, completion, result, passed."""
    return file.kind == "jsonl" and _has_task(file) and {"completion", "result", "passed"} <= set(file.columns)


def _has_task(file: InputFile) -> bool:
    return "task_id" in file.columns and bool({"solution", "completion"} & set(file.columns))


@importer("human-eval", about="human-eval *_results.jsonl", sniff=recognises_human_eval, ids="shared")
def read_human_eval(file: InputFile, out: Collector) -> None:
    """Read ``*_results.jsonl``; ``passed`` is correct, ``result`` its evidence."""
    if file.kind != "jsonl":
        raise InputError("human-eval results are JSONL", path=file.path, remedy="name the *_results.jsonl")
    out.note(_NO_ENDING)
    for line, row in file.rows():
        key = out.add(_item(line, row))
        score_cell(out, key, "correct", "passed", row.get("passed"), line=line, scorer=_HUMAN_EVAL,
                   evidence=as_text(row.get("result")))  # fmt: skip


@importer(
    "evalplus", about="EvalPlus samples .jsonl, or its eval_results.json", sniff=recognises_evalplus, ids="shared"
)
def read_evalplus(file: InputFile, out: Collector) -> None:
    """Read EvalPlus samples with the results beside them, or the results alone (they hold the solutions too).

    ``correct`` asks for the base tests and, where they were run, the extra ones; ``score.base`` for the base tests.
    """
    out.note(_NO_ENDING)
    if file.kind == "json":
        results = _results(file)
        for number, (task, verdict) in enumerate(_verdicts(results), start=1):
            _score(out, out.add(_item(number, {"task_id": task, **verdict})), verdict)
        _about(out, results)
        return
    if file.kind != "jsonl":
        raise InputError("EvalPlus samples are JSONL", path=file.path, remedy="name the samples or eval_results.json")
    beside = _results_beside(file)
    results = _results(beside) if beside is not None else {}
    if beside is None:
        out.note("no eval_results.json lies beside the samples, so nothing is scored; run evalplus.evaluate first")
    waiting: dict[str, list[Mapping[str, Json]]] = {}
    for task, verdict in _verdicts(results):
        waiting.setdefault(task, []).append(verdict)
    for line, row in file.rows():
        key = out.add(_item(line, row))
        if beside is None:
            continue
        found = _take(waiting.get(as_name(row.get("task_id")) or "", []), row)
        if found is None:
            out.score(key, "correct", None, _EVALPLUS, unscored="no result for this solution in the file beside it")
        else:
            _score(out, key, found)
    if beside is not None:
        out.note(f"results are those of {beside.path.name}")
        _about(out, results)


def _item(line: int, row: Row) -> AnswerRow:
    text = as_text(row.get("solution"))
    return AnswerRow(
        line=line,
        text=text if text is not None else as_text(row.get("completion")),
        turns=messages_of(row.get("prompt")),
        source_id=as_name(row.get("task_id")),
        finish=row.get("finish_reason"),
    )


def _score(out: Collector, key: Key, verdict: Mapping[str, Json]) -> None:
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


def _results(file: InputFile) -> Mapping[str, Json]:
    document = file.document
    if not isinstance(document, dict) or not isinstance(document.get("eval"), dict):
        raise InputError("these are not EvalPlus results (no object `eval`)", path=file.path)
    return document


def _verdicts(results: Mapping[str, Json]) -> Iterator[tuple[str, Mapping[str, Json]]]:
    for task, verdicts in (results.get("eval") or {}).items():
        for verdict in verdicts if isinstance(verdicts, list) else ():
            if isinstance(verdict, dict):
                yield task, verdict


def _results_beside(file: InputFile) -> InputFile | None:
    stem = file.path.name.removesuffix(".jsonl")
    for name in (f"{stem}.eval_results.json", f"{stem}_eval_results.json"):
        beside: Path = file.path.with_name(name)
        if beside.is_file():
            return InputFile(beside, file.limits)
    return None


def _about(out: Collector, results: Mapping[str, Json]) -> None:
    out.created = iso_time(results.get("date"))
    stated = results.get("pass_at_k")
    if not isinstance(stated, dict):
        return
    sets = stated if all(isinstance(value, dict) for value in stated.values()) else {"base": stated}
    has_plus = any(score.axis == "score.base" for score in out.scores)
    for name, axis in (("plus", "correct"), ("base", "score.base" if has_plus else "correct")):
        if isinstance(sets.get(name), dict):
            out.quote(axis, sets[name].get("pass@1"), None, f"pass_at_k.{name}.pass@1")
