"""Does a probe hold elsewhere: fresh prompts, other axes, other readings, another model family.

What the five steps found lies in the run folder (``probing.five_steps``); checks read it and fit nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from counterclaim import stats
from counterclaim.audit.evidence import Evidence
from counterclaim.checks.wording import needs_two_arms, not_run
from counterclaim.records import Estimate, Json, Outcome
from counterclaim.registry import Finding, check
from counterclaim.wording import number, percent, with_interval

FEW = 10  # answers of a class below which a rate or an AUC within it is an anecdote
TELLING = 0.7  # a classifier this good tells two sets of answers apart for practical purposes

Step = Mapping[str, Json]
_NO_PROBE = ("The claim is not about a probe.", "Nothing to do for this claim.")
_SEVERITY = (Outcome.FAIL, Outcome.ERROR, Outcome.INCONCLUSIVE, Outcome.WARN, Outcome.PASS, Outcome.NOT_RUN)


def step(probing: Mapping[str, Json], at: int) -> Step:
    """Step ``at`` of the five, from 1."""
    found: Step = probing["steps"][at - 1]
    return found


def worse(one: Finding, other: Finding | None) -> Finding:
    """The worse of two findings of one check, with what both say; one that was not run says nothing beside one that was."""
    if other is None or other.outcome is Outcome.NOT_RUN:
        return one
    if one.outcome is Outcome.NOT_RUN:
        return other
    first, second = sorted((one, other), key=lambda finding: _SEVERITY.index(finding.outcome))
    return Finding(
        first.outcome, f"{first.because} {second.because}", first.remedy or second.remedy, first.estimate, first.n,
        first.n_unscored, first.evidence, first.details, first.figure or second.figure,
    )  # fmt: skip


def _estimate(test: Mapping[str, Json]) -> Estimate:
    return Estimate(**test["estimate"])


def _said(tests: Sequence[Mapping[str, Json]]) -> str:
    return "; ".join(test["said"] for test in tests) + "."


def _sentence(tests: Sequence[Mapping[str, Json]]) -> str:
    text = _said(tests)
    return f"{text[:1].upper()}{text[1:]}"


@check(
    "fresh",
    group="transfer",
    question="Does it hold on prompts written independently, after the claim was fixed?",
    must_fail=("probe_forgets", "effect_forgets"),
    must_pass=("probe_holds", "effect_holds"),
)
def fresh(evidence: Evidence) -> Finding:
    """FAIL when a probe's fresh numbers, or the effect on fresh prompts, exclude what has to be reached; INCONCLUSIVE where they do not settle it; WARN when a probe meets its bars on prompts that are only held out."""
    if evidence.probing is None:
        return _effect_on_fresh(evidence)
    found = _probe_on_fresh(evidence.probing)
    own = sorted({evidence.prompts[r.prompt_id].split for arm in evidence.pair[:1] for r in arm.responses} - {"fresh"})
    if found.outcome is not Outcome.PASS or not own:
        return found
    because = f"{found.because} They are of the split {' and '.join(own)}: nobody says that another hand wrote them."
    remedy = "Say so if it did (split fresh), or let another model write some with `counterclaim fresh`."
    return Finding(Outcome.WARN, because, remedy, found.estimate, found.n)


def _probe_on_fresh(probing: Mapping[str, Json]) -> Finding:
    inside, outside = step(probing, 1), step(probing, 2)
    auc, before = _estimate(outside["tests"][0]), inside["tests"][0]
    n = auc.n
    trained = f"In training {before['said']}."
    if outside["passed"] is False:
        missed = [test for test in outside["tests"] if test["passed"] is False]
        why = "".join(f" {mode['mode'].capitalize()}: {mode['because']}" for mode in probing["taxonomy"][:2])
        remedy = (
            "Trust this probe for prompts like its training prompts only, or train it on prompts of several authors."
        )
        return Finding(Outcome.FAIL, f"{_sentence(missed)} {trained}{why}", remedy, auc, n)
    if outside["passed"] is None:
        open_ = [test for test in outside["tests"] if test["passed"] is None]
        remedy = "Answer more fresh prompts, above all such as give the rarer class."
        return Finding(Outcome.INCONCLUSIVE, f"{_sentence(open_)} {outside['power']}", remedy, auc, n)
    if before["passed"] is not True:
        because = f"{_sentence(outside['tests'][:1])} {trained} A probe that is good on fresh answers alone looks chosen on them."
        remedy = "Choose layer, position and penalty by cross-validation in training, and test on other fresh prompts."
        return Finding(Outcome.INCONCLUSIVE, because, remedy, auc, n)
    return Finding(Outcome.PASS, _sentence(outside["tests"]), estimate=auc, n=n)


