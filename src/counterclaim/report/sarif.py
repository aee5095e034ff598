"""What went wrong as SARIF 2.1.0, so that code scanning shows it beside the result files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from urllib.parse import quote

from counterclaim.records import CheckResult, Json, Outcome, content_hash
from counterclaim.report.page import Page, Source, in_reading_order
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
    checks = in_reading_order(page.checks)
    sources = sorted((source for source in page.sources if source.path), key=lambda source: source.arm != "treated")
    artifacts = [_artifact(source) for source in sources] or [{"location": {"uri": "verdict.json"}}]
    places = [
        {
            "physicalLocation": {
                "artifactLocation": {"uri": artifact["location"]["uri"], "index": at},
                "region": {"startLine": 1},
            }
        }
        for at, artifact in enumerate(artifacts)
    ]
    driver = {
        "name": "counterclaim",
        "semanticVersion": page.version or "0.0.0",
        "rules": [_rule(page, check) for check in checks],
    }
    verdict = page.verdict
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "artifacts": artifacts,
        "results": [_result(at, check, places) for at, check in enumerate(checks) if check.outcome in _LEVELS],
        "properties": {
            "verdict": verdict.outcome, "because": verdict.because, "claim_hash": verdict.claim_hash, "status": page.status,
        },
    }  # fmt: skip
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False) + "\n"


def _uri(path: str) -> str:
    """A path as a URI reference: forward slashes, everything unusual percent-encoded, ``file://`` where absolute."""
    slashed = path.replace("\\", "/")
    encoded = quote(slashed)
    if re.match(r"[A-Za-z]:/", slashed):
        return f"file:///{slashed[0]}:{quote(slashed[2:])}"
    return f"file://{encoded}" if slashed.startswith("/") else encoded


def _artifact(source: Source) -> dict[str, Json]:
    artifact: dict[str, Json] = {"location": {"uri": _uri(source.path)}, "roles": ["analysisTarget"]}
    if source.sha256:
        artifact["hashes"] = {"sha-256": source.sha256}
    return artifact


def _rule(page: Page, check: CheckResult) -> dict[str, Json]:
    question = (
        one_line(page.questions.get(check.check)) or f"The {one_line(check.group)} check {one_line(check.check)}."
    )
    return {
        "id": _rule_id(check),
        "name": "".join(part.capitalize() for part in re.split(r"[^A-Za-z0-9]+", check.check)) or "Unnamed",
        "shortDescription": {"text": question},
        "help": {"text": f"{question} {one_line(check.remedy)}".strip()},
        "defaultConfiguration": {"level": "error"},
        "properties": {"tags": [one_line(check.group)]},
    }


def _rule_id(check: CheckResult) -> str:
    return f"{one_line(check.group)}/{one_line(check.check)}"


def _result(index: int, check: CheckResult, places: list[dict[str, Json]]) -> dict[str, Json]:
    rule = _rule_id(check)
    sentences = [one_line(part) for part in (check.because, check.remedy) if part]
    return {
        "ruleId": rule,
        "ruleIndex": index,
        "level": _LEVELS[check.outcome],
        "message": {"text": f"{check.outcome}: {' '.join(sentences)}"},
        "locations": places,
        "partialFingerprints": {"counterclaimCheck/v1": content_hash(rule)},
        "properties": {"outcome": check.outcome, "required": check.required},
    }
