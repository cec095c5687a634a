"""The checkpoint to resume from is the latest, not the best, and is never half-written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from callbacks.last_checkpoint import LastCheckpoint


class Worsening(L.LightningModule):
    """Its weight grows, and so does its validation loss."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def training_step(self, batch: int, batch_idx: int) -> Tensor:
        return -self.weight.sum()

    def validation_step(self, batch: int, batch_idx: int) -> None:
        self.log("val/loss", self.weight.sum(), batch_size=1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)

    def train_dataloader(self) -> range:
        return range(3)

    def val_dataloader(self) -> range:
        return range(1)


def fit(path: Path, epochs: int, **options: Any) -> Worsening:
    module = Worsening()
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        callbacks=[LastCheckpoint(path=path)],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=path.parent,
    )
    trainer.fit(module, **options)
    return module


def test_it_is_of_the_latest_epoch_though_another_was_better(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "last.ckpt"
    fit(path, 4)
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint["global_step"] == 12
    assert checkpoint["state_dict"]["weight"] == 12
    assert [item.name for item in path.parent.iterdir()] == ["last.ckpt"]


def test_a_training_goes_on_from_it(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    fit(path, 2)
    assert fit(path, 5, ckpt_path=path).weight.item() == 15


def test_what_interrupts_the_saving_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    fit(path, 1)
    before = path.read_bytes()

    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        LastCheckpoint(path=path).on_train_epoch_end(_Saver(), Worsening())
    assert path.read_bytes() == before


class _Saver(L.Trainer):
    """A trainer as far as saving goes."""

    is_global_zero = True

    def __init__(self) -> None:
        pass

    def save_checkpoint(self, filepath: Any, *arguments: Any, **options: Any) -> None:
        Path(filepath).write_bytes(b"half a checkpo")
