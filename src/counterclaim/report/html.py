"""One self-contained page for people: no network, no script, the same bytes for the same page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from counterclaim.records import FinishReason, Json, Outcome, Provenance, VerdictOutcome
from counterclaim.report import fitted, probed, trained
from counterclaim.report.figures import draw
from counterclaim.report.page import (
    GROUPS,
    ITEM_OUTCOMES,
    Page,
    claim_line,
    clean_page,
    direction_sign,
    in_reading_order,
    meaning,
    question,
)
from counterclaim.report.words import estimate_line, number, one_line, p_span, p_value, percent, signed

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_HEAD, _TAIL = 12_000, 4_000  # characters shown of a text longer than both together: how it ends matters most
_MOST_DETAILS = 4_000

_OPEN = frozenset({Outcome.ERROR, Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.WARN})

_GLYPHS: Mapping[str, str] = {
    Outcome.PASS: "✓",
    Outcome.FAIL: "✕",
    Outcome.WARN: "!",
    Outcome.INCONCLUSIVE: "?",
    Outcome.NOT_RUN: "–",
    Outcome.ERROR: "⚡",
    VerdictOutcome.SUPPORTED: "✓",
    VerdictOutcome.REFUTED: "✕",
    VerdictOutcome.INVALID: "⊘",
}

_PLURALS: Mapping[str, str] = {
    Outcome.FAIL: "failed",
    Outcome.ERROR: "broke",
    Outcome.INCONCLUSIVE: "inconclusive",
    Outcome.WARN: "to be read with care",
    Outcome.PASS: "passed",
    Outcome.NOT_RUN: "not run",
}

_PROVENANCE: Mapping[str, str] = {
    Provenance.RECORDED: "recorded",
    Provenance.INFERRED_TOKENS: "inferred from token counts",
    Provenance.INFERRED_TEXT: "inferred from text",
}

_ENDINGS: Mapping[str, str] = {
    FinishReason.LENGTH: "cut here — length",
    FinishReason.FILTER: "stopped here — content filter",
    FinishReason.ERROR: "no answer — error",
    FinishReason.STOP: "ended by itself",
    FinishReason.UNKNOWN: "nobody knows whether this is the end",
}

_STATUS: Mapping[str, str] = {
    "confirmatory": "the claim was written down before these results were looked at",
    "exploratory": "the claim was written or changed with the results at hand, so a fresh test has to confirm it",
}

_GLOSSARY: Sequence[tuple[str, str, str]] = (
    (r"margin", "margin", "the smallest change that matters, fixed in the claim; a change below it is no news"),
    (r"interval", "interval", "the range of effects that these data leave possible, at the stated level"),
    (r"\bp\b", "p", "how often a difference at least this large would turn up if the arms did not differ"),
    (r"paired", "paired", "both arms answered the same prompt, so each prompt is compared with itself"),
    (r"mcnemar", "McNemar's test", "compares only the prompts on which the two arms disagree"),
    (r"newcombe", "Newcombe interval", "an interval for a difference of two shares that holds in small samples"),
    (r"wilson", "Wilson interval", "an interval for one share that stays between 0 and 1"),
    (r"bootstrap", "bootstrap", "an interval from drawing the prompts again, with replacement, many times"),
    (
        r"tost|equivalen",
        "equivalence",
        "evidence that an effect is smaller than the margin; not the same as no evidence",
    ),
    (r"kappa|κ", "Cohen's κ", "agreement of two labels beyond chance: 1 is full agreement, 0 is chance"),
    (r"\bauc\b", "AUC", "how often a score ranks a positive above a negative: 0.5 is chance"),
    (r"holm", "Holm", "makes p-values stricter because several things were tested"),
    (r"minimum detectable|detect", "power", "the chance that a test of this size finds an effect that is there"),
    (r"unscored", "unscored", "the scorer gave no value; that is neither right nor wrong"),
    (
        r"asymmetry",
        "assertion asymmetry",
        "how much more often a wrong answer is asserted than a right one; below 0 is good",
    ),
    (
        r"language-to-behaviour",
        "language-to-behaviour ratio",
        "relative change of how often answers speak of checking themselves, over that of how often they are right",
    ),
    (r"recovery", "recovery rate", "share of wrong answers that are right after a next turn says that they were wrong"),
    (r"hallucination.rate", "hallucination rate", "share of wrong answers that are asserted"),
    (r"hedg", "hedge", "an answer that says it may be wrong; the opposite is to assert"),
)


def render_html(page: Page) -> str:
    """The whole page as HTML.

    Every text on it is escaped and shows its unseen characters; the page's own policy forbids scripts and any
    request. Texts longer than 16,000 characters show their head and tail, and say so.
    """
    return page_of("page.html.j2", _view(clean_page(page)))


def glyph_of(word: str) -> str:
    """The mark of a verdict or an outcome."""
    return _GLYPHS.get(word, "?")


def page_of(template: str, view: Mapping[str, Any]) -> str:
    """A template with its values, everything escaped, and with the style sheet of all pages."""
    environment = _environment()
    return environment.get_template(template).render(**view, style=_source(environment, "style.css"))


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("counterclaim.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = _prose
    return environment


def _prose(text: str) -> Markup:
    """A sentence with `commands` between backticks set as code and *terms* between stars in italics; all of it escaped."""
    from markupsafe import Markup, escape

    code = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"(?<![\w*])\*(\w+)\*(?![\w*])", r"<em>\1</em>", code))


def _source(environment: Environment, name: str) -> str:
    """A file of the template folder as it is; it is ours, so the template may mark it safe."""
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _view(page: Page) -> dict[str, Any]:
    verdict, meta = page.verdict, page.meta
    items = [_item(index, item) for index, item in enumerate(page.items)]
    anchors = {item["prompt_id"]: f"#item-{item['index']}" for item in items}
    checks = [_check(page, index, check, anchors) for index, check in enumerate(in_reading_order(page.checks))]
    ran = [check for check in checks if check["outcome"] != Outcome.NOT_RUN]
    word = one_line(verdict.get("verdict"))
    return {
        "title": one_line(meta.get("title")) or "Counterclaim",
        "word": word,
        "glyph": glyph_of(word),
        "because": one_line(verdict.get("because")),
        "meaning": meaning(word, one_line(verdict.get("because"))),
        "status": one_line(verdict.get("status")),
        "status_means": _STATUS.get(one_line(verdict.get("status")), ""),
        "claim_line": claim_line(page),
        "arms": [(one_line(name), one_line(told)) for name, told in meta.get("arms") or ()],
        "tally": _tally(checks),
        "effect": _effect(page),
        "guards": [_guard(guard) for guard in _mappings(verdict.get("guards"))],
        "function": _function(page),
        "next": [one_line(step) for step in verdict.get("next") or ()],
        "probed": _probed(page),
        "fitted": _fitted(page),
        "training": _training(page),
        "groups": [
            {"name": group, "question": asks, "checks": [check for check in ran if check["group"] == group]}
            for group, asks in _groups(ran)
        ],
        "not_run": [check for check in checks if check["outcome"] == Outcome.NOT_RUN],
        "items": items,
        "n_items_total": number(page.n_items_total),
        "is_part": page.n_items_total > len(items),
        "filters": _filters(items),
        "sources": [_source_row(source) for source in _mappings(meta.get("sources"))],
        "pairing": [(key.replace("_", " "), number(count)) for key, count in _mapping(meta.get("pairing")).items()],
        "claim": [(key, _plain(value)) for key, value in _mapping(meta.get("claim")).items()],
        "hashes": [
            (name, one_line(value))
            for name, value in (
                ("claim hash", verdict.get("claim_hash")),
                ("study hash", meta.get("study_hash")),
                ("counterclaim", meta.get("version")),
            )
            if value
        ],
        "notes": [one_line(note) for note in meta.get("notes") or ()],
        "glossary": _glossary(page),
    }


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: Json) -> list[Mapping[str, Json]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _plain(value: Json) -> str:
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, bool) or value is None or isinstance(value, Mapping | list):
        return json.dumps(value, ensure_ascii=False)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _slug(word: str) -> str:
    return re.sub(r"[^a-z]+", "-", word.lower()).strip("-") or "other"


def _tally(checks: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    outcomes = [check["outcome"] for check in checks]
    return [
        {"style": _slug(outcome), "count": str(outcomes.count(outcome)), "words": words}
        for outcome, words in _PLURALS.items()
        if outcome in outcomes
    ]


def _groups(checks: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The four groups, then any that a plug-in added, in the order in which the checks name them."""
    found = dict.fromkeys(check["group"] for check in checks)
    return [
        (group, GROUPS.get(group, ""))
        for group in (*GROUPS, *(set_ for set_ in found if set_ not in GROUPS))
        if group in found
    ]


