"""The answers and scores of a run folder of our own, as ``counterclaim generate`` and ``score`` leave it."""

from __future__ import annotations

from dataclasses import replace

from counterclaim.errors import InputError
from counterclaim.folder import read_run
from counterclaim.importers.collect import Collector
from counterclaim.importers.reading import InputFile
from counterclaim.importers.values import listing, shown
from counterclaim.records import Provenance, Response, Score
from counterclaim.registry import importer

_KEYS = frozenset({"prompt_id", "arm", "sample", "finish_reason", "decode", "model"})


def recognises(file: InputFile) -> bool:
    """``responses.jsonl`` of a run folder."""
    return file.kind == "jsonl" and set(file.columns) >= _KEYS


@importer(
    "counterclaim", about="a run folder of our own with the answers of an arm, or its responses.jsonl", sniff=recognises
)
def read(file: InputFile, out: Collector) -> None:
    """Read one arm of a run folder: the one that is asked for, or the only one there is.

    What was derived from it (answers cut to a budget, answers to a scripted next turn) comes along.
    """
    records = read_run(file.path.parent)
    request = out.request
    rows: list[Response | Score] = [*records.responses, *records.scores]
    for row in rows:
        if not (isinstance(row.arm, str) and isinstance(row.prompt_id, str)):
            raise out.fail(
                f"a record has the arm {shown(row.arm)} and the prompt {shown(row.prompt_id)}, which are not text"
            )
    arms = list(dict.fromkeys(_base(response.arm) for response in records.responses))
    if not arms:
        raise InputError(
            "the run folder holds no answers", path=file.path, remedy="finish it with counterclaim generate"
        )
    if request.arm not in arms and len(arms) > 1:
        raise InputError(
            f"the run folder holds the arms {listing(arms)}, and none is called {request.arm}",
            path=file.path.parent,
            remedy="name a folder that holds one arm, or judge this one with counterclaim check",
        )
    old = request.arm if request.arm in arms else arms[0]

    def mine(row: Response | Score) -> bool:
        return _base(row.arm) == old

    def renamed(arm: str) -> str:
        return request.arm + arm.removeprefix(old)

    responses = [
        replace(row, arm=renamed(row.arm), replicate=request.replicate or row.replicate)
        for row in records.responses
        if mine(row)
    ]
    for row in responses:
        if row.finish_provenance not in (None, Provenance.RECORDED):
            raise InputError(
                "the endings of these answers were inferred, not recorded",
                path=file.path,
                remedy="give the files from which the run folder was made",
            )
    known = {row.prompt_id for row in responses}
    if strange := sorted(known - set(records.prompts)):
        raise InputError(f"prompt {strange[0]} is answered and is not in prompts.jsonl", path=file.path)
    began = records.study.get("began")
    out.created = began if isinstance(began, str) else None
    out.prompts = {key: prompt for key, prompt in records.prompts.items() if key in known}
    out.responses = responses
    out.scores = [replace(row, arm=renamed(row.arm)) for row in records.scores if mine(row)]
    out.cards = list(records.extras.get("cards", ()))


def _base(arm: str) -> str:
    """The arm that this one was derived from: ``control`` of ``control@512`` and of ``control/recovery``."""
    return arm.partition("@")[0].partition("/")[0]
