"""results.csv has one row per test image, in the data set's order, whichever process made it."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import torch

from callbacks.per_image_results import PerImageResults
from lightning_modules.codec import REPORT_COLUMNS, CodedImage, Failure, PixelFormat

X = torch.zeros(1, 3, 4, 4)


def coded(name: str) -> CodedImage:
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
    records = [coded(f"{i}.png") for i in range(4)] + [Failure("4.png", "4.png: is empty")]
    for rank in (1, 0):  # the first process passes the barrier last
        trainer, callback = rank_trainer(tmp_path, rank, 2), PerImageResults()
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
    trainer, callback = rank_trainer(folder, 0, 1), PerImageResults(lmbda)
    callback.on_test_start(trainer, module)
    callback.on_test_batch_end(trainer, module, [coded("a.png")], None, 0)
    callback.on_test_end(trainer, module)
    with (folder / "results.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    return row["lmbda"], row["loss"]


def test_the_loss_has_the_weight_of_the_inference_or_else_that_the_codec_was_trained_for(tmp_path: Path) -> None:
    module = SimpleNamespace(codec=SimpleNamespace(hyperparameters={"lmbda": 0.01}), lmbda=0.5)
    assert loss_of(tmp_path, None, module) == ("0.01", f"{0.01 * 26**2 + 5}")
    assert loss_of(tmp_path, 1e-7, module) == ("1e-07", f"{1e-7 * 26**2 + 5:.6f}")
    assert loss_of(tmp_path, 0.0, module) == ("0", "5.0")
    assert loss_of(tmp_path, None, SimpleNamespace(codec=SimpleNamespace(hyperparameters={}))) == ("", "")