def _effect(page: Page) -> dict[str, Any] | None:
    effect = page.verdict.get("effect")
    if not isinstance(effect, Mapping):
        return None
    difference = _mapping(effect.get("difference"))
    metric = one_line(effect.get("metric"))
    sign = direction_sign(page)
    picture = draw(
        {
            "kind": "interval",
            "estimate": difference.get("estimate"),
            "low": difference.get("low"),
            "high": difference.get("high"),
            "zero": 0,
            "margin": effect.get("margin"),
            "direction": 1 if sign is None else sign,
            "label": f"change of {metric}, treated minus control",
        },
        "effect",
    )
    return {
        "metric": metric,
        "picture": picture,
        "headline": signed(difference.get("estimate")),
        "control": number(_mapping(effect.get("control")).get("estimate")),
        "treated": number(_mapping(effect.get("treated")).get("estimate")),
        "rows": [
            _estimate_row(name, effect.get(name), is_difference=name == "difference")
            for name in ("control", "treated", "difference")
        ],
        "methods": _methods(effect),
        "level": percent(difference.get("level")) if difference.get("level") else "",
        "p": p_value(effect.get("p")),
        "p_range": p_span(effect.get("p_range")),
        "alpha": number(effect.get("alpha")) if effect.get("alpha") is not None else "",
        "n_paired": number(effect.get("n_paired")),
        "margin": number(effect.get("margin")),
        "is_silent": page.verdict.get("verdict") == VerdictOutcome.INVALID,
    }


