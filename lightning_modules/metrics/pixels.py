"""What a viewer sees of a decoded tensor: 8-bit pixels, as written to PNG and as quality is measured."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules.records import PixelFormat

BAND_PIXELS = 1 << 20
"""Pixels of the rows that are worked on at a time, so that copies of a large picture never exist as a whole."""


def band_rows(width: int) -> int:
    """Return the number of rows of one band, at least 1."""
    return max(1, BAND_PIXELS // width)


def pixels(x: Tensor, pixel_format: PixelFormat) -> Tensor:
    """Return uint8 (3, H, W), or (1, H, W) for a grayscale picture, of (1, 3, H, W), nominally in [0, 1].

    Values are clamped and rounded to nearest; gray is the mean of the three channels before that.
    """
    height, width = x.shape[-2:]
    result = torch.empty(1 if pixel_format.gray else 3, height, width, dtype=torch.uint8, device=x.device)
    for band, levels in zip(x[0].split(band_rows(width), 1), result.split(band_rows(width), 1), strict=True):
        values = band.float().clamp(0.0, 1.0).mul_(255.0)
        if pixel_format.gray:
            values = values.mean(0, keepdim=True)
        levels.copy_(values.round_())
    return result
