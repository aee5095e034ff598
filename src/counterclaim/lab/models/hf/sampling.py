"""Sampling that belongs to the row: the same seed, prompt and sample index give the same draws in any batch.

A token is drawn by the Gumbel-max trick (Gumbel 1954; Maddison, Tarlow and Minka 2014): adding independent standard
Gumbel noise to log-probabilities and taking the largest is a draw from them. The noise of a token is a hash of
(seed, key, sample, position, token id) and of nothing else. So an answer does not depend on what else is in its batch, a
smaller budget gives a prefix, and two arms that ask with equal keys share their noise, which makes their answers as
alike as their distributions allow.

Hashing a whole vocabulary at every step would cost more than the softmax. So only the likeliest ``HEAD`` tokens get
noise of their own; all others stand in the race as one entry that has their summed probability, and when it wins, one
further number of the row picks among them by inverting their distribution. That is exact: the largest of many Gumbel
variables with log-weights is itself Gumbel with the logarithm of the summed weights.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor

from counterclaim.records import canonical_json

HEAD = 64
"""How many of the likeliest tokens get noise of their own when nothing else limits them."""

_TAIL, _WITHIN = -1, -2  # what is hashed in place of a token id: the tail's own noise, and the draw within the tail


def row_key(seed: int | None, key: str, sample: int) -> int:
    """64 bits (signed) that name the random numbers of one row; no seed counts as seed 0."""
    named = canonical_json([seed or 0, key, sample]).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(named, digest_size=8).digest(), "big", signed=True)


def draw(
    logits: Tensor,
    rows: Tensor,
    position: int,
    *,
    temperature: float,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
    """One token per row, drawn from softmax(logits / temperature) cut to ``top_k`` tokens and then to mass ``top_p``.

    The order is that of transformers: ``top_p`` counts the mass that ``top_k`` has left, and keeps the smallest set of
    likeliest tokens that reaches it.

    Args:
        logits: shape (rows, vocabulary), float32; overwritten.
        rows: keys from ``row_key``, shape (rows,), int64.
        position: how many tokens of the answer came before.
        temperature: above 0.
        top_k: at least 1, or None for all.
        top_p: in (0, 1], or None for all.

    Returns:
        Token ids of shape (rows,), int64.
    """
    scaled = logits.div_(temperature)
    n_head = min(top_k or HEAD, scaled.shape[1])
    head, tokens = scaled.topk(n_head)  # sorted, likeliest first
    keys = _mixed(rows[:, None] + _wrapped((position + 1) * _STEP))
    if top_k is not None or n_head == scaled.shape[1]:
        if top_p is not None:
            head = head.masked_fill(_mass_above(head, head.logsumexp(1, keepdim=True)) >= top_p, -math.inf)
        return _winner(head, tokens, keys)

    tail = scaled.scatter_(1, tokens, -math.inf)
    if top_p is not None:
        total = torch.logaddexp(head.logsumexp(1, keepdim=True), tail.logsumexp(1, keepdim=True))
        missing = top_p - (head - total).exp().sum(1)  # mass that the nucleus still wants from the tail
        tail.masked_fill_(missing[:, None] <= 0, -math.inf)
        for row in (missing > 0).nonzero()[:, 0].tolist():
            likeliest, at = tail[row].sort(descending=True)
            tail[row, at[_mass_above(likeliest[None], total[row])[0] >= missing[row]]] = -math.inf
        head = head.masked_fill((_mass_above(head, total) >= top_p) & (missing[:, None] <= 0), -math.inf)
    entries = torch.cat([head, tail.logsumexp(1, keepdim=True)], dim=1)
    drawn = _winner(entries, torch.cat([tokens, tokens.new_full((len(tokens), 1), _TAIL)], dim=1), keys)
    within = (drawn == _TAIL).nonzero()[:, 0]
    if len(within):
        drawn[within] = _inverted(tail[within], _fraction(keys[within], _WITHIN))
    return drawn


def _mass_above(sorted_logits: Tensor, total: Tensor) -> Tensor:
    """Probability of everything likelier than each entry; the first has none, so it is always kept."""
    mass = (sorted_logits - total).exp()
    return mass.cumsum(1) - mass


def _winner(logits: Tensor, tokens: Tensor, keys: Tensor) -> Tensor:
    """The token whose logit plus Gumbel noise is largest, per row."""
    # With v uniform on [0, 1), -log(-log(1 - v)) is standard Gumbel. Written with log1p it is finest where v is small,
    # and that is where the large values come from which decide the race: float32 is enough.
    noise = -torch.log(-torch.log1p(-_fraction(keys, tokens)))
    return tokens.gather(1, (logits + noise).argmax(1, keepdim=True))[:, 0]


def _inverted(logits: Tensor, fractions: Tensor) -> Tensor:
    """The token at which each row's cumulative distribution passes its fraction (shape (rows, 1))."""
    weights = (logits - logits.amax(1, keepdim=True)).exp().cpu()  # not every device has doubles
    cumulative = weights.cumsum(1, dtype=torch.float64)
    total = cumulative[:, -1:].contiguous()
    # A fraction of 1 passes nothing: then it is the last token that has any weight.
    last = torch.searchsorted(cumulative, total)
    passed = torch.searchsorted(cumulative, fractions.cpu().double() * total, right=True)
    return torch.minimum(passed, last)[:, 0].to(logits.device)


