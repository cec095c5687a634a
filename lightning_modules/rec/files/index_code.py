"""Codes for the indices of auxiliary variables, as integer tables of the entropy coder.

Beam search and importance sampling leave indices uniform: n equal frequencies. Ordered random coding and the sampler
of Poisson arrivals favour small ones: P(i) in proportion to i^-lambda, lambda = 1 + 1 / (I + log2(e) / e + 1) for a
variable of I bits (Theis, Ahmed 2022, section 4), cut at n. Tables are made by portable arithmetic and integer
remainders, so they need not be stored: a decoder on another machine gets the same.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.tables import TOTAL, CodingTables
from lightning_modules.exact.torch_functions import exp, ln

MAX_ENTRIES = 1 << 20
"""Longest table; larger indices travel as escapes."""


class IndexCode(Protocol):
    """A code for indices 0, 1, 2, ... What is pushed last is popped first."""

    def push(self, stack: AnsStack, indices: NDArray[np.int64]) -> None: ...

    def pop(self, stack: AnsStack, count: int) -> NDArray[np.int64]: ...

    def bits(self, indices: NDArray[np.int64]) -> float:
        """Return the bits that `push` spends on them."""


class TableCode:
    """Indices under one table."""

    def __init__(self, tables: CodingTables) -> None:
        self._tables = tables

    def push(self, stack: AnsStack, indices: NDArray[np.int64]) -> None:
        stack.push(indices, np.zeros_like(indices), self._tables)

    def pop(self, stack: AnsStack, count: int) -> NDArray[np.int64]:
        return stack.pop(np.zeros(count, dtype=np.int64), self._tables).astype(np.int64)

    def bits(self, indices: NDArray[np.int64]) -> float:
        return float(self._tables.bits(indices, np.zeros_like(indices)).sum())


class UniformCode(TableCode):
    """A code for equally likely indices below num_candidates."""

    def __init__(self, *, num_candidates: int) -> None:
        super().__init__(uniform_table(num_candidates))


class ZipfCode(TableCode):
    """A code that favours small indices. num_candidates: where the law is cut. kl_per_variable: nominal nats, for I."""

    def __init__(self, *, num_candidates: int, kl_per_variable: float) -> None:
        super().__init__(zipf_table(num_candidates, kl_per_variable))


@lru_cache(maxsize=64)
def uniform_table(num_candidates: int) -> CodingTables:
    """Return one table of equal frequencies, from 0."""
    _check(num_candidates)
    return one_table(portable_frequencies(np.ones(num_candidates)))


@lru_cache(maxsize=64)
def zipf_table(num_candidates: int, kl_per_variable: float) -> CodingTables:
    """Return one table of i^-lambda, i = 1 ... num_candidates, for the index i - 1."""
    _check(num_candidates)
    information = kl_per_variable / math.log(2.0)
    exponent = 1.0 + 1.0 / (information + math.log2(math.e) / math.e + 1.0)
    numbers = torch.arange(1, num_candidates + 1, dtype=torch.float64)
    return one_table(portable_frequencies(exp(-exponent * ln(numbers)).numpy()))


def _check(num_candidates: int) -> None:
    if not 1 <= num_candidates <= MAX_ENTRIES:
        raise ValueError(f"a code needs 1 ... {MAX_ENTRIES} indices, got {num_candidates}")


def portable_frequencies(weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return frequencies in proportion to weights, largest first or nearly so, and one unit for the escape.

    Each entry has a unit, the others are dealt out rounding down, and what that leaves goes to the first entries.
    """
    spare = TOTAL - 1 - len(weights)
    total = math.fsum(weights.tolist())
    frequencies = 1 + np.floor(weights / total * spare).astype(np.int64)
    missing = TOTAL - 1 - int(frequencies.sum())
    frequencies += missing // len(weights)
    frequencies[: missing % len(weights)] += 1
    return np.append(frequencies, 1)


def one_table(frequencies: NDArray[np.int64]) -> CodingTables:
    """Return frequencies as one table, from 0."""
    return CodingTables(frequencies.astype(np.int32), np.array([0, len(frequencies)]), np.zeros(1, dtype=np.int64))
