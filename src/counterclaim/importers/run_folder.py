"""The answers and scores of a run folder of our own, as ``counterclaim generate`` and ``score`` leave it."""

from __future__ import annotations

from dataclasses import replace

from counterclaim.errors import InputError
from counterclaim.folder import read_run
from counterclaim.importers.imported import Imported, Request, Source
from counterclaim.importers.reading import InputFile
from counterclaim.importers.values import listing
from counterclaim.records import ArmId, Provenance, Response, Score

_KEYS = frozenset({"prompt_id", "arm", "sample", "finish_reason", "decode", "model"})


def recognises(file: InputFile) -> bool:
    """``responses.jsonl`` of a run folder."""
    return file.kind == "jsonl" and set(file.columns) >= _KEYS


def read(file: InputFile, request: Request) -> Imported:
    """Read one arm of a run folder: the one that is asked for, or the only one there is.

    What was derived from it (answers cut to a budget, answers to a scripted next turn) comes along.
    """
    records = read_run(file.path.parent)
    arms = list(dict.fromkeys(response.arm.base for response in records.responses))
    if not arms:
        raise InputError(
            "the run folder holds no answers", path=file.path, remedy="finish it with counterclaim generate"
        )
    if request.arm not in arms and len(arms) > 1:
        raise InputError(
            f"the run folder holds the arms {listing(map(str, arms))}, and none is called {request.arm}",
            path=file.path.parent,
            remedy="name a folder that holds one arm, or judge this one with counterclaim check",
        )
    old = request.arm if request.arm in arms else arms[0]

    def mine(row: Response | Score) -> bool:
        return row.arm.base == old

    def renamed(arm: ArmId) -> ArmId:
        return replace(request.arm, budget=arm.budget, turn=arm.turn)

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
    return Imported(
        source=Source(
            path=str(file.path), format="counterclaim", sha256=file.sha256, bytes=file.size,
            rows=sum(row.arm == request.arm for row in responses), created=began if isinstance(began, str) else None,
        ),
        prompts={key: prompt for key, prompt in records.prompts.items() if key in known},
        responses=responses,
        scores=[replace(row, arm=renamed(row.arm)) for row in records.scores if mine(row)],
        cards=list(records.extras.get("cards", ())),
    )  # fmt: skip
