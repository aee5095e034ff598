"""The pictures: each kind is drawn to scale, and data that cannot be drawn leaves the page whole."""

from __future__ import annotations

import copy
import math
import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterclaim.report.canvas import WIDTH, Scale
from counterclaim.report.figures import draw
from counterclaim.report.words import cleaned

FIGURES: dict[str, dict[str, Any]] = {
    "interval": {
        "kind": "interval",
        "estimate": 0.08,
        "low": 0.02,
        "high": 0.14,
        "margin": 0.05,
        "zero": 0,
        "direction": 1,
        "label": "change",
    },
    "histogram": {
        "kind": "histogram",
        "xlabel": "characters",
        "edges": [0, 10, 20, 30],
        "series": [{"name": "control", "counts": [1, 2, 9]}, {"name": "treated", "counts": [4, 4, 4]}],
        "marks": [{"x": 30, "label": "ceiling"}],
    },
    "table2x2": {
        "kind": "table2x2",
        "rows": ["right", "wrong"],
        "cols": ["assert", "hedge"],
        "arms": [{"name": "control", "cells": [[53, 5], [38, 4]]}, {"name": "treated", "cells": [[1, 2], [3, 4]]}],
    },
    "pairs": {"kind": "pairs", "cells": {"both": 41, "only_control": 17, "only_treated": 6, "neither": 36}},
    "paired_values": {"kind": "paired_values", "control": [0.1, 0.5, 0.7], "treated": [0.2, 0.5, 0.1]},
    "forest": {
        "kind": "forest",
        "label": "difference",
        "rows": [{"name": "seed 1", "estimate": 0.1, "low": 0.0, "high": 0.2}, {"name": "seed 2", "estimate": -0.1}],
        "pooled": {"estimate": 0.0, "low": -0.1, "high": 0.1},
        "margin": 0.05,
    },
    "bars": {
        "kind": "bars",
        "label": "share",
        "rows": [{"name": "ties", "value": 0.31, "low": 0.2, "high": 0.4}, {"name": "rest", "value": 0.69}],
        "max": 1,
    },
    "lines": {
        "kind": "lines",
        "xlabel": "dose",
        "ylabel": "share",
        "series": [
            {"name": "a", "x": [0, 1, 2], "y": [0.1, 0.2, 0.4], "low": [0, 0.1, 0.3], "high": [0.2, 0.3, 0.5]},
            {"name": "b", "x": [0, 1], "y": [0.1, 0.1]},
        ],
    },
    "gates": {
        "kind": "gates",
        "label": "AUC",
        "line": 0.5,
        "rows": [
            {
                "name": "training",
                "estimate": 0.8,
                "low": 0.7,
                "high": 0.9,
                "bar": 0.65,
                "rule": "at least",
                "passed": True,
            },
            {"name": "fresh", "estimate": None, "bar": 0.63, "rule": "at least", "passed": None},
        ],
    },
    "scatter": {
        "kind": "scatter",
        "xlabel": "component 1",
        "ylabel": "component 2",
        "groups": [
            {"name": "training, right", "points": [[0.0, 1.0], [2.0, -1.0]], "colour": 1, "ring": True},
            {"name": "fresh, wrong", "points": [[0.5, 0.5]], "colour": 0},
        ],
    },
    "curves": {
        "kind": "curves",
        "title": "sft: loss",
        "xlabel": "step",
        "series": [
            {"name": "seed 1", "x": [1, 2, 3, 4], "y": [3.0, 2.0, 1.5, 1.2]},
            {"name": "seed 2", "x": [1, 2, 3, 4], "y": [3.1, None, 1.4, 1.3]},
        ],
    },
    "heatmap": {
        "kind": "heatmap",
        "label": "d of every head",
        "ylabel": "layer",
        "xlabel": "head",
        "rows": ["0", "1", "2"],
        "cols": ["0", "1"],
        "values": [[0.1, -0.4], [None, None], [0.8, 0.0]],
        "bound": 0.5,
    },
}


