"""The Lagrangian, its terms and their units, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_modules.training.rate_distortion import bits, mse_255, rate_distortion


def test_a_probability_of_one_half_is_one_bit() -> None:
    likelihood = torch.tensor([[0.5, 0.25], [1.0, 0.125]])
    assert bits(likelihood).tolist() == pytest.approx([3.0, 3.0])


def test_bits_sum_over_each_image_and_never_over_the_batch() -> None:
    likelihood = torch.stack([torch.full((4, 3, 2), 0.5), torch.full((4, 3, 2), 0.25)])
    assert bits(likelihood).tolist() == pytest.approx([24.0, 48.0])


def test_bits_of_half_precision_are_summed_in_float32() -> None:
    likelihood = torch.full((1, 3, 100, 100), 0.5, dtype=torch.bfloat16)
    assert bits(likelihood).dtype == torch.float32
    assert float(bits(likelihood)) == pytest.approx(30_000, rel=1e-5)


def test_an_error_of_one_8_bit_level_everywhere_is_an_mse_of_one() -> None:
    x = torch.full((1, 3, 5, 7), 0.5)
    assert float(mse_255(x, x + 1 / 255)) == pytest.approx(1.0, rel=1e-4)


def test_mse_averages_over_pixels_and_colours_of_each_image() -> None:
    x, x_hat = torch.zeros(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)
    x_hat[0, 0, 0, 0] = 12 / 255
    x_hat[1] = 2 / 255
    assert mse_255(x, x_hat).tolist() == pytest.approx([144 / 12, 4.0], rel=1e-5)


def test_mse_punishes_values_out_of_range() -> None:
    x = torch.ones(1, 3, 2, 2)
    assert float(mse_255(x, x + 1)) == pytest.approx(255.0**2)


def test_mse_is_the_error_of_a_known_psnr() -> None:
    x, x_hat = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.1)
    assert 10 * math.log10(255**2 / float(mse_255(x, x_hat))) == pytest.approx(20.0, abs=1e-4)


def test_the_loss_of_a_worked_example() -> None:
    x, x_hat = torch.zeros(2, 3, 4, 8), torch.zeros(2, 3, 4, 8)
    x_hat[1] = 3 / 255
    likelihoods = {"y": torch.full((2, 6, 1, 2), 0.25), "z": torch.full((2, 8, 1, 1), 0.5)}
    terms = rate_distortion(x, x_hat, likelihoods, lmbda=0.01)
    assert terms.bpp_parts["y"].tolist() == pytest.approx([24 / 32, 24 / 32])
    assert terms.bpp_parts["z"].tolist() == pytest.approx([8 / 32, 8 / 32])
    assert terms.bpp.tolist() == pytest.approx([1.0, 1.0])
    assert terms.mse.tolist() == pytest.approx([0.0, 9.0], rel=1e-5)
    assert terms.loss.tolist() == pytest.approx([1.0, 1.09], rel=1e-5)


def test_gradients_weigh_distortion_by_lmbda_and_rate_by_one() -> None:
    x = torch.zeros(1, 3, 2, 2)
    x_hat = torch.full_like(x, 0.1).requires_grad_()
    likelihood = torch.full((1, 1, 2, 2), 0.5, requires_grad=True)
    rate_distortion(x, x_hat, {"y": likelihood}, lmbda=0.02).loss.sum().backward()
    assert x_hat.grad is not None
    assert likelihood.grad is not None
    assert torch.allclose(x_hat.grad, torch.full_like(x, 0.02 * 255**2 * 2 * 0.1 / 12))
    assert torch.allclose(likelihood.grad, torch.full_like(likelihood, -1 / (0.5 * math.log(2) * 4)))
