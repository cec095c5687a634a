"""The end of a decompress job's step: the picture goes to the output as PNG, or the fault into the report."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from PIL import Image

from callbacks.bitstream_writer import OutputFolder
from callbacks.image_row import decoded_row
from callbacks.pixels import pixels
from lightning_modules.codec import CodingError, DecodedImage, Failure


def png(image: DecodedImage) -> bytes:
    """The picture as a PNG file of mode L, LA, RGB or RGBA, with its colour profile."""
    planes = pixels(image.x_hat, image.format).cpu()
    if image.format.alpha is not None:
        planes = torch.cat([planes, image.format.alpha.cpu()[None]])
    channels_last = planes.permute(1, 2, 0).contiguous().numpy()
    picture = Image.fromarray(channels_last[:, :, 0] if len(planes) == 1 else channels_last)
    file = io.BytesIO()
    picture.save(file, "png", icc_profile=image.format.icc_profile)
    return file.getvalue()


class ReconstructionWriter(L.Callback):
    """Writes each `DecodedImage`; a file that fails, in decoding or writing, fails alone.

    output_name: from an input's name to its picture's.
    """

    def __init__(self, *, job: OutputFolder, output_name: Callable[[str], str]) -> None:
        self.job = job
        self.output_name = output_name

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *batch_and_indices: Any
    ) -> None:
        del trainer, pl_module, batch_and_indices
        match outputs:
            case Failure(name, error):
                self.job.fail(name, error)
            case DecodedImage():
                self._write(outputs)

    def _write(self, image: DecodedImage) -> None:
        try:
            self.job.finish(image.name, self.output_name(image.name), png(image), decoded_row(image))
        except CodingError as error:
            self.job.fail(image.name, str(error))
