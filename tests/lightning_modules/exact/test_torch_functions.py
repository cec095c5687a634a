"""Logarithm, exponential and sums of basic operations: accurate, and indifferent to batches and padding."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_modules.exact.torch_functions import ceil_log2, exp, ln, power_of_two, tree_sum


def test_the_logarithm_is_accurate_over_the_whole_range_and_near_one() -> None:
    x = torch.rand(20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1e-9
    x = torch.cat([x, x * 1e-300, x * 1e300, 1 + (x - 0.5) * 1e-8, torch.tensor([1.0, math.sqrt(0.5), math.sqrt(2.0)])])
    exact = torch.tensor([math.log(value) for value in x.tolist()], dtype=torch.float64)
    assert bool(((ln(x) - exact).abs() <= 5e-16 * exact.abs().clamp_min(1e-300)).all())


def test_the_exponential_is_accurate_and_inverts_the_logarithm() -> None:
    x = (torch.rand(20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.5) * 1390
    exact = torch.tensor([math.exp(value) for value in x.tolist()], dtype=torch.float64)
    assert float(((exp(x) - exact).abs() / exact).max()) < 5e-16
    assert torch.allclose(exp(ln(exact)), exact, rtol=1e-12, atol=0)


def test_powers_of_two_are_exact() -> None:
    exponents = [-1022, -1, 0, 1, 52, 1023]
    assert power_of_two(torch.tensor(exponents)).tolist() == [2.0**exponent for exponent in exponents]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 8, 1000, 1025])
def test_a_tree_sum_is_the_sum_and_zeros_behind_it_change_no_bit(size: int) -> None:
    x = torch.randn(3, size, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
    before = x.clone()
    assert torch.allclose(tree_sum(x), x.sum(-1), rtol=0, atol=1e-12)
    assert torch.equal(tree_sum(torch.nn.functional.pad(x, (0, 700))), tree_sum(x))
    assert torch.equal(tree_sum(x[1:2]), tree_sum(x)[1:2])
    assert torch.equal(x, before)


def test_ceil_log2_is_the_least_power_that_reaches() -> None:
    assert [ceil_log2(count) for count in (1, 2, 3, 4, 5, 1000, 1024, 1025)] == [0, 1, 2, 2, 3, 10, 10, 11]
