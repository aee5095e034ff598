"""The pictures of a report: figure data in, inline SVG out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from counterclaim.records import Json
from counterclaim.report.canvas import (
    WIDTH,
    Canvas,
    NoPicture,
    Scale,
    read_list,
    read_mapping,
    read_number,
    read_numbers,
    read_optional,
    read_text,
    text_width,
)
from counterclaim.report.words import number, one_line, signed

Drawing = tuple[Canvas, str, str]  # the picture, its title, its description

_LEFT, _RIGHT = 10.0, WIDTH - 10.0
_NAMES = 132.0  # room for row names in forests and bars
_MOST_ROWS = 40
_MOST_SERIES = 6
_MOST_POINTS = 400
_SMALL = 330.0  # width of a picture that stands beside others
_MOST_STEPS = 200  # points of a curve
_MOST_DOTS = 1_200  # points of a scatter plot
_MOST_CELLS = 160  # of a heat map, along a side


def draw(figure: Json, name: str) -> str | None:
    """A figure as inline SVG, or None where its kind is unknown or its data cannot be drawn.

    Args:
        figure: ``{"kind": ..., ...}`` as a check computed it.
        name: a word that makes the picture's ids unique on the page.
    """
    if not isinstance(figure, Mapping) or not isinstance(figure.get("kind"), str):
        return None
    drawer = _DRAWERS.get(figure["kind"])
    if drawer is None:
        return None
    try:
        canvas, title, description = drawer(figure)
    except NoPicture:
        return None
    return canvas.svg(one_line(title, 200), one_line(description, 1000), name)


def _interval(figure: Mapping[str, Json]) -> Drawing:
    estimate = read_number(figure.get("estimate"))
    low, high = read_optional(figure.get("low")), read_optional(figure.get("high"))
    zero, margin = read_optional(figure.get("zero")), read_optional(figure.get("margin"))
    sign = -1 if figure.get("direction") == -1 else 1
    label = read_text(figure.get("label"), "estimate")
    ends = [end for end in (low, high) if end is not None]
    edges: list[float] = [] if zero is None else [zero]
    bar = None
    if margin is not None:
        bar = (zero or 0.0) + sign * margin
        # Room beyond the zero line and the margin, so that all regions can be seen and named.
        edges += [bar, bar + (bar - (zero or 0.0)) * 0.9, (zero or 0.0) - (bar - (zero or 0.0)) * 0.9]
    scale = Scale.covering([estimate, *ends, *edges], _LEFT, _RIGHT, pad=0.08)
    canvas, top, floor = Canvas(134), 24.0, 92.0
    regions = [
        (min(scale(start), scale(end)), abs(scale(end) - scale(start)), style, words)
        for start, end, style, words in _regions(scale, zero, bar, sign)
    ]
    all_fit = all(text_width(words) < width + 6 for _, width, _, words in regions)
    for x, width, style, words in regions:
        canvas.rect(x, top, width, floor - top, style)
        if all_fit:
            canvas.text(x + width / 2, top - 8, words, "tick", anchor="middle")
    if not all_fit:
        canvas.legend(top - 10, ((style, words) for *_, style, words in regions), x=_LEFT)
    if zero is not None:
        canvas.line(scale(zero), top - 4, scale(zero), floor, "zero")
    if bar is not None:
        canvas.line(scale(bar), top - 4, scale(bar), floor, "margin")
    middle = (top + floor) / 2 + 8
    _whisker(canvas, scale, middle, estimate, low, high, "effect")
    x = min(max(scale(estimate), _LEFT + 24), _RIGHT - 24)
    canvas.text(x, middle - 14, signed(estimate) if zero == 0 else number(estimate), "strong", anchor="middle")
    canvas.axis(scale, floor, label)
    span = f" with interval {number(low)} to {number(high)}" if low is not None and high is not None else ""
    against = "" if zero is None else f"; no change is at {number(zero)}"
    against += "" if bar is None else f"; the margin that matters is at {number(bar)}"
    return canvas, label, f"Estimate {number(estimate)}{span}{against}."


def _regions(scale: Scale, zero: float | None, bar: float | None, sign: int) -> Iterator[tuple[float, float, str, str]]:
    """(start, end, style, words) of the shaded regions, from the wrong side to the claimed one."""
    if bar is None:
        return
    null = zero or 0.0
    worst, best = (scale.low, scale.high) if sign > 0 else (scale.high, scale.low)
    if sign * (bar - null) >= 0:
        yield worst, null, "region-wrong", "wrong side"
        yield null, bar, "region-small", "too small to matter"
        yield bar, best, "region-good", "supports"
    else:  # a guard: the margin lies on the losing side, and everything short of it is allowed
        yield worst, bar, "region-wrong", "too much lost"
        yield bar, best, "region-good", "allowed"


def _whisker(
    canvas: Canvas, scale: Scale, y: float, middle: float, low: float | None, high: float | None, style: str
) -> None:
    if low is not None and high is not None:
        canvas.line(scale(low), y, scale(high), y, f"whisker {style}")
        for end in (low, high):
            canvas.line(scale(end), y - 4, scale(end), y + 4, f"whisker {style}")
    canvas.circle(scale(middle), y, 4.5, f"dot {style}")


def _histogram(figure: Mapping[str, Json]) -> Drawing:
    edges = read_numbers(figure.get("edges"), at_least=2)
    if any(right <= left for left, right in pairwise(edges)):
        raise NoPicture("edges must rise")
    series = [
        (read_text(row.get("name")), read_numbers(row.get("counts")))
        for row in _mappings(figure.get("series"), _MOST_SERIES)
    ]
    if any(len(counts) != len(edges) - 1 or min(counts) < 0 for _, counts in series):
        raise NoPicture("one count from 0 up per bin")
    marks = [
        (read_number(mark.get("x")), read_text(mark.get("label")))
        for mark in map(read_mapping, read_list(figure.get("marks", []), at_least=0)[:_MOST_SERIES])
    ]
    label = read_text(figure.get("xlabel"))
    # A mark far from every bar would squeeze the bars into a corner: it is named at the picture's edge instead.
    reach = (edges[-1] - edges[0]) / 2
    near = [x for x, _ in marks if edges[0] - reach <= x <= edges[-1] + reach]
    scale = Scale.covering([*edges, *near], _LEFT, _RIGHT, pad=0.02)
    highest = max(max(counts) for _, counts in series) or 1.0
    band, top = 66.0, 8.0 + 12 * max(len(marks), 1)
    floor = top + band * len(series)
    canvas = Canvas(floor + 42)
    for place, (name, counts) in enumerate(series):
        base = top + band * (place + 1) - 2
        canvas.line(_LEFT, base, _RIGHT, base, "grid")
        for count, left, right in zip(counts, edges, edges[1:], strict=False):
            height = count / highest * (band - 22)
            if height > 0:
                x = scale(left)
                width = scale(right) - x
                canvas.rect(x, base - max(height, 1), max(width - 1, 0.8), max(height, 1), f"fill-{place % 6}")
        total = f"{name}: {number(_count(sum(counts)))}" if name else number(_count(sum(counts)))
        canvas.text(_LEFT, base - band + 18, total, "strong", room=240)
    for place, (x, words) in enumerate(marks):
        row = 11.0 + 12 * place
        if x not in near:
            shown = f"{words} ({number(_count(x))}) →" if x > edges[-1] else f"← {words} ({number(_count(x))})"
            at, anchor = (_RIGHT, "end") if x > edges[-1] else (_LEFT, "start")
        else:
            canvas.line(scale(x), row + 3, scale(x), floor - 2, "margin")
            shown, at, anchor = words, scale(x), "end" if scale(x) > WIDTH * 0.6 else "start"
        canvas.text(at, row, shown, "tick", anchor=anchor, room=220)
    canvas.axis(scale, floor, label)
    tallest = [
        f"{name or 'series'}: {number(_count(sum(counts)))} in all, most ({number(_count(max(counts)))}) from "
        f"{number(edges[counts.index(max(counts))])} to {number(edges[counts.index(max(counts)) + 1])}"
        for name, counts in series
    ]
    return canvas, f"Distribution of {label or 'values'}", "; ".join(tallest) + "."


def _table2x2(figure: Mapping[str, Json]) -> Drawing:
    rows = [read_text(item) for item in read_list(figure.get("rows"), at_least=2)]
    columns = [read_text(item) for item in read_list(figure.get("cols"), at_least=2)]
    arms = []
    for arm in _mappings(figure.get("arms"), 4):
        cells = [read_numbers(row, at_least=2) for row in read_list(arm.get("cells"), at_least=2)]
        arms.append((read_text(arm.get("name")), cells))
    side, cell = 56.0, 34.0
    across = 2 if len(arms) > 1 else 1
    room = (_RIGHT - _LEFT) / 2
    height = 40 + 2 * cell + 14
    canvas = Canvas(height * -(-len(arms) // across))
    parts = []
    for place, (name, cells) in enumerate(arms):
        left = _LEFT + (place % across) * room
        top = (place // across) * height
        width = (room - side - 12) / 2
        total = sum(cells[row][column] for row in (0, 1) for column in (0, 1))
        canvas.text(left, top + 14, name, "strong", room=room - 8)
        for column in (0, 1):
            x = left + side + column * width + width / 2
            canvas.text(x, top + 34, columns[column], "tick", anchor="middle", room=width)
        for row in (0, 1):
            y = top + 40 + row * cell
            canvas.text(left, y + cell / 2 + 4, rows[row], "tick", room=side - 4)
            for column in (0, 1):
                value = cells[row][column]
                share = value / total if total > 0 and value >= 0 else 0.0
                _cell(canvas, left + side + column * width, y, width, cell, value, share, f"fill-{place % 6}")
                parts.append(f"{name} {rows[row]} and {columns[column]} {number(_count(value))}")
    return canvas, f"{rows[0]}/{rows[1]} against {columns[0]}/{columns[1]}", "; ".join(parts) + "."


def _cell(
    canvas: Canvas, x: float, y: float, width: float, height: float, value: float, share: float, style: str
) -> None:
    """A cell whose shade is its share of the table, with its count."""
    canvas.rect(x + 1, y + 1, width - 2, height - 2, "empty")
    canvas.rect(x + 1, y + 1, width - 2, height - 2, style, opacity=0.08 + 0.52 * min(share, 1.0))
    canvas.text(x + width / 2, y + height / 2 + 5, number(_count(value)), "strong", anchor="middle")


def _count(value: float) -> int | float:
    return int(value) if value.is_integer() else value


def _pairs(figure: Mapping[str, Json]) -> Drawing:
    given = read_mapping(figure.get("cells"))
    both, lost, gained, neither = (
        read_number(given.get(key)) for key in ("both", "only_control", "only_treated", "neither")
    )
    total = both + lost + gained + neither
    if min(both, lost, gained, neither) < 0:
        raise NoPicture("counts start at 0")
    canvas, side, cell = Canvas(126), 96.0, 42.0
    width = (_RIGHT - _LEFT - side) / 2
    for column, words in enumerate(("treated yes", "treated no")):
        canvas.text(_LEFT + side + width * (column + 0.5), 16, words, "tick", anchor="middle")
    for row, (words, cells) in enumerate(
        (("control yes", ((both, "same"), (lost, "lost"))), ("control no", ((gained, "gained"), (neither, "same"))))
    ):
        y = 26 + row * (cell + 4)
        canvas.text(_LEFT, y + cell / 2 + 4, words, "tick")
        for column, (value, style) in enumerate(cells):
            x, share = _LEFT + side + width * column, value / total if total else 0.0
            canvas.rect(x + 1, y, width - 2, cell, "empty")
            canvas.rect(x + 1, y, width - 2, cell, f"pair-{style}", opacity=0.1 + 0.5 * share)
            shown = number(_count(value)) + ("" if style == "same" else f" {style}")
            canvas.text(x + width / 2, y + cell / 2 + 5, shown, "strong", anchor="middle")
    description = (
        f"Both arms {number(_count(both))}, only control {number(_count(lost))}, "
        f"only treated {number(_count(gained))}, neither {number(_count(neither))}."
    )
    return canvas, "Paired outcomes: only the two coloured cells carry a difference", description


def _paired_values(figure: Mapping[str, Json]) -> Drawing:
    control, treated = read_numbers(figure.get("control")), read_numbers(figure.get("treated"))
    if len(control) != len(treated):
        raise NoPicture("one value per arm and pair")
    pairs = list(zip(control, treated, strict=True))
    drawn = pairs[:: -(-len(pairs) // _MOST_POINTS)]
    left, right, top, floor = 116.0, 376.0, 24.0, 264.0
    across = Scale.covering([*control, *treated], left, right)
    up = Scale(across.low, across.high, floor, top)
    canvas = Canvas(floor + 42)
    canvas.upright(up, left, right)
    canvas.line(left, floor, right, top, "zero")
    canvas.text(left - 8, top - 10, "treated", "strong", anchor="middle")
    canvas.text(left + 8, top + 12, "treated higher", "tick")
    canvas.text(right - 8, floor - 8, "treated lower", "tick", anchor="end")
    for before, after in drawn:
        style = "point-up" if after > before else "point-down" if after < before else "point-same"
        canvas.circle(across(before), up(after), 3.2, f"point {style}")
    canvas.axis(across, floor, "control")
    higher, lower = (
        sum(after > before for before, after in pairs),
        sum(after < before for before, after in pairs),
    )
    description = (
        f"{len(pairs)} pairs: {higher} higher, {lower} lower, {len(pairs) - higher - lower} equal in the treated arm."
    )
    return canvas, "Paired values, one point a prompt; the diagonal is no change", description


class _Row(NamedTuple):
    """A row of a forest, of bars or of gates: a name, a number or None, and its interval where there is one."""

    name: str
    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def read(cls, given: Mapping[str, Json], key: str = "estimate") -> _Row:
        return cls(read_text(given.get("name")), *(read_optional(given.get(part)) for part in (key, "low", "high")))

    @property
    def numbers(self) -> list[float]:
        """All its numbers."""
        return [number for number in self[1:] if isinstance(number, float)]

    def __str__(self) -> str:
        value = "undefined" if self.value is None else number(self.value)
        return f"{self.name} {value}{_span(self.low, self.high)}"


def _span(low: float | None, high: float | None, form: str = " ({} to {})") -> str:
    """An interval in words; "" where there is none."""
    return "" if low is None or high is None else form.format(number(low), number(high))


def _rows(figure: Mapping[str, Json], label: str, key: str = "estimate") -> tuple[list[_Row], str]:
    """The rows of a figure, at most ``_MOST_ROWS``, and its label, which says where some are left out."""
    given = _mappings(figure.get("rows"), None)
    left_out = f" (the first {_MOST_ROWS} of {len(given)})" if len(given) > _MOST_ROWS else ""
    return [_Row.read(row, key) for row in given[:_MOST_ROWS]], read_text(figure.get("label"), label) + left_out


def _forest(figure: Mapping[str, Json]) -> Drawing:
    rows, label = _rows(figure, "estimate")
    pooled = figure.get("pooled")
    if pooled is not None:
        rows.append(_Row.read({"name": "all together", **read_mapping(pooled)}))
    if any(row.value is None for row in rows):
        raise NoPicture("one estimate a row")
    margin = read_optional(figure.get("margin"))
    values = [0.0, *(value for row in rows for value in row.numbers)]
    scale = Scale.covering(values + ([] if margin is None else [margin]), _LEFT + _NAMES, _RIGHT)
    step = 22.0
    floor = 10 + step * len(rows)
    canvas = Canvas(floor + 44)
    canvas.line(scale(0), 4, scale(0), floor, "zero")
    if margin is not None:
        canvas.line(scale(margin), 4, scale(margin), floor, "margin")
    for place, row in enumerate(rows):
        is_pooled = pooled is not None and place == len(rows) - 1
        y = 10 + step * (place + 0.5)
        canvas.text(_LEFT, y + 4, row.name, "strong" if is_pooled else "", room=_NAMES - 8)
        _whisker(canvas, scale, y, row.value or 0.0, row.low, row.high, "effect" if is_pooled else "plain")
    canvas.axis(scale, floor, label)
    return canvas, read_text(figure.get("label"), "estimate"), "; ".join(map(str, rows)) + "."


def _bars(figure: Mapping[str, Json]) -> Drawing:
    rows, label = _rows(figure, "value", "value")
    if any(row.value is None for row in rows):
        raise NoPicture("one value a row")
    values = [0.0, *(value for row in rows for value in row.numbers)]
    most = read_optional(figure.get("max"))
    least, most = min(values), max([*values, *([] if most is None else [most])])
    step, numbers_room = 22.0, 56.0
    scale = Scale(least, most if most > least else least + 1.0, _LEFT + _NAMES, _RIGHT - numbers_room)
    floor = 24 + step * len(rows)
    canvas = Canvas(floor + 6)
    canvas.text(_LEFT, 14, label, "tick", room=_RIGHT - _LEFT)
    canvas.line(scale(0), 20, scale(0), floor, "axis")
    for place, (name, value, low, high) in enumerate(rows):
        y, end = 24 + step * place, scale(value or 0.0)
        canvas.text(_LEFT, y + 14, name, room=_NAMES - 8)
        canvas.rect(min(scale(0), end), y + 3, max(abs(end - scale(0)), 0.8), step - 7, "fill-1")
        if low is not None and high is not None:
            canvas.line(scale(low), y + step / 2 - 0.5, scale(high), y + step / 2 - 0.5, "whisker plain")
        canvas.text(_RIGHT, y + 14, number(_count(value or 0.0)), "tick", anchor="end")
    description = "; ".join(f"{row.name} {number(_count(row.value or 0.0))}" for row in rows)
    return canvas, read_text(figure.get("label"), "value"), f"{description}."


def _lines(figure: Mapping[str, Json]) -> Drawing:
    series = []
    for row in _mappings(figure.get("series"), _MOST_SERIES):
        x, y = read_numbers(row.get("x")), read_numbers(row.get("y"))
        edges = [None if row.get(key) is None else read_numbers(row.get(key)) for key in ("low", "high")]
        if any(len(other) != len(x) for other in (y, *(edge for edge in edges if edge is not None))):
            raise NoPicture("one y per x")
        series.append((read_text(row.get("name")), x, y, edges[0], edges[1]))
    xlabel, ylabel = read_text(figure.get("xlabel")), read_text(figure.get("ylabel"))
    bar = read_optional(figure.get("bar"))
    top, floor = 40.0, 204.0
    across = Scale.covering([value for _, x, *_ in series for value in x], _LEFT + 44, _RIGHT, pad=0.03)
    every = [value for _, _, *columns in series for column in columns if column is not None for value in column]
    up = Scale.covering(every if bar is None else [*every, bar], floor, top)
    canvas = Canvas(floor + 42)
    canvas.upright(up, _LEFT + 44, _RIGHT)
    if bar is not None:
        canvas.line(_LEFT + 44, up(bar), _RIGHT, up(bar), "margin")
    canvas.text(_LEFT, 12, ylabel, "tick", room=_RIGHT - _LEFT)
    canvas.legend(28, ((f"fill-{place % 6}", name) for place, (name, *_) in enumerate(series)), x=_LEFT)
    for place, (_, x, y, low, high) in enumerate(series):
        if low is not None and high is not None:
            upper = [(across(a), up(b)) for a, b in zip(x, high, strict=True)]
            lower = [(across(a), up(b)) for a, b in zip(x, low, strict=True)]
            canvas.path([*upper, *reversed(lower)], f"band fill-{place % 6}", closed=True)
        points = [(across(a), up(b)) for a, b in zip(x, y, strict=True)]
        canvas.path(points, f"curve stroke-{place % 6}")
        if len(points) <= 40:
            for at, height in points:
                canvas.circle(at, height, 3, f"fill-{place % 6}")
    canvas.axis(across, floor, xlabel, least=1.0 if figure.get("whole") is True else 0.0)
    parts = [f"{name} from {number(y[0])} to {number(y[-1])}" for name, _, y, *_ in series]
    return canvas, f"{ylabel or 'value'} by {xlabel or 'position'}", "; ".join(parts) + "."


def _curves(figure: Mapping[str, Json]) -> Drawing:
    """Logs by step: a small picture, one line a run, broken where a value is missing."""
    given = _mappings(figure.get("series"), None)
    series = []
    for row in given[:_MOST_SERIES]:
        x, y = read_numbers(row.get("x")), [read_optional(value) for value in read_list(row.get("y"))]
        if len(x) != len(y):
            raise NoPicture("one y per x")
        series.append((read_text(row.get("name")), list(zip(x, y, strict=True))))
    known = [(x, y) for _, points in series for x, y in points if y is not None]
    if not known:
        raise NoPicture("no value at all")
    title, xlabel = read_text(figure.get("title")), read_text(figure.get("xlabel"))
    shown = f"{title} (the first {_MOST_SERIES} of {len(given)})" if len(given) > _MOST_SERIES else title
    across_row = 3 if max(text_width(name) for name, _ in series) < 64 else 2
    entries = [(f"fill-{place}", name) for place, (name, _) in enumerate(series)] if len(series) > 1 else []
    top = 26.0 + 16 * -(-len(entries) // across_row)
    floor, left, right = top + 118, 52.0, _SMALL - 10
    across = Scale.covering([x for x, _ in known], left, right, pad=0.03)
    up = Scale.covering([y for _, y in known], floor, top)
    canvas = Canvas(floor + 40, width=_SMALL)
    canvas.text(0, 14, shown, "strong", room=_SMALL)
    for row_at, first in enumerate(range(0, len(entries), across_row)):
        canvas.legend(32 + 16 * row_at, entries[first : first + across_row], x=0)
    canvas.upright(up, left, right)
    parts = []
    for place, (name, points) in enumerate(series):
        for run in _unbroken(_thinned(points)):
            if len(run) == 1:
                canvas.circle(across(run[0][0]), up(run[0][1]), 2.5, f"fill-{place}")
            else:
                canvas.path([(across(x), up(y)) for x, y in run], f"curve stroke-{place}")
        values = [y for _, y in points if y is not None]
        missing = len(points) - len(values)
        ends = f"from {number(values[0])} to {number(values[-1])}" if values else "no value"
        parts.append(f"{name} {ends}" + (f", {missing} values missing" if missing and values else ""))
    canvas.axis(across, floor, xlabel, least=1.0)
    return canvas, f"{title or 'value'} by {xlabel or 'position'}", "; ".join(parts) + "."


def _heatmap(figure: Mapping[str, Json]) -> Drawing:
    """Cells whose shade is their size and whose colour is their sign; those beyond ``bound`` (``one_sided``: above) have a frame."""
    label, down, across = (read_text(figure.get(key)) for key in ("label", "ylabel", "xlabel"))
    rows = [read_text(item) for item in read_list(figure.get("rows"))]
    columns = [read_text(item) for item in read_list(figure.get("cols"))]
    table = [[read_optional(value) for value in read_list(row, at_least=0)] for row in read_list(figure.get("values"))]
    if len(table) != len(rows) or any(len(row) != len(columns) for row in table):
        raise NoPicture("one value, or none, for each row and column")
    known = [
        (value, row, column) for row, line in enumerate(table) for column, value in enumerate(line) if value is not None
    ]
    if max(len(rows), len(columns)) > _MOST_CELLS or not known:
        raise NoPicture("more cells than can be seen, or none")
    bound, one_sided = read_optional(figure.get("bound")), figure.get("one_sided") is True
    most = max(abs(value) for value, _, _ in known) or 1.0
    left, top, width = 62.0, 46.0, (_RIGHT - 62.0) / len(columns)
    height = min(18.0, max(5.0, 420.0 / len(rows)), width * 2)
    canvas = Canvas(top + height * len(rows) + 34)
    canvas.legend(14, [("fill-1", f"above 0, to {number(most)}"), ("fill-0", "below 0")], x=left)
    for place, name in _every(columns, width, text_width(max(columns, key=len)) + 6):
        canvas.text(left + width * (place + 0.5), top - 6, name, "tick", anchor="middle", room=60)
    for place, name in _every(rows, height, 12.0):
        canvas.text(left - 6, top + height * (place + 0.5) + 4, name, "tick", anchor="end", room=50)
    beyond = 0
    for row, line in enumerate(table):
        for column, value in enumerate(line):
            x, y = left + width * column, top + height * row
            if value is None:
                continue
            canvas.rect(
                x, y, width - 0.5, height - 0.5, f"fill-{int(value > 0)}", opacity=0.03 + 0.97 * abs(value) / most
            )
            if bound is not None and (value if one_sided else abs(value)) > bound:
                beyond += 1
                canvas.rect(x, y, width - 0.5, height - 0.5, "framed")
    named = " by ".join(filter(None, (down, across)))
    caption = named if bound is None else f"{named}; framed: beyond {number(bound)}"
    canvas.text((left + _RIGHT) / 2, canvas.height - 12, caption, "tick", anchor="middle", room=_RIGHT - left)
    value, row, column = max(known, key=lambda cell: abs(cell[0]))
    description = f"Largest {number(value)}, at {rows[row]}, {columns[column]}."
    return (
        canvas,
        label,
        description if bound is None else f"{description} {beyond} of {len(known)} cells beyond {number(bound)}.",
    )


def _every(names: Sequence[str], step: float, room: float) -> Iterator[tuple[int, str]]:
    """Names far enough apart to be read, with their places."""
    stride = max(1, -(-int(room) // max(1, int(step))))
    return ((place, name) for place, name in enumerate(names) if place % stride == 0)


def _thinned(points: list[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    """At most ``_MOST_STEPS`` points: the first, the last, and of each stretch between them the lowest and the highest.

    A spike stays to be seen; a missing value stands for its stretch where the stretch has no other.
    """
    if len(points) <= _MOST_STEPS:
        return points
    inner, stretches = points[1:-1], (_MOST_STEPS - 2) // 2
    kept = [points[0]]
    for at in range(stretches):
        stretch = inner[at * len(inner) // stretches : (at + 1) * len(inner) // stretches]
        known = [(y, place) for place, (_, y) in enumerate(stretch) if y is not None]
        chosen = {min(known)[1], max(known)[1]} if known else {0}
        kept += [stretch[place] for place in sorted(chosen)]
    return [*kept, points[-1]]


def _unbroken(points: list[tuple[float, float | None]]) -> Iterator[list[tuple[float, float]]]:
    """Stretches of points without a missing value."""
    run: list[tuple[float, float]] = []
    for x, y in points:
        if y is not None:
            run.append((x, y))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _gates(figure: Mapping[str, Json]) -> Drawing:
    """Estimates with their intervals, each against a bar of its own: the shaded part of a row is where its bar is met."""
    rows, label = _rows(figure, "estimate")
    gates = [(read_number(row.get("bar")), row) for row in _mappings(figure.get("rows"), None)[:_MOST_ROWS]]
    line = read_optional(figure.get("line"))
    known = [*(value for row in rows for value in row.numbers), *(bar for bar, _ in gates)]
    names = min(max(_NAMES / 2, max(text_width(row.name) for row in rows) + 14), 190.0)
    scale = Scale.covering([*known, *([] if line is None else [line])], _LEFT + names, _RIGHT - 50)
    step = 24.0
    floor = 10 + step * len(rows)
    canvas = Canvas(floor + 44)
    parts = []
    for place, (row, (bar, given)) in enumerate(zip(rows, gates, strict=True)):
        top = 10 + step * place
        y = top + step / 2
        start, end = (scale.start, scale(bar)) if given.get("rule") == "at most" else (scale(bar), scale.end)
        canvas.rect(start, top + 2, end - start, step - 4, "region-good")
        canvas.line(scale(bar), top + 2, scale(bar), top + step - 2, "margin")
        canvas.text(_LEFT, y + 4, row.name, room=names - 6)
        shown, came = "undefined", ""
        if row.value is not None:
            passed = given.get("passed")
            style, came = _CAME[passed if isinstance(passed, bool) else None]
            _whisker(canvas, scale, y, row.value, row.low, row.high, style)
            shown = number(row.value)
        canvas.text(_RIGHT, y + 4, shown, "tick", anchor="end")
        parts.append(f"{row}, bar {number(bar)} {came}".rstrip())
    if line is not None:
        canvas.line(scale(line), 6, scale(line), floor, "zero")
    canvas.axis(scale, floor, label)
    return canvas, f"{read_text(figure.get('label'), 'estimate')} against the bars", "; ".join(parts) + "."


_CAME = {True: ("met", "met"), False: ("missed", "missed"), None: ("open", "not settled")}
"""Style and words of whether a bar is met."""


def _scatter(figure: Mapping[str, Json]) -> Drawing:
    """Points of a few groups; a group has a colour, and is drawn as dots or as rings."""
    groups = []
    for row in _mappings(figure.get("groups"), _MOST_SERIES):
        points = [read_numbers(point, at_least=2) for point in read_list(row.get("points"))]
        colour = row.get("colour")
        if any(len(point) != 2 for point in points) or not isinstance(colour, int) or not 0 <= colour < _MOST_SERIES:
            raise NoPicture("two numbers a point, and a colour")
        groups.append((read_text(row.get("name")), points, colour, row.get("ring") is True))
    xlabel, ylabel = read_text(figure.get("xlabel")), read_text(figure.get("ylabel"))
    left, top, floor = _LEFT + 44, 58.0, 308.0
    across = Scale.covering([x for _, points, *_ in groups for x, _ in points], left, _RIGHT, pad=0.04)
    up = Scale.covering([y for _, points, *_ in groups for _, y in points], floor, top, pad=0.04)
    canvas = Canvas(floor + 42)
    for place, (name, _, colour, is_ring) in enumerate(groups):
        x, y = _LEFT + (place % 2) * 200, 10.0 + 16 * (place // 2)
        canvas.circle(x + 5, y, 4, f"ring stroke-{colour}" if is_ring else f"fill-{colour}")
        canvas.text(x + 16, y + 4, name, "tick", room=178)
    canvas.text(_LEFT, top - 10, ylabel, "tick", room=_RIGHT - _LEFT)
    canvas.upright(up, left, _RIGHT)
    # one after the other, so that no group hides the others
    ordered = sorted(
        (at / len(points), place, point)
        for place, (_, points, *_) in enumerate(groups)
        for at, point in enumerate(points)
    )
    for _, place, (x, y) in ordered[:: -(-len(ordered) // _MOST_DOTS)]:
        _, _, colour, is_ring = groups[place]
        canvas.circle(across(x), up(y), 3, f"ring stroke-{colour}" if is_ring else f"point fill-{colour}")
    canvas.axis(across, floor, xlabel)
    description = "; ".join(f"{name}: {len(points)} points" for name, points, *_ in groups)
    return canvas, f"{ylabel or 'value'} by {xlabel or 'position'}", f"{description}."


def _mappings(value: Json, most: int | None) -> Sequence[Mapping[str, Json]]:
    """A list of at least one and at most ``most`` JSON objects; raises NoPicture on anything else."""
    rows = [read_mapping(item) for item in read_list(value)]
    if most is not None and len(rows) > most:
        raise NoPicture("more than the eye can tell apart")
    return rows


_DRAWERS: Mapping[str, Callable[[Mapping[str, Json]], Drawing]] = {
    "interval": _interval,
    "histogram": _histogram,
    "table2x2": _table2x2,
    "pairs": _pairs,
    "paired_values": _paired_values,
    "forest": _forest,
    "bars": _bars,
    "lines": _lines,
    "curves": _curves,
    "gates": _gates,
    "scatter": _scatter,
    "heatmap": _heatmap,
}
