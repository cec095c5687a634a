"""Probabilities of the latents: closed forms, tails, medians, and the masses that tables are built from."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional

from lightning_modules.densities import (
    factorized_likelihood,
    factorized_pmfs,
    gaussian_likelihood,
    medians,
    update_medians,
)


@pytest.fixture
def bottleneck() -> EntropyBottleneck:
    torch.manual_seed(1)
    module = EntropyBottleneck(5)
    with torch.no_grad():
        for parameter in (*module.matrices, *module.biases, *module.factors):
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def test_the_gaussian_box_has_the_mass_of_its_closed_form() -> None:
    y, scale, mean = torch.tensor([[[[0.7]]]]), torch.tensor([[[[1.3]]]]), torch.tensor([[[[-0.2]]]])
    normal = torch.distributions.Normal(-0.2, 1.3)
    expected = normal.cdf(torch.tensor(1.2)) - normal.cdf(torch.tensor(0.2))
    assert torch.allclose(gaussian_likelihood(GaussianConditional(None), y, scale, mean), expected, atol=1e-6)


def test_scales_below_the_bound_are_coded_as_the_bound() -> None:
    conditional, y = GaussianConditional(None), torch.zeros(1, 1, 1, 2)
    scales = torch.tensor([[[[0.11, -3.0]]]])
    probability = gaussian_likelihood(conditional, y, scales, torch.zeros_like(y))
    assert probability[..., 0] == probability[..., 1]


@pytest.mark.parametrize(("incoming", "passes"), [(1.0, False), (-1.0, True)])
def test_a_bounded_scale_still_learns_to_grow(incoming: float, passes: bool) -> None:
    scales = torch.full((1, 1, 1, 1), 0.05, requires_grad=True)
    bounded = GaussianConditional(None).lower_bound_scale(scales)
    bounded.backward(torch.full_like(scales, incoming))
    assert scales.grad is not None
    assert bool(scales.grad.abs() > 0) is passes


def test_both_tails_of_the_factorised_density_keep_their_digits(bottleneck: EntropyBottleneck) -> None:
    far = torch.linspace(-30, 30, 61).expand(1, 5, 61, 61).transpose(2, 3).contiguous()
    got = factorized_likelihood(bottleneck, far)[0, :, :, 0].double()
    exact = torch.from_numpy(_masses(bottleneck, np.linspace(-30, 30, 61)))
    assert torch.allclose(got, exact.clamp_min(1e-9), rtol=2e-3, atol=0)


def test_a_box_exactly_at_the_median_has_its_mass() -> None:
    bottleneck = EntropyBottleneck(1)
    with torch.no_grad():
        for bias in bottleneck.biases:
            bias.zero_()  # a symmetric density: the logits of both ends cancel
    probability = factorized_likelihood(bottleneck, torch.zeros(1, 1, 1, 1))
    assert probability.item() == pytest.approx(_masses(bottleneck, np.zeros(1)).item(), rel=1e-5)


def test_the_difference_of_sigmoids_would_lose_the_right_tail(bottleneck: EntropyBottleneck) -> None:
    grid = np.arange(0.0, 600.0, 2.0)
    exact = _masses(bottleneck, grid)
    rare = np.abs(np.log(exact / 5e-8)).argmin(axis=1)  # where each channel's box holds about 5e-8
    values = torch.from_numpy(grid[rare]).float().reshape(5, 1, 1)
    upper = torch.sigmoid(bottleneck._logits_cumulative(values + 0.5, stop_gradient=True))
    lower = torch.sigmoid(bottleneck._logits_cumulative(values - 0.5, stop_gradient=True))
    truth = exact[np.arange(5), rare]
    naive = np.abs((upper - lower)[:, 0, 0].detach().numpy() / truth - 1)
    ours = factorized_likelihood(bottleneck, values.reshape(1, 5, 1, 1)).detach().numpy().ravel() / truth - 1
    assert naive.max() > 0.1, "CompressAI's form would do"
    assert np.abs(ours).max() < 0.01


def test_bisection_finds_medians_that_were_never_trained(bottleneck: EntropyBottleneck) -> None:
    with torch.no_grad():
        for index in range(5):
            bottleneck.biases[0][index] += 3.0 * (index - 2)
    assert torch.equal(medians(bottleneck), torch.zeros(1, 5, 1, 1))
    update_medians(bottleneck)
    logits = bottleneck._logits_cumulative(medians(bottleneck).reshape(5, 1, 1), stop_gradient=True)
    assert torch.allclose(torch.sigmoid(logits), torch.full_like(logits, 0.5), atol=1e-5)
    assert medians(bottleneck).abs().max() > 1


def test_pmfs_hold_all_but_the_tail_and_are_the_density_on_the_grid(bottleneck: EntropyBottleneck) -> None:
    update_medians(bottleneck)
    tail = 2.0**-20
    pmfs, lowest = factorized_pmfs(bottleneck, tail)
    for channel, (pmf, first) in enumerate(zip(pmfs, lowest, strict=True)):
        assert 1 - tail <= pmf.sum() + 1e-12 <= 1 + 1e-9
        grid = float(medians(bottleneck)[0, channel]) + first + np.arange(len(pmf))
        assert np.allclose(pmf, _masses(bottleneck, grid)[channel], rtol=1e-9)
        assert first <= 0 < first + len(pmf), "the median itself must be in the table"


def _masses(bottleneck: EntropyBottleneck, grid: np.ndarray) -> np.ndarray:
    """P(grid - 1/2 < z < grid + 1/2) per channel, (N, K), straight from the definition, in float64."""

    def logits(values: np.ndarray) -> np.ndarray:
        out = np.broadcast_to(values, (bottleneck.channels, 1, len(values))).astype(np.float64)
        for k, matrix in enumerate(bottleneck.matrices):
            weight = torch.nn.functional.softplus(matrix.detach().double()).numpy()
            out = weight @ out + bottleneck.biases[k].detach().double().numpy()
            if k < len(bottleneck.factors):
                out = out + np.tanh(bottleneck.factors[k].detach().double().numpy()) * np.tanh(out)
        return out[:, 0]

    low, high = logits(grid - 0.5), logits(grid + 0.5)
    left = low + high < 0  # mirrored where the mass lies in the right tail
    sign = np.where(left, 1.0, -1.0)
    return np.array(
        [
            [abs(_sigmoid(s * b) - _sigmoid(s * a)) for a, b, s in zip(*rows, strict=True)]
            for rows in zip(low, high, sign, strict=True)
        ]
    )


def _sigmoid(value: float) -> float:
    return math.exp(value) / (1 + math.exp(value)) if value < 0 else 1 / (1 + math.exp(-value))
