"""The four transforms of the mean-scale hyperprior (Minnen, Balle, Toderici 2018, table 1, without context).

    x --g_a--> y --h_a--> z          N channels inside, M channels of y
    z --h_s--> scales, means         y and z are 16 and 64 times smaller than x, rounding up
    y --g_s--> x_hat

Layer order and names equal CompressAI's `MeanScaleHyperprior`, so that its checkpoints load by name.
Convolutions pad with zeros; a stride of 2 halves and rounds up, a transposed one doubles exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from compressai.layers import GDN
from torch import Tensor, nn

from lightning_modules.tiling import TiledSequential

IMAGE_CHANNELS = 3
LATENT_STRIDE = 16
HYPER_STRIDE = 64

Rectifier = Callable[[], nn.Module]


def convolution(in_channels: int, out_channels: int, kernel: int, stride: int) -> nn.Conv2d:
    """Return a layer (B, in, H, W) -> (B, out, ceil(H/stride), ceil(W/stride)), for odd kernels."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2)


def upsampling(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    """Return a layer (B, in, H, W) -> (B, out, 2H, 2W) with kernel 5."""
    return nn.ConvTranspose2d(in_channels, out_channels, 5, 2, padding=2, output_padding=1)


def analysis(N: int, M: int) -> nn.Sequential:
    """Return g_a: (B, 3, H, W) -> (B, M, H/16, W/16)."""
    return nn.Sequential(
        convolution(IMAGE_CHANNELS, N, 5, 2),
        GDN(N),
        convolution(N, N, 5, 2),
        GDN(N),
        convolution(N, N, 5, 2),
        GDN(N),
        convolution(N, M, 5, 2),
    )


def synthesis(N: int, M: int) -> nn.Sequential:
    """Return g_s: (B, M, h, w) -> (B, 3, 16h, 16w)."""
    return nn.Sequential(
        upsampling(M, N),
        GDN(N, inverse=True),
        upsampling(N, N),
        GDN(N, inverse=True),
        upsampling(N, N),
        GDN(N, inverse=True),
        upsampling(N, IMAGE_CHANNELS),
    )


def from_latents(M: int, N: int, outputs: int, rectifier: Rectifier) -> list[nn.Module]:
    """Return layers of an h_a: (B, M, h, w) -> (B, outputs, h/4, w/4)."""
    return [
        convolution(M, N, 3, 1),
        rectifier(),
        convolution(N, N, 5, 2),
        rectifier(),
        convolution(N, outputs, 5, 2),
    ]


def to_parameters(widths: tuple[int, int, int], outputs: int, rectifier: Rectifier) -> nn.Sequential:
    """Return an h_s of three layers: (B, widths[0], h, w) -> (B, outputs, 4h, 4w)."""
    return nn.Sequential(
        upsampling(widths[0], widths[1]),
        rectifier(),
        upsampling(widths[1], widths[2]),
        rectifier(),
        convolution(widths[2], outputs, 3, 1),
    )


def hyper_analysis(N: int, M: int) -> nn.Sequential:
    """Return h_a: (B, M, h, w) -> (B, N, h/4, w/4). Sees y itself, not its magnitude."""
    return nn.Sequential(*from_latents(M, N, N, nn.LeakyReLU))


def hyper_synthesis(N: int, M: int) -> nn.Sequential:
    """Return h_s: (B, N, h, w) -> (B, 2M, 4h, 4w): raw scales first, then means (CompressAI's order)."""
    return to_parameters((N, M, M * 3 // 2), 2 * M, nn.LeakyReLU)


class MagnitudesFirst(TiledSequential):
    """Layers that see the magnitude of their input."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.abs())


def magnitude_analysis(N: int, M: int) -> nn.Sequential:
    """Return h_a of the scale hyperprior (Balle et al. 2018, figure 4): (B, M, h, w) -> (B, N, h/4, w/4)."""
    return MagnitudesFirst(*from_latents(M, N, N, nn.ReLU))


def scale_synthesis(N: int, M: int) -> nn.Sequential:
    """Return its h_s: (B, N, h, w) -> (B, 2M, 4h, 4w), raw scales, then unused means; scales are bounded later."""
    return to_parameters((N, N, N), 2 * M, nn.ReLU)


def fan_in(layer: nn.Conv2d | nn.ConvTranspose2d) -> float:
    """Return the number of inputs that meet in one output; a stride-2 transposed layer uses a quarter of its kernel."""
    taps = layer.kernel_size[0] * layer.kernel_size[1] * layer.in_channels / layer.groups
    if isinstance(layer, nn.ConvTranspose2d):
        taps /= layer.stride[0] * layer.stride[1]
    return float(taps)


def preserve_variance(network: nn.Sequential) -> None:
    """Draw each convolution from N(0, 1/fan_in) with zero bias, so that signals keep their scale through it.

    PyTorch's default shrinks them threefold a layer: latents then start far below the rounding noise, and the
    first thousands of steps only make them grow.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, std=fan_in(layer) ** -0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@torch.no_grad()
def initialize(g_a: nn.Sequential, g_s: nn.Sequential, h_a: nn.Sequential, h_s: nn.Sequential) -> None:
    """Set weights from which training needs no steps to find grey, the size of y, or a sigma of about 1.

    g_a sees pixels around 1/2 with a deviation of about 1/4, so its first layer centres and stretches them;
    g_s undoes both. y starts twice as large as unit variance, h_s with scales 1 and means near 0.
    """
    for network in (g_a, g_s, h_a, h_s):
        preserve_variance(network)
    for part in (*g_a, *g_s):
        if isinstance(part, nn.Sequential):  # adds to its input: little at first
            _bank(part, -1).weight.mul_(0.2)
    first, last = _bank(g_a, 0), _bank(g_s, -1)
    first.weight.mul_(4.0)
    first.bias.copy_(-0.5 * first.weight.sum((1, 2, 3)))
    last.weight.mul_(0.25)
    last.bias.fill_(0.5)
    _bank(g_a, -1).weight.mul_(2.0)
    _bank(g_s, 0).weight.mul_(0.5)
    parameters = _bank(h_s, -1)
    parameters.weight.mul_(0.2)
    parameters.bias[: parameters.bias.numel() // 2] = 1.0


def _bank(network: nn.Sequential, index: int) -> Any:
    """Of its convolutions, those within other layers not counted."""
    return [layer for layer in network if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)][index]
