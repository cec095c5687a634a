"""Quantizers: points of the grid, and the gradients that training and refinement rely on."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_modules.quantization import Quantizer, hard_round, straight_through, uniform_noise

FLOATS = st.floats(-1e4, 1e4, width=32)
SHAPE = (2, 3, 4, 5)


def random_pair(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Latents and offsets (B, M, h, w), both with a gradient."""
    generator = torch.Generator().manual_seed(seed)
    value = 3 * torch.randn(SHAPE, generator=generator)
    offset = torch.randn(SHAPE, generator=generator)
    return value.requires_grad_(), offset.requires_grad_()


def gradients(quantize: Quantizer) -> tuple[Tensor | None, Tensor | None]:
    """d(sum of weighted outputs) / d(value, offset), divided by the weights."""
    value, offset = random_pair()
    weights = torch.rand(SHAPE, generator=torch.Generator().manual_seed(1)) + 0.5
    (quantize(value, offset) * weights).sum().backward()
    return tuple(None if leaf.grad is None else leaf.grad / weights for leaf in (value, offset))  # type: ignore[return-value]


@settings(deadline=None)
@given(FLOATS, FLOATS)
def test_hard_rounding_gives_the_nearest_point_of_the_shifted_grid(value: float, offset: float) -> None:
    rounded = float(hard_round(torch.tensor(value), torch.tensor(offset)))
    slack = 4e-3  # a float32 near 1e4 is known to 1e-3
    assert abs(rounded - value) <= 0.5 + slack
    assert abs((rounded - offset) - round(rounded - offset)) <= slack


@pytest.mark.parametrize(("value", "expected"), [(0.5, 0.0), (1.5, 2.0), (2.5, 2.0), (-0.5, 0.0), (-1.5, -2.0)])
@pytest.mark.parametrize("quantize", [hard_round, straight_through])
def test_ties_go_to_the_even_integer(quantize: Quantizer, value: float, expected: float) -> None:
    assert float(quantize(torch.tensor(value), torch.tensor(0.0))) == expected


def test_ties_are_even_relative_to_the_offset() -> None:
    assert float(hard_round(torch.tensor(0.75), torch.tensor(0.25))) == 0.25
    assert float(hard_round(torch.tensor(1.75), torch.tensor(0.25))) == 2.25


@pytest.mark.parametrize("seed", range(3))
def test_straight_through_is_the_hard_rounding_to_the_last_bit(seed: int) -> None:
    value, offset = random_pair(seed)
    assert torch.equal(straight_through(value, offset), hard_round(value, offset))


def test_a_sum_that_cancels_would_leave_the_grid() -> None:
    value, offset = random_pair()
    naive = value + (hard_round(value, offset) - value).detach()
    assert not torch.equal(naive, hard_round(value, offset)), "the trap is gone: the plain sum would do"


def test_gradients_of_hard_rounding_go_to_the_offset_only() -> None:
    value_grad, offset_grad = gradients(hard_round)
    assert value_grad is not None
    assert offset_grad is not None
    assert torch.equal(value_grad, torch.zeros(SHAPE))
    assert torch.equal(offset_grad, torch.ones(SHAPE))


@pytest.mark.parametrize("quantize", [straight_through, uniform_noise])
def test_gradients_of_training_quantizers_go_to_the_value_only(quantize: Quantizer) -> None:
    value_grad, offset_grad = gradients(quantize)
    assert value_grad is not None
    assert torch.equal(value_grad, torch.ones(SHAPE))
    assert offset_grad is None


def test_noise_is_uniform_on_a_unit_interval_around_the_value() -> None:
    torch.manual_seed(0)
    count = 200_000
    noise = (uniform_noise(torch.zeros(count), torch.tensor(0.3)) - 0.0).double()
    assert float(noise.min()) >= -0.5
    assert float(noise.max()) <= 0.5
    assert abs(float(noise.mean())) < 4 * math.sqrt(1 / 12 / count)
    assert abs(float(noise.var()) - 1 / 12) < 4 * math.sqrt(1 / 180 / count)
    shares = torch.histc(noise, bins=20, min=-0.5, max=0.5) / count
    assert float((shares - 0.05).abs().max()) < 5 * math.sqrt(0.05 * 0.95 / count)


def test_noise_is_drawn_anew_for_each_element_and_call() -> None:
    zeros = torch.zeros(1000)
    first, second = uniform_noise(zeros, zeros), uniform_noise(zeros, zeros)
    assert len(first.unique()) > 990
    correlation = torch.corrcoef(torch.stack((first, second)))[0, 1]
    assert abs(float(correlation)) < 0.15
