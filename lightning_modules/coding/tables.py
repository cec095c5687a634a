"""Integer frequency tables: the probabilities that encoder, decoder and rate estimate share.

A coding table lists the frequencies, out of 2^24, of consecutive integers and, last, of an escape entry
that stands for every other integer. Tables are built once per set of weights, stored with them and never
recomputed by a decoder: two machines that round a float CDF differently cannot read each other's files
(Balle, Johnston, Minnen, "Integer Networks for Data Compression with Latent-Variable Models", ICLR 2019).

Legend: K tables, L_k entries in table k (escape included), N symbols.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lightning_modules.exact.export import EXAMPLE_SIDE, EXAMPLES

PRECISION = 24


TOTAL = 1 << PRECISION


TAIL_MASS = 2.0**-26
"""Probability left to a table's escape."""

AT_A_TIME = 1 << 20
"""Symbols whose bits are worked out together."""

ESCAPE_HEADER_BITS = 6
"""Bits that say how far, on a log scale, and on which side of the table an escaped integer lies."""

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1

IntegerArray = NDArray[np.integer[Any]]


Float64s = NDArray[np.float64]

SCALES: Float64s = np.exp(np.linspace(math.log(0.11), math.log(256.0), 64))
"""Standard deviations of the stored Gaussian tables, in latent units."""


