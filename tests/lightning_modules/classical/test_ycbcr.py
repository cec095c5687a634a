"""RGB to YCbCr and back: gray stays gray, primaries are the standard's, and rounding costs what it has to."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_modules.classical.ycbcr import to_rgb, to_ycbcr


def psnr(rgb: np.ndarray, other: np.ndarray) -> float:
    return 10 * math.log10(255**2 / float(np.square(rgb.astype(float) - other).mean()))


def test_gray_has_no_colour_and_comes_back_exactly() -> None:
    gray = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    ycbcr = to_ycbcr(gray)
    assert (ycbcr[..., 0] == gray[..., 0]).all()
    assert (ycbcr[..., 1:] == 128).all()
    assert (to_rgb(ycbcr) == gray).all()


@pytest.mark.parametrize(
    ("rgb", "ycbcr"),
    [((255, 0, 0), (54, 99, 255)), ((0, 255, 0), (182, 30, 12)), ((0, 0, 255), (18, 255, 116))],
)
def test_primaries_are_those_of_bt_709(rgb: tuple[int, ...], ycbcr: tuple[int, ...]) -> None:
    """Y = 0.2126 R + 0.7152 G + 0.0722 B, Cb = (B - Y) / 1.8556, Cr = (R - Y) / 1.5748, worked out by hand."""
    assert tuple(to_ycbcr(np.array([[rgb]], dtype=np.uint8))[0, 0]) == ycbcr


def test_a_round_trip_of_noise_is_off_by_two_levels_at_most() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    back = to_rgb(to_ycbcr(rgb))
    assert np.abs(back.astype(int) - rgb).max() <= 2
    assert psnr(rgb, back) >= 52.0


def test_the_ceiling_on_kodak_is_at_least_52_decibels(kodak: list[Path]) -> None:
    for path in kodak[:6]:
        rgb = np.asarray(Image.open(path).convert("RGB"))
        assert psnr(rgb, to_rgb(to_ycbcr(rgb))) >= 52.0, path.name
