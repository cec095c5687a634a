"""The end of a compress job's step: the file goes to the output folder, or the fault into the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning as L

from callbacks.folder_writer import FolderWriter, OutputFolder
from callbacks.image_quality import Distance, SetDistance, image_distances, try_distances
from callbacks.image_row import coded_row
from lightning_modules.errors import CodingError
from lightning_modules.records import CodedImage


class BitstreamWriter(FolderWriter):
    """Write the file of each `CodedImage`, that of several pictures once.

    distances: by name, of each picture and what its file decodes to; further columns of the report.
    Raises `CodingError` for one of whole sets of pictures, of which a folder job, done in pieces, knows nothing.
    """

    record = CodedImage

    def __init__(
        self,
        *,
        job: OutputFolder,
        output_name: Callable[[str], str],
        distances: Mapping[str, Distance | SetDistance] | None = None,
    ) -> None:
        super().__init__(job=job, output_name=output_name)
        self.distances: dict[str, Distance] = {}
        for name, distance in (distances or {}).items():
            if isinstance(distance, SetDistance):
                raise CodingError(f"metrics=[{name}]: is one number for a set of pictures; task=test measures it")
            self.distances[name] = distance

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        del trainer, stage
        try_distances(self.distances, pl_module.device)

    def content(self, result: CodedImage) -> bytes:
        return result.data

    def row(self, result: CodedImage) -> dict[str, Any]:
        row = coded_row(result)
        return {**row, "accounts": image_distances(result, self.distances) | row["accounts"]}

    def _take(self, outputs: Any) -> None:
        packs: dict[str, list[CodedImage]] = {}
        alone: list[Any] = []
        for output in outputs:
            if isinstance(output, CodedImage) and output.share is not None:
                packs.setdefault(output.share.file_name, []).append(output)
            else:
                alone.append(output)
        super()._take(alone)
        for name, pictures in packs.items():
            self._write_pack(name, pictures)

    def _write_pack(self, name: str, pictures: Sequence[CodedImage]) -> None:
        try:
            self.job.finish_together({one.name: self.row(one) for one in pictures}, name, pictures[0].data)
        except CodingError as error:
            for one in pictures:
                self.job.fail(one.name, str(error))
