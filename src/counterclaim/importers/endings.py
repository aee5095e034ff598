"""How answers ended, where the harness did not say: inferred honestly, and labelled as inferred.

The one fact to build on: a token budget is one number for a whole arm. So an answer can have been cut only if
it is about as long, in tokens, as the longest answers of its arm, and cut answers pile up there with endings
that finished answers of the same arm do not have.

With token counts the inference is arithmetic. With text only it is a two-component mixture. Endings are put into
five states (``STATES``). The nearest answers below the ceiling, which cannot have been cut, give the rates at
which *finished* answers of this arm are in each state; random prefixes of the arm's own texts give the rates for
*cut* ones. A Bayes factor decides whether the ceiling holds cut answers at all, expectation-maximisation gives
their share, and each answer's state then the probability that it was cut. An answer is called cut or finished
only where that probability is at least 0.8 or at most 0.2, and UNKNOWN between.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, gammaln, logsumexp

from counterclaim.records import ArmId, Decode, FinishReason, Provenance, Response
from counterclaim.text import EndSigns, end_signs, estimate_tokens, piece_ends

Floats = NDArray[np.float64]
Label = FinishReason
States = NDArray[np.int64]
STATES = ("complete", "open_short", "open_line", "open_prose", "broken")
"""States of an ending: a finished form; no sentence end on a short last line (a name, a title, a final answer), in
a list item or among lines that have none either (verse), in running text; something begun and not ended."""
_COMPLETE, _SHORT, _LINE, _PROSE, _BROKEN = range(5)

# What is believed of finished answers before an arm is seen: few are broken (Beta), the rest mostly complete
# (Dirichlet, weak: lists and poems end without a full stop, and then all of them do).
_BROKEN_PRIOR = (0.4, 40.0)
_BROKEN_PRIOR_STOPPED = (1.0, 4.0)  # what stands before a stop string need not be an ending
_OTHER_PRIOR = np.array([2.0, 0.4, 0.4, 0.2])
_ZONE = 3.0  # log width of "near the ceiling" in units of tokens ** -0.5: the estimator's sd is about 0.35 of it
_ZONE_MIN = 0.12
_REFERENCE = 100  # answers below the ceiling that stand for finished ones
_PREFIXES = 400  # random cuts that stand for cut ones
_CLOSED_FORM_TOKENS = 12.0  # shorter texts are final answers, not the beginnings of explanations
_EVIDENCE = math.log(1000.0)  # an arm has cuts only if their presence is this much the likelier (Bayes factor)
_SURE = 0.8
_DENSEST = 0.25  # no tokenizer in use needs four times the estimated tokens
_BUDGET_SLACK = 0.70  # an estimate below this share of a stated budget cannot be an answer that filled it
_SHORT_LINE = 5  # words
_LINE_END = frozenset(".!?:;。！？…*|`")
_ITEM_LINE = re.compile(r"(?:[-*+•–|>]|\d{1,3}[.)]) ?\S?")


@dataclass(frozen=True, slots=True)
class Inference:
    """How the finish reasons of an arm were inferred, for the explanation of a check.

    Attributes:
        basis: ``tokens``, ``text``, ``none`` (nothing to go by) or ``recorded`` (nothing to infer).
        n: answers looked at: those whose finish reason was not recorded.
        cut, finished, unknown: how many of them were called LENGTH, STOP, UNKNOWN.
        ceiling_tokens: the token budget as far as it shows: stated, counted, or estimated; None if none shows.
        ceiling_chars: median characters of the answers called cut.
        cv_chars, cv_tokens_est: coefficient of variation of length among answers near the ceiling, in characters
            and in estimated tokens: a token budget makes the second much the smaller one.
        pile_up: whether unfinished endings pile up at the ceiling.
        storage_clip_chars: the one exact length at which stored texts were cut, if they were.
        signs: how many answers show each sign of ``text.EndSigns``, and how many are in each state.
        expected_wrong: expected number of wrong labels among those given from text, by the mixture.
        sentence: all of this for a reader.
    """

    basis: str = "recorded"
    n: int = 0
    cut: int = 0
    finished: int = 0
    unknown: int = 0
    ceiling_tokens: float | None = None
    ceiling_chars: float | None = None
    cv_chars: float | None = None
    cv_tokens_est: float | None = None
    pile_up: bool = False
    storage_clip_chars: int | None = None
    signs: dict[str, int] | None = None
    expected_wrong: float = 0.0
    sentence: str = "Every finish reason is recorded."


def infer_finish(responses: Sequence[Response], *, no_generation: bool = False) -> list[Response]:
    """The same responses, in order, with UNKNOWN finish reasons replaced where they can be known.

    Recorded reasons are never touched. What is inferred is labelled ``inferred:tokens`` or ``inferred:text``.

    Args:
        responses: answers of one arm (several arms or budgets are treated one by one).
        no_generation: nothing was generated (options were ranked by likelihood), so nothing can have been cut.
    """
    if no_generation:
        reason, how = Label.STOP, Provenance.INFERRED_TOKENS
        return [
            replace(row, finish_reason=reason, finish_provenance=how) if row.finish_reason is Label.UNKNOWN else row
            for row in responses
        ]
    out = list(responses)
    for indices in _groups(out):
        labels, provenance, _ = _infer([out[i] for i in indices])
        for i, label, how in zip(indices, labels, provenance, strict=True):
            if label is not Label.UNKNOWN:
                out[i] = replace(out[i], finish_reason=label, finish_provenance=how)
    return out


def describe_inference(responses: Sequence[Response]) -> Inference:
    """How ``infer_finish`` judges these responses of one arm; the same before and after it was applied.

    Where an arm holds several budgets, the largest group is described and the sentence says so.
    """
    bare = [_without_inference(row) for row in responses]
    groups = _groups(bare)
    if not groups:
        return Inference()
    largest = max(groups, key=len)
    inference = _infer([bare[i] for i in largest])[2]
    if len(groups) == 1:
        return inference
    more = f" This describes the largest of {len(groups)} groups with different token budgets or arms."
    return replace(inference, sentence=inference.sentence + more)


def _without_inference(row: Response) -> Response:
    if row.finish_provenance in (Provenance.INFERRED_TOKENS, Provenance.INFERRED_TEXT):
        return replace(row, finish_reason=Label.UNKNOWN, finish_provenance=None)
    return row


def _groups(rows: Sequence[Response]) -> list[list[int]]:
    """Indices of the UNKNOWN rows, by (arm, stated budget): rows that share one ceiling."""
    groups: dict[tuple[ArmId, int | None], list[int]] = {}
    for i, row in enumerate(rows):
        if row.finish_reason is Label.UNKNOWN:
            groups.setdefault((row.arm, row.decode.max_new_tokens), []).append(i)
    return list(groups.values())


def _infer(rows: Sequence[Response]) -> tuple[list[Label], list[Provenance], Inference]:
    budget = rows[0].decode.max_new_tokens
    labels = [Label.UNKNOWN] * len(rows)
    provenance = [Provenance.INFERRED_TEXT] * len(rows)
    counted = [i for i, row in enumerate(rows) if row.n_tokens is not None]
    written = [i for i, row in enumerate(rows) if row.n_tokens is None and row.text is not None]
    inference = Inference("none", sentence="There is neither a finish reason, nor a token count, nor a text.")
    if counted:
        found, inference = _from_tokens([rows[i] for i in counted], budget)
        for i, label in zip(counted, found, strict=True):
            labels[i], provenance[i] = label, Provenance.INFERRED_TOKENS
    if written:
        texts = [rows[i].text or "" for i in written]
        found, from_text = _from_text(texts, rows[written[0]].decode)
        for i, label in zip(written, found, strict=True):
            labels[i] = label
        if len(written) > len(counted):
            inference = from_text
    counts = Counter(labels)
    cut, finished, unknown = counts[Label.LENGTH], counts[Label.STOP], counts[Label.UNKNOWN]
    return labels, provenance, replace(inference, n=len(rows), cut=cut, finished=finished, unknown=unknown)


# --- token counts -------------------------------------------------------------------------------------------


def _from_tokens(rows: Sequence[Response], budget: int | None) -> tuple[list[Label], Inference]:
    counts = np.array([row.n_tokens for row in rows], np.int64)
    top = int(counts.max())
    at_top = counts == top
    n_top = int(at_top.sum())
    spike = n_top >= 3 and n_top >= 0.02 * len(rows) and _is_spike(counts, top) and not _mostly_finished(rows, at_top)
    if budget is not None or spike:
        ceiling = top if budget is None else budget
        labels = [Label.LENGTH if count >= ceiling else Label.STOP for count in counts]
        n_cut = labels.count(Label.LENGTH)
        sentence = (
            f"No finish reason is stored, but token counts and the budget are: {n_cut} of {len(rows)} answers hold "
            f"{budget} tokens or more and were cut, the others had room left."
            if budget is not None
            else f"Neither finish reason nor budget is stored, but {n_top} of {len(rows)} answers hold exactly {top} "
            f"tokens, the maximum: that is a token budget, and they were cut by it."
        )
        return labels, Inference("tokens", ceiling_tokens=float(ceiling), pile_up=n_cut > 0, sentence=sentence)
    doubtful = [
        bool(hit) and row.text is not None and n_top <= 2 and end_signs(row.text).broken
        for row, hit in zip(rows, at_top, strict=True)
    ]
    labels = [Label.UNKNOWN if doubt else Label.STOP for doubt in doubtful]
    sentence = (
        f"Neither finish reason nor budget is stored; token counts do not pile up at their maximum ({top}, reached "
        f"by {n_top} of {len(rows)} answers), so no budget shows and the answers are taken as finished"
        + (f", but for {sum(doubtful)} that breaks off at the maximum." if any(doubtful) else ".")
    )
    return labels, Inference("tokens", sentence=sentence)


def _is_spike(counts: NDArray[np.int64], top: int) -> bool:
    """Whether the maximum is hit far more often than the counts just below it."""
    if top <= _CLOSED_FORM_TOKENS:
        return False  # letters, numbers and single words share their token counts without any budget
    below = np.array([(counts == top - k).sum() for k in range(1, 9)])
    return bool((counts == top).sum() > 3 * max(float(below.mean()), 2 / 3))


def _mostly_finished(rows: Sequence[Response], at_top: NDArray[np.bool_]) -> bool:
    texts = [row.text for row, hit in zip(rows, at_top, strict=True) if hit and row.text is not None]
    complete = sum(end_signs(text).complete for text in texts)
    return 2 * complete > len(texts)


# --- text ---------------------------------------------------------------------------------------------------


def _state(text: str) -> int:
    signs = end_signs(text)
    if signs.complete:
        return _COMPLETE
    if signs.broken:
        return _BROKEN
    lines = [line.strip() for line in text.rstrip()[-2000:].split("\n") if line.strip()]
    others, last_line = lines[:-1], lines[-1] if lines else ""
    unended = sum(line[-1] not in _LINE_END for line in others[-10:])
    if _ITEM_LINE.match(last_line) or (len(others) >= 3 and 2 * unended > len(others[-10:])):
        return _LINE
    return _SHORT if others and last_line.count(" ") < _SHORT_LINE else _PROSE


def _from_text(texts: Sequence[str], decode: Decode) -> tuple[list[Label], Inference]:
    chars = np.array([len(text) for text in texts], np.float64)
    sizes = np.array([estimate_tokens(text) for text in texts])
    signs = [end_signs(text) for text in texts]
    states = np.array([_state(text) for text in texts])
    stopped, budget = bool(decode.stop), decode.max_new_tokens
    clip = storage_clip(texts)
    clipped = chars == (-1 if clip is None else clip)
    # An empty answer may be a thought that used up the budget and was not stored; a stop string explains it.
    lost = clipped | (np.array([sign.empty for sign in signs]) & (not stopped))
    # The budget did not leave a code fence below the ceiling open; what did is not recorded.
    lost |= np.array([sign.open_fence for sign in signs]) & (not stopped)
    labels = [Label.UNKNOWN if hit else Label.STOP for hit in lost]
    candidates = np.flatnonzero(~clipped & ~_closed_form(texts, sizes, states, budget))
    base = Inference("text", storage_clip_chars=clip, signs=_sign_counts(signs, states))
    if not len(candidates):
        how = "they are short final answers, which a budget does not cut."
        return labels, replace(base, sentence=_opening(len(texts)) + how + _clip_words(clip, clipped))
    far_below = budget is not None and sizes[candidates].max() < _BUDGET_SLACK * budget
    least = 0.0 if budget is None or far_below else _BUDGET_SLACK * budget
    edge = max(least, _zone_edge(sizes[candidates], states[candidates] != _COMPLETE))
    model, zone, reference = _read_zone(texts, sizes, states, candidates, edge, stopped)
    for _ in range(3):  # what breaks off shows where the ceiling is, and how sharp; the zone is fitted to it
        broken = zone[states[zone] == _BROKEN]
        if model.evidence <= _EVIDENCE or len(broken) < 10:
            break
        edge = max(least, _fitted_edge(sizes[broken]))
        refit = _read_zone(texts, sizes, states, candidates, edge, stopped)
        if refit[0].evidence <= _EVIDENCE:
            break
        model, zone, reference = refit
    seen = _count(states[zone])
    cuts = model.evidence > _EVIDENCE
    if far_below:
        # no ordinary tokenizer needs that many tokens for these texts; a pile-up says that this one may be another
        cuts = cuts and sizes[candidates].max() > _DENSEST * (budget or 0)
        if cuts:
            for i in zone[model.posterior[states[zone]] > 1 - _SURE]:
                labels[i] = Label.UNKNOWN
        how = _far_below_words(float(sizes[candidates].max()), budget or 0, cuts)
        return labels, replace(base, sentence=_opening(len(texts)) + how + _clip_words(clip, clipped))
    posterior = model.posterior if cuts else _doubt(seen, reference, stopped and budget is None)
    chance = posterior[states[zone]]
    for i, p in zip(zone, chance, strict=True):
        labels[i] = Label.LENGTH if p >= _SURE else Label.STOP if p <= 1 - _SURE else Label.UNKNOWN
    known = (chance >= _SURE) | (chance <= 1 - _SURE)
    cut = zone[chance >= _SURE]
    near = cut if len(cut) >= 3 else zone
    inference = replace(
        base,
        ceiling_tokens=float(np.median(sizes[cut])) if len(cut) else None,
        ceiling_chars=float(np.median(chars[cut])) if len(cut) else None,
        cv_chars=_cv(chars[near]),
        cv_tokens_est=_cv(sizes[near]),
        pile_up=cuts,
        expected_wrong=float(np.minimum(chance, 1 - chance)[known].sum()),
    )
    how = _pile_up_words(inference, labels, _count(states[cut])) if cuts else _no_pile_up_words(labels, seen)
    return labels, replace(inference, sentence=_opening(len(texts)) + how + _clip_words(clip, clipped))


def _read_zone(
    texts: Sequence[str], sizes: Floats, states: States, candidates: States, edge: float, stopped: bool
) -> tuple[_Mixture, States, Floats]:
    """The mixture for answers of at least ``edge`` tokens, their indices, and the states of finished answers."""
    zone, below = candidates[sizes[candidates] >= edge], candidates[sizes[candidates] < edge]
    # Style drifts with length (long answers may be lists, short ones sentences): the nearest answers below the
    # ceiling are the reference.
    nearest = below[np.argsort(-sizes[below], kind="stable")][:_REFERENCE]
    reference = _count(states[nearest])
    model = _Mixture.of([texts[i] for i in zone], _count(states[zone]), reference, stopped)
    return model, zone, reference


def storage_clip(texts: Sequence[str]) -> int | None:
    """The one maximal length at which at least 3 and 5 % of the texts were cut for storage, or None.

    A token budget does not make equal character lengths. Equal texts and short answers share a length by chance, and
    so do answers from one template; but those end like answers, while a clip falls anywhere in a sentence.
    """
    top = max(map(len, texts))
    at_top = {text for text in texts if len(text) == top}
    if top < 40 or len(at_top) < max(3, 0.05 * len(texts)):
        return None
    complete = sum(end_signs(text).complete for text in sorted(at_top))
    return top if complete <= len(at_top) / 3 else None


def _closed_form(texts: Sequence[str], sizes: Floats, states: States, budget: int | None) -> NDArray[np.bool_]:
    """Texts that are final answers in themselves: a few tokens, or a short answer that others gave as well.

    Under a small budget a few tokens may be all that was allowed: then they must be few against the budget, too, or
    end as answers do.
    """
    seen = Counter(text.strip() for text in texts)
    repeated = np.array([seen[text.strip()] >= 3 for text in texts])
    short = (sizes <= _CLOSED_FORM_TOKENS) | (repeated & (sizes <= 4 * _CLOSED_FORM_TOKENS))
    return short if budget is None else short & ((sizes <= budget / 3) | (states == _COMPLETE))


def _far_below_words(longest: float, budget: int, cuts: bool) -> str:
    below = f"the longest is of about {longest:.0f} tokens (estimated from its text), well below the budget of {budget}"
    if not cuts:
        return f"{below}, so none was cut."
    return (
        f"{below}, yet unfinished endings pile up at one length: the tokenizer may need more tokens for these texts "
        "than the estimate allows for, so how those ended is not known."
    )


def _zone_edge(sizes: Floats, unfinished: NDArray[np.bool_]) -> float:
    """Lower edge of the ceiling zone, in estimated tokens.

    The zone is the window with the most unfinished endings among those whose upper edge leaves at most 1 % of the
    answers (at least one) above it: a stray longer estimate is no ceiling.
    """
    logs = np.log(np.sort(sizes)[::-1])
    open_logs = np.log(sizes[unfinished])
    uppers = logs[: max(1, len(logs) // 100) + 1]
    lowers = uppers - np.maximum(_ZONE_MIN, _ZONE * np.exp(-uppers / 2))
    inside = [int(((open_logs <= up) & (open_logs >= low)).sum()) for up, low in zip(uppers, lowers, strict=True)]
    return math.exp(float(lowers[int(np.argmax(inside))]))


def _fitted_edge(sizes: Floats) -> float:
    """Four robust standard deviations below the median of cut answers' sizes, on the log scale."""
    logs = np.log(sizes)
    center = float(np.median(logs))
    return math.exp(center - 4 * max(1.4826 * float(np.median(np.abs(logs - center))), 0.015))


