"""The verdict as a comment for a pull request (GitHub's and GitLab's Markdown)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from counterclaim.records import Json, Outcome
from counterclaim.report import fitted, probed, trained
from counterclaim.report.page import Page, claim_line, clean_page, in_reading_order, meaning
from counterclaim.report.words import estimate_line, number, one_line, p_span, p_value, visible

_BREAK = "\u200b"  # a zero-width space: what follows it links and notifies no longer
_LONGEST = 600  # characters of one sentence; a comment may hold 65,536 in all
_MOST_ROWS, _MOST_STEPS = 40, 10


def escaped(text: Json, limit: int = _LONGEST) -> str:
    """Text as one line of Markdown that shows exactly these characters.

    Markup, HTML, table pipes and backticks are escaped; mentions, issue numbers and addresses are broken by a
    zero-width space, so that a model's words neither notify anybody nor plant a link.
    """
    line = one_line(visible(str("" if text is None else text)), limit)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*_\[\]|~$])", r"\\\1", line)
    line = re.sub(r"([@#!])(?=\w)", rf"\1{_BREAK}", line)
    line = re.sub(r"(?i)(:)(?=//)|(www)(?=\.)|(mailto)(?=:)", lambda found: found[0] + _BREAK, line)
    return re.sub(r"^([-+=#]|\d+(?=[.)](?:\s|$)))", rf"{_BREAK}\1", line)


def render_markdown(page: Page) -> str:
    """Verdict, number, checks and next steps; below the size that GitHub allows a comment."""
    shown = clean_page(page)
    verdict = shown.verdict
    word = one_line(verdict.get("verdict"))
    because = one_line(verdict.get("because"))
    parts = [f"## {escaped(word)}", escaped(because)]
    claim = claim_line(shown)
    facts = [meaning(word, because), f"Claim: {escaped(claim)}." if claim else ""]
    status, claim_hash = verdict.get("status"), one_line(verdict.get("claim_hash"))
    facts.append(f"Status: {escaped(status)}, claim hash {escaped(claim_hash[:12])}." if status else "")
    parts.append(" ".join(fact for fact in facts if fact))
    parts += [f"{escaped(name)}: {escaped(one_line(told))}." for name, told in shown.meta.get("arms") or ()]
    parts.append(_effect(verdict.get("effect")))
    parts.append(_function(shown))
    parts.append(_probed(shown))
    parts.append(_fitted(shown))
    ordered = in_reading_order(shown.checks)
    ran = [check for check in ordered if check.get("outcome") != Outcome.NOT_RUN]
    missing = [check for check in ordered if check.get("outcome") == Outcome.NOT_RUN]
    if ran:
        rows = (
            [_cell(check, "outcome"), _name(check), _estimate(check), _cell(check, "because")]
            for check in ran[:_MOST_ROWS]
        )
        parts.append(_table(("outcome", "check", "number", "why"), rows) + _more(len(ran)))
    if missing:
        rows = ([_name(check), _cell(check, "because"), _cell(check, "remedy")] for check in missing[:_MOST_ROWS])
        table = _table(("check", "why not", "what would let it run"), rows) + _more(len(missing))
        parts.append(f"<details><summary>{len(missing)} not run</summary>\n\n{table}\n\n</details>")
    parts.append(_training(shown))
    steps = [f"{place}. {escaped(step)}" for place, step in enumerate((verdict.get("next") or [])[:_MOST_STEPS], 1)]
    if steps:
        parts.append("### What to do next\n\n" + "\n".join(steps))
    return "\n\n".join(part for part in parts if part) + "\n"


def _effect(effect: Json) -> str:
    if not isinstance(effect, Mapping):
        return ""
    rows = [
        [
            f"{escaped(effect.get('metric'), 80)}, {arm}",
            escaped(estimate_line(effect.get(arm), difference=arm == "difference")) or "—",
        ]
        for arm in ("control", "treated", "difference")
    ]
    span = p_span(effect.get("p_range"))
    p = f"{span} over all pairings" if span else p_value(effect.get("p"))
    tail = (
        f"p {p} · {number(effect.get('n_paired'))} paired prompts · margin that matters {number(effect.get('margin'))}"
    )
    return _table(("", "estimate"), rows) + f"\n\n{tail}"


def _function(page: Page) -> str:
    headings, rows = trained.form_and_function(page)
    if not rows:
        return ""
    cells = (
        [escaped(name, 60), *(escaped(estimate_line(given)) if given else "—" for given in row)]
        for name, row in rows[:_MOST_ROWS]
    )
    return "### Function, not form\n\n" + _table(("arm", *headings), cells)


def _probed(page: Page) -> str:
    steps = probed.steps(page)
    if not steps:
        return ""
    rows: list[list[str]] = []
    for step in steps:
        rows.append([f"**{escaped(step.title)}**", "", "", "", f"**{step.glyph} {step.word}**"])
        rows += [[escaped(cell, 120) for cell in test] for test in step.tests]
    said = [f"* {escaped(step.title)}: {escaped(step.because)} {escaped(step.power)}" for step in steps]
    why = [f"* {escaped(mode)}: {escaped(because)}" for mode, because in probed.why(page)]
    judges = [[escaped(cell, 120) for cell in row] for row in probed.judges(page)[:_MOST_ROWS]]
    parts = [
        "### The five steps", escaped(probed.subject(page)), _table(probed.TESTS, rows[:_MOST_ROWS]) + _more(len(rows)),
        "\n".join(said), "Why it fails:\n\n" + "\n".join(why) if why else "",
        _table(probed.JUDGES, judges) if judges else "",
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part)


def _fitted(page: Page) -> str:
    rows = fitted.fits(page)
    if not rows:
        return ""
    table = _table(fitted.COLUMNS, ([escaped(cell, 240) for cell in row] for row in rows[:_MOST_ROWS]))
    said = "".join(f"\n* {escaped(note)}" for note in fitted.notes(page)[:_MOST_STEPS])
    return f"### What was fitted\n\n{table}{_more(len(rows))}" + (f"\n{said}" if said else "")


def _training(page: Page) -> str:
    rows = trained.adapters(page)
    if not rows:
        return ""
    table = _table(trained.COLUMNS, ([escaped(cell, 120) for cell in row] for row in rows[:_MOST_ROWS]))
    said = "".join(f"\n* {escaped(note)}" for note in trained.notes(page)[:_MOST_STEPS])
    return f"### Training\n\n{table}{_more(len(rows))}" + (f"\n{said}" if said else "")


def _cell(check: Mapping[str, Json], key: str) -> str:
    return escaped(one_line(check.get(key)).replace("NOT_RUN", "NOT RUN"))


def _name(check: Mapping[str, Json]) -> str:
    mark = " (required)" if check.get("required") else ""
    return f"{escaped(check.get('group'), 40)} / {escaped(check.get('check'), 80)}{mark}"


def _estimate(check: Mapping[str, Json]) -> str:
    return escaped(estimate_line(check.get("estimate")))


def _more(rows: int) -> str:
    return f"\n\n… and {rows - _MOST_ROWS} more in the run folder." if rows > _MOST_ROWS else ""


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = list(head)
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
