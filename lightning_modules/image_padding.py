"""Continuing pictures to the size that transforms need, and cropping back to the size they should have."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lightning_modules.records import ImageSize


def crop(value: Tensor, size: ImageSize) -> Tensor:
    """Return the top-left `size` of (..., H, W), a view. Strides round sizes up: the surplus is right and below.

    Raises `ValueError` when there is less than that.
    """
    height, width = size
    if value.shape[-2] < height or value.shape[-1] < width:
        raise ValueError(f"cannot crop {tuple(value.shape[-2:])} to {size}: it is smaller")
    return value[..., :height, :width]


def ceil_div(size: ImageSize, stride: int) -> ImageSize:
    """Return the size after transforms of total stride `stride` that round up, at every step or once alike."""
    return -(-size[0] // stride), -(-size[1] // stride)


def padded_size(size: ImageSize, stride: int) -> ImageSize:
    """Return the size of what `pad_to_multiple` gives."""
    rows, columns = ceil_div(size, stride)
    return rows * stride, columns * stride


def pad_to_multiple(value: Tensor, stride: int) -> Tensor:
    """Continue (B, C, H, W) by its last row and column, right and below, to multiples of `stride`."""
    height, width = value.shape[-2:]
    return F.pad(value, (0, -width % stride, 0, -height % stride), mode="replicate")
