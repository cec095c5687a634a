"""How a process turns the latents of several pictures into files: one by one, or with regard to each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from lightning_modules.codec import Codec, Coded, Latents, PixelFormat
from lightning_modules.coding.picture import PackedPicture, assemble


class Coder(Protocol):
    """together: how many pictures of a folder it wants at once. key: whatever else its files depend on, in a word."""

    together: int

    @property
    def key(self) -> str: ...

    def encode(self, codec: Codec, images: Sequence[Latents]) -> list[Coded]:
        """One result for each image, in their order."""


class Separately:
    """Each picture by itself."""

    def __init__(self, together: int = 1) -> None:
        self.together = together

    @property
    def key(self) -> str:
        return ""

    def encode(self, codec: Codec, images: Sequence[Latents]) -> list[Coded]:
        return [codec.encode(latents) for latents in images]


def pack_each(
    coder: Coder, codec: Codec, images: Sequence[Latents], formats: Sequence[PixelFormat]
) -> list[PackedPicture]:
    """The files of several pictures."""
    coded = coder.encode(codec, images)
    return [assemble(codec, *parts) for parts in zip(coded, images, formats, strict=True)]
