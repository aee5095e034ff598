"""A small drawing surface: SVG text with scales, ticks and readers of figure data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from counterclaim.records import Json

WIDTH = 440.0
"""Width of every picture in user units; small, so that its 12-unit type stays readable on a phone."""

_LARGEST = 1e15  # beyond this a pixel position is no longer meaningful
_CHARACTER = 6.3  # mean advance of the page's 12-unit sans-serif


class NoPicture(ValueError):
    """The data of a figure cannot be drawn."""


def read_number(value: Json) -> float:
    """A finite number of drawable size; raises NoPicture on anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        raise NoPicture("not a drawable number")
    return float(value)


def read_optional(value: Json) -> float | None:
    """``read_number``, or None for None."""
    return None if value is None else read_number(value)


def read_list(value: Json, *, at_least: int = 1) -> Sequence[Json]:
    """A list with enough entries; raises NoPicture on anything else."""
    if not isinstance(value, list | tuple) or len(value) < at_least:
        raise NoPicture("not a list, or too short")
    return value


def read_numbers(value: Json, *, at_least: int = 1) -> list[float]:
    """A list of drawable numbers; raises NoPicture on anything else."""
    return [read_number(item) for item in read_list(value, at_least=at_least)]


def read_mapping(value: Json) -> Mapping[str, Json]:
    """A JSON object; raises NoPicture on anything else."""
    if not isinstance(value, Mapping):
        raise NoPicture("not an object")
    return value


def read_text(value: Json, default: str = "") -> str:
    """Text, or ``default`` for anything that is neither text nor a number."""
    if isinstance(value, str):
        return value
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else default


def fitted(text: str, width: float) -> str:
    """Text cut with an ellipsis to about ``width`` user units."""
    room = max(1, int(width / _CHARACTER))
    return text if len(text) <= room else text[: room - 1].rstrip() + "…"


def text_width(text: str) -> float:
    """Estimated width of a text in user units."""
    return len(text) * _CHARACTER


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear map from data [low, high] to user units [start, end]."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    @classmethod
    def covering(cls, values: Iterable[float], start: float, end: float, *, pad: float = 0.06) -> Scale:
        """A scale that holds all values with ``pad`` of their span to spare, and never has an empty span."""
        known = list(values)
        low, high = min(known), max(known)
        size = max(abs(low), abs(high))
        if high - low <= size * 1e-9 or high - low < 1e-100:
            spare = size * 0.1 if size > 1e-90 else 1.0
        else:
            spare = (high - low) * pad
        return cls(low - spare, high + spare, start, end)

    def ticks(self, about: int = 5, *, least: float = 0.0) -> list[tuple[float, str]]:
        """Round values within the scale, about that many and at least ``least`` apart, each with its label."""
        raw = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(raw))
        step = max(next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999), least)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [(index * step, tick_label(index * step, step)) for index in range(first, last + 1)]


def tick_label(value: float, step: float) -> str:
    """A value with as many decimals as a step of that size needs."""
    if abs(value) < step * 1e-6:
        return "0"
    if step >= 1e6 or step < 1e-4:
        return f"{value:.4g}".replace("-", "−")
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{decimals}f}".replace("-", "−")


def coordinate(value: float) -> str:
    """A position with one decimal and no negative zero."""
    rounded = round(value, 1) + 0.0
    return f"{rounded:.1f}".removesuffix(".0")


@dataclass(slots=True)
class Canvas:
    """An SVG picture under construction. Colours come from the page's style sheet, through class names."""

    height: float
    parts: list[str] = field(default_factory=list)
    width: float = WIDTH

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str) -> None:
        """A straight line."""
        ends = zip(("x1", "y1", "x2", "y2"), (x1, y1, x2, y2), strict=True)
        place = " ".join(f'{name}="{coordinate(value)}"' for name, value in ends)
        self.parts.append(f'<line {place} class="{style}"/>')

    def rect(self, x: float, y: float, width: float, height: float, style: str, *, opacity: float = 1) -> None:
        """A rectangle; a negative width or height counts as zero."""
        size = f'width="{coordinate(max(width, 0))}" height="{coordinate(max(height, 0))}"'
        faint = "" if opacity >= 1 else f' fill-opacity="{opacity:.2f}"'
        self.parts.append(f'<rect x="{coordinate(x)}" y="{coordinate(y)}" {size} class="{style}"{faint}/>')

    def circle(self, x: float, y: float, radius: float, style: str) -> None:
        """A dot."""
        self.parts.append(
            f'<circle cx="{coordinate(x)}" cy="{coordinate(y)}" r="{coordinate(radius)}" class="{style}"/>'
        )

    def path(self, points: Iterable[tuple[float, float]], style: str, *, closed: bool = False) -> None:
        """A line through points, or the area inside them."""
        joined = "L".join(f"{coordinate(x)} {coordinate(y)}" for x, y in points)
        self.parts.append(f'<path d="M{joined}{"Z" if closed else ""}" class="{style}"/>')

    def text(self, x: float, y: float, text: str, style: str = "", *, anchor: str = "start", room: float = 0) -> None:
        """A line of text; with ``room`` it is cut to that width and keeps its whole in a tooltip."""
        shown = fitted(text, room) if room else text
        tip = "" if shown == text else f"<title>{escape(text)}</title>"
        where = f'x="{coordinate(x)}" y="{coordinate(y)}" text-anchor="{anchor}"'
        look = f' class="{style}"' if style else ""
        self.parts.append(f"<text {where}{look}>{escape(shown)}{tip}</text>")

    def axis(self, scale: Scale, y: float, label: str = "", *, least: float = 0.0) -> None:
        """A horizontal axis at height ``y`` with ticks (``least`` apart), their labels, and the axis' name below."""
        self.line(scale.start, y, scale.end, y, "axis")
        for value, shown in scale.ticks(least=least):
            x = scale(value)
            self.line(x, y, x, y + 4, "axis")
            self.text(x, y + 17, shown, "tick", anchor="middle")
        if label:
            self.text(
                (scale.start + scale.end) / 2, y + 34, label, "tick", anchor="middle", room=scale.end - scale.start
            )

    def upright(self, scale: Scale, x: float, end: float, label: str = "") -> None:
        """A vertical axis as faint lines from ``x`` to ``end``, with the axis' name above."""
        for value, shown in scale.ticks(4):
            self.line(x, scale(value), end, scale(value), "grid")
            self.text(x - 6, scale(value) + 4, shown, "tick", anchor="end")
        if label:
            self.text(0, min(scale.start, scale.end) - 10, label, "tick", room=end)

    def legend(self, y: float, entries: Iterable[tuple[str, str]], *, x: float = 8) -> None:
        """Swatches with words in one row: (style, words)."""
        for style, words in entries:
            shown = fitted(words, 120)
            self.rect(x, y - 9, 11, 11, style)
            self.text(x + 16, y, shown, "tick")
            x += 16 + text_width(shown) + 16

    def svg(self, title: str, description: str, name: str) -> str:
        """The picture with its accessible title and description; ``name`` makes its ids unique on the page."""
        box = f'viewBox="0 0 {coordinate(self.width)} {coordinate(self.height)}"'
        head = f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(description)}</desc>'
        named = f'role="img" aria-labelledby="{name}-t {name}-d"'
        return f'<svg class="figure" {box} {named}>{head}{"".join(self.parts)}</svg>'
