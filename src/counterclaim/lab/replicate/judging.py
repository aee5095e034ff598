"""One reported claim, judged by its numbers alone: for every way in which they can have come about, or not at all.

Reported numbers leave things out: which items two arms share, how scores spread, how many items were positive. A claim is
supported (or refuted) where it is under everything that was left out, and inconclusive where it hangs on that or where the
numbers are too few. How the numbers were made is not judged: a perfect test of an invalid measurement is perfect here, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal, assert_never

import numpy as np

from counterclaim import stats
from counterclaim.audit.effect import ArmCounts, Counts, counts_effect
from counterclaim.audit.metrics import assertion_asymmetry
from counterclaim.config import rounds_to
from counterclaim.lab.config import (
    Reported,
    ReportedAsymmetry,
    ReportedAuc,
    ReportedCells,
    ReportedCosine,
    ReportedCounts,
    ReportedDirection,
    ReportedFiltering,
    ReportedLargestD,
    ReportedMeans,
)
from counterclaim.lab.probing.crossval import cross_validate
from counterclaim.records import Estimate, Json
from counterclaim.stats.distributions import Floats, t_quantile, two_sided
from counterclaim.stats.heads import InSampleD, LargestD, in_sample_theory, of_largest
from counterclaim.wording import number, p_value, with_interval

POWER = 0.8
CHANCE = 0.5
SEED = 2604
NOISE_DRAWS = 1_000
_NOISE_ITEMS = 400  # beyond which noise is drawn in proportion: ten features for each item, of 10,000, fill the memory
_MOST_GROWTH = 10_000  # times as many items as there are, beyond which the number is of no use


Word = Literal["supported", "refuted", "inconclusive", "not recomputable"]
WORDS: tuple[Word, ...] = ("supported", "refuted", "inconclusive", "not recomputable")


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the numbers of one reported claim support.

    Attributes:
        word: of ``WORDS``.
        because: one sentence with the numbers.
        settles: what would settle it; "" where it is settled.
        estimate: with the widest interval that the numbers allow; None where there is none.
        narrowest: the same with the narrowest; None where they do not differ.
        p: the smallest and the largest that the numbers allow.
        details: more numbers.
    """

    word: Word
    because: str
    settles: str = ""
    estimate: Estimate | None = None
    narrowest: Estimate | None = None
    p: tuple[float, float] | None = None
    details: dict[str, Json] = field(default_factory=dict)

    def to_json(self) -> dict[str, Json]:
        """``estimate`` and ``narrowest`` in the contract's shape."""
        estimate, narrowest = (made and made.to_json() for made in (self.estimate, self.narrowest))
        return {
            "word": self.word, "because": self.because, "settles": self.settles or None, "estimate": estimate,
            "narrowest": narrowest, "p_range": self.p and list(self.p), "details": self.details,
        }  # fmt: skip


def judge(reported: Reported) -> Ruling:
    """What the numbers of one claim support; the same numbers give the same ruling, to the bit."""
    match reported.numbers:
        case ReportedCounts() as counts:
            return _counts(reported, counts)
        case ReportedMeans() as means:
            return _means(reported, means)
        case ReportedCells(treated=()) as cells:
            return _profile(reported, cells)
        case ReportedCells() as cells:
            return _cells(reported, cells)
        case ReportedAuc() as auc:
            return _auc(reported, auc) if auc.positives is not None else _auc_of_unknown_classes(reported, auc)
        case ReportedAsymmetry() as asymmetry:
            return _asymmetry(reported, asymmetry)
        case ReportedLargestD() as largest:
            return largest_d(reported, largest)
        case ReportedDirection() as direction:
            return direction_d(reported, direction)
        case ReportedCosine():
            return Ruling(
                "not recomputable",
                "a cosine of two means says how large what all answers share is, and nothing of how far the cohorts differ",
                "The two mean vectors, or the states that they are the means of (counterclaim capture).",
            )
        case ReportedFiltering() as filtering:
            return Ruling(
                "not recomputable",
                f"{filtering.before - filtering.after:,} of {filtering.before:,} were dropped, and what was dropped and why was "
                "not reported",
                "The kept and the dropped examples with their reasons (counterclaim teach writes both).",
            )
    assert_never(reported.numbers)


# one interval, one word -----------------------------------------------------------------------------------------------


def _word(claim: Reported, estimate: Estimate, *, significant: bool) -> Word:
    """What one interval, of a difference or of a distance from chance, says of a claim.

    A claimed change is refuted by an interval that lies wholly below the margin, and supported by one above zero whose test is
    significant: the rule of verdicts. That there is none is supported by an interval wholly within the margin, and refuted
    by one wholly beyond it.
    """
    if estimate.interval is None:
        return "inconclusive"
    low, high = estimate.interval if claim.sign > 0 else (-estimate.interval[1], -estimate.interval[0])
    match claim.direction:
        case "increase" | "decrease":
            return "refuted" if high < claim.margin else "supported" if low > 0 and significant else "inconclusive"
        case "no-increase" | "no-decrease":
            return "supported" if high < claim.margin else "refuted" if low > claim.margin else "inconclusive"
        case "none":
            if -claim.margin < low and high < claim.margin:
                return "supported"
            return "refuted" if low > claim.margin or high < -claim.margin else "inconclusive"
    assert_never(claim.direction)


