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

from lightning_modules.records import ImageSize
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
"""(front, the results of `GroupLayers.parameters`) -> the group's integers there; all (B, g, n)."""


class GroupLayers(Protocol):
    """One group's share of context and entropy parameters, in whatever arithmetic. width: g."""

    width: int

    def known(self, hyper: Tensor, decoded: Tensor) -> Tensor:
        """Compute (B, F, h, w), known before the first symbol, of hyper (B, 2C, h, w), groups before (B, k g, h, w)."""

    def parameters(self, known: Tensor, neighbours: Tensor) -> tuple[Tensor, Tensor]:
        """Compute scales and means, (B, g, n), or what stands for them in other arithmetic.

        known: (B, F, n). neighbours: the group's own values at the 12 earlier taps, (B, 12 g, n).
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
        """Join hyper features of the group and its context as far as other groups make it."""
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
def fronts(size: ImageSize) -> tuple[Front, ...]:
    """Return the steps of a group of h x w positions, in order."""
    rows, columns = _positions(size)
    step = columns + 3 * rows
    return tuple(Front(rows[step == t], columns[step == t]) for t in step.unique())


@torch.no_grad()
def fill_group(layers: GroupLayers, hyper: Tensor, decoded: Tensor, source: Source) -> Tensor:
    """Fill in y_hat of one group, (B, g, h, w), from what `source` says at each step.

    hyper: (B, 2C, h, w). decoded: (B, k g, h, w), the groups before. All on the CPU, in one precision.
    """
    batch, _, height, width = decoded.shape
    known = layers.known(hyper, decoded).flatten(2)
    own = decoded.new_zeros(batch, layers.width, (height + 2 * CENTRE) * (width + 2 * CENTRE))
    for front, places in zip(fronts((height, width)), _places_of_fronts((height, width)), strict=True):
        first, second = layers.parameters(known.index_select(2, places.plain), _neighbours(own, places))
        own.index_copy_(2, places.padded, source(front, first, second))
    return F.pad(own.unflatten(2, (height + 2 * CENTRE, width + 2 * CENTRE)), (-CENTRE,) * 4)


@torch.no_grad()
def parameters_at_once(layers: GroupLayers, hyper: Tensor, decoded: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Evaluate `layers` at every position of a group that is known, (B, g, h, w): two tensors of that shape."""
    height, width = own.shape[2:]
    places = _places(Front(*_positions((height, width))), width)
    neighbours = _neighbours(F.pad(own, (CENTRE,) * 4).flatten(2), places)
    first, second = layers.parameters(layers.known(hyper, decoded).flatten(2), neighbours)
    return first.unflatten(2, (height, width)), second.unflatten(2, (height, width))


class _Places(NamedTuple):
    """The indices of a front's positions, plain and with a margin of 2, and of their neighbours there, tap by tap."""

    plain: Tensor
    padded: Tensor
    neighbours: Tensor


@functools.lru_cache(maxsize=8)
def _places_of_fronts(size: ImageSize) -> tuple[_Places, ...]:
    return tuple(_places(front, size[1]) for front in fronts(size))


def _places(front: Front, width: int) -> _Places:
    padded_width = width + 2 * CENTRE
    corner = front.rows * padded_width + front.columns
    taps = torch.tensor([row * padded_width + column for row, column in EARLIER_TAPS])
    return _Places(
        plain=front.rows * width + front.columns,
        padded=corner + CENTRE * padded_width + CENTRE,
        neighbours=(taps[:, None] + corner).flatten(),
    )


def _positions(size: ImageSize) -> tuple[Tensor, Tensor]:
    """Return rows and columns of h x w positions, each (h w,), in raster order."""
    rows, columns = torch.meshgrid(*map(torch.arange, size), indexing="ij")
    return rows.flatten(), columns.flatten()


def _neighbours(own: Tensor, places: _Places) -> Tensor:
    """Gather the earlier positions' values around each of n, (B, 12 g, n), from own (B, g, (h + 4) (w + 4))."""
    batch, channels, _ = own.shape
    return own.index_select(2, places.neighbours).reshape(batch, channels * len(EARLIER_TAPS), -1)
