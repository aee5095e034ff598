"""pass@k: the chance that at least one of k answers drawn from n is right."""

from __future__ import annotations

from math import comb


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased estimate of pass@k for one problem (Chen et al. 2021, equation 1): 1 - C(n - c, k) / C(n, k).

    Args:
        n: answers drawn.
        c: how many of them are right.
        k: answers that one may try; at most n.

    Raises:
        ValueError: not 0 <= c <= n and 1 <= k <= n.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError("pass@k needs 0 <= c <= n and 1 <= k <= n")
    return 1.0 - comb(n - c, k) / comb(n, k)
