"""Integer networks and the density of z: they follow from the weights, are computed once, and are stored with them."""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Mapping
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import torch
from compressai.entropy_models import EntropyBottleneck
from torch import Tensor, nn

from lightning_modules.coding.leaky import leaky_frequencies
from lightning_modules.coding.shifted_tables import FRACTIONS
from lightning_modules.coding.tables import SCALES, TAIL_MASS, CodingTables, likely_symbols, tables_from_pmf
from lightning_modules.densities import factorized_pmfs
from lightning_modules.errors import CodingError
from lightning_modules.exact.export import export, float_weights
from lightning_modules.exact.network import ExactNetwork, part_of
from lightning_modules.exact.numpy_functions import normal_cdf
from lightning_modules.hyperprior.coding_parameters import CodingParameters, integer_parameters
from lightning_modules.sga.bits_back.box_gradient import LEAST_SCALE
from lightning_modules.sga.bits_back.portable_density import PortableDensity
from lightning_modules.sga.bits_back.posterior import POSTERIOR_BITS, Posterior

EXAMPLES = 8
"""Pictures of y that the ranges of h_a's activations come from."""


class BitsBackState(NamedTuple):
    """The integers that files are coded with.

    parameters: from z to tables and means of y. posterior: from y_hat to q.
    """

    parameters: CodingParameters
    posterior: Posterior

    def state(self) -> dict[str, Tensor]:
        h_a = {f"h_a.{name}": value for name, value in self.posterior.h_a.state().items()}
        density = {f"density.{name}": value for name, value in self.posterior.density.state().items()}
        answers = {"answer": torch.tensor(self.posterior.answer), "y_tables": torch.tensor(_crc_of_y_tables())}
        state = self.parameters.state() | h_a | density | answers
        return {f"exact.{name}": value for name, value in state.items()}

    @classmethod
    def from_state(cls, h_a: nn.Sequential, h_s: nn.Sequential, state: Mapping[str, Tensor]) -> BitsBackState:
        """Invert `state`; raises as `ExactNetwork.from_state` does, or `CodingError` where tables of y differ."""
        exact = part_of(state, "exact.")
        parameters = CodingParameters.from_state(h_s, exact)
        network = ExactNetwork.from_state(h_a, part_of(exact, "h_a."))
        density = PortableDensity.from_state(part_of(exact, "density."))
        if int(exact["y_tables"]) != _crc_of_y_tables():
            raise CodingError("this machine makes other coding tables than the model's maker's; report it")
        return cls(parameters, Posterior(network, parameters.network, density, int(exact["answer"])))

    def float_weights(self) -> dict[str, Tensor]:
        """Return the weights of h_s and h_a that the integers stand for, by the codec's names."""
        h_a = {f"h_a.{name}": value for name, value in float_weights(self.posterior.h_a).items()}
        return self.parameters.float_weights() | h_a


@torch.no_grad()
def derive(h_a: nn.Sequential, h_s: nn.Sequential, bottleneck: EntropyBottleneck) -> BitsBackState:
    """Export trained weights to integers; no pictures are needed."""
    z_tables = tables_from_pmf(*factorized_pmfs(bottleneck, TAIL_MASS))
    parameters = integer_parameters(h_s, torch.zeros(1, bottleneck.channels, 1, 1), z_tables)
    channels = 2 * bottleneck.channels
    network = export(h_a, likely_y(h_s, z_tables), torch.full((channels,), POSTERIOR_BITS))
    return BitsBackState(parameters, Posterior(network, parameters.network, PortableDensity.of(bottleneck)))


def likely_y(h_s: nn.Sequential, z_tables: CodingTables) -> Tensor:
    """Draw integers y, (EXAMPLES, M, 24, 24), as the model believes that they are."""
    z = likely_symbols(z_tables)
    z = z[:: len(z) // EXAMPLES]
    device = next(h_s.parameters()).device
    scales, means = h_s(z.float().to(device)).cpu().double().chunk(2, dim=1)
    noise = torch.randn(means.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.round(means + scales.clamp_min(LEAST_SCALE) * noise)


@functools.cache
def y_tables() -> CodingTables:
    """Make table `FRACTIONS` s + f of sigma number s, the mean f / FRACTIONS above the integer that 0 stands for.

    They are those of `lightning_modules/coding/shifted_tables.py`, but from portable arithmetic alone, so that
    models need not store them: their checksum is enough.
    """
    reach = -NormalDist().inv_cdf(TAIL_MASS / 2)
    frequencies, lowest = [], []
    fractions = np.arange(FRACTIONS)[:, None] / FRACTIONS
    for sigma in np.rint(SCALES * 2.0**20) / 2.0**20:
        highest = max(1, math.ceil(reach * sigma - 0.5))
        cdf = normal_cdf((np.arange(-highest, highest + 3) - 0.5 - fractions) / sigma)
        frequencies.append(leaky_frequencies(cdf[:, 1:] - cdf[:, :1]).ravel())  # what is left is the escape's
        lowest += [-highest] * FRACTIONS
    widths = np.repeat([len(rows) // FRACTIONS for rows in frequencies], FRACTIONS)
    return CodingTables(np.concatenate(frequencies), np.concatenate([[0], np.cumsum(widths)]), np.asarray(lowest))


@functools.cache
def _crc_of_y_tables() -> int:
    return zlib.crc32(y_tables().frequencies.tobytes())
