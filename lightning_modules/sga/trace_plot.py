"""Curves over steps, panel beside panel, as a PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

PANEL_SIZE = (420, 300)
"""(width, height) of a panel, its labels included."""

PAPER, INK, FAINT = "#fbfaf7", "#1d1d1f", "#c9c8c4"
COLOURS = ("#0b5cad", "#c4572b", "#3f8f4f")
LEFT, RIGHT, TOP, BOTTOM = 62, 18, 34, 34
FONT_SIZE = 12

Point = tuple[float, float]


class Curve(NamedTuple):
    """label: empty where a panel has one curve only. values: one per step; NaN where there is none."""

    label: str
    values: Sequence[float]


def draw_curves(steps: Sequence[int], panels: Mapping[str, Sequence[Curve]]) -> bytes:
    """A PNG with a panel for each title. steps: where the values of each curve belong, ascending."""
    width, height = PANEL_SIZE
    picture = Image.new("RGB", (width * len(panels), height), PAPER)
    for number, (title, curves) in enumerate(panels.items()):
        panel = Image.new("RGB", PANEL_SIZE, PAPER)
        _draw_panel(ImageDraw.Draw(panel), title, steps, curves)
        picture.paste(panel, (number * width, 0))
    file = io.BytesIO()
    picture.save(file, "png")
    return file.getvalue()


def value_range(curves: Sequence[Curve]) -> tuple[float, float]:
    """(lowest, highest) of all finite values, a little wider; (0, 1) where there is none."""
    values = [value for curve in curves for value in curve.values if math.isfinite(value)]
    if not values:
        return 0.0, 1.0
    margin = 0.05 * (max(values) - min(values)) or 0.05 * abs(values[0]) or 0.05
    return min(values) - margin, max(values) + margin


def _draw_panel(draw: ImageDraw.ImageDraw, title: str, steps: Sequence[int], curves: Sequence[Curve]) -> None:
    font = ImageFont.load_default(FONT_SIZE)
    width, height = PANEL_SIZE
    low, high = value_range(curves)
    last = max(1, steps[-1])

    def place(step: float, value: float) -> Point:
        across = LEFT + (width - LEFT - RIGHT) * step / last
        return across, height - BOTTOM - (height - TOP - BOTTOM) * (value - low) / (high - low)

    for tick in (low, (low + high) / 2, high):
        draw.line([place(0, tick), place(last, tick)], fill=FAINT)
        draw.text((LEFT - 6, place(0, tick)[1]), f"{tick:.4g}", fill=INK, font=font, anchor="rm")
    for step in (0, last):
        draw.text((place(step, low)[0], height - BOTTOM + 6), str(step), fill=INK, font=font, anchor="ma")
    draw.text(((LEFT + width - RIGHT) / 2, height - BOTTOM + 6), "step", fill=INK, font=font, anchor="ma")
    draw.text((LEFT, 10), title, fill=INK, font=font)
    for number, curve in enumerate(curves):
        points = [place(step, v) for step, v in zip(steps, curve.values, strict=True) if math.isfinite(v)]
        if len(points) > 1:
            draw.line(points, fill=COLOURS[number], width=2, joint="curve")
        draw.text((width - RIGHT - 60 * number, 10), curve.label, fill=COLOURS[number], font=font, anchor="ra")
