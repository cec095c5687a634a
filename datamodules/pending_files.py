"""The files of a folder job, read one by one as their turn comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from datamodules.file_listing import NamedFile
from lightning_modules.errors import CodingError
from lightning_modules.records import SourceImage

Record = TypeVar("Record")


class FileQueue(Protocol):
    """Hands every file to exactly one of the processes that share a job, and skips what is done."""

    def pending(self, items: Sequence[NamedFile]) -> Iterator[NamedFile]:
        """Yield the files for this process, each claimed when it is taken."""


class PendingFiles(Generic[Record]):
    """What a predict loop iterates over: one record per file, read in the main process just before its step.

    Its length is the number of files of the whole job, an upper bound of what this process yields. Lightning
    fetches one batch ahead of a loader without length, and so would claim a file while it works on another.
    """

    def __init__(
        self, items: Sequence[NamedFile], read: Callable[[NamedFile], Record], queue: FileQueue | None
    ) -> None:
        self.items = items
        self.read = read
        self.queue = queue

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Record]:
        """Lazy: nothing is claimed before the first record is asked for."""
        for item in self.items if self.queue is None else self.queue.pending(self.items):
            yield self.read(item)


MOST_PIXELS = 1 << 24
"""Of a batch that has more than one picture, roughly: 12 bytes each are held from reading to writing, and more."""


class Batches(Generic[Record]):
    """Up to `size` records of `files` at a time, as a list: as many as this process can claim without waiting.

    A batch ends with the picture that brings it to MOST_PIXELS.
    """

    def __init__(self, files: PendingFiles[Record], size: int) -> None:
        if size < 1:
            raise CodingError(f"datamodule.batch_size={size}: a batch has at least one file")
        self.files = files
        self.size = size

    @property
    def items(self) -> Sequence[NamedFile]:
        return self.files.items

    def __len__(self) -> int:
        """Return the number of files, as `PendingFiles` does: batches may be fewer."""
        return len(self.files)

    def __iter__(self) -> Iterator[list[Record]]:
        batch: list[Record] = []
        pixels = 0
        for record in self.files:
            batch.append(record)
            pixels += _pixels_of(record)
            if len(batch) == self.size or pixels >= MOST_PIXELS:
                yield batch
                batch, pixels = [], 0
        if batch:
            yield batch


def _pixels_of(record: object) -> int:
    """Return the pixels of a picture; a file that is not decoded yet counts for nothing."""
    return record.x.shape[-2] * record.x.shape[-1] if isinstance(record, SourceImage) else 0
