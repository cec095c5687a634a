"""What a report compares: curves of points, each the pictures of a test set coded with one setting."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

Numbers = Mapping[str, float]
"""By column of `results.csv`; infinite where a picture came back without loss."""


class Point(NamedTuple):
    """label: what sets it apart on its curve. means: over its pictures, or as published, when there are none.

    failed: name of a picture -> why it has no numbers. run: the folder or file that it was read from.
    """

    label: str
    means: Numbers
    pictures: Mapping[str, Numbers]
    failed: Mapping[str, str]
    run: str

    @property
    def bpp(self) -> float:
        """Return bits per pixel of whole files; NaN for a point that is no file."""
        return self.means.get("bpp", math.nan)

    def quality(self, column: str) -> float:
        return self.means.get(column, math.nan)


class RateCurve(NamedTuple):
    """points: by rising rate. settings: versions and options, for the reader."""

    name: str
    points: tuple[Point, ...]
    settings: str = ""

    @property
    def is_lossless(self) -> bool:
        return all(math.isinf(point.quality("psnr")) for point in self.points)

    @property
    def is_ceiling(self) -> bool:
        """Return whether it has a quality and no rate: what no codec that does the same can surpass."""
        return all(math.isnan(point.bpp) for point in self.points)

    @property
    def is_lossy(self) -> bool:
        return not self.is_lossless and not self.is_ceiling

    def common_pictures(self) -> list[str]:
        """Return the pictures that every point has measured, in the order of the first."""
        first, *others = self.points
        return [name for name in first.pictures if all(name in point.pictures for point in others)]


def curve(name: str, points: Iterable[Point], settings: str = "") -> RateCurve:
    """Order points by rate."""
    return RateCurve(name, tuple(sorted(points, key=lambda point: (point.bpp, point.label))), settings)


def means(pictures: Iterable[Numbers]) -> dict[str, float]:
    """Over the pictures that have the number, each with equal weight."""
    columns: dict[str, list[float]] = {}
    for picture in pictures:
        for name, value in picture.items():
            if not math.isnan(value):
                columns.setdefault(name, []).append(value)
    return {name: fmean(values) for name, values in columns.items()}


def with_decibels(numbers: Numbers) -> dict[str, float]:
    """Return also MS-SSIM on a logarithmic scale, -10 log10(1 - MS-SSIM), where differences near 1 can be seen."""
    ms_ssim = numbers.get("ms_ssim", math.nan)
    if math.isnan(ms_ssim):
        return dict(numbers)
    decibels = -10.0 * math.log10(1.0 - ms_ssim) if ms_ssim < 1.0 else math.inf
    return {**numbers, "ms_ssim_db": decibels}


def unique_names(curves: Sequence[RateCurve]) -> list[RateCurve]:
    """Give the second of equal names a `(2)`."""
    counts: dict[str, int] = {}
    named = []
    for one in curves:
        counts[one.name] = counts.get(one.name, 0) + 1
        number = counts[one.name]
        named.append(one if number == 1 else one._replace(name=f"{one.name} ({number})"))
    return named
