"""What went wrong as SARIF 2.1.0, so that code scanning shows it beside the result files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from urllib.parse import quote

from counterclaim.records import Json, Outcome, content_hash
from counterclaim.report.page import Page, clean_page, in_reading_order, question
from counterclaim.report.words import one_line

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

_LEVELS: Mapping[str, str] = {
    Outcome.FAIL: "error",
    Outcome.ERROR: "error",
    Outcome.WARN: "warning",
    Outcome.INCONCLUSIVE: "warning",
    Outcome.NOT_RUN: "note",
}


def render_sarif(page: Page) -> str:
    """One run with a rule per check and a result per check that did not pass, as JSON text.

    A result lies in the files of the treated arm, then those of the other arms; where the run has no file (counts
    from the command line), in the run folder's ``verdict.json``.
    """
    shown = clean_page(page)
    checks = in_reading_order(shown.checks)
    artifacts = [_artifact(source) for source in _sources(shown)] or [{"location": {"uri": "verdict.json"}}]
    places = _places(shown)
    results = [_result(index, check, places) for index, check in enumerate(checks) if check.get("outcome") in _LEVELS]
    driver = {
        "name": "counterclaim",
        "semanticVersion": one_line(shown.meta.get("version")) or "0.0.0",
        "rules": [_rule(shown, check) for check in checks],
    }
    verdict = {key: shown.verdict.get(key) for key in ("verdict", "because", "claim_hash", "status")}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "artifacts": artifacts,
        "results": results,
        "properties": verdict,
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False) + "\n"


def _sources(page: Page) -> list[Mapping[str, Json]]:
    """Sources with a path; the treated arm first, because that is where a change is reviewed."""
    given = page.meta.get("sources")
    known = (
        [item for item in given if isinstance(item, Mapping) and item.get("path")] if isinstance(given, list) else []
    )
    return sorted(known, key=lambda item: item.get("arm") != "treated")


def _uri(path: Json) -> str:
    """A path as a URI reference: forward slashes, everything unusual percent-encoded, ``file://`` where absolute."""
    slashed = str(path).replace("\\", "/")
    encoded = quote(slashed)
    if re.match(r"[A-Za-z]:/", slashed):
        return f"file:///{slashed[0]}:{quote(slashed[2:])}"
    return f"file://{encoded}" if slashed.startswith("/") else encoded


def _artifact(source: Mapping[str, Json]) -> dict[str, Json]:
    artifact: dict[str, Json] = {"location": {"uri": _uri(source["path"])}, "roles": ["analysisTarget"]}
    if source.get("sha256"):
        artifact["hashes"] = {"sha-256": one_line(source["sha256"])}
    return artifact


def _places(page: Page) -> list[dict[str, Json]]:
    uris = [(_uri(source["path"]), index) for index, source in enumerate(_sources(page))] or [("verdict.json", 0)]
    return [
        {"physicalLocation": {"artifactLocation": {"uri": uri, "index": index}, "region": {"startLine": 1}}}
        for uri, index in uris
    ]


def _rule(page: Page, check: Mapping[str, Json]) -> dict[str, Json]:
    name, group = one_line(check.get("check")), one_line(check.get("group"))
    asked = one_line(question(page, check)) or f"The {group} check {name}."
    remedy = one_line(check.get("remedy"))
    return {
        "id": f"{group}/{name}",
        "name": "".join(part.capitalize() for part in re.split(r"[^A-Za-z0-9]+", name)) or "Unnamed",
        "shortDescription": {"text": asked},
        "help": {"text": f"{asked} {remedy}".strip()},
        "defaultConfiguration": {"level": "error"},
        "properties": {"tags": [group]},
    }


def _result(index: int, check: Mapping[str, Json], places: list[dict[str, Json]]) -> dict[str, Json]:
    outcome = one_line(check.get("outcome"))
    rule = f"{one_line(check.get('group'))}/{one_line(check.get('check'))}"
    said = [one_line(check.get("because")), one_line(check.get("remedy"))]
    return {
        "ruleId": rule,
        "ruleIndex": index,
        "level": _LEVELS[outcome],
        "message": {"text": f"{outcome}: {' '.join(part for part in said if part)}"},
        "locations": places,
        "partialFingerprints": {"counterclaimCheck/v1": content_hash(rule)},
        "properties": {
            "outcome": outcome,
            "required": bool(check.get("required")),
        },
    }