def _estimate_row(name: str, estimate: Json, *, is_difference: bool) -> dict[str, str]:
    given, show = _mapping(estimate), signed if is_difference else number
    return {
        "name": name,
        "estimate": show(given.get("estimate")),
        "low": show(given.get("low")),
        "high": show(given.get("high")),
        "n": number(given.get("n")),
    }


def _methods(effect: Mapping[str, Json]) -> list[tuple[str, str]]:
    """(arms, how their numbers were made, or why there is none), equal ones together."""
    found: dict[str, list[str]] = {}
    for name in ("control", "treated", "difference"):
        given = _mapping(effect.get(name))
        reason = f"undefined: {one_line(given.get('reason'))}" if given.get("reason") else ""
        said = ", ".join(part for part in (one_line(given.get("method")), reason) if part)
        if said:
            found.setdefault(said, []).append(name)
    return [(" and ".join(names), said) for said, names in found.items()]


def _guard(guard: Mapping[str, Json]) -> dict[str, str]:
    return {
        "metric": one_line(guard.get("metric")),
        "difference": estimate_line(guard.get("difference"), difference=True) or "—",
        "allowed": number(guard.get("allowed")),
    }


def _function(page: Page) -> dict[str, Any] | None:
    """Form beside function for control and every trained arm; None where none of it was scored."""
    headings, rows = trained.form_and_function(page)
    if not rows:
        return None
    estimates = [estimate for _, row in rows for estimate in row]
    return {
        "headings": headings,
        "level": next((percent(given["level"]) for given in estimates if given.get("level")), ""),
        "rows": [{"arm": name, "cells": [_rate(given) for given in row]} for name, row in rows],
        "is_silent": page.verdict.get("verdict") == VerdictOutcome.INVALID,
    }


def _rate(estimate: Mapping[str, Json]) -> dict[str, str]:
    """A table cell of an estimate: its value, and under it the interval or why there is none."""
    if estimate.get("low") is None or estimate.get("high") is None:
        why = one_line(estimate.get("reason")) if estimate.get("estimate") is None else "no interval"
        return {"value": number(estimate.get("estimate")), "under": why}
    return {"value": number(estimate["estimate"]), "under": f"{number(estimate['low'])} to {number(estimate['high'])}"}


def _training(page: Page) -> dict[str, Any] | None:
    """How adapters were trained: a table, a small picture for each thing that was logged, and all settings."""
    rows = trained.adapters(page)
    if not rows:
        return None
    plots = [
        (arm, [draw(figure, f"training-{at}-{which}") for which, figure in enumerate(figures)])
        for at, (arm, figures) in enumerate(trained.curves(page))
    ]
    return {
        "columns": trained.COLUMNS,
        "rows": rows,
        "plots": plots,
        "notes": trained.notes(page),
        "settings": _at_most(trained.settings(page), "extras.json"),
    }


