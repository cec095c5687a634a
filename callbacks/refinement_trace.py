"""The course of each picture's refinement, as files of the run folder: `traces/NAME.csv` and `traces/NAME.png`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import lightning as L

from callbacks.run_file import write_run_file
from lightning_modules.codec import CodedImage


class Trace(Protocol):
    """What an inference method tells of its work on one picture."""

    def csv(self) -> str: ...

    def png(self) -> bytes: ...


class RefinementTrace(L.Callback):
    """Writes what the module's inference method has left in its `trace`; nothing for a method that has none.

    A picture whose step failed has no trace: the one that is there is of a picture before. Pictures that are coded
    together have none.
    """

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *batch_and_indices: Any
    ) -> None:
        del batch_and_indices
        if isinstance(outputs, list) and len(outputs) == 1:
            (outputs,) = outputs
        traces: list[Trace] = getattr(getattr(pl_module, "inference", None), "trace", [])
        if isinstance(outputs, CodedImage) and traces:
            base = Path(trainer.default_root_dir) / "traces" / outputs.name
            write_run_file(base.with_name(f"{base.name}.csv"), traces[0].csv())
            write_run_file(base.with_name(f"{base.name}.png"), traces[0].png())

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *batch_and_indices: Any
    ) -> None:
        self.on_predict_batch_end(trainer, pl_module, outputs, *batch_and_indices)
