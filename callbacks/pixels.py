"""What a viewer sees of a decoded tensor: 8-bit pixels, as written to PNG and as quality is measured."""

from __future__ import annotations

from torch import Tensor

from lightning_modules.codec import PixelFormat


def pixels(x: Tensor, pixel_format: PixelFormat) -> Tensor:
    """(1, 3, H, W), nominally in [0, 1] -> uint8 (3, H, W), or (1, H, W) for a grayscale picture.

    Values are clamped and rounded to nearest; gray is the mean of the three channels before that.
    """
    values = x[0].float().clamp(0.0, 1.0) * 255.0
    if pixel_format.gray:
        values = values.mean(0, keepdim=True)
    return values.round().byte()
