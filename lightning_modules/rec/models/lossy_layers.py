"""Layers of the lossy models, as functions of their widths; kernels, strides and places of GDN as in iREC.

Pictures are continued by zeros where kernels reach beyond them (the published code reflects them, which takes pictures
of 128 pixels and more), and kernels are learned directly (there in a Fourier basis, an orthonormal change of
coordinates).
"""

from __future__ import annotations

import math
from typing import TypeVar

from compressai.layers import GDN
from torch import nn

TRUNCATION = 2.0
TRUNCATED_DEVIATION = 0.87962566103423978
"""Deviation of a standard normal number within +-TRUNCATION."""

Convolution = TypeVar("Convolution", nn.Conv2d, nn.ConvTranspose2d)


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    """Return a layer that divides sides by the stride, rounded up."""
    return initialized(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=bias))


def up(inputs: int, outputs: int, kernel: int = 5, stride: int = 2) -> nn.ConvTranspose2d:
    """Return a layer that multiplies sides by the stride, exactly."""
    return initialized(nn.ConvTranspose2d(inputs, outputs, kernel, stride, kernel // 2, stride - 1))


def initialized(layer: Convolution) -> Convolution:
    """Draw truncated normal weights of variance 1 / (inputs * taps), no bias: first pictures are small."""
    taps = layer.kernel_size[0] * layer.kernel_size[1]
    deviation = 1.0 / (TRUNCATED_DEVIATION * math.sqrt(layer.in_channels * taps))
    nn.init.trunc_normal_(layer.weight, std=deviation, a=-TRUNCATION * deviation, b=TRUNCATION * deviation)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def halving(width: int) -> nn.Sequential:
    """Build (B, 3, H, W) -> (B, width, H / 8, W / 8); features at H / 2 are those after the first two layers."""
    layers: list[nn.Module] = []
    for inputs in (3, width, width):
        layers += [conv(inputs, width, 5, 2), GDN(width)]
    return nn.Sequential(*layers)


def doubling(width: int) -> nn.Sequential:
    """Build (B, width, h, w) -> (B, 3, 16 h, 16 w)."""
    layers: list[nn.Module] = []
    for _ in range(3):
        layers += [up(width, width), GDN(width, inverse=True)]
    return nn.Sequential(*layers, up(width, 3))
