"""The lossless model of iREC: a bidirectional ResNet VAE of L blocks at one resolution, 2 x 2 pixels a position.

    x --stem--> h; blocks L-1 ... 0: features of h, h <- h + 0.1 conv(ELU(conv(ELU(h))))          (upwards)
    h <- learned; blocks 0 ... L-1: prior, z, h <- h + 0.1 conv(ELU([g, z])), g of h              (downwards)
    h --output--> parameters of the pixels' law

Posterior of block l: N(upward mean + downward shift, exp(upward + downward logarithm)). Convolutions are 3 x 3,
weight-normed, with ELU before them. The paper's sizes (L = 24, 160 channels of h, 32 of z) have 29,462,823 parameters
and are those of HiLLoC (Townsend et al. 2020).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.rec.models.hierarchy import EXPONENTIAL, Draw, Hierarchy, Network, Prior
from lightning_modules.rec.models.weight_norm import conv, weight_normed
from lightning_modules.rec.samplers.auxiliary_variables import Gaussian
from lightning_modules.records import ImageSize

RESIDUAL = 0.1
KERNEL, STRIDE = 5, 2
PADDING = 1
"""On every side, and of the stem's input one more below and right."""
COARSE = 8
"""Pixels of what random pictures are made of, in `rehearse`."""
STATE_BITS = 16
"""Fractional bits of what the integer networks give to the state h and the priors."""


class ResNetVAE(Hierarchy):
    """A ResNet VAE. depth: blocks. width: channels of h. latent_width: channels of each z. outputs: of the law."""

    scale_map = EXPONENTIAL

    def __init__(self, *, depth: int, width: int, latent_width: int, output_fractions: Sequence[int]) -> None:
        super().__init__()
        self.stride = STRIDE
        self.channels = (latent_width,) * depth
        self.width = width
        self.fractions = tuple(output_fractions)
        self.stem = weight_normed(nn.Conv2d(3, width, KERNEL, STRIDE, PADDING))
        up = [conv(width, 2 * latent_width + (width if level else 0)) for level in range(depth)]
        self.up_features = nn.ModuleList(up)
        self.up_residuals = nn.ModuleList([conv(width, width) for _ in range(depth - 1)])
        self.shifts = nn.ModuleList([conv(width, 2 * latent_width) for _ in range(depth)])
        self.top = nn.Parameter(torch.zeros(width))
        blocks: dict[str, nn.Module] = {}
        for level in range(depth):
            blocks[f"prior{level}"] = nn.Sequential(nn.ELU(), conv(width, 2 * latent_width + width))
            blocks[f"merge{level}"] = nn.Sequential(nn.ELU(), conv(width + latent_width, width))
        last = weight_normed(nn.ConvTranspose2d(width, len(output_fractions), KERNEL, STRIDE, PADDING))
        self.pieces = nn.ModuleDict(blocks | {"output": nn.Sequential(nn.ELU(), last)})

    @property
    def depth(self) -> int:
        return len(self.channels)

    def latent_sizes(self, size: ImageSize) -> list[ImageSize]:
        return [(size[0] // STRIDE, size[1] // STRIDE)] * self.depth

    @property
    def trained(self) -> dict[str, Network]:
        """Return those of the sender, too: `stem`, and `up`, `residual`, `shift` of each level."""
        sender: dict[str, Network] = {"stem": nn.Sequential(self.stem)}
        for level in range(self.depth):
            sender[f"up{level}"] = nn.Sequential(nn.ELU(), self.up_features[level])
            sender[f"shift{level}"] = nn.Sequential(nn.ELU(), self.shifts[level])
            if level:
                sender[f"residual{level}"] = nn.Sequential(nn.ELU(), self.up_residuals[level - 1])
        return super().trained | sender

    def infer(self, x: Tensor) -> list[Tensor]:
        return self.infer_with(self.trained, (x * 255.0 + 0.5) / 256.0 - 0.5)

    def infer_with(self, pieces: Mapping[str, Network], centred: Tensor) -> list[Tensor]:
        """Return mean and logarithm of the deviation of each block, (B, 2 C, h, w).

        centred: (B, 3, H, W), (v + 1/2) / 256 - 1/2 of values v in 0 ... 255.
        """
        h = pieces["stem"](F.pad(centred, (0, 1, 0, 1)))
        features: list[Tensor] = []
        for level in reversed(range(self.depth)):
            sizes = [2 * self.channels[level], self.width if level else 0]
            feature, inner = pieces[f"up{level}"](h).split(sizes, dim=1)
            features.append(feature)
            if level:
                step = pieces[f"residual{level}"](inner) * RESIDUAL
                h = h + step
        return features[::-1]

    def posterior(self, level: int, feature: Tensor, prior: Prior) -> Gaussian:
        mean, spread = self.posterior_with(self.trained, level, feature, prior)
        return Gaussian(mean, self.scale_map.trained(spread))

    def posterior_with(
        self, pieces: Mapping[str, Network], level: int, feature: Tensor, prior: Prior
    ) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the deviation. prior.context: the state h."""
        mean, spread = (feature + pieces[f"shift{level}"](prior.context.to(feature))).chunk(2, dim=1)
        return mean, spread

    def generate(self, pieces: Mapping[str, Network], like: Tensor, size: ImageSize, draw: Draw) -> Tensor:
        """Return the state h, (B, width, h, w)."""
        h = self.top.to(like)[:, None, None].expand(len(like), -1, *self.latent_sizes(size)[0])
        for level, channels in enumerate(self.channels):
            mean, spread, g = pieces[f"prior{level}"](h).split([channels, channels, self.width], dim=1)
            z = draw(level, Prior(mean, spread, h))
            step = pieces[f"merge{level}"](torch.cat([g, z], dim=1)) * RESIDUAL  # two roundings, never fused into one
            h = h + step
        return h

    def output(self, pieces: Mapping[str, Network], state: Tensor) -> Tensor:
        """Return the law's parameters for the last state, (B, outputs, 2 h + 1, 2 w + 1), to be cropped."""
        return pieces["output"](state)

    def rehearse(self, pieces: Mapping[str, Network], like: Tensor, size: ImageSize, draw: Draw) -> None:
        """Run inference, too, on random pictures that have every value."""
        generator = torch.Generator().manual_seed(1)
        coarse = torch.rand(len(like), 3, *[side // COARSE for side in size], generator=generator).to(like)
        features = self.infer_with(pieces, F.interpolate(coarse, size, mode="bilinear") - 0.5)

        def observed(level: int, prior: Prior) -> Tensor:
            self.posterior_with(pieces, level, features[level], prior)
            return draw(level, prior)

        super().rehearse(pieces, like, size, observed)

    def output_fractions(self, piece: str) -> Tensor:
        if piece == "output":
            return torch.tensor(self.fractions, dtype=torch.int32)
        return torch.full((self.outputs_of(piece),), STATE_BITS, dtype=torch.int32)
