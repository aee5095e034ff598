"""The checks as JUnit XML, so that a CI server lists them as it lists tests."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree as ET

from counterclaim.records import Json, Outcome, VerdictOutcome
from counterclaim.report.page import GROUPS, Page, clean_page, in_reading_order
from counterclaim.report.words import estimate_line, one_line

_FAILURE = frozenset({Outcome.FAIL, VerdictOutcome.REFUTED, VerdictOutcome.INVALID})
_SKIPPED = frozenset({Outcome.NOT_RUN, Outcome.INCONCLUSIVE, VerdictOutcome.INCONCLUSIVE})


def render_junit(page: Page) -> str:
    """One suite with the verdict, then one per group of checks.

    FAIL, REFUTED and INVALID are failures; ERROR, or an outcome that nobody knows, is an error. NOT_RUN and
    INCONCLUSIVE are skipped with their reason: they are neither a failure nor, ever, a pass. WARN passes and says so
    in its output. The exit code of the command, not this file, tells a pipeline to stop.
    """
    shown = clean_page(page)
    verdict = shown.verdict
    cases = {"verdict": [_case("verdict", "verdict", verdict.get("verdict"), verdict, list(verdict.get("next") or ()))]}
    for check in in_reading_order(shown.checks):
        group = one_line(check.get("group")) or "other"
        remedy = one_line(check.get("remedy"))
        said = [part for part in (estimate_line(check.get("estimate")), remedy) if part]
        case = _case(group, check.get("check"), check.get("outcome"), check, said)
        cases.setdefault(group, []).append(case)
    root = ET.Element("testsuites", name="counterclaim")
    totals = _counts([case for suite in cases.values() for case in suite])
    root.attrib.update(totals)
    for name in ("verdict", *GROUPS, *(group for group in cases if group not in GROUPS and group != "verdict")):
        if name in cases:
            suite = ET.SubElement(root, "testsuite", {"name": f"counterclaim.{name}", **_counts(cases[name])})
            suite.extend(cases[name])
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _case(group: str, name: Json, outcome: Json, said: Mapping[str, Json], more: list[str]) -> ET.Element:
    case = ET.Element("testcase", classname=f"counterclaim.{group}", name=one_line(name) or "unnamed")
    word, because = one_line(outcome), one_line(said.get("because"))
    body = "\n".join([because, *(one_line(line) for line in more)])
    if word in _FAILURE:
        ET.SubElement(case, "failure", type=word, message=because).text = body
    elif word in _SKIPPED:
        ET.SubElement(case, "skipped", message=f"{word}: {because}")
    elif word in (Outcome.PASS, Outcome.WARN, VerdictOutcome.SUPPORTED):
        ET.SubElement(case, "system-out").text = f"{word}: {body}"
    else:
        ET.SubElement(case, "error", type=word or "unknown", message=because).text = body
    return case


def _counts(cases: list[ET.Element]) -> dict[str, str]:
    tags = [case[0].tag for case in cases]
    return {
        "tests": str(len(cases)),
        "failures": str(tags.count("failure")),
        "errors": str(tags.count("error")),
        "skipped": str(tags.count("skipped")),
    }