# The hash is the output function of SplitMix64 (Steele, Lea and Flood 2014), applied to the row's key at a position
# and again with the token id. int64 wraps around as uint64 does; only shifts to the right need the sign cleared.

_STEP = 0x9E3779B97F4A7C15 - 2**64
_FIRST, _SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


def _shifted(bits: Tensor, by: int) -> Tensor:
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _wrapped(number: int) -> int:
    return (number + 2**63) % 2**64 - 2**63


def _mixed(bits: Tensor) -> Tensor:
    bits = (bits ^ _shifted(bits, 30)) * _FIRST
    bits = (bits ^ _shifted(bits, 27)) * _SECOND
    return bits ^ _shifted(bits, 31)


def _fraction(keys: Tensor, tokens: Tensor | int) -> Tensor:
    """Uniform float32 on [0, 1], never 0, from the hash of keys and tokens."""
    steps = (tokens + 3) * _STEP  # from 1 on: the tail and the draw within it are tokens -1 and -2
    hashed = _mixed(keys + (_wrapped(steps) if isinstance(steps, int) else steps))
    return (_shifted(hashed, 1).to(torch.float32) * 2.0**-63).clamp_min(2.0**-64)


class KeyedSampler(LogitsProcessor):
    """Leaves one token per row that greedy search will take: the one drawn by ``draw``.

    Args:
        rows: keys from ``row_key``, one per row of the batch.
        prompt_length: columns of the batch that are prompt.
        temperature: above 0.
        top_k: at least 1, or None for all.
        top_p: in (0, 1], or None for all.
        device: where the logits will be.
    """

    def __init__(
        self,
        rows: Sequence[int],
        prompt_length: int,
        *,
        temperature: float,
        top_k: int | None,
        top_p: float | None,
        device: torch.device,
    ) -> None:
        self._rows = torch.tensor(rows, dtype=torch.int64, device=device)
        self._prompt_length = prompt_length
        self._temperature = temperature
        self._top_k = top_k
        self._top_p = top_p

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        position = input_ids.shape[1] - self._prompt_length
        chosen = draw(scores, self._rows, position, temperature=self._temperature, top_k=self._top_k, top_p=self._top_p)
        return scores.scatter_(1, chosen[:, None], math.inf)


class PresencePenalty(LogitsProcessor):
    """Lowers by ``penalty`` the logit of every token that the answer holds already (as OpenAI and vLLM define it).

    Args:
        penalty: what is subtracted.
        prompt_length: columns of the batch that are prompt, and so do not count.
    """

    def __init__(self, penalty: float, prompt_length: int) -> None:
        self._penalty = penalty
        self._prompt_length = prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        answered = input_ids[:, self._prompt_length :]
        return scores.scatter(1, answered, scores.gather(1, answered) - self._penalty)
