"""Panels of points and curves side by side, with axes, a legend and labels beside points, as a PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from lightning_modules.chart_labels import Box, LabelPlacer

PANEL_SIZE = (640, 460)
"""(width, height) of a panel, its labels included."""

PAPER, INK, FAINT = "#fbfaf7", "#1d1d1f", "#c9c8c4"
COLOURS = ("#0b5cad", "#c4572b", "#3f8f4f", "#7a4fa3", "#b8860b", "#0f8b8d", "#a23b72", "#5c5c61")
LEFT, RIGHT, TOP, BOTTOM = 78, 24, 40, 62
FONT_SIZE, LINE = 14, 20
MARKER = 4
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

    def curves(self) -> list[Series]:
        return [*([self.backdrop] if self.backdrop else []), *self.series]


def draw(panels: Sequence[Panel]) -> bytes:
    """A PNG with the panels from left to right. Points that are not finite are left out."""
    width, height = PANEL_SIZE
    picture = Image.new("RGB", (width * len(panels), height), PAPER)
    for number, panel in enumerate(panels):
        area = Image.new("RGB", PANEL_SIZE, PAPER)
        _Drawing(ImageDraw.Draw(area), panel).draw()
        picture.paste(area, (number * width, 0))
    file = io.BytesIO()
    picture.save(file, "png")
    return file.getvalue()


def value_range(values: Iterable[float]) -> tuple[float, float]:
    """(lowest, highest) of the finite ones, a little wider; (0, 1) where there is none."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return 0.0, 1.0
    margin = 0.06 * (max(finite) - min(finite)) or 0.06 * abs(finite[0]) or 0.06
    return min(finite) - margin, max(finite) + margin


def is_wide(values: Iterable[float]) -> bool:
    """Whether places are better told apart on a logarithmic axis."""
    places = list(values)
    return bool(places) and min(places) > 0 and max(places) > WIDE * min(places)


def ticks(low: float, high: float) -> list[float]:
    """Three to eight round numbers in a range: multiples of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / 3))
    step = next(power * factor for factor in (5, 2, 1) if (high - low) / (power * factor) >= 3)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten in a range above 0; powers alone where those would be many."""
    powers = [10.0**k for k in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    fine = [power * factor for power in powers for factor in (1, 2, 5) if low <= power * factor <= high]
    return fine if len(fine) <= 9 else [power for power in powers if low <= power <= high]


class _Drawing:
    """One panel on an area of `PANEL_SIZE`."""

    def __init__(self, draw: ImageDraw.ImageDraw, panel: Panel) -> None:
        self.pen, self.panel = draw, panel
        self.font = ImageFont.load_default(FONT_SIZE)
        points = [point for curve in panel.curves() for point in curve.points if all(map(math.isfinite, point))]
        self.x_range = value_range(self._across(x) for x, _ in points)
        self.y_range = value_range(y for _, y in points)
        self.frame = Box(LEFT, TOP + self._legend_height(), PANEL_SIZE[0] - RIGHT, PANEL_SIZE[1] - BOTTOM)

    def draw(self) -> None:
        self._axes()
        self._legend()
        if self.panel.backdrop:
            self.pen.line(self._places(self.panel.backdrop), fill=FAINT, width=8, joint="curve")
        for number, series in enumerate(self.panel.series):
            self._curve(series, COLOURS[number % len(COLOURS)])
        self._names()

    def _across(self, x: float) -> float:
        """Where x is on the axis, before it is scaled to the frame."""
        return math.log10(x) if self.panel.log_x else x

    def _place(self, point: Point) -> Point:
        (left, right), (low, high) = self.x_range, self.y_range
        across, up = (self._across(point[0]) - left) / (right - left), (point[1] - low) / (high - low)
        frame = self.frame
        return frame.left + across * (frame.right - frame.left), frame.bottom - up * (frame.bottom - frame.top)

    def _places(self, series: Series) -> list[Point]:
        return [self._place(point) for point in series.points if all(map(math.isfinite, point))]

    def _axes(self) -> None:
        pen, frame, (low, high) = self.pen, self.frame, self.x_range
        for y in ticks(*self.y_range):
            height = self._place((10.0**low if self.panel.log_x else low, y))[1]
            pen.line([(frame.left, height), (frame.right, height)], fill=FAINT)
            pen.text((frame.left - 8, height), f"{y:g}", fill=INK, font=self.font, anchor="rm")
        for x in log_ticks(10.0**low, 10.0**high) if self.panel.log_x else ticks(low, high):
            across = self._place((x, 0.0))[0]
            pen.line([(across, frame.bottom), (across, frame.bottom + 5)], fill=INK)
            pen.text((across, frame.bottom + 8), f"{x:g}", fill=INK, font=self.font, anchor="ma")
        pen.line([(frame.left, frame.top), (frame.left, frame.bottom), (frame.right, frame.bottom)], fill=INK)
        centre = (frame.left + frame.right) / 2
        pen.text((centre, frame.bottom + 30), self.panel.x_label, fill=INK, font=self.font, anchor="ma")
        pen.text((10, 10), self.panel.title, fill=INK, font=self.font)
        pen.text((10, frame.top - 6), self.panel.y_label, fill=INK, font=self.font, anchor="ls")

    def _entries(self) -> list[tuple[Point, str, str]]:
        """(place, label, colour) of the legend, in lines as wide as the panel."""
        colours = [*([FAINT] if self.panel.backdrop else []), *(COLOURS[k % len(COLOURS)] for k in range(999))]
        entries, across, down = [], 10.0, float(TOP - 4)
        for series, colour in zip(self.panel.curves(), colours, strict=False):
            width = self.font.getlength(series.label) + 46
            if series.label and across > 10 and across + width > PANEL_SIZE[0]:
                across, down = 10.0, down + LINE
            if series.label:
                entries.append(((across, down), series.label, colour))
                across += width
        return entries

    def _legend_height(self) -> int:
        """With the line of the y axis's label below it."""
        entries = self._entries()
        return LINE + (int(entries[-1][0][1]) - TOP + 4 + LINE if entries else 0)

    def _legend(self) -> None:
        for (across, down), label, colour in self._entries():
            self.pen.line([(across, down + 8), (across + 20, down + 8)], fill=colour, width=3)
            self.pen.text((across + 26, down), label, fill=INK, font=self.font)

    def _curve(self, series: Series, colour: str) -> None:
        places = self._places(series)
        if len(places) > 1:
            self.pen.line(places, fill=colour, width=2, joint="curve")
        for x, y in places if len(places) <= MOST_MARKERS else ():
            self.pen.ellipse((x - MARKER, y - MARKER, x + MARKER, y + MARKER), fill=colour)

    def _names(self) -> None:
        """Beside their points, where nothing else is; where that is farther away, with a line to the point."""
        placer = LabelPlacer(self.frame, [place for curve in self.panel.series for place in self._places(curve)])
        named = [
            (self._place(point), name, COLOURS[number % len(COLOURS)])
            for number, series in enumerate(self.panel.series)
            for point, name in zip(series.points, series.names, strict=False)
            if name and all(map(math.isfinite, point))
        ]
        labels = [placer.place(place, (self.font.getlength(name), FONT_SIZE)) for place, name, _ in named]
        for (place, _, _), label in zip(named, labels, strict=True):
            if label.leader:
                self.pen.line([place, label.leader], fill=FAINT)
        for (_, name, colour), label in zip(named, labels, strict=True):
            place = label.box.left, label.box.top - 2
            self.pen.text(place, name, fill=colour, font=self.font, stroke_width=2, stroke_fill=PAPER)
