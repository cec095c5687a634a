"""The end of a folder job's step: the result goes to the output folder, or the fault into the report."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Protocol

import lightning as L

from lightning_modules.errors import CodingError
from lightning_modules.records import Failure


class OutputFolder(Protocol):
    """Takes results in, whole or not at all, and remembers what became of each input."""

    def finish(self, name: str, output_name: str, data: bytes, row: Mapping[str, Any]) -> Any:
        """Raises `CodingError` when the output cannot be written."""

    def finish_together(self, rows: Mapping[str, Mapping[str, Any]], output_name: str, data: bytes) -> Any:
        """Put the one output of several inputs in its place. Raises as `finish`."""

    def attach(self, name: str, output_name: str, data: bytes) -> Any:
        """Put a second output of an input in its place, before that is finished. Raises as `finish`."""

    def fail(self, name: str, error: str) -> None:
        """Raises `CodingError` when not even that can be noted."""


class FolderWriter(L.Callback):
    """Writes each result of the class, or classes, `record`; what fails, in its step or in writing, fails alone.

    output_name: from an input's name to its output's.
    """

    record: ClassVar[type | tuple[type, ...]]

    def __init__(self, *, job: OutputFolder, output_name: Callable[[str], str]) -> None:
        self.job = job
        self.output_name = output_name

    @abstractmethod
    def content(self, result: Any) -> bytes:
        """Return the output file."""

    @abstractmethod
    def row(self, result: Any) -> dict[str, Any]:
        """Return its line of the report."""

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *batch_and_indices: Any
    ) -> None:
        del trainer, pl_module, batch_and_indices
        self._take(outputs)

    def on_predict_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Take what the module has waited with, for a file that never came."""
        del trainer
        self._take(pl_module.unfinished())

    def _take(self, outputs: Any) -> None:
        for output in outputs:
            if isinstance(output, Failure):
                self.job.fail(output.name, output.error)
            elif isinstance(output, self.record):
                self._write(output)

    def place(self, result: Any) -> str:
        """Return the output's name."""
        return self.output_name(result.name)

    def attachments(self, result: Any) -> Iterable[tuple[str, bytes]]:
        """Further outputs: names, no two the same, and bytes."""
        del result
        return ()

    def _write(self, result: Any) -> None:
        try:
            for name, data in self.attachments(result):
                self.job.attach(result.name, name, data)
            self.job.finish(result.name, self.place(result), self.content(result), self.row(result))
        except CodingError as error:
            self.job.fail(result.name, str(error))
