"""How a process turns the latents of several pictures into files: one by one, or with regard to each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from lightning_modules.codec import Codec
from lightning_modules.coding.pack import Named, pack_together, unpack_pack
from lightning_modules.coding.picture import PackedPicture, UnpackedPicture, assemble, check_finite, unpack_each
from lightning_modules.errors import CodingError
from lightning_modules.precision import coding_path
from lightning_modules.records import Coded, CodedPack, Latents


class Coder(Protocol):
    """batch_size: how many pictures of a folder it wants at once. key: whatever else its files depend on, in a word.

    pack: pictures in a file, at most; more than 1 only where batch_size is as large.
    """

    batch_size: int
    pack: int

    @property
    def key(self) -> str: ...

    def encode(self, codec: Codec, images: Sequence[Latents]) -> list[Coded]:
        """Return one result for each image, in their order."""

    def encode_pack(self, codec: Codec, images: Sequence[Latents]) -> CodedPack:
        """Code all as one section. Raises `CodingError` where there is no way to."""


class PerPictureCoder:
    """Each picture by itself."""

    def __init__(self, batch_size: int = 1, pack: int = 1) -> None:
        self.batch_size, self.pack = batch_size, pack

    @property
    def key(self) -> str:
        return ""

    def encode(self, codec: Codec, images: Sequence[Latents]) -> list[Coded]:
        return [codec.encode(latents) for latents in images]

    def encode_pack(self, codec: Codec, images: Sequence[Latents]) -> CodedPack:
        del images
        raise CodingError(
            f"{type(codec).__name__} has no files of several pictures; leave coder.pack at 1, or use an experiment of "
            "relative entropy coding"
        )


def pack_each(coder: Coder, codec: Codec, pictures: Sequence[Named]) -> list[PackedPicture]:
    """Return the files of several pictures, or the one of all. Raises `CodingError`, also for latents not finite."""
    check_finite(codec, [picture.latents for picture in pictures])
    with coding_path(codec):
        if coder.pack > 1:
            return pack_together(coder, codec, pictures)
        coded = coder.encode(codec, [picture.latents for picture in pictures])
        parts = zip(coded, pictures, strict=True)
        return [assemble(codec, one, picture.latents, picture.format) for one, picture in parts]


def unpack_again(
    codec: Codec, pictures: Sequence[Named], packed: Sequence[PackedPicture]
) -> list[UnpackedPicture | CodingError]:
    """Return what a receiver gets out of the files that `pack_each` gave."""
    if packed and packed[0].share is not None:
        found = unpack_pack(packed[0].data, codec)
        return [found[picture.name] for picture in pictures]
    return unpack_each([one.data for one in packed], codec)
