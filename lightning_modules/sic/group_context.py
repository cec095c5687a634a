"""Coding parameters of y, group by group: each sees the hyperprior, earlier groups, and its own earlier positions.

    y_hat --context_model--> context --+
    z_hat --hs--> hyper ---------------+--entropy_parameters--> scales, means of y

L groups of g channels, C = L g. Halves: the first and the last C of 2C channels. Both modules evaluate all groups and
positions at once, from a complete y_hat; `of_group` gives the layers of one group, for coding step by step.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERNEL = 5
CENTRE = KERNEL // 2
EARLIER_TAPS = [(row, column) for row in range(KERNEL) for column in range(KERNEL) if (row, column) < (CENTRE, CENTRE)]
"""(row, column) of the 12 taps that lie before the centre in raster order."""


def causal_mask(groups: int, width: int) -> Tensor:
    """Mark the weights that count, bool (2 groups width, groups width, 5, 5), outputs and inputs group after group.

    All taps of earlier groups, the 12 earlier positions of the own group, nothing of later groups.
    """
    own = torch.zeros(KERNEL, KERNEL, dtype=torch.bool)
    for row, column in EARLIER_TAPS:
        own[row, column] = True
    group = torch.arange(groups)
    earlier = (group[None, :] < group[:, None])[..., None, None]
    same = (group[None, :] == group[:, None])[..., None, None]
    of_groups = earlier.expand(-1, -1, KERNEL, KERNEL) | (same & own)
    return of_groups.repeat_interleave(2 * width, 0).repeat_interleave(width, 1)


class CausalConvolution(nn.Conv2d):
    """A 5x5 convolution (B, C, h, w) -> (B, 2C, h, w) under `causal_mask`: hidden weights stay 0, without gradient."""

    mask: Tensor

    def __init__(self, groups: int, width: int) -> None:
        super().__init__(groups * width, 2 * groups * width, KERNEL, padding=CENTRE)
        self.groups_of_channels = groups
        self.register_buffer("mask", causal_mask(groups, width), persistent=False)
        self.hide()

    @torch.no_grad()
    def hide(self) -> None:
        """Set the weights that do not count to 0, for weights that came from elsewhere."""
        self.weight.masked_fill_(~self.mask, 0.0)

    def forward(self, y_hat: Tensor) -> Tensor:
        return F.conv2d(y_hat, self.weight * self.mask, self.bias, padding=CENTRE)

    @torch.no_grad()
    def of_group(self, group: int) -> nn.Conv2d:
        """Return one group's plain layer: groups 0 to `group`, ((group + 1) g channels) -> 2g channels."""
        width = self.in_channels // self.groups_of_channels
        outputs = slice(2 * width * group, 2 * width * (group + 1))
        layer = nn.utils.skip_init(nn.Conv2d, width * (group + 1), 2 * width, KERNEL, padding=CENTRE)
        one = _with_rows(layer, self.weight, self.bias, outputs)
        one.weight.mul_(self.mask[outputs, : one.in_channels])
        return one


class GroupContext(nn.Module):
    """The context model: y_hat (B, C, h, w) -> (B, 2C, h, w), both halves in the order of y's channels."""

    def __init__(self, groups: int, width: int) -> None:
        super().__init__()
        self.groups = groups
        self.layer = CausalConvolution(groups, width)

    def forward(self, y_hat: Tensor) -> Tensor:
        """Reorder what the convolution gives, (group, half, channel), to (half, group, channel)."""
        return swap_outer_channels(self.layer(y_hat), self.groups, 2)


class EntropyParameters(nn.Module):
    """The networks from hyper and context, each (B, 2C, h, w), to raw scales and means of y, each (B, C, h, w).

    A group has a network of its own, 4g -> 3g -> 3g -> 2g at each position; it sees its own channels of hyper-scales,
    hyper-means and both halves of the context, and no other group's.
    """

    def __init__(self, groups: int, width: int) -> None:
        super().__init__()
        self.groups = groups
        inputs, inside, outputs = (groups * width * times for times in (4, 3, 2))
        self.layer = nn.Sequential(
            nn.Conv2d(inputs, inside, 1, groups=groups),
            nn.LeakyReLU(0.01),
            nn.Conv2d(inside, inside, 1, groups=groups),
            nn.LeakyReLU(0.01),
            nn.Conv2d(inside, outputs, 1, groups=groups),
        )

    def forward(self, hyper: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        features = swap_outer_channels(torch.cat([hyper, context], dim=1), 4, self.groups)
        scales, means = swap_outer_channels(self.layer(features), self.groups, 2).chunk(2, dim=1)
        return scales, means

    @torch.no_grad()
    def of_group(self, group: int) -> nn.Sequential:
        """Return one group's network: [hyper-scales, hyper-means, context's halves] (B, 4g, ...) -> [scales, means]."""
        layers = [layer if isinstance(layer, nn.LeakyReLU) else self._slice(layer, group) for layer in self.layer]
        return nn.Sequential(*layers)

    def _slice(self, layer: nn.Module, group: int) -> nn.Conv2d:
        assert isinstance(layer, nn.Conv2d)
        outputs = layer.out_channels // self.groups
        own = slice(outputs * group, outputs * (group + 1))
        one = nn.utils.skip_init(nn.Conv2d, layer.in_channels // self.groups, outputs, 1)
        return _with_rows(one, layer.weight, layer.bias, own)


def _with_rows(layer: nn.Module, weight: Tensor, bias: Tensor | None, outputs: slice) -> nn.Conv2d:
    """Fill `layer` with some output channels of a wider one, and as many of its input channels as it takes."""
    assert isinstance(layer, nn.Conv2d)
    assert layer.bias is not None
    assert bias is not None
    layer.to(weight)
    layer.weight.copy_(weight[outputs, : layer.in_channels])
    layer.bias.copy_(bias[outputs])
    return layer


def swap_outer_channels(value: Tensor, outer: int, inner: int) -> Tensor:
    """Reorder channels from (outer, inner, rest) to (inner, outer, rest)."""
    batch, channels, height, width = value.shape
    split = value.reshape(batch, outer, inner, channels // (outer * inner), height, width)
    return split.transpose(1, 2).reshape(batch, channels, height, width)


def group_channels(value: Tensor, group: int, groups: int) -> Tensor:
    """Return the channels of one group in each half of (B, 2C, ...), one after the other: (B, 2g, ...)."""
    halves = [half.chunk(groups, dim=1)[group] for half in value.chunk(2, dim=1)]
    return torch.cat(halves, dim=1)
