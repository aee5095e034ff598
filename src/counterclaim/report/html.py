"""One self-contained page for people: no network, no script, the same bytes for the same page."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from counterclaim.records import CheckResult, Estimate, Json, Outcome, to_json
from counterclaim.report import fitted, probed, trained
from counterclaim.report.figures import draw
from counterclaim.report.page import (
    ITEM_OUTCOMES,
    WORDS,
    Page,
    PairedItem,
    glossary_of,
    glyph_of,
    in_reading_order,
)
from counterclaim.report.words import estimate_line, number, one_line, p_span, p_value, percent, signed

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_HEAD, _TAIL = 12_000, 4_000  # characters shown of a text longer than both together: how it ends matters most
_MOST_DETAILS = 4_000


def render_html(page: Page) -> str:
    """The whole page as HTML.

    Every text on it is escaped and shows its unseen characters; the page's own policy forbids scripts and any
    request. Texts longer than 16,000 characters show their head and tail, and say so.
    """
    checks = list(enumerate(in_reading_order(page.checks)))
    ran = [(at, check) for at, check in checks if check.outcome is not Outcome.NOT_RUN]
    groups = dict.fromkeys([*WORDS["groups"], *(check.group for _, check in ran)])  # a plug-in's own come last
    return page_of(
        "page.html.j2",
        {
            "page": page,
            "outcomes": [check.outcome for check in page.checks],
            "groups": [
                (group, members) for group in groups if (members := [row for row in ran if row[1].group == group])
            ],
            "not_run": [check for _, check in checks if check.outcome is Outcome.NOT_RUN],
            "filters": _filters(page.items),
            "anchors": {item.prompt_id: f"#item-{at}" for at, item in enumerate(page.items)},
            "claim": to_json(page.claim),
            "glossary": _glossary(page),
            "fitted": fitted,
            "probed": probed,
            "trained": trained,
        },
    )


def page_of(template: str, view: Mapping[str, Any]) -> str:
    """A template with its values, everything escaped, and with the style sheet of all pages."""
    environment = _environment()
    assert environment.loader is not None
    style = environment.loader.get_source(environment, "style.css")[0]
    return environment.get_template(template).render(**view, style=style)


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("counterclaim.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"words": WORDS, "glyph_of": glyph_of, "draw": _drawn}
    environment.filters |= {
        "at_most": _at_most, "details": _details, "endings": _endings, "estimate": estimate_line, "long": _long, "methods": _methods,
        "number": number, "one_line": one_line, "p_span": p_span, "p_value": p_value, "percent": percent, "plain": _plain,
        "prose": _prose, "signed": signed, "slug": _slug,
    }  # fmt: skip
    return environment


def _drawn(figure: Json, name: str) -> Markup | None:
    """A figure as inline SVG, whose texts ``draw`` has escaped; None where it cannot be drawn."""
    from markupsafe import Markup

    picture = draw(figure, name)
    return None if picture is None else Markup(picture)


def _prose(text: str) -> Markup:
    """A sentence with `commands` between backticks set as code and *terms* between stars in italics; all of it escaped."""
    from markupsafe import Markup, escape

    code = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"(?<![\w*])\*(\w+)\*(?![\w*])", r"<em>\1</em>", code))


def _plain(value: Json) -> str:
    if isinstance(value, str):
        return value
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _slug(word: str) -> str:
    return re.sub(r"[^a-z]+", "-", word.lower()).strip("-") or "other"


def _methods(arms: Mapping[str, Estimate]) -> str:
    """How the numbers of arms were made, or why there are none; arms with equal methods together."""
    found: dict[str, list[str]] = {}
    for name, estimate in arms.items():
        reason = f", undefined: {estimate.reason}" if estimate.reason else ""
        found.setdefault(f"{estimate.method}{reason}", []).append(name)
    return "; ".join(f"{' and '.join(names)}: {method}" for method, names in found.items())


def _endings(arm: Mapping[str, Json]) -> str:
    """How it is known how the answers of an arm ended: a count of answers for each way, or a sentence."""
    known = arm.get("provenance") or {}
    counts = [f"{WORDS['provenance'].get(way, way)} {number(count)}" for way, count in known.items()]
    return ". ".join(part for part in (", ".join(counts), arm.get("how", "")) if part)


def _at_most(text: str, file: str) -> str:
    """The first of a long text, with the file that holds the rest."""
    return text if len(text) <= _MOST_DETAILS else f"{text[:_MOST_DETAILS]}\n… cut here; {file} holds the rest"


def _details(check: CheckResult) -> str:
    """What else a check found, as indented JSON; "" where there is nothing that the page does not show otherwise."""
    shown = {"arms"} if check.check in ("truncation", "language-to-behaviour") else set()
    more = {key: value for key, value in check.details.items() if key not in shown}
    return json.dumps(more, ensure_ascii=False, indent=1) if more else ""


def _long(text: str) -> Sequence[str]:
    """Head, note and tail of a text; note and tail are empty where the whole text is shown."""
    hidden = len(text) - _HEAD - _TAIL
    if hidden <= 0:
        return text, "", ""
    note = f"{number(hidden)} characters are left out of this page here; the run folder holds them"
    return text[:_HEAD], note, text[-_TAIL:]


def _filters(items: Sequence[PairedItem]) -> list[tuple[str, int]]:
    """(words, count) of one choice per outcome that occurs, then of the answers that were cut; the first shows all."""
    outcomes = [item.outcome for item in items]
    order = dict.fromkeys([*ITEM_OUTCOMES, *outcomes])
    choices = [("all", len(items)), *((word, outcomes.count(word)) for word in order if word in outcomes)]
    cut = sum(item.is_cut for item in items)
    return [*choices, ("cut", cut)] if cut else choices


def _glossary(page: Page) -> list[tuple[str, str]]:
    """Terms that the page's sentences use, each with one plain line."""
    sentences = [page.verdict.because, *page.verdict.next]
    for check in page.checks:
        sentences += [check.because, check.remedy, "" if check.estimate is None else check.estimate.method]
    if page.effect is not None:
        arms = (page.effect.control, page.effect.treated, page.effect.difference)
        sentences += ["margin interval p paired", *(arm.method for arm in arms)]
    return glossary_of(sentences)
