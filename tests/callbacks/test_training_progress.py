"""A training tells a log how far it is, and every logger its learning rate."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from rich.console import Console
from torch import Tensor, nn

from callbacks.learning_rate import LearningRate
from callbacks.training_progress import TrainingProgress


class Module(L.LightningModule):
    """One weight, a rate that halves at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def training_step(self, batch: int, batch_idx: int) -> Tensor:
        loss = self.weight.square().sum()
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.8)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def train_dataloader(self) -> range:
        return range(6)


def fit(folder: Path, callback: L.Callback, **options: Any) -> None:
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=6,
        callbacks=[callback],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **options,
    )
    trainer.fit(Module())


def test_it_prints_a_line_with_step_loss_and_time_left(tmp_path: Path) -> None:
    file = io.StringIO()
    fit(tmp_path, TrainingProgress(interval=0.0, console=Console(file=file)), logger=False)
    lines = file.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == [f"step {step}/6" for step in range(1, 7)]
    assert "train/loss 1, " in lines[0]
    assert lines[0].endswith(" left")
    assert "steps/s" in lines[-1]
    assert "left" not in lines[-1]


def test_the_time_left_counts_from_where_a_resumed_training_went_on() -> None:
    progress = TrainingProgress(interval=1.0)
    trainer: Any = SimpleNamespace(global_step=900, max_steps=1000, callback_metrics={})
    progress.on_train_start(trainer, Module())
    trainer.global_step = 950
    assert progress.line(trainer, seconds=100.0) == "step 950/1000, 0.50 steps/s, 0:01:40 left"


def test_it_keeps_its_interval_and_leaves_a_terminal_to_the_bar(tmp_path: Path) -> None:
    for interval, is_terminal in ((60.0, False), (0.0, True)):
        file = io.StringIO()
        console = Console(file=file, force_terminal=is_terminal)
        fit(tmp_path, TrainingProgress(interval=interval, console=console), logger=False)
        assert file.getvalue() == ""


def test_the_learning_rate_is_logged_when_the_trainer_logs(tmp_path: Path) -> None:
    fit(tmp_path, LearningRate(), logger=CSVLogger(tmp_path, name="", version="csv"), log_every_n_steps=2)
    with (tmp_path / "csv" / "metrics.csv").open() as file:
        rows = {int(row["step"]): float(row["train/lr"]) for row in csv.DictReader(file)}
    assert rows == pytest.approx({1: 0.4, 3: 0.1, 5: 0.025})  # of the second, fourth and sixth step


def test_without_a_logger_there_is_nothing_to_log(tmp_path: Path) -> None:
    fit(tmp_path, LearningRate(), logger=False)