@dataclass(frozen=True, slots=True)
class _Mixture:
    """What the endings at the ceiling say.

    Attributes:
        evidence: log Bayes factor of "some of them are cut" against "all of them are finished".
        posterior: P(cut) for each state, given that some are.
    """

    evidence: float
    posterior: Floats

    @classmethod
    def of(cls, texts: Sequence[str], seen: Floats, reference: Floats, stopped: bool) -> _Mixture:
        """Fit to ``texts`` at the ceiling, their states ``seen`` and those of finished answers, ``reference``."""
        cut = _cut_rates(texts)
        a, b = _BROKEN_PRIOR_STOPPED if stopped else _BROKEN_PRIOR
        a, b = a + float(reference[_BROKEN]), b + float(reference[:_BROKEN].sum())
        others = _OTHER_PRIOR + reference[:_BROKEN]
        finished = np.append(others / others.sum() * (b / (a + b)), a / (a + b))
        n_broken, n_other = float(seen[_BROKEN]), float(seen[:_BROKEN].sum())
        # All finished: beta-binomial for broken or not, Dirichlet-multinomial for the rest.
        none_cut = float(betaln(a + n_broken, b + n_other) - betaln(a, b))
        none_cut += float(gammaln(others.sum()) - gammaln(others.sum() + n_other))
        none_cut += float((gammaln(others + seen[:_BROKEN]) - gammaln(others)).sum())
        shares = np.linspace(0.005, 0.995, 100)[:, None]
        some_cut = float(logsumexp(np.log(shares * cut + (1 - shares) * finished) @ seen) - math.log(100))
        share, weight = 0.5, np.zeros(len(STATES))
        for _ in range(200):
            weight = share * cut / (share * cut + (1 - share) * finished)
            share = float(((seen * weight).sum() + 0.5) / (seen.sum() + 1.0))  # Jeffreys' prior keeps it off 0 and 1
        return cls(some_cut - none_cut, weight)


