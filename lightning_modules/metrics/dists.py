"""Deep image structure and texture similarity as a distance: Ding, Ma, Wang, Simoncelli 2020 (DISTS)."""

from __future__ import annotations

import functools
from typing import cast

import torch
from torch import Tensor, nn

from lightning_modules.metrics.lpips import PUBLISHED_AT, TRUNKS, published_weights


class Dists:
    """(x, x_hat), each (B, 3, H, W) in [0, 1] -> (B,): 0 for equal pictures, at the size that they have.

    The network is torchmetrics', which brings the weights of its own; VGG 16 is torchvision's file in PyTorch's cache,
    or fetched. Read when it is first needed; raises `CodingError` then, if there is none. Not a module, so that its
    weights enter no checkpoint.
    """

    def __init__(self, source: str = PUBLISHED_AT) -> None:
        self.source = source

    @functools.cached_property
    def network(self) -> nn.Module:
        from torchmetrics.functional.image.dists import DISTSNetwork

        published_weights(TRUNKS["vgg"], self.source)  # checked, and there when the network asks for it
        return cast(nn.Module, DISTSNetwork().requires_grad_(False).eval())

    def __call__(self, x: Tensor, x_hat: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            distance = self.network.to(x.device)(x_hat.float(), x.float(), require_grad=x_hat.requires_grad)
        return cast(Tensor, distance).reshape(len(x))
