"""Pixels onto an entropy coder's stack under discretised logistic laws, in integers: the same on every machine.

A value is eight binary decisions, most significant bit first, each with its probability given the ones before it: the
share of an interval of values that its upper half has. Sums of probabilities at the edges of values come from one
table for each scale, made by portable arithmetic; every value keeps a probability of 2^-24 at least. Since a decision
takes two numbers, laws may differ from pixel to pixel at no cost. Legend: C channels, N pixels of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.portable_math import exp, sigmoid
from lightning_modules.coding.tables import TOTAL
from lightning_modules.rec.pixel_likelihood import (
    COUPLING_BITS,
    LEAST_LOG_SCALE,
    LEVELS,
    MEAN_BITS,
    MOST_COUPLING,
    MOST_LOG_SCALE,
    SCALE_BITS,
)

Int64s = NDArray[np.int64]

UNIT = 1 << MEAN_BITS
"""Of a grey level."""
MASS_BITS = 30
LEAST_MASS = 1 << 6
"""Of a value, in 2^-MASS_BITS."""
DECISIONS = 8
LEAST_SCALE, MOST_SCALE = int(LEAST_LOG_SCALE * 2**SCALE_BITS), int(MOST_LOG_SCALE * 2**SCALE_BITS)
COUPLING_LIMIT = int(MOST_COUPLING * 2**COUPLING_BITS)
REACH = LEVELS * UNIT


class IntegerLaw(NamedTuple):
    """`PixelLaw` in integers, (3, N) each: means in 2^-MEAN_BITS, logarithms of scales in 2^-SCALE_BITS, couplings in
    2^-COUPLING_BITS or None.
    """

    mean: Int64s
    log_scale: Int64s
    coupling: Int64s | None = None

    def bounded(self) -> IntegerLaw:
        coupling = None if self.coupling is None else self.coupling.clip(-COUPLING_LIMIT, COUPLING_LIMIT)
        return IntegerLaw(_bounded_mean(self.mean), self.log_scale.clip(LEAST_SCALE, MOST_SCALE), coupling)

    def mean_of(self, channel: int, values: Sequence[Int64s]) -> Int64s:
        """(N,) of a channel, given the values of those before it."""
        if self.coupling is None or channel == 0:
            return self.mean[channel]
        first = channel - 1  # couplings: of G by R, of B by R, of B by G
        moved = np.zeros_like(self.mean[channel])
        for k in range(channel):
            moved += self.coupling[first + k] * (UNIT * values[k] - self.mean_of(k, values))
        return _bounded_mean(self.mean[channel] + (moved + (1 << (COUPLING_BITS - 1)) >> COUPLING_BITS))


def push_pixels(stack: AnsStack, values: Int64s, law: IntegerLaw) -> float:
    """Put C x N values in 0 ... 255, the first C channels of the law, on the stack; their cost in bits."""
    law = law.bounded()
    pushed: list[tuple[NDArray[np.int32], NDArray[np.int32]]] = []
    for channel, given in enumerate(values):
        for decision, frequencies in _decisions(law, channel, list(values[:channel]), given):
            assert decision is not None, "the values are given"
            pushed.append((decision, frequencies))
    bits = 0.0
    for decision, frequencies in reversed(pushed):
        stack.push_rows(decision, frequencies)
        chosen = np.where(decision == 1, frequencies[:, 1], frequencies[:, 0])
        bits -= float(np.log2(chosen / TOTAL).sum())
    return bits


def pop_pixels(stack: AnsStack, channels: int, law: IntegerLaw) -> Int64s:
    """The inverse: (channels, N), whatever is on the stack; see `AnsStack.is_exhausted`."""
    law = law.bounded()
    values: list[Int64s] = []
    for channel in range(channels):
        masses = _Masses(law.mean_of(channel, values), law.log_scale[channel])
        low = np.zeros(law.mean.shape[1], dtype=np.int64)
        for half in _halves():
            low = low + half * stack.pop_rows(masses.frequencies(low, half))
        values.append(low)
    return np.stack(values)


def _decisions(
    law: IntegerLaw, channel: int, before: Sequence[Int64s], value: Int64s
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """(decision, frequencies of 0 and of 1) from the highest bit on."""
    masses = _Masses(law.mean_of(channel, before), law.log_scale[channel])
    low = np.zeros_like(value)
    for half in _halves():
        decision = (value - low >= half).astype(np.int32)
        yield decision, masses.frequencies(low, half)
        low = low + half * decision


def _halves() -> Iterator[int]:
    return (LEVELS >> k for k in range(1, DECISIONS + 1))


class _Masses:
    """mean, log_scale: (N,) of one channel's law."""

    def __init__(self, mean: Int64s, log_scale: Int64s) -> None:
        used, keys = np.unique(log_scale, return_inverse=True)
        self._table = np.stack([_cumulative(int(scale)) for scale in used])
        self._keys = keys.reshape(-1)
        self._mean = mean

    def frequencies(self, low: Int64s, half: int) -> NDArray[np.int32]:
        """(N, 2) of the lower and the upper half of the values low ... low + 2 half - 1, of sum 2^24."""
        start, middle, end = (self._below(low + k * half) for k in range(3))
        upper = ((end - middle) << 24) // (end - start)
        upper = upper.clip(1, TOTAL - 1)
        return np.stack([TOTAL - upper, upper], axis=1).astype(np.int32)

    def _below(self, value: Int64s) -> Int64s:
        """Mass of what is below `value`, 0 ... 256, in 2^-MASS_BITS."""
        edge = UNIT * value - UNIT // 2 - self._mean
        inner = self._table[self._keys, edge.clip(-REACH, REACH) + REACH].astype(np.int64)
        inner = np.where(value == 0, 0, np.where(value == LEVELS, self._whole, inner))
        return inner + LEAST_MASS * value

    @property
    def _whole(self) -> int:
        return (1 << MASS_BITS) - LEAST_MASS * LEVELS


@cache
def _cumulative(log_scale: int) -> NDArray[np.int32]:
    """(2 REACH + 1,) the logistic distribution function at multiples of 1 / UNIT level, less what all values keep."""
    width = float(exp(np.array([-log_scale / 2**SCALE_BITS]))[0])
    distance = np.arange(-REACH, REACH + 1) / UNIT
    whole = (1 << MASS_BITS) - LEAST_MASS * LEVELS
    rising = np.maximum.accumulate(np.floor(whole * sigmoid(distance * width)))
    return rising.astype(np.int32)


def _bounded_mean(mean: Int64s) -> Int64s:
    bounded: Int64s = mean.clip(0, (LEVELS - 1) * UNIT)
    return bounded
