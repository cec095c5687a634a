"""The end of a decompress job's step: the picture goes to the output as PNG, or the fault into the report."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from PIL import Image

from callbacks.folder_writer import FolderWriter
from callbacks.image_row import decoded_pack_row, decoded_row
from lightning_modules.errors import CodingError
from lightning_modules.metrics.pixels import pixels
from lightning_modules.records import DecodedImage, DecodedPack


def png(image: DecodedImage) -> bytes:
    """Return the picture as a PNG file of mode L, LA, RGB or RGBA, with its colour profile."""
    planes = pixels(image.x_hat, image.format).cpu()
    if image.format.alpha is not None:
        planes = torch.cat([planes, image.format.alpha.cpu()[None]])
    picture = Image.fromarray(planes[0].numpy() if len(planes) == 1 else planes.permute(1, 2, 0).contiguous().numpy())
    del planes  # of a large picture, the encoder needs the room
    file = io.BytesIO()
    picture.save(file, "png", icc_profile=image.format.icc_profile)
    return file.getvalue()


class ReconstructionWriter(FolderWriter):
    """Writes the picture of each `DecodedImage`, and all those of a `DecodedPack`, beside each other."""

    record = (DecodedImage, DecodedPack)

    def content(self, result: DecodedImage | DecodedPack) -> bytes:
        return png(result.pictures[0] if isinstance(result, DecodedPack) else result)

    def place(self, result: DecodedImage | DecodedPack) -> str:
        return self._places(result)[0] if isinstance(result, DecodedPack) else super().place(result)

    def attachments(self, result: DecodedImage | DecodedPack) -> Iterator[tuple[str, bytes]]:
        """`NAME.png.payload`: what the picture's file carried besides. `NAME.png.2.png` ...: other pictures of it.

        Of a pack, every picture but the first.
        """
        if isinstance(result, DecodedPack):
            for name, picture in [*zip(self._places(result), result.pictures, strict=True)][1:]:
                yield name, png(picture)
            return
        first = self.place(result)
        if result.format.carried is not None:
            yield f"{first}.payload", result.format.carried
        for number, x_hat in enumerate(result.format.further, 2):
            yield f"{first}.{number}.png", png(result._replace(x_hat=x_hat))

    def row(self, result: DecodedImage | DecodedPack) -> dict[str, Any]:
        return decoded_pack_row(result) if isinstance(result, DecodedPack) else decoded_row(result)

    def _places(self, pack: DecodedPack) -> list[str]:
        """Where its pictures go, in the pack's own folder. Raises `CodingError` where two have the same place."""
        folder = pack.name.rpartition("/")[0]
        places = [self.output_name(f"{folder}/{picture.name}".lstrip("/")) for picture in pack.pictures]
        for place, count in Counter(places).items():
            if count > 1:
                raise CodingError(f"{pack.name}: two of its pictures would become {place}; rename one and pack again")
        return places
