"""Bits-back coding of lossless models, as `coder=rec_bits_back` names it: where initial bits come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from lightning_modules.codec import Codec
from lightning_modules.errors import CodingError
from lightning_modules.records import Coded, CodedPack, Latents


@runtime_checkable
class GridCodec(Protocol):
    """A codec whose latents can be drawn from the bits of a stack, on a grid of 2^cell_bits cells."""

    def encode_back(self, latents: Latents, cell_bits: int) -> Coded:
        """Code one picture by itself."""

    def encode_back_chain(self, images: Sequence[Latents], cell_bits: int) -> list[Coded]:
        """Code pictures as one stream in a file of each."""

    def encode_back_pack(self, images: Sequence[Latents], cell_bits: int) -> CodedPack:
        """Code pictures as one stream in one section."""


class BitsBackCoder:
    """Codes pictures with seeded initial bits (mode single), or with those of the picture before (chained).

    Args:
        mode: single or chained.
        cell_bits: A latent has 2^cell_bits cells of equal prior mass.
        batch_size: Pictures in a chain, at most.
        pack: Pictures in a file, at most; in one file they are a chain, whatever the mode.

    Raises:
        CodingError: There is no such mode.
    """

    def __init__(self, *, mode: str, cell_bits: int, batch_size: int = 1, pack: int = 1) -> None:
        modes = {"single": _encode_each, "chained": _encode_chain}
        if mode not in modes:
            raise CodingError(f"coder.mode={mode}: lossless models of relative entropy coding have single and chained")
        self._encode, self._cell_bits = modes[mode], cell_bits
        self.batch_size, self.pack = batch_size, pack
        self.key = f"{mode} {batch_size} {pack} {cell_bits}"

    def encode(self, codec: Codec, images: Sequence[Latents]) -> list[Coded]:
        """Return one result for each picture, in their order."""
        return self._encode(_able(codec), images, self._cell_bits)

    def encode_pack(self, codec: Codec, images: Sequence[Latents]) -> CodedPack:
        """Return all pictures as one section."""
        return _able(codec).encode_back_pack(images, self._cell_bits)


def _encode_each(codec: GridCodec, images: Sequence[Latents], cell_bits: int) -> list[Coded]:
    return [codec.encode_back(latents, cell_bits) for latents in images]


def _encode_chain(codec: GridCodec, images: Sequence[Latents], cell_bits: int) -> list[Coded]:
    return codec.encode_back_chain(images, cell_bits)


def _able(codec: Codec) -> GridCodec:
    if isinstance(codec, GridCodec):
        return codec
    raise CodingError(
        f"{type(codec).__name__} has nothing to get bits back for with coder=rec_bits_back; use coder=separate, or a "
        "lossless model of relative entropy coding"
    )