def _by_interval(claim: Reported, at: Callable[[float], Estimate], *, largest_p: float = 0.0) -> tuple[Word, Estimate]:
    """The word of an interval that is known at every level, and the interval at the claim's own.

    Args:
        claim: what was claimed.
        at: the interval at a level.
        largest_p: of a test that has to be significant besides.
    """
    estimate, strict = at(claim.level), at(1 - claim.alpha)
    low, high = strict.interval or (-1.0, 1.0)
    return _word(claim, estimate, significant=(low > 0 or high < 0) and largest_p <= claim.alpha), estimate


def _both(widest: Word, narrowest: Word) -> Word:
    """The word that stands whatever was left out."""
    return widest if widest == narrowest else "inconclusive"


def _half(estimate: Estimate) -> float:
    low, high = estimate.interval or (-1.0, 1.0)
    return (high - low) / 2


def _more_items(claim: Reported, estimate: Estimate, n: int) -> str:
    """How many items tell no change from one that matters."""
    needed = stats.n_to_settle(_half(estimate), n, claim.margin)
    if needed <= n:
        return f"More items than {n:,}: the interval is narrower than the margin {claim.margin:g} already, and decides nothing."
    return f"About {needed:,} items: the interval is then narrower than the margin {claim.margin:g}."


def _detectable(claim: Reported, estimate: Estimate, n: int) -> float | None:
    sd = _half(estimate) / two_sided(claim.level) * math.sqrt(n)
    return _finite(stats.mde(sd, n, claim.alpha, POWER))


def _finite(value: float) -> float | None:
    """A number for the JSON; None where nothing could be detected, however large."""
    return value if math.isfinite(value) else None


def _where(claim: Reported, estimate: Estimate, word: Word) -> str:
    """Where an interval lies, for the end of a sentence."""
    if word == "inconclusive":
        if claim.direction in ("increase", "decrease"):
            low, high = estimate.interval or (-1.0, 1.0)
            return _leaves_room(claim, low, high, "no change", f"one of {claim.margin:g}")
        return f"which does not lie within the margin {claim.margin:g}"
    inside = (word == "supported") != (claim.direction in ("increase", "decrease"))
    if claim.direction == "none":
        return f"{'within' if inside else 'wholly beyond'} ±{claim.margin:g}"
    if inside:
        return f"wholly short of the margin {claim.margin:g}"
    return f"beyond zero at the level {claim.alpha:g}" if word == "supported" else f"wholly beyond {claim.margin:g}"


def _leaves_room(claim: Reported, low: float, high: float, nothing: str, enough: str) -> str:
    """Why an interval, of a difference or of a distance from chance, does not decide a claimed change."""
    if min(claim.sign * low, claim.sign * high) > 0:
        return f"which excludes {nothing}, but not at the level {claim.alpha:g}"
    return f"which leaves room for {nothing} and for {enough}"


# counts and means ---------------------------------------------------------------------------------------------------


def _counts(claim: Reported, counts: ReportedCounts) -> Ruling:
    """Every pairing that the margins allow, by the same test and intervals as ``audit --counts``."""
    (k0, n0), (k1, n1) = counts.control, counts.treated
    arms = Counts(ArmCounts(k0, n0), ArmCounts(k1, n1), counts.both)
    effect = counts_effect(claim.metric, arms, level=claim.level, same_items=counts.same_items)
    widest = effect.difference
    if counts.both is not None or not counts.same_items:
        assert effect.p is not None
        word = _word(claim, widest, significant=effect.p <= claim.alpha)
        return Ruling(
            word,
            f"{with_interval(widest)}, p = {p_value(effect.p)} ({effect.p_method}), {_where(claim, widest, word)}",
            "" if word != "inconclusive" else _more_items(claim, widest, min(n0, n1)),
            widest,
            p=(effect.p, effect.p),
            details={"minimum_detectable_effect": _detectable(claim, widest, min(n0, n1))},
        )
    narrowest, _ = stats.paired_difference_range(k0, k1, n0, claim.level)
    assert effect.p_range is not None
    least, most = effect.p_range
    hard = _word(claim, widest, significant=most <= claim.alpha)
    easy = _word(claim, narrowest, significant=least <= claim.alpha)
    word = _both(hard, easy)
    discordant = abs(k1 - k0) / n0, (k0 + k1 - 2 * max(0, k0 + k1 - n0)) / n0
    details: dict[str, Json] = {
        "minimum_detectable_effect": [
            _finite(stats.mde_binary_paired(rate, n0, claim.alpha, POWER)) for rate in discordant
        ]
    }
    finding = f"p from {p_value(least)} to {p_value(most)} over all pairings, at the widest {with_interval(widest)}"
    if word != "inconclusive":
        because = f"under every pairing: {finding}, {_where(claim, widest, word)}"
        return Ruling(word, because, "", widest, narrowest, (least, most), details)
    if easy == "inconclusive":
        because = f"under no pairing: {finding}, {_where(claim, widest, word)}"
        return Ruling(word, because, _more_items(claim, narrowest, n0), widest, narrowest, (least, most), details)
    both = _pairing_that_decides(claim, k0, k1, n0, easy)
    details["both_that_decides"] = both
    return Ruling(
        word,
        f"hangs on the pairing, which was not reported: {finding}",
        f"How many succeeded under both arms: {easy} from {both} of {min(k0, k1)} up.",
        widest, narrowest, (least, most), details,
    )  # fmt: skip


