"""Rate and quality of one really decoded file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from lightning_modules.metrics.ms_ssim import ms_ssim
from lightning_modules.metrics.pixels import band_rows, pixels
from lightning_modules.records import CodedImage, PixelFormat

OPAQUE_RGB = PixelFormat()
LEAST_SIDE = 64
"""Of a picture that every distance takes."""

Distance = Callable[[Tensor, Tensor], Tensor]
"""(x, x_hat), each (B, 3, H, W) in [0, 1] -> (B,), NaN where it is not defined: a number for each picture."""


@runtime_checkable
class SetDistance(Protocol):
    """A number for all pictures of all processes together."""

    def to(self, device: torch.device) -> None: ...

    def reset(self) -> None: ...

    def update(self, x: Tensor, x_hat: Tensor) -> None:
        """Take in pictures and reconstructions, each (B, 3, H, W) in [0, 1]."""

    def compute(self) -> float:
        """Return the distance so far; all processes have to call it."""


def try_distances(distances: Mapping[str, Distance], device: torch.device) -> None:
    """Measure a blank picture: what is missing for a distance is better said before the first one than after it."""
    blank = torch.zeros(1, 3, LEAST_SIDE, LEAST_SIDE, device=device)
    for distance in distances.values():
        distance(blank, blank)


def image_distances(image: CodedImage, distances: Mapping[str, Distance]) -> dict[str, float | None]:
    """Return each distance of a picture and what its file decodes to; None where it is not defined."""
    if not distances:
        return {}
    x, x_hat = shown(image)
    with torch.no_grad():
        values = {name: float(distance(x, x_hat)) for name, distance in distances.items()}
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def psnr(x: Tensor, x_hat: Tensor) -> float:
    """Return 10 log10(255^2 / mse) of 8-bit pixels in dB, over all pixels and channels; infinite for equal ones."""
    rows = band_rows(x.shape[-1])
    bands = zip(x.split(rows, -2), x_hat.split(rows, -2), strict=True)
    # Squares of integers, so the sum is exact in any number of bands.
    total = sum(int((a.int() - b.int()).square_().sum()) for a, b in bands)
    mse = total / x.numel()
    return 10.0 * math.log10(255.0**2 / mse) if mse > 0.0 else math.inf


def image_quality(x: Tensor, x_hat: Tensor, pixel_format: PixelFormat = OPAQUE_RGB) -> dict[str, float]:
    """`psnr` in dB and `ms_ssim` (NaN for a side below 161) of the 8-bit pixels of (1, 3, H, W) tensors.

    Grayscale pictures are compared in their one channel, which is how they are written.
    """
    original, decoded = pixels(x, pixel_format), pixels(x_hat, pixel_format)
    return {"psnr": psnr(original, decoded), "ms_ssim": ms_ssim(original, decoded)}


def image_rates(image: CodedImage) -> dict[str, float]:
    """Return bits per pixel: of the whole file (`bpp`), of the estimate, and of the entropy-coded payload."""
    num_pixels = image.x.shape[-2] * image.x.shape[-1]
    return {
        "bpp": 8 * image.num_bytes / num_pixels,
        "bpp_estimated": image.estimated_bits / num_pixels,
        "bpp_payload": 8 * image.payload_bytes / num_pixels,
    }


def shown(image: CodedImage) -> tuple[Tensor, Tensor]:
    """Return the 8-bit pixels of the picture and of what its file decodes to, (1, 3, H, W) in [0, 1] each."""
    x, x_hat = (
        pixels(value, image.format).float().div(255.0).expand(3, -1, -1)[None] for value in (image.x, image.x_hat)
    )
    return x, x_hat
