"""Training pictures of 32x32 from two sources: crops of photographs, and CIFAR-10."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from datamodules.cifar10 import BATCHES, FOLDER, SIDE, download, read_batch
from datamodules.image_folder import ImageFolder
from datamodules.training_crops import CropDataset, DrawnPictures
from lightning_modules.errors import CodingError

SOURCE_KEY = 1
"""Third number of the generators that choose a source: independent of those that cut crops."""


class PhotosAndCifar10(ImageFolder):
    """`ImageFolder` whose training pictures come from CIFAR-10 with probability `share`. cifar10: its folder."""

    def __init__(self, *, cifar10: str | Path, share: float, **settings: Any) -> None:
        super().__init__(**settings)
        if self.crop != SIDE:
            raise CodingError(f"datamodule.crop={self.crop}: beside pictures of CIFAR-10, crops are of {SIDE} pixels")
        if not 0.0 <= share <= 1.0:
            raise CodingError(f"datamodule.share={share}: give a probability")
        self.cifar10 = Path(cifar10)
        self.share = share

    def prepare_data(self) -> None:
        if not (self.cifar10 / FOLDER).is_dir():
            download(self.cifar10)

    def crop_dataset(self, paths: Sequence[Path]) -> CropDataset:
        pictures = np.concatenate([read_batch(self.cifar10 / FOLDER / name) for name in BATCHES["train"]])
        small = DrawnPictures(pictures, seed=self.seed, mirrored=True)
        return Mixture(super().crop_dataset(paths), small, self.share)


class Mixture(CropDataset):
    """Item k comes from `small` with probability `share`, else from `crops`."""

    def __init__(self, crops: CropDataset, small: DrawnPictures, share: float) -> None:
        self.crops, self.small, self.share = crops, small, share
        self.seed, self.size = crops.seed, crops.size

    def __getitem__(self, k: int) -> Tensor:
        is_small = np.random.default_rng((self.seed, k, SOURCE_KEY)).random() < self.share
        return self.small[k] if is_small else self.crops[k]