def _pairing_that_decides(claim: Reported, k0: int, k1: int, n: int, word: Word) -> int:
    """The smallest number of joint successes from which on every pairing gives this word."""
    decides = min(k0, k1)
    for both in range(decides, max(0, k0 + k1 - n) - 1, -1):
        only_treated, only_control = k1 - both, k0 - both
        difference = stats.newcombe_paired(both, only_treated, only_control, n - k0 - k1 + both, claim.level)
        significant = stats.mcnemar_exact(only_treated, only_control) <= claim.alpha
        if _word(claim, difference, significant=significant) != word:
            break
        decides = both
    return decides


def _means(claim: Reported, means: ReportedMeans) -> Ruling:
    """Between no spread at all and the widest that the scale allows.

    A mean may be a proportion, and then its test is the one that counts are put to.
    """
    low, high = means.scale
    width = high - low
    counts = [round(means.n * (mean - low) / width) for mean in (means.control, means.treated)]
    _, largest_p = stats.mcnemar_range(counts[0], counts[1], means.n)

    def at(level: float) -> Estimate:
        made = stats.widest_mean_difference(
            (means.control - low) / width, (means.treated - low) / width, means.n, level
        )
        assert made.estimate is not None and made.interval is not None  # noqa: PT018  one fact
        ends = (width * made.interval[0], width * made.interval[1])
        return Estimate(width * made.estimate, *ends, level, made.method, means.n)

    hard, widest = _by_interval(claim, at, largest_p=largest_p)
    change = means.treated - means.control
    easy = _word(claim, Estimate(change, change, change, claim.level, "no spread", means.n), significant=change != 0)
    word = _both(hard, easy)
    finding = f"whatever the spread and the pairing, at the widest {with_interval(widest)}"
    details: dict[str, Json] = {
        "minimum_detectable_effect": _detectable(claim, widest, means.n),
        "largest_p": largest_p,
    }
    if word != "inconclusive":
        return Ruling(word, f"{finding}, {_where(claim, widest, word)}", "", widest, details=details)
    by_interval, _ = _by_interval(claim, at)
    if by_interval != "inconclusive":
        return Ruling(
            word,
            f"hangs on the values, which were not reported: {with_interval(widest)} at the widest, but where every value lies at an end "
            f"of the scale exact McNemar gives p up to {p_value(largest_p)}",
            "The values of both arms item by item (counterclaim audit).",
            widest,
            details=details,
        )
    spread = _spread_that_decides(claim, change, means.n)
    if spread is None:
        return Ruling(
            word,
            f"{finding}, {_where(claim, widest, word)}",
            _more_items(claim, widest, means.n),
            widest,
            details=details,
        )
    details["sd_that_decides"] = spread
    return Ruling(
        word,
        f"hangs on the spread, which was not reported: {with_interval(widest)} at the widest that the scale allows",
        f"The standard deviation of the paired differences: {easy} below {spread:.3g}.",
        widest,
        details=details,
    )


def _spread_that_decides(claim: Reported, change: float, n: int) -> float | None:
    """The standard deviation of paired differences below which a t interval decides; None where none does."""
    toward = claim.sign * change
    if claim.direction == "none":
        room, level = (
            claim.margin - abs(change) if abs(change) < claim.margin else abs(change) - claim.margin,
            claim.level,
        )
    elif claim.direction in ("increase", "decrease") and toward >= claim.margin:
        room, level = toward, 1 - claim.alpha
    else:
        room, level = abs(claim.margin - toward), claim.level
    return room * math.sqrt(n) / t_quantile(level, n - 1) if room > 0 and n > 1 else None


# the 2×2 ------------------------------------------------------------------------------------------------------------


