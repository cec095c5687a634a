"""What mixed precision may not touch: latents, their parameters and their rates."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

Method = TypeVar("Method", bound=Callable[..., Any])


def at_least_float32(value: Tensor) -> Tensor:
    """Half precisions -> float32; float32 and float64 as they are."""
    return value.to(torch.promote_types(value.dtype, torch.float32))


def full_precision(method: Method) -> Method:
    """Run a codec's method without gradients and in float32, also under a trainer of mixed precision.

    What sender and receiver compute must not depend on the precision that either was trained or started with.
    """

    @functools.wraps(method)
    def run(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        device = next(self.parameters()).device.type
        with torch.no_grad(), torch.autocast(device, enabled=False):
            return method(self, *args, **kwargs)

    return cast(Method, run)
