"""The end of a compress job's step: the file goes to the output folder, or the fault into the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from callbacks.folder_writer import FolderWriter
from callbacks.image_row import coded_row
from lightning_modules.errors import CodingError
from lightning_modules.records import CodedImage


class BitstreamWriter(FolderWriter):
    """Writes the file of each `CodedImage`, that of several pictures once."""

    record = CodedImage

    def content(self, result: CodedImage) -> bytes:
        return result.data

    def row(self, result: CodedImage) -> dict[str, Any]:
        return coded_row(result)

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
