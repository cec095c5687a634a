"""The gradient of the bits of y with respect to what h_s says of it, with the same bits on every machine."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lightning_modules.exact.numpy_functions import exp, scaled_erfc

Float64s = NDArray[np.float64]

LEAST_SCALE = 0.11
LEAST_MASS = 1e-9

_ROOT_HALF = math.sqrt(0.5)
_ROOT_TWO_PI = math.sqrt(2 * math.pi)


def box_gradient(y: Float64s, scale: Float64s, mean: Float64s) -> tuple[Float64s, Float64s]:
    """Compute d/dscale and d/dmean of -ln P, P the mass of N(mean, scale^2) within 1/2 of y; all of one shape.

    scale counts as 0.11 where it is less, and only gradients that would raise it pass there; P as 1e-9.
    """
    sigma = np.maximum(scale, LEAST_SCALE)
    distance = np.abs(y - mean)
    upper, lower = (0.5 - distance) / sigma, (-0.5 - distance) / sigma
    upper_tail, upper_density = _tail(upper)
    lower_tail, lower_density = _tail(lower)
    mass = np.where(upper > 0, 1.0 - upper_tail, upper_tail) - lower_tail
    share = 1.0 / (np.maximum(mass, LEAST_MASS) * sigma)
    by_mean = np.copysign((upper_density - lower_density) * share, mean - y)
    by_scale = (upper * upper_density - lower * lower_density) * share
    return np.where((scale >= LEAST_SCALE) | (by_scale < 0), by_scale, 0.0), by_mean


def _tail(x: Float64s) -> tuple[Float64s, Float64s]:
    """Compute the mass of the standard normal beyond |x|, and its density at x."""
    magnitude = np.abs(x)
    decay = exp(-0.5 * (x * x))
    return 0.5 * decay * scaled_erfc(magnitude * _ROOT_HALF), decay / _ROOT_TWO_PI
