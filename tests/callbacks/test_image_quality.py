"""Quality is measured on decoded 8-bit pixels."""

from __future__ import annotations

import math

import pytest
import torch

import lightning_modules.metrics.pixels
from callbacks.image_quality import image_quality, shown
from lightning_modules.metrics.pixels import pixels
from lightning_modules.records import PixelFormat
from tests.harness.coded_pictures import coded, levels


def test_psnr_is_its_formula_on_clamped_rounded_pixels() -> None:
    x = levels(1, 3, 9, 13)
    x_hat = x + torch.linspace(-0.3, 0.3, 13)  # beyond [0, 1] in places, and between levels
    rounded = (x_hat.clamp(0, 1) * 255).round()
    mse = float((x * 255 - rounded).square().double().mean())
    assert image_quality(x, x_hat)["psnr"] == pytest.approx(10 * math.log10(255**2 / mse), abs=1e-6)


@pytest.mark.parametrize("gray", [False, True])
def test_large_pictures_are_measured_in_bands_to_the_last_bit(gray: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    x = levels(1, 3, 50, 31)
    x_hat = x + 0.1 * levels(1, 3, 50, 31, seed=1)
    whole = image_quality(x, x_hat, PixelFormat(gray=gray))["psnr"], pixels(x_hat, PixelFormat(gray=gray))
    monkeypatch.setattr(lightning_modules.metrics.pixels, "BAND_PIXELS", 7 * 31)
    assert image_quality(x, x_hat, PixelFormat(gray=gray))["psnr"] == whole[0]
    assert torch.equal(pixels(x_hat, PixelFormat(gray=gray)), whole[1])


def test_equal_pixels_have_infinite_psnr_and_one_by_one_pictures_no_ms_ssim() -> None:
    x = levels(1, 3, 1, 1)
    quality = image_quality(x, x + 0.4 / 255)
    assert quality["psnr"] == math.inf
    assert math.isnan(quality["ms_ssim"])


def test_gray_pictures_are_compared_as_they_are_written() -> None:
    x = levels(1, 1, 6, 5).expand(1, 3, 6, 5)
    x_hat = x + torch.tensor([-0.1, 0.0, 0.1])[:, None, None]  # wrong in each channel, right in their mean
    inner = x.clamp(0.1, 0.9)
    assert pixels(x_hat, PixelFormat(gray=True)).shape == (1, 6, 5)
    assert image_quality(inner, inner + x_hat - x, PixelFormat(gray=True))["psnr"] == math.inf
    assert image_quality(inner, inner + x_hat - x)["psnr"] < 30


def test_distances_see_8_bit_pixels_and_gray_pictures_as_three_equal_channels() -> None:
    x = levels(1, 3, 6, 5)
    original, decoded = shown(coded("a", x, x + 0.3 / 255, 9))
    assert torch.equal(original, x)
    assert torch.equal(decoded, x)
    gray, _ = shown(coded("a", x, x, 9, gray=True))
    assert gray.shape == x.shape
    assert torch.equal(gray[0, 0], gray[0, 2])
