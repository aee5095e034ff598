"""Were both arms treated alike: decode settings, judge, labels, model variants, and who filled which role."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import fields
from typing import Any

from counterclaim.audit.evidence import Arm, Evidence
from counterclaim.checks.findings import needs_responses, needs_two_arms, not_run
from counterclaim.records import Decode, ModelRef, Outcome, model_family
from counterclaim.registry import Finding, check
from counterclaim.wording import listing

_DECODE = tuple(item.name for item in fields(Decode) if item.name != "seed")
_MODEL = ("dtype", "quantisation")
SETTINGS = (*_DECODE, *_MODEL)
"""Settings that two arms must share unless the claim says that one of them is the treatment itself."""
_ESSENTIAL = ("max_new_tokens", "temperature")


@check(
    "decode-parity",
    group="ruler",
    question="Do both arms share budget, temperature, penalties, stop strings, prompts' template and precision?",
    must_fail=("decode_mismatch",),
    must_pass=("clean", "null"),
)
def decode_parity(evidence: Evidence) -> Finding:
    """FAIL when a recorded setting differs between the arms and is not the treatment itself."""
    if missing := needs_two_arms(evidence):
        return missing
    if evidence.no_generation:
        return not_run(
            "Nothing was sampled: the answers were chosen among given ones.", "Nothing to do for such tasks."
        )
    control, treated = evidence.pair
    differ, one_sided, same, silent = [], [], [], []
    for name in SETTINGS:
        part = "model" if name in _MODEL else "decode"
        c, t = _settings(control, part, name), _settings(treated, part, name)
        if name in evidence.claim.varies:
            continue
        if not c and not t:
            silent.append(name)
        elif not c or not t:
            one_sided.append(f"{name} (only {'treated' if t else 'control'} records {_show(t or c)})")
        elif c != t:
            differ.append(f"{name}: control {_show(c)}, treated {_show(t)}")
        else:
            same.append(name)
    n = len(control) + len(treated)
    if differ:
        because = f"The arms were sampled differently: {listing(differ)}."
        remedy = (
            "Generate both arms again with the same settings, or name a setting that is the treatment itself "
            "with --varies NAME."
        )
        return Finding(Outcome.FAIL, because, remedy, n=n)
    if not same and not one_sided:
        return not_run(
            "The files record no decode settings.",
            "Map them, for example --map decode.temperature=COLUMN,decode.max_new_tokens=COLUMN.",
        )
    unknown = [name for name in _ESSENTIAL if name in silent]
    if one_sided or unknown:
        because = (
            f"Equal as far as recorded ({listing(same) or 'nothing'}), but not known for both arms: "
            f"{listing(one_sided + unknown)}."
        )
        remedy = "Record these settings for both arms (--map decode.NAME=COLUMN)."
        return Finding(Outcome.INCONCLUSIVE, because, remedy, n=n)
    return Finding(Outcome.PASS, f"Equal in both arms: {listing(same, 12)}.", n=n)


def _settings(arm: Arm, part: str, name: str) -> frozenset[Hashable]:
    found = {getattr(getattr(response, part), name) for response in arm.responses}
    return frozenset(found - {None})


def _show(values: Iterable[Any]) -> str:
    return " or ".join(sorted(repr(value) if not isinstance(value, str) else f"“{value[:40]}”" for value in values))


@check(
    "judge-parity",
    group="ruler",
    question="Were both arms scored by the same judge, prompt and parameters?",
    must_fail=("judge_asymmetry",),
    must_pass=("clean", "null"),
)
def judge_parity(evidence: Evidence) -> Finding:
    """FAIL when the scorers behind the target differ between the arms; NOT_RUN when the files do not name them."""
    if missing := needs_two_arms(evidence):
        return missing
    n = sum(len(arm) for arm in evidence.pair)
    unnamed = []
    for axis in evidence.metric.axes:
        c, t = (arm.columns[axis].scorers for arm in evidence.pair)
        if c != t:
            because = f"{axis} was scored by {listing(sorted(c), 3)} in control and {listing(sorted(t), 3)} in treated."
            return Finding(Outcome.FAIL, because, "Score both arms again with one scorer, blind to the arm.", n=n)
        unnamed += [axis for name in c if "@unversioned" in name]
    if unnamed:
        return not_run(
            f"The files do not say who scored {listing(sorted(set(unnamed)))}.",
            "Add columns judge, judge_version, judge_prompt and judge_params to both files.",
        )
    names = sorted({name for axis in evidence.metric.axes for name in evidence.pair[0].columns[axis].scorers})
    return Finding(Outcome.PASS, f"One scorer scored both arms: {listing(names, 3)}.", n=n)


@check(
    "label-parity",
    group="ruler",
    question="Were labels in every split and arm made by the same scorer version?",
    must_fail=("label_drift",),
    must_pass=("clean", "null"),
)
def label_parity(evidence: Evidence) -> Finding:
    """FAIL when one axis carries labels of more than one scorer, within an arm or across splits."""
    if missing := needs_responses(evidence, "who made which label"):
        return missing
    mixed: dict[str, set[str]] = {}
    named = False
    for axis in sorted({axis for arm in evidence.pair for axis in arm.columns}):
        found = {name for arm in evidence.pair if axis in arm.columns for name in arm.columns[axis].scorers}
        named |= any("@unversioned" not in name for name in found)
        if len(found) > 1:
            mixed[axis] = found
    n = sum(len(arm) for arm in evidence.pair)
    if mixed:
        axis, found = next(iter(mixed.items()))
        because = f"{axis} mixes labels of {len(found)} scorers: {listing(sorted(found), 3)}."
        target = any(axis in evidence.metric.axes for axis in mixed)
        remedy = "Label everything again with one scorer version, or analyse the versions apart."
        return Finding(Outcome.FAIL if target else Outcome.WARN, because, remedy, n=n)
    if not named:
        return not_run("The files do not say who made the labels.", "Add columns judge, judge_version, judge_prompt.")
    return Finding(Outcome.PASS, "Every axis was labelled by one scorer throughout.", n=n)


@check(
    "roles",
    group="ruler",
    question="Which roles (teacher, prompt writer, checklist author, judge) are filled by the same model family?",
    must_fail=("same_family",),
    must_pass=("judged_with_cards",),
)
def roles(evidence: Evidence) -> Finding:
    """FAIL when the judge grades its own family (that of teacher or student); WARN for other overlaps."""
    filled = dict(evidence.claim.roles)
    if len(filled) < 2:
        return not_run(
            "The claim does not say which models wrote prompts, taught, and judged.",
            "State them under [roles] in the claim file: teacher, prompt_writer, checklist_author, judge, student.",
        )
    families: dict[str, list[str]] = defaultdict(list)
    for role, model in sorted(filled.items()):
        kind = role.partition(":")[0]  # teacher:eager and teacher:synthesizer are teachers
        if kind not in families[model_family(model)]:
            families[model_family(model)].append(kind)
    shared = {family: who for family, who in families.items() if len(who) > 1}
    n = len(filled)
    if not shared:
        return Finding(Outcome.PASS, f"{n} roles are filled by {len(families)} different model families.", n=n)
    summary = "; ".join(f"{family} is {' and '.join(who)}" for family, who in shared.items())
    graded = any("judge" in who and {"teacher", "student"} & set(who) for who in shared.values())
    remedy = "Give the judge's role to a model of another family and score again."
    return Finding(Outcome.FAIL if graded else Outcome.WARN, f"One family fills several roles: {summary}.", remedy, n=n)


@check(
    "variant",
    group="cost",
    question="Do target and guard numbers come from the same model variant (adapter hash)?",
    must_fail=("wrong_variant",),
    must_pass=("clean", "null"),
)
def variant(evidence: Evidence) -> Finding:
    """FAIL when the target was measured on one adapter and a guard on another."""
    if missing := needs_two_arms(evidence):
        return missing
    treated = evidence.treated
    metrics = [evidence.metric, *(evidence.metric_named(guard.metric) for guard in evidence.claim.guards)]
    by_metric = {
        metric.name: {
            replicate: _models(treated, metric_mask, replicate)
            for replicate in sorted(set(treated.replicates))
        }
        for metric in metrics
        for metric_mask in [treated.scored(metric)]
    }  # fmt: skip
    known = {model for seeds in by_metric.values() for models in seeds.values() for model in models}
    if not known:
        return not_run(
            "The treated file does not say which model variant answered.",
            "Add columns model and adapter (or adapter hash), or use a harness log that records them.",
        )
    target = by_metric[evidence.metric.name]
    remedy = "Measure target and guards on answers of one adapter."
    for name, seeds in by_metric.items():
        for replicate, models in seeds.items():
            if len(models) > 1 or models != target[replicate]:
                both = sorted(_name(model) for model in models | target[replicate])
                because = f"{evidence.metric.name} and {name} were measured on different variants: {listing(both, 3)}."
                return Finding(Outcome.FAIL, because, remedy, n=len(treated))
    names = sorted(_name(model) for model in known)
    return Finding(Outcome.PASS, f"Target and guards come from one variant: {listing(names, 3)}.", n=len(treated))


def _models(arm: Arm, mask: Any, replicate: str) -> frozenset[ModelRef]:
    chosen = (arm.replicates == replicate) & mask
    found = {arm.responses[i].model for i in chosen.nonzero()[0]}
    return frozenset(model for model in found if model != ModelRef())


def _name(model: ModelRef) -> str:
    parts = [model.repo, model.revision, model.adapter_hash, model.operator, model.operator_hash]
    return " ".join(part for part in parts if part) or "a model without a name"
