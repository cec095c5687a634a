"""One group of y, position by position: the routine that sender and receiver share.

Positions (i, j) with equal j + 3i do not see each other, so they make one step, a front: w + 3 (h - 1) steps for a
group of h x w positions, instead of h w. What a step needs is z_hat (through `hyper`), the groups before, and the
steps before; what it finds there comes from a `Source`: the sender's looks y up and codes it, the receiver's decodes.
Which arithmetic turns one into the other is the business of `GroupLayers`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.codec import ImageSize
from lightning_modules.sic.group_context import CENTRE, EARLIER_TAPS, group_channels
from lightning_modules.sic.networks import SicNetworks


class Front(NamedTuple):
    """The n positions of one step. rows, columns: (n,)."""

    rows: Tensor
    columns: Tensor


Source = Callable[[Front, Tensor, Tensor], Tensor]
"""(front, scales, means) -> the group's integers there; all (B, g, n)."""


class GroupLayers(Protocol):
    """One group's share of context and entropy parameters, in whatever arithmetic. width: g."""

    width: int

    def known(self, hyper: Tensor, decoded: Tensor) -> Tensor:
        """hyper (B, 2C, h, w), groups before (B, k g, h, w) -> (B, F, h, w): what precedes the group's first symbol."""

    def parameters(self, known: Tensor, neighbours: Tensor) -> tuple[Tensor, Tensor]:
        """(B, F, n), and the group's own values at the 12 earlier taps, (B, 12 g, n) -> scales, means, (B, g, n)."""


class FloatGroup:
    """`GroupLayers` of group k in the networks' own precision: equal to their evaluation at once but for rounding."""

    def __init__(self, networks: SicNetworks, group: int) -> None:
        self.group, self.groups, self.width = group, networks.groups, networks.group_width
        self.context = networks.context_model.layer.of_group(group)
        self.network = networks.entropy_parameters.of_group(group)
        own = self.context.weight[:, group * self.width :]
        self.taps = torch.stack([own[:, :, row, column] for row, column in EARLIER_TAPS], dim=2).flatten(1)

    def known(self, hyper: Tensor, decoded: Tensor) -> Tensor:
        """Hyper features of the group, and its context as far as other groups make it."""
        batch, _, height, width = decoded.shape
        nothing = decoded.new_zeros(batch, self.width, height, width)
        context = self.context(torch.cat([decoded, nothing], dim=1))
        return torch.cat([group_channels(hyper, self.group, self.groups), context], dim=1)

    def parameters(self, known: Tensor, neighbours: Tensor) -> tuple[Tensor, Tensor]:
        hyper, context = known.split(2 * self.width, dim=1)
        features = torch.cat([hyper, context + self.taps @ neighbours], dim=1)
        scales, means = self.network(features.unsqueeze(-1)).squeeze(-1).chunk(2, dim=1)
        return scales, means


def fronts(size: ImageSize) -> list[Front]:
    """The steps of a group of h x w positions, in order."""
    rows, columns = (index.flatten() for index in torch.meshgrid(*map(torch.arange, size), indexing="ij"))
    step = columns + 3 * rows
    return [Front(rows[step == t], columns[step == t]) for t in step.unique()]


@torch.no_grad()
def fill_group(layers: GroupLayers, hyper: Tensor, decoded: Tensor, source: Source) -> Tensor:
    """y_hat of one group, (B, g, h, w), from what `source` says at each step.

    hyper: (B, 2C, h, w). decoded: (B, k g, h, w), the groups before. All on one device, in one precision.
    """
    batch, _, height, width = decoded.shape
    known = layers.known(hyper, decoded)
    own = decoded.new_zeros(batch, layers.width, height + 2 * CENTRE, width + 2 * CENTRE)
    for front in fronts((height, width)):
        at_front = known[:, :, front.rows, front.columns]
        scales, means = layers.parameters(at_front, _neighbours(own, front))
        own[:, :, front.rows + CENTRE, front.columns + CENTRE] = source(front, scales, means)
    return F.pad(own, (-CENTRE,) * 4)


def _neighbours(own: Tensor, front: Front) -> Tensor:
    """own: (B, g, h + 4, w + 4), with a margin of 2 -> (B, 12 g, n), the earlier positions' values around each of n."""
    values = [own[:, :, front.rows + row, front.columns + column] for row, column in EARLIER_TAPS]
    return torch.stack(values, dim=2).flatten(1, 2)
