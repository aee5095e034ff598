"""TRL's ``completions_<step>.parquet``: prompt, completion and one column per reward function."""

from __future__ import annotations

import math

from counterclaim.importers.axes import score_cell
from counterclaim.importers.collect import AnswerRow, Collector
from counterclaim.importers.reading import InputFile
from counterclaim.importers.values import as_text, is_number, messages_of
from counterclaim.registry import importer

_OTHERS = frozenset({"step", "prompt", "completion", "advantage", "images"})
_NOT_APPLIED = "the reward function did not apply to this row"


def recognises(file: InputFile) -> bool:
    """A parquet file with TRL's columns."""
    return file.kind == "parquet" and {"step", "prompt", "completion"} <= set(file.columns)


@importer("trl", about="TRL completions_*.parquet", sniff=recognises)
def read(file: InputFile, out: Collector) -> None:
    """Read the completions of one or more steps; each reward becomes ``score.REWARD``."""
    out.note("TRL keeps no finish reason per answer, only the aggregate completions/clipped_ratio in its own log")
    steps = set()
    for line, row in file.rows():
        steps.add(row.get("step"))
        completion = row.get("completion")
        turns = messages_of(completion) if isinstance(completion, list) else None
        key = out.add(
            AnswerRow(
                line=line,
                text=turns[-1].content if turns else as_text(completion),
                turns=messages_of(row.get("prompt")),
            )
        )
        for name, cell in row.items():
            if name in _OTHERS or not (cell is None or is_number(cell)):
                continue
            scorer = f"trl:{name}@unversioned"
            if cell is None or (isinstance(cell, float) and math.isnan(cell)):
                out.score(key, f"score.{name}", None, scorer, unscored=_NOT_APPLIED)
            else:
                score_cell(out, key, f"score.{name}", name, cell, line=line, scorer=scorer)
    if len(steps) > 1:
        out.note(f"the file holds completions of {len(steps)} training steps; they are read together")
