"""Every way a behaviour claim fools its author, one check each, grouped by what a failure means.

``ruler``: is the measurement valid; ``effect``: is there one; ``cost``: what did it break; ``transfer``: does
it hold elsewhere. Importing this package registers the built-in checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from counterclaim.audit.evidence import Evidence
from counterclaim.audit.probing import ProbeResult
from counterclaim.checks import (  # noqa: F401  they register their checks
    arms,
    cost,
    effect,
    endings,
    joins,
    judging,
    labels,
    parity,
    probes,
    transfer,
)
from counterclaim.checks.findings import ProbeRule, not_run
from counterclaim.records import DO_NOTHING, DOSE_PREFIX, PLACEBO, PROMPT_BASELINE, CheckResult
from counterclaim.registry import Finding, checks

__all__ = ["check_probe", "required", "run_all"]

ONE_ARM = (
    "truncation", "judge-cards", "unscored", "saturation", "alignment", "contamination", "ledger", "label-agreement",
    "label-ties", "label-parity", "parser", "clip", "roles", "base-rate",
)  # fmt: skip
"""Checks that have something to say about a single set of results."""


PROBE_RULES: Mapping[str, ProbeRule] = {
    "contamination": joins.fresh_among_training,
    "fresh": probes.probe_on_fresh,
    "threshold": transfer.threshold_of_gate,
    "base-rate": transfer.classes_of_probe,
    "shift": transfer.features_shift,
    "endpoint": transfer.endings_of_probe,
    "label-ties": labels.ties_of_probe,
    "label-agreement": labels.second_label_agrees,
}
"""What checks of these names ask of a probe, by itself in ``check_probe`` and within a study's checks alike."""


def required(evidence: Evidence) -> frozenset[str]:
    """Names of the checks without which the claim cannot stand, given what was claimed and provided.

    What a user provides has to be checked: training data make ``contamination`` required, several seeds make
    ``seeds`` required, fresh prompts make ``fresh`` required, and so on.
    """
    claim = evidence.claim
    names = {"truncation", "paired-effect", *claim.required}
    if evidence.counts is not None:
        return frozenset(names)
    names |= {"unscored"}
    asked = {response.prompt_id for response in evidence.treated.responses}
    given = {
        "content": bool(claim.guards),
        "seeds": bool(claim.seeds) or len(set(evidence.treated.replicates)) > 1,
        "contamination": evidence.overlap is not None,
        "judge-cards": bool(evidence.cards),
        "label-agreement": bool(claim.same_construct),
        "ledger": bool(claim.quotes),
        "base-rate": evidence.metric.kind != "mean" or evidence.probing is not None,
        "fresh": evidence.probing is not None or any(evidence.prompts[key].split == "fresh" for key in asked),
        "threshold": evidence.probing is not None,
        "endpoint": evidence.probing is not None,
        "identity": DO_NOTHING in evidence.arms,
        "placebo": PLACEBO in evidence.arms,
        "prompt-baseline": PROMPT_BASELINE in evidence.arms,
        "dose-response": any(arm.dose is not None or arm.name.startswith(DOSE_PREFIX) for arm in evidence.arms),
    }
    return frozenset(names | {name for name, is_given in given.items() if is_given})


def run_all(
    evidence: Evidence,
    *,
    only: Iterable[str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[CheckResult]:
    """Run every registered check (or only the named ones), ruler first; none can stop the others."""
    wanted = None if only is None else frozenset(only)
    must = required(evidence) if len(evidence.pair) == 2 or evidence.counts is not None else frozenset()
    results = []
    for check in checks():
        if wanted is not None and check.name not in wanted:
            continue
        if progress is not None:
            progress(check.name)
        results.append(check(evidence, required=check.name in must))
    return results


def check_probe(result: ProbeResult) -> list[CheckResult]:
    """Check a probe that is tested by itself, outside of a study."""

    def no_fresh(_: ProbeResult) -> Finding:
        return not_run(*probes.NO_FRESH)

    by_name = {check.name: check for check in checks()}
    return [
        replace(by_name[name], run=no_fresh if result.on_fresh is None else rule)(result)
        for name, rule in PROBE_RULES.items()
    ]
