"""MNIST (LeCun et al. 1998): 60,000 and 10,000 handwritten digits of 28x28, in the IDX format, made black and white.

What is above a half is white. (The binarised MNIST of Larochelle and Murray, 2011, drew each pixel once with its grey
value as the probability.)
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from datamodules.picture_set import Pictures, PictureSet
from lightning_modules.errors import CodingError
from lightning_modules.system.download import fetch

URL = "https://ossci-datasets.s3.amazonaws.com/mnist"
FOLDER = Path("MNIST", "raw")
FILES = {"train": "train-images-idx3-ubyte.gz", "test": "t10k-images-idx3-ubyte.gz"}
SHA256 = {
    "train": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "test": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
}
MAGIC = 0x00000803
"""Unsigned bytes in three dimensions."""
_HEADER = struct.Struct(">IIII")


class Mnist(PictureSet):
    """`root` holds `MNIST/raw`, as torchvision lays it out; what is missing there is downloaded."""

    def prepare_data(self) -> None:
        for split in FILES:
            if not (self.root / FOLDER / FILES[split]).is_file():
                download(self.root, split)

    def pictures(self, split: str) -> Pictures:
        return np.where(read_images(self.root / FOLDER / FILES[split]) > 127, 255, 0).astype(np.uint8)


def download(root: Path, split: str, url: str = URL) -> Path:
    """Fetch the files that are missing. url: the folder on the server."""
    return fetch(f"{url}/{FILES[split]}", SHA256[split], root / FOLDER / FILES[split])


def read_images(path: Path) -> Pictures:
    """Return the pictures of a compressed IDX file, (N, 28, 28, 1)."""
    remedy = f"get it from {URL}/{path.name}"
    try:
        data = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise CodingError(f"{path}: cannot be read ({error}); {remedy}") from None
    if len(data) < _HEADER.size:
        raise CodingError(f"{path}: is cut off; {remedy}")
    magic, count, height, width = _HEADER.unpack_from(data)
    if magic != MAGIC or len(data) != _HEADER.size + count * height * width:
        raise CodingError(f"{path}: does not hold the images it declares; {remedy}")
    return np.frombuffer(data, dtype=np.uint8, offset=_HEADER.size).reshape(count, height, width, 1)
