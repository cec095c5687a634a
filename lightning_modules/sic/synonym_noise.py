"""The detail in place of groups that are not coded: integers near the hyperprior's means.

means: (B, c, h, w) hyper-means of the uncoded channels, from z_hat alone. Gradients pass to them as if nothing were
rounded. Many draws of one picture lie one after the other in the batch: all pictures' first, then all their second.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules.quantization import straight_through


def uniform_detail(means: Tensor, draws: Tensor, reach: float) -> Tensor:
    """Compute round(means + U(-reach, reach)), (M B, c, h, w), for draws (M, B, c, h, w) from [0, 1)."""
    return _rounded(means + reach * (2 * draws - 1)).flatten(0, 1)


def normal_detail(means: Tensor, scales: Tensor, draws: Tensor) -> Tensor:
    """Compute round(means + scales N(0, 1)). scales: raw hyper-scales. draws: (M, B, c, h, w), standard normal."""
    return _rounded(means + scales * draws).flatten(0, 1)


def mean_detail(means: Tensor) -> Tensor:
    """Compute round(means): one deterministic preview, (B, c, h, w)."""
    return _rounded(means)


def _rounded(value: Tensor) -> Tensor:
    return straight_through(value, torch.zeros_like(value))
