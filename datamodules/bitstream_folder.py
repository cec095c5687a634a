"""`.lpc` files to decode: a folder (recursively) or one file."""

from __future__ import annotations

from pathlib import Path

import lightning as L

from datamodules.file_listing import NamedFile, list_bitstreams, named_files
from datamodules.image_file import describe_os_error, is_regular, printable
from datamodules.pending_files import Batches, FileQueue, PendingFiles
from lightning_modules.errors import CodingError
from lightning_modules.records import CompressedImage, Failure

MAX_FILE_BYTES = 2**30  # more than any picture we code: whatever it is, it is not read into memory


class BitstreamFolder(L.LightningDataModule):
    """input: folder or file. job: shares the files among processes, skips finished ones; None: all files.

    batch_size: files decoded together, where their pictures are equally large: worth it on a GPU.
    """

    def __init__(self, *, input: str | Path | None, job: FileQueue | None = None, batch_size: int = 1) -> None:
        super().__init__()
        self.input = input
        self.job = job
        self.batch_size = batch_size

    def predict_dataloader(self) -> Batches[CompressedImage | Failure]:
        if self.input is None:
            raise CodingError("no input given; name a folder of .lpc files with input=")
        files = PendingFiles(named_files(self.input, list_bitstreams(self.input)), read_bitstream, self.job)
        return Batches(files, self.batch_size)


def read_bitstream(item: NamedFile, max_bytes: int = MAX_FILE_BYTES) -> CompressedImage | Failure:
    """Return the file's bytes, unchecked: judging them is the container's business."""
    name, path = item
    try:
        if not is_regular(path):
            return Failure(name, f"{printable(path.name)}: is not a regular file; give an .lpc file")
        num_bytes = path.stat().st_size
        if num_bytes > max_bytes:
            return Failure(
                name, f"{printable(path.name)}: is too large for an .lpc file ({num_bytes} bytes); remove it"
            )
        return CompressedImage(name, path.read_bytes())
    except OSError as error:
        return Failure(name, f"{printable(path.name)}: {describe_os_error(error)}")