def _cut_rates(texts: Sequence[str]) -> Floats:
    """Rates of the states when texts like these are cut at a random token; shape (5,), sums to 1.

    A prefix of a text is a cut text whether or not the text itself was cut.
    """
    rng = np.random.default_rng(0)
    states = []
    for text in texts[: _PREFIXES // 2]:
        ends = piece_ends(text)
        # Not in the first third: openings have a form of their own, and a budget rarely ends there.
        places = rng.integers(len(ends) // 3, max(len(ends) - 1, 1), max(2, _PREFIXES // len(texts)))
        states += [_state(text[: ends[at]]) for at in places]
    counts = _count(np.array(states)) + 0.5
    return counts / float(counts.sum())


def _doubt(seen: Floats, reference: Floats, explained: bool) -> Floats:
    """P(cut) for each state where nothing piles up: what breaks off among the longest stays in doubt (0.5).

    ``explained``: a stop string may have ended these answers, and no budget is known that they come near.

    So does a lone long answer without a sentence end, and running text without one where no shorter answers tell
    how finished ones end. What finished answers of the arm do as well is not in doubt.
    """
    total = max(float(reference.sum()), 1.0)
    common = reference / total > 0.05
    doubt = np.zeros(len(STATES))
    if not explained:
        doubt[_BROKEN] = 0.0 if common[_BROKEN] else 0.5
        unreferenced = reference.sum() < 20 and seen[_PROSE] > 0.5 * seen.sum()
        if unreferenced or (seen[_PROSE] <= 2 and not common[_PROSE]):
            doubt[_PROSE] = 0.5
    return doubt


def _count(states: States) -> Floats:
    counts: Floats = np.bincount(states, minlength=len(STATES)).astype(np.float64)
    return counts


def _cv(values: Floats) -> float | None:
    return float(values.std() / values.mean()) if len(values) >= 3 and values.mean() > 0 else None


def _sign_counts(signs: Sequence[EndSigns], states: States) -> dict[str, int]:
    counts = {item.name: sum(getattr(sign, item.name) for sign in signs) for item in fields(EndSigns)}
    return {**counts, **{name: int(count) for name, count in zip(STATES, _count(states), strict=True)}}


# --- words --------------------------------------------------------------------------------------------------


def _opening(n: int) -> str:
    return f"Neither finish reasons nor token counts are stored, so the endings of {n} answers were read: "


def _pile_up_words(inference: Inference, labels: Sequence[Label], cut: Floats) -> str:
    n_cut, n_unknown = labels.count(Label.LENGTH), labels.count(Label.UNKNOWN)
    spread = ""
    if inference.cv_tokens_est is not None and inference.cv_chars is not None:
        spread = (
            f" (lengths of the cut ones vary by {inference.cv_tokens_est:.1%} in estimated tokens and by "
            f"{inference.cv_chars:.1%} in characters)"
        )
    ceiling = "" if inference.ceiling_tokens is None else f" of about {inference.ceiling_tokens:.0f} estimated tokens"
    doubt = f", {n_unknown} are unknown" if n_unknown else ""
    return (
        f"unfinished endings pile up at one ceiling{ceiling}{spread}, so {n_cut} are called cut ({cut[_BROKEN]:.0f} "
        f"break off inside a list item, phrase, bracket or mark-up, {cut[_SHORT:_BROKEN].sum():.0f} stop without a "
        f"sentence end)"
        f"{doubt}; about {inference.expected_wrong:.1f} of the labels at the ceiling are expected to be wrong."
    )


def _no_pile_up_words(labels: Sequence[Label], seen: Floats) -> str:
    n_unknown = labels.count(Label.UNKNOWN)
    return (
        f"no pile-up of unfinished endings shows at any ceiling ({seen[_COMPLETE]:.0f} of the {seen.sum():.0f} longest "
        f"end complete), so they are taken as finished"
        + (f", but for {n_unknown} whose ending is unknown." if n_unknown else ".")
    )


def _clip_words(clip: int | None, clipped: NDArray[np.bool_]) -> str:
    if clip is None:
        return ""
    return (
        f" {clipped.sum()} texts have exactly {clip} characters, the maximum: they were cut for storage, their ends "
        "were not kept, and how they ended is unknown."
    )
