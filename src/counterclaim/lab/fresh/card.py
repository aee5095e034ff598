"""What is said of a set of fresh prompts: who wrote them, what was dropped, and whether they are what they are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from counterclaim.records import Estimate, Json
from counterclaim.text import words_of
from counterclaim.text.overlap import two_sample_auc

ALIKE = 0.7
"""AUC below which two sets of prompts are not told apart for practical purposes; the check ``shift`` uses the same."""
APART = 0.95
"""AUC from which nearly every prompt shows its set."""
LEAST = 20
"""Texts of each set from which it is told at all; the check ``shift`` asks for as many."""
_OPENERS = 3


def compared(fresh: Sequence[str], known: Sequence[str], against: str, level: float = 0.95) -> dict[str, Json]:
    """How well fresh prompts are told from known ones (a classifier two-sample test), and what that says of them.

    Returns:
        ``auc``: the estimate with its interval; ``kind``: ``held-out`` (hardly told apart), ``fresh`` (told apart, but not
        wholly), ``another-task`` (nearly all told apart), ``open`` (too few to say); ``says``: the same in a sentence.
    """
    least = min(len(set(fresh)), len(set(known)))
    if least < LEAST:
        reason = f"one of the two holds {least} different texts, and {LEAST} are needed"
        auc = Estimate.undefined(reason, n=len(fresh) + len(known), level=level)
    else:
        auc = two_sample_auc(known, fresh, level)
    kind = _kind(auc)
    return {"auc": auc.to_json(), "kind": kind, "against": against, "says": _sentence(kind, auc, against)}


def _kind(auc: Estimate) -> str:
    if auc.estimate is None or auc.low is None or auc.high is None:
        return "open"
    if auc.high < ALIKE:
        return "held-out"
    if auc.low >= APART:
        return "another-task"
    return "fresh" if auc.low > 0.5 else "open"


def _sentence(kind: str, auc: Estimate, against: str) -> str:
    if auc.estimate is None:
        return f"Whether a classifier tells them from {against} is not known: {auc.reason}."
    interval = "" if auc.low is None else f" [{auc.low:.2f}, {auc.high:.2f}]"
    told = f"A classifier tells them from {against} with AUC {auc.estimate:.2f}{interval}"
    return {
        "held-out": f"A classifier can hardly tell them from {against} (AUC {auc.estimate:.2f}{interval}): what holds on them "
        "is shown for held-out prompts of the same distribution, and not for fresh ones.",
        "fresh": f"{told}: they are of another writer, and not of another world.",
        "another-task": f"{told}: nearly every one is told apart, by its topic or by its style throughout. Read a few before "
        "calling this the same task; what fails on them may fail for that reason alone.",
        "open": f"{told}, which is too wide to say whether they differ; write more.",
    }[kind]


def facts(texts: Sequence[str]) -> dict[str, Json]:
    """Length in words (median, 5 % and 95 %), share that hold a question mark, and the commonest first two words."""
    sizes = [float(len(words_of(text))) for text in texts]
    low, median, high = (float(value) for value in np.quantile(sizes, (0.05, 0.5, 0.95)))
    openers = Counter(" ".join(words_of(text)[:2]) for text in texts)
    first = sorted(openers.items(), key=lambda item: (-item[1], item[0]))[:_OPENERS]
    return {
        "n": len(texts),
        "words": {"median": median, "low": low, "high": high},
        "questions": sum("?" in text for text in texts) / len(texts),
        "openers": [{"words": words, "share": count / len(texts)} for words, count in first],
    }


def spent(rows: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """What calls took: those of earlier runs that were used again count as if they had been made now."""
    return {
        "calls": len(rows),
        "failed": sum(row["error"] is not None for row in rows),
        "prompt_tokens": sum(row["prompt_tokens"] or 0 for row in rows),
        "tokens": sum(row["n_tokens"] or 0 for row in rows),
        "cost": sum(row["cost"] for row in rows),
    }