def _profile(claim: Reported, cells: ReportedCells) -> Ruling:
    """Is the asymmetry of one arm what was concluded of it."""
    word, estimate = _by_interval(claim, lambda level: _own_asymmetry(cells.control, level))
    n = sum(cells.control)
    return Ruling(
        word,
        f"the asymmetry is {with_interval(estimate)}, {_where(claim, estimate, word)}",
        "" if word != "inconclusive" else _more_items(claim, estimate, n),
        estimate,
        details={"minimum_detectable_effect": _detectable(claim, estimate, n)},
    )


def _own_asymmetry(cells: tuple[int, int, int, int], level: float) -> Estimate:
    cr, hr, cw, hw = cells
    return stats.newcombe_difference(cw, cw + hw, cr, cr + hr, level)


def _cells(claim: Reported, cells: ReportedCells) -> Ruling:
    """The difference of two asymmetries, between the pairings that make the arms most and least alike.

    Of several seeds it is the mean over seeds, as it would be for a new seed set on new items.
    """
    apart, alike = _correlations(cells)
    n, seeds = sum(cells.control), len(cells.treated)

    def at(correlation: float) -> Callable[[float], Estimate]:
        return lambda level: _over_seeds(cells, correlation, level)

    (hard, widest), (easy, narrowest) = _by_interval(claim, at(apart)), _by_interval(claim, at(alike))
    unpaired, of_items = at(0.0)(claim.level), _of_items(cells, 0.0, claim.level)
    word = _both(hard, easy)
    details: dict[str, Json] = {
        "independent": unpaired.to_json(), "correlation": [apart, alike],
        "minimum_detectable_effect": _detectable(claim, unpaired, n),
    }  # fmt: skip
    finding, more = f"the asymmetry moved by {with_interval(widest)} at the widest", _more_items(claim, of_items, n)
    if seeds > 1:
        effects = _effects(cells)
        same = max(sum(effect > 0 for effect in effects), sum(effect < 0 for effect in effects))
        details |= {"effects": effects, "seeds_of_one_sign": same}
        signs = f"{'all' if same == seeds else same} of one sign ({', '.join(f'{effect:+.3f}' for effect in effects)})"
        finding = f"over {seeds} seeds, {signs}, {finding}"
        more = f"More seeds than {seeds}: how seeds differ is hardly known from so few. {more}"
    if word != "inconclusive":
        because = f"under every pairing: {finding}, {_where(claim, widest, word)}"
        return Ruling(word, because, "", widest, narrowest, None, details)
    if easy == "inconclusive":
        because = (
            f"under no pairing: {finding} and {_ends(narrowest)} at the narrowest, {_where(claim, narrowest, word)}"
        )
        return Ruling(word, because, more, widest, narrowest, None, details)
    return Ruling(
        word,
        f"hangs on the pairing, which was not reported: {finding}, {_ends(unpaired)} if arms were independent",
        f"Answers of {'both' if seeds == 1 else 'all'} arms item by item, or {_lowered(more)}",
        widest, narrowest, None, details,
    )  # fmt: skip


def _effects(cells: ReportedCells) -> list[float]:
    """How far the asymmetry moved under each seed."""
    control, *treated = (
        float(assertion_asymmetry(np.asarray(arm, np.float64))) for arm in (cells.control, *cells.treated)
    )
    return [arm - control for arm in treated]


def _of_items(cells: ReportedCells, correlation: float, level: float) -> Estimate:
    """The change with what drawing items adds to it: that of all seeds together, since they answered the same items.

    Seeds count as erring on the same items. How far they do not shows in how they differ.
    """
    arms = [_own_asymmetry(arm, level) for arm in cells.treated]
    mean, low, high = (float(np.mean([getattr(arm, end) for arm in arms])) for end in ("estimate", "low", "high"))
    together = Estimate(mean, low, high, level, arms[0].method, arms[0].n)
    return stats.difference_of_estimates(together, _own_asymmetry(cells.control, level), correlation)


def _over_seeds(cells: ReportedCells, correlation: float, level: float) -> Estimate:
    """The change, wider by how seeds differ where there are several; never narrower than that of one seed counted twice.

    What items add and what seeds add are squared and added, with Student's t for the seeds: few of them may lie close by chance.
    """
    made = _of_items(cells, correlation, level)
    seeds = stats.mean(_effects(cells), level)
    if made.estimate is None or made.interval is None or seeds.interval is None:
        return made
    between = _half(seeds)
    low, high = (
        made.estimate + math.copysign(math.hypot(end - made.estimate, between), end - made.estimate)
        for end in made.interval
    )
    method = f"{made.method}, and Student's t over seeds"
    return Estimate(made.estimate, max(-2.0, low), min(2.0, high), level, method, made.n)


def _least_balanced(n: int, decides: Callable[[int], bool]) -> int:
    """The smallest side of two that share n items from which on it is decided; it is where they are balanced."""
    few, least = 1, n // 2
    while least - few > 1:
        middle = (few + least) // 2
        few, least = (few, middle) if decides(middle) else (middle, least)
    return least


