"""The five steps on the pages: every number against its bar, pictures to scale, hostile names harmless, broken data survived."""

from __future__ import annotations

import copy
import random
import re
from html import unescape
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from counterclaim.records import Claim, Verdict, VerdictOutcome
from counterclaim.report import Page, probed, render_html, render_markdown
from counterclaim.report.figures import draw
from counterclaim.report.words import number
from planted_probes import HEDGED, RIGHT, planted, put_through

DEEP = "score.depth>=3"
HOSTILE = "</style><script>alert(1)</script> {{ 7 * 7 }} | `x` @maintainer \u202egnp.exe"


@pytest.fixture(scope="module")
def probing() -> Any:
    """A probe that forgets, with three axes, five layers and a second family that remembers."""
    first = planted(
        3, {RIGHT: (2.2, 0.0), HEDGED: (2.2, 2.2), DEEP: (1.0, 1.0)}, layers=4,
        asserted=(np.ones(90), np.arange(193) % 2.0),
    )  # fmt: skip
    second = planted(4, {RIGHT: (2.2, 2.2)}, model="second")
    return put_through(first, second, axes=(HEDGED, DEEP), permutations=9, splits=1, C=(1.0, 0.1))


def page_of(found: Any) -> Page:
    verdict = Verdict("", VerdictOutcome.REFUTED, "It forgets.")
    return Page(Claim("assertion_asymmetry", "decrease", 0.1), verdict, probing=found)


def section(found: Any) -> str:
    return render_html(page_of(found)).partition('id="h-probed"')[2].partition("</section>")[0]


def words(html: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))


def test_the_page_has_every_step_with_its_number_its_bar_and_its_power(probing: Any) -> None:
    text = words(section(probing))
    assert "1 within-distribution ✓ passed" in text
    assert "2 fresh prompts ✕ missed" in text
    for step in probing["steps"]:
        for test in step["tests"]:
            estimate = test["estimate"]
            assert f"{number(estimate['estimate'])} {number(estimate['low'])} to {number(estimate['high'])}" in text
            assert f"{number(test['bar'])}" in text
        glyph, word, _ = probed.MARKS[step["passed"]]
        assert f"{step['step']} {step['name']} {glyph} {word}" in text
        assert step["power"] in text
    assert probing["steps"][3]["because"] in text, "what the tests do not say"
    assert "A probe for correct=1 (last state, last token, logistic, C 1) on planted, and second in step 5." in text
    for mode in probing["taxonomy"]:
        assert f"{mode['mode']} {mode['because']}" in text


def test_the_tables_below_hold_every_reading_and_every_judge(probing: Any) -> None:
    text = words(section(probing))
    assert text.count("(chosen in training)") == 1
    assert "last state, last token, logistic, C 0.1" in text
    assert len(probed.readings(page_of(probing))) == len(probing["steps"][3]["rows"])
    assert [row[0] for row in probed.judges(page_of(probing))] == ["asserted", HEDGED, DEEP]
    axes, rows = probed.correlations(page_of(probing))
    assert axes == [row[0] for row in rows] == [RIGHT, HEDGED, DEEP]
    assert [row[at] for at, row in enumerate(rows, 1)] == ["1.000"] * 3


def test_the_markdown_twin_says_the_same(probing: Any) -> None:
    text = render_markdown(page_of(probing))
    assert "### The five steps" in text
    assert "| **2 fresh prompts** |  |  |  | **✕ missed** |" in text
    for step in probing["steps"]:
        assert number(step["tests"][0]["estimate"]["estimate"]) in text
        assert step["power"] in text
    assert "Why it fails:" in text


def test_pictures_are_drawn_from_what_was_found(probing: Any) -> None:
    figures = [figure for figure, _ in probed.figures(page_of(probing))]
    assert [figure["kind"] for figure in figures] == ["gates", "gates", "lines", "scatter"]
    assert [row["name"] for row in figures[0]["rows"]] == [
        "1 training", "2 fresh", "4 chosen in training, fresh", "5 second model, training", "5 second model, fresh",
    ]  # fmt: skip
    assert figures[2]["series"][1]["x"] == [0, 1, 2, 3]
    assert sum(len(group["points"]) for group in figures[3]["groups"]) == 90 + 193
    assert section(probing).count("<svg") == 4
    without = copy.deepcopy(probing)
    without["pca"] = None
    assert section(without).count("<svg") == 3


def svg(figure: Any) -> ET.Element:
    made = draw(figure, "f")
    assert made is not None
    return ET.fromstring(made)


def gates(*rows: Any, **more: Any) -> ET.Element:
    return svg({"kind": "gates", "label": "AUC", "line": 0.5, "rows": list(rows), **more})


MET = {"name": "training", "estimate": 0.8, "low": 0.7, "high": 0.9, "bar": 0.65, "rule": "at least", "passed": True}


