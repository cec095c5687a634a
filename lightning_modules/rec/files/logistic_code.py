"""Pixels onto an entropy coder's stack under discretised logistic laws, in integers: the same on every machine.

A value is eight binary decisions (`lightning_modules/rec/files/binary_decisions.py`). Masses come from one table for
each scale, made by portable arithmetic, so laws may differ from pixel to pixel at no cost.
Legend: C channels, N pixels of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_modules.coding.ans import AnsStack
from lightning_modules.exact.numpy_functions import exp, sigmoid
from lightning_modules.rec.files.binary_decisions import LEAST_MASS, MASS_BITS, Decisions, Int64s, decided, pop, put
from lightning_modules.rec.models.pixel_likelihood import (
    COUPLING_BITS,
    LEAST_LOG_SCALE,
    LEVELS,
    LOG_SCALE_BITS,
    MEAN_BITS,
    MOST_COUPLING,
    MOST_LOG_SCALE,
)

UNIT = 1 << MEAN_BITS
"""Steps of a grey level."""
DECISIONS = 8
LEAST_SCALE, MOST_SCALE = int(LEAST_LOG_SCALE * 2**LOG_SCALE_BITS), int(MOST_LOG_SCALE * 2**LOG_SCALE_BITS)
COUPLING_LIMIT = int(MOST_COUPLING * 2**COUPLING_BITS)
REACH = LEVELS * UNIT
WHOLE = (1 << MASS_BITS) - LEAST_MASS * LEVELS
"""Mass that is left when every value has its own."""


class IntegerLaw(NamedTuple):
    """`PixelLaw` in integers, (3, N) each.

    Means are in 2^-MEAN_BITS, logarithms of scales in 2^-LOG_SCALE_BITS, couplings in 2^-COUPLING_BITS or None.
    """

    mean: Int64s
    log_scale: Int64s
    coupling: Int64s | None = None

    def bounded(self) -> IntegerLaw:
        coupling = None if self.coupling is None else self.coupling.clip(-COUPLING_LIMIT, COUPLING_LIMIT)
        return IntegerLaw(_bounded_mean(self.mean), self.log_scale.clip(LEAST_SCALE, MOST_SCALE), coupling)

    def mean_of(self, channel: int, values: Sequence[Int64s]) -> Int64s:
        """Return the means (N,) of a channel, given the values of those before it."""
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
    pushed: list[Decisions] = []
    for channel, given in enumerate(values):
        masses = _Masses(law.mean_of(channel, list(values[:channel])), law.log_scale[channel])
        pushed += decided(given, DECISIONS, masses.below)
    return put(stack, pushed)


def pop_pixels(stack: AnsStack, channels: int, law: IntegerLaw) -> Int64s:
    """Pop values (channels, N), whatever is on the stack; see `AnsStack.is_exhausted`."""
    law = law.bounded()
    values: list[Int64s] = []
    for channel in range(channels):
        masses = _Masses(law.mean_of(channel, values), law.log_scale[channel])
        values.append(pop(stack, law.mean.shape[1], DECISIONS, masses.below))
    return np.stack(values)


class _Masses:
    """The masses of one channel's law. mean, log_scale: (N,)."""

    def __init__(self, mean: Int64s, log_scale: Int64s) -> None:
        used, keys = np.unique(log_scale, return_inverse=True)
        self._table = np.stack([_cumulative(int(scale)) for scale in used])
        self._keys = keys.reshape(-1)
        self._mean = mean

    def below(self, value: Int64s) -> Int64s:
        """Return the mass of what is below `value`, 0 ... 256, in 2^-MASS_BITS."""
        edge = UNIT * value - UNIT // 2 - self._mean
        inner = self._table[self._keys, edge.clip(-REACH, REACH) + REACH].astype(np.int64)
        inner = np.where(value == 0, 0, np.where(value == LEVELS, WHOLE, inner))
        return inner + LEAST_MASS * value


@cache
def _cumulative(log_scale: int) -> NDArray[np.int32]:
    """Return the logistic distribution function at 2 REACH + 1 multiples of 1 / UNIT, less what all values keep."""
    width = float(exp(np.array([-log_scale / 2**LOG_SCALE_BITS]))[0])
    distance = np.arange(-REACH, REACH + 1) / UNIT
    rising = np.maximum.accumulate(np.floor(WHOLE * sigmoid(distance * width)))
    return rising.astype(np.int32)


def _bounded_mean(mean: Int64s) -> Int64s:
    bounded: Int64s = mean.clip(0, (LEVELS - 1) * UNIT)
    return bounded
