"""Transcendental functions with the same bits on every machine: float64 arrays, elementwise.

A library's exp or erf may differ in the last bit from one version or processor to the next. These are made of single
additions, multiplications, divisions, comparisons and roundings, one array operation each, which IEEE 754 rounds
correctly everywhere; no two of them can be fused, and nothing is summed over an axis. Relative errors are below 1e-10.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Float64s = NDArray[np.float64]

REACH = 700.0
"""Arguments of `exp` are clamped to this magnitude: results then stay clear of subnormal numbers."""

_LOG2_E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10
"""ln 2 in two parts: small integers times the first are exact."""

_INVERSE_FACTORIALS = [1 / math.factorial(n) for n in range(14)]

_ERFCX_SCALE = 0.25
_ERFCX = (
    0.2739989152500879,
    0.24413718226733472,
    0.19330217556768733,
    0.13521345798172368,
    0.08271289703848762,
    0.0435027319795984,
    0.019095377013070604,
    0.006592529011951978,
    0.001528027602555633,
    7.018433437702927e-05,
    -0.00011381632271627238,
    -4.409294993432439e-05,
    -7.951310189062612e-07,
    4.5906308378939455e-06,
    1.035085056541451e-06,
    -2.811997781041968e-07,
    -1.1816014759734915e-07,
)
"""exp(x^2) erfc(x) = t p(2 t - 1), t = 1 / (1 + x / 4), x >= 0: p by interpolation at Chebyshev points."""


def exp(x: Float64s) -> Float64s:
    """Return e^x for |x| <= 700; larger magnitudes count as 700."""
    bounded = np.clip(x, -REACH, REACH)
    power = np.floor(bounded * _LOG2_E + 0.5)
    rest = bounded - power * _LN2_HIGH
    rest = rest - power * _LN2_LOW
    value: Float64s = np.ldexp(_polynomial(rest, _INVERSE_FACTORIALS), power.astype(np.int32))
    return value


def scaled_erfc(x: Float64s) -> Float64s:
    """Return exp(x^2) erfc(x) for x >= 0."""
    t = 1.0 / (1.0 + _ERFCX_SCALE * x)
    return t * _polynomial(2.0 * t - 1.0, _ERFCX)


def normal_cdf(x: Float64s) -> Float64s:
    """Return the distribution function of the standard normal; its left tail keeps its relative precision."""
    magnitude = np.abs(x)
    tail = 0.5 * exp(-0.5 * (magnitude * magnitude)) * scaled_erfc(magnitude * math.sqrt(0.5))
    return np.where(x > 0, 1.0 - tail, tail)


def sigmoid(x: Float64s) -> Float64s:
    """Return 1 / (1 + e^-x)."""
    return 1.0 / (1.0 + exp(-x))


def tanh(x: Float64s) -> Float64s:
    """Return (1 - e^-2|x|) / (1 + e^-2|x|) with the sign of x; its error is absolute, not relative, near 0."""
    decay = exp(-2.0 * np.abs(x))
    return np.copysign((1.0 - decay) / (1.0 + decay), x)


def normal_quantiles(count: int) -> Float64s:
    """Return the (i + 1/2) / count quantiles of the standard normal distribution, (count,), by bisection."""
    wanted = (np.arange(count) + 0.5) / count
    low, high = np.full(count, -9.0), np.full(count, 9.0)
    for _ in range(56):
        middle = 0.5 * (low + high)
        below = normal_cdf(middle) < wanted
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return 0.5 * (low + high)


def _polynomial(x: Float64s, coefficients: list[float] | tuple[float, ...]) -> Float64s:
    """Horner's rule, constant term first."""
    value = np.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value *= x
        value += coefficient
    return value
