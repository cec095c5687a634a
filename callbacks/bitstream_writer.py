"""The end of a compress job's step: the file goes to the output folder, or the fault into the report."""

from __future__ import annotations

from typing import Any

from callbacks.folder_writer import FolderWriter
from callbacks.image_row import coded_row
from lightning_modules.codec import CodedImage


class BitstreamWriter(FolderWriter):
    """Writes the file of each `CodedImage`."""

    record = CodedImage

    def content(self, result: CodedImage) -> bytes:
        return result.data

    def row(self, result: CodedImage) -> dict[str, Any]:
        return coded_row(result)
