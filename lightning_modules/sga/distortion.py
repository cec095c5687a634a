"""Distortions other than the plain mean squared error: (x, x_hat) -> (B,), on the scale of squared 8-bit levels.

x, x_hat: (B, 3, H, W), x in [0, 1], x_hat not clamped. `lmbda` weighs what these return, as it weighs
`lightning_modules.training.rate_distortion.mse_255`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from lightning_modules.errors import CodingError
from lightning_modules.metrics.lpips import PerceptualDistance
from lightning_modules.training.rate_distortion import mse_255

Distortion = Callable[[Tensor, Tensor], Tensor]


class WeightedError:
    """Mean squared error with a weight for each pixel: a picture of one channel, brighter where errors count more.

    mask: its path; black counts nothing. Its mean is scaled to 1, so that bits are moved, not added.
    Raises `CodingError` for a mask that cannot be read, is black, or has another size than the picture.
    """

    def __init__(self, mask: str) -> None:
        self.mask = Path(mask)

    @functools.cached_property
    def weights(self) -> Tensor:
        """Read the weights, (H, W), of mean 1."""
        try:
            with Image.open(self.mask) as picture:
                levels = torch.from_numpy(np.asarray(picture.convert("L"), dtype=np.float32))
        except OSError as error:
            raise CodingError(f"{self.mask}: not a readable picture ({error}); give a grayscale PNG") from error
        if not bool(levels.any()):
            raise CodingError(f"{self.mask}: all black, so no error would count; paint what matters white")
        return levels / levels.mean()

    def __call__(self, x: Tensor, x_hat: Tensor) -> Tensor:
        if self.weights.shape != x.shape[-2:]:
            height, width = self.weights.shape
            raise CodingError(f"{self.mask}: {height}x{width} pixels, the picture {x.shape[-2]}x{x.shape[-1]}")
        squares = (x_hat.float() - x.float()).square() * self.weights.to(x.device)
        return squares.flatten(1).mean(1) * 255.0**2


class PerceptualError:
    """Mean squared error + weight * LPIPS, which keeps textures that look right at the same bits.

    weight: of a distance around 0.2 against squared levels around 100. trunk, weights: of
    `lightning_modules.metrics.lpips.PerceptualDistance`.
    """

    def __init__(self, weight: float, trunk: str, weights: str | None = None) -> None:
        self.weight = weight
        self.distance = PerceptualDistance(trunk, weights)

    def __call__(self, x: Tensor, x_hat: Tensor) -> Tensor:
        return mse_255(x, x_hat) + self.weight * self.distance(x, x_hat)


def ms_ssim_error(x: Tensor, x_hat: Tensor, scale: float = 1000.0) -> Tensor:
    """Compute scale * (1 - MS-SSIM), (B,), for sides of at least 161 pixels; raises `CodingError` for shorter ones.

    scale: brings it to the size that mean squared errors have, so that `lmbda` keeps its meaning roughly.
    """
    if min(x.shape[-2:]) <= 160:
        raise CodingError(f"MS-SSIM needs sides of at least 161 pixels, not {x.shape[-2]}x{x.shape[-1]}")
    similarity = multiscale_structural_similarity_index_measure(
        x_hat.float(), x.float(), data_range=1.0, reduction="none"
    )
    assert isinstance(similarity, Tensor)
    return scale * (1 - similarity)
