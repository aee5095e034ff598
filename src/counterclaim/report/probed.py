"""A probe's five steps for the pages: a table against the bars, pictures, why it fails. Words and figure data, no markup."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from counterclaim.records import Json
from counterclaim.report.page import Page
from counterclaim.report.words import number, one_line, p_value

MARKS: Mapping[bool | None, tuple[str, str, str]] = {
    True: ("✓", "passed", "pass"), False: ("✕", "missed", "fail"), None: ("?", "not settled", "warn"),
}  # fmt: skip
"""Glyph, word and style of what came of a test or a step."""

TESTS = ("what", "number", "interval", "bar", "")
READINGS = ("reading", "cross-validated AUC", "fresh AUC", "interval", "p after Holm")
JUDGES = ("told by", "its AUC", "the probe's AUC", "difference", "interval")

_NAMES: Mapping[str, str] = {
    "cv_auc": "AUC, cross-validated",
    "cv_asymmetry": "gate's assertion asymmetry, cross-validated",
    "fresh_auc": "AUC on fresh prompts",
    "fresh_asymmetry": "gate's assertion asymmetry on fresh prompts",
    "keep": "gate's P(assert | correct)",
    "axis_cv": "cross-validated",
    "axis_transfer": "on fresh prompts",
    "axis_correlation": "largest |r| between two axes",
}
_POSITIONS: Mapping[str, str] = {"last": "last token", "mean": "mean of tokens", "prompt-end": "end of prompt"}


@dataclass(frozen=True, slots=True)
class StepShown:
    """One of the five steps as it is shown.

    Attributes:
        title: number and name.
        glyph: of what came of it.
        word: what came of it.
        style: likewise, for the page's colours.
        tests: rows of ``TESTS``.
        because: one or a few sentences.
        power: what it could have seen.
        is_told: whether ``because`` says more than the tests do.
    """

    title: str
    glyph: str
    word: str
    style: str
    tests: list[list[str]]
    because: str
    power: str
    is_told: bool


def steps(page: Page) -> list[StepShown]:
    """The five steps; empty where the run has no probe."""
    return steps_of(_probing(page))


def steps_of(probing: Mapping[str, Json]) -> list[StepShown]:
    """The five steps of what was found of a probe."""
    shown = []
    for step in _mappings(probing.get("steps")):
        glyph, word, style = _mark(step.get("passed"))
        shown.append(
            StepShown(
                f"{number(step.get('step'))} {one_line(step.get('name'), 60)}", glyph, word, style,
                [_test(step, test) for test in _mappings(step.get("tests"))], one_line(step.get("because")),
                one_line(step.get("power")), step.get("step") in (3, 4) or not step.get("tests"),
            )
        )  # fmt: skip
    return shown


def subject(page: Page) -> str:
    """What is probed, in a sentence; "" where the run has no probe."""
    found = _probing(page)
    if not found:
        return ""
    probe = _mapping(found.get("probe"))
    second = one_line(found.get("second_model"), 80)
    on = f"{one_line(found.get('model'), 80)}, and {second} in step 5" if second else one_line(found.get("model"), 80)
    return f"A probe for {one_line(found.get('cohort'), 60)} ({_reading(probe)}) on {on}."


def why(page: Page) -> list[tuple[str, str]]:
    """Failure modes of the probe, each with the sentence that has its number."""
    return [
        (one_line(mode.get("mode"), 60), one_line(mode.get("because")))
        for mode in _mappings(_probing(page).get("taxonomy"))
    ]


def judges(page: Page) -> list[list[str]]:
    """Rows of ``JUDGES``: who else tells the same fresh answers apart, against the probe."""
    rows = []
    for row in _mappings(_mapping(_probing(page).get("gap")).get("rows")):
        difference = _mapping(row.get("difference"))
        rows.append([
            one_line(row.get("judge"), 60), _value(row.get("judge_auc")), _value(row.get("probe_auc")),
            _value(difference), _span(difference),
        ])  # fmt: skip
    return rows


def readings(page: Page) -> list[list[str]]:
    """Rows of ``READINGS``: every layer, position and classifier that was tried."""
    rows = []
    for row in _mappings(_step(page, 4).get("rows")):
        name = _reading(row) + (" (chosen in training)" if row.get("chosen") is True else "")
        if row.get("problem"):
            rows.append([name, "—", one_line(row["problem"]), "", ""])
            continue
        fresh = _mapping(row.get("fresh_auc"))
        rows.append([
            name, number(_mapping(row.get("cv_auc")).get("mean")), _value(fresh), _span(fresh),
            p_value(row.get("fresh_p_holm")),
        ])  # fmt: skip
    return rows


def correlations(page: Page) -> tuple[list[str], list[list[str]]]:
    """(axes, rows) of |r| between labels of the axes; a row begins with its axis. Empty for fewer than three axes."""
    found = _mapping(_probing(page).get("correlations"))
    axes, matrix = found.get("axes"), found.get("matrix")
    if not isinstance(axes, list) or not isinstance(matrix, list) or len(axes) < 3:
        return [], []  # of two axes the table of the steps says it all
    names = [one_line(axis, 40) for axis in axes]
    given = [row if isinstance(row, list) else [] for row in matrix]
    return names, [[name, *(number(value) for value in row)] for name, row in zip(names, given, strict=False)]


def figures(page: Page) -> list[tuple[dict[str, Json], str]]:
    """(figure, caption) of every picture that the steps have data for."""
    made = [
        (
            _by_step(page),
            "Each AUC with its interval. The shaded part is where its bar is met; the line is chance. A bar is met where the "
            "estimate reaches it and the interval leaves chance behind, missed where the whole interval misses it, else not settled.",
        ),
        (_by_axis(page), "Each axis in training and on fresh prompts, with its interval and its bar."),
        (_by_layer(page), "AUC by layer, each fitted in training; the band is the interval on fresh prompts."),
        (_features(page), "What the probe reads, in its two leading principal components. Rings are training answers."),
    ]
    return [(figure, caption) for figure, caption in made if figure]


def _by_step(page: Page) -> dict[str, Json]:
    rows: list[Json] = []
    for step in _steps(page):
        if step.get("step") == 3:
            continue  # it has a picture of its own
        for test in _mappings(step.get("tests")):
            if test.get("of") in ("cv_auc", "fresh_auc"):
                how = "training" if test["of"] == "cv_auc" else "fresh"
                rows.append(_gate(f"{number(step.get('step'))} {_SHORT.get(step.get('step'), '')}{how}", test))
    return {"kind": "gates", "label": "AUC", "line": 0.5, "rows": rows} if rows else {}


_SHORT: Mapping[Json, str] = {4: "chosen in training, ", 5: "second model, "}


def _by_axis(page: Page) -> dict[str, Json]:
    rows: list[Json] = [
        _gate(f"{one_line(test.get('axis'), 40)}, {'training' if test['of'] == 'axis_cv' else 'fresh'}", test)
        for test in _mappings(_step(page, 3).get("tests"))
        if test.get("of") in ("axis_cv", "axis_transfer")
    ]
    return {"kind": "gates", "label": "AUC by axis", "line": 0.5, "rows": rows} if rows else {}


def _gate(name: str, test: Mapping[str, Json]) -> dict[str, Json]:
    estimate = _mapping(test.get("estimate"))
    return {
        "name": name, "estimate": estimate.get("estimate"), "low": estimate.get("low"), "high": estimate.get("high"),
        "bar": test.get("bar"), "rule": test.get("rule"), "passed": test.get("passed"),
    }  # fmt: skip


def _by_layer(page: Page) -> dict[str, Json]:
    """One line for cross-validation and one for fresh prompts, at the position that the probe reads."""
    probe = _mapping(_probing(page).get("probe"))
    alike = {key: probe.get(key) for key in ("position", "classifier", "C")}
    rows = [
        row
        for row in _mappings(_step(page, 4).get("rows"))
        if isinstance(row.get("layer"), int)
        and row.get("average") == 1
        and not row.get("problem")
        and {key: row.get(key) for key in alike} == alike
        and _mapping(row.get("fresh_auc")).get("low") is not None
    ]
    if len(rows) < 2:
        return {}
    rows = sorted(rows, key=lambda row: row["layer"])
    at, fresh = [row["layer"] for row in rows], [row["fresh_auc"] for row in rows]
    return {
        "kind": "lines", "whole": True, "xlabel": f"layer ({_POSITIONS.get(one_line(alike['position']), '')})", "ylabel": "AUC",
        "bar": _mapping(_probing(page).get("bars")).get("fresh_auc"),
        "series": [
            {"name": "cross-validated", "x": at, "y": [_mapping(row.get("cv_auc")).get("mean") for row in rows]},
            {"name": "fresh prompts", "x": at, "y": [each["estimate"] for each in fresh],
             "low": [each["low"] for each in fresh], "high": [each["high"] for each in fresh]},
        ],
    }  # fmt: skip


def _features(page: Page) -> dict[str, Json]:
    found = _mapping(_probing(page).get("pca"))
    explained, points = found.get("explained"), found.get("points")
    if not isinstance(explained, list) or len(explained) != 2 or not isinstance(points, list) or not points:
        return {}
    cohort = one_line(_probing(page).get("cohort"), 40)
    groups = []
    for split, words in (("train", "training"), ("fresh", "fresh")):
        for label, says in ((1, cohort), (0, "not")):
            at = [
                point[:2]
                for point in points
                if isinstance(point, list) and len(point) == 4 and point[2:] == [split, label]
            ]
            if at:
                groups.append({"name": f"{words}, {says}", "points": at, "colour": label, "ring": split == "train"})
    across, up = (f"component {at} ({number(share * 100)} % of variance)" for at, share in enumerate(explained, 1))
    return {"kind": "scatter", "xlabel": across, "ylabel": up, "groups": groups}


def _test(step: Mapping[str, Json], test: Mapping[str, Json]) -> list[str]:
    """A row of ``TESTS``; its last cell is a glyph with its word."""
    of = one_line(test.get("of"))
    name = _NAMES.get(of, one_line(test.get("what"), 80))
    if step.get("step") == 4:
        name += ", of the one chosen in training"
    if test.get("axis"):
        name = f"{one_line(test['axis'], 40)}, {name}"
    estimate = _mapping(test.get("estimate"))
    sign = "≤" if test.get("rule") == "at most" else "≥"
    glyph, word, _ = _mark(test.get("passed"))
    return [name, _value(estimate), _span(estimate), f"{sign} {number(test.get('bar'))}", f"{glyph} {word}"]


def _reading(row: Mapping[str, Json]) -> str:
    layer = "last state" if row.get("layer") == "last" else f"layer {number(row.get('layer'))}"
    average = row.get("average")
    if isinstance(average, int) and average > 1:
        layer = f"mean of {average} layers up to {layer}"
    position = _POSITIONS.get(one_line(row.get("position")), one_line(row.get("position"), 20))
    return f"{layer}, {position}, {one_line(row.get('classifier'), 20)}, C {_plain(row.get('C'))}"


def _plain(value: Json) -> str:
    return f"{value:g}" if isinstance(value, int | float) else "—"


def _value(estimate: Json) -> str:
    return number(_mapping(estimate).get("estimate"))


def _span(estimate: Json) -> str:
    given = _mapping(estimate)
    if given.get("low") is None or given.get("high") is None:
        return one_line(given.get("reason"), 80)
    return f"{number(given['low'])} to {number(given['high'])}"


def _mark(passed: Json) -> tuple[str, str, str]:
    return MARKS[passed if isinstance(passed, bool) else None]


def _step(page: Page, at: int) -> Mapping[str, Json]:
    return next((step for step in _steps(page) if step.get("step") == at), {})


def _steps(page: Page) -> list[Mapping[str, Json]]:
    return _mappings(_probing(page).get("steps"))


def _probing(page: Page) -> Mapping[str, Json]:
    return _mapping(page.probing)


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: Json) -> list[Mapping[str, Json]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
