"""Learning-rate schedules: closures from the optimizer step to the factor on the base rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Schedule = Callable[[int], float]


def constant(warmup: int) -> Schedule:
    """Rise linearly over `warmup` steps, from 1 / (warmup + 1) so that no step is lost, then stay at 1."""
    return lambda step: min(1.0, (step + 1) / (warmup + 1))


def stepwise(warmup: int, milestones: Sequence[int], factor: float) -> Schedule:
    """Follow `constant`, multiplied by `factor` from each milestone (a step) on."""
    rise = constant(warmup)
    return lambda step: rise(step) * factor ** sum(step >= milestone for milestone in milestones)


def cosine(warmup: int, total: int, final: float) -> Schedule:
    """Rise over `warmup` steps, then fall by half a cosine from 1 to `final` at step `total`."""
    rise = constant(warmup)

    def factor(step: int) -> float:
        progress = min(1.0, max(0.0, (step - warmup) / max(1, total - warmup)))
        return rise(step) * (final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * progress)))

    return factor
