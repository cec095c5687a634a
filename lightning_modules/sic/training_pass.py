"""One differentiable pass through SIC: rates under noise, everything else on rounded latents ("mixed" quantisation).

    x --code--> Coding --group_bpp--> rates
                Coding, details --synonyms--> latents --reconstruct--> pictures --compare--> Terms
                                                                       pictures --y_of--> y again --> Consistency

Random numbers are arguments, so a step is a function of its inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.densities import factorized_likelihood
from lightning_modules.quantization import straight_through
from lightning_modules.records import ImageSize
from lightning_modules.sic.losses import Terms
from lightning_modules.sic.networks import SicNetworks
from lightning_modules.sic.rates import group_bits, lattice_likelihood
from lightning_modules.training.rate_distortion import bits

Distance = Callable[[Tensor, Tensor], Tensor]
"""(x, x_hat), each (B, 3, H, W) in [0, 1] -> (B,), a perceptual distance."""


class Coding(NamedTuple):
    """The latents of a batch with their parameters and the rate of z.

    y, y_hat, scales, means, hyper_scales, hyper_means: (B, C, h, w). z_bpp: scalar. num_pixels: of the batch, B H W.
    """

    y: Tensor
    y_hat: Tensor
    scales: Tensor
    means: Tensor
    hyper_scales: Tensor
    hyper_means: Tensor
    z_bpp: Tensor
    num_pixels: int


def code(networks: SicNetworks, x: Tensor, z_noise: Tensor) -> Coding:
    """Code x (B, 3, H, W), sides multiples of the stride. z_noise: from [-1/2, 1/2), of z's shape."""
    y, z = networks.latents_of(x)
    return _coding(networks, x, y, z, z + z_noise)


def code_rounded(networks: SicNetworks, x: Tensor) -> Coding:
    """Code x (B, 3, H, W) of any size. z_bpp is that of z_hat: what files will cost."""
    y, z = networks.latents_of(x)
    return _coding(networks, x, y, z, networks.round_z(z))


def _coding(networks: SicNetworks, x: Tensor, y: Tensor, z: Tensor, z_to_rate: Tensor) -> Coding:
    hyper = networks.features_of_z(networks.round_z(z))
    y_hat = straight_through(y, torch.zeros_like(y))
    scales, means = networks.parameters_of_y(hyper, y_hat)
    num_pixels = x.shape[0] * x.shape[2] * x.shape[3]
    z_bpp = bits(factorized_likelihood(networks.entropy_bottleneck, z_to_rate)).sum() / num_pixels
    hyper_scales, hyper_means = hyper.chunk(2, dim=1)
    return Coding(y, y_hat, scales, means, hyper_scales, hyper_means, z_bpp, num_pixels)


def group_bpp(networks: SicNetworks, coding: Coding, values: Tensor) -> Tensor:
    """Compute the bpp of the groups of `values`, (L,).

    values: y plus noise from [-1/2, 1/2) for the loss, y_hat for what files will cost. The parameters come from
    y_hat in both cases.
    """
    likelihoods = lattice_likelihood(networks.gaussian_conditional, values, coding.scales, coding.means)
    return group_bits(likelihoods, networks.groups).sum(0) / coding.num_pixels


def synonyms(coding: Coding, details: Tensor) -> Tensor:
    """Join y_hat and M times its first C - c channels with details (M B, c, h, w): ((1 + M) B, C, h, w)."""
    count, coded = len(details) // len(coding.y_hat), coding.y_hat.shape[1] - details.shape[1]
    sampled = torch.cat([coding.y_hat[:, :coded].repeat(count, 1, 1, 1), details], dim=1)
    return torch.cat([coding.y_hat, sampled])


def reconstruct(networks: SicNetworks, latents: Tensor, size: ImageSize) -> Tensor:
    """Synthesize pictures of latents, (B, 3, *size) in [0, 1]."""
    return networks.picture_of(latents, size).clamp(0.0, 1.0)


def compare(x: Tensor, x_hat: Tensor, bpp: Tensor, distance: Distance) -> Terms:
    """Compute the terms of pictures x_hat, (M B, 3, H, W), M of each of x, (B, 3, H, W)."""
    x = x.repeat(len(x_hat) // len(x), 1, 1, 1)
    return Terms(F.mse_loss(x_hat, x), distance(x, x_hat).mean(), bpp)