def _effect_on_fresh(evidence: Evidence) -> Finding:
    if missing := needs_two_arms(evidence):
        return missing
    masks = tuple(
        [evidence.prompts[r.prompt_id].split == "fresh" for r in arm.responses] for arm in evidence.pair
    )  # fmt: skip
    if not any(any(mask) for mask in masks):
        return not_run(
            "No prompt is said to have been written independently of the training prompts.",
            "Let another model write some with `counterclaim fresh`, and answer them too (split fresh).",
        )
    if all(all(mask) for mask in masks):
        n = evidence.effect.n_paired
        return Finding(Outcome.PASS, f"All {n} paired prompts are fresh ones, so the effect itself is the test.", n=n)
    import numpy as np

    claim = evidence.claim
    keep = (np.array(masks[0]), np.array(masks[1]))
    effect = evidence.effect_of(evidence.metric, keep=keep)
    text = f"On the {effect.n_paired} fresh prompts alone the difference is {with_interval(effect.difference)}"
    said = effect.conclusion(claim.sign, claim.margin, claim.alpha)
    if said == "against":
        remedy = "Claim the effect for prompts like the others only."
        because = f"{text}, below the margin of {number(claim.margin)}."
        return Finding(Outcome.FAIL, because, remedy, effect.difference, effect.n_paired)
    if said == "open":
        remedy = "Answer more fresh prompts."
        because = f"{text}, which settles nothing."
        return Finding(Outcome.INCONCLUSIVE, because, remedy, effect.difference, effect.n_paired)
    return Finding(Outcome.PASS, f"{text}.", estimate=effect.difference, n=effect.n_paired)


@check(
    "axes",
    group="transfer",
    question="Does each axis transfer, and are the axes distinct?",
    must_fail=("axes_forget",),
    must_pass=("probe_holds",),
)
def axes(evidence: Evidence) -> Finding:
    """FAIL when the claim's own axis, or half of all axes, exclude the bar on fresh prompts; WARN when another one does, there or in training, or two are one."""
    probing = evidence.probing
    if probing is None:
        return not_run(*_NO_PROBE)
    third = step(probing, 3)
    if not third["tests"]:
        return not_run(
            "The probe was asked for one axis only.",
            "Name others under axes in the table [pipeline] of the study file.",
        )
    transfer = {test["axis"]: test for test in third["tests"] if test["of"] == "axis_transfer"}
    lost = [axis for axis, test in transfer.items() if test["passed"] is False]
    untrained = [test for test in third["tests"] if test["of"] == "axis_cv" and test["passed"] is False]
    unsettled = [test for test in third["tests"] if test["passed"] is None]
    same = [test for test in third["tests"] if test["of"] == "axis_correlation" and test["passed"] is False]
    said = _said([*(transfer[axis] for axis in lost), *untrained, *same])
    n = max(_estimate(test).n for test in transfer.values())
    if probing["cohort"] in lost or 2 * len(lost) >= len(transfer):
        because = f"{len(lost)} of {len(transfer)} axes do not transfer to fresh prompts: {said}"
        return Finding(Outcome.FAIL, because, "Claim only the axes that transfer.", n=n)
    if lost or untrained or same:
        return Finding(
            Outcome.WARN,
            f"Not every axis stands by itself: {said}",
            "Claim only axes that transfer, and each of them once.",
            n=n,
        )
    if unsettled:
        because = f"{len(unsettled)} of {len(third['tests'])} numbers are not settled: {_said(unsettled[:3])} {third['power']}"
        return Finding(Outcome.INCONCLUSIVE, because, "Label more answers on these axes.", n=n)
    return Finding(
        Outcome.PASS, f"All {len(transfer)} axes hold in training and on fresh prompts, and no two are one.", n=n
    )