def _lowered(text: str) -> str:
    return text[0].lower() + text[1:]


def _ends(estimate: Estimate) -> str:
    low, high = estimate.interval or (-1.0, 1.0)
    return f"[{number(low)}, {number(high)}]"


def _correlations(cells: ReportedCells) -> tuple[float, float]:
    """The least and the largest correlation of two arms' asymmetries over all ways of pairing their items.

    What an item adds to an arm's asymmetry depends on its cell (its influence). The sum of products of two lists is largest
    where both are sorted alike, and least where they are sorted against each other (the rearrangement inequality). Several
    seeds, sorted alike among themselves, count as one arm.
    """
    one = np.sort(_influences(cells.control))
    other = np.mean([np.sort(_influences(arm)) for arm in cells.treated], axis=0)
    norm = math.sqrt(float(one @ one) * float(other @ other))
    return (float(one @ other[::-1]) / norm, float(one @ other) / norm) if norm else (0.0, 0.0)


def _influences(cells: tuple[int, int, int, int]) -> Floats:
    cr, hr, cw, hw = cells
    right, wrong = cr + hr, cw + hw
    by_cell = [-(1 - cr / right) / right, cr / right / right, (1 - cw / wrong) / wrong, -cw / wrong / wrong]
    return np.repeat(np.asarray(by_cell), cells)


def _asymmetry(claim: Reported, reported: ReportedAsymmetry) -> Ruling:
    """Every pair of counts that rounds to what was reported; of a cross-validated gate also wider, as areas are."""
    pairs = _counts_behind(reported)
    if not pairs:
        return Ruling(
            "not recomputable",
            f"no counts of {reported.right} right and {reported.wrong} wrong answers round to {reported.rounded}",
            "The number of right and of wrong answers that the gate let through.",
        )
    noise = (
        None
        if reported.folds is None
        else _noise_ratio(reported.right + reported.wrong, reported.right, reported.folds, 1.0)
    )

    def at(level: float, wider: float = 1.0) -> Estimate:
        made = [stats.newcombe_difference(w, reported.wrong, r, reported.right, level) for w, r in pairs]
        low, high = min(e.low or 0.0 for e in made), max(e.high or 0.0 for e in made)
        low, high = (max(-1.0, min(1.0, reported.value + wider * (end - reported.value))) for end in (low, high))
        return Estimate(
            reported.value, low, high, level, f"{made[0].method}, widest over {len(made)} counts", made[0].n
        )

    easy, narrowest = _by_interval(claim, at)
    hard, widest = _by_interval(claim, lambda level: at(level, noise or 1.0))
    word = _both(hard, easy)
    kept = sorted({right for _, right in pairs})
    passed = f"{kept[0]}" if len(kept) == 1 else f"{kept[0]} to {kept[-1]}"
    rounded = "the only counts that round" if len(pairs) == 1 else f"the {len(pairs)} pairs of counts that round"
    because = (
        f"{with_interval(narrowest)} over {rounded} to it ({passed} of {reported.right} right answers let through)"
    )
    details: dict[str, Json] = {
        "counts": [{"wrong": [w, reported.wrong], "right": [r, reported.right]} for w, r in pairs],
        "minimum_detectable_effect": _detectable(claim, widest, widest.n),
    }
    if word != easy:
        because = (
            f"hangs on the folds, which share what they were trained on: {because}, {_ends(widest)} widened as areas are and "
            f"tested at {claim.alpha:g}"
        )
        settles = "The gate on fresh items, its threshold chosen before."
        return Ruling(word, because, settles, widest, narrowest, None, details)
    settles = "" if word != "inconclusive" else _more_items(claim, widest, widest.n)
    because = f"{because}, {_where(claim, widest, word)}"
    return Ruling(word, because, settles, widest, None if noise is None else narrowest, None, details)


def _counts_behind(reported: ReportedAsymmetry) -> list[tuple[int, int]]:
    """(wrong, right) answers let through, of every pair whose difference of shares rounds to what was reported."""
    return [
        (wrong, right)
        for wrong in range(reported.wrong + 1)
        for right in range(reported.right + 1)
        if rounds_to(wrong / reported.wrong - right / reported.right, reported.value, reported.decimals)
    ]


# areas under the curve ------------------------------------------------------------------------------------------------


