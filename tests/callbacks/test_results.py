"""Means over test images however they are shared; results.csv has a row of each, in the data set's order."""

from __future__ import annotations

import csv
import math
import multiprocessing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from callbacks.image_quality import image_quality
from callbacks.results import Results
from lightning_modules.records import REPORT_COLUMNS, CodedImage, Failure, PixelFormat
from tests.harness.coded_pictures import coded, levels

X = torch.zeros(1, 3, 4, 4)
FORK = multiprocessing.get_context("fork")


def tiny(name: str) -> CodedImage:
    return CodedImage(name, X, X + 0.1, PixelFormat(), bytes(10), 70.0, 5, 0.5, 0.25)


def rank_trainer(folder: Path, rank: int, world_size: int) -> Any:
    return SimpleNamespace(
        default_root_dir=str(folder),
        global_rank=rank,
        world_size=world_size,
        is_global_zero=rank == 0,
        strategy=SimpleNamespace(barrier=lambda name: None),
    )


def test_rows_of_all_processes_come_in_input_order(tmp_path: Path) -> None:
    records = [tiny(f"{i}.png") for i in range(4)] + [Failure("4.png", "4.png: is empty")]
    for rank in (1, 0):  # the first process passes the barrier last
        trainer, callback = rank_trainer(tmp_path, rank, 2), Results()
        callback.setup(trainer, L.LightningModule(), "test")
        callback.on_test_start(trainer, L.LightningModule())
        share = records[rank::2]
        for batch in (share[:2], share[2:]):
            callback.on_test_batch_end(trainer, L.LightningModule(), batch, None, 0)
        callback.on_test_end(trainer, L.LightningModule())
    with (tmp_path / "results.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert reader.fieldnames == [*REPORT_COLUMNS, "lmbda", "loss"]
    assert [row["name"] for row in rows] == [record.name for record in records]
    assert [row["status"] for row in rows] == ["ok"] * 4 + ["failed"]
    assert (rows[0]["bytes"], rows[0]["bpp"], rows[0]["ms_ssim"]) == ("10", "5.0", "")
    assert rows[4]["error"] == "4.png: is empty"
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


def loss_of(folder: Path, lmbda: float | None, module: Any) -> tuple[str, str]:
    """The columns `lmbda` and `loss` of one picture: 5 bpp, an error of 26 levels in every pixel, rounded from 25.5."""
    trainer, callback = rank_trainer(folder, 0, 1), Results(lmbda)
    callback.setup(trainer, module, "test")
    callback.on_test_start(trainer, module)
    callback.on_test_batch_end(trainer, module, [tiny("a.png")], None, 0)
    callback.on_test_end(trainer, module)
    with (folder / "results.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    return row["lmbda"], row["loss"]


def test_the_loss_has_the_weight_of_the_inference_or_else_that_the_codec_was_trained_for(tmp_path: Path) -> None:
    module = SimpleNamespace(device=X.device, codec=SimpleNamespace(hyperparameters={"lmbda": 0.01}), lmbda=0.5)
    assert loss_of(tmp_path, None, module) == ("0.01", f"{0.01 * 26**2 + 5}")
    assert loss_of(tmp_path, 1e-7, module) == ("1e-07", f"{1e-7 * 26**2 + 5:.6f}")
    assert loss_of(tmp_path, 0.0, module) == ("0", "5.0")
    assert loss_of(tmp_path, None, SimpleNamespace(device=X.device, codec=SimpleNamespace(hyperparameters={}))) == (
        "",
        "",
    )


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


def test_means_are_over_images_and_not_over_pixels(tmp_path: Path) -> None:
    small, large = levels(1, 3, 10, 10), levels(1, 3, 100, 50, seed=1)
    records: list[CodedImage | Failure] = [
        coded("small", small, small + 8 / 255, 200),
        Failure("broken", "broken: not a picture"),
        coded("large", large, large.roll(1, -1), 1000),
    ]
    means = run_test_epoch(Results(), records, tmp_path)
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
    assert run_test_epoch(Results(), records, tmp_path)["test/ms_ssim"] == pytest.approx(1.0)


def _rank(rank: int, store: Path, sizes: list[int], answer: Any) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    logged: dict[str, Tensor] = {}
    module: Any = SimpleNamespace(device=torch.device("cpu"), log_dict=lambda values, **options: logged.update(values))
    trainer, callback = rank_trainer(store.parent, rank, 2), Results()
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


def test_a_distance_has_a_column_and_a_mean_of_where_it_is_defined(tmp_path: Path) -> None:
    def error(x: Tensor, x_hat: Tensor) -> Tensor:
        large = x.shape[-1] > 10
        return (x - x_hat).abs().mean().reshape(1) if large else torch.tensor([math.nan])

    small, large = levels(1, 3, 10, 10), levels(1, 3, 100, 50).clamp(0.2, 0.8)
    large = (255 * large).round() / 255
    records: list[CodedImage | Failure] = [
        coded("small", small, small, 9),
        coded("large", large, large + 10 / 255, 9),
    ]
    means = run_test_epoch(Results(distances={"deviation": error}), records, tmp_path)
    assert means["test/deviation"] == pytest.approx(10 / 255, rel=1e-4)
    with (tmp_path / "results.csv").open(newline="") as file:
        assert [row["deviation"] for row in csv.DictReader(file)] == ["", "0.039216"]


class Brightest:
    """The largest value of all that was decoded."""

    def to(self, device: torch.device) -> None:
        assert device.type == "cpu"

    def reset(self) -> None:
        self.value = 0.0

    def update(self, x: Tensor, x_hat: Tensor) -> None:
        self.value = max(self.value, float(x_hat.max()))

    def compute(self) -> float:
        return self.value


def test_a_distance_of_sets_is_logged_and_has_no_column(tmp_path: Path) -> None:
    records: list[CodedImage | Failure] = [coded(str(k), X, X + k / 255, 9) for k in (3, 5, 4)]
    means = run_test_epoch(Results(distances={"brightest": Brightest()}), records, tmp_path)
    assert means["test/brightest"] == pytest.approx(5 / 255)
    assert "brightest" not in (tmp_path / "results.csv").read_text()
