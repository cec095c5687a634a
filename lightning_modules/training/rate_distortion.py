"""Rate and distortion: loss = lmbda * mse + bpp, with mse on the 0-255 scale (Minnen et al. 2018).

bits: a sum over an image. bpp: bits / (H * W), colour channels not counted. mse: mean over pixels and
channels, so lmbda is the papers' 0.001 ... 0.08 for pixels in [0, 1] and in 0..255 alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class RateDistortion(NamedTuple):
    """Every term per image, (B,): loss = lmbda * mse + bpp; `bpp_parts` names the share of each latent."""

    loss: Tensor
    mse: Tensor
    bpp: Tensor
    bpp_parts: dict[str, Tensor]


def bits(likelihood: Tensor) -> Tensor:
    """Compute the information content of probabilities (B, ...), (B,) in bits, float32 at any precision of inputs."""
    return likelihood.float().log().flatten(1).sum(1) / -math.log(2.0)


def mse_255(x: Tensor, x_hat: Tensor) -> Tensor:
    """Compute the mean squared error of (B, C, H, W) in [0, 1], (B,) in squared 8-bit levels; x_hat is not clamped."""
    return (x_hat.float() - x.float()).square().flatten(1).mean(1) * 255.0**2


def rate_distortion(x: Tensor, x_hat: Tensor, likelihoods: Mapping[str, Tensor], lmbda: float) -> RateDistortion:
    """Compute the Lagrangian of each image. x, x_hat: (B, 3, H, W)."""
    num_pixels = x.shape[-2] * x.shape[-1]
    parts = {name: bits(likelihood) / num_pixels for name, likelihood in likelihoods.items()}
    bpp = torch.stack(list(parts.values())).sum(0)
    mse = mse_255(x, x_hat)
    return RateDistortion(lmbda * mse + bpp, mse, bpp, parts)
