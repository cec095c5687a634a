"""From the integers of z to what y is coded with, in integers all the way: the same on every machine.

z symbols --+ medians--> z_hat --h_s, exact--> sigma in 2^-12, mean in 2^-8 --thresholds--> table index
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from compressai.entropy_models import EntropyBottleneck
from torch import Tensor, nn

from lightning_modules.coding.tables import (
    SCALES,
    TAIL_MASS,
    CodingTables,
    gaussian_tables,
    likely_symbols,
    scale_thresholds,
    tables_from_pmf,
)
from lightning_modules.densities import factorized_pmfs, medians
from lightning_modules.derived_value import CodingState
from lightning_modules.exact.export import export, float_weights
from lightning_modules.exact.network import ExactNetwork, part_of
from lightning_modules.image_padding import crop
from lightning_modules.records import ImageSize
from lightning_modules.tiling import Footprint, footprint, tiled

SCALE_BITS = 12
"""Fractional bits of sigma: 2^-12 is 1/450 of the smallest table's sigma."""

MEAN_BITS = 8
"""Fractional bits of the mean: y_hat lies on a grid of 1/256, which float32 holds exactly."""


class CodingParameters(NamedTuple):
    """The network h_s with everything around it, in integers.

    field: what the network sees of z. medians: (N,) of z, in the network's input unit. thresholds: (K - 1,) sigmas,
    ascending, in 2^-12, from each of which on the next table is used.
    """

    network: ExactNetwork
    field: Footprint
    medians: Tensor
    thresholds: Tensor

    def __call__(self, z: Tensor, size: ImageSize) -> tuple[Tensor, Tensor]:
        """Look up each y's table, and its mean in 2^-8, both int32 (B, M, *size), for integers z (B, N, h, w)."""
        fraction = int(self.network.fractions[0])
        z_hat = z.double() * 2.0**fraction + self.medians.to(z.device).double().reshape(1, -1, 1, 1)
        indices, means = crop(tiled(self._indices_and_means, self.field, z_hat), size).chunk(2, dim=1)
        return indices, means

    def _indices_and_means(self, z_hat: Tensor) -> Tensor:
        """Return int32 (B, 2 M, 4 h, 4 w) for (B, N, h, w): half of what the network's float64 takes."""
        scales, means = self.network(z_hat).chunk(2, dim=1)
        thresholds = self.thresholds.to(scales.device, torch.float64)
        indices = torch.bucketize(scales.contiguous(), thresholds, right=True, out_int32=True)
        return torch.cat([indices, means.to(torch.int32)], dim=1)

    def state(self) -> dict[str, Tensor]:
        network = {f"h_s.{name}": value for name, value in self.network.state().items()}
        return network | {"medians": self.medians, "thresholds": self.thresholds}

    @classmethod
    def from_state(cls, h_s: nn.Sequential, state: Mapping[str, Tensor]) -> CodingParameters:
        """Invert `state`; raises as `ExactNetwork.from_state` does."""
        network = ExactNetwork.from_state(h_s, part_of(state, "h_s."))
        return cls(network, footprint(h_s), state["medians"], state["thresholds"])

    def float_weights(self) -> dict[str, Tensor]:
        """Return the weights of h_s that the integers stand for, by the codec's names."""
        return {f"h_s.{name}": value for name, value in float_weights(self.network).items()}


@functools.cache
def scale_tables() -> CodingTables:
    """Make the tables of y: one for each sigma of the ladder, the same for every model."""
    return gaussian_tables(SCALES)


def derive(h_s: nn.Sequential, bottleneck: EntropyBottleneck) -> CodingState[CodingParameters]:
    """Derive tables and integers from weights whose medians are up to date."""
    z_tables = tables_from_pmf(*factorized_pmfs(bottleneck, TAIL_MASS))
    return CodingState(z_tables, scale_tables(), integer_parameters(h_s, medians(bottleneck), z_tables))


def integer_parameters(h_s: nn.Sequential, offsets: Tensor, z_tables: CodingTables) -> CodingParameters:
    """Export trained weights to integers. offsets: the medians of z, (1, N, 1, 1).

    The ranges of activations come from z as its tables say that it will be: no pictures are needed.
    """
    offsets = offsets.detach().cpu().double()
    M = len(h_s[-1].get_parameter("bias")) // 2
    fractions = torch.tensor([SCALE_BITS] * M + [MEAN_BITS] * M)
    network = export(h_s, likely_symbols(z_tables) + offsets, fractions)
    fixed = (offsets.flatten() * 2.0 ** int(network.fractions[0])).round().to(torch.int32)
    thresholds = torch.from_numpy(np.ceil(scale_thresholds(SCALES) * 2.0**SCALE_BITS)).to(torch.int32)
    return CodingParameters(network, footprint(h_s), fixed, thresholds)
