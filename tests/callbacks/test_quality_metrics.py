"""Quality is measured on decoded 8-bit pixels per image, and averaged over images however they are shared."""

from __future__ import annotations

import math
import multiprocessing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

import callbacks.pixels
from callbacks.pixels import pixels
from callbacks.quality_metrics import QualityMetrics, image_quality
from lightning_modules.codec import CodedImage, Failure, PixelFormat

FORK = multiprocessing.get_context("fork")


def coded(name: str, x: Tensor, x_hat: Tensor, num_bytes: int, gray: bool = False) -> CodedImage:
    return CodedImage(
        name=name,
        x=x,
        x_hat=x_hat,
        format=PixelFormat(gray=gray),
        data=bytes(num_bytes),
        estimated_bits=8.0 * num_bytes - 100,
        payload_bytes=num_bytes - 30,
        encode_seconds=0.5,
        decode_seconds=0.25,
    )


def levels(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed)) / 255.0


class Outputs(L.LightningModule):
    """A module whose test steps return given records."""

    def __init__(self, records: list[CodedImage | Failure]) -> None:
        super().__init__()
        self.records = records

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        return [self.records[batch_idx]]

    def test_dataloader(self) -> range:
        return range(len(self.records))


def run_test_epoch(callback: L.Callback, records: list[CodedImage | Failure], folder: Path) -> dict[str, float]:
    trainer = L.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback],
        default_root_dir=folder,
    )
    return dict(trainer.test(Outputs(records), verbose=False)[0])


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
    monkeypatch.setattr(callbacks.pixels, "BAND_PIXELS", 7 * 31)
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


def test_means_are_over_images_and_not_over_pixels(tmp_path: Path) -> None:
    small, large = levels(1, 3, 10, 10), levels(1, 3, 100, 50, seed=1)
    records: list[CodedImage | Failure] = [
        coded("small", small, small + 8 / 255, 200),
        Failure("broken", "broken: not a picture"),
        coded("large", large, large.roll(1, -1), 1000),
    ]
    means = run_test_epoch(QualityMetrics(), records, tmp_path)
    expected = [image_quality(r.x, r.x_hat)["psnr"] for r in records if isinstance(r, CodedImage)]
    assert means["test/psnr"] == pytest.approx(sum(expected) / 2, abs=1e-4)
    assert means["test/bpp"] == pytest.approx((16.0 + 1.6) / 2)
    assert means["test/bpp_estimated"] == pytest.approx((15.0 + 1.58) / 2)
    assert means["test/bpp_payload"] == pytest.approx((8 * 170 / 100 + 8 * 970 / 5000) / 2)
    assert math.isnan(means["test/ms_ssim"])
    assert means["test/failed"] == 1


def test_pictures_too_small_for_ms_ssim_do_not_disturb_its_mean(tmp_path: Path) -> None:
    small, large = levels(1, 3, 10, 10), levels(1, 3, 176, 176)
    records: list[CodedImage | Failure] = [coded("a", small, small, 9), coded("b", large, large, 9)]
    assert run_test_epoch(QualityMetrics(), records, tmp_path)["test/ms_ssim"] == pytest.approx(1.0)


def _rank(rank: int, store: Path, sizes: list[int], answer: Any) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    logged: dict[str, Tensor] = {}
    module: Any = SimpleNamespace(device=torch.device("cpu"), log_dict=lambda values, **options: logged.update(values))
    trainer, callback = L.Trainer.__new__(L.Trainer), QualityMetrics()
    callback.setup(trainer, module, "test")
    callback.on_test_start(trainer, module)
    x = torch.zeros(1, 3, 10, 10)
    for num_bytes in sizes:
        callback.on_test_batch_end(trainer, module, [coded("", x, x + 0.1, num_bytes)])
    callback.on_test_epoch_end(trainer, module)
    answer.send(float(logged["test/bpp"]))


def test_a_process_without_images_takes_part_and_does_not_weigh(tmp_path: Path) -> None:
    answers = []
    for rank, sizes in enumerate([[100, 200, 600], []]):
        receiver, sender = FORK.Pipe()
        FORK.Process(target=_rank, args=(rank, tmp_path / "store", sizes, sender), daemon=True).start()
        answers.append(receiver)
    assert all(answer.poll(60) for answer in answers)
    assert [answer.recv() for answer in answers] == pytest.approx([24.0, 24.0])
