"""The end of a compress job's step: the file goes to the output folder, or the fault into the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import lightning as L

from callbacks.image_row import coded_row
from lightning_modules.codec import CodedImage, CodingError, Failure


class OutputFolder(Protocol):
    """Takes results in, whole or not at all, and remembers what became of each input."""

    def finish(self, name: str, output_name: str, data: bytes, row: Mapping[str, Any]) -> Any:
        """Raises `CodingError` when the output cannot be written."""

    def fail(self, name: str, error: str) -> None:
        """Raises `CodingError` when not even that can be noted."""


class BitstreamWriter(L.Callback):
    """Writes each `CodedImage`; a picture that fails, in coding or writing, fails alone.

    output_name: from an input's name to its file's.
    """

    def __init__(self, *, job: OutputFolder, output_name: Callable[[str], str]) -> None:
        self.job = job
        self.output_name = output_name

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *batch_and_indices: Any
    ) -> None:
        del trainer, pl_module, batch_and_indices
        match outputs:
            case Failure(name, error):
                self.job.fail(name, error)
            case CodedImage(name=name):
                self._write(outputs)

    def _write(self, image: CodedImage) -> None:
        try:
            self.job.finish(image.name, self.output_name(image.name), image.data, coded_row(image))
        except CodingError as error:
            self.job.fail(image.name, str(error))
