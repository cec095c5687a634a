"""One group of y, position by position: the routine that sender and receiver share.

Positions (i, j) with equal j + 3i do not see each other, so they make one step, a front: w + 3 (h - 1) steps for a
group of h x w positions, instead of h w. What a step needs is z_hat (through `hyper`), the groups before, and the
steps before; what it finds there comes from a `Source`: the sender's looks y up and codes it, the receiver's decodes.
Which arithmetic turns one into the other is the business of `GroupLayers`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.codec import ImageSize
from lightning_modules.sic.group_context import (
    CENTRE,
    EARLIER_TAPS,
    EntropyParameters,
    GroupContext,
    group_channels,
)


class Front(NamedTuple):
    """The n positions of one step. rows, columns: (n,)."""

    rows: Tensor
    columns: Tensor


Source = Callable[[Front, Tensor, Tensor], Tensor]
"""(front, what `GroupLayers.parameters` gives) -> the group's integers there; all (B, g, n)."""


class GroupLayers(Protocol):
    """One group's share of context and entropy parameters, in whatever arithmetic. width: g."""

    width: int

    def known(self, hyper: Tensor, decoded: Tensor) -> Tensor:
        """hyper (B, 2C, h, w), groups before (B, k g, h, w) -> (B, F, h, w): what precedes the group's first symbol."""

    def parameters(self, known: Tensor, neighbours: Tensor) -> tuple[Tensor, Tensor]:
        """(B, F, n), and the group's own values at the 12 earlier taps, (B, 12 g, n) -> scales, means, (B, g, n).

        Or what stands for them in other arithmetic.
        """


class FloatGroup:
    """`GroupLayers` of group k in the networks' own precision: equal to their evaluation at once but for rounding."""

    def __init__(self, context: GroupContext, parameters: EntropyParameters, group: int) -> None:
        self.group, self.groups = group, context.groups
        self.context = context.layer.of_group(group)
        self.network = parameters.of_group(group)
        self.width = self.context.out_channels // 2
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


@functools.lru_cache(maxsize=8)
def fronts(size: ImageSize) -> list[Front]:
    """The steps of a group of h x w positions, in order. Callers leave the list as it is."""
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
        first, second = layers.parameters(at_front, _neighbours(own, front))
        own[:, :, front.rows + CENTRE, front.columns + CENTRE] = source(front, first, second)
    return F.pad(own, (-CENTRE,) * 4)


@torch.no_grad()
def parameters_at_once(layers: GroupLayers, hyper: Tensor, decoded: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """What `layers` gives for every position of a group that is known, (B, g, h, w): each (B, g, h, w)."""
    size = own.shape[2:]
    known = layers.known(hyper, decoded).flatten(2)
    rows, columns = (index.flatten() for index in torch.meshgrid(*map(torch.arange, size), indexing="ij"))
    first, second = layers.parameters(known, _neighbours(F.pad(own, (CENTRE,) * 4), Front(rows, columns)))
    return first.unflatten(2, size), second.unflatten(2, size)


def _neighbours(own: Tensor, front: Front) -> Tensor:
    """own: (B, g, h + 4, w + 4), with a margin of 2 -> (B, 12 g, n), the earlier positions' values around each of n."""
    batch, channels, _, width = own.shape
    offsets = torch.tensor([row * width + column for row, column in EARLIER_TAPS])
    places = offsets[:, None] + (front.rows * width + front.columns)
    return own.flatten(2).index_select(2, places.flatten()).reshape(batch, channels * len(EARLIER_TAPS), -1)
