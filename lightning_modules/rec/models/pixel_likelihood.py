"""Laws of 8-bit pixels given a network's output: discretised logistic distributions, proper mass functions.

Value v of a channel stands for the interval v - 1/2 ... v + 1/2 of grey levels, 0 and 255 for all that is below and
above as well, so that the masses of 0 ... 255 sum to 1:

    P(v) = F((v + 1/2 - mean) / scale) - F((v - 1/2 - mean) / scale),  F(t) = 1 / (1 + exp(-t))

(iREC's code lets the ends have no tails, and adds 1e-7 to each mass.) Means and scales are in grey levels.
Legend: B images, H x W pixels.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 256
MEAN_BITS = 6
"""Coding takes means in multiples of 2^-MEAN_BITS."""
LOG_SCALE_BITS = 4
"""Coding takes logarithms of scales in multiples of 2^-LOG_SCALE_BITS."""
COUPLING_BITS = 6
LEAST_LOG_SCALE, MOST_LOG_SCALE = -3.0, 5.0
"""Bounds of a scale's logarithm, in grey levels."""
MOST_COUPLING = 4.0


def log_mass(value: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Return ln P(value), elementwise, without cancellation: F(a) - F(b) = F(a) F(-b) (1 - exp(b - a)).

    value: 0 ... 255.
    """
    width = torch.exp(-log_scale)
    upper, lower = (value + 0.5 - mean) * width, (value - 0.5 - mean) * width
    below = torch.where(value < 0.5, torch.zeros_like(lower), F.logsigmoid(-lower))
    above = torch.where(value > LEVELS - 1.5, torch.zeros_like(upper), F.logsigmoid(upper))
    is_end = (value < 0.5) | (value > LEVELS - 1.5)
    inside = torch.log(-torch.expm1(-width)).expand_as(above)
    return above + below + torch.where(is_end, torch.zeros_like(inside), inside)


class PixelLaw(NamedTuple):
    """The laws of a picture's channels R, G, B, (B, 3, H, W) each: of one, given those before it.

    Channel c has the mean `mean` plus, for each channel before it, its `coupling` times what that channel's value is
    above its own mean. coupling: of G by R, of B by R, of B by G; None: all 0.
    """

    mean: Tensor
    log_scale: Tensor
    coupling: Tensor | None = None

    def log_mass(self, value: Tensor) -> Tensor:
        """Return ln P of a picture (B, 3, H, W) of grey levels, elementwise."""
        return log_mass(value, self.conditional_mean(value), self.log_scale)

    def conditional_mean(self, value: Tensor) -> Tensor:
        if self.coupling is None:
            return self.mean
        red, green, blue = self.mean.unbind(1)
        green_by_red, blue_by_red, blue_by_green = self.coupling.unbind(1)
        green = (green + green_by_red * (value[:, 0] - red)).clamp(0.0, LEVELS - 1.0)
        blue = blue + blue_by_red * (value[:, 0] - red) + blue_by_green * (value[:, 1] - green)
        return torch.stack([red, green, blue.clamp(0.0, LEVELS - 1.0)], dim=1)


class PixelLikelihood(Protocol):
    """From a network's output to the law of pixels.

    outputs: channels that it takes. fractions: fractional bits of each of them in coding.
    """

    outputs: ClassVar[int]
    fractions: ClassVar[tuple[int, ...]]

    def __call__(self, output: Tensor) -> PixelLaw: ...


def grey_mean(output: Tensor) -> Tensor:
    """Return pixels on the scale -1/2 ... 1/2, of which 1/256 is a grey level, as means in 0 ... 255."""
    return ((output + 0.5) * LEVELS - 0.5).clamp(0.0, LEVELS - 1.0)


class SharedScale(nn.Module):
    """The paper's: one learned scale for all pixels; the logarithm of it is on the network's scale, and starts at 0."""

    outputs = 3
    fractions = (8 + MEAN_BITS,) * 3

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, output: Tensor) -> PixelLaw:
        in_levels = (self.log_scale + math.log(LEVELS)).clamp(LEAST_LOG_SCALE, MOST_LOG_SCALE)
        return PixelLaw(grey_mean(output), in_levels.to(output).expand(output.shape))


class OwnScales(nn.Module):
    """A scale for each channel of each pixel, and means of G and B that follow R's and G's values.

    The output's channels are 3 means, 3 logarithms of scales over e^2.75 = 16 levels, 3 couplings.
    """

    outputs = 9
    fractions = (8 + MEAN_BITS,) * 3 + (LOG_SCALE_BITS,) * 3 + (COUPLING_BITS,) * 3
    first_log_scale: ClassVar[float] = 2.75  # a multiple of what coding takes

    def forward(self, output: Tensor) -> PixelLaw:
        mean, spread, coupling = output.split(3, dim=1)
        log_scale = (spread + self.first_log_scale).clamp(LEAST_LOG_SCALE, MOST_LOG_SCALE)
        return PixelLaw(grey_mean(mean), log_scale, coupling.clamp(-MOST_COUPLING, MOST_COUPLING))


LIKELIHOODS: dict[str, type[SharedScale] | type[OwnScales]] = {"shared_scale": SharedScale, "own_scales": OwnScales}
"""By the names that configurations and model files give."""


def is_gray(x: Tensor) -> bool:
    """Return whether all channels of (B, C, H, W) are equal, so that one says all."""
    return bool((x[:, :1] == x).all())
