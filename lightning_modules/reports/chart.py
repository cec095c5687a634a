"""Panels of points and curves side by side, with axes, a legend and labels beside points, as a PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL_SIZE = (640, 480)
"""(width, height) of a panel in pixels, its labels included."""

DOTS_PER_INCH = 100
COLOURS = ("#0b5cad", "#c4572b", "#3f8f4f", "#7a4fa3", "#b8860b", "#0f8b8d", "#a23b72", "#5c5c61")
MARKERS = "os^DvPX*"
MOST_MARKERS = 40
"""Points of a curve that are marked; one of more is a line."""

WIDE = 5.0
"""A range of positive places is drawn on a logarithmic axis where its ends differ by more than this factor."""

Point = tuple[float, float]


class Series(NamedTuple):
    """label: for the legend. points: joined in their order. names: beside each point. Both are empty for none."""

    label: str
    points: Sequence[Point]
    names: Sequence[str] = ()


class Panel(NamedTuple):
    """x_label, y_label: with units. backdrop: a series drawn first and faintly. log_x: a logarithmic x axis."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    backdrop: Series | None = None
    log_x: bool = False


def draw(panels: Sequence[Panel]) -> bytes:
    """Return a PNG of the panels from left to right, the same for equal panels, without points that are not finite."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = (side / DOTS_PER_INCH for side in PANEL_SIZE)
    figure = Figure(figsize=(width * len(panels), height), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw_panel(axes, panel)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def is_wide(values: Iterable[float]) -> bool:
    """Return whether places are better told apart on a logarithmic axis."""
    places = list(values)
    return bool(places) and min(places) > 0 and max(places) > WIDE * min(places)


def _draw_panel(axes: Axes, panel: Panel) -> None:
    axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    axes.grid(alpha=0.3)
    if panel.backdrop:
        axes.plot(*_columns(panel.backdrop), color="#c9c8c4", linewidth=7, label=panel.backdrop.label)
    styles = zip(cycle(COLOURS), (marker for marker in cycle(MARKERS) for _ in COLOURS), strict=False)
    named: list[tuple[Point, str, str]] = []
    for series, (colour, marker) in zip(panel.series, styles, strict=False):
        few = len(series.points) <= MOST_MARKERS
        axes.plot(*_columns(series), color=colour, marker=marker if few else "", markersize=5, label=series.label)
        named += [(point, name, colour) for point, name in zip(series.points, series.names, strict=False)]
    if named:
        axes.margins(x=0.15, y=0.08)
        _draw_names(axes, named)
    if panel.log_x:
        _count_in_powers(axes, [x for series in panel.series for x, _ in series.points])
    if any(series.label for series in panel.series):
        axes.legend(fontsize=8)


def _draw_names(axes: Axes, named: Sequence[tuple[Point, str, str]]) -> None:
    """(point, name, colour): beside the points, from below to above on their right and left by turns."""
    finite = [one for one in named if one[1] and all(map(math.isfinite, one[0]))]
    for number, (point, name, colour) in enumerate(sorted(finite, key=lambda one: one[0][1])):
        across, side = ((7, "left"), (-7, "right"))[number % 2]
        place = axes.annotate(name, point, (across, 0), textcoords="offset points", color=colour, fontsize=8)
        place.set(ha=side, va="center")


def _count_in_powers(axes: Axes, places: Sequence[float]) -> None:
    """A logarithmic axis with a tick at each place: settings that were tried, not decades."""
    axes.set_xscale("log")
    axes.set_xticks(sorted(set(places)), [f"{place:g}" for place in sorted(set(places))])
    axes.minorticks_off()


def _columns(series: Series) -> tuple[list[float], list[float]]:
    finite = [point for point in series.points if all(map(math.isfinite, point))]
    return [x for x, _ in finite], [y for _, y in finite]