def _fitted(page: Page) -> dict[str, Any] | None:
    """What operators without training fitted: a table, what was noted, and the heads on which it rests."""
    rows = fitted.fits(page)
    if not rows:
        return None
    return {
        "columns": fitted.COLUMNS,
        "rows": rows,
        "notes": fitted.notes(page),
        "pictures": [
            (draw(figure, f"fitted-{at}"), f"{figure['label']}. {caption}")
            for at, (figure, caption) in enumerate(fitted.maps(page))
        ],
    }


def _probed(page: Page) -> dict[str, Any] | None:
    """The five steps of a probe: a table, pictures, why it fails, what others make of the same answers."""
    steps = probed.steps(page)
    if not steps:
        return None
    return {
        "subject": probed.subject(page),
        "columns": probed.TESTS,
        "steps": steps,
        "why": probed.why(page),
        "pictures": [
            (draw(figure, f"probed-{at}"), caption) for at, (figure, caption) in enumerate(probed.figures(page))
        ],
        "correlations": probed.correlations(page),
        "judge_columns": probed.JUDGES,
        "judges": probed.judges(page),
        "reading_columns": probed.READINGS,
        "readings": probed.readings(page),
    }


def _at_most(text: str, file: str) -> str:
    """The first of a long text, with the file that holds the rest."""
    return text if len(text) <= _MOST_DETAILS else f"{text[:_MOST_DETAILS]}\n… cut here; {file} holds the rest"


_CONTRACT = frozenset(
    {
        "check",
        "group",
        "outcome",
        "estimate",
        "because",
        "remedy",
        "required",
        "n",
        "n_unscored",
        "evidence",
        "figure",
    }
)


def _check(page: Page, index: int, check: Mapping[str, Json], anchors: Mapping[str, str]) -> dict[str, Any]:
    outcome = one_line(check.get("outcome"))
    more = {key: value for key, value in check.items() if key not in _CONTRACT}
    arms = _cut_rows(more.pop("arms", None)) if check.get("check") == "truncation" else []
    if check.get("check") == "language-to-behaviour":
        more.pop("arms", None)  # a section of its own shows them
    picture = draw(check.get("figure"), f"check-{index}")
    details = json.dumps(more, ensure_ascii=False, indent=1) if more else ""
    return {
        "name": one_line(check.get("check")),
        "group": one_line(check.get("group")),
        "question": one_line(question(page, check)),
        "outcome": outcome,
        "word": outcome.replace("_", " "),
        "style": _slug(outcome),
        "glyph": _GLYPHS.get(outcome, "?"),
        "is_open": outcome in _OPEN,
        "because": one_line(check.get("because")),
        "remedy": one_line(check.get("remedy")),
        "required": bool(check.get("required")),
        "estimate": estimate_line(check.get("estimate")),
        "method": one_line(_mapping(check.get("estimate")).get("method")),
        "n": number(n) if (n := _mapping(check.get("estimate")).get("n") or check.get("n")) else "",
        "n_unscored": number(check.get("n_unscored")) if check.get("n_unscored") else "",
        "evidence": [
            (one_line(prompt, 40), anchors.get(prompt, ""))
            for prompt in check.get("evidence") or ()
            if isinstance(prompt, str)
        ],
        "picture": picture,
        "has_no_picture": picture is None and check.get("figure") is not None,
        "arms": arms,
        "details": _at_most(details, "checks.jsonl"),
    }


def _cut_rows(arms: Json) -> list[dict[str, str]]:
    """Truncation's ``arms`` as table rows: what share of each arm was cut, finished, unknown, and how that is known."""
    rows = []
    for name, arm in _mapping(arms).items():
        given = _mapping(arm)
        known = given.get("provenance")
        parts = (
            [f"{_PROVENANCE.get(key, key)} {number(value)}" for key, value in known.items()]
            if isinstance(known, Mapping)
            else []
        )
        rows.append(
            {
                "arm": name,
                "cut": number(given.get("cut")),
                "finished": number(given.get("finished")),
                "unknown": number(given.get("unknown")),
                "how": ". ".join(
                    part for part in (", ".join(parts) or one_line(known), one_line(given.get("how"))) if part
                ),
            }
        )
    return rows