@dataclass(frozen=True, eq=False)
class CodingTables:
    """K tables of frequencies, laid end to end.

    frequencies: int32 (sum of L_k) >= 1; each table sums to 2^24 and ends with its escape.
    starts: int64 (K + 1); table k is `frequencies[starts[k]:starts[k + 1]]`.
    lowest: int32 (K,); the integer that the first entry of table k stands for.
    Raises ValueError when the arrays break one of these rules.
    """

    frequencies: NDArray[np.int32]
    starts: NDArray[np.int64]
    lowest: NDArray[np.int32]

    def __post_init__(self) -> None:
        for name, dtype in (("frequencies", "<i4"), ("starts", "<i8"), ("lowest", "<i4")):
            object.__setattr__(self, name, _frozen_vector(name, getattr(self, name), dtype))
        _check_layout(self.frequencies, self.starts, self.lowest)

    def __len__(self) -> int:
        return len(self.lowest)

    @cached_property
    def highest(self) -> NDArray[np.int64]:
        """Return the integers that the last entries before the escape stand for, (K,)."""
        lengths: NDArray[np.int64] = np.diff(self.starts)
        return self.lowest + lengths - 2

    @cached_property
    def _costs(self) -> Float64s:
        costs: Float64s = -np.log2(self.frequencies.astype(np.float64) / TOTAL)
        return costs

    @cached_property
    def least_bits(self) -> Float64s:
        """Return the cost of the cheapest entry of each table, (K,): no symbol coded under it takes less."""
        costs = self._costs.copy()
        costs[self.starts[1:] - 1] += ESCAPE_HEADER_BITS
        least: Float64s = np.minimum.reduceat(costs, self.starts[:-1])
        return least

    def bits(self, symbols: ArrayLike, indices: ArrayLike) -> Float64s:
        """Return the bits that the ANS stack spends on each symbol, -log2(frequency / 2^24), plus an escape's payload.

        symbols: integers of any shape, within int32. indices: their tables, same shape. Returns that shape.
        """
        values, tables = check_symbols(symbols), self.check_indices(indices)
        check_same_shape(values, tables)
        below, above = self.lowest[tables] - values, values - self.highest[tables]
        excess = np.maximum(below, above)
        entries = np.where(excess > 0, self.starts[1:][tables] - 1, self.starts[:-1][tables] - below)
        costs = self._costs[entries]
        return np.where(excess > 0, costs + ESCAPE_HEADER_BITS + floor_log2(np.maximum(excess, 1)), costs)

    def check_indices(self, indices: ArrayLike) -> NDArray[np.int64]:
        """Return the indices as int64; ValueError unless they are integers in [0, K)."""
        array = _integers("indices", indices)
        if array.size and not 0 <= array.min() <= array.max() < len(self):
            raise ValueError(f"table indices span {array.min()}..{array.max()}; allowed are 0..{len(self) - 1}")
        return array.astype(np.int64)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return copies of the three arrays by name, little-endian, for storage beside the weights."""
        return {name: getattr(self, name).copy() for name in ("frequencies", "starts", "lowest")}

    @classmethod
    def from_state(cls, state: Mapping[str, ArrayLike | Tensor]) -> CodingTables:
        """Undo `state`; takes arrays or CPU tensors."""
        return cls(*(np.asarray(state[name]) for name in ("frequencies", "starts", "lowest")))


def tables_from_pmf(pmfs: Sequence[ArrayLike], lowest: Sequence[int]) -> CodingTables:
    """Return one table per probability mass function; the mass a pmf leaves out becomes its escape.

    pmfs[k]: P(lowest[k]), P(lowest[k] + 1), ...; non-negative, sum at most 1. Raises ValueError otherwise.
    """
    if len(pmfs) != len(lowest):
        raise ValueError(f"{len(pmfs)} pmfs need as many lowest symbols, not {len(lowest)}")
    tables = [frequencies_from_pmf(_with_escape(pmf)) for pmf in pmfs]
    starts = np.cumsum([0, *(len(table) for table in tables)])
    return CodingTables(np.concatenate(tables), starts, np.asarray(lowest))


def tables_from_cdf(cdfs: Sequence[ArrayLike], lowest: Sequence[int]) -> CodingTables:
    """Return one table per cumulative distribution function sampled between the integers.

    cdfs[k]: values at lowest[k] - 1/2, lowest[k] + 1/2, ..., highest + 1/2, non-decreasing in [0, 1];
    what lies below the first and above the last becomes the escape.
    """
    return tables_from_pmf([np.diff(np.asarray(cdf, dtype=np.float64)) for cdf in cdfs], lowest)


def total_bits(tables: CodingTables, symbols: NDArray[Any], indices: NDArray[Any]) -> float:
    """Return the cost of (n,) symbols under their tables, some at a time: each needs a hundred bytes meanwhile."""
    starts = range(0, len(symbols), AT_A_TIME)
    return sum(float(tables.bits(symbols[k : k + AT_A_TIME], indices[k : k + AT_A_TIME]).sum()) for k in starts)


def gaussian_tables(scales: ArrayLike = SCALES, tail: float = TAIL_MASS) -> CodingTables:
    """Zero-mean Gaussians integrated over [k - 1/2, k + 1/2] (Balle et al., "Variational image compression
    with a scale hyperprior", ICLR 2018, section 3).

    scales: (K,) standard deviations > 0. tail: the two-sided mass left to the escape is at most this.
    """
    sigmas = np.asarray(scales, dtype=np.float64)
    if sigmas.ndim != 1 or not np.all(np.isfinite(sigmas) & (sigmas > 0)):
        raise ValueError(f"scales must be a vector of finite numbers > 0, got {scales!r}")
    reach = -NormalDist().inv_cdf(tail / 2)
    highest = [max(1, math.ceil(reach * sigma - 0.5)) for sigma in sigmas]
    return tables_from_pmf(
        [_gaussian_pmf(sigma, h) for sigma, h in zip(sigmas, highest, strict=True)], [-h for h in highest]
    )


def scale_thresholds(scales: ArrayLike = SCALES) -> Float64s:
    """Return the (K - 1,) geometric midpoints: where the nearest scale, in the log domain, changes."""
    sigmas = np.asarray(scales, dtype=np.float64)
    return np.sqrt(sigmas[:-1] * sigmas[1:])


def nearest_scale_index(scale: Tensor, scales: ArrayLike = SCALES) -> Tensor:
    """Return int64 indices of the entries of `scales` nearest in log sigma, same shape; beyond the ends, the end's."""
    thresholds = torch.as_tensor(scale_thresholds(scales), device=scale.device)
    return torch.bucketize(scale.to(torch.float64), thresholds)


def frequencies_from_pmf(pmf: Float64s) -> NDArray[np.int32]:
    """Integers f >= 1 summing to 2^24 that minimise the expected cost -sum p log2(f / 2^24).

    pmf: (L,) summing to 1. The cost is convex in each f, so the best f takes every unit whose saving
    p log((f + 1) / f) exceeds some level; the level is bisected, and units exactly at it fill the rest.
    """
    if len(pmf) > TOTAL:
        raise ValueError(f"a table of {len(pmf)} entries does not fit {TOTAL} units")
    low, high = 0.5 / TOTAL, 1.0 / TOTAL
    while _units_above(high, pmf).sum() > TOTAL:
        low, high = high, 2 * high
    for _ in range(52):
        level = (low + high) / 2
        low, high = (level, high) if _units_above(level, pmf).sum() > TOTAL else (low, level)
    frequencies = _units_above(high, pmf)
    while (missing := TOTAL - int(frequencies.sum())) > 0:
        savings = pmf * np.log1p(1.0 / frequencies)
        frequencies[np.argsort(-savings, kind="stable")[:missing]] += 1
    return frequencies.astype(np.int32)


def floor_log2(values: IntegerArray) -> NDArray[np.int64]:
    """Exact floor(log2 v) of integers 1 <= v < 2^53."""
    exponents: NDArray[np.int64] = np.frexp(values.astype(np.float64))[1].astype(np.int64)
    return exponents - 1


def check_symbols(symbols: ArrayLike) -> NDArray[np.int64]:
    """Return the symbols as int64; ValueError unless they are integers within int32."""
    array = _integers("symbols", symbols)
    if array.size and not INT32_MIN <= array.min() <= array.max() <= INT32_MAX:
        raise ValueError(f"symbols span {array.min()}..{array.max()}; allowed are {INT32_MIN}..{INT32_MAX}")
    return array.astype(np.int64)


def check_same_shape(symbols: IntegerArray, indices: IntegerArray) -> None:
    """ValueError unless each symbol has its table index."""
    if symbols.shape != indices.shape:
        raise ValueError(f"symbols of shape {symbols.shape} need indices of that shape, not {indices.shape}")


def _integers(name: str, values: ArrayLike) -> IntegerArray:
    array = np.asarray(values)
    if array.size == 0:
        return array.astype(np.int64)
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name} must be integers, not {array.dtype}")
    return array


