"""Claims about attention heads, judged by the size of the largest difference, against what chance gives in as many heads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from counterclaim.lab.config import Reported, ReportedDirection, ReportedLargestD
from counterclaim.lab.replicate.ruling import Ruling, Word
from counterclaim.records import Json
from counterclaim.stats.heads import InSampleD, LargestD, in_sample_theory, of_largest
from counterclaim.wording import p_value

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
    "the size of a difference was told, and a size has no sign",
    "Cohen's d with its sign.",
)


def _against_margin(claim: Reported, size: _Size, p: float) -> str:
    """Of a claimed null, what its margin gives; "" of a claimed difference."""
    return "" if size.true == 0 else f"; of heads that differ by {claim.margin:g} it would have p = {p_value(p)}"


def largest_d(claim: Reported, told: ReportedLargestD) -> Ruling:
    """Against the largest |d| that as many heads without any difference reach.

    Heads count as independent. Those of one model are not, and reach somewhat less, so a small p is one at the worst.
    """
    size = _size(claim)
    if size is None:
        return _NO_SIGN
    if told.cohorts is None:
        return _largest_d_of_unknown_cohorts(told, size)
    law = LargestD(told.heads, *told.cohorts)
    p, median, q95, needed = law.p(told.d), law.quantile(0.5), law.quantile(0.95), law.quantile(1 - claim.alpha)
    beyond = law.p(told.d, size.true)
    by_chance = (
        f"{told.heads} heads without any difference reach {median:.2f} in the median and {q95:.2f} one time in twenty"
    )
    details: dict[str, Json] = {"null": {"median": median, "q95": q95}, "needed": needed}
    if beyond <= size.at_most:
        because = f"{by_chance}: p = {p_value(p)}, heads taken as independent{_against_margin(claim, size, beyond)}"
        return Ruling(size.word, because, p=(p, p), details=details)
    values = "The heads' values answer by answer (counterclaim attribute)"
    if size.true > 0:
        because = f"{by_chance} (p = {p_value(p)}), and no largest |d| shows that no head differs{_against_margin(claim, size, beyond)}"
        return Ruling("inconclusive", because, f"{values}.", p=(p, p), details=details)
    n = math.ceil(sum(told.cohorts) * (needed / told.d) ** 2)
    return Ruling(
        "inconclusive",
        f"no more than chance gives: {by_chance} (p = {p_value(p)})",
        f"{values}, or about {n:,} answers if it stays as large.",
        p=(p, p),
        details=details,
    )


def _largest_d_of_unknown_cohorts(told: ReportedLargestD, size: _Size) -> Ruling:
    n = told.n
    if n is None:
        return Ruling(
            "not recomputable",
            f"how many answers the {told.heads} heads were compared on was not told, and chance alone depends on it",
            "The sizes of both cohorts.",
        )

    def decides(smaller: int) -> bool:
        return LargestD(told.heads, smaller, n - smaller).p(told.d, size.true) <= size.at_most

    best = LargestD(told.heads, n // 2, n - n // 2).p(told.d)
    if not decides(n // 2):
        return Ruling(
            "inconclusive",
            f"{'no more than chance gives' if size.true == 0 else 'does not decide'}, however {n} answers fall into cohorts "
            f"(p = {p_value(best)} at the least)",
            "The heads' values answer by answer (counterclaim attribute).",
        )
    few, least = 1, n // 2  # p falls as cohorts come into balance
    while least - few > 1:
        middle = (few + least) // 2
        few, least = (few, middle) if decides(middle) else (middle, least)
    if least == 2:
        because = f"however {n} answers fall into cohorts, heads taken as independent (p = {p_value(best)} if they are balanced)"
        return Ruling(size.word, because)
    median = LargestD(told.heads, max(2, n // 10), n - max(2, n // 10)).quantile(0.5)
    return Ruling(
        "inconclusive",
        f"hangs on the cohorts' sizes, which were not told: p = {p_value(best)} if they are balanced, but with one answer in ten on one "
        f"side {told.heads} heads without any difference reach {median:.2f} in the median",
        f"Both sizes: {size.word} if each cohort has at least {least} of the {n} answers.",
        details={"cohort_that_decides": least},
    )


def direction_d(claim: Reported, told: ReportedDirection) -> Ruling:
    """Against what pure noise gives along a direction that was estimated on the noise itself, in the largest of as many heads.

    All heads that were told have to be beyond noise, so the smallest of them is held against the largest of chance; one that
    is beyond the margin refutes that none is.
    """
    size = _size(claim)
    if size is None:
        return _NO_SIGN
    law = InSampleD(told.width, *told.cohorts)
    d = told.low if size.true == 0 else told.high
    alone, beyond = law.p(d), law.p(d, size.true)
    p = of_largest(alone, told.heads or 1), of_largest(alone, told.heads or MOST_HEADS)
    hardest = of_largest(beyond, told.heads or MOST_HEADS)
    scale = in_sample_theory([1.0], *told.cohorts)
    ranks = [(end / scale) ** 2 for end in (told.low, told.high)]
    flat = in_sample_theory(np.ones(told.width), *told.cohorts)
    details: dict[str, Json] = {"isotropic_noise": flat, "effective_rank_of_noise": list(ranks)}
    fills = f"noise that fills all {told.width} dimensions comes near {flat:.2f} in sample"
    if hardest <= size.at_most:
        picked = {
            None: f"however many heads it was picked from, up to {MOST_HEADS:,}",
            1: "one head, chosen beforehand",
        }
        chosen = picked.get(told.heads, f"the largest of {told.heads} heads, taken as independent")
        because = (
            f"more than noise gives: {fills} ({chosen}: p = {p_value(p[1])}){_against_margin(claim, size, hardest)}"
        )
        return Ruling(size.word, because, p=p, details=details)
    if told.heads is None and beyond <= size.at_most:
        most = math.floor(math.log1p(-size.at_most) / math.log1p(-beyond))
        return Ruling(
            "inconclusive",
            f"hangs on how many heads it was picked from, which was not told: {fills} (p = {p_value(p[0])} for one head that was chosen "
            "beforehand)",
            f"How many heads were looked at: {size.word} if at most {most:,}.",
            p=p,
            details={**details, "heads_that_decide": most},
        )
    few = (
        f", and noise that fills {ranks[0]:.0f} to {ranks[1]:.0f} of them as near as this"
        if ranks[1] < told.width
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
