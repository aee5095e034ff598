"""Which rows are run together: planned from the asks alone, so that a resumed run batches as the first one did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from transformers import PretrainedConfig

from counterclaim.lab.models.hf.devices import memory_of

MOST_ROWS = {"cuda": 256, "mps": 32, "cpu": 32}
"""Rows beyond which larger batches are hardly faster, while rows that ended early wait longer for the last."""

_SHARE = 0.6  # of the memory that the weights leave; the rest is for what the estimate does not see
_LOGITS = 6  # float32 copies of a row's logits that live at once while a token is chosen
_STATES = 8  # copies of a token's hidden state that live at once within a layer


@dataclass(frozen=True, slots=True)
class Footprint:
    """An estimate of what rows need.

    Attributes:
        room: bytes to be shared among the rows.
        cached: bytes that a token keeps in the cache.
        computed: bytes that a prompt token needs on top while the prompt is read.
        row: bytes per row, whatever its length.
        most_rows: rows that are enough.
    """

    room: float
    cached: int
    computed: int
    row: int
    most_rows: int

    def rows(self, prompt: int, budget: int) -> int:
        """How many rows fit, of this many prompt tokens and most new tokens; at least one is tried."""
        one = (prompt + budget) * self.cached + prompt * self.computed + self.row
        return max(1, min(self.most_rows, int(self.room / one)))


def footprint(config: PretrainedConfig, weights: int, element: int, device: torch.device) -> Footprint:
    """What rows of a model need on a device.

    Memory is what the device has in all, not what happens to be free, so that the plan is the same after a restart.

    Args:
        config: of the text model; every layer is counted as if it kept all of its tokens.
        weights: bytes of the weights.
        element: bytes of a number in the cache.
        device: where the model is.
    """
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    return Footprint(
        room=max(0, memory_of(device) - weights) * _SHARE,
        cached=2 * config.num_hidden_layers * heads * width * element,
        computed=(_STATES * config.hidden_size + 3 * inner) * element,
        row=_LOGITS * 4 * config.vocab_size,
        most_rows=MOST_ROWS[device.type],
    )


def plan(lengths: Mapping[int, int], budget: int, needs: Footprint, rows: int | None = None) -> list[list[int]]:
    """Batches of rows of like prompt length, longest first: what may run out of memory does so at the start.

    Args:
        lengths: prompt tokens of each row, by its index.
        budget: most new tokens.
        needs: the estimate that fills a batch.
        rows: rows per batch, when the user has fixed it.
    """
    ordered = sorted(lengths, key=lambda row: (-lengths[row], row))
    batches = []
    while ordered:
        n = rows or needs.rows(lengths[ordered[0]], budget)  # the first is the longest, and the rest are padded to it
        batches.append(ordered[:n])
        ordered = ordered[n:]
    return batches


def halves(batch: list[int]) -> list[list[int]]:
    """Two parts, the first the larger where they differ."""
    middle = (len(batch) + 1) // 2
    return [batch[:middle], batch[middle:]]
