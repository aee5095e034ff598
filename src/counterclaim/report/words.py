"""Text and numbers as a reader sees them: nothing hidden, nothing misread."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any

from counterclaim.records import Estimate, Json

# What a reader cannot see, or what moves the text around it: C0 and C1 controls but tab and newline, soft hyphen,
# bidirectional marks, overrides and isolates, zero-width characters (the joiners stay: emoji and several scripts
# need them), separators, annotations, language tags and supplementary variation selectors (both can smuggle
# instructions), lone surrogates, and the noncharacters that XML refuses.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ud800-\udfff\ufeff\uffa0\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e01ef]"
)


def visible(text: str) -> str:
    """Text with every unseen character spelt out as ``⟨U+202E⟩``; newlines become \\n.

    The result can be encoded as UTF-8 and put into XML once its markup characters are escaped.
    """
    return _UNSEEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text.replace("\r\n", "\n").replace("\r", "\n"))


def cleaned(value: Any) -> Any:
    """A value with every string made ``visible`` (keys too) and every number that is not finite made None.

    Args:
        value: JSON, or dataclasses, tuples and mappings of it; enumerations stay as they are.
    """
    if isinstance(value, Enum):
        return value
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {visible(str(key)): cleaned(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(cleaned, value))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{item.name: cleaned(getattr(value, item.name)) for item in fields(value)})
    return value


def one_line(text: object, limit: int | None = None) -> str:
    """Text on one line, cut with an ellipsis after ``limit`` characters."""
    line = re.sub(r"[ \t\n]+", " ", str("" if text is None else text)).strip()
    return line if limit is None or len(line) <= limit else line[: limit - 1].rstrip() + "…"


def number(value: Json) -> str:
    """A number for a table: three decimals below 10, thousands separated above, ``—`` for None or text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    if not isinstance(value, float) or not math.isfinite(value):
        return "—"
    size = abs(value)
    if size == 0:
        return "0"
    if size < 0.0005 or size >= 1e9:
        shown = f"{value:.1e}"
    elif size < 10:
        shown = f"{value:.3f}"
    else:
        shown = f"{value:,.1f}"
    return shown.replace("-", "−")


def signed(value: Json) -> str:
    """``number`` with a plus sign on what is above zero: for differences."""
    shown = number(value)
    is_above = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    return f"+{shown}" if is_above and shown != "—" else shown


def p_value(value: Json) -> str:
    """A p-value: two digits of a small one, four decimals of the rest."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "—"
    return f"{value:.1e}".replace("-", "−") if 0 < value < 0.0001 else f"{value:.4f}"


def p_span(bounds: Json) -> str:
    """The range of a p-value over all feasible pairings; "" where there is none."""
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:
        return ""
    return f"{p_value(bounds[0])} to {p_value(bounds[1])}"


def percent(share: Json) -> str:
    """A fraction as whole percent, for prose only: ``95 %``."""
    if isinstance(share, bool) or not isinstance(share, int | float) or not math.isfinite(share):
        return "—"
    return f"{share * 100:.3g}\u00a0%"


def estimate_line(estimate: Estimate | Mapping[str, Json] | None, *, difference: bool = False) -> str:
    """An estimate with its interval in one phrase, or why there is none; "" where there is no estimate at all."""
    if isinstance(estimate, Mapping):
        estimate = Estimate(**estimate)
    if estimate is None:
        return ""
    show = signed if difference else number
    if estimate.estimate is None:
        return f"undefined: {one_line(estimate.reason)}"
    value = show(estimate.estimate)
    if estimate.interval is None:
        return f"{value} (no interval: {one_line(estimate.reason)})"
    low, high = map(show, estimate.interval)
    return f"{value} ({percent(estimate.level)} interval {low} to {high})"
