"""The verdict as a comment for a pull request (GitHub's and GitLab's Markdown)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from counterclaim.records import CheckResult, Json, Outcome
from counterclaim.report import fitted, probed, trained
from counterclaim.report.page import Page, in_reading_order
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
    verdict = page.verdict
    facts = [page.meaning, f"Claim: {escaped(page.claim_line)}."]
    if page.status:
        facts.append(f"Status: {escaped(page.status)}, claim hash {escaped(verdict.claim_hash[:12])}.")
    ordered = in_reading_order(page.checks)
    ran = [check for check in ordered if check.outcome is not Outcome.NOT_RUN]
    missing = [check for check in ordered if check.outcome is Outcome.NOT_RUN]
    steps = [f"{place}. {escaped(step)}" for place, step in enumerate(verdict.next[:_MOST_STEPS], 1)]
    parts = [
        f"## {verdict.outcome}",
        escaped(verdict.because),
        " ".join(fact for fact in facts if fact),
        *(f"{escaped(name)}: {escaped(change)}." for name, change in page.arms),
        _effect(page),
        _function(page),
        _probed(page),
        _fitted(page),
        _ran(ran),
        _missing(missing),
        _training(page),
        "### What to do next\n\n" + "\n".join(steps) if steps else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _effect(page: Page) -> str:
    effect = page.effect
    if effect is None:
        return ""
    rows = [
        [f"{escaped(effect.metric, 80)}, {name}", escaped(estimate_line(estimate, difference=name == "difference"))]
        for name, estimate in (
            ("control", effect.control), ("treated", effect.treated), ("difference", effect.difference),
        )
    ]  # fmt: skip
    span = p_span(effect.p_range)
    p = f"{span} over all pairings" if span else p_value(effect.p)
    tail = f"p {p} · {number(effect.n_paired)} paired prompts · margin {number(page.claim.margin)}"
    return f"{_table(('', 'estimate'), rows)}\n\n{tail}"


def _ran(checks: Sequence[CheckResult]) -> str:
    rows = (
        [str(check.outcome), _name(check), escaped(estimate_line(check.estimate)), escaped(check.because)]
        for check in checks[:_MOST_ROWS]
    )
    return _table(("outcome", "check", "number", "why"), rows) + _more(len(checks)) if checks else ""


def _missing(checks: Sequence[CheckResult]) -> str:
    if not checks:
        return ""
    rows = ([_name(check), escaped(check.because), escaped(check.remedy)] for check in checks[:_MOST_ROWS])
    table = _table(("check", "why not", "what would let it run"), rows) + _more(len(checks))
    return f"<details><summary>{len(checks)} not run</summary>\n\n{table}\n\n</details>"


def _function(page: Page) -> str:
    headings, rows = trained.form_and_function(page)
    if not rows:
        return ""
    cells = (
        [escaped(name, 60), *(escaped(estimate_line(rate)) or "—" for rate in row)] for name, row in rows[:_MOST_ROWS]
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
    sentences = [f"* {escaped(step.title)}: {escaped(step.because)} {escaped(step.power)}" for step in steps]
    why = [f"* {escaped(mode)}: {escaped(because)}" for mode, because in probed.why(page)]
    judges = [[escaped(cell, 120) for cell in row] for row in probed.judges(page)[:_MOST_ROWS]]
    parts = [
        "### The five steps", escaped(probed.subject(page)), _table(probed.TESTS, rows[:_MOST_ROWS]) + _more(len(rows)),
        "\n".join(sentences), "Why it fails:\n\n" + "\n".join(why) if why else "",
        _table(probed.JUDGES, judges) if judges else "",
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part)


def _fitted(page: Page) -> str:
    return _section("What was fitted", fitted.COLUMNS, fitted.fits(page), fitted.notes(page), 240)


def _training(page: Page) -> str:
    return _section("Training", trained.COLUMNS, trained.adapters(page), trained.notes(page), 120)


def _section(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str], limit: int
) -> str:
    """A heading, a table of cells of at most ``limit`` characters, and notes; "" without rows."""
    if not rows:
        return ""
    table = _table(columns, ([escaped(cell, limit) for cell in row] for row in rows[:_MOST_ROWS]))
    listed = "".join(f"\n* {escaped(note)}" for note in notes[:_MOST_STEPS])
    return f"### {title}\n\n{table}{_more(len(rows))}" + (f"\n{listed}" if listed else "")


def _name(check: CheckResult) -> str:
    mark = " (required)" if check.required else ""
    return f"{escaped(check.group, 40)} / {escaped(check.check, 80)}{mark}"


def _more(rows: int) -> str:
    return f"\n\n… and {rows - _MOST_ROWS} more in the run folder." if rows > _MOST_ROWS else ""


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = list(head)
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
