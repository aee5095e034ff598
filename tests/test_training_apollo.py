"""APOLLO-Mini against the algorithm of its paper written out, on resume, on memory, and on the factors of LoRA."""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from counterclaim.lab.operators.apollo import ApolloMini


def gradients(shape: tuple[int, int], steps: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=generator) * (1 + step % 5) for step in range(steps)]


def run(optimiser: ApolloMini, matrix: torch.nn.Parameter, steps: list[torch.Tensor]) -> None:
    for gradient in steps:
        matrix.grad = gradient.clone()
        optimiser.step()


def directions(seed: int, gap: int, steps: int, n: int) -> list[np.ndarray]:
    """What the optimiser projects on at each step: its gradient is read off, one unit vector at a time."""
    probe = torch.nn.Parameter(torch.zeros(n, n))
    optimiser = ApolloMini([probe], lr=1.0, seed=seed, gap=gap)
    group = optimiser.param_groups[0]
    return [optimiser._projected(torch.eye(n), group, 0, step // gap).double().numpy() for step in range(steps)]


@pytest.mark.parametrize("shape", [(6, 3), (3, 6)])
def test_it_is_the_algorithm_of_the_paper(shape: tuple[int, int]) -> None:
    """Written out in numpy, column by column of the long side, without any of torch's in-place tricks."""
    lr, decay, scale, gap, growth, (first, second) = 0.01, 0.1, 128.0, 4, 1.01, (0.9, 0.999)
    start = torch.linspace(-1, 1, 18).reshape(shape)
    matrix = torch.nn.Parameter(start.clone())
    steps = gradients(shape, 10)
    run(ApolloMini([matrix], lr=lr, weight_decay=decay, gap=gap, seed=5), matrix, steps)

    weights = start.double().numpy().T if shape[0] < shape[1] else start.double().numpy()
    mean = square = np.zeros(6)
    last = math.inf
    limited = 0
    for step, (gradient, direction) in enumerate(zip(steps, directions(5, gap, 10, 3), strict=True), start=1):
        dense = gradient.double().numpy()
        dense = dense.T if shape[0] < shape[1] else dense
        seen = dense @ direction
        mean = first * mean + (1 - first) * seen
        square = second * square + (1 - second) * seen**2
        adam = (mean / (1 - first**step)) / np.sqrt(square / (1 - second**step))
        moved = math.sqrt(scale) * np.linalg.norm(adam) / np.linalg.norm(seen) * dense
        # the limiter looks at the step before Adam's bias is corrected, as the authors' code does
        bias = math.sqrt(1 - second**step) / (1 - first**step)
        norm = np.linalg.norm(moved) / bias
        limited += norm > growth * last
        moved *= min(1, growth * last / norm)
        last = min(norm, growth * last)
        weights = weights * (1 - lr * decay) - lr * moved
    weights = weights.T if shape[0] < shape[1] else weights
    np.testing.assert_allclose(matrix.detach().double().numpy(), weights, rtol=1e-4, atol=1e-6)
    assert 0 < limited < 10


def test_directions_change_with_the_gap_the_matrix_and_the_seed_and_with_nothing_else() -> None:
    one = directions(0, 2, 4, 3)
    assert np.array_equal(one[0], one[1])
    assert not np.allclose(one[1], one[2])
    assert not np.allclose(one[0], directions(1, 2, 1, 3)[0])
    assert np.array_equal(one, directions(0, 2, 4, 3))
    twins = [torch.nn.Parameter(torch.zeros(4, 3)) for _ in range(2)]
    optimiser = ApolloMini(twins, lr=0.1)
    for _ in range(3):
        for twin in twins:
            twin.grad = gradients((4, 3), 1)[0]
        optimiser.step()
    assert not torch.allclose(*[optimiser.state[twin]["exp_avg"] for twin in twins])


def test_it_goes_on_from_a_checkpoint_that_holds_no_objects() -> None:
    whole, first = (torch.nn.Parameter(torch.ones(5, 4)) for _ in range(2))
    steps = gradients((5, 4), 12)
    run(ApolloMini([whole], lr=0.01, gap=5, seed=2), whole, steps)
    optimiser = ApolloMini([first], lr=0.01, gap=5, seed=2)
    run(optimiser, first, steps[:7])
    file = io.BytesIO()
    torch.save(optimiser.state_dict(), file)
    file.seek(0)
    again = torch.nn.Parameter(first.detach().clone())
    resumed = ApolloMini([again], lr=0.01, gap=5, seed=2)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    run(resumed, again, steps[7:])
    assert torch.equal(again, whole)


def test_it_keeps_two_vectors_for_a_matrix() -> None:
    matrix = torch.nn.Parameter(torch.ones(300, 40))
    optimiser = ApolloMini([matrix], lr=0.01)
    run(optimiser, matrix, gradients((300, 40), 2))
    kept = sum(value.numel() for value in optimiser.state[matrix].values() if isinstance(value, torch.Tensor))
    assert kept == 2 * 300 + 1
    dense = torch.optim.AdamW([matrix])
    dense.step()
    assert sum(value.numel() for value in dense.state[matrix].values()) >= 2 * matrix.numel()


def fitted(make: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]) -> tuple[float, float]:
    """Loss of a fresh LoRA pair fitted to a matrix of rank two, and how far A has moved."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(20, 2, generator=generator) @ torch.randn(2, 30, generator=generator)
    begun = torch.randn(4, 30, generator=generator) / 5
    factors = [torch.nn.Parameter(begun.clone()), torch.nn.Parameter(torch.zeros(20, 4))]
    optimiser = make(factors)
    for _ in range(300):
        optimiser.zero_grad()
        ((factors[1] @ factors[0] - target) ** 2).mean().backward()
        optimiser.step()
    a, b = (factor.detach() for factor in factors)
    return float(((b @ a - target) ** 2).mean() / (target**2).mean()), float((a - begun).norm() / begun.norm())


def test_it_trains_both_factors_of_an_adapter_of_which_one_begins_at_zero() -> None:
    left, moved = fitted(lambda factors: ApolloMini(factors, lr=3e-3))
    assert left < 0.1
    assert moved > 0.1


def test_a_vector_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(7,\)"):
        ApolloMini([torch.nn.Parameter(torch.zeros(7))], lr=0.1)