def drawn(figure: Any) -> ET.Element:
    svg = draw(figure, "f")
    assert svg is not None
    return ET.fromstring(svg)


def texts(svg: ET.Element) -> list[str]:
    return [element.text or "" for element in svg.iter("text")]


@pytest.mark.parametrize("kind", FIGURES)
def test_each_kind_is_drawn_inside_its_box_and_describes_itself(kind: str) -> None:
    svg = drawn(FIGURES[kind])
    assert svg.attrib["role"] == "img"
    assert svg.attrib["aria-labelledby"] == "f-t f-d"
    assert [child.tag for child in svg[:2]] == ["title", "desc"]
    assert all(child.text for child in svg[:2])
    height = float(svg.attrib["viewBox"].split()[3])
    for element in svg.iter():
        for names, most in ((("x", "x1", "x2", "cx"), WIDTH), (("y", "y1", "y2", "cy"), height)):
            for name in names:
                assert -0.5 <= float(element.attrib.get(name, 0)) <= most + 0.5
        assert float(element.attrib.get("width", 0)) >= 0
    assert draw(FIGURES[kind], "f") == draw(copy.deepcopy(FIGURES[kind]), "f")


def test_an_interval_names_its_regions_from_the_wrong_side_to_the_claimed() -> None:
    styles = {
        rect.attrib["class"]: float(rect.attrib["x"])
        for rect in drawn(FIGURES["interval"]).iter("rect")
        if rect.attrib["class"].startswith("region") and float(rect.attrib["y"]) > 20
    }
    assert styles["region-wrong"] < styles["region-small"] < styles["region-good"]
    flipped = {**FIGURES["interval"], "direction": -1}
    styles = {
        rect.attrib["class"]: float(rect.attrib["x"])
        for rect in drawn(flipped).iter("rect")
        if rect.attrib["class"].startswith("region") and float(rect.attrib["y"]) > 20
    }
    assert styles["region-good"] < styles["region-small"] < styles["region-wrong"]
    for words in ("wrong side", "too small to matter", "supports", "+0.080"):
        assert words in texts(drawn(FIGURES["interval"]))


def test_a_margin_on_the_losing_side_is_an_allowance() -> None:
    words = texts(drawn({**FIGURES["interval"], "margin": -0.02}))
    assert "too much lost" in words
    assert "allowed" in words
    assert "supports" not in words


def test_an_interval_without_bounds_or_margin_is_a_dot_on_an_axis() -> None:
    svg = drawn({"kind": "interval", "estimate": 0.6, "low": None, "high": None, "zero": 0.5, "label": "AUC"})
    assert len(list(svg.iter("circle"))) == 1
    assert not list(svg.iter("rect"))


def test_a_histogram_is_drawn_to_scale() -> None:
    heights = {
        style: [
            float(rect.attrib["height"])
            for rect in drawn(FIGURES["histogram"]).iter("rect")
            if rect.attrib["class"] == style
        ]
        for style in ("fill-0", "fill-1")
    }
    assert heights["fill-0"][2] == pytest.approx(9 * heights["fill-0"][0], abs=0.5)
    assert heights["fill-1"][0] == heights["fill-1"][1]
    assert "ceiling" in texts(drawn(FIGURES["histogram"]))


def test_a_far_mark_is_named_at_the_edge_and_leaves_the_bars_their_room() -> None:
    far = {**FIGURES["histogram"], "marks": [{"x": 32768, "label": "budget"}]}
    near = {**FIGURES["histogram"], "marks": []}
    bars = [[rect.attrib["x"] for rect in drawn(figure).iter("rect")] for figure in (far, near)]
    assert bars[0] == bars[1]
    assert "budget (32,768) →" in texts(drawn(far))


