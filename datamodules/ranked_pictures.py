"""What data modules of pictures share: a rank's place among all, and a training's place in its data."""

from __future__ import annotations

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.training_crops import CropDataset, DrawnPictures, crop_loader
from lightning_modules.errors import CodingError


class RankedPictures(L.LightningDataModule):
    """batch_size: pictures per step and rank. steps_per_epoch: steps between validations. seed: of the draws.

    eval_batch_size: test pictures in a batch. limit: how many are evaluated, the first ones; None: all.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        steps_per_epoch: int,
        num_workers: int,
        seed: int,
        eval_batch_size: int = 1,
        limit: int | None = None,
    ) -> None:
        super().__init__()
        if eval_batch_size < 1:
            raise CodingError(
                f"datamodule.eval_batch_size={eval_batch_size}: at least one picture is processed at once"
            )
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.num_workers = num_workers
        self.seed = seed
        self.eval_batch_size = eval_batch_size
        self.limit = limit
        self.allow_zero_length_dataloader_with_multiple_devices = True  # one picture on two ranks is fine

    @property
    def rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    @property
    def world_size(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    def num_batches_seen(self) -> int:
        """Training batches that each rank has had in this run, those before an interruption included."""
        return self.trainer.global_step * self.trainer.accumulate_grad_batches if self.trainer else 0

    def training_loader(self, dataset: CropDataset | DrawnPictures) -> DataLoader[Tensor]:
        """Batches (batch_size, 3, H, W) uint8."""
        return crop_loader(
            dataset,
            batch_size=self.batch_size,
            steps_per_epoch=self.steps_per_epoch,
            rank=self.rank,
            world_size=self.world_size,
            num_batches_seen=self.num_batches_seen,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
        )
