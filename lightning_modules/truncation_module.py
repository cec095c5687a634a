"""Cutting progressive files of a folder job: no model is needed."""

from __future__ import annotations

import lightning as L

from lightning_modules.codec import CodingError, CompressedImage, Failure, TruncatedFile
from lightning_modules.coding.truncation import Limit, truncated


class TruncationModule(L.LightningModule):
    """limit: what is kept of each file."""

    def __init__(self, *, limit: Limit) -> None:
        super().__init__()
        self.limit = limit

    def predict_step(self, files: list[CompressedImage | Failure], batch_idx: int) -> list[TruncatedFile | Failure]:
        del batch_idx
        return [file if isinstance(file, Failure) else self._cut(file) for file in files]

    def unfinished(self) -> list[TruncatedFile | Failure]:
        return []

    def _cut(self, file: CompressedImage) -> TruncatedFile | Failure:
        try:
            data, image_size = truncated(file.data, self.limit)
        except CodingError as error:
            return Failure(file.name, f"{file.name}: {error}")
        return TruncatedFile(file.name, data, image_size)
