"""What a dashboard's table of runs shows of each metric: its best value or its last, not whatever came last."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch

import lightning as L
from lightning.pytorch.loggers import Logger, WandbLogger

STEP = "trainer/global_step"
"""Lightning's axis in W&B: steps of the codec's optimizer, also where a discriminator has one of its own."""


@singledispatch
def define_summary(logger: Logger, metric: str, goal: str) -> None:
    """Say which value stands for a run: min, max or last. Nothing for loggers that have no summary."""
    del logger, metric, goal


@define_summary.register
def _(logger: WandbLogger, metric: str, goal: str) -> None:
    logger.experiment.define_metric(metric, step_metric=STEP, summary=goal)


class SummaryMetrics(L.Callback):
    """Tells loggers, before the first value, which of each metric's values stands for the run."""

    def __init__(self, *, min: Sequence[str], max: Sequence[str], last: Sequence[str]) -> None:
        self.goals = {
            metric: goal for goal, metrics in (("min", min), ("max", max), ("last", last)) for metric in metrics
        }

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        del pl_module, stage
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                for metric, goal in self.goals.items():
                    define_summary(logger, metric, goal)
