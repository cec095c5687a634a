"""The authors' PSNR: that of torchmetrics without a range, which is below the usual one where white is not reached."""

from __future__ import annotations

import math

import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio

from lightning_modules.metrics.psnr import peak_psnr


def test_it_is_torchmetrics_psnr_without_a_range_with_the_reconstruction_as_target() -> None:
    x, x_hat = torch.rand(2, 3, 3, 40, 50).mul(200).round().div(255)
    values = peak_psnr(x, x_hat)
    for picture, (a, b) in enumerate(zip(x, x_hat, strict=True)):
        expected = peak_signal_noise_ratio(a, b, data_range=(float(b.min().clamp(max=0)), float(b.max())))
        assert float(values[picture]) == pytest.approx(float(expected), abs=1e-4)


def test_it_differs_from_the_usual_one_by_the_brightest_pixel_alone() -> None:
    x, x_hat = torch.rand(2, 1, 3, 40, 50) * 0.5
    usual = peak_signal_noise_ratio(x_hat, x, data_range=1.0)
    assert float(peak_psnr(x, x_hat)) == pytest.approx(float(usual) + 20 * math.log10(float(x_hat.max())), abs=1e-4)
    assert float(peak_psnr(x, x)) == math.inf
