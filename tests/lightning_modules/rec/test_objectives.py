"""The terms of training: free nats, and the KL that is to be even over dimensions."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_modules.rec.module import DigitModule, evened_kl


def test_without_evenness_the_kl_counts_by_its_weight() -> None:
    kl = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)
    assert float(evened_kl(kl, 0.25, 0.0, 100.0)) == pytest.approx(0.25 * 2.6)


def test_full_evenness_is_the_largest_kl_of_all_dimensions_times_their_number() -> None:
    kl = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)
    assert float(evened_kl(kl, 1.0, 3.0, 1e4)) == pytest.approx(3 * 2.0)


def test_the_soft_maximum_is_that_of_the_formula() -> None:
    kl = torch.tensor([0.3, 0.31], dtype=torch.float64)
    expected = (0.9 - 0.4 / 2) * 0.61 + 0.4 * math.log(math.exp(30.0) + math.exp(31.0)) / 100.0
    assert float(evened_kl(kl, 0.9, 0.4, 100.0)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("step", "weights"), [(0, (0.0, 0.0)), (50, (0.5, 0.0)), (100, (1.0, 0.2)), (300, (1.0, 2.2)), (9999, (1.0, 5.0))]
)
def test_weights_grow_with_the_steps_up_to_one_and_to_the_number_of_dimensions(
    step: int, weights: tuple[float, float]
) -> None:
    module = DigitModule.__new__(DigitModule)
    module.__dict__.update(anneal_steps=100, even_from=0.8, sharpness=100.0)
    assert module.weights(step, 5) == pytest.approx(weights)
