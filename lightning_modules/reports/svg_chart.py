"""A panel as SVG for a page: sizes that stay readable on a telephone, colours that the page's style gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from lightning_modules.reports.chart import Panel, Point, Series

WIDTH, HEIGHT = 480, 360
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 14, 48
COLOURS = 8
"""The style has `c0` ... `c7`; later series begin again, dashed."""


def svg(panel: Panel) -> str:
    """Draw each finite point as a circle of class `point` with `data-series` and `data-name`."""
    finite = [_finite(series) for series in panel.series]
    x_ticks, y_ticks = (ticks([point[axis] for series in finite for point in series.points]) for axis in (0, 1))

    def place(point: Point) -> tuple[str, str]:
        across = (point[0] - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        up = (point[1] - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        x, y = LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)
        return f"{x:.1f}", f"{y:.1f}"

    grid = [_vertical(place((tick, y_ticks[0]))[0], label) for tick, label in _labelled(x_ticks)]
    grid += [_horizontal(place((x_ticks[0], tick))[1], label) for tick, label in _labelled(y_ticks)]
    curves = [_curve(k, series, [place(point) for point in series.points]) for k, series in enumerate(finite)]
    middle = (HEIGHT - BOTTOM + TOP) / 2
    labels = (
        f'<text class="axis" x="{(WIDTH + LEFT - RIGHT) / 2:.0f}" y="{HEIGHT - 8}">{escape(panel.x_label)}</text>'
        f'<text class="axis" transform="translate(15 {middle:.0f}) rotate(-90)">{escape(panel.y_label)}</text>'
    )
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(panel.title)}">'
    return "\n".join([head, *grid, labels, *curves, "</svg>"])


def ticks(values: Sequence[float]) -> list[float]:
    """Five to ten round places, equally far apart, around all values."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 2.5, 5, 10) if size * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, last + 1)]


def _labelled(places: Sequence[float]) -> list[tuple[float, str]]:
    decimals = max(0, -math.floor(math.log10(places[1] - places[0]) + 1e-9))
    exact = abs(places[1] - places[0] - round(places[1] - places[0], decimals)) < 1e-9
    return [(place, f"{place:.{decimals + (not exact)}f}") for place in places]


def _finite(series: Series) -> Series:
    names = [*series.names, *[""] * (len(series.points) - len(series.names))]
    kept = [(p, name) for p, name in zip(series.points, names, strict=True) if all(map(math.isfinite, p))]
    return Series(series.label, [point for point, _ in kept], [name for _, name in kept])


def _curve(number: int, series: Series, places: Sequence[tuple[str, str]]) -> str:
    dashed = " dashed" if number // COLOURS % 2 else ""
    line = " ".join(f"{x},{y}" for x, y in places)
    label = escape(series.label)
    circles = "".join(
        f'<circle class="point" cx="{x}" cy="{y}" r="4" data-series="{label}" data-name="{escape(name)}"/>'
        for (x, y), name in zip(places, series.names, strict=True)
    )
    return f'<g class="c{number % COLOURS}{dashed}" data-curve="{number}"><polyline points="{line}"/>{circles}</g>'


def _vertical(x: str, label: str) -> str:
    line = f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
    return f'{line}<text class="tick" x="{x}" y="{HEIGHT - BOTTOM + 17}">{label}</text>'


def _horizontal(y: str, label: str) -> str:
    line = f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
    return f'{line}<text class="tick left" x="{LEFT - 6}" y="{y}" dy="4">{label}</text>'
