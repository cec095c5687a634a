"""The backward pass of integer networks: near autograd's, and the same however its sums are added."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from lightning_modules.errors import CodingError
from lightning_modules.exact.export import export, float_weights
from lightning_modules.exact.gradient import ExactGradient, to_integers
from lightning_modules.exact.products import Float64Product, LimbProduct, TapProduct
from lightning_modules.hyperprior import networks


@pytest.fixture(scope="module")
def network() -> nn.Sequential:
    torch.manual_seed(0)
    h_s = networks.hyper_synthesis(8, 12)
    networks.preserve_variance(h_s)
    return h_s


def test_the_gradient_is_near_that_of_the_float_network_the_integers_stand_for(network: nn.Sequential) -> None:
    z = torch.randn(1, 8, 4, 5)
    exact = export(network, torch.cat([z, 2 * z]), torch.full((24,), 12))
    network = copy.deepcopy(network)
    network.load_state_dict(float_weights(exact))
    unit = 2.0 ** int(exact.fractions[0])
    integers = (z.double() * unit).round()
    leaf = (integers / unit).float().requires_grad_()
    output = network(leaf)
    direction = torch.randn(output.shape)
    (expected,) = torch.autograd.grad((output * direction).sum(), leaf)
    gradient = ExactGradient(exact, Float64Product())
    passed = gradient.forward(integers)
    found = gradient.backward(passed, direction.double().numpy() * 2.0**-12) * unit
    assert np.linalg.norm(found - expected.numpy()) < 0.01 * float(expected.norm())


def test_every_way_of_adding_gives_the_same_bits(network: nn.Sequential) -> None:
    generator = torch.Generator().manual_seed(1)
    exact = export(network, torch.randn(4, 8, 4, 4, generator=generator), torch.full((24,), 12))
    values = torch.randint(-(1 << 15), 1 << 15, (1, 8, 6, 3), generator=generator).double()
    direction = torch.randn(1, 24, 24, 12, generator=generator).double().numpy()
    found = []
    for product in (Float64Product(), LimbProduct(), TapProduct(torch.int64), TapProduct(torch.float64)):
        gradient = ExactGradient(exact, product)
        found.append(gradient.backward(gradient.forward(values), direction))
    assert all(np.array_equal(found[0], other) for other in found[1:])


def test_a_convolution_with_a_stride_has_no_exact_gradient() -> None:
    network = nn.Sequential(networks.convolution(3, 4, 5, 2))
    exact = export(network, torch.randn(1, 3, 8, 8), torch.full((4,), 8))
    with pytest.raises(CodingError, match="no exact gradient"):
        ExactGradient(exact, Float64Product())


def test_integers_keep_sixteen_bits_of_the_largest() -> None:
    integers, unit = to_integers(np.array([3.0, -1e-3, 0.0]))
    assert np.abs(integers * unit - [3.0, -1e-3, 0.0]).max() <= unit / 2
    assert 1 << 14 <= np.abs(integers).max() < 1 << 15
    assert to_integers(np.zeros(2))[0].tolist() == [0, 0]
