"""Where answers end: cut by the token budget, or clipped when they were stored or shown to the judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from counterclaim import stats
from counterclaim.audit.effect import Effect
from counterclaim.audit.evidence import Arm, Evidence
from counterclaim.checks.findings import NO_TEXTS, conclusion, forest, needs_responses, not_run
from counterclaim.importers.endings import describe_inference, storage_clip
from counterclaim.records import CONTROL, TREATED, Estimate, FinishReason, Json, Outcome, Provenance
from counterclaim.registry import Finding, check
from counterclaim.text import estimate_tokens
from counterclaim.wording import listing, number, percent, with_interval

UNKNOWN_ALLOWED = 0.05  # more unknown endings than this, and truncation is unknown
NEGLIGIBLE = 0.02  # cut answers up to this share cannot carry an effect of a few points
TOO_MANY = 0.20  # beyond this the finished answers are a selection, not a sample
LOPSIDED = 0.05

_REMEDY = (
    "Generate both arms again with a token budget far above the longest answer; where a harness records no finish "
    "reason, such a budget is what shows that nothing was cut."
)


@check(
    "truncation",
    group="ruler",
    question="What share of the answers was cut by the token budget, and does the effect survive without them?",
    must_fail=("cut_short_one", "cut_short_both", "endings_unknown", "budget_flip"),
    must_pass=("clean", "null"),
)
def truncation(evidence: Evidence) -> Finding:
    """FAIL when cut answers could be the effect; INCONCLUSIVE (known: false) when finish reasons are unknown."""
    if evidence.counts is not None:
        return _from_counts(evidence)
    if not evidence.pair:
        return not_run("There are no answers.", "Give result files with --control FILE --treated FILE.")
    arms = {arm.name: _endings(arm, no_generation=evidence.no_generation) for arm in evidence.pair}
    details: dict[str, Json] = {"arms": arms, "known": True}
    n = sum(len(arm) for arm in evidence.pair)
    if evidence.no_generation:
        because = "The answers were chosen among given ones (log-likelihood), so there was no budget to cut them."
        return Finding(Outcome.PASS, because, n=n, details=details)
    shares = ", ".join(
        f"{name} {percent(arm['cut'])} cut and {percent(arm['unknown'])} unknown" for name, arm in arms.items()
    )
    shares += _basis(evidence)
    worst_arm = max(evidence.pair, key=lambda arm: arm.cut.sum() / max(len(arm), 1))
    estimate = stats.wilson(int(worst_arm.cut.sum()), len(worst_arm), evidence.claim.level)
    common: dict[str, Json] = {
        "estimate": estimate, "n": n, "figure": _pile_up(evidence), "evidence": _cut_prompts(evidence),
        "n_unscored": int(sum(arm.unknown.sum() for arm in evidence.pair)),
    }  # fmt: skip
    budgets = _at_budgets(evidence)
    if budgets:
        details["budgets"] = [at.to_json() for at in budgets]
        common["figure"] = _by_budget(evidence, budgets)
    unknown = max(arm["unknown"] for arm in arms.values())
    worst = max(arm["cut"] for arm in arms.values())
    if worst <= TOO_MANY and unknown > UNKNOWN_ALLOWED:
        details["known"] = False
        because = f"Finish reasons are unknown for too many answers: {shares}."
        remedy = (
            "Map a finish-reason column (--map finish_reason=COLUMN), or token counts and the budget (--map n_tokens="
            "COLUMN,decode.max_new_tokens=COLUMN); if the harness keeps neither, generate with a budget far above need."
        )
        return Finding(Outcome.INCONCLUSIVE, because, remedy, details=details, **common)
    if worst > TOO_MANY:
        because = f"Too many answers were cut to compare the rest: {shares}."
        return Finding(Outcome.FAIL, because, _REMEDY, details=details, **common)
    return _small_share(evidence, worst + unknown, shares, budgets, details, common)


def _small_share(
    evidence: Evidence,
    worst: float,
    shares: str,
    budgets: Sequence[AtBudget],
    details: dict[str, Json],
    common: dict[str, Json],
) -> Finding:
    flip = _budget_flip(evidence, budgets, worst)
    if flip:
        return Finding(Outcome.FAIL, flip, _REMEDY, details=details, **common)
    if worst <= NEGLIGIBLE:
        because = f"Almost no answer was cut ({shares}).{_what_smaller_budgets_show(evidence, budgets)}"
        return Finding(Outcome.PASS, because, details=details, **common)
    if len(evidence.pair) < 2:
        because = f"Some answers were cut ({shares})."
        return Finding(Outcome.WARN, because, _REMEDY, details=details, **common)
    control, treated = evidence.pair
    gap = stats.newcombe_difference(
        int(treated.cut.sum()), len(treated), int(control.cut.sum()), len(control), evidence.claim.level
    )
    full = evidence.effect
    kept = evidence.effect_of(evidence.metric, keep=(control.finished, treated.finished))
    survives = (
        f"on the {kept.n_paired} prompts that both arms finished the difference is {with_interval(kept.difference)}"
    )
    lopsided = gap.interval is not None and not gap.interval[0] <= 0 <= gap.interval[1]
    if lopsided and abs(gap.estimate or 0.0) > LOPSIDED:
        because = f"One arm was cut more often than the other ({shares}); {survives}, not {_bare(full)}."
        return Finding(Outcome.FAIL, because, _REMEDY, details=details, **common)
    before, after = (conclusion(evidence, e) for e in (full, kept))
    whole = full.difference.estimate
    interval = kept.difference.interval
    if before == after:
        because = f"Some answers were cut ({shares}), but {survives}, which leads to the same conclusion."
        return Finding(Outcome.WARN, because, _REMEDY, details=details, **common)
    moved = interval is None or whole is None or not interval[0] <= whole <= interval[1]
    because = f"Some answers were cut ({shares}), and {survives}, against {with_interval(full.difference)} overall."
    outcome = Outcome.FAIL if moved else Outcome.INCONCLUSIVE
    return Finding(outcome, because, _REMEDY, details=details, **common)


def _bare(effect: Effect) -> str:
    estimate = effect.difference.estimate
    return "undefined" if estimate is None else number(estimate)


def _endings(arm: Arm, *, no_generation: bool) -> dict[str, Json]:
    """Shares of cut, finished and unknown endings, and of how they are known."""
    n = max(len(arm), 1)
    provenance = Counter(str(r.finish_provenance) for r in arm.responses if r.finish_provenance is not None)
    if no_generation:
        return {"cut": 0.0, "finished": 1.0, "unknown": 0.0, "provenance": {"no generation": 1.0}}
    return {
        "cut": int(arm.cut.sum()) / n,
        "finished": int(arm.finished.sum()) / n,
        "unknown": int(arm.unknown.sum()) / n,
        "provenance": {name: count / n for name, count in sorted(provenance.items())},
        "how": describe_inference(arm.responses).sentence,
    }


def _basis(evidence: Evidence) -> str:
    """How endings are known where they were not recorded, as the tail of a sentence."""
    found = {r.finish_provenance for arm in evidence.pair for r in arm.responses}
    ways = [word for provenance, word in _READ_OFF.items() if provenance in found]
    return f" (inferred from {' and '.join(ways)}, because no finish reason is recorded)" if ways else ""


_READ_OFF = {
    Provenance.INFERRED_TOKENS: "token counts",
    Provenance.INFERRED_TEXT: "how the texts end and where their lengths pile up",
}


def _cut_prompts(evidence: Evidence) -> tuple[str, ...]:
    found = [r.prompt_id for arm in evidence.pair for r in arm.responses if r.finish_reason is FinishReason.LENGTH]
    return tuple(dict.fromkeys(found))[:20]


def _lengths(arm: Arm) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    recorded = [r.n_tokens for r in arm.responses]
    if all(count is not None for count in recorded):
        return np.array(recorded, dtype=np.float64)
    return np.array([estimate_tokens(text) for text in arm.texts if text is not None], dtype=np.float64)


def _pile_up(evidence: Evidence) -> dict[str, Json] | None:
    """Histogram of answer lengths per arm, with the stated budgets as marks."""
    lengths = {arm.name: _lengths(arm) for arm in evidence.pair}
    everything = np.concatenate(list(lengths.values())) if lengths else np.array([])
    if len(everything) < 2 or everything.max() <= 0:
        return None
    edges = np.linspace(0, everything.max() * 1.02, 41)
    recorded = all(r.n_tokens is not None for arm in evidence.pair for r in arm.responses)
    budgets = {r.decode.max_new_tokens for arm in evidence.pair for r in arm.responses}
    return {
        "kind": "histogram",
        "xlabel": "tokens per answer" if recorded else "tokens per answer (estimated from the text)",
        "edges": [float(edge) for edge in edges],
        "series": [{"name": name, "counts": np.histogram(x, bins=edges)[0].tolist()} for name, x in lengths.items()],
        "marks": [{"x": float(b), "label": f"budget {b}"} for b in sorted(b for b in budgets if b is not None)],
    }


@dataclass(frozen=True, slots=True)
class AtBudget:
    """The effect of the same arms at another token budget (arms ``control@512`` and ``treated@512``).

    Attributes:
        tokens: the budget.
        cut: share of cut answers by arm.
        difference: treated minus control.
    """

    tokens: int
    cut: dict[str, float]
    difference: Estimate

    def to_json(self) -> dict[str, Json]:
        return {"budget": self.tokens, "cut": self.cut, "difference": self.difference.to_json()}

    @property
    def summary(self) -> str:
        shares = ", ".join(f"{name} {percent(share)}" for name, share in self.cut.items())
        return f"{self.tokens} tokens ({shares} cut)"

    def contradicts(self, base: float) -> bool:
        """Whether the effect has the other sign here, and not by chance."""
        value, interval = self.difference.estimate, self.difference.interval
        return (
            value is not None and interval is not None and value * base < 0 and not interval[0] <= base <= interval[1]
        )


def _at_budgets(evidence: Evidence) -> list[AtBudget]:
    """The effect at every other budget for which both arms have answers, smallest first."""
    if len(evidence.pair) < 2:
        return []
    out = []
    for arm in evidence.arms:
        pair = (replace(CONTROL, budget=arm.budget), arm)
        if arm.budget is None or arm != replace(TREATED, budget=arm.budget) or pair[0] not in evidence.arms:
            continue
        effect = evidence.effect_of(evidence.metric, control=pair[0], treated=pair[1])
        arms = (("control", evidence.arms[pair[0]]), ("treated", evidence.arms[pair[1]]))
        cut = {arm_name: float(arm.cut.mean()) if len(arm) else 0.0 for arm_name, arm in arms}
        out.append(AtBudget(arm.budget, cut, effect.difference))
    return sorted(out, key=lambda item: item.tokens)


def _budget_flip(evidence: Evidence, budgets: Sequence[AtBudget], worst: float) -> str | None:
    """A sentence when another budget shows the effect with another sign, and this one cannot claim to be the right one.

    Where next to nothing was cut here, a smaller budget that turns the effect around is an artefact of that budget.
    """
    if not budgets:
        return None
    base = evidence.effect.difference.estimate
    here = max((r.decode.max_new_tokens or 0 for arm in evidence.pair for r in arm.responses), default=0)
    for at in budgets:
        if base is None or not at.contradicts(base) or (worst <= NEGLIGIBLE and at.tokens < here):
            continue
        return (
            f"The effect changes sign with the token budget: {number(base)} here, "
            f"{with_interval(at.difference)} at {at.tokens} tokens."
        )
    return None


def _what_smaller_budgets_show(evidence: Evidence, budgets: Sequence[AtBudget]) -> str:
    """What would have been published at a smaller budget, where that is another effect; "" where it is not."""
    base = evidence.effect.difference.estimate if budgets else None
    for at in budgets:
        interval = at.difference.interval
        if base is not None and interval is not None and not interval[0] <= base <= interval[1]:
            return f" At {at.summary} the same answers would have shown {with_interval(at.difference)}."
    return ""


def _by_budget(evidence: Evidence, budgets: Sequence[AtBudget]) -> dict[str, Json]:
    """A forest of the effect by budget, the whole answers last."""
    rows = [(f"{at.tokens} tokens", at.difference) for at in budgets] + [("whole answers", evidence.effect.difference)]
    margin = evidence.claim.sign * evidence.claim.margin
    return forest(f"change of {evidence.metric.name} by token budget", rows, margin=margin)


def _from_counts(evidence: Evidence) -> Finding:
    assert evidence.counts is not None
    arms = {"control": evidence.counts.control, "treated": evidence.counts.treated}
    stated = {name: arm.cut / arm.n for name, arm in arms.items() if arm.cut is not None}
    details: dict[str, Json] = {
        "arms": {
            name: {
                "cut": stated.get(name, 0.0),
                "finished": 1 - stated[name] if name in stated else 0.0,
                "unknown": 0.0 if name in stated else 1.0,
                "provenance": {"stated": 1.0} if name in stated else {},
            }
            for name in arms
        },
        "known": len(stated) == 2,
    }
    n = sum(arm.n for arm in arms.values())
    if len(stated) < 2:
        because = "Counts alone do not say how many answers were cut by the token budget."
        remedy = "State how many were cut with --cut control=0/120 --cut treated=3/120, or give the per-item results."
        return Finding(Outcome.INCONCLUSIVE, because, remedy, n=n, details=details)
    text = " and ".join(f"{name} {percent(share)}" for name, share in stated.items())
    # all cut answers of one arm could have gone either way, so the cut share bounds what they can move
    if max(stated.values()) <= NEGLIGIBLE:
        return Finding(Outcome.PASS, f"Stated as cut: {text}.", n=n, details=details)
    because = f"Stated as cut: {text}; counts do not show what the finished answers would."
    return Finding(Outcome.FAIL, because, _REMEDY, n=n, details=details)


@check(
    "clip",
    group="ruler",
    question="Were texts cut when they were stored or shown to the judge, and were scores computed from the rest?",
    must_fail=("clipped",),
    must_pass=("clean", "null"),
)
def clip(evidence: Evidence) -> Finding:
    """FAIL when many texts share one exact maximal length, or when the judge saw less than the whole response."""
    if missing := needs_responses(evidence, "clipping"):
        return missing
    texts = sum(text is not None for arm in evidence.pair for text in arm.texts)
    if texts == 0:
        return NO_TEXTS
    remedy = "Store and judge whole responses, then score them again."
    for arm in evidence.pair:
        kept = [text for text in arm.texts if text]
        length = storage_clip(kept) if kept else None
        if length is not None:
            at = sum(text is not None and len(text) == length for text in arm.texts)
            because = f"{at} of {len(arm)} {arm.name} texts are exactly {length} characters long: they were clipped."
            return Finding(Outcome.FAIL, because, remedy, n=texts, figure=_pile_up(evidence))
    short = _judge_saw_less(evidence)
    if short:
        return Finding(Outcome.FAIL, short, remedy, n=texts)
    return Finding(Outcome.PASS, f"No pile-up at one exact length among {texts} texts.", n=texts)


def _judge_saw_less(evidence: Evidence) -> str | None:
    for arm in evidence.pair:
        for axis, column in sorted(arm.columns.items()):
            for text, scorer in zip(arm.texts, column.scorer_of, strict=True):
                _, found, view = scorer.partition("view=")
                digits = view.partition(",")[0]
                if found and digits.isdigit() and text is not None and len(text) > int(digits):
                    return (
                        f"The judge of {listing([axis])} saw only the first {digits} characters of {arm.name} "
                        f"responses that are up to {max(len(t) for t in arm.texts if t is not None)} long."
                    )
    return None
