"""How much rate one curve saves against another at equal quality, as one number, and how sure that number is.

BD-rate is the mean difference of log rate over the common range of quality, BD-PSNR that of quality over the common
range of log rate (Bjontegaard, "Calculation of average PSNR differences between RD-curves", VCEG-M33, 2001). The
curves between the points come from the library `bjontegaard` (Herglotz et al., "The Bjontegaard Bible", 2024).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_modules.errors import CodingError

Values = NDArray[np.float64]

Points = tuple[Values, Values]
"""(rates, qualities), both rising."""

LEAST_POINTS = {"akima": 3, "cubic": 4, "pchip": 3}
"""By method: Akima's and Fritsch and Carlson's piecewise cubics through all points, or one cubic fitted to them."""

COVERAGE = 0.95
"""Of an interval."""


class Incomparable(Exception):
    """There is no such number for two curves; the message says why, in a few words."""


class Delta(NamedTuple):
    """rate: in percent, negative for fewer bits. quality: in dB. overlap: common share of both ranges of quality."""

    rate: float
    quality: float
    overlap: float


def delta(anchor: Iterable[tuple[float, float]], test: Iterable[tuple[float, float]], method: str) -> Delta:
    """Compare two sets of (rate in bits per pixel, quality in dB), in any order.

    Raises `Incomparable` for too few points, for quality that does not rise with rate, and for ranges that have
    nothing in common; `CodingError` where the library is missing or there is no such method.
    """
    first, second = _comparable(anchor, test, method)
    quality = _library().bd_psnr(*first, *second, method=method, require_matching_points=False, min_overlap=0)
    return Delta(_rate(first, second, method), float(quality), _overlap(first[1], second[1]))


def rate_difference(anchor: Iterable[tuple[float, float]], test: Iterable[tuple[float, float]], method: str) -> float:
    """`delta(anchor, test, method).rate`, in half the time."""
    return _rate(*_comparable(anchor, test, method), method)


def _rate(first: Points, second: Points, method: str) -> float:
    return float(_library().bd_rate(*first, *second, method=method, require_matching_points=False, min_overlap=0))


def _comparable(
    anchor: Iterable[tuple[float, float]], test: Iterable[tuple[float, float]], method: str
) -> tuple[Points, Points]:
    if method not in LEAST_POINTS:
        raise CodingError(f"no interpolation named {method}; methods= takes some of: {', '.join(LEAST_POINTS)}")
    first, second = _rising(anchor, method), _rising(test, method)
    if _overlap(first[1], second[1]) <= 0.0 or _overlap(first[0], second[0]) <= 0.0:
        raise Incomparable("the ranges do not overlap")
    return first, second


def interval(
    rate_of: Callable[[Values], float], num_pictures: int, resamples: int, seed: int
) -> tuple[float, float] | None:
    """Return the percentile interval of `rate_of` under resampling of pictures (Efron 1979), None for fewer than two.

    rate_of: from weights of the pictures, (num_pictures,) summing to one, to a BD-rate in percent; those that it
    cannot give (`Incomparable`) are left out, and None is the answer when they are more than one in twenty.
    """
    if num_pictures < 2:
        return None
    draws = np.random.default_rng(seed).integers(num_pictures, size=(resamples, num_pictures))
    found = [rate for draw in draws if (rate := _or_none(rate_of, draw, num_pictures)) is not None]
    if len(found) < 0.95 * resamples:
        return None
    tail = 50.0 * (1.0 - COVERAGE)
    low, high = np.percentile(found, [tail, 100.0 - tail])
    return float(low), float(high)


def outliers(values: Sequence[float]) -> list[bool]:
    """Mark those that lie more than one and a half times the range of the middle half away from it (Tukey 1977)."""
    finite = [value for value in values if np.isfinite(value)]
    if len(finite) < 4:
        return [False] * len(values)
    low, high = np.percentile(finite, [25, 75])
    reach = 1.5 * (high - low)
    return [bool(np.isfinite(value) and not low - reach <= value <= high + reach) for value in values]


def _or_none(rate_of: Callable[[Values], float], draw: NDArray[np.int64], num_pictures: int) -> float | None:
    try:
        return rate_of(np.bincount(draw, minlength=num_pictures) / num_pictures)
    except Incomparable:
        return None


def _rising(points: Iterable[tuple[float, float]], method: str) -> Points:
    """Rates and qualities of the finite points, by rate."""
    finite = sorted(point for point in points if np.isfinite(point).all() and point[0] > 0)
    if len(finite) < LEAST_POINTS[method]:
        raise Incomparable(f"{method} needs {LEAST_POINTS[method]} points")
    rates, qualities = np.array(finite, dtype=np.float64).T
    if (np.diff(rates) <= 0).any() or (np.diff(qualities) <= 0).any():
        raise Incomparable("quality does not rise with rate")
    return rates, qualities


def _overlap(one: Values, other: Values) -> float:
    """Length of what two ranges share over that of both together."""
    shared = min(one[-1], other[-1]) - max(one[0], other[0])
    return float(max(0.0, shared) / (max(one[-1], other[-1]) - min(one[0], other[0])))


def _library() -> Any:
    """A module of an extra, which a plain installation lacks."""
    try:
        return importlib.import_module("bjontegaard")
    except ImportError:
        raise CodingError("bjontegaard is not installed; pip install -e .[metrics]") from None
