"""Traces: numbers that come back from the CSV, panels of curves, lines a reader can use."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
from PIL import Image, ImageColor
from rich.console import Console

from lightning_modules.reports.chart import COLOURS, PANEL_SIZE
from lightning_modules.sga.progress import Progress, line
from lightning_modules.sga.trace import Record, Trace


def short_trace() -> Trace:
    return Trace(
        [
            Record(0, math.nan, math.nan, 1.0, 0.5, 30.0, 30.1, 0.1),
            Record(50, 0.95, 1.2, 0.9, 0.52, 31.0, 31.1, 5.0),
            Record(100, 0.9, 0.95, 0.85, 0.51, 31.5, 31.6, 10.0),
        ]
    )


def test_the_csv_holds_every_record_and_leaves_what_is_unknown_empty() -> None:
    rows = list(csv.DictReader(io.StringIO(short_trace().csv())))
    assert tuple(rows[0]) == Record._fields
    assert rows[0]["temperature"] == rows[0]["method_loss"] == ""
    assert [float(row["true_loss"]) for row in rows] == [1.0, 0.9, 0.85]
    assert [int(row["step"]) for row in rows] == [0, 50, 100]


def test_the_picture_has_a_panel_for_losses_bits_and_psnr() -> None:
    pixels = np.array(Image.open(io.BytesIO(short_trace().png())).convert("RGB"))
    assert pixels.shape == (PANEL_SIZE[1], 3 * PANEL_SIZE[0], 3)
    for colour, panels in zip(COLOURS[:2], ({0, 1, 2}, {0}), strict=True):  # the second: the method's loss
        columns = np.argwhere((pixels == ImageColor.getrgb(colour)).all(-1))[:, 1]
        assert {int(column) // PANEL_SIZE[0] for column in columns} == panels


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
