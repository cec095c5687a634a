"""ImageNet (ILSVRC 2012): a million JPEGs, too many to keep decoded, small enough to decode for one crop."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image, read_file

from datamodules.image_folder import ImageFolder
from datamodules.training_crops import CropDataset, Pixels, cut
from lightning_modules.errors import CodingError

MAX_DRAWS = 1000


class ImageNet(ImageFolder):
    """`ImageFolder` that decodes a picture when a crop is drawn, and uses none with a side below `crop`."""

    remedy = "unpack the ILSVRC 2012 archives there, as train/n01440764/*.JPEG ... and val/*.JPEG"

    def crop_dataset(self, paths: Sequence[Path]) -> CropDataset:
        return DecodedCrops(paths, size=self.crop, seed=self.seed)


class DecodedCrops(CropDataset):
    """Crop k of a picture drawn with the generator (seed, k), all large enough pictures alike.

    A picture that turns out too small or unreadable is replaced by another draw. The others stay as likely as
    in a list without it, and no first pass over a million files is needed.
    """

    def __init__(self, paths: Sequence[Path], *, size: int, seed: int) -> None:
        self.size = size
        self.seed = seed
        # One array, not a million objects: workers would copy those page by page as they count references.
        self.paths = np.array([os.fsencode(path) for path in paths])

    def __getitem__(self, k: int) -> Tensor:
        rng = np.random.default_rng((self.seed, k))
        for _ in range(MAX_DRAWS):
            path = os.fsdecode(bytes(self.paths[rng.integers(len(self.paths))]))
            pixels = decode_jpeg(path)
            if pixels is not None and min(pixels.shape[:2]) >= self.size:
                return cut(pixels, self.size, rng)
        raise CodingError(f"{path}: like all others drawn, no picture of {self.size} pixels; lower datamodule.crop=")


def decode_jpeg(path: str) -> Pixels | None:
    """RGB (H, W, 3), also of gray and CMYK files; None when the file cannot be decoded."""
    try:
        samples: Tensor = decode_image(read_file(path), mode=ImageReadMode.RGB)  # (3, H, W) uint8
    except RuntimeError:
        return None
    pixels: Pixels = samples.permute(1, 2, 0).numpy()
    return pixels