def test_paired_values_colour_each_side_of_the_diagonal() -> None:
    dots = list(drawn(FIGURES["paired_values"]).iter("circle"))
    assert [dot.attrib["class"] for dot in dots] == ["point point-up", "point point-same", "point point-down"]
    many = {"kind": "paired_values", "control": list(range(3000)), "treated": list(range(3000))}
    assert len(list(drawn(many).iter("circle"))) <= 400


def test_a_forest_and_bars_say_what_they_leave_out() -> None:
    rows = [{"name": f"row {index}", "estimate": 0.1, "value": 0.1} for index in range(90)]
    for figure in ({"kind": "forest", "rows": rows, "label": "x"}, {"kind": "bars", "rows": rows, "label": "x"}):
        svg = drawn(figure)
        assert any("the first 40 of 90" in words for words in texts(svg))


def test_a_long_name_is_cut_and_kept_whole_in_a_tooltip() -> None:
    name = "a column name that is much longer than its room"
    svg = drawn({"kind": "bars", "label": "x", "rows": [{"name": name, "value": 1}]})
    assert [title.text for text in svg.iter("text") for title in text.iter("title")] == [name]


def lengths(svg: ET.Element) -> list[int]:
    """Points of every curve."""
    return [path.attrib["d"].count("L") + 1 for path in svg.iter("path")]


def test_a_curve_breaks_where_a_value_is_missing_and_says_so() -> None:
    svg = drawn(FIGURES["curves"])
    assert lengths(svg) == [4, 2]
    assert len(list(svg.iter("circle"))) == 1, "a value between two that are missing is a dot"
    assert "seed 2 from 3.100 to 1.300, 1 values missing" in str(svg[1].text)
    assert {"seed 1", "seed 2", "sft: loss", "step"} <= set(texts(svg))


def test_a_heat_map_shades_by_size_colours_by_sign_and_frames_what_is_beyond_the_bound() -> None:
    svg = drawn(FIGURES["heatmap"])
    cells = [
        rect.attrib for rect in svg.iter("rect") if "fill-opacity" in rect.attrib or rect.attrib["class"] == "framed"
    ]
    shades = {(cell["class"], cell.get("fill-opacity")) for cell in cells}
    assert shades == {("fill-1", "0.15"), ("fill-0", "0.52"), ("fill-0", "0.03"), ("framed", None)}
    framed = next(cell for cell in cells if cell["class"] == "framed")
    largest = next(r.attrib for r in svg.iter("rect") if "fill-opacity" not in r.attrib and float(r.attrib["y"]) > 40)
    assert (framed["x"], framed["y"]) == (largest["x"], largest["y"])
    below = copy.deepcopy(FIGURES["heatmap"]) | {"bound": 0.3}
    assert sum(rect.attrib["class"] == "framed" for rect in drawn(below).iter("rect")) == 2
    assert sum(rect.attrib["class"] == "framed" for rect in drawn(below | {"one_sided": True}).iter("rect")) == 1
    assert "1 of 4 cells beyond 0.5" in "".join(element.text or "" for element in svg.iter() if element.tag == "desc")


def test_a_long_log_is_thinned_and_keeps_its_ends_and_its_spike() -> None:
    n = 5000
    log = [1.0 + (i % 7) / 100 for i in range(n)]
    log[0], log[1234], log[-1] = 2.0, 9.0, 0.5
    svg = drawn({"kind": "curves", "title": "loss", "series": [{"name": "seed 1", "x": list(range(n)), "y": log}]})
    assert 150 <= lengths(svg)[0] <= 200
    heights = [float(point.split(" ")[1]) for path in svg.iter("path") for point in path.attrib["d"][1:].split("L")]
    assert heights[0] == pytest.approx(heights[-1] - (2.0 - 0.5) * (heights[-1] - min(heights)) / (9.0 - 0.5), abs=0.2)
    assert heights[-1] == max(heights)
    assert min(heights) < heights[0] - 50, "the spike"
    assert not any(text.startswith("seed") for text in texts(svg)), "one line needs no legend"


