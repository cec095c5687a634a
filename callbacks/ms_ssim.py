"""Multi-scale structural similarity (Wang, Simoncelli and Bovik 2003), per colour channel, then averaged.

The choices are those of the codecs' tables (pytorch-msssim's): 11-tap Gaussian windows of sigma 1.5 without
padding, five scales by 2x2 means, K1 = 0.01, K2 = 0.03. Filtering x + y, x - y and their squares, instead of
x, y, x^2, y^2 and x y, is a fifth less work, and separable windows save most of what torchmetrics spends.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, finest first (section 3.2)."""

WINDOW = 11
SIGMA = 1.5
C1 = (0.01 * 255) ** 2
C2 = (0.03 * 255) ** 2

MIN_SIDE = (WINDOW - 1) * 2 ** (len(WEIGHTS) - 1) + 1
"""Smallest height and width, 161: below, the coarsest scale is no larger than a window."""


def ms_ssim(x: Tensor, y: Tensor) -> float:
    """Pictures (C, H, W) with values 0 to 255 -> 1 for equal ones, less otherwise; NaN below `MIN_SIDE`."""
    if min(x.shape[-2:]) < MIN_SIDE:
        return float("nan")
    channels = [_channel_ms_ssim(*planes) for planes in zip(x.float(), y.float(), strict=True)]
    return float(torch.stack(channels).mean())


def _channel_ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    """Planes (H, W) -> product over scales of contrast-structure, and of luminance at the coarsest."""
    product = torch.ones((), device=x.device)
    for weight in WEIGHTS[:-1]:
        _, structure = _luminance_and_structure(x, y)
        product = product * structure.mean().relu() ** weight
        x, y = (F.avg_pool2d(plane[None], 2, padding=_odd(plane))[0] for plane in (x, y))
    luminance, structure = _luminance_and_structure(x, y)
    return product * (luminance * structure).mean().relu() ** WEIGHTS[-1]


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


def _odd(plane: Tensor) -> tuple[int, int]:
    """Zero padding of `avg_pool2d` for odd sides, as in the field's tables."""
    return plane.shape[0] % 2, plane.shape[1] % 2
