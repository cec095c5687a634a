"""MS-SSIM agrees with the implementation that the field's tables are made with, and with another one."""

from __future__ import annotations

import math

import pytest
import torch
from pytorch_msssim import ms_ssim as reference
from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from lightning_modules.metrics import pixels
from lightning_modules.metrics.ms_ssim import MIN_SIDE, ms_ssim


def picture_pair(channels: int, height: int, width: int, noise: float) -> tuple[Tensor, Tensor]:
    """Smooth random picture (1, C, H, W) in 0 to 255, and itself with noise."""
    generator = torch.Generator().manual_seed(height + width)
    x = torch.rand(1, channels, height // 8 + 2, width // 8 + 2, generator=generator) * 255
    x = torch.nn.functional.interpolate(x, (height, width), mode="bilinear").round()
    y = (x + noise * torch.randn(x.shape, generator=generator)).clamp(0, 255).round()
    return x, y


@pytest.mark.parametrize(
    ("channels", "height", "width", "noise"),
    [(3, 161, 161, 10.0), (1, 163, 333, 3.0), (3, 256, 201, 40.0), (3, 330, 175, 1.0)],
)
def test_it_equals_the_reference(channels: int, height: int, width: int, noise: float) -> None:
    x, y = picture_pair(channels, height, width, noise)
    expected = float(reference(x.double(), y.double(), data_range=255.0))
    assert ms_ssim(x[0], y[0]) == pytest.approx(expected, abs=2e-5)


def test_it_equals_torchmetrics_over_channels_one_by_one() -> None:
    x, y = picture_pair(3, 256, 192, 20.0)
    planes = multiscale_structural_similarity_index_measure(
        x.transpose(0, 1), y.transpose(0, 1), data_range=255.0, reduction="none"
    )
    assert ms_ssim(x[0], y[0]) == pytest.approx(float(planes.mean()), abs=1e-4)


def test_equal_pictures_have_one_and_noisier_ones_less() -> None:
    values = [ms_ssim(*(p[0] for p in picture_pair(3, 176, 176, noise))) for noise in (0.0, 5.0, 20.0, 80.0)]
    assert values[0] == pytest.approx(1.0, abs=1e-6)
    assert values == sorted(values, reverse=True)


def test_it_is_not_defined_below_its_smallest_side() -> None:
    assert MIN_SIDE == 161
    x, y = picture_pair(3, 160, 400, 5.0)
    assert math.isnan(ms_ssim(x[0], y[0]))


@pytest.mark.parametrize(("height", "width"), [(176, 161), (203, 335)])
def test_large_pictures_are_worked_on_in_bands_without_changing_the_value(
    height: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = (plane[0].byte() for plane in picture_pair(3, height, width, 15.0))
    whole = ms_ssim(x, y)
    for rows in (1, 7, 64):
        monkeypatch.setattr(pixels, "BAND_PIXELS", rows * width)
        assert ms_ssim(x, y) == pytest.approx(whole, abs=1e-6)
