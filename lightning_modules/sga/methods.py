"""The methods of both papers: what each does to a latent at each step, as objects that the loop knows nothing about.

| method                  | a latent in the objective                    | from                                        |
|-------------------------|----------------------------------------------|---------------------------------------------|
| `Unrounded`             | as it is                                     | MAP: Yang et al. 2020, ablation A1          |
| `StraightThrough`       | rounded; its gradient as if it were not      | STE: A2                                     |
| `UniformNoise`          | plus U(-1/2, 1/2)                            | A3                                          |
| `DeterministicAnnealing`| the mean of a relaxed rounding               | A4                                          |
| `StochasticAnnealing`   | a sample of a relaxed rounding               | SGA; SGA+ with its rules and schedules      |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from lightning_modules.quantization import Quantizer, straight_through
from lightning_modules.sga.noise import Draw
from lightning_modules.sga.rounding import Rule
from lightning_modules.sga.temperature import Temperature


class Method(Protocol):
    """A method replaces rounding by something that has a gradient, step by step."""

    def temperature(self, step: int) -> float:
        """Return the temperature of a step, for the trace; NaN for a method without one."""

    def quantizer(self, step: int, draw: Draw) -> Quantizer:
        """Return the quantizer of a step, counted from 0. Its random numbers come from `draw` alone."""


@dataclass(frozen=True)
class Unrounded:
    """Latents stay unrounded: the rate is that of the density convolved with a unit box."""

    def temperature(self, step: int) -> float:
        del step
        return math.nan

    def quantizer(self, step: int, draw: Draw) -> Quantizer:
        del step, draw
        return lambda value, offset: value


@dataclass(frozen=True)
class StraightThrough:
    """Rounding, through which gradients pass as if it were not there."""

    def temperature(self, step: int) -> float:
        del step
        return math.nan

    def quantizer(self, step: int, draw: Draw) -> Quantizer:
        del step, draw
        return straight_through


@dataclass(frozen=True)
class UniformNoise:
    """The noise of training, fresh at each step."""

    def temperature(self, step: int) -> float:
        del step
        return math.nan

    def quantizer(self, step: int, draw: Draw) -> Quantizer:
        del step
        return lambda value, offset: value + (draw(value) - 0.5)


@dataclass(frozen=True)
class DeterministicAnnealing:
    """The mean of the rule's classes, on the grid's own coordinates."""

    rule: Rule
    schedule: Temperature

    def temperature(self, step: int) -> float:
        return self.schedule(step)

    def quantizer(self, step: int, draw: Draw) -> Quantizer:
        del draw
        tau = self.schedule(step)

        def quantize(value: Tensor, offset: Tensor) -> Tensor:
            return self.rule.mean(value - offset, tau) + offset

        return quantize


@dataclass(frozen=True)
class StochasticAnnealing:
    """A sample of the rule's classes, on the grid's own coordinates, fresh at each step for each element."""

    rule: Rule
    schedule: Temperature

    def temperature(self, step: int) -> float:
        return self.schedule(step)

    def quantizer(self, step: int, draw: Draw) -> Quantizer:
        tau = self.schedule(step)

        def quantize(value: Tensor, offset: Tensor) -> Tensor:
            return self.rule.sample(value - offset, tau, draw) + offset

        return quantize