def _auc(claim: Reported, auc: ReportedAuc) -> Ruling:
    """The interval that the class sizes give; of a cross-validated area also the wider one that shared training gives."""
    assert auc.positives is not None
    word, widest, narrowest = _of_classes(claim, auc, auc.positives, auc.n - auc.positives)
    noise = None if auc.folds is None else _cv_noise(auc.n, auc.positives, auc.folds, auc.C or 1.0)
    detectable = stats.mde_auc(auc.positives, auc.n - auc.positives, claim.alpha, POWER, noise)
    details: dict[str, Json] = {"minimum_detectable_auc": _finite(detectable)}
    if noise is not None:
        details |= {"noise_sd": noise}
    of_folds = (
        "" if noise is None else f"; {auc.folds}-fold areas of pure noise have a standard deviation of {noise:.3f}"
    )
    excluded = f"{auc.positives} positives give {with_interval(narrowest)}"
    by_sizes, *_ = _of_classes(claim, replace(auc, folds=None), auc.positives, auc.n - auc.positives)
    if word != by_sizes:
        return Ruling(
            word,
            f"hangs on the folds, which share what they were trained on: {excluded} by class sizes{of_folds}, so "
            f"{_ends(widest)}, {_beside_bar(claim, widest, word)}",
            "Its permutation null over the same folds (counterclaim probe), or fresh items.",
            widest, narrowest, None, details,
        )  # fmt: skip
    settles = "" if word != "inconclusive" else _items_for(claim, auc)
    because = f"{excluded}{of_folds}, {_beside_bar(claim, widest, word)}"
    return Ruling(word, because, settles, widest, None if noise is None else narrowest, None, details)


def _of_classes(claim: Reported, auc: ReportedAuc, positives: int, negatives: int) -> tuple[Word, Estimate, Estimate]:
    """The word, the interval, and the interval by class sizes alone."""
    wider = 1.0 if auc.folds is None else _noise_ratio(auc.n, positives, auc.folds, auc.C or 1.0)

    def at(level: float) -> Estimate:
        plain = stats.auc_of_sizes(auc.value, positives, negatives, level)
        if wider == 1 or plain.interval is None:
            return plain
        low, high = (min(1.0, max(0.0, auc.value + wider * (end - auc.value))) for end in plain.interval)
        return Estimate(auc.value, low, high, level, f"{plain.method}, widened to the spread of noise", auc.n)

    def off(level: float) -> Estimate:
        made = at(level)
        low, high = made.interval or (0.0, 1.0)
        return Estimate(auc.value - CHANCE, low - CHANCE, high - CHANCE, level, made.method, auc.n)

    word, _ = _by_interval(claim, off)
    return word, at(claim.level), stats.auc_of_sizes(auc.value, positives, negatives, claim.level)


def _noise_ratio(n: int, positives: int, folds: int, C: float) -> float:
    """By how much a cross-validated area of pure noise spreads more than class sizes say; at least 1."""
    return max(1.0, _cv_noise(n, positives, folds, C) / _noise_by_sizes(n, positives))


def _noise_by_sizes(n: int, positives: int) -> float:
    """Standard deviation of the area of pure noise that is not cross-validated (Mann and Whitney 1947)."""
    return math.sqrt((n + 1) / (12 * positives * (n - positives)))


@lru_cache(maxsize=256)
def _cv_noise(n: int, positives: int, folds: int, C: float) -> float:
    """Standard deviation of the cross-validated area of a probe on features that hold nothing, wider than there are items.

    Areas of held-out folds depend on each other by what the fits share, so they spread more than class sizes say. Features
    with fewer independent directions spread less; class sizes are the floor. By how much more noise spreads than class sizes
    say hardly depends on n.
    """
    if n > _NOISE_ITEMS:
        fewer = min(_NOISE_ITEMS - 2, max(2, round(positives * _NOISE_ITEMS / n)))
        drawn = _cv_noise(_NOISE_ITEMS, fewer, min(folds, _NOISE_ITEMS), C)
        return drawn * _noise_by_sizes(n, positives) / _noise_by_sizes(_NOISE_ITEMS, fewer)
    features = np.random.Generator(np.random.PCG64(SEED)).standard_normal((n, 10 * n))
    labels = np.arange(n) < positives
    folds = min(folds, positives, n - positives)
    (found,) = cross_validate(features, labels, C=(C,), folds=folds, splits=1, permutations=NOISE_DRAWS, seed=SEED)
    return found.null_sd


def _auc_of_unknown_classes(claim: Reported, auc: ReportedAuc) -> Ruling:
    """The best case, balanced classes, and how unbalanced they may be."""
    half = auc.n // 2
    best, widest, _ = _of_classes(claim, auc, half, auc.n - half)
    noise = None if auc.folds is None else _cv_noise(auc.n, half, auc.folds, auc.C or 1.0)
    detectable = stats.mde_auc(half, auc.n - half, claim.alpha, POWER, noise)
    details: dict[str, Json] = {"minimum_detectable_auc": _finite(detectable)}
    finding = f"how many of {auc.n} are positive was not reported; balanced classes, the best case, give {with_interval(widest)}"
    if best == "inconclusive":
        because = f"{finding}, {_beside_bar(claim, widest, best)}"
        return Ruling("inconclusive", because, _items_for(claim, auc), None, widest, None, details)
    # the interval narrows as classes come into balance
    least = _least_balanced(auc.n, lambda few: _of_classes(claim, auc, few, auc.n - few)[0] == best)
    return Ruling(
        "inconclusive",
        f"hangs on the class sizes: {finding}",
        f"How many are positive: {best} if at least {least} are, and at least {least} are not.",
        None,
        widest,
        details={**details, "positives_that_decide": least},
    )


