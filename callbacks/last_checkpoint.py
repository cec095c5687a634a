"""The checkpoint that an interrupted training goes on from: of the latest epoch, whole whenever it is killed."""

from __future__ import annotations

import os
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Checkpoint


class LastCheckpoint(Checkpoint):
    """Saves `path` at the end of every epoch, after validation, whether or not it was the best.

    Lightning's `save_last` keeps the last epoch that improved, and moves the file there from the system's
    temporary folder: a copy, which a kill may cut short, when that is another disk.
    """

    def __init__(self, *, path: str | Path) -> None:
        self.path = Path(path)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Runs on all processes, the first of which writes."""
        del pl_module
        temporary = self.path.with_name(f".{self.path.name}")
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