def _units_above(level: float, pmf: Float64s) -> NDArray[np.int64]:
    """(L,) smallest f >= 1 whose next unit saves at most `level` nats: p log(1 + 1/f) <= level."""
    with np.errstate(divide="ignore", over="ignore"):
        units: Float64s = np.ceil(1.0 / np.expm1(level / pmf))
    clipped: Float64s = np.clip(units, 1, TOTAL)
    return clipped.astype(np.int64)


def _gaussian_pmf(sigma: float, highest: int) -> Float64s:
    """(2 highest + 1,) both halves from the left tail, where erfc keeps its relative precision."""
    edges = (np.arange(highest + 1) + 0.5) / (sigma * math.sqrt(2.0))
    tails = np.fromiter(map(math.erfc, edges), dtype=np.float64) / 2  # P(X > k + 1/2), k = 0..highest
    half: Float64s = tails[:-1] - tails[1:]
    return np.concatenate([half[::-1], [1.0 - 2.0 * tails[0]], half])


def _with_escape(pmf: ArrayLike) -> Float64s:
    masses = np.asarray(pmf, dtype=np.float64)
    if masses.ndim != 1 or not len(masses):
        raise ValueError(f"a pmf must be a vector of at least one probability, got shape {masses.shape}")
    total = masses.sum()
    if not np.all(masses >= 0) or not 0 < total <= 1 + 1e-6:
        raise ValueError(f"a pmf needs probabilities >= 0 summing to at most 1, got a sum of {total}")
    with_escape: Float64s = np.append(masses, max(0.0, 1.0 - total)) / max(1.0, total)
    return with_escape


def _frozen_vector(name: str, values: ArrayLike, dtype: str) -> NDArray[Any]:
    array = _integers(name, values)
    if array.ndim != 1:
        raise ValueError(f"{name} must be a vector, got shape {array.shape}")
    vector = array.astype(dtype)
    if not np.array_equal(vector, array):
        raise ValueError(f"{name} span {array.min()}..{array.max()}, more than {vector.dtype} holds")
    vector.setflags(write=False)
    return vector


def _check_layout(frequencies: IntegerArray, starts: IntegerArray, lowest: IntegerArray) -> None:
    if len(lowest) == 0 or len(starts) != len(lowest) + 1:
        raise ValueError(f"K >= 1 tables need K + 1 starts, got {len(lowest)} and {len(starts)}")
    lengths = np.diff(starts)
    if starts[0] != 0 or starts[-1] != len(frequencies) or lengths.min() < 2:
        raise ValueError("starts must rise from 0 to the number of frequencies, by at least 2 a table")
    if frequencies.min() < 1:
        raise ValueError(f"frequencies must be at least 1, found {frequencies.min()}")
    totals = np.add.reduceat(frequencies.astype(np.int64), starts[:-1])
    if np.any(totals != TOTAL):
        raise ValueError(f"table {int(np.argmax(totals != TOTAL))} does not sum to {TOTAL}")
    if (lowest.astype(np.int64) + lengths - 2).max() > INT32_MAX:
        raise ValueError("a table reaches beyond int32")


def likely_symbols(tables: CodingTables) -> Tensor:
    """Draw (EXAMPLES, N, 6, 6) integers of z from its tables: half of them flat areas, half without any order."""
    generator = np.random.Generator(np.random.PCG64(0))
    shape = (EXAMPLES, EXAMPLE_SIDE, EXAMPLE_SIDE)
    channels = []
    for k in range(len(tables)):
        weights = tables.frequencies[tables.starts[k] : tables.starts[k + 1] - 1].astype(np.float64)
        drawn = generator.choice(len(weights), shape, p=weights / weights.sum()) + tables.lowest[k]
        drawn[: EXAMPLES // 2] = drawn[: EXAMPLES // 2, :1, :1]
        channels.append(drawn)
    return torch.from_numpy(np.stack(channels, axis=1)).double()
