"""q as the receiver finds it again: near autograd's optimum, and the same bits in every environment."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_modules.densities import gaussian_likelihood
from lightning_modules.exact.gradient import ExactGradient
from lightning_modules.exact.products import Float64Product, LimbProduct
from lightning_modules.sga.bits_back.box_gradient import box_gradient
from lightning_modules.sga.bits_back.codec import BitsBackCodec
from lightning_modules.sga.bits_back.densities import prior_density, sample
from lightning_modules.sga.bits_back.portable_density import PortableDensity
from lightning_modules.sga.bits_back.posterior import Gaussians, Posterior, Search, noise


@pytest.fixture(scope="module")
def posterior(bits_back_codec: BitsBackCodec) -> Posterior:
    return bits_back_codec._derived.value.posterior


@pytest.fixture(scope="module")
def y(bits_back_codec: BitsBackCodec, picture: Tensor) -> np.ndarray:
    with torch.no_grad():
        return bits_back_codec.analyze(picture).variables["y"].round()[0].numpy().astype(np.int32)


def test_amortized_q_is_nearly_that_of_the_float_network(
    bits_back_codec: BitsBackCodec, posterior: Posterior, y: np.ndarray
) -> None:
    with torch.no_grad():
        expected = bits_back_codec.h_a(torch.from_numpy(y)[None].float())[0].numpy()
    found = np.concatenate(posterior.amortized(y))
    assert np.abs(found - expected).mean() < 0.01 * np.abs(expected).mean()


def test_the_slope_of_the_net_rate_is_that_of_autograd(
    bits_back_codec: BitsBackCodec, posterior: Posterior, y: np.ndarray
) -> None:
    q, epsilon = posterior.amortized(y), noise(0, posterior.amortized(y).mean.shape)
    leaves = [torch.from_numpy(values).float()[None].requires_grad_() for values in q]
    z = sample(leaves[0], leaves[1], torch.from_numpy(epsilon).float()[None])
    scales, means = bits_back_codec.h_s(z)[..., : y.shape[1], : y.shape[2]].chunk(2, dim=1)
    likelihood = gaussian_likelihood(
        bits_back_codec.gaussian_conditional, torch.from_numpy(y)[None].float(), scales, means
    )
    net = -likelihood.log().sum() - prior_density(bits_back_codec.entropy_bottleneck, z).log().sum()
    expected = torch.autograd.grad(net - 0.5 * leaves[1].sum(), leaves)
    found = posterior.slope(y.astype(np.float64), q, epsilon)
    for ours, theirs in zip(found, expected, strict=True):
        # h_s in integers: at sigma = 0.11 a mean that is off by 2^-9 changes its own slope by a tenth
        assert np.linalg.norm(ours - theirs[0].numpy()) < 0.1 * float(theirs.norm())


def test_every_way_of_adding_and_every_number_of_threads_finds_the_same_bits(
    posterior: Posterior, y: np.ndarray
) -> None:
    search, found, small = Search(3, 300), [], y[:, :4, :5]
    usual, threads = posterior.gradient, torch.get_num_threads()
    try:
        for product in (LimbProduct(), Float64Product()):
            for count in (1, 2):
                torch.set_num_threads(count)
                posterior.gradient = ExactGradient(posterior.h_s, product)
                found.append(np.stack(posterior(small, search)))
    finally:
        posterior.gradient = usual
        torch.set_num_threads(threads)
    assert all(np.array_equal(found[0], other) for other in found[1:])
    assert not np.array_equal(found[0], np.stack(posterior.amortized(small)))


def test_densities_have_the_slopes_and_cdfs_of_their_float_twins() -> None:
    torch.manual_seed(0)
    bottleneck = BitsBackCodec(N=8, M=12, lmbda=0.01).entropy_bottleneck
    with torch.no_grad():
        for parameter in bottleneck.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    portable = PortableDensity.of(bottleneck)
    z = (3 * torch.randn(1, 8, 5, 4)).requires_grad_()
    (expected,) = torch.autograd.grad(-prior_density(bottleneck, z).log().sum(), z)
    found = portable.surprise_slope(z.detach().double().numpy().reshape(8, -1)).reshape(8, 5, 4)
    assert np.abs(found - expected[0].numpy()).max() < 1e-5
    edges = np.linspace(-60, 60, 2401)
    mass = np.diff(portable.cdf(edges), axis=1)
    middle = torch.from_numpy((edges[1:] + edges[:-1]) / 2).float().expand(1, 8, 1, -1)
    assert np.abs(mass / 0.05 - prior_density(bottleneck, middle).detach().numpy()[0, :, 0]).max() < 1e-4


def test_the_density_of_z_is_a_density() -> None:
    bottleneck = BitsBackCodec(N=8, M=12, lmbda=0.01).entropy_bottleneck
    values = torch.linspace(-300, 300, 60_001).expand(1, 8, 1, -1)
    assert prior_density(bottleneck, values).sum(-1).detach().numpy() * 0.01 == pytest.approx(1.0, abs=2e-3)


def test_the_gradient_of_the_bits_of_y_is_that_of_autograd(bits_back_codec: BitsBackCodec) -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(-5, 6, (1, 12, 6, 6), generator=generator).float()
    scale = (2 * torch.rand(y.shape, generator=generator)).requires_grad_()
    mean = torch.randn(y.shape, generator=generator).requires_grad_()
    loss = -gaussian_likelihood(bits_back_codec.gaussian_conditional, y, scale, mean).log().sum()
    expected = torch.autograd.grad(loss, (scale, mean))
    found = box_gradient(*(value.detach().double().numpy() for value in (y, scale, mean)))
    for ours, theirs in zip(found, expected, strict=True):
        assert np.abs(ours - theirs.numpy()).max() < 1e-5 * float(theirs.abs().max())


def test_noise_is_normal_and_a_function_of_step_and_place() -> None:
    drawn = noise(7, (64, 20, 20))
    assert drawn.mean() == pytest.approx(0.0, abs=0.02)
    assert drawn.std() == pytest.approx(1.0, abs=0.02)
    assert np.array_equal(noise(7, (64, 400)).ravel(), drawn.ravel())
    assert not np.array_equal(noise(8, (64, 20, 20)), drawn)


def test_deviations_stay_within_what_grids_are_made_for(posterior: Posterior, y: np.ndarray) -> None:
    q = posterior(y, Search(3, 60_000))
    assert isinstance(q, Gaussians)
    assert q.log_variance.min() >= -14
    assert q.log_variance.max() <= 6
