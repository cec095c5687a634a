"""Any folder of pictures: random crops to train on, whole pictures to evaluate and to code."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.file_listing import GIVE_INPUT, NamedFile, list_images, named_files
from datamodules.image_file import read_pixels
from datamodules.pending_files import Batches, FileQueue, PendingFiles
from datamodules.ranked_pictures import RankedPictures
from datamodules.source_images import read_source, source_loader
from datamodules.training_crops import CropDataset, Pixels, cached_pixels
from lightning_modules.errors import CodingError
from lightning_modules.records import Failure, SourceImage

Roots = str | Path | Sequence[str | Path] | None
"""Folders, searched recursively, and files; None and the empty list: no pictures."""


class ImageFolder(RankedPictures):
    """Pictures by their use. A batch is uint8 crops for training, one record for validation, else a list of them.

    train: what crops are cut from. val, test, input: whole pictures; test falls back to val.
    crop: side in pixels. batch_size: crops per step and rank. steps_per_epoch: steps between validations.
    cache_dir: where pictures to crop lie decoded, 3 bytes a pixel, made on first use.
    eval_batch_size: test and input pictures in a batch: equally large ones among them are processed together.
    limit: how many of the val, test and input pictures are used, the first ones; None: all.
    job: shares the files of `input` among processes and skips finished ones; None: all files.
    """

    remedy: ClassVar[str | None] = None
    """What to do when a folder of this data set is missing or empty; None: only name another folder."""

    def __init__(
        self,
        *,
        train: Roots,
        val: Roots,
        test: Roots,
        input: Roots,
        crop: int,
        cache_dir: str | Path,
        job: FileQueue | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.train = roots_of(train)
        self.val = roots_of(val)
        self.test = roots_of(test) or self.val
        self.input = roots_of(input)
        self.crop = crop
        self.cache_dir = Path(cache_dir)
        self.job = job

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Batches (batch_size, 3, crop, crop) uint8."""
        return self.training_loader(self.crop_dataset([path for _, path in self._files("train", self.train)]))

    def crop_dataset(self, paths: Sequence[Path]) -> CropDataset:
        """Return crops of those pictures that can be read."""
        start = len(paths) * self.rank // self.world_size  # ranks begin at different places of a cold cache
        refused = fill_cache([*paths[start:], *paths[:start]], self.cache_dir)
        return CropDataset(
            [path for path in paths if path not in refused],
            size=self.crop,
            seed=self.seed,
            cache_dir=self.cache_dir,
            decode=decode_pixels,
        )

    def val_dataloader(self) -> Sequence[DataLoader[SourceImage | Failure]]:
        """Repeat fewer pictures than ranks, all equally often: a rank with none waits forever."""
        return [self._sources("val", self.val, None, least=self.world_size)] if self.val else []

    def test_dataloader(self) -> DataLoader[SourceImage | Failure]:
        return self._sources("test", self.test, self.eval_batch_size)

    def predict_dataloader(self) -> Batches[SourceImage | Failure]:
        files = self._files("input", self.input)[: self.limit]
        repeated = [name for name, count in Counter(name for name, _ in files).items() if count > 1]
        if repeated:  # their outputs would overwrite each other
            raise CodingError(f"{repeated[0]}: in two of the input folders; code them one by one")
        return Batches(PendingFiles(files, read_source, self.job), self.eval_batch_size)

    def _sources(
        self, split: str, roots: Sequence[Path], batch_size: int | None, least: int = 1
    ) -> DataLoader[SourceImage | Failure]:
        files = self._files(split, roots)[: self.limit]
        files *= math.ceil(least / len(files))
        return source_loader(files, self.rank, self.world_size, self.num_workers, batch_size)

    def _files(self, split: str, roots: Sequence[Path]) -> list[NamedFile]:
        setting = GIVE_INPUT if split == "input" else f"give a folder or a file with datamodule.{split}="
        if not roots:
            raise CodingError(f"no pictures given; {setting}")
        remedy = f"{self.remedy}, or {setting}" if self.remedy else setting
        return [item for root in roots for item in named_files(root, list_images(root, remedy))]


def roots_of(value: Roots) -> list[Path]:
    """Return one folder or file, or several, as a list."""
    return [Path(value)] if isinstance(value, (str, Path)) else [Path(root) for root in value or ()]


def decode_pixels(path: Path) -> Pixels:
    """Return the upright picture without its alpha: colours under transparent pixels are coded, hence trained on."""
    return np.ascontiguousarray(read_pixels(path)[0].permute(1, 2, 0).numpy())


def fill_cache(paths: Sequence[Path], cache_dir: Path) -> set[Path]:
    """Decodes into the cache what is not there yet; returns what cannot be read, after a warning each.

    Raises:
        CodingError: no picture can be read, or the cache cannot be written.
    """
    refused: set[Path] = set()
    for path in track(paths, "Decoding training pictures", transient=True, disable=len(paths) < 100):
        try:
            cached_pixels(path, cache_dir, decode_pixels)
        except CodingError as error:
            refused.add(path)
            rank_zero_warn(f"left out of training: {error}")
        except OSError as error:
            raise CodingError(f"{cache_dir}: {error.strerror}; choose another paths.cache_dir=") from None
    if len(refused) == len(set(paths)):
        raise CodingError(f"{paths[0].parent}: none of its pictures can be read; see the warnings above")
    return refused