def test_more_runs_than_the_eye_tells_apart_are_counted() -> None:
    series = [{"name": f"seed {i}", "x": [1, 2], "y": [1.0, i]} for i in range(9)]
    svg = drawn({"kind": "curves", "title": "loss", "series": series})
    assert len(lengths(svg)) == 6
    assert "loss (the first 6 of 9)" in texts(svg)


BROKEN: list[Any] = [
    None,
    "interval",
    {},
    {"kind": "pie"},
    {"kind": ["interval"]},
    {"kind": "interval"},
    {"kind": "interval", "estimate": float("nan")},
    {"kind": "interval", "estimate": 10**400},
    {"kind": "interval", "estimate": True},
    {"kind": "histogram", "edges": [0, 1], "series": [{"name": "a", "counts": [1, 2]}]},
    {"kind": "histogram", "edges": [1, 0], "series": [{"name": "a", "counts": [1]}]},
    {"kind": "histogram", "edges": [0, 1], "series": [{"name": "a", "counts": [-1]}]},
    {"kind": "histogram", "edges": [0, 1], "series": [{"name": "a", "counts": [1]}], "marks": 5},
    {"kind": "table2x2", "rows": ["a"], "cols": ["b", "c"], "arms": []},
    {"kind": "pairs", "cells": {"both": 1}},
    {"kind": "pairs", "cells": {"both": -1, "only_control": 0, "only_treated": 0, "neither": 0}},
    {"kind": "paired_values", "control": [1, 2], "treated": [1]},
    {"kind": "paired_values", "control": [], "treated": []},
    {"kind": "forest", "rows": []},
    {"kind": "forest", "rows": [{"name": "a", "estimate": 1}], "pooled": 5},
    {"kind": "bars", "rows": [{"name": "a"}]},
    {"kind": "lines", "series": [{"name": "a", "x": [1], "y": [1, 2]}]},
    {"kind": "lines", "series": [{"name": "a", "x": [1], "y": [1]}] * 7},
    {"kind": "curves", "series": [{"name": "a", "x": [1, 2], "y": [None, None]}]},
    {"kind": "curves", "series": [{"name": "a", "x": [None], "y": [1]}]},
    {"kind": "curves", "series": [{"name": "a", "x": [1, 2], "y": [1]}]},
]


@pytest.mark.parametrize("figure", BROKEN, ids=str)
def test_what_cannot_be_drawn_is_no_picture(figure: Any) -> None:
    assert draw(figure, "f") is None


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(place for key, child in pairs for place in paths(child, (*here, key)))]


numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([0, 1e-320, 5e-324, 1e15, -1e15, 1e16]))
junk = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=250, deadline=None)
@given(kind=st.sampled_from(sorted(FIGURES)), data=st.data())
def test_any_change_to_a_figure_gives_a_picture_or_none(kind: str, data: st.DataObject) -> None:
    figure = copy.deepcopy(FIGURES[kind])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from([path for path in paths(figure) if path]))
        holder: Any = figure
        for key in place[:-1]:
            holder = holder[key]
        holder[place[-1]] = data.draw(numbers | junk)
    draw(figure, "f")
    svg = draw(cleaned(figure), "f")
    for element in ET.fromstring(svg).iter() if svg is not None else ():
        for name in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height"):
            assert math.isfinite(float(element.attrib.get(name, 0)))
        assert not re.search("nan|inf", element.attrib.get("d", ""))


@given(st.lists(st.floats(-1e15, 1e15), min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_a_scale_holds_its_values_and_has_few_ticks_within(values: list[float]) -> None:
    scale = Scale.covering(values, 10, 430)
    assert all(9.9 <= scale(value) <= 430.1 for value in values)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 12
    assert all(scale.low - 1e-6 * abs(scale.low) <= value <= scale.high + 1e-6 * abs(scale.high) for value, _ in ticks)
