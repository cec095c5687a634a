"""Which validation pictures are shown: the first ones, in validations 1, 2, 4, 8 ... and in the last."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import lightning as L

from lightning_modules.codec import Codec


def is_milestone(trainer: L.Trainer) -> bool:
    """Return whether the epoch's number is a power of two, or the training ends with it."""
    epoch = trainer.current_epoch + 1
    return epoch.bit_count() == 1 or epoch == trainer.max_epochs or trainer.global_step == trainer.max_steps


class ShownPictures(L.Callback):
    """Take the first `num_images` pictures of validations 1, 2, 4, 8 ... and of the last; first process only.

    Each takes a pass of the codec or some megabytes, and a long training has thousands of validations. Expects
    `validation_step` to return `{"name", "x", "x_hat", "bpp"}` with x, x_hat (1, 3, H, W).
    """

    def __init__(self, *, num_images: int) -> None:
        self.num_images = num_images

    @abstractmethod
    def take(self, trainer: L.Trainer, codec: Codec | None, outputs: Mapping[str, Any]) -> None:
        """Show one picture, or keep what of it is to be shown. codec: that of the module, if it has one."""

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take a picture, if it is one of those that are shown."""
        del batch, dataloader_idx
        is_seen = trainer.is_global_zero and trainer.loggers and not trainer.sanity_checking
        if outputs and batch_idx < self.num_images and is_seen and is_milestone(trainer):
            self.take(trainer, getattr(pl_module, "codec", None), outputs)
