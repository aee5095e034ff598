"""The checks as JUnit XML, so that a CI server lists them as it lists tests."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from counterclaim.records import Outcome, VerdictOutcome
from counterclaim.report.page import WORDS, Page, in_reading_order
from counterclaim.report.words import estimate_line, one_line

_FAILURE = frozenset({Outcome.FAIL, VerdictOutcome.REFUTED, VerdictOutcome.INVALID})
_SKIPPED = frozenset({Outcome.NOT_RUN, Outcome.INCONCLUSIVE, VerdictOutcome.INCONCLUSIVE})


def render_junit(page: Page) -> str:
    """One suite with the verdict, then one per group of checks.

    FAIL, REFUTED and INVALID are failures; ERROR is an error. NOT_RUN and
    INCONCLUSIVE are skipped with their reason: they are neither a failure nor, ever, a pass. WARN passes and says so
    in its output. The exit code of the command, not this file, tells a pipeline to stop.
    """
    verdict = page.verdict
    cases = {"verdict": [_case("verdict", "verdict", verdict.outcome, verdict.because, list(verdict.next))]}
    for check in in_reading_order(page.checks):
        more = [part for part in (estimate_line(check.estimate), check.remedy) if part]
        cases.setdefault(check.group, []).append(_case(check.group, check.check, check.outcome, check.because, more))
    root = ET.Element("testsuites", name="counterclaim")
    totals = _counts([case for suite in cases.values() for case in suite])
    root.attrib.update(totals)
    for name in dict.fromkeys(["verdict", *WORDS["groups"], *cases]):
        if name in cases:
            suite = ET.SubElement(root, "testsuite", {"name": f"counterclaim.{name}", **_counts(cases[name])})
            suite.extend(cases[name])
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _case(group: str, name: str, outcome: str, because: str, more: list[str]) -> ET.Element:
    case = ET.Element("testcase", classname=f"counterclaim.{group}", name=one_line(name))
    because = one_line(because)
    body = "\n".join([because, *map(one_line, more)])
    if outcome in _FAILURE:
        ET.SubElement(case, "failure", type=outcome, message=because).text = body
    elif outcome in _SKIPPED:
        ET.SubElement(case, "skipped", message=f"{outcome}: {because}")
    elif outcome == Outcome.ERROR:
        ET.SubElement(case, "error", type=outcome, message=because).text = body
    else:
        ET.SubElement(case, "system-out").text = f"{outcome}: {body}"
    return case


def _counts(cases: list[ET.Element]) -> dict[str, str]:
    tags = [case[0].tag for case in cases]
    return {
        "tests": str(len(cases)),
        "failures": str(tags.count("failure")),
        "errors": str(tags.count("error")),
        "skipped": str(tags.count("skipped")),
    }
