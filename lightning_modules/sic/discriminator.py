"""The discriminator of SIC's last phase: patches of a picture, judged with the coded latents at hand.

Names and shapes are the authors'. Spectral norm is PyTorch's older form, whose names their files have.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

from lightning_modules.sic.transforms import IMAGE_CHANNELS


class Convolution(nn.Module):
    """A convolution under the authors' name for it, without bias."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, value: Tensor) -> Tensor:
        return self.conv(value)


class Judgement(nn.Module):
    """Layers in a row, under the authors' name for them."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.cbr = nn.Sequential(*layers)

    def forward(self, value: Tensor) -> Tensor:
        return self.cbr(value)


class Discriminator(nn.Module):
    """The patch discriminator: (picture, coded latents) -> a logit for each patch; positive says real.

    groups, group_width: of the codec. condition: channels that the latents are brought to, by a layer for each level.
    widths: of the convolutions, each of which halves the sides.
    """

    def __init__(self, *, groups: int, group_width: int, condition: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.context_conv = nn.ModuleList(
            nn.Conv2d(group_width * level, condition, 3, padding=1, padding_mode="reflect")
            for level in range(1, groups + 1)
        )
        self.halvings = [f"dsc{index}" for index in range(1, len(widths) + 1)]
        inputs = [IMAGE_CHANNELS + condition, *widths]
        for name, before, after in zip(self.halvings, inputs, widths, strict=False):
            layer = spectral_norm(nn.Conv2d(before, after, 4, 2, padding=1, bias=False))
            self.add_module(name, Judgement(Convolution(layer), nn.LeakyReLU(0.2)))
        self.last = f"dsc{len(widths) + 1}"
        self.add_module(self.last, Judgement(Convolution(nn.Conv2d(widths[-1], 1, 1, bias=False))))
        self.apply(_initialize)

    def forward(self, x: Tensor, y_hat: Tensor, level: int) -> Tensor:
        """Judge pictures x (B, 3, H, W): logits (B, 1, H / 2^n, W / 2^n) for n widths.

        y_hat: (B, >= level * g, h, w), of which the first `level` groups count, without gradient.
        """
        convolution = self.context_conv[level - 1]
        coded = y_hat[:, : convolution.in_channels].detach()
        condition = F.leaky_relu(convolution(coded), 0.2)
        value = torch.cat([x, F.interpolate(condition, x.shape[-2:], mode="nearest")], dim=1)
        for name in (*self.halvings, self.last):
            value = self.get_submodule(name)(value)
        return value


def _initialize(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d):
        weight = getattr(layer, "weight_orig", layer.weight)
        nn.init.kaiming_normal_(weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
