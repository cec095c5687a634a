"""Charts: curves are where their numbers are, places are told apart, nothing is no fault."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image

from lightning_modules.reports.chart import COLOURS, PANEL_SIZE, Panel, Point, Series, draw, is_wide


def panel(*series: Series, log_x: bool = False) -> Panel:
    return Panel("title", "setting", "loss", series, log_x=log_x)


def pixels_of(png: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(png)).convert("RGB"))


def where(pixels: np.ndarray, colour: str) -> np.ndarray:
    """(n, 2) rows and columns of the pixels of a colour."""
    rgb = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
    return np.argwhere((pixels == rgb).all(-1))


def test_panels_stand_side_by_side_each_with_its_curves() -> None:
    one, two = Series("", [(0, 1.0), (1, 2.0)]), Series("", [(0, 2.0), (1, 1.0)])
    pixels = pixels_of(draw([panel(one, two), panel(one)]))
    assert pixels.shape == (PANEL_SIZE[1], 2 * PANEL_SIZE[0], 3)
    assert {int(column) // PANEL_SIZE[0] for column in where(pixels, COLOURS[0])[:, 1]} == {0, 1}
    assert {int(column) // PANEL_SIZE[0] for column in where(pixels, COLOURS[1])[:, 1]} == {0}


@pytest.mark.parametrize(("values", "falls"), [([1.0, 0.5, 0.0], True), ([0.0, math.nan, 1.0], False)])
def test_a_curve_falls_where_its_values_do(values: list[float], falls: bool) -> None:
    points: list[Point] = [(50.0 * k, value) for k, value in enumerate(values)]
    drawn = where(pixels_of(draw([panel(Series("", points))])), COLOURS[0])
    leftmost, rightmost = drawn[drawn[:, 1].argmin()], drawn[drawn[:, 1].argmax()]
    assert (rightmost[0] > leftmost[0]) == falls


@pytest.mark.parametrize(("log_x", "middle"), [(False, 0.1 / 1.1), (True, 0.5)])
def test_a_logarithmic_axis_spreads_small_places(log_x: bool, middle: float) -> None:
    series = [Series("", [(x, 1.0)]) for x in (0.01, 0.1, 1.0)]
    pixels = pixels_of(draw([panel(*series, log_x=log_x)]))
    first, second, third = (where(pixels, COLOURS[k])[:, 1].mean() for k in range(3))
    assert (second - first) / (third - first) == pytest.approx(middle, abs=0.02)


def test_a_chart_of_nothing_or_of_one_point_is_drawn() -> None:
    for points in ([], [(0.0, 0.0)], [(2.0, math.nan)]):
        assert pixels_of(draw([panel(Series("", points))])).shape[:2] == PANEL_SIZE[::-1]


def test_the_same_chart_is_the_same_file() -> None:
    once, again = (draw([panel(Series("true", [(0, 1.0), (1, 2.0)], ["a", "b"]))]) for _ in range(2))
    assert once == again


def test_a_backdrop_lies_behind_the_curves() -> None:
    line = Series("", [(0, 1.0), (1, 2.0)])
    alone = where(pixels_of(draw([panel(line)])), COLOURS[0])
    behind = where(pixels_of(draw([panel(line)._replace(backdrop=Series("best", line.points))])), COLOURS[0])
    assert len(behind) > 0.8 * len(alone)


def test_places_that_differ_by_factors_are_wide() -> None:
    assert is_wide([0.001, 0.08])
    assert not is_wide([0.2, 1.0])
    assert not is_wide([0.0, 100.0])
    assert not is_wide([])
