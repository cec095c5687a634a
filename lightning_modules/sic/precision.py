"""What mixed precision may not touch: latents, their parameters and their rates."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(value: Tensor) -> Tensor:
    """Half precisions -> float32; float32 and float64 as they are."""
    return value.to(torch.promote_types(value.dtype, torch.float32))
