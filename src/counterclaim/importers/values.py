"""Single values as they stand in files, turned into the vocabulary of the records."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from counterclaim.records import FinishReason, Json, Message, canonical_json, content_hash

MISSING_WORDS: Final = frozenset({"", "nan", "na", "n/a", "null", "none"})
"""Cells of a text table that mean "no value" (compared in lower case)."""

MISSING: Final = "missing in the file"
"""Why a score without a value is unscored."""

_FINISH_WORDS: Final[Mapping[FinishReason, str]] = {
    FinishReason.STOP: "stop eos end_turn stop_sequence tool_calls function_call tool_use word",
    FinishReason.LENGTH: "length max_tokens model_length max_new_tokens max_output_tokens limit",
    FinishReason.FILTER: "content_filter filter safety refusal",
    FinishReason.ERROR: "error abort",
    FinishReason.UNKNOWN: "unknown none null",
}
_FINISH: Final = {"": FinishReason.UNKNOWN} | {
    word: reason for reason, words in _FINISH_WORDS.items() for word in words.split()
}
_TRUTH: Final = dict.fromkeys(("true", "1", "1.0", "c"), 1.0) | dict.fromkeys(("false", "0", "0.0", "i"), 0.0)


def finish_reason(value: Json) -> FinishReason | None:
    """The recorded reason as a FinishReason; UNKNOWN for null; None for a word that no harness is known to use."""
    if value is None:
        return FinishReason.UNKNOWN
    return _FINISH.get(value.strip().lower()) if isinstance(value, str) else None


def is_number(value: Json) -> bool:
    """A JSON number or boolean (NaN included)."""
    return isinstance(value, bool | int | float)


def as_float(value: Json) -> float | None:
    """A number, boolean or numeric text as float (may be NaN or infinite); None where it is none of these.

    Integers too large for a float count as infinite.
    """
    if isinstance(value, str):
        text = value.strip()
        # float() would also take "1_000" and "infinity": the first is never a number in a table.
        if "_" in text:
            return None
        try:
            return float(text)
        except ValueError:
            return None
    if not is_number(value):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def as_int(value: Json) -> int | None:
    """A whole number of moderate size, also written as 3.0 or "3"; None otherwise."""
    if isinstance(value, bool):
        return None
    number = as_float(value)
    if number is None or not math.isfinite(number) or number != int(number) or abs(number) >= 2**53:
        return None
    return int(number)


def as_text(value: Json) -> str | None:
    """Text that is valid Unicode (lone surrogates replaced); None for anything that is not text."""
    if not isinstance(value, str):
        return None
    if value.isascii():
        return value
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def as_name(value: Json) -> str | None:
    """A short identifier: text or a number, as text; None for anything else or for nothing."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        whole = as_int(value)
        return str(whole) if whole is not None else (repr(value) if isinstance(value, float) else None)
    text = as_text(value)
    return text.strip() or None if text is not None else None


def truth(value: Json) -> float | None:
    """1.0 or 0.0 for true/false, 0/1 and Inspect's C/I, also as text; None otherwise."""
    if isinstance(value, str):
        return _TRUTH.get(value.strip().lower())
    if is_number(value) and value in (0, 1):
        return float(value)
    return None


def is_missing(value: Json, *, from_text: bool = False) -> bool:
    """Whether a cell holds no value; in text tables (CSV) the usual words for it count too."""
    if value is None:
        return True
    if isinstance(value, str):
        return not value.strip() or (from_text and value.strip().lower() in MISSING_WORDS)
    return False


def texts_of(value: Json) -> list[str]:
    """The texts in a list; empty where it is no list."""
    return [text for item in value if (text := as_text(item)) is not None] if isinstance(value, list) else []


def mapping_of(value: Json) -> Mapping[str, Json]:
    """A JSON object as it is; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def objects_of(value: Json) -> list[Mapping[str, Json]]:
    """The objects in a list; empty where it is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def content_text(content: Json) -> str | None:
    """The text of a chat message's content, which may be a list of parts; parts that are not text are left out."""
    if not isinstance(content, list):
        return as_text(content)
    spoken = (None, "text", "output_text")
    texts = texts_of(
        [part.get("text") if isinstance(part, dict) and part.get("type") in spoken else part for part in content]
    )
    return "\n".join(texts) if texts else None


