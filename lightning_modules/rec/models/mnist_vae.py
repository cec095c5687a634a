"""The VAE of iREC's experiments on binarised MNIST: perceptrons of two hidden layers, 50 Gaussian latents.

A larger picture is a board of digits: perceptrons are convolutions of 1x1 on fields of 28x28 pixels, each with its own
latents. Pixels are Bernoulli.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.rec.models.hierarchy import LEAST_DEVIATION, SOFTPLUS, Draw, Hierarchy, Network, Prior
from lightning_modules.rec.samplers.auxiliary_variables import Gaussian
from lightning_modules.records import ImageSize

SIDE = 28
LOGIT_BITS = 12
"""Fractional bits of logits in coding."""
UNIT_SPREAD = math.log(math.expm1(1.0 - LEAST_DEVIATION))
"""The spread that `SOFTPLUS` makes 1 of."""


class MnistVAE(Hierarchy):
    """A VAE of fields of 28x28 pixels. width: of hidden layers. latents: of a field."""

    scale_map = SOFTPLUS

    def __init__(self, *, width: int, latents: int) -> None:
        super().__init__()
        self.stride, self.channels = SIDE, (latents,)
        self.encoder = _perceptron(SIDE * SIDE, width, 2 * latents)
        self.pieces = nn.ModuleDict({"output": _perceptron(latents, width, SIDE * SIDE)})

    def latent_sizes(self, size: ImageSize) -> list[ImageSize]:
        return [(size[0] // SIDE, size[1] // SIDE)]

    def infer(self, x: Tensor) -> Sequence[Tensor]:
        """Return features of the first channel, black or white."""
        return [self.encoder(F.pixel_unshuffle(binarized(x).to(x), SIDE))]

    def encode(self, fields: Tensor) -> Gaussian:
        """Return posteriors (B, latents, h, w) of fields (B, 784, h, w), in [0, 1], not only black or white."""
        return self._law(self.encoder(fields))

    def posterior(self, level: int, feature: Tensor, prior: Prior) -> Gaussian:
        return self._law(feature)

    def _law(self, feature: Tensor) -> Gaussian:
        mean, spread = feature.chunk(2, dim=1)
        return Gaussian(mean, self.scale_map.trained(spread))

    def generate(self, pieces: Mapping[str, Network], like: Tensor, size: ImageSize, draw: Draw) -> Tensor:
        """Return z (B, latents, h, w)."""
        mean = like.new_zeros(len(like), self.channels[0], *self.latent_sizes(size)[0])
        return draw(0, Prior(mean, torch.full_like(mean, UNIT_SPREAD), mean))

    def output(self, pieces: Mapping[str, Network], state: Tensor) -> Tensor:
        """Return logits of white, (B, 1, 28 h, 28 w)."""
        return F.pixel_shuffle(pieces["output"](state), SIDE)

    def output_fractions(self, piece: str) -> Tensor:
        return torch.full((self.outputs_of(piece),), LOGIT_BITS, dtype=torch.int32)


def binarized(x: Tensor) -> Tensor:
    """Return whether the first channel of (B, 3, H, W) in [0, 1] is above a half, (B, 1, H, W)."""
    return x[:, :1] > 0.5


def _perceptron(inputs: int, width: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size in (inputs, width):
        layers += [nn.Conv2d(size, width, 1), nn.Tanh()]
    return nn.Sequential(*layers, nn.Conv2d(width, outputs, 1))
