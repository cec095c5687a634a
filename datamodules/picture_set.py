"""Data sets of many small pictures of one size, held in memory as one array: batches to train on, records to evaluate.

Which picture comes k-th in training depends on (seed, k) alone, as with crops: not on workers, ranks, or where a run
was interrupted.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.ranked_pictures import RankedPictures
from datamodules.source_images import record_loader
from datamodules.training_crops import DrawnPictures
from lightning_modules.records import Failure, PixelFormat, SourceImage

Pictures = NDArray[np.uint8]
"""(N, H, W, C), C = 3 for colour and 1 for gray."""


class PictureSet(RankedPictures):
    """One array for training, one for validation and test. A gray picture has three equal channels, and is marked so.

    root: folder of the data set. val_limit: how many pictures are validated on, the first ones; None: all. The rest is
    of `RankedPictures`.
    """

    mirrored = False
    """Whether pictures are mirrored half of the time in training."""

    def __init__(
        self,
        *,
        root: str | Path,
        val_limit: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.root = Path(root)
        self.val_limit = val_limit

    @abstractmethod
    def pictures(self, split: str) -> Pictures:
        """Return the pictures of `train` or `test`. Raises `CodingError` when the files are not what they should be."""

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Batches (batch_size, 3, H, W) uint8."""
        return self.training_loader(DrawnPictures(self.pictures("train"), seed=self.seed, mirrored=self.mirrored))

    def val_dataloader(self) -> Sequence[DataLoader[SourceImage | Failure]]:
        """Repeat fewer pictures than ranks, all equally often: a rank with none waits forever."""
        return [self._records(self.val_limit, None, least=self.world_size)]

    def test_dataloader(self) -> DataLoader[SourceImage | Failure]:
        return self._records(self.limit, self.eval_batch_size)

    def _records(self, limit: int | None, batch_size: int | None, least: int = 1) -> DataLoader[SourceImage | Failure]:
        pictures = self.pictures("test")[:limit]
        records = PictureRecords(np.tile(pictures, (math.ceil(least / max(1, len(pictures))), 1, 1, 1)))
        return record_loader(records, len(records), self.rank, self.world_size, self.num_workers, batch_size)


class PictureRecords(Dataset[SourceImage | Failure]):
    """The pictures of an array by position, named by number."""

    def __init__(self, pictures: Pictures) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> SourceImage:
        pixels = torch.from_numpy(self.pictures[index].transpose(2, 0, 1).copy())
        x = pixels.expand(3, -1, -1)[None].float() / 255.0
        return SourceImage(f"{index:05d}.png", x, PixelFormat(gray=len(pixels) == 1))
