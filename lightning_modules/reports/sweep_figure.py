"""The jobs of a sweep as a picture: PSNR and distances against rate, the loss against the setting that was studied.

Studied is the numeric setting with the most values. Jobs that differ in nothing else are one curve.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from lightning_modules.reports.chart import Panel, Point, Series, draw, is_wide
from lightning_modules.reports.sweep_table import Row, distance_columns, job_name

MOST_NAMES = 40
"""Where there are more points, only the ends of curves are named."""

RATE_SETTINGS = {"lmbda", "target_bpp", "target_psnr"}
"""Settings, by the last part of their names, that move along a rate-distortion curve."""


class Curve(NamedTuple):
    """Jobs by rising value of the studied setting; alone where there is none."""

    label: str
    rows: list[Row]


def summary_figure(table: Sequence[Row]) -> bytes | None:
    """Return a PNG; None where nothing was measured."""
    measured = [row for row in table if row.outcome.means.psnr is not None]
    if not measured:
        return None
    studied = studied_setting(measured)
    found = curves(measured, studied)
    panels = [rate_distortion_panel(found, studied)]
    panels += [distance_panel(found, studied, name) for name in distance_columns(measured)]
    if studied is not None and all(row.outcome.means.loss is not None for row in measured):
        panels.append(loss_panel(found, studied))
    return draw(panels)


def studied_setting(table: Sequence[Row]) -> str | None:
    """Return the numeric setting with the most values, the first of equals; None where none is numeric."""
    counts = {
        key: len({row.settings[key] for row in table})
        for key in (table[0].settings if table else ())
        if all(_is_number(row.settings[key]) for row in table)
    }
    return max(counts, key=lambda key: counts[key]) if counts and max(counts.values()) > 1 else None


def curves(table: Sequence[Row], studied: str | None) -> list[Curve]:
    """Return the curves in the order in which they begin."""
    groups: dict[str, list[Row]] = {}
    for row in table:
        others = {key: value for key, value in row.settings.items() if key != studied}
        label = ", ".join(f"{key}={value}" if _is_number(value) else value for key, value in others.items())
        groups.setdefault(label if studied or others else job_name(row), []).append(row)
    if studied is None:
        return [Curve(label, rows) for label, rows in groups.items()]
    return [Curve(label, sorted(rows, key=lambda row: float(row.settings[studied]))) for label, rows in groups.items()]


def rate_distortion_panel(found: Sequence[Curve], studied: str | None) -> Panel:
    """Draw rate and distortion, with the envelope of all points where several curves follow the rate."""
    points = [[_rate_point(row) for row in curve.rows] for curve in found]
    series = _named_series(found, studied, points)
    along_rate = studied is not None and studied.rpartition(".")[2] in RATE_SETTINGS and len(found) > 1
    best = Series("envelope", envelope([p for curve in points for p in curve])) if along_rate else None
    title = "quality and rate" if studied is None else f"quality and rate; beside each point its {studied}"
    return Panel(title, "bits per pixel of the file", "PSNR in dB", series, best)


def distance_panel(found: Sequence[Curve], studied: str | None, name: str) -> Panel:
    """Draw a further metric against rate."""
    points = [[(_rate_point(row)[0], row.outcome.means.further.get(name, math.nan)) for row in c.rows] for c in found]
    return Panel(f"{name} and rate", "bits per pixel of the file", name, _named_series(found, studied, points))


def loss_panel(found: Sequence[Curve], studied: str) -> Panel:
    """Draw the loss, in percent of the encoder network's own, where that is known of every job."""
    known = all(row.loss_percent is not None for curve in found for row in curve.rows)
    points = [[(float(row.settings[studied]), _loss(row, known)) for row in curve.rows] for curve in found]
    series = [Series(_legend(curve, found), p) for curve, p in zip(found, points, strict=True)]
    unit = "loss in % of the best amortised one" if known else "loss = lmbda * mse + bpp"
    wide = is_wide(x for curve in points for x, _ in curve)
    return Panel(f"loss by {studied}", studied, unit, series, log_x=wide)


def envelope(points: Sequence[Point]) -> list[Point]:
    """Return the (rate, quality), by rate, that no other point surpasses, nor a mixture of two (the upper hull)."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p[0], -p[1])):
        if best and point[1] <= best[-1][1]:
            continue
        while len(best) > 1 and _slope(best[-2], best[-1]) <= _slope(best[-1], point):
            best.pop()
        best.append(point)
    return best


def _slope(one: Point, other: Point) -> float:
    return (other[1] - one[1]) / (other[0] - one[0])


def _named_series(found: Sequence[Curve], studied: str | None, points: Sequence[Sequence[Point]]) -> list[Series]:
    """Each curve with its points, which have their setting beside them."""
    many = sum(map(len, points)) > MOST_NAMES
    return [Series(_legend(c, found), p, _names(c, studied, many)) for c, p in zip(found, points, strict=True)]


def _legend(curve: Curve, found: Sequence[Curve]) -> str:
    """Where a curve has one point only, that is named instead."""
    return curve.label if any(len(other.rows) > 1 for other in found) else ""


def _names(curve: Curve, studied: str | None, many: bool) -> list[str]:
    if studied is None:
        return [curve.label] * len(curve.rows)
    last = len(curve.rows) - 1
    return [row.settings[studied] if not many or k in (0, last) else "" for k, row in enumerate(curve.rows)]


def _rate_point(row: Row) -> Point:
    means = row.outcome.means
    return (math.nan if means.bpp is None else means.bpp, math.nan if means.psnr is None else means.psnr)


def _loss(row: Row, in_percent: bool) -> float:
    value = row.loss_percent if in_percent else row.outcome.means.loss
    return math.nan if value is None else value


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
