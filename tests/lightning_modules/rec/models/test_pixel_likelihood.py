"""The law of pixels is a proper mass function, and what the formula says."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_modules.rec.models.pixel_likelihood import LIKELIHOODS, OwnScales, PixelLaw, SharedScale, log_mass

VALUES = torch.arange(256, dtype=torch.float64)


@pytest.mark.parametrize("mean", [0.0, 0.3, 17.5, 128.0, 255.0])
@pytest.mark.parametrize("log_scale", [-3.0, 0.0, 2.0, 5.0])
def test_the_masses_of_all_values_sum_to_one(mean: float, log_scale: float) -> None:
    law = torch.tensor(mean, dtype=torch.float64), torch.tensor(log_scale, dtype=torch.float64)
    assert float(log_mass(VALUES, *law).exp().sum()) == pytest.approx(1.0, abs=1e-12)


def test_a_mass_is_the_difference_of_two_distribution_functions_and_ends_take_the_tails() -> None:
    mean, scale = 3.25, 1.7
    edges = [1.0 / (1.0 + math.exp(-(v - 0.5 - mean) / scale)) for v in range(257)]
    found = log_mass(VALUES, torch.tensor(mean), torch.tensor(math.log(scale), dtype=torch.float64)).exp()
    assert float(found[0]) == pytest.approx(edges[1], rel=1e-6)
    assert [float(found[v]) for v in (1, 3, 20)] == pytest.approx(
        [edges[v + 1] - edges[v] for v in (1, 3, 20)], rel=1e-6
    )
    assert float(found[255]) == pytest.approx(math.exp(-(254.5 - mean) / scale), rel=1e-6)


def test_values_far_from_a_narrow_law_have_finite_logarithms_and_gradients() -> None:
    mean = torch.tensor(250.0, requires_grad=True)
    loss = log_mass(torch.tensor([0.0, 1.0, 255.0]), mean, torch.tensor(-3.0)).sum()
    loss.backward()
    assert bool(loss.isfinite())
    assert math.isfinite(float(mean.grad or torch.inf))


def test_a_coupled_law_of_three_channels_is_proper() -> None:
    """Summed over all values of B, for one pair of R and G."""
    law = PixelLaw(
        *(
            torch.tensor(numbers).double().view(1, 3, 1, 1).expand(1, 3, 256, 1)
            for numbers in ([100.0, 50.0, 200.0], [1.0, 0.5, 1.5], [0.8, -0.4, 1.2])
        )
    )
    values = torch.stack([torch.full_like(VALUES, 104.0), torch.full_like(VALUES, 41.0), VALUES]).view(1, 3, 256, 1)
    green = 50.0 + 0.8 * 4.0
    assert law.conditional_mean(values)[0, :, 0, 0].tolist() == pytest.approx(
        [100.0, green, 200.0 - 0.4 * 4.0 + 1.2 * (41.0 - green)]
    )
    assert float(law.log_mass(values)[0, 2].exp().sum()) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_an_output_of_zero_stands_for_mid_grey(name: str) -> None:
    likelihood = LIKELIHOODS[name]()
    law = likelihood(torch.zeros(1, likelihood.outputs, 2, 2))
    assert torch.equal(law.mean, torch.full((1, 3, 2, 2), 127.5))
    assert len(likelihood.fractions) == likelihood.outputs


def test_the_shared_scale_is_one_parameter_on_the_networks_scale() -> None:
    likelihood = SharedScale()
    assert sum(parameter.numel() for parameter in likelihood.parameters()) == 1
    likelihood.log_scale.data.fill_(-5.0)
    assert float(likelihood(torch.zeros(1, 3, 1, 1)).log_scale.detach().mean()) == pytest.approx(math.log(256) - 5.0)
    assert not list(OwnScales().parameters())
