"""Densities of the continuous z: the learned prior and the encoder's Gaussian, in floating point, differentiable.

What sender and receiver must agree on is computed elsewhere, exactly (`portable_density.py`).
"""

from __future__ import annotations

import math

import torch
from compressai.entropy_models import EntropyBottleneck
from torch import Tensor
from torch.nn import functional as F

FILTERS = (3, 3, 3)
"""Hidden widths of the cumulative network of each channel (the authors' choice)."""

INIT_SCALE = 10.0


def prior_density(bottleneck: EntropyBottleneck, z: Tensor) -> Tensor:
    """Compute p(z), (B, N, h, w): S(f)(1 - S(f)) f', f the logits of the CDF (Balle et al. 2018, appendix 6.1).

    f' is the product of the layers' Jacobians, so that no backward pass is needed for it. Bounded below at 1e-9, with
    a gradient that passes when it pushes back inside.
    """
    channels_first = z.float().transpose(0, 1)
    values = channels_first.reshape(channels_first.shape[0], 1, -1)
    with torch.autocast(values.device.type, enabled=False):
        logits, slope = logits_and_slope(bottleneck, values)
    density = torch.exp(F.logsigmoid(logits) + F.logsigmoid(-logits)) * slope
    return bottleneck.likelihood_lower_bound(density).reshape(channels_first.shape).transpose(0, 1)


def logits_and_slope(bottleneck: EntropyBottleneck, values: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the logits of the CDF and their derivative, both (N, 1, K), at values (N, 1, K)."""
    slope = torch.ones_like(values)
    factors = list(bottleneck.factors)
    for k, (matrix, bias) in enumerate(zip(bottleneck.matrices, bottleneck.biases, strict=True)):
        positive = F.softplus(matrix)
        values, slope = positive @ values + bias, positive @ slope
        if k < len(factors):
            bend, curve = torch.tanh(factors[k]), torch.tanh(values)
            values, slope = values + bend * curve, slope * (1 + bend * (1 - curve.square()))
    return values, slope


def inverse_gaussian_density(noise: Tensor, log_variance: Tensor) -> Tensor:
    """Compute 1 / q(z) at z = mean + exp(log_variance / 2) noise: its bits, negated, are those that z gives back."""
    return math.sqrt(2 * math.pi) * torch.exp((log_variance + noise.square()) / 2)


def sample(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """Draw z by reparametrisation; all of one shape."""
    return mean + torch.exp(log_variance / 2) * noise
