"""APOLLO-Mini: an optimiser that adapts one learning rate per matrix, from an Adam state of rank one.

Zhu et al. 2024, "APOLLO: SGD-like Memory, AdamW-level Performance" (arXiv 2412.05270), Algorithm 1 with rank 1, scaling by
tensor, and the norm-growth limiter. It stands here because the authors' package may not be used commercially, and because
it keeps objects in its state that a checkpoint cannot be read back with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class ApolloMini(Optimizer):
    """APOLLO-Mini over matrices.

    The gradient G (m, n) of a matrix is projected on a random direction along its shorter side, which leaves a vector r of
    the longer one. Adam's moments are kept of r alone; with r' as Adam would step, the matrix takes the step

        -lr * sqrt(scale) * (|r'| / |r|) * G

    of which the norm may grow by a factor ``growth`` from one step to the next. Adam keeps 2mn numbers for a matrix, this
    2 max(m, n) + 2: the direction is drawn anew from its seed whenever it is needed.

    The growth is counted from the first step that is not zero. The matrix A of a fresh LoRA adapter has no gradient as
    long as B is zero, and a limit that begins there would hold it to nothing ever after.

    Args:
        params: matrices, or groups of them.
        lr: learning rate.
        betas: decay of the two moments.
        eps: added to the root of the second moment.
        weight_decay: decoupled.
        scale: stands in for what a projection of low rank leaves out; its root multiplies the step.
        gap: steps for which a direction is kept.
        growth: the most by which the norm of a step may exceed that of the one before.
        seed: of the directions.

    Raises:
        ValueError: a parameter is no matrix.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        scale: float = 128.0,
        gap: int = 200,
        growth: float = 1.01,
        seed: int = 0,
    ) -> None:
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "scale": scale, "gap": gap,
            "growth": growth, "seed": seed,
        }  # fmt: skip
        super().__init__(params, defaults)
        matrices = [matrix for group in self.param_groups for matrix in group["params"]]
        if odd := [matrix for matrix in matrices if matrix.dim() != 2]:
            raise ValueError(f"APOLLO-Mini takes matrices, and a parameter has the shape {tuple(odd[0].shape)}")
        self._number = {matrix: number for number, matrix in enumerate(matrices)}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step along the gradients that are there; what ``closure`` returns, where one is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    self._move(matrix, group)
        return loss

    def _move(self, matrix: Tensor, group: dict[str, Any]) -> None:
        gradient = matrix.grad
        assert gradient is not None
        state = self.state[matrix]
        done: int = state.setdefault("step", 0)
        seen = self._projected(gradient, group, self._number[matrix], done // group["gap"])
        if not done:
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(seen), torch.zeros_like(seen)
            state["norm"] = seen.new_zeros(())
        state["step"] = done + 1

        first, second = group["betas"]
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean.lerp_(seen, 1 - first)
        square.mul_(second).addcmul_(seen, seen, value=1 - second)
        adam = mean / (square.sqrt() + group["eps"])
        tiny = torch.finfo(gradient.dtype).tiny
        step = gradient * (adam.norm() / (seen.norm() + tiny) * math.sqrt(group["scale"]))

        norm, last = step.norm(), state["norm"]
        limit = torch.where(last > 0, last * group["growth"], torch.inf)
        step *= (limit / (norm + tiny)).clamp(max=1.0)
        state["norm"] = torch.minimum(norm, limit)

        unbiased = math.sqrt(1 - second ** state["step"]) / (1 - first ** state["step"])
        matrix.mul_(1 - group["lr"] * group["weight_decay"]).add_(step, alpha=-group["lr"] * unbiased)

    def _projected(self, gradient: Tensor, group: dict[str, Any], number: int, draw: int) -> Tensor:
        """The gradient along a random direction of its shorter side, whose entries are drawn from N(0, 1)."""
        seed = (group["seed"] * _PRIME + number) * _PRIME + draw
        generator = torch.Generator().manual_seed(seed % 2**63)
        direction = torch.randn(min(gradient.shape), generator=generator).to(gradient)
        return gradient @ direction if gradient.shape[0] >= gradient.shape[1] else direction @ gradient


_PRIME = 1_000_003
