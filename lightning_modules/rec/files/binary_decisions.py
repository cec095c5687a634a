"""Integers of any law on a stack, as binary decisions: most significant bit first, each given the ones before it.

A law is a distribution function in integers, below each value, in 2^-MASS_BITS; every value keeps LEAST_MASS of them.
A decision's probability is the share of an interval of values that its upper half has, in 2^-24. Legend: N numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.tables import PRECISION, TOTAL

Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]

MASS_BITS = 30
LEAST_MASS = 1 << 6
"""The mass that every value keeps, 2^-24."""

Below = Callable[[Int64s], Int64s]
"""(N,) values 0 ... 2^bits -> mass of what is below each, under the law of its place: 0 and 2^MASS_BITS at the ends."""


class Decisions(NamedTuple):
    """Decisions in the order in which a receiver makes them, each with the frequencies of 0 and 1, (N, 2)."""

    decision: Int32s
    frequencies: Int32s

    @property
    def bits(self) -> float:
        """Return their cost."""
        chosen = np.where(self.decision == 1, self.frequencies[:, 1], self.frequencies[:, 0])
        return -float(np.log2(chosen / TOTAL).sum())


def decided(values: Int64s, bits: int, below: Below) -> Iterator[Decisions]:
    """Yield the decisions that stand for N values in 0 ... 2^bits - 1."""
    low = np.zeros_like(values)
    for half in halves(bits):
        decision = (values - low >= half).astype(np.int32)
        yield Decisions(decision, frequencies(low, half, below))
        low = low + half * decision


def put(stack: AnsStack, pushed: list[Decisions]) -> float:
    """Push all of them, so that the first is popped first; return their cost in bits."""
    for one in reversed(pushed):
        stack.push_rows(one.decision, one.frequencies)
    return sum(one.bits for one in pushed)


def pop(stack: AnsStack, count: int, bits: int, below: Below) -> Int64s:
    """Pop values (count,), whatever is on the stack; see `AnsStack.is_exhausted`."""
    low = np.zeros(count, dtype=np.int64)
    for half in halves(bits):
        low = low + half * stack.pop_rows(frequencies(low, half, below))
    return low


def halves(bits: int) -> Iterator[int]:
    return (1 << k for k in reversed(range(bits)))


def frequencies(low: Int64s, half: int, below: Below) -> Int32s:
    """Return frequencies (N, 2) of the two halves of the values low ... low + 2 half - 1, of sum 2^24."""
    start, middle, end = (below(low + k * half) for k in range(3))
    upper = (((end - middle) << PRECISION) // (end - start)).clip(1, TOTAL - 1)
    return np.stack([TOTAL - upper, upper], axis=1).astype(np.int32)