def test_a_gate_is_shaded_where_its_bar_is_met() -> None:
    missed = {**MET, "name": "fresh", "estimate": 0.5, "low": 0.4, "high": 0.6, "passed": False}
    open_ = {**MET, "name": "second", "estimate": 0.6, "low": 0.4, "high": 0.8, "passed": None}
    drawn = gates(MET, missed, open_)
    dots = [dot.attrib for dot in drawn.iter("circle")]
    assert [dot["class"] for dot in dots] == ["dot met", "dot missed", "dot open"]
    shade = next(rect.attrib for rect in drawn.iter("rect"))
    assert float(dots[1]["cx"]) < float(shade["x"]) < float(dots[0]["cx"]) < float(shade["x"]) + float(shade["width"])
    assert "fresh 0.500 (0.400 to 0.600), bar 0.650 missed" in str(drawn[1].text)
    at_most = {**MET, "estimate": -0.3, "low": -0.4, "high": -0.2, "bar": -0.2, "rule": "at most"}
    below = next(rect.attrib for rect in gates(at_most, line=0.0).iter("rect"))
    bar = next(line.attrib for line in gates(at_most, line=0.0).iter("line") if line.attrib["class"] == "margin")
    assert float(below["x"]) + float(below["width"]) == pytest.approx(float(bar["x1"]), abs=0.2)


def test_a_gate_without_an_estimate_says_so_and_one_without_a_bar_is_no_picture() -> None:
    undefined = {**MET, "estimate": None, "low": None, "high": None, "passed": None}
    assert "undefined" in [text.text for text in gates(undefined, MET).iter("text")]
    assert draw({"kind": "gates", "rows": [{**MET, "bar": None}]}, "f") is None
    assert draw({"kind": "gates", "rows": []}, "f") is None


def test_a_scatter_has_a_colour_for_each_class_and_rings_for_training() -> None:
    groups = [
        {"name": "training, right", "points": [[0, 0], [1, 1]], "colour": 1, "ring": True},
        {"name": "fresh, wrong", "points": [[0.5, 2.0]], "colour": 0},
    ]
    drawn = svg({"kind": "scatter", "xlabel": "a", "ylabel": "b", "groups": groups})
    styles = [dot.attrib["class"] for dot in drawn.iter("circle")]
    assert sorted(styles) == ["fill-0", "point fill-0", "ring stroke-1", "ring stroke-1", "ring stroke-1"]
    assert "training, right: 2 points; fresh, wrong: 1 points" in str(drawn[1].text)
    many = [{"name": "x", "points": [[i, i] for i in range(5000)], "colour": 0}]
    assert len(list(svg({"kind": "scatter", "groups": many}).iter("circle"))) <= 1201
    for broken in ([], [{"points": [[1]], "colour": 0}], [{"points": [[1, 2]], "colour": 9}], [{"points": [[1, "x"]]}]):
        assert draw({"kind": "scatter", "groups": broken}, "f") is None


def test_a_bar_across_lines_is_drawn_and_widens_the_scale() -> None:
    series = [{"name": "a", "x": [0, 1], "y": [0.4, 0.5]}]
    drawn = svg({"kind": "lines", "series": series, "bar": 0.9})
    assert [line.attrib["class"] for line in drawn.iter("line")].count("margin") == 1
    assert not [
        line for line in svg({"kind": "lines", "series": series}).iter("line") if line.attrib["class"] == "margin"
    ]


def test_hostile_names_are_shown_and_do_nothing(probing: Any) -> None:
    bad = copy.deepcopy(probing)
    bad["cohort"] = bad["model"] = bad["second_model"] = HOSTILE
    bad["taxonomy"] = [{"mode": HOSTILE, "because": HOSTILE, "value": 1.0}]
    bad["gap"]["rows"][0]["judge"] = HOSTILE
    bad["correlations"]["axes"][0] = HOSTILE
    for step in bad["steps"]:
        step["because"] = step["power"] = step["name"] = HOSTILE
        for test in step["tests"]:
            test["axis"] = HOSTILE
    html, text = render_html(page_of(bad)), render_markdown(page_of(bad))
    assert "<script" not in html.partition("<main>")[2]
    assert "&lt;script&gt;" in html
    assert "\u202e" not in html + text
    assert "@maintainer" not in text
    assert "<script" not in text


def places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(place for key, child in pairs for place in places(child, (*here, key)))]


def test_findings_that_cannot_be_read_leave_the_page_whole(probing: Any) -> None:
    short = copy.deepcopy(probing)
    short["pca"]["points"], short["scores"] = short["pca"]["points"][:4], {}
    chosen = random.Random(0).sample(places(short)[1:], 250)
    for at, place in enumerate(chosen):
        broken = copy.deepcopy(short)
        holder = broken
        for key in place[:-1]:
            holder = holder[key]
        holder[place[-1]] = (None, 5, "x", [], {}, [3], True)[at % 7]
        assert "REFUTED" in render_html(page_of(broken)), place
        assert "REFUTED" in render_markdown(page_of(broken)), place
    for broken in (None, 5, "x", [], {}, {"steps": None}, {"steps": [3]}, {"steps": [{}]}):
        assert "REFUTED" in render_html(page_of(broken))


def test_layers_are_counted_in_whole_numbers() -> None:
    lines = {"kind": "lines", "series": [{"name": "a", "x": [0, 1], "y": [2.25, 2.35]}]}
    halves, whole = (
        [text.text for text in svg({**lines, "whole": steps}).iter("text") if text.attrib["text-anchor"] == "middle"]
        for steps in (False, True)
    )
    assert "0.5" in " ".join(map(str, halves))
    assert [tick for tick in whole if tick] == ["0", "1"]
