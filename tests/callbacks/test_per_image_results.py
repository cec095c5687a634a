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
    assert reader.fieldnames == list(REPORT_COLUMNS)
    assert [row["name"] for row in rows] == [record.name for record in records]
    assert [row["status"] for row in rows] == ["ok"] * 4 + ["failed"]
    assert (rows[0]["bytes"], rows[0]["bpp"], rows[0]["ms_ssim"]) == ("10", "5.0", "")
    assert rows[4]["error"] == "4.png: is empty"
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]