def _beside_bar(claim: Reported, estimate: Estimate, word: Word) -> str:
    """Where the interval of an area lies beside chance and the bar."""
    bar = CHANCE + claim.sign * claim.margin
    low, high = estimate.interval or (0.0, 1.0)
    match claim.direction:
        case "increase" | "decrease":
            return {
                "supported": f"beyond chance at the level {claim.alpha:g}", "refuted": f"short of {bar:g}",
                "inconclusive": _leaves_room(claim, low - CHANCE, high - CHANCE, "chance", f"{bar:g}"), "not recomputable": "",
            }[word]  # fmt: skip
        case "none":
            lies = {"supported": "lies within", "refuted": "lies wholly beyond"}.get(word, "does not lie within")
            return f"which {lies} {CHANCE - claim.margin:g} to {CHANCE + claim.margin:g}"
        case "no-increase" | "no-decrease":
            side, end = ("above", high) if claim.sign > 0 else ("below", low)
            if word == "refuted":
                return f"wholly {side} {bar:g}"
            return (
                f"which excludes areas {side} {number(end)}, {'so also' if word == 'supported' else 'and not'} {bar:g}"
            )
    assert_never(claim.direction)


def _items_for(claim: Reported, auc: ReportedAuc) -> str:
    """How many items would decide, classes in proportion and the area as it is."""
    share = CHANCE if auc.positives is None else auc.positives / auc.n

    def decides(n: int) -> bool:
        grown = ReportedAuc(auc.value, n)  # by class sizes: folds of so many items need not share their noise
        positives = min(n - 2, max(2, round(share * n)))
        return _of_classes(claim, grown, positives, n - positives)[0] != "inconclusive"

    n = auc.n
    while not decides(n):
        n = math.ceil(n * 1.05)
        if n > _MOST_GROWTH * auc.n:
            return "No number of items decides at such an area: it lies too near the bar."
    positives = f", {round(share * n):,} of them positive" if auc.positives is not None else ", half of them positive"
    return f"About {n:,} fresh items{positives}, if the area stays what it is."


# attention heads: the largest of many differences ---------------------------------------------------------------------

MOST_HEADS = 100_000  # more than any model has, over a few positions


@dataclass(frozen=True, slots=True)
class _Size:
    """What the size of a difference has to be too large for, and how rarely that may be reached, to decide a claim.

    That cohorts differ is supported by a size that no difference hardly gives. That they do not differ by the margin is refuted by
    one that the margin hardly gives, and never supported: a small size out of few answers says little.

    Attributes:
        word: of a claim that is decided.
        true: the difference under which the size is rare.
        at_most: how rare.
    """

    word: Word
    true: float
    at_most: float


def _size(claim: Reported) -> _Size | None:
    """None where the claim is one about a sign, which a size does not have."""
    match claim.direction:
        case "increase":
            return _Size("supported", 0.0, claim.alpha)
        case "none" | "no-increase":
            return _Size("refuted", claim.margin, (1 - claim.level) / 2)
        case "decrease" | "no-decrease":
            return None
    assert_never(claim.direction)


_NO_SIGN = Ruling(
    "not recomputable",
    "the size of a difference was reported, and a size has no sign",
    "Cohen's d with its sign.",
)


def _against_margin(claim: Reported, size: _Size, p: float) -> str:
    """Of a claimed null, what its margin gives; "" of a claimed difference."""
    return "" if size.true == 0 else f"; of heads that differ by {claim.margin:g} it would have p = {p_value(p)}"


def largest_d(claim: Reported, reported: ReportedLargestD) -> Ruling:
    """Against the largest |d| that as many heads without any difference reach.

    Heads count as independent. Those of one model are not, and reach somewhat less, so a small p is one at the worst.
    """
    size = _size(claim)
    if size is None:
        return _NO_SIGN
    if reported.cohorts is None:
        return _largest_d_of_unknown_cohorts(reported, size)
    law = LargestD(reported.heads, *reported.cohorts)
    p, median, q95, needed = law.p(reported.d), law.quantile(0.5), law.quantile(0.95), law.quantile(1 - claim.alpha)
    beyond = law.p(reported.d, size.true)
    by_chance = f"{reported.heads} heads without any difference reach {median:.2f} in the median and {q95:.2f} one time in twenty"
    details: dict[str, Json] = {"null": {"median": median, "q95": q95}, "needed": needed}
    if beyond <= size.at_most:
        because = f"{by_chance}: p = {p_value(p)}, heads taken as independent{_against_margin(claim, size, beyond)}"
        return Ruling(size.word, because, p=(p, p), details=details)
    values = "The heads' values answer by answer (counterclaim attribute)"
    if size.true > 0:
        because = f"{by_chance} (p = {p_value(p)}), and no largest |d| shows that no head differs{_against_margin(claim, size, beyond)}"
        return Ruling("inconclusive", because, f"{values}.", p=(p, p), details=details)
    n = math.ceil(sum(reported.cohorts) * (needed / reported.d) ** 2)
    return Ruling(
        "inconclusive",
        f"no more than chance gives: {by_chance} (p = {p_value(p)})",
        f"{values}, or about {n:,} answers if it stays as large.",
        p=(p, p),
        details=details,
    )


