"""Every curve against the anchor: BD-rate and BD-PSNR with an interval over pictures, and picture by picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lightning_modules.errors import CodingError
from lightning_modules.reports.bjontegaard_delta import (
    Delta,
    Incomparable,
    Values,
    delta,
    interval,
    outliers,
    rate_difference,
)
from lightning_modules.reports.rate_curve import RateCurve


class CurveDelta(NamedTuple):
    """delta, limits: None where there is no such number; `note` then says why. limits: of the BD-rate, in percent.

    pictures: how many both curves have at all points; 0 where one is published without its pictures.
    """

    curve: str
    method: str
    delta: Delta | None
    limits: tuple[float, float] | None
    pictures: int
    note: str

    def sentence(self) -> str:
        """Return the difference in words, for the terminal."""
        if self.delta is None:
            return f"no BD-rate ({self.method}): {self.note}"
        limits = "" if self.limits is None else f" [{self.limits[0]:+.2f}, {self.limits[1]:+.2f}]"
        found = f"BD-rate {self.delta.rate:+.2f} %{limits}, BD-PSNR {self.delta.quality:+.3f} dB"
        return f"{found} ({self.method}, overlap {self.delta.overlap:.0%})"

    def as_record(self) -> dict[str, Any]:
        """Return the difference for JSON: flat, with None for what there is not."""
        low, high = self.limits or (None, None)
        rate, quality, overlap = self.delta or (None, None, None)
        return {
            "curve": self.curve,
            "method": self.method,
            "bd_rate_percent": rate,
            "bd_rate_low": low,
            "bd_rate_high": high,
            "bd_psnr_db": quality,
            "overlap": overlap,
            "pictures": self.pictures,
            "note": self.note,
        }


class PictureDelta(NamedTuple):
    """rate: in percent; NaN where the picture's curves cannot be compared."""

    name: str
    rate: float
    is_outlier: bool


def choose_anchor(curves: Sequence[RateCurve], name: str | None) -> RateCurve:
    """Return the curve of this name; for None the lossy one with the most points, the first of equals."""
    lossy = [one for one in curves if one.is_lossy]
    if name is None:
        return max(lossy or curves, key=lambda one: len(one.points))
    for one in lossy:
        if one.name == name:
            return one
    names = ", ".join(repr(one.name) for one in lossy)
    raise CodingError(f"anchor={name}: no curve of this name; the lossy ones are {names}")


def curve_delta(anchor: RateCurve, test: RateCurve, method: str, resamples: int, seed: int) -> CurveDelta:
    """Compare means over the pictures that both have at all points, or published means where one has no pictures."""
    common = common_pictures(anchor, test)
    published = not anchor.points[0].pictures or not test.points[0].pictures
    if not common and not published:
        return CurveDelta(test.name, method, None, None, 0, "measured on other pictures")
    note = "means as published: their pictures are not known" if published else _left_out(anchor, test, common)
    try:
        found = delta(_means(anchor), _means(test), method) if published else _of(anchor, test, common, method)
    except Incomparable as reason:
        return CurveDelta(test.name, method, None, None, len(common), str(reason))
    limits = None
    if common:
        first, second = _table(anchor, common), _table(test, common)

        def rate(weights: Values) -> float:
            return rate_difference(_weighted(first, weights), _weighted(second, weights), method)

        limits = interval(rate, len(common), resamples, seed)
    return CurveDelta(test.name, method, found, limits, len(common), note)


def picture_deltas(anchor: RateCurve, test: RateCurve, method: str) -> list[PictureDelta]:
    """BD-rate of each picture that both have, those far from the others marked."""
    names = common_pictures(anchor, test)
    rates = [_picture_rate(anchor, test, name, method) for name in names]
    marks = outliers(rates)
    return [PictureDelta(name, rate, mark) for name, rate, mark in zip(names, rates, marks, strict=True)]


def common_pictures(one: RateCurve, other: RateCurve) -> list[str]:
    theirs = set(other.common_pictures())
    return [name for name in one.common_pictures() if name in theirs]


def _picture_rate(anchor: RateCurve, test: RateCurve, name: str, method: str) -> float:
    try:
        return _of(anchor, test, [name], method).rate
    except Incomparable:
        return math.nan


def _of(anchor: RateCurve, test: RateCurve, names: Sequence[str], method: str) -> Delta:
    weights = np.full(len(names), 1.0 / len(names))
    return delta(_weighted(_table(anchor, names), weights), _weighted(_table(test, names), weights), method)


def _table(one: RateCurve, names: Sequence[str]) -> Values:
    """(points, pictures, 2): bits per pixel and PSNR; NaN for what was not measured."""
    return np.array(
        [
            [[point.pictures[name].get(column, math.nan) for column in ("bpp", "psnr")] for name in names]
            for point in one.points
        ]
    )


def _weighted(table: Values, weights: Values) -> list[tuple[float, float]]:
    """Weighted means over pictures; infinite where a picture of any weight has no error."""
    chosen = weights > 0
    return [(float(r), float(q)) for r, q in np.einsum("kpc,p->kc", table[:, chosen], weights[chosen])]


def _means(one: RateCurve) -> list[tuple[float, float]]:
    return [(point.bpp, point.quality("psnr")) for point in one.points]


def _left_out(anchor: RateCurve, test: RateCurve, common: Sequence[str]) -> str:
    """How many pictures some point lacks."""
    every = {name for one in (anchor, test) for point in one.points for name in (*point.pictures, *point.failed)}
    return f"{len(every) - len(common)} pictures left out: not all points have them" if len(every) > len(common) else ""
