"""Probabilities of the latents, elementwise: what training, evaluation and tables have in common.

CompressAI's modules hold the parameters (so that checkpoints load by name); the arithmetic is here because
its factorised likelihood subtracts two sigmoids near one, which loses the right tail in float32
(a true 5.3e-8 comes out as 1.2e-7).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from torch import Tensor

MAX_HALF_RANGE = 2048
"""Widest table of z on either side of the median; what lies beyond is sent as an escape."""


def gaussian_likelihood(conditional: GaussianConditional, y_hat: Tensor, scales: Tensor, means: Tensor) -> Tensor:
    """Return P(y_hat | z): N(means, scales) over a unit box around y_hat; all (B, M, h, w), float32.

    Both ends are evaluated in the left tail (Balle et al. 2018, eq. 6). scales is bounded below at 0.11 and the
    result at 1e-9, with gradients that pass when they push back inside.
    """
    distance = (y_hat.float() - means.float()).abs()
    scales = conditional.lower_bound_scale(scales.float())
    return conditional.likelihood_lower_bound(box_likelihood(distance, scales))


def box_likelihood(distance: Tensor, scales: Tensor) -> Tensor:
    """Return the mass of N(0, scales) within 1/2 of each distance >= 0."""
    return _standard_normal_cdf((0.5 - distance) / scales) - _standard_normal_cdf((-0.5 - distance) / scales)


def _standard_normal_cdf(value: Tensor) -> Tensor:
    return 0.5 * torch.erfc(value * -(2.0**-0.5))


def factorized_likelihood(bottleneck: EntropyBottleneck, z_hat: Tensor) -> Tensor:
    """Return P(z_hat) under the density of each channel (Balle et al. 2018, appendix 6.1): (B, N, h, w) -> same.

    Bounded below at 1e-9 like `gaussian_likelihood`.
    """
    channels_first = z_hat.float().transpose(0, 1)  # (N, B, h, w)
    values = channels_first.reshape(channels_first.shape[0], 1, -1)
    with torch.autocast(values.device.type, enabled=False):  # its matrix products would lose the tails
        lower = bottleneck._logits_cumulative(values - 0.5, stop_gradient=False)
        upper = bottleneck._logits_cumulative(values + 0.5, stop_gradient=False)
    # Mirror right-tail boxes into the accurate left tail. (A sign function would be 0 for a box at the median.)
    flip = torch.where(lower + upper > 0, -1.0, 1.0)
    likelihood = (torch.sigmoid(flip * upper) - torch.sigmoid(flip * lower)).abs()
    likelihood = bottleneck.likelihood_lower_bound(likelihood)
    return likelihood.reshape(channels_first.shape).transpose(0, 1)


def medians(bottleneck: EntropyBottleneck) -> Tensor:
    """Return the offset of z's grid, one per channel: (1, N, 1, 1)."""
    return bottleneck.quantiles[:, 0, 1].detach().reshape(1, -1, 1, 1)


@torch.no_grad()
def update_medians(bottleneck: EntropyBottleneck, radius: float = 1e5) -> None:
    """Solve CDF(q) = 1/2 for each channel by bisection, in float64, and store it in `quantiles[:, :, 1]`.

    The rate loss gives the medians no gradient; solving for them replaces the auxiliary optimizer of the
    original code, and works on checkpoints whose medians were never trained.
    """
    weights = _DoubleWeights(bottleneck)
    low = np.full((bottleneck.channels, 1, 1), -radius)
    high = np.full((bottleneck.channels, 1, 1), radius)
    for _ in range(64):
        middle = (low + high) / 2
        below = weights.logits(middle) < 0
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    bottleneck.quantiles[:, :, 1] = torch.from_numpy((low + high) / 2)[:, :, 0].to(bottleneck.quantiles)


def factorized_pmfs(bottleneck: EntropyBottleneck, tail: float) -> tuple[list[np.ndarray], list[int]]:
    """Return the probability of each integer distance from the median, per channel, in float64.

    Returns the pmfs, and for each the distance its first entry stands for. The range holds all but about
    `tail` of the mass, at most MAX_HALF_RANGE on either side.
    """
    weights = _DoubleWeights(bottleneck)
    edges = np.arange(-MAX_HALF_RANGE, MAX_HALF_RANGE + 2) - 0.5
    logits = weights.logits(medians(bottleneck).cpu().double().numpy().reshape(-1, 1, 1) + edges)[:, 0]
    limit = math.log(tail / 2)
    pmfs, lowest = [], []
    for row in logits:
        inside = np.flatnonzero((row[1:] > limit) & (row[:-1] < -limit))
        first, last = int(inside[0]), int(inside[-1])
        pmfs.append(_box_mass(row[first : last + 1], row[first + 1 : last + 2]))
        lowest.append(first - MAX_HALF_RANGE)
    return pmfs, lowest


def _box_mass(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Return sigmoid(upper) - sigmoid(lower), evaluated in whichever tail keeps its digits."""
    flip = np.where(lower + upper > 0, -1.0, 1.0)
    return np.abs(1 / (1 + np.exp(-flip * upper)) - 1 / (1 + np.exp(-flip * lower)))


class _DoubleWeights:
    """The bottleneck's cumulative network in float64 numpy, for medians and tables."""

    def __init__(self, bottleneck: EntropyBottleneck) -> None:
        def double(tensor: Tensor) -> np.ndarray:
            return tensor.detach().cpu().double().numpy()

        self.matrices = [np.logaddexp(0.0, double(matrix)) for matrix in bottleneck.matrices]
        self.biases = [double(bias) for bias in bottleneck.biases]
        self.factors = [np.tanh(double(factor)) for factor in bottleneck.factors]

    def logits(self, values: np.ndarray) -> np.ndarray:
        """Return the logits of the CDF, (N, 1, K), at values (N, 1, K)."""
        for index, matrix in enumerate(self.matrices):
            values = matrix @ values + self.biases[index]
            if index < len(self.factors):
                values = values + self.factors[index] * np.tanh(values)
        return values
