"""The models that come with latentpress, on all of Kodak: rate as estimated, and well above JPEG."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_modules.checkpoints.checkpoint import PACKAGED
from lightning_modules.checkpoints.packaged_model import load_model
from lightning_modules.coding.picture import pack, unpack
from lightning_modules.records import PixelFormat

MODELS = sorted(PACKAGED.glob("demo-*.safetensors"))
DECIBELS_OVER_JPEG = {
    "demo-0.001": 3.5,
    "demo-0.0025": 2.0,
    "demo-0.005": 1.8,
    "demo-0.01": 1.5,
    "demo-0.025": 1.2,
}


def psnr(x: np.ndarray, x_hat: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((x.astype(np.float64) - x_hat.astype(np.float64)) ** 2)))


@pytest.fixture(scope="module")
def pictures(kodak: list[Path]) -> list[np.ndarray]:
    return [np.asarray(Image.open(path).convert("RGB")) for path in kodak]


@pytest.fixture(scope="module")
def jpeg(pictures: list[np.ndarray]) -> list[tuple[float, float]]:
    """Mean (bpp, PSNR) over the pictures at each quality: 4:2:0, optimised."""
    points = []
    for quality in (*range(1, 30), *range(30, 85, 5)):
        rates, qualities = [], []
        for x in pictures:
            file = io.BytesIO()
            Image.fromarray(x).save(file, "JPEG", quality=quality, optimize=True, subsampling="4:2:0")
            rates.append(8 * file.tell() / (x.shape[0] * x.shape[1]))
            qualities.append(psnr(x, np.asarray(Image.open(file).convert("RGB"))))
        points.append((float(np.mean(rates)), float(np.mean(qualities))))
    return points


def test_there_are_five_models_of_at_most_6_mb_each() -> None:
    assert {path.stem for path in MODELS} == set(DECIBELS_OVER_JPEG)
    assert all(path.stat().st_size <= 6_000_000 for path in MODELS)


@pytest.mark.slow
@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_a_packaged_model_beats_jpeg_by_far_at_the_estimated_rate(
    path: Path, pictures: list[np.ndarray], jpeg: list[tuple[float, float]]
) -> None:
    codec = load_model(path)
    rates, estimates, qualities = [], [], []
    for x in pictures:
        area = x.shape[0] * x.shape[1]
        with torch.no_grad():
            latents = codec.analyze(torch.from_numpy(x).permute(2, 0, 1)[None].float() / 255)
        packed = pack(codec, latents, PixelFormat())
        x_hat, _ = unpack(packed.data, codec)
        decoded = (x_hat[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        rates.append(8 * len(packed.data) / area)
        estimates.append((packed.estimated_bits + 8 * 40) / area)
        qualities.append(psnr(x, decoded))
    bpp, quality = float(np.mean(rates)), float(np.mean(qualities))
    assert bpp <= float(np.mean(estimates)) * 1.002
    rate_of_jpeg, quality_of_jpeg = np.transpose(jpeg)
    assert rate_of_jpeg[0] <= bpp <= rate_of_jpeg[-1], "JPEG must reach this rate to be compared at it"
    advantage = quality - float(np.interp(bpp, rate_of_jpeg, quality_of_jpeg))
    print(f"{path.stem}: {bpp:.4f} bpp, {quality:.3f} dB, {advantage:+.3f} dB against JPEG")
    assert advantage >= DECIBELS_OVER_JPEG[path.stem]
