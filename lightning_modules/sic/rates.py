"""Bits of y on the integers under Gaussians with free means, group by group.

y is coded as round(y), not as a distance from the means: synthesis and context were trained on integers.
"""

from __future__ import annotations

import math

import torch
from compressai.entropy_models import GaussianConditional
from torch import Tensor

from lightning_modules.densities import box_likelihood
from lightning_modules.precision import at_least_float32

LEAST = 1e-9
"""Least likelihood, 29.9 bits: about what an escape costs in a file."""


def lattice_likelihood(conditional: GaussianConditional, values: Tensor, scales: Tensor, means: Tensor) -> Tensor:
    """Compute the mass of N(means, scales^2) within 1/2 of each value; all (B, C, h, w).

    scales are raw, bounded below at 0.11 with a gradient that passes when it leads back. The result is cut off at
    1e-9, with no gradient beyond.
    """
    values, scales, means = (at_least_float32(value) for value in (values, scales, means))
    scales = conditional.lower_bound_scale(scales)
    return torch.clamp(box_likelihood((values - means).abs(), scales), LEAST, 1.0)


def group_bits(likelihoods: Tensor, groups: int) -> Tensor:
    """Sum the bits of each group of channels, (B, L), from likelihoods (B, C, h, w)."""
    return likelihoods.unflatten(1, (groups, -1)).log().flatten(2).sum(2) / -math.log(2.0)
