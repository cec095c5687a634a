"""The end of a truncate job's step: the shorter file goes to the output folder, or the fault into the report."""

from __future__ import annotations

import math
from typing import Any

from callbacks.folder_writer import FolderWriter
from lightning_modules.records import TruncatedFile


class TruncationWriter(FolderWriter):
    """Writes each `TruncatedFile`."""

    record = TruncatedFile

    def content(self, result: TruncatedFile) -> bytes:
        return result.data

    def row(self, result: TruncatedFile) -> dict[str, Any]:
        """Size and rate; the pictures are not looked at."""
        height, width = result.image_size
        num_bytes = len(result.data)
        bpp = 8 * num_bytes / math.prod(result.image_size)
        return {"height": height, "width": width, "bytes": num_bytes, "bpp": bpp}