def messages_of(value: Json) -> tuple[Message, ...] | None:
    """A prompt as turns: text, a list of ``{"role", "content"}`` or such a list written as JSON text.

    None where it is none of these or has no turn with text.
    """
    if isinstance(value, str):
        if value.lstrip().startswith("[{") and '"role"' in value:
            try:
                inner = messages_of(json.loads(value))
            except (ValueError, RecursionError):
                inner = None
            if inner is not None:
                return inner
        text = as_text(value)
        return (Message("user", text),) if text and text.strip() else None
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        return None
    turns = []
    for turn in value:
        text = content_text(turn.get("content"))
        if text is not None:
            turns.append(Message(as_name(turn.get("role")) or "user", text))
    return tuple(turns) or None


def split_system(turns: Sequence[Message]) -> tuple[tuple[Message, ...], str | None]:
    """(the other turns, the leading system turns as one text).

    A system prompt is a setting of the arm, not part of the question: were it hashed into the prompt's id, an arm
    with another system prompt could never be paired with its control.
    """
    lead = 0
    while lead < len(turns) and turns[lead].role in ("system", "developer"):
        lead += 1
    if lead == 0 or lead == len(turns):
        return tuple(turns), None
    return tuple(turns[lead:]), "\n\n".join(turn.content for turn in turns[:lead])


SETTINGS: Final[Mapping[str, Callable[[Json], Any]]] = {
    "temperature": as_float, "top_p": as_float, "top_k": as_int, "repetition_penalty": as_float,
    "presence_penalty": as_float, "seed": as_int,
}  # fmt: skip
"""Settings of sampling that every harness calls by one name, with what reads their value."""


def decode_of(source: Mapping[str, Json], *, budget: Sequence[str], stop: str) -> dict[str, Any]:
    """The fields of ``Decode`` that a harness's generation settings state.

    Args:
        budget: what the harness calls the token budget; the first that holds a positive number counts.
        stop: what it calls the stop strings, one or a list.
    """
    decode: dict[str, Any] = {}
    for name in budget:
        if (tokens := as_int(source.get(name))) is not None and tokens > 0:
            decode["max_new_tokens"] = tokens
            break
    for name, convert in SETTINGS.items():
        if (value := convert(source.get(name))) is not None and value == value:  # not NaN
            decode[name] = value
    stops = source.get(stop)
    if isinstance(stops, str | list):
        decode["stop"] = tuple(texts_of([stops] if isinstance(stops, str) else stops))
    return decode


_SPEED: Final = frozenset({"concurrency", "workers", "n_workers", "batch_size", "timeout", "retries", "max_retries"})
"""Parameters that change how fast a judge runs and not what it says."""


def scorer_name(name: str, version: str | None, *, prompt: Json = None, parameters: Json = None) -> str:
    """The name under which scores are compared, ``name@version#prompt-hash,parameters``: equal names, equal scorers.

    Args:
        prompt: the judge's prompt or template; only its hash is kept.
        parameters: a mapping (or any JSON value) of what else shapes a score.
    """

    def spelt(value: Json) -> str:
        plain = shallow(value)
        return plain if isinstance(plain, str) else canonical_json(plain)

    details = [] if prompt in (None, "") else [content_hash(shallow(prompt))[:12]]
    if isinstance(parameters, Mapping):
        details += [f"{key}={spelt(parameters[key])}" for key in sorted(parameters, key=str) if key not in _SPEED]
    elif parameters not in (None, ""):
        details.append(spelt(parameters))
    return f"{name}@{version or 'unversioned'}" + (f"#{','.join(details)}" if details else "")


def shallow(value: Json, depth: int = 6) -> Json:
    """``value`` with NaN turned into null and everything nested deeper than ``depth`` into null."""
    if isinstance(value, str):
        return as_text(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        number = as_float(value)
        return value if number is not None and math.isfinite(number) else None
    if depth and isinstance(value, Mapping):
        return {as_text(str(key)): shallow(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, list | tuple):
        return [shallow(item, depth - 1) for item in value]
    return None


def iso_time(value: Json) -> str | None:
    """A recorded time (ISO text or seconds since 1970) as ISO 8601; None where it is neither."""
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value.strip()).isoformat()
        except ValueError:
            return None
    number = as_float(value) if not isinstance(value, bool) else None
    if number is None or not 0 < number < 1e11:
        return None
    return datetime.fromtimestamp(number, UTC).isoformat(timespec="seconds")


def listing(names: Iterable[str], most: int = 12) -> str:
    """Names in a sentence, the tail of a long list counted instead of spelt out."""
    every = [name if len(name) <= 60 else name[:57] + "..." for name in names]
    tail = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + tail


def shown(value: Json) -> str:
    """A value as an error message quotes it."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, or deep nesting
        return f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."
