"""Where the initial bits of bits-back coding come from, as `coder.mode=` says."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from lightning_modules.codec import Codec
from lightning_modules.coding.bits_back import BackCodec
from lightning_modules.errors import CodingError
from lightning_modules.records import Coded, CodedPack, Latents
from lightning_modules.sga.bits_back.codec import BitsBackCodec
from lightning_modules.sga.bits_back.settings import COARSEST, FINEST
from lightning_modules.sga.bits_back.streams import Picture, chained, single, with_payload

Stream = Callable[[Sequence[Picture]], list[Coded]]
"""From the pictures of one call to their sections."""


class BitsBackCoder:
    """stream: from pictures to sections. together, pack, key: see `Coder`.

    mode: the stream's name, cell_bits: cells of a latent are 2^cell_bits; both for codecs of other rooms.
    """

    def __init__(self, stream: Stream, mode: str, together: int, key: str, pack: int, cell_bits: int) -> None:
        self.stream, self.mode, self.together = stream, mode, together
        self.pack, self.cell_bits = pack, cell_bits
        self.key = f"{key} {pack} {cell_bits}"

    def encode(self, codec: Codec, images: Sequence[Latents]) -> list[Coded]:
        if isinstance(codec, BitsBackCodec):
            return codec.encode_each(images, self.stream)
        if isinstance(codec, BackCodec):
            return codec.encode_back(images, self.mode, self.cell_bits)
        raise CodingError(f"{type(codec).__name__} has nothing to get bits back for; use coder=separate")

    def encode_pack(self, codec: Codec, images: Sequence[Latents]) -> CodedPack:
        if isinstance(codec, BackCodec):
            return codec.encode_back_pack(images, self.cell_bits)
        raise CodingError(f"{type(codec).__name__} has no files of several pictures with coder=bits_back")


def bits_back_coder(
    *,
    mode: str,
    payload: str | None,
    delta: float,
    seeded_delta: float,
    together: int,
    pack: int,
    cell_bits: int,
) -> BitsBackCoder:
    """mode: single, chained or payload. payload: a file, of that mode only. together: pictures in a chain.

    delta: step of z's grid, a power of two; seeded_delta: that of pictures which pay for their initial bits.
    pack, cell_bits: of other rooms' codecs, pictures in a file and the logarithm of the cells of a latent.
    """
    if (mode == "payload") != (payload is not None):
        raise CodingError(f"coder.mode={mode} with coder.payload={payload}: a payload goes with mode=payload alone")
    free, paid = _fineness("delta", delta), _fineness("seeded_delta", seeded_delta)
    match mode:
        case "single":
            return BitsBackCoder(_each(partial(single, fineness=paid)), mode, pack, f"{mode} {paid}", pack, cell_bits)
        case "chained":
            stack = partial(chained, first=paid, others=free)
            return BitsBackCoder(stack, mode, together, f"{mode} {paid} {free} {together}", pack, cell_bits)
        case "payload":
            data = _read(str(payload))
            carried = _each(partial(with_payload, fineness=free, data=data))
            return BitsBackCoder(carried, mode, 1, f"{mode} {free} {zlib.crc32(data):08x}", 1, cell_bits)
    raise CodingError(f"coder.mode={mode}: choose single, chained or payload")


def _fineness(name: str, step: float) -> int:
    """k of a step of 2^-k."""
    steps = {2.0**-k: k for k in range(COARSEST, FINEST + 1)}
    if step not in steps:
        raise CodingError(f"coder.{name}={step}: a step of z is a power of two from {max(steps):g} to {min(steps)}")
    return steps[step]


def _each(code: Callable[[Picture], Coded]) -> Stream:
    return lambda pictures: [code(picture) for picture in pictures]


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CodingError(f"{path}: cannot be read ({error.strerror}); name a file with coder.payload=") from None
