"""Coding tables that fit what is coded: the Gaussians of y, corrected by the integers that pictures really give.

The network learned its sigmas for latents with uniform noise; rounded latents of pictures it never saw spread
wider and have heavier tails. Given the same table index in sender and receiver, any distribution may stand behind
it, so each table takes the member of a small family that codes the calibration pictures in the fewest bits:

    (1 - weight) N(0, (width sigma)^2) + weight N(0, (TAIL_WIDTH width sigma)^2), integrated over unit boxes
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from lightning_modules.coding.tables import CodingTables, tables_from_pmf

WIDTHS = np.geomspace(0.7, 2.0, 16)
WEIGHTS = (0.0, 0.01, 0.03, 0.1, 0.2)
TAIL_WIDTH = 3.0
FLOOR = 2.0**-24
"""No symbol in range is believed rarer than one unit of the coder's precision."""

ENOUGH = 2000
"""Symbols below which a table keeps the Gaussian it was trained for."""

REACH = 6.5
"""Half width of a table, in standard deviations of its widest part."""


def calibrated_tables(
    symbols: NDArray[np.int32], indices: NDArray[np.int32], scales: NDArray[np.float64]
) -> CodingTables:
    """Return the tables that code the calibration pictures in the fewest bits.

    symbols, indices: (n,) integers of y, and the tables that they were coded with. scales: (K,) sigma of each table.
    """
    pmfs, lowest = [], []
    for k, sigma in enumerate(scales):
        pmf = best_pmf(np.abs(symbols[indices == k]), float(sigma))
        pmfs.append(pmf)
        lowest.append(-(len(pmf) // 2))
    return tables_from_pmf(pmfs, lowest)


def best_pmf(magnitudes: NDArray[np.int32], sigma: float) -> NDArray[np.float64]:
    """Return the family's cheapest member for |symbols|, as probabilities of -h ... h, h by its own spread."""
    if len(magnitudes) < ENOUGH:
        return mixture(sigma, 1.0, 0.0)
    counts = np.bincount(magnitudes)
    candidates = [mixture(sigma, float(width), weight) for width, weight in itertools.product(WIDTHS, WEIGHTS)]
    return min(candidates, key=lambda pmf: cost(pmf, counts))


def cost(pmf: NDArray[np.float64], counts: NDArray[np.int64]) -> float:
    """Count the bits of symbols by their magnitudes' counts; beyond the table an escape costs about 32."""
    middle = len(pmf) // 2
    bits = -np.log2(np.maximum(pmf[middle:], FLOOR))
    inside = min(len(counts), len(bits))
    return float(counts[:inside] @ bits[:inside] + 32.0 * counts[inside:].sum())


def mixture(sigma: float, width: float, weight: float) -> NDArray[np.float64]:
    """Compute the probabilities of -h ... h under the mixture, with both ends of each box in the left tail."""
    spread = sigma * width * (TAIL_WIDTH if weight > 0 else 1.0)
    half = max(1, int(np.ceil(REACH * spread)))
    magnitude = np.abs(np.arange(-half, half + 1))
    parts = [(1.0 - weight, sigma * width), (weight, sigma * width * TAIL_WIDTH)]
    return sum((share * box_mass(magnitude, s) for share, s in parts if share > 0), start=np.zeros(len(magnitude)))


def box_mass(magnitudes: NDArray[np.int64], sigmas: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the mass of N(0, sigma^2) within 1/2 of each magnitude, by broadcasting."""
    mass: NDArray[np.float64] = ndtr((0.5 - magnitudes) / sigmas) - ndtr((-0.5 - magnitudes) / sigmas)
    return mass
