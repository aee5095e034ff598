"""What study.json says of a study of one's own: how the claim is measured, whether that was fixed before the first answer, and
where the answers come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from counterclaim.audit.evidence import GENERATED
from counterclaim.audit.metrics import resolve
from counterclaim.folder import Records
from counterclaim.lab.scorers.scoring import Chosen
from counterclaim.records import ArmId, Claim, Json, Prompt, Response, Score, content_hash, to_json


def scorers_json(chosen: Sequence[Chosen]) -> Json:
    """Which scorers scored, and under which axes, as study.json spells it."""
    return [[item.name, dict(item.axes)] for item in chosen]


def measured_by(claim: Claim, scorers: Mapping[str, Iterable[str]], prompts: Iterable[Prompt]) -> dict[str, Json]:
    """What decides how the claim comes out, given the answers: scorers of its target and guards, and the golds.

    Args:
        claim: what is claimed.
        scorers: axis to the full names of what reads it.
        prompts: with their golds.
    """
    names = (claim.metric, *(guard.metric for guard in claim.guards))
    axes = {axis for name in names for axis in resolve(name, set(scorers)).axes}
    golds = sorted((prompt.id, to_json(prompt.gold)) for prompt in prompts)
    return {
        "scorers": {axis: sorted(scorers.get(axis, ())) for axis in sorted(axes)},
        "golds": content_hash(golds),
    }


def status_of(
    claim: Claim, measured_by: Json, frozen: Mapping[str, Json]
) -> tuple[Literal["confirmatory", "exploratory"], str]:
    at = frozen["at"]
    if frozen["claim_hash"] != claim.hash:
        return "exploratory", f"the claim was changed after answers had been generated (it was written down on {at})"
    if changed := [what for what in ("scorers", "golds") if frozen["measured_by"][what] != measured_by[what]]:
        return (
            "exploratory",
            f"the {' and '.join(changed)} that measure the claim were changed after answers had been generated (it was "
            f"written down on {at})",
        )
    return "confirmatory", f"the claim was written down on {at}, before the first answer, and has not changed"


def sources_of(records: Records, began: str) -> list[dict[str, Json]]:
    """Where each arm's answers came from, with a hash over them."""
    by_arm: dict[ArmId, list[Response]] = {}
    for response in records.responses:
        by_arm.setdefault(response.arm, []).append(response)
    return [
        {
            "arm": str(arm), "replicate": "", "no_generation": False, "path": answers[0].model.repo or "a model without a name",
            "format": GENERATED, "sha256": content_hash([str(arm), [to_json(answer) for answer in answers]]),
            "rows": len(answers), "created": began,
        }
        for arm, answers in by_arm.items()
    ]  # fmt: skip


def notes_of(records: Records) -> list[str]:
    """What a reader of the page must know of how the records were made."""
    notes = []
    if any("sandbox=none" in made.scorer for made in records.scores):
        notes.append("Programs ran without a sandbox (--unsafe-local): resource limits alone held them.")
    failed = sum(response.error is not None for response in records.responses)
    if failed:
        first = next(response.error for response in records.responses if response.error is not None)
        notes.append(f"{failed} of {len(records.responses)} answers failed, the first with: {first}")
    by_scorer: dict[str, list[Score]] = {}
    for made in records.scores:
        by_scorer.setdefault(made.scorer, []).append(made)
    for name, scores in by_scorer.items():
        reasons = [made.unscored for made in scores if made.unscored is not None]
        if 2 * len(reasons) > len(scores):
            notes.append(f"{name} left {len(reasons)} of {len(scores)} readings unscored, the first with: {reasons[0]}")
    return notes
