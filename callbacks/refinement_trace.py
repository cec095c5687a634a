"""The course of each picture's refinement, as files of the run folder: `traces/NAME.csv` and `traces/NAME.png`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import lightning as L

from callbacks.run_file import write_run_file
from lightning_modules.records import CodedImage


class Trace(Protocol):
    """What an inference method tells of its work on one picture."""

    def csv(self) -> str: ...

    def png(self) -> bytes: ...


class RefinementTrace(L.Callback):
    """Writes what the module has in its `traces`, by position in the batch; nothing for a picture that failed."""

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *batch_and_indices: Any
    ) -> None:
        del batch_and_indices
        traces: Mapping[int, Trace] = getattr(pl_module, "traces", {})
        for position, trace in traces.items():
            output = outputs[position]
            if isinstance(output, CodedImage):
                base = Path(trainer.default_root_dir) / "traces" / output.name
                write_run_file(base.with_name(f"{base.name}.csv"), trace.csv())
                write_run_file(base.with_name(f"{base.name}.png"), trace.png())

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *batch_and_indices: Any
    ) -> None:
        self.on_predict_batch_end(trainer, pl_module, outputs, *batch_and_indices)
