"""Temperature schedules: closures from the step, counted from 0, to tau in [LOWEST, upper].

tau is computed from the step alone and never reaches zero, where rounding rules would divide by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Temperature = Callable[[int], float]

LOWEST = 1e-8


def constant(value: float) -> Temperature:
    """Return the same temperature at every step."""
    return lambda step: _clamp(value, value)


def exponential(rate: float, upper: float) -> Temperature:
    """Fall as exp(-rate step), at most `upper`: the schedule of SGA+, and of deterministic annealing."""
    return lambda step: _clamp(math.exp(-rate * step), upper)


def delayed_exponential(rate: float, upper: float, start: int) -> Temperature:
    """Stay at `upper` until `start`, then fall as upper exp(-rate (step - start)): the schedule of SGA."""
    return lambda step: _clamp(upper * math.exp(-rate * max(0, step - start)), upper)


def linear(rate: float, upper: float, start: int) -> Temperature:
    """Stay at `upper` until `start`, then fall as upper - rate (step - start)."""
    return lambda step: _clamp(upper - rate * max(0, step - start), upper)


def _clamp(value: float, upper: float) -> float:
    return max(LOWEST, min(upper, value))
