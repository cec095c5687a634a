"""The learning rate beside the losses in the logs."""

from __future__ import annotations

from typing import Any

import lightning as L


class LearningRate(L.Callback):
    """Logs `train/lr`, the rate of the optimizer's first group, as often as the trainer logs."""

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *batch: Any) -> None:
        del batch
        if trainer.loggers and (trainer.global_step + 1) % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            pl_module.log("train/lr", trainer.optimizers[0].param_groups[0]["lr"])
