"""Samples of a Gaussian on a grid that its prior makes: cells of equal prior mass, 2^bits of them to a dimension.

Under the prior a cell's number is `bits` uniform bits; under a posterior it is so many decisions, whose probabilities
come from portable arithmetic. What stands for a cell is the quantile in its middle. (HiLLoC, Townsend et al. 2020,
section 3.2, discretises so.) All in units of the prior, float64; legend: N dimensions.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_modules.exact.numpy_functions import normal_cdf, normal_quantiles
from lightning_modules.rec.files.binary_decisions import LEAST_MASS, MASS_BITS, Int64s

Float64s = NDArray[np.float64]

MOST_BITS = 16
BEYOND = 40.0
"""An edge farther out than any mass."""


class PosteriorCells(NamedTuple):
    """mean, deviation: (N,) of posteriors, in units of their priors."""

    bits: int
    mean: Float64s
    deviation: Float64s

    def below(self, cell: Int64s) -> Int64s:
        """Mass of the cells below each, of 2^MASS_BITS."""
        whole = (1 << MASS_BITS) - (LEAST_MASS << self.bits)
        share = normal_cdf((edges(self.bits)[cell] - self.mean) / self.deviation)
        inner = np.floor(whole * share).astype(np.int64)
        inner = np.where(cell == 0, 0, np.where(cell == 1 << self.bits, whole, inner))
        return inner + LEAST_MASS * cell


@cache
def middles(bits: int) -> Float64s:
    """(2^bits,)"""
    return normal_quantiles(1 << bits)


@cache
def edges(bits: int) -> Float64s:
    """(2^bits + 1,) the quantiles of k / 2^bits: those between are middles of coarser grids."""
    found = np.full((1 << bits) + 1, BEYOND)
    found[0] = -BEYOND
    for coarse in range(bits):
        step = 1 << (bits - coarse)
        found[step // 2 :: step] = normal_quantiles(1 << coarse)
    return found