def _largest_d_of_unknown_cohorts(reported: ReportedLargestD, size: _Size) -> Ruling:
    n = reported.n
    if n is None:
        return Ruling(
            "not recomputable",
            f"how many answers the {reported.heads} heads were compared on was not reported, and chance alone depends on it",
            "The sizes of both cohorts.",
        )

    def decides(smaller: int) -> bool:
        return LargestD(reported.heads, smaller, n - smaller).p(reported.d, size.true) <= size.at_most

    best = LargestD(reported.heads, n // 2, n - n // 2).p(reported.d)
    if not decides(n // 2):
        return Ruling(
            "inconclusive",
            f"{'no more than chance gives' if size.true == 0 else 'does not decide'}, however {n} answers fall into cohorts "
            f"(p = {p_value(best)} at the least)",
            "The heads' values answer by answer (counterclaim attribute).",
        )
    least = _least_balanced(n, decides)  # p falls as cohorts come into balance
    if least == 2:
        because = f"however {n} answers fall into cohorts, heads taken as independent (p = {p_value(best)} if they are balanced)"
        return Ruling(size.word, because)
    median = LargestD(reported.heads, max(2, n // 10), n - max(2, n // 10)).quantile(0.5)
    return Ruling(
        "inconclusive",
        f"hangs on the cohorts' sizes, which were not reported: p = {p_value(best)} if they are balanced, but with one answer in ten on one "
        f"side {reported.heads} heads without any difference reach {median:.2f} in the median",
        f"Both sizes: {size.word} if each cohort has at least {least} of the {n} answers.",
        details={"cohort_that_decides": least},
    )


def direction_d(claim: Reported, reported: ReportedDirection) -> Ruling:
    """Against what pure noise gives along a direction that was estimated on the noise itself, in the largest of as many heads.

    All heads that were reported have to be beyond noise, so the smallest of them is compared with the largest of chance; one that
    is beyond the margin refutes that none is.
    """
    size = _size(claim)
    if size is None:
        return _NO_SIGN
    law = InSampleD(reported.width, *reported.cohorts)
    d = reported.low if size.true == 0 else reported.high
    alone, beyond = law.p(d), law.p(d, size.true)
    p = of_largest(alone, reported.heads or 1), of_largest(alone, reported.heads or MOST_HEADS)
    hardest = of_largest(beyond, reported.heads or MOST_HEADS)
    scale = in_sample_theory([1.0], *reported.cohorts)
    ranks = [(end / scale) ** 2 for end in (reported.low, reported.high)]
    flat = in_sample_theory(np.ones(reported.width), *reported.cohorts)
    details: dict[str, Json] = {"isotropic_noise": flat, "effective_rank_of_noise": list(ranks)}
    fills = f"noise that fills all {reported.width} dimensions comes near {flat:.2f} in sample"
    if hardest <= size.at_most:
        picked = {
            None: f"however many heads it was picked from, up to {MOST_HEADS:,}",
            1: "one head, chosen beforehand",
        }
        chosen = picked.get(reported.heads, f"the largest of {reported.heads} heads, taken as independent")
        because = (
            f"more than noise gives: {fills} ({chosen}: p = {p_value(p[1])}){_against_margin(claim, size, hardest)}"
        )
        return Ruling(size.word, because, p=p, details=details)
    if reported.heads is None and beyond <= size.at_most:
        most = math.floor(math.log1p(-size.at_most) / math.log1p(-beyond))
        return Ruling(
            "inconclusive",
            f"hangs on how many heads it was picked from, which was not reported: {fills} (p = {p_value(p[0])} for one head that was chosen "
            "beforehand)",
            f"How many heads were looked at: {size.word} if at most {most:,}.",
            p=p,
            details={**details, "heads_that_decide": most},
        )
    few = (
        f", and noise that fills {ranks[0]:.0f} to {ranks[1]:.0f} of them as near as this"
        if ranks[1] < reported.width
        else ""
    )
    gives = "no more than noise gives" if size.true == 0 else "d in sample shows no null"
    return Ruling(
        "inconclusive",
        f"{gives}: {fills}{few}",
        "d out of fold with its permutation null (counterclaim attribute).",
        p=p,
        details=details,
    )
