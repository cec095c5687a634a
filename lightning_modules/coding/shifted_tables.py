"""Coding tables of Gaussians whose mean lies between two integers: what codes y on the grid of plain integers.

One table for each sigma of the ladder and each sixteenth of a mean: rounding a mean to sixteenths costs 0.05 % of the
bits. A mean m is floor(16 m + 1/2) / 16 = base + fraction / 16; the table holds the integers relative to base.
"""

from __future__ import annotations

import functools
import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfc

from lightning_modules.coding.tables import SCALES, TAIL_MASS, CodingTables, tables_from_pmf

FRACTIONS = 16

Float64s = NDArray[np.float64]


@functools.cache
def shifted_tables(sigmas: tuple[float, ...] = tuple(SCALES), fractions: int = FRACTIONS) -> CodingTables:
    """Table `fractions` s + f: of sigma number s, the mean f / fractions above the integer that 0 stands for."""
    reach = -NormalDist().inv_cdf(TAIL_MASS / 2)
    pmfs, lowest = [], []
    for sigma in sigmas:
        highest = max(1, math.ceil(reach * sigma - 0.5))
        symbols = np.arange(-highest, highest + 2)
        pmfs += [gaussian_pmf(symbols - fraction / fractions, sigma) for fraction in range(fractions)]
        lowest += [-highest] * fractions
    return tables_from_pmf(pmfs, lowest)


def gaussian_pmf(distances: Float64s, sigma: float) -> Float64s:
    """Return the mass of N(0, sigma) within 1/2 of each distance, from whichever tail keeps its digits."""
    unit = sigma * math.sqrt(2.0)
    nearer, farther = np.abs(distances) - 0.5, np.abs(distances) + 0.5
    mass: Float64s = (erfc(nearer / unit) - erfc(farther / unit)) / 2
    return mass


def split_means(means: NDArray[np.int32], bits: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Means in units of 2^-bits -> (base, fraction in sixteenths), rounded to nearest, by integer arithmetic."""
    sixteenths = (means.astype(np.int64) * FRACTIONS + (1 << (bits - 1))) >> bits
    return (sixteenths // FRACTIONS).astype(np.int32), (sixteenths % FRACTIONS).astype(np.int32)
