"""Whole pictures as records: what evaluation and coding see. Sizes differ, so a batch is a list of records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import DataLoader, Dataset, Sampler

from datamodules.file_listing import NamedFile, list_images, named_files
from datamodules.image_file import read_image
from lightning_modules.errors import CodingError
from lightning_modules.records import Failure, SourceImage


def read_source(item: NamedFile) -> SourceImage | Failure:
    """Read a picture. A file that is refused is a record too: it fails alone."""
    name, path = item
    try:
        x, pixel_format = read_image(path)
    except CodingError as error:
        return Failure(name, str(error))
    return SourceImage(name, x, pixel_format)


class SourceImages(Dataset[SourceImage | Failure]):
    """The pictures of a list of files, by position."""

    def __init__(self, items: Sequence[NamedFile]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> SourceImage | Failure:
        return read_source(self.items[index])


class RankShare(Sampler[int]):
    """Every `world_size`-th position from `rank` on: over all ranks each once, none twice, none padded."""

    def __init__(self, num_items: int, rank: int, world_size: int) -> None:
        self.indices = range(rank, num_items, world_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)


def source_loader(
    items: Sequence[NamedFile], rank: int, world_size: int, num_workers: int, batch_size: int | None
) -> DataLoader[SourceImage | Failure]:
    """This rank's share of the pictures; a batch is a list of records, or for None the record itself."""
    return record_loader(SourceImages(items), len(items), rank, world_size, num_workers, batch_size)


def record_loader(
    records: Dataset[SourceImage | Failure],
    num_records: int,
    rank: int,
    world_size: int,
    num_workers: int,
    batch_size: int | None,
) -> DataLoader[SourceImage | Failure]:
    """Return a loader as `source_loader` does, for records from anywhere."""
    return DataLoader(
        records,
        sampler=RankShare(num_records, rank, world_size),
        batch_size=batch_size,
        collate_fn=_unchanged,
        num_workers=num_workers,
    )


def _unchanged(records: Any) -> Any:
    return records


def folder_images(root: str) -> Iterator[SourceImage | Failure]:
    """Yield the pictures of a folder, or of one file, in natural order, read as they are asked for."""
    return map(read_source, named_files(root, list_images(root)))
