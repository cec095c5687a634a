"""Random training crops from pictures decoded once: uint8 arrays on the disk, read through the page cache.

Decoding a large PNG takes hundreds of times longer than cutting a crop out of it. Each picture is therefore
decoded on first sight into `cache_dir` as a `.npy` of (H, W, 3) bytes, under a temporary name that is renamed.

Which crop comes k-th depends on (seed, k) alone: not on workers, ranks, or where a run was interrupted.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

Pixels = NDArray[np.uint8]
"""(H, W, 3)."""


def cached_pixels(path: Path, cache_dir: Path, decode: Callable[[Path], Pixels]) -> Pixels:
    """Return the picture as a memory map, decoded now if this version of the file never was."""
    status = path.stat()
    key = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"
    target = cache_dir / f"{hashlib.sha256(key.encode(errors='surrogateescape')).hexdigest()[:32]}.npy"
    if not target.exists():
        cache_dir.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(f".tmp-{os.getpid()}")
        with temporary.open("wb") as file:
            np.save(file, decode(path))
        temporary.replace(target)
    return np.load(target, mmap_mode="r")


def cut(pixels: Pixels, size: int, rng: np.random.Generator) -> Tensor:
    """Cut a random (3, size, size) uint8 crop, mirrored half of the time; smaller pictures are reflected to fit."""
    height, width = pixels.shape[:2]
    top = int(rng.integers(max(height - size, 0) + 1))
    left = int(rng.integers(max(width - size, 0) + 1))
    crop = np.asarray(pixels[top : top + size, left : left + size])
    if crop.shape[0] < size or crop.shape[1] < size:
        missing = ((0, size - crop.shape[0]), (0, size - crop.shape[1]), (0, 0))
        crop = np.pad(crop, missing, mode="symmetric")
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    return torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1)))


class CropDataset(Dataset[Tensor]):
    """An endless list of crops: item k is drawn with the generator (seed, k).

    Pictures are drawn with probability proportional to the square root of their area, so that a large one is
    seen more often than a thumbnail without drowning it.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        size: int,
        seed: int,
        cache_dir: Path,
        decode: Callable[[Path], Pixels],
    ) -> None:
        self.size = size
        self.seed = seed
        self.pictures = [cached_pixels(path, cache_dir, decode) for path in paths]
        weights = np.sqrt([picture.shape[0] * picture.shape[1] for picture in self.pictures])
        self.cumulative = np.cumsum(weights / weights.sum())

    def __getitem__(self, k: int) -> Tensor:
        rng = np.random.default_rng((self.seed, k))
        index = int(np.searchsorted(self.cumulative, rng.random(), side="right"))
        return cut(self.pictures[min(index, len(self.pictures) - 1)], self.size, rng)


class DrawnPictures(Dataset[Tensor]):
    """An endless list of whole pictures of one size, all equally likely: item k is drawn with the generator (seed, k).

    pictures: (N, H, W, C) uint8; a single channel is repeated. mirrored: half of the time.
    """

    def __init__(self, pictures: Pixels, *, seed: int, mirrored: bool) -> None:
        self.pictures = pictures
        self.seed = seed
        self.mirrored = mirrored

    def __getitem__(self, k: int) -> Tensor:
        rng = np.random.default_rng((self.seed, k))
        picture = self.pictures[rng.integers(len(self.pictures))]
        if self.mirrored and rng.random() < 0.5:
            picture = picture[:, ::-1]
        return torch.from_numpy(picture.transpose(2, 0, 1).copy()).expand(3, -1, -1)


class CropSampler(Sampler[int]):
    """Numbers of one epoch's crops for one rank: those that follow the crops seen so far, `length` of them.

    num_seen: number of crops of the whole run before this epoch. It is asked when an epoch starts; derived from
    the optimizer's step it is right also where a run was interrupted and resumed.
    """

    def __init__(self, length: int, *, rank: int, world_size: int, num_seen: Callable[[], int]) -> None:
        self.length = length
        self.rank = rank
        self.world_size = world_size
        self.num_seen = num_seen

    def __iter__(self) -> Iterator[int]:
        first = self.num_seen()
        return iter(range(first + self.rank, first + self.length, self.world_size))

    def __len__(self) -> int:
        return self.length // self.world_size


def crop_loader(
    dataset: CropDataset | DrawnPictures,
    *,
    batch_size: int,
    steps_per_epoch: int,
    rank: int,
    world_size: int,
    num_batches_seen: Callable[[], int],
    num_workers: int,
    pin_memory: bool,
) -> DataLoader[Tensor]:
    """Batches (B, 3, size, size) uint8; B = batch_size on each rank, `steps_per_epoch` batches an epoch."""
    batch = batch_size * world_size
    sampler = CropSampler(
        batch * steps_per_epoch, rank=rank, world_size=world_size, num_seen=lambda: batch * num_batches_seen()
    )
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        pin_memory=pin_memory,
        persistent_workers=num_workers > 0,
        drop_last=True,
        generator=torch.Generator().manual_seed(dataset.seed),
    )
