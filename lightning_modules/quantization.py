"""Quantizers: how a latent meets the grid `offset + Z`. Pure functions of (value, offset), same shape out.

The rate and the reconstruction both see the returned value, so training noise, straight-through and the final
hard rounding run through the same codec code. Annealed relaxations are in `lightning_modules/sga/`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Quantizer = Callable[[Tensor, Tensor], Tensor]
"""`(value, offset) -> value`: a point on, or near, the grid `offset + Z`. Same shape in and out."""


def hard_round(value: Tensor, offset: Tensor) -> Tensor:
    """Return the nearest point of the grid, ties to even. Gradient: zero to `value`, one to `offset`."""
    return torch.round(value - offset) + offset


def straight_through(value: Tensor, offset: Tensor) -> Tensor:
    """Return `hard_round`, with gradient one to `value`, zero to `offset` (Bengio et al. 2013).

    The value is that of `hard_round` to the last bit: what is added to it for the gradient's sake is zero.
    """
    return hard_round(value, offset).detach() + (value - value.detach())


def uniform_noise(value: Tensor, offset: Tensor) -> Tensor:
    """Return value + U(-1/2, 1/2): rounding while training (Balle et al. 2017, section 3); any offset serves."""
    del offset
    return value + (torch.rand_like(value) - 0.5)