@check(
    "layers",
    group="transfer",
    question="Does another layer or pooling change the answer?",
    must_fail=("lucky_layer",),
    must_pass=("probe_holds",),
)
def layers(evidence: Evidence) -> Finding:
    """FAIL when most other readings miss the bar that the claimed one meets and correction for their number leaves nothing of it.

    WARN when only most others miss it, or when the claimed one misses it and another does not.
    """
    probing = evidence.probing
    if probing is None:
        return not_run(*_NO_PROBE)
    fourth = step(probing, 4)
    claimed, *others = [row for row in fourth["rows"] if row["fresh_auc"] is not None]
    if not others:
        return not_run(
            "No other layer, position or classifier was tried.",
            "Name layers, positions or classifiers in the table [pipeline] of the study file.",
        )
    area = Estimate(**claimed["fresh_auc"])
    if area.estimate is None:
        because = f"On fresh prompts no reading can be told from another: {area.reason}."
        return Finding(Outcome.INCONCLUSIVE, because, "Answer fresh prompts that give both classes.", n=area.n)
    met = sum(row["passed"] is True for row in others)
    p = claimed["fresh_p_holm"]
    text = (
        f"The claimed reading has AUC {with_interval(area)} on fresh prompts (p = {p:.2g} after correction for "
        f"{len(others) + 1} readings), and {met} of {len(others)} others meet the bar"
    )
    best = fourth["because"]
    details: dict[str, Json] = {"estimate": area, "n": area.n}
    if claimed["passed"] is True:
        if 2 * met >= len(others):
            return Finding(Outcome.PASS, f"{text}.", **details)
        if p > evidence.claim.alpha:
            because = f"{text}: the best of so many would do as well by luck."
            return Finding(Outcome.FAIL, because, "Choose the reading in training, and test that one.", **details)
        return Finding(Outcome.WARN, f"{text}. {best}", "Say for which layer and position the claim holds.", **details)
    if met:
        remedy = "Choose the reading by cross-validation in training, freeze it, and test it on other fresh prompts."
        return Finding(Outcome.WARN, f"{text}. {best}", remedy, **details)
    if claimed["passed"] is None:
        return Finding(Outcome.INCONCLUSIVE, f"{text}. {fourth['power']}", "Answer more fresh prompts.", **details)
    return Finding(Outcome.PASS, f"{text}: another reading does not change the answer.", **details)


@check(
    "models",
    group="transfer",
    question="Does it hold on a second model family?",
    must_fail=("one_family",),
    must_pass=("probe_holds",),
)
def models(evidence: Evidence) -> Finding:
    """FAIL when the second model excludes a bar, INCONCLUSIVE where it settles nothing; WARN when it holds there alone."""
    probing = evidence.probing
    if probing is None:
        return not_run(*_NO_PROBE)
    fifth = step(probing, 5)
    if not fifth["tests"]:
        return not_run(
            "The probe was tried on one model only.", "Name a model of another family with second_model in [pipeline]."
        )
    outside = next(test for test in fifth["tests"] if test["of"] == "fresh_auc")
    area = _estimate(outside)
    on = f"On {probing['second_model']}"
    if fifth["passed"] is False:
        missed = "; ".join(test["said"] for test in fifth["tests"] if test["passed"] is False)
        remedy = "Claim it for the first model only, and say that it fails on another."
        return Finding(Outcome.FAIL, f"{on}: {missed}.", remedy, area, area.n)
    if fifth["passed"] is None:
        open_ = "; ".join(test["said"] for test in fifth["tests"] if test["passed"] is None)
        return Finding(
            Outcome.INCONCLUSIVE, f"{on}: {open_}. {fifth['power']}", "Label more of its answers.", area, area.n
        )
    if step(probing, 2)["passed"] is not True:
        because = f"{fifth['because']} It does not on {probing['model']}."
        return Finding(Outcome.WARN, because, "Ask what the second model has that the first lacks.", area, area.n)
    return Finding(Outcome.PASS, fifth["because"], estimate=area, n=area.n)


# what other checks of this group learn from the steps ------------------------------------------------------------


def read_at_the_end(probing: Mapping[str, Json]) -> Finding:
    """For ``endpoint``: whether the answers that the probe read ended by themselves."""
    ends = probing["endpoint"]
    if ends["position"] == "prompt-end":
        return Finding(Outcome.PASS, "The probe reads the end of the prompt, which no budget cuts.")
    if ends["train_cut"] is None or ends["fresh_cut"] is None:
        because = "Nobody knows how some of the answers ended that the probe was read at the end of."
        return Finding(Outcome.INCONCLUSIVE, because, "Read it off answers whose finish reason is recorded.")
    text = (
        f"Of the answers that the probe read {percent(ends['train_cut'])} in training and {percent(ends['fresh_cut'])} of the "
        "fresh ones were cut"
    )
    remedy = "Read the probe at the end of finished answers only, after generating with a larger budget."
    share = max(ends["train_cut"], ends["fresh_cut"])
    if share > 0.1:
        return Finding(Outcome.FAIL, f"{text}: their last token is not an end.", remedy)
    return Finding(Outcome.WARN, f"{text}.", remedy) if share > 0.02 else Finding(Outcome.PASS, f"{text}.")


