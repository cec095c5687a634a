"""Rate and quality of really decoded files, per image and then averaged over images."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
from torch import Tensor
from torchmetrics import MeanMetric, MetricCollection, SumMetric

from callbacks.ms_ssim import ms_ssim
from callbacks.pixels import band_rows, pixels
from lightning_modules.codec import CodedImage, Failure, PixelFormat

OPAQUE_RGB = PixelFormat()


def psnr(x: Tensor, x_hat: Tensor) -> float:
    """8-bit pixels -> 10 log10(255^2 / mse) in dB, over all pixels and channels; infinite for equal ones."""
    rows = band_rows(x.shape[-1])
    bands = zip(x.split(rows, -2), x_hat.split(rows, -2), strict=True)
    # Squares of integers, so the sum is exact in any number of bands.
    total = sum(int((a.int() - b.int()).square_().sum()) for a, b in bands)
    mse = total / x.numel()
    return 10.0 * math.log10(255.0**2 / mse) if mse > 0.0 else math.inf


def image_quality(x: Tensor, x_hat: Tensor, pixel_format: PixelFormat = OPAQUE_RGB) -> dict[str, float]:
    """`psnr` in dB and `ms_ssim` (NaN for a side below 161) of the 8-bit pixels of (1, 3, H, W) tensors.

    Grayscale pictures are compared in their one channel, which is how they are written.
    """
    original, decoded = pixels(x, pixel_format), pixels(x_hat, pixel_format)
    return {"psnr": psnr(original, decoded), "ms_ssim": ms_ssim(original, decoded)}


def image_rates(image: CodedImage) -> dict[str, float]:
    """Bits per pixel: of the whole file (`bpp`), of the estimate, and of the entropy-coded payload."""
    num_pixels = image.x.shape[-2] * image.x.shape[-1]
    return {
        "bpp": 8 * len(image.data) / num_pixels,
        "bpp_estimated": image.estimated_bits / num_pixels,
        "bpp_payload": 8 * image.payload_bytes / num_pixels,
    }


class QualityMetrics(L.Callback):
    """Logs `test/psnr`, `test/ms_ssim`, `test/bpp`, `test/bpp_estimated`, `test/bpp_payload`, `test/failed`.

    Means over all images of all processes, each image once and with equal weight, however they are shared.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        del trainer, stage
        names = ("psnr", "ms_ssim", "bpp", "bpp_estimated", "bpp_payload")
        means = {name: MeanMetric(nan_strategy="ignore") for name in names}
        self.metrics = MetricCollection({**means, "failed": SumMetric()}, compute_groups=False)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts from nothing, with weight zero: a process may get no image at all."""
        del trainer
        self.metrics.to(pl_module.device).reset()
        self.metrics.update(0.0, weight=0.0)

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *batch_and_indices: Any
    ) -> None:
        del trainer, pl_module, batch_and_indices
        for output in outputs:
            if isinstance(output, Failure):
                self.metrics["failed"].update(1)
            elif isinstance(output, CodedImage):
                quality = image_quality(output.x, output.x_hat, output.format)
                for name, value in (quality | image_rates(output)).items():
                    self.metrics[name].update(value)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Every process takes part in the reduction, also one that had no image."""
        del trainer
        values = {f"test/{name}": metric.compute() for name, metric in self.metrics.items()}
        pl_module.log_dict(values, sync_dist=False)
