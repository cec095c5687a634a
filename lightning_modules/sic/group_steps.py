"""One group of y, position by position: the routine that sender and receiver share.

Positions (i, j) with equal j + 3i do not see each other, so they make one step, a front: w + 3 (h - 1) steps for a
group of h x w positions, instead of h w. What a step needs is z_hat (through `hyper`), the groups before, and the
steps before; what it finds there comes from a `Source`: the sender's looks y up and codes it, the receiver's decodes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

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


def fronts(size: ImageSize) -> list[Front]:
    """The steps of a group of h x w positions, in order."""
    rows, columns = (index.flatten() for index in torch.meshgrid(*map(torch.arange, size), indexing="ij"))
    step = columns + 3 * rows
    return [Front(rows[step == t], columns[step == t]) for t in step.unique()]


@torch.no_grad()
def fill_group(networks: SicNetworks, group: int, hyper: Tensor, decoded: Tensor, source: Source) -> Tensor:
    """y_hat of one group, (B, g, h, w), from what `source` says at each step.

    hyper: (B, 2C, h, w). decoded: (B, group * g, h, w), the groups before. All on one device, in one precision.
    """
    context, network = networks.context_model.layer.of_group(group), networks.entropy_parameters.of_group(group)
    batch, before, height, width = decoded.shape
    nothing = decoded.new_zeros(batch, networks.group_width, height, width)
    earlier = context(torch.cat([decoded, nothing], dim=1))
    known = torch.cat([group_channels(hyper, group, networks.groups), earlier], dim=1)
    own = F.pad(nothing, (CENTRE,) * 4)
    taps = torch.stack([context.weight[:, before:, row, column] for row, column in EARLIER_TAPS], dim=2).flatten(1)
    for front in fronts((height, width)):
        features = known[:, :, front.rows, front.columns]
        features[:, 2 * networks.group_width :] += torch.einsum("oi,bin->bon", taps, _neighbours(own, front))
        scales, means = network(features.unsqueeze(-1)).squeeze(-1).chunk(2, dim=1)
        own[:, :, front.rows + CENTRE, front.columns + CENTRE] = source(front, scales, means)
    return own[:, :, CENTRE : CENTRE + height, CENTRE : CENTRE + width]


def _neighbours(own: Tensor, front: Front) -> Tensor:
    """own: (B, g, h + 4, w + 4), with a margin of 2 -> (B, 12 g, n), the earlier positions' values around each of n."""
    values = [own[:, :, front.rows + row, front.columns + column] for row, column in EARLIER_TAPS]
    return torch.stack(values, dim=2).flatten(1, 2)
