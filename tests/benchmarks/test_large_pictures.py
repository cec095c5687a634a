"""Row 23 compares the largest picture with the smallest, and states memory as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.contenders import Picture
from benchmarks.measurement import Settings
from benchmarks.rows.large_pictures import Trip, lines, mosaic, trip


def test_growth_is_of_the_time_per_pixel_and_memory_of_the_largest_picture() -> None:
    trips = [Trip(1.0, 2.0, (0.7, 0.6)), Trip(10.0, 30.0, (1.0, 0.9)), Trip(100.0, 250.0, (4.6, 7.5))]
    time, compress, decompress = lines(trips)
    assert time.value == pytest.approx(1.25)
    assert (time.ours, time.theirs) == ("2.50 s/MP", "2.00 s/MP")
    assert not time.reached
    assert (compress.value, compress.theirs, compress.reached) == (4.6, "0.70 GiB", True)
    assert (decompress.value, decompress.reached) == (7.5, False)


def test_a_mosaic_repeats_the_pictures_up_to_its_borders(tmp_path: Path) -> None:
    chosen = [Picture(str(level), torch.full((1, 3, 2, 4), level / 255)) for level in (10, 20, 30)]
    mosaic(chosen, 10, 3, tmp_path / "folder" / "mosaic.png")
    with Image.open(tmp_path / "folder" / "mosaic.png") as picture:
        red = np.asarray(picture)[:, :, 0]
    rows = [[10] * 4 + [20] * 4 + [30] * 2] * 2 + [[10] * 4 + [20] * 4 + [30] * 2]
    assert np.array_equal(red, rows)


@pytest.mark.parametrize(
    ("width", "limit"),
    [pytest.param(2800, 1.8, marks=pytest.mark.slow), pytest.param(12000, 6.0, marks=pytest.mark.slow)],
)
def test_a_large_picture_passes_through_the_command_line_in_bounded_memory(
    kodak: list[Path], tmp_path: Path, width: int, limit: float
) -> None:
    """GiB, libraries (0.6) included; the smaller picture, coded in one piece, would take 2.2."""
    journey = trip(Settings("demo", kodak[0].parent, images=24, rounds=1), width, tmp_path / "trip")
    assert max(journey.peaks) <= limit
    size = (width, width * 3 // 4)
    with Image.open(tmp_path / "trip" / "input.png") as original:
        x = np.asarray(original)[:512, :512].astype(float)
    with Image.open(tmp_path / "trip" / "decoded" / "input.png") as decoded:
        assert decoded.size == size
        error = np.square(np.asarray(decoded)[:512, :512] - x).mean()
    assert 10 * np.log10(255**2 / error) > 24
