"""Multi-scale structural similarity (Wang, Simoncelli and Bovik 2003), per colour channel, then averaged.

The choices are those of the codecs' tables (pytorch-msssim's): 11-tap Gaussian windows of sigma 1.5 without
padding, five scales by 2x2 means, K1 = 0.01, K2 = 0.03. Filtering x + y, x - y and their squares, instead of
x, y, x^2, y^2 and x y, is a fifth less work, and separable windows save most of what torchmetrics spends.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.metrics.pixels import band_rows

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, finest first (section 3.2)."""

WINDOW = 11
SIGMA = 1.5
C1 = (0.01 * 255) ** 2
C2 = (0.03 * 255) ** 2

MIN_SIDE = (WINDOW - 1) * 2 ** (len(WEIGHTS) - 1) + 1
"""Smallest height and width, 161: below, the coarsest scale is no larger than a window."""


def ms_ssim(x: Tensor, y: Tensor) -> float:
    """Compute MS-SSIM of pictures (C, H, W) with values 0 to 255: 1 for equal ones; NaN below `MIN_SIDE`."""
    if min(x.shape[-2:]) < MIN_SIDE:
        return float("nan")
    channels = [_channel_ms_ssim(*planes) for planes in zip(x, y, strict=True)]
    return sum(channels) / len(channels)


def _channel_ms_ssim(x: Tensor, y: Tensor) -> float:
    """Planes (H, W) -> product over scales of contrast-structure, and of luminance at the coarsest."""
    product = 1.0
    for weight in WEIGHTS[:-1]:
        product *= max(0.0, _mean_over_windows(x, y, lambda _, structure: structure)) ** weight
        x, y = _halved(x), _halved(y)
    return product * max(0.0, _mean_over_windows(x, y, torch.mul)) ** WEIGHTS[-1]


def _mean_over_windows(x: Tensor, y: Tensor, value: Callable[[Tensor, Tensor], Tensor]) -> float:
    """Mean of `value(luminance, structure)` over all window positions of two planes, a band of rows at a time."""
    height, width = x.shape[0] - WINDOW + 1, x.shape[1] - WINDOW + 1
    total = 0.0
    for start in range(0, height, band_rows(width)):
        seen = slice(start, min(start + band_rows(width), height) + WINDOW - 1)
        total += float(value(*_luminance_and_structure(x[seen].float(), y[seen].float())).sum())
    return total / (height * width)


def _halved(plane: Tensor) -> Tensor:
    """(H, W) -> (H/2, W/2), rounded up: 2x2 means. An odd side starts with a zero, as in the field's tables."""
    (height, width), above = plane.shape, plane.shape[0] % 2
    rows, halves = max(1, band_rows(width) // 2), []
    for start in range(0, (height + 1) // 2, rows):
        band = plane[max(0, 2 * start - above) : 2 * (start + rows) - above].float()
        halves.append(F.avg_pool2d(band[None], 2, padding=(above if start == 0 else 0, width % 2))[0])
    return torch.cat(halves)


def _luminance_and_structure(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM's two factors at every window position, (H - 10, W - 10) each.

    With s = x + y, d = x - y: 2 mu_x mu_y = (mu_s^2 - mu_d^2) / 2, mu_x^2 + mu_y^2 = (mu_s^2 + mu_d^2) / 2,
    and the same for covariance and variances.
    """
    s, d = x + y, x - y
    mean_s, mean_d, mean_s2, mean_d2 = _window_means(torch.stack([s, d, s * s, d * d]))
    mean_s, mean_d = mean_s.square(), mean_d.square()
    variance_s, variance_d = mean_s2 - mean_s, mean_d2 - mean_d
    luminance = (mean_s - mean_d + 2 * C1) / (mean_s + mean_d + 2 * C1)
    structure = (variance_s - variance_d + 2 * C2) / (variance_s + variance_d + 2 * C2)
    return luminance, structure


def _window_means(planes: Tensor) -> Tensor:
    """(N, H, W) -> (N, H - 10, W - 10): Gaussian-weighted means, rows then columns."""
    return _slide(_slide(planes, 1), 2)


def _slide(planes: Tensor, axis: int) -> Tensor:
    taps = torch.exp(-((torch.arange(WINDOW) - WINDOW // 2) ** 2) / (2 * SIGMA**2))
    weights = (taps / taps.sum()).tolist()
    length = planes.shape[axis] - WINDOW + 1
    result = planes.narrow(axis, WINDOW // 2, length) * weights[WINDOW // 2]
    for offset in range(WINDOW // 2):
        mirror = WINDOW - 1 - offset
        both = planes.narrow(axis, offset, length) + planes.narrow(axis, mirror, length)
        result.add_(both, alpha=weights[offset])
    return result
