"""Continuous densities as integer frequencies on a uniform grid: what bits-back codes its latents with.

A latent is k * step for an integer -half <= k <= half. Entry k + half of a row has the density's mass within half a
step of it, in units of 2^-24; what lies beyond the ends belongs to the end entries. Every entry has at least one unit
("leaky"), so that whatever one distribution draws, another one of the same grid can code. There is no escape: popping
from a row and pushing under it are exact inverses for every state of the stack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lightning_modules.coding.tables import TOTAL
from lightning_modules.exact.numpy_functions import normal_cdf

Float64s = NDArray[np.float64]
Int32s = NDArray[np.int32]

ENTRIES_AT_ONCE = 1 << 20
"""Rows are made some at a time: a row of a fine grid takes kilobytes."""


class Grid(NamedTuple):
    """2 * half + 1 points, `step` apart, around 0. step: a power of two."""

    step: float
    half: int

    @property
    def width(self) -> int:
        return 2 * self.half + 1

    @property
    def edges(self) -> Float64s:
        """Return the edges between the points, (width - 1,)."""
        edges: Float64s = (np.arange(self.width - 1) - self.half + 0.5) * self.step
        return edges


class Rows(Protocol):
    """A distribution over `width` entries for each of `len` symbols."""

    @property
    def width(self) -> int: ...

    def __len__(self) -> int: ...

    def frequencies(self, start: int, stop: int) -> Int32s:
        """Return frequencies (stop - start, width), each at least 1, rows of sum 2^24."""


def leaky_frequencies(cdf: Float64s) -> Int32s:
    """Return (n, width) frequencies of CDFs' (n, width - 1) values at the edges, within [0, 1].

    Start k is floor((2^24 - width) F(edge k)) + k (Townsend et al. 2019, appendix); values that fall by a rounding
    error count as level.
    """
    width = cdf.shape[1] + 1
    if width > TOTAL >> 4:
        raise ValueError(f"a grid of {width} points leaves too little of 2^24 to their probabilities")
    inner = np.floor(np.clip(cdf, 0.0, 1.0) * (TOTAL - width)).astype(np.int32)
    np.maximum.accumulate(inner, axis=1, out=inner)
    rows = np.ones((len(cdf), width), dtype=np.int32)
    rows[:, 0] += inner[:, 0]
    rows[:, 1:-1] += np.diff(inner, axis=1)
    rows[:, -1] += TOTAL - width - inner[:, -1]
    return rows


@dataclass(frozen=True)
class GaussianRows:
    """One Gaussian a symbol. mean, deviation: (n,) float64, equal to the last bit in sender and receiver."""

    grid: Grid
    mean: Float64s
    deviation: Float64s

    @property
    def width(self) -> int:
        return self.grid.width

    def __len__(self) -> int:
        return len(self.mean)

    def frequencies(self, start: int, stop: int) -> Int32s:
        distance = self.grid.edges - self.mean[start:stop, None]
        return leaky_frequencies(normal_cdf(distance / self.deviation[start:stop, None]))


@dataclass(frozen=True)
class SharedRows:
    """Symbol i has row `keys[i]` of a (K, width) table."""

    table: Int32s
    keys: NDArray[np.int64]

    @property
    def width(self) -> int:
        return self.table.shape[1]

    def __len__(self) -> int:
        return len(self.keys)

    def frequencies(self, start: int, stop: int) -> Int32s:
        return self.table[self.keys[start:stop]]


def shared_rows(grid: Grid, cdf: Callable[[Float64s], Float64s], keys: NDArray[np.int64]) -> SharedRows:
    """Return rows that positions share. cdf: from the grid's edges to (K, width - 1)."""
    return SharedRows(leaky_frequencies(cdf(grid.edges)), keys)


def spans(rows: Rows) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of as many rows as are made at once."""
    count = max(1, ENTRIES_AT_ONCE // rows.width)
    yield from ((start, min(len(rows), start + count)) for start in range(0, len(rows), count))


def bits(entries: Int32s, rows: Rows) -> float:
    """Return the bits that the stack spends on the entries, -log2(frequency / 2^24) in all."""
    total = 0.0
    for start, stop in spans(rows):
        chosen = np.take_along_axis(rows.frequencies(start, stop), entries[start:stop, None].astype(np.int64), axis=1)
        total -= float(np.log2(chosen / TOTAL).sum())
    return total
