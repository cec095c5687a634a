"""Likelihoods of integers under free means: symmetric, normalised, bounded as the authors bound them."""

from __future__ import annotations

import pytest
import torch
from compressai.entropy_models import GaussianConditional

from lightning_modules.sic.rates import group_bits, lattice_likelihood

CONDITIONAL = GaussianConditional(None)


@pytest.mark.parametrize("mean", [0.0, 0.3, -7.5])
@pytest.mark.parametrize("scale", [0.11, 1.0, 5.0])
def test_probabilities_of_all_integers_sum_to_one(mean: float, scale: float) -> None:
    integers = torch.arange(-60.0, 61.0, dtype=torch.float64)
    likelihood = lattice_likelihood(
        CONDITIONAL, integers, torch.full_like(integers, scale), torch.full_like(integers, mean)
    )
    assert float(likelihood.sum()) == pytest.approx(1, abs=1e-6)


def test_a_symbol_out_of_reach_costs_29_9_bits_and_teaches_nothing() -> None:
    mean = torch.zeros(1, requires_grad=True)
    likelihood = lattice_likelihood(CONDITIONAL, torch.tensor([8.0]), torch.ones(1), mean)
    bits = -likelihood.log2()
    assert float(bits.detach()) == pytest.approx(29.897, abs=1e-3)
    bits.backward()
    assert mean.grad is not None
    assert float(mean.grad) == 0


def test_bits_are_summed_over_the_channels_and_positions_of_each_group() -> None:
    likelihoods = torch.ones(2, 6, 3, 4)
    likelihoods[0, 1] = 0.5
    likelihoods[1, 5, 2, 3] = 0.25
    assert group_bits(likelihoods, groups=3).tolist() == [[12, 0, 0], [0, 0, 2]]
