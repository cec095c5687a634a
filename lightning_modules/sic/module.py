"""Training of SIC's first two phases: one optimizer of the codec, medians of z solved for on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_modules.compression_module import TrainedModule
from lightning_modules.densities import update_medians
from lightning_modules.errors import CodingError
from lightning_modules.records import Failure, SourceImage
from lightning_modules.sic.codec import SicCodec
from lightning_modules.sic.phase import Phase
from lightning_modules.training.rate_distortion import mse_255


class SicModule(TrainedModule):
    """A training that minimises the loss of `phase`. A step's level follows from its number, the same on every rank.

    median_steps: steps between two solutions for z's medians, which z is rounded around and no loss trains.
    """

    codec: SicCodec

    def __init__(self, *, phase: Phase, median_steps: int, **settings: Any) -> None:
        super().__init__(**settings)
        if phase.table.levels != self.codec.groups:
            raise CodingError(
                f"a codec of {self.codec.groups} levels, a loss for {phase.table.levels}; choose the experiment that "
                "the codec was trained with"
            )
        self.phase = phase
        self.median_steps = median_steps
        self.codec.entropy_bottleneck.quantiles.requires_grad_(False)

    @property
    def step(self) -> int:
        """Return the number of optimizer steps of the codec so far."""
        return self.global_step

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        if self.step % self.median_steps == 0:
            update_medians(self.codec.entropy_bottleneck)
            self.codec.context_model.layer.hide()  # optimizers that mix a matrix's rows move what its mask hides

    def training_step(self, x: Tensor, batch_idx: int) -> Tensor:
        """Compute the mean loss of a batch x (B, 3, H, W) in [0, 1]."""
        del batch_idx
        outcome = self.phase(self.codec, x, self.step)
        self.log_terms("train", {"loss": outcome.loss, **outcome.terms})
        return outcome.loss

    def log_terms(self, split: str, terms: Mapping[str, Tensor]) -> None:
        """Log terms by name when the logger takes this step's values."""
        if self.is_logging_step():
            self.log_dict({f"{split}/{name}": value.detach() for name, value in terms.items()})

    def validation_step(self, image: SourceImage | Failure, batch_idx: int) -> dict[str, Any]:
        """Validate a whole picture, latents rounded; log `val/loss`, `val/bpp`, `val/mse`, the phase's terms."""
        del batch_idx
        if isinstance(image, Failure):
            raise CodingError(image.error)
        found = self.phase.validate(self.codec, image.x)
        totals = {"loss": found.loss, "bpp": found.bpp, "mse": torch.as_tensor(mse_255(image.x, found.x_hat)).mean()}
        terms = {f"val/{name}": value for name, value in (totals | found.terms).items()}
        self.log_dict(terms, batch_size=1, sync_dist=True, on_epoch=True)
        return {"name": image.name, "x": image.x, "x_hat": found.x_hat, "bpp": float(found.bpp)}
