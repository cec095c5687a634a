"""Validation pictures in the logger: original, reconstruction, eight times their difference, and where bits go."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import singledispatch
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from PIL import Image
from torch import Tensor

from callbacks.image_quality import OPAQUE_RGB, image_quality
from callbacks.rate_map import coloured, rate_map
from callbacks.run_file import write_run_file
from callbacks.shown_pictures import ShownPictures
from lightning_modules import capabilities
from lightning_modules.codec import Codec
from lightning_modules.metrics.pixels import pixels

ERROR_GAIN = 8.0
COLOURED = 0.99


class Picture(NamedTuple):
    """panels: uint8 (3, H, n W), side by side. step: optimizer steps so far. folder: of the run."""

    name: str
    panels: Tensor
    caption: str
    step: int
    folder: Path


def side_by_side(x: Tensor, x_hat: Tensor) -> Tensor:
    """Return x, x_hat and 8 |x - x_hat| as uint8 (3, H, 3 W), of (1, 3, H, W) in [0, 1], x_hat not clamped."""
    error = (x - x_hat.clamp(0.0, 1.0)).abs() * ERROR_GAIN
    return torch.cat([pixels(panel, OPAQUE_RGB) for panel in (x, x_hat, error)], dim=2).cpu()


def with_rates(panels: Tensor, bits: Mapping[str, Tensor]) -> tuple[Tensor, str]:
    """Return the panels and, as one more, the map of bits of latents, by name; and where its colours end, in words.

    They end where all but a hundredth of the pixels lie: at a border, few pixels may share what a position costs.
    """
    values = rate_map(bits, (panels.shape[1], panels.shape[2] // 3))
    most = float(np.quantile(values.numpy(), COLOURED))
    return torch.cat([panels, coloured(values, most)], dim=2), f"bits up to {most:.2f} per pixel"


@singledispatch
def log_picture(logger: Logger, picture: Picture) -> None:
    """Loggers that hold no pictures: a PNG file in the run folder, `pictures/NAME/STEP.png`."""
    file = io.BytesIO()
    Image.fromarray(picture.panels.permute(1, 2, 0).contiguous().numpy()).save(file, "png")
    path = picture.folder / "pictures" / picture.name.replace("/", "_") / f"{picture.step:08d}.png"
    write_run_file(path, file.getvalue())


@log_picture.register
def _(logger: TensorBoardLogger, picture: Picture) -> None:
    logger.experiment.add_image(f"pictures/{picture.name}", picture.panels, picture.step)


@log_picture.register
def _(logger: WandbLogger, picture: Picture) -> None:
    panels = Image.fromarray(picture.panels.permute(1, 2, 0).contiguous().numpy())
    logger.log_image(f"pictures/{picture.name}", [panels], step=picture.step, caption=[picture.caption])


class ReconstructionPictures(ShownPictures):
    """Logs each picture that is shown, with its reconstruction, the difference, and where its bits go."""

    def take(self, trainer: L.Trainer, codec: Codec | None, outputs: Mapping[str, Any]) -> None:
        """Log one picture in every logger."""
        x, x_hat = outputs["x"], outputs["x_hat"]
        caption = f"{float(outputs['bpp']):.4f} bpp, {image_quality(x, x_hat)['psnr']:.2f} dB"
        panels = side_by_side(x, x_hat)
        bits = {} if codec is None else capabilities.rate_map(codec, x)
        if bits:
            panels, most = with_rates(panels, bits)
            caption = f"{caption}, {most}"
        picture = Picture(
            name=outputs["name"],
            panels=panels,
            caption=caption,
            step=trainer.global_step,
            folder=Path(trainer.default_root_dir),
        )
        for logger in trainer.loggers:
            log_picture(logger, picture)
