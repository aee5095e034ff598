"""Answers that a file holds twice: beside its rows, under another key, for some of the same prompts.

Evaluation scripts often keep a handful of "sanity" answers. Where these differ from the rows' answers to the same
prompts, the two do not come from one deterministic run, and that is worth knowing before small effects are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from counterclaim.records import Json, Prompt, Response, normalise_text

_PROMPT_KEYS = ("prompt", "question", "input")
_ANSWER_KEYS = ("response", "resp", "completion", "output", "answer", "text")
_LEAST_CHARS = 40  # shorter common beginnings say little


def second_answers(
    beside: Mapping[str, Json], prompts: Mapping[str, Prompt], responses: Sequence[Response]
) -> tuple[int, int] | None:
    """(prompts answered again beside the rows, how many of these differ), or None where there are none.

    Only the beginning that both answers keep is compared, because such copies are often shortened.
    """
    first: dict[str, str] = {}
    for response in responses:
        if response.text is not None:
            first.setdefault(normalise_text(prompts[response.prompt_id].text), response.text)
    again = differ = 0
    for value in beside.values():
        for row in value if isinstance(value, list) else []:
            prompt, answer = _text(row, _PROMPT_KEYS), _text(row, _ANSWER_KEYS)
            own = None if prompt is None else first.get(normalise_text(prompt))
            if own is None or answer is None:
                continue
            kept = min(len(own), len(answer))
            if kept >= _LEAST_CHARS:
                again += 1
                differ += own[:kept] != answer[:kept]
    return (again, differ) if again else None


def _text(row: Json, keys: Sequence[str]) -> str | None:
    if not isinstance(row, dict):
        return None
    return next((row[key] for key in keys if isinstance(row.get(key), str)), None)
