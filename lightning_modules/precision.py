"""Full precision for what mixed precision may not touch: latents, their parameters and their rates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def at_least_float32(value: Tensor) -> Tensor:
    """Return half precisions as float32, and float32 and float64 as they are."""
    return value.to(torch.promote_types(value.dtype, torch.float32))


@contextmanager
def coding_path(network: nn.Module) -> Iterator[None]:
    """Compute without gradients and without autocast, also under a trainer of mixed precision.

    What sender and receiver compute must not depend on the precision that either was trained or started with.
    """
    device = next((parameter.device.type for parameter in network.parameters()), "cpu")
    with torch.no_grad(), torch.autocast(device, enabled=False):
        yield
