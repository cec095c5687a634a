"""Records that travel between datamodules, codecs and callbacks, and the sizes and names they share.

Legend for shapes: B images, C colour channels (3), H x W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

ImageSize = tuple[int, int]
"""(height, width) in pixels, each at least 1."""


CARRIED = "carried"
"""Name, among a picture's integers, of bytes of the user's own that its file carries besides."""

REPORT_COLUMNS = (
    "name",
    "status",
    "height",
    "width",
    "bytes",
    "bpp",
    "bpp_estimated",
    "psnr",
    "ms_ssim",
    "encode_seconds",
    "decode_seconds",
    "error",
)
"""The columns of every table with one row per picture, in the order in which they are written, before any others."""


PICTURES_IN_FILE = "pictures_in_file"
"""Further column of such tables, where files hold several pictures."""


class PixelFormat(NamedTuple):
    """What the RGB tensor does not say about its picture, and the file must.

    gray: the picture has one channel; `x` repeats it three times and decoding averages it back.
    alpha: opacity, uint8 (H, W), kept losslessly; None when the picture is opaque.
    icc_profile: the embedded colour profile as found in the input; None when there was none.
    carried: bytes of the user's own that came with a decoded file; None when there were none.
    further: other pictures that a decoded file stands for, (1, 3, H, W) each.
    """

    gray: bool = False
    alpha: Tensor | None = None
    icc_profile: bytes | None = None
    carried: bytes | None = None
    further: tuple[Tensor, ...] = ()


class SourceImage(NamedTuple):
    """A picture to code. name: input path relative to the input folder, with `/`. x: (1, 3, H, W) in [0, 1]."""

    name: str
    x: Tensor
    format: PixelFormat = PixelFormat()


class CompressedImage(NamedTuple):
    """An `.lpc` file as read from the disk: the bytes are not checked yet."""

    name: str
    data: bytes


class Failure(NamedTuple):
    """An item that could not be read, coded or decoded; `error` is one line: file, fault, remedy."""

    name: str
    error: str


class PackShare(NamedTuple):
    """A picture's part of a pack, a file of several pictures.

    file_name: the pack's. num_bytes: what counts as this picture's; those of all pictures sum to the file's length.
    """

    file_name: str
    num_bytes: int


class CodedImage(NamedTuple):
    """A picture, the file made of it, and what a receiver gets out of that file.

    x, x_hat: (1, 3, H, W); x in [0, 1], x_hat as decoded from `data` (not clamped).
    estimated_bits: -log2 of the latents' probability under the coding tables, summed over the image.
    payload_bytes: length of the entropy-coded sections; `len(data)` is the whole file.
    accounts: as of `Coded`. chain: the files that this one is read with, if there are such, or the
    pictures of its pack. share: of a pack; `payload_bytes` is of the share then.
    """

    name: str
    x: Tensor
    x_hat: Tensor
    format: PixelFormat
    data: bytes
    estimated_bits: float
    payload_bytes: int
    encode_seconds: float
    decode_seconds: float
    accounts: Mapping[str, float] = MappingProxyType({})
    chain: Chain | None = None
    share: PackShare | None = None

    @property
    def num_bytes(self) -> int:
        """Return the length of the file, or of the picture's share in it."""
        return len(self.data) if self.share is None else self.share.num_bytes


class DecodedImage(NamedTuple):
    """What came out of a file. x_hat: (1, 3, H, W), not clamped. num_bytes: the file's length."""

    name: str
    x_hat: Tensor
    format: PixelFormat
    num_bytes: int
    decode_seconds: float


class DecodedPack(NamedTuple):
    """What came out of a file of several pictures, which have the names that they had when they were packed.

    name, num_bytes: the file's. The pictures share its bytes and seconds equally.
    """

    name: str
    pictures: tuple[DecodedImage, ...]
    num_bytes: int
    decode_seconds: float


class TruncatedFile(NamedTuple):
    """An `.lpc` file cut to a lower rate. image_size: of its picture."""

    name: str
    data: bytes
    image_size: ImageSize


class Chain(NamedTuple):
    """Files that are one stream and are read together. mark: tells chains apart. length: how many files they are."""

    mark: int
    length: int


Integers = Mapping[str, NDArray[np.integer[Any]]]
"""All that a decoder computes of one picture before floating point enters, by name: equal on every machine."""


class Latents(NamedTuple):
    """Latent variables of one batch, before rounding, by name (`y`, `z`, ...), and the size of their images."""

    variables: Mapping[str, Tensor]
    image_size: ImageSize

    def split(self) -> list[Latents]:
        """Return the images of the batch, each as a batch of one."""
        count = next(iter(self.variables.values())).shape[0]
        return [
            Latents({name: value[i : i + 1] for name, value in self.variables.items()}, self.image_size)
            for i in range(count)
        ]


class Synthesis(NamedTuple):
    """x_hat: (B, 3, H, W), not clamped. likelihoods: per latent variable, its elements' probabilities."""

    x_hat: Tensor
    likelihoods: dict[str, Tensor]


class Estimate(NamedTuple):
    """x_hat: (B, 3, H, W). bits: per latent variable, (B,) bits under the tables that coding uses."""

    x_hat: Tensor
    bits: dict[str, Tensor]


class Section(NamedTuple):
    """One independently checked part of a file.

    payload: the coded bytes. content_crc: CRC-32 of what they decode to (integer latents, little-endian int32).
    """

    payload: bytes
    content_crc: int


class Coded(NamedTuple):
    """What `encode` makes of one image. bits: the cost of its symbols under the coding tables, by latent.

    accounts: other numbers of bits that belong into a report, by name; a column `bpp_NAME` for each.
    """

    sections: list[Section]
    bits: dict[str, float]
    accounts: Mapping[str, float] = MappingProxyType({})


class CodedPack(NamedTuple):
    """Several pictures coded as one. pictures: bits and accounts of each, in order; they have no sections."""

    section: Section
    pictures: list[Coded]