def chosen_in_training(probing: Mapping[str, Json]) -> Finding:
    """For ``threshold``: the gate's threshold was chosen out of fold in training; what peeking would have given stands beside."""
    row = step(probing, 2)["rows"][0]
    honest, peeked = row["asymmetry_honest"], row["asymmetry_peeked"]
    text = "The gate's threshold was chosen on training answers out of fold"
    if honest is None or peeked is None or honest["estimate"] is None:
        return Finding(Outcome.PASS, f"{text}.")
    text += f", and gives asymmetry {number(honest['estimate'])} on fresh answers"
    if peeked["estimate"] is not None:
        text += (
            f"; the best one chosen on them would give {number(peeked['estimate'])}, and on shuffled labels such a choice "
            f"reaches the bar in {percent(peeked['null_p_at_bar'])} of draws"
        )
    return Finding(Outcome.PASS, f"{text}.")


def class_sizes(probing: Mapping[str, Json]) -> Finding:
    """For ``base-rate``: both classes are there in training and on fresh prompts, and shuffled labels do not do as well."""
    second = step(probing, 2)
    row = second["rows"][0]
    sizes = [
        (name, row[pos], row[n] - row[pos])
        for name, n, pos in (("training", "n", "n_pos"), ("fresh", "n_fresh", "n_fresh_pos"))
    ]
    told = ", ".join(f"{name} {yes} positive and {no} negative" for name, yes, no in sizes)
    fewest = min(min(yes, no) for _, yes, no in sizes)
    if fewest < FEW:
        because = f"The probe's smaller class has {fewest} answers ({told}). {second['power']}"
        remedy = f"Find prompts with at least {FEW} answers of each class on both sides; a few dozen are better."
        return Finding(Outcome.INCONCLUSIVE, because, remedy, n=row["n_fresh"])
    honest = row["asymmetry_honest"]
    reached = (
        honest is not None
        and honest["estimate"] is not None
        and honest["estimate"] <= probing["bars"]["fresh_asymmetry"]
    )
    if reached and honest["shuffled_p"] > 0.05:
        because = (
            f"With shuffled labels the gate is as calibrated as on the fresh answers ({number(honest['estimate'])}) with "
            f"p = {honest['shuffled_p']:.2g} ({told})."
        )
        return Finding(Outcome.INCONCLUSIVE, because, "Answer more fresh prompts of the rarer class.", n=row["n_fresh"])
    return Finding(Outcome.PASS, f"The probe has both classes ({told}).", n=row["n_fresh"])


def told_apart(probing: Mapping[str, Json], level: float) -> Finding | None:
    """For ``shift``: whether training and fresh answers differ in what the probe reads, and in their base rate.

    A probe that holds on fresh prompts all the same has stood the shift, which then is a WARN at most.
    """
    if probing["c2st_auc"] is None:
        return None
    second = step(probing, 2)
    row = second["rows"][0]
    apart = Estimate(**probing["c2st_auc"])
    moved = stats.newcombe_difference(row["n_fresh_pos"], row["n_fresh"], row["n_pos"], row["n"], level)
    text = (
        f"What the probe reads tells fresh from training answers with AUC {with_interval(apart)}; the positive rate differs by "
        f"{with_interval(moved)}."
    )
    differs = apart.low is not None and apart.low > 0.5 and (apart.estimate or 0.0) >= TELLING
    rate_moved = moved.interval is not None and not moved.interval[0] <= 0 <= moved.interval[1]
    common: dict[str, Json] = {"estimate": apart, "n": apart.n}
    remedy = "Train the probe on prompts drawn like those that it is used on, or say for which prompts the claim holds."
    if differs and rate_moved and abs(moved.estimate or 0.0) >= 0.1 and second["passed"] is not True:
        return Finding(Outcome.FAIL, text, remedy, **common)
    return (
        Finding(Outcome.WARN, text, remedy, **common)
        if differs or rate_moved
        else Finding(Outcome.PASS, text, **common)
    )
