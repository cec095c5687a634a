"""Peak signal-to-noise ratio, of pictures and of batches."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image
from torch import Tensor


def psnr(image: Image.Image, other: Image.Image) -> float:
    """Compute 10 log10(255^2 / MSE) in dB, MSE over pixels and three channels; infinite for equal pictures."""
    first, second = (np.asarray(picture.convert("RGB"), dtype=np.float32) for picture in (image, other))
    mse = float(np.mean(np.square(first - second), dtype=np.float64))
    return 10 * math.log10(255**2 / mse) if mse else math.inf


def peak_psnr(x: Tensor, x_hat: Tensor) -> Tensor:
    """Compute 10 log10(max(x_hat)^2 / mse) in dB, (B,), of two (B, 3, H, W) in [0, 1].

    Their script gives torchmetrics no range, which then is that of the reconstruction: where it does not reach white,
    the number is below the usual PSNR, by 20 log10(max(x_hat)). Infinite for equal pictures.
    """
    mse = (x.double() - x_hat.double()).square().flatten(1).mean(dim=1)
    peak = x_hat.double().flatten(1).amax(dim=1)
    return (10.0 * (peak.square() / mse).log10()).float()