def _item(index: int, item: Mapping[str, Json]) -> dict[str, Any]:
    outcome = one_line(item.get("outcome")) or "unscored"
    sides = [_side(name, _mapping(item.get(name))) for name in ("control", "treated")]
    given = item.get("prompt")
    prompt = given if isinstance(given, str) else ""
    delta = item.get("delta")
    is_cut = any(side["is_cut"] for side in sides)
    return {
        "index": index,
        "prompt_id": str(item.get("prompt_id") or ""),
        "prompt": _long(prompt),
        "line": one_line(prompt, 140) or one_line(item.get("prompt_id")) or "prompt text not known",
        "outcome": outcome,
        "style": _slug(outcome),
        "delta": "" if delta is None else signed(delta),
        "is_cut": is_cut,
        "sides": sides,
    }


def _side(name: str, side: Mapping[str, Json]) -> dict[str, Any]:
    finish = one_line(side.get("finish")) or FinishReason.UNKNOWN
    ending = _ENDINGS.get(finish, finish)
    source = _PROVENANCE.get(one_line(side.get("provenance")), "")
    value = side.get("value")
    counts = []
    if isinstance(side.get("n_tokens"), int):
        counts.append(f"{number(side['n_tokens'])} tokens")
    if isinstance(side.get("chars"), int):
        counts.append(f"{number(side['chars'])} characters")
    text = side.get("text")
    return {
        "arm": name,
        "value": "unscored" if value is None else one_line(value, 60) if isinstance(value, str) else number(value),
        "labels": [
            (one_line(key, 40), one_line(_plain(label), 60)) for key, label in _mapping(side.get("labels")).items()
        ],
        "counts": " · ".join(counts),
        "text": _long(text) if isinstance(text, str) else None,
        "error": one_line(side.get("error")),
        "finish": _slug(finish),
        "ending": f"{ending} ({source})" if source else ending,
        "is_cut": finish == FinishReason.LENGTH,
    }


def _long(text: str) -> dict[str, str]:
    """Head, note and tail of a text; note and tail are empty where the whole text is shown."""
    hidden = len(text) - _HEAD - _TAIL
    if hidden <= 0:
        return {"head": text, "note": "", "tail": ""}
    return {
        "head": text[:_HEAD],
        "note": f"{number(hidden)} characters are left out of this page here; the run folder holds them",
        "tail": text[-_TAIL:],
    }


def _filters(items: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """One choice per outcome that occurs, then the answers that were cut; the first choice shows all."""
    outcomes = [item["outcome"] for item in items]
    order = [*ITEM_OUTCOMES, *dict.fromkeys(outcome for outcome in outcomes if outcome not in ITEM_OUTCOMES)]
    choices = [("all", "all", len(items))]
    choices += [(_slug(word), word, outcomes.count(word)) for word in order if word in outcomes]
    cut = sum(item["is_cut"] for item in items)
    if cut:
        choices.append(("cut", "cut in either arm", cut))
    return [{"slug": slug, "words": words, "count": number(count)} for slug, words, count in choices]


def _source_row(source: Mapping[str, Json]) -> dict[str, str]:
    return {
        "arm": one_line(source.get("arm")),
        "path": one_line(source.get("path")),
        "format": one_line(source.get("format")),
        "rows": number(source.get("rows")),
        "sha256": one_line(source.get("sha256")),
    }


def _glossary(page: Page) -> list[tuple[str, str]]:
    """Terms that the page's sentences use, each with one plain line."""
    said = [one_line(page.verdict.get("because")), *map(str, page.verdict.get("next") or ())]
    said += ["margin interval p paired"] if isinstance(page.verdict.get("effect"), Mapping) else []
    for check in page.checks:
        said += [one_line(check.get(key)) for key in ("because", "remedy")]
        said.append(one_line(_mapping(check.get("estimate")).get("method")))
    for name in ("control", "treated", "difference"):
        said.append(one_line(_mapping(_mapping(page.verdict.get("effect")).get(name)).get("method")))
    return glossary_of(said)


def glossary_of(said: Iterable[str]) -> list[tuple[str, str]]:
    """Terms of this field that sentences use, each with one plain line."""
    text = " ".join(said)
    return [(term, means) for found, term, means in _GLOSSARY if re.search(found, text, re.IGNORECASE)]
