"""Traces: numbers that come back from the CSV, curves that are where the numbers say, lines a reader can use."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from lightning_modules.sga.progress import Progress, line
from lightning_modules.sga.trace import Record, Trace
from lightning_modules.sga.trace_plot import COLOURS, PANEL_SIZE, Curve, draw_curves, value_range


def short_trace() -> Trace:
    return Trace(
        [
            Record(0, math.nan, math.nan, 1.0, 0.5, 30.0, 30.1, 0.1),
            Record(50, 0.95, 1.2, 0.9, 0.52, 31.0, 31.1, 5.0),
            Record(100, 0.9, 0.95, 0.85, 0.51, 31.5, 31.6, 10.0),
        ]
    )


def pixels_of(png: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(png)).convert("RGB"))


def where(pixels: np.ndarray, colour: str) -> np.ndarray:
    """(n, 2) rows and columns of the pixels of a colour."""
    rgb = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
    return np.argwhere((pixels == rgb).all(-1))


def test_the_csv_holds_every_record_and_leaves_what_is_unknown_empty() -> None:
    rows = list(csv.DictReader(io.StringIO(short_trace().csv())))
    assert tuple(rows[0]) == Record._fields
    assert rows[0]["temperature"] == rows[0]["method_loss"] == ""
    assert [float(row["true_loss"]) for row in rows] == [1.0, 0.9, 0.85]
    assert [int(row["step"]) for row in rows] == [0, 50, 100]


def test_the_picture_has_a_panel_for_losses_bits_and_psnr() -> None:
    pixels = pixels_of(short_trace().png())
    assert pixels.shape == (PANEL_SIZE[1], 3 * PANEL_SIZE[0], 3)
    assert {int(column) // PANEL_SIZE[0] for column in where(pixels, COLOURS[0])[:, 1]} == {0, 1, 2}
    assert {int(column) // PANEL_SIZE[0] for column in where(pixels, COLOURS[1])[:, 1]} == {0}, "the method's loss"


@pytest.mark.parametrize(("values", "falls"), [([1.0, 0.5, 0.0], True), ([0.0, 0.5, 1.0], False)])
def test_a_curve_falls_where_its_values_do(values: list[float], falls: bool) -> None:
    drawn = where(pixels_of(draw_curves([0, 50, 100], {"loss": [Curve("", values)]})), COLOURS[0])
    leftmost, rightmost = drawn[drawn[:, 1].argmin()], drawn[drawn[:, 1].argmax()]
    assert (rightmost[0] > leftmost[0]) == falls


def test_the_range_of_a_panel_holds_all_finite_values() -> None:
    low, high = value_range([Curve("", [1.0, math.nan]), Curve("", [3.0, math.inf])])
    assert low < 1.0
    assert 3.0 < high < 4.0
    assert value_range([Curve("", [math.nan])]) == (0.0, 1.0)
    flat = value_range([Curve("", [2.0, 2.0])])
    assert flat[0] < 2.0 < flat[1]


def test_a_line_tells_step_loss_gain_rate_quality_and_time() -> None:
    expected = "refining: step 100, true loss 0.8500 (-15.0 %), 0.510 bpp, 31.50 dB, 0:00:30 left"
    assert line([short_trace()], 0.25) == expected
    assert line([short_trace()], 1.0) == expected.removesuffix(", 0:00:30 left")


def test_progress_is_told_now_and_then_in_a_terminal_and_elsewhere() -> None:
    for interval, terminal, lines in ((0.0, False, 2), (1e6, False, 0), (0.0, True, 2)):
        text = io.StringIO()
        progress = Progress(interval=interval, console=Console(file=text, force_terminal=terminal))
        for length in (1, 2, 3):
            progress([Trace(short_trace()[:length])], length / 3)
        assert text.getvalue().count("refining:") == lines
