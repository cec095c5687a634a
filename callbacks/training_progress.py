"""How far a training has come: for logs, a line now and then with the time it will still take."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import lightning as L
from rich.console import Console


class TrainingProgress(L.Callback):
    """Prints `step 1200/20000, train/loss 1.42, 8.1 steps/s, 0:38:41 left` every `interval` seconds.

    Silent in a terminal, where a progress bar tells the same, and on all processes but the first.
    """

    def __init__(self, *, interval: float, console: Console | None = None) -> None:
        self.interval = interval
        self.console = console or Console(stderr=True)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        del pl_module
        self.first_step = trainer.global_step
        self.start = self.last_line = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *outputs_and_batch: Any) -> None:
        del pl_module, outputs_and_batch
        now = time.monotonic()
        if now - self.last_line < self.interval or self.console.is_terminal or not trainer.is_global_zero:
            return
        self.last_line = now
        self.console.print(self.line(trainer, now - self.start), highlight=False, soft_wrap=True)

    def line(self, trainer: L.Trainer, seconds: float) -> str:
        """`seconds`: since training started or was resumed."""
        step, total = trainer.global_step, trainer.max_steps
        rate = (step - self.first_step) / seconds
        metrics = [
            f"{name} {float(value):.4g}"
            for name, value in trainer.callback_metrics.items()
            if name in ("train/loss", "val/loss")
        ]
        known_end = 0 < step < total and rate > 0
        left = [f"{timedelta(seconds=round((total - step) / rate))} left"] if known_end else []
        return ", ".join([f"step {step}" + (f"/{total}" if total > 0 else ""), *metrics, f"{rate:.2f} steps/s", *left])
