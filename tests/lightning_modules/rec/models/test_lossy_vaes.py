"""The lossy models: the paper's sizes, levels where they should be, and what they are trained for."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lightning_modules.rec.models.hierarchy import SOFTPLUS, Prior
from lightning_modules.rec.models.lossy_vaes import ARCHITECTURES
from lightning_modules.rec.module import kl_with_free_nats, mean_squared_error, structural_error

SIZES = {"one_level": [16], "two_levels": [64, 16], "four_levels": [64, 64, 16, 16]}
SMALL = {"one_level": [8], "two_levels": [8, 6], "four_levels": [8, 6]}


@pytest.mark.parametrize(
    ("name", "widths", "parameters"),
    [
        ("one_level", [192], 5_846_403),
        ("two_levels", [196, 128], 10_308_659),
        ("four_levels", [196, 128], 25_454_843),
    ],
)
def test_the_papers_models_have_their_numbers_of_parameters(name: str, widths: list[int], parameters: int) -> None:
    model = ARCHITECTURES[name](widths=widths)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_levels_are_drawn_from_the_coarsest_and_posteriors_fit_their_priors(name: str) -> None:
    torch.manual_seed(0)
    model, size = ARCHITECTURES[name](widths=SMALL[name]), (64, 128)
    x = torch.rand(2, 3, *size)
    features = model.infer(x)
    drawn: list[tuple[int, ...]] = []

    def draw(level: int, prior: Prior) -> Tensor:
        q = model.posterior(level, features[level], prior)
        assert q.mean.shape == q.std.shape == prior.mean.shape == prior.spread.shape
        assert bool((q.std > 0).all())
        drawn.append(tuple(prior.mean.shape))
        return q.mean

    picture = model.synthesis(model.generate(model.trained, x, size, draw))
    assert picture.shape == x.shape
    channels = model.channels
    assert drawn == [(2, c, 64 // side, 128 // side) for c, side in zip(channels, SIZES[name], strict=True)]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_parameter_has_a_part_in_the_loss(name: str) -> None:
    torch.manual_seed(0)
    model = ARCHITECTURES[name](widths=SMALL[name])
    model.top.data.normal_()
    x = torch.rand(1, 3, 64, 64)
    features, terms = model.infer(x), []

    def draw(level: int, prior: Prior) -> Tensor:
        q = model.posterior(level, features[level], prior)
        terms.append((q.mean + q.std + prior.mean + prior.spread).square().sum())
        return q.mean

    loss = model.synthesis(model.generate(model.trained, x, (64, 64), draw)).square().sum() + sum(terms)
    loss.backward()
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []


def test_portable_deviations_are_those_of_training() -> None:
    spread = torch.linspace(-60.0, 60.0, 2001, dtype=torch.float64)
    assert torch.allclose(SOFTPLUS.portable(spread), SOFTPLUS.trained(spread), rtol=1e-6, atol=0.0)


def test_free_nats_bound_each_channels_batch_mean_from_below() -> None:
    level = torch.tensor([[[[0.3]], [[0.01]]], [[[0.1]], [[0.05]]]])  # two pictures, two channels
    assert float(kl_with_free_nats([level], 0.1)) == pytest.approx(0.2 + 0.1)
    assert float(kl_with_free_nats([level, level], 0.0)) == pytest.approx(2 * 0.23)


def test_distortions_are_on_their_scales() -> None:
    x = torch.full((2, 3, 176, 176), 0.5)
    assert mean_squared_error(x, x + 10.0 / 255.0).tolist() == pytest.approx([100.0, 100.0], rel=1e-4)
    assert structural_error(x, x).tolist() == pytest.approx([0.0, 0.0], abs=1e-3)
    noisy = (torch.rand_like(x), torch.rand_like(x))
    assert all(100.0 < value <= 255.0 for value in structural_error(*noisy).tolist())
    assert math.isfinite(float(structural_error(*noisy).sum()))
