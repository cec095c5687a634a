"""Weight normalisation: the formula, and gains that the first batch sets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lightning_modules.rec.models.weight_norm import WeightNorm, conv, initialized_by_data, weight_normed

LAYERS: list[tuple[Any, tuple[int, ...]]] = [
    (weight_normed(nn.Conv2d(3, 5, 3)), (1, 2, 3)),
    (weight_normed(nn.ConvTranspose2d(3, 5, 3)), (0, 2, 3)),
]


@pytest.mark.parametrize(("layer", "axes"), LAYERS)
def test_the_norm_of_what_meets_in_an_output_is_the_exponential_of_its_gain(layer: Any, axes: tuple[int, ...]) -> None:
    gains = torch.linspace(-1.0, 1.0, 5)
    layer.parametrizations.weight.original0.data.copy_(gains)
    assert torch.allclose(layer.weight.square().sum(axes).sqrt(), gains.exp(), rtol=1e-5)


def test_a_weight_that_is_set_comes_back() -> None:
    layer, weight = conv(4, 6), torch.randn(6, 4, 3, 3)
    layer.weight = weight
    assert torch.allclose(layer.weight, weight, atol=1e-6)
    assert WeightNorm(0).right_inverse(weight)[0].shape == (6,)


def test_the_first_batch_makes_every_output_channel_centred_with_deviation_a_tenth() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(conv(3, 8), nn.ELU(), weight_normed(nn.ConvTranspose2d(8, 5, 5, 2, 1)))
    x = 3.0 + 2.0 * torch.randn(4, 3, 12, 12)
    with torch.no_grad(), initialized_by_data(network):
        network(x)
    for value in (network[0](x), network(x)):
        assert torch.allclose(value.mean((0, 2, 3)), torch.zeros(value.shape[1]), atol=1e-5)
        assert torch.allclose(value.std((0, 2, 3)), torch.full((value.shape[1],), 0.1), rtol=2e-3)


def test_only_the_first_pass_sets_gains() -> None:
    layer = conv(2, 2)
    with torch.no_grad(), initialized_by_data(layer):
        layer(torch.randn(2, 2, 8, 8))
        before = layer.weight.clone()
        layer(10.0 * torch.randn(2, 2, 8, 8))
    assert torch.equal(layer.weight, before)


def test_a_channel_that_does_not_vary_gets_a_gain_of_ten_and_no_more() -> None:
    layer = conv(2, 3)
    with torch.no_grad(), initialized_by_data(layer):
        layer(torch.zeros(2, 2, 8, 8))
    assert torch.allclose(layer.weight.square().sum((1, 2, 3)).sqrt(), torch.full((3,), 10.0), rtol=1e-4)
