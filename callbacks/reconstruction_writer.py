"""The end of a decompress job's step: the picture goes to the output as PNG, or the fault into the report."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image

from callbacks.folder_writer import FolderWriter
from callbacks.image_row import decoded_row
from callbacks.pixels import pixels
from lightning_modules.codec import DecodedImage


def png(image: DecodedImage) -> bytes:
    """The picture as a PNG file of mode L, LA, RGB or RGBA, with its colour profile."""
    planes = pixels(image.x_hat, image.format).cpu()
    if image.format.alpha is not None:
        planes = torch.cat([planes, image.format.alpha.cpu()[None]])
    picture = Image.fromarray(planes[0].numpy() if len(planes) == 1 else planes.permute(1, 2, 0).contiguous().numpy())
    del planes  # of a large picture, the encoder needs the room
    file = io.BytesIO()
    picture.save(file, "png", icc_profile=image.format.icc_profile)
    return file.getvalue()


class ReconstructionWriter(FolderWriter):
    """Writes the picture of each `DecodedImage`."""

    record = DecodedImage

    def content(self, result: DecodedImage) -> bytes:
        return png(result)

    def attachments(self, result: DecodedImage) -> Mapping[str, bytes]:
        """`NAME.png.payload`: what the picture's file carried besides. `NAME.png.2.png` ...: other pictures of it."""
        carried = {} if result.format.carried is None else {".payload": result.format.carried}
        others = (result._replace(x_hat=x_hat) for x_hat in result.format.further)
        return carried | {f".{number}.png": png(other) for number, other in enumerate(others, 2)}

    def row(self, result: DecodedImage) -> dict[str, Any]:
        return decoded_row(result)
