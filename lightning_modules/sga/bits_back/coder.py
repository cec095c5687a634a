"""Bits-back coding of hyperpriors, as `coder=bits_back` names it: where initial bits come from."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from lightning_modules.codec import Codec
from lightning_modules.errors import CodingError
from lightning_modules.records import Coded, CodedPack, Latents
from lightning_modules.sga.bits_back.codec import BitsBackCodec
from lightning_modules.sga.bits_back.section_header import COARSEST, FINEST
from lightning_modules.sga.bits_back.streams import Picture, chained, single, with_payload

Stream = Callable[[Sequence[Picture]], list[Coded]]
"""From the pictures of one call to their sections."""


class BitsBackCoder:
    """Codes pictures by one stream. stream: from pictures to sections. batch_size, key: see `Coder`."""

    def __init__(self, stream: Stream, batch_size: int, key: str) -> None:
        self.stream, self.batch_size, self.key = stream, batch_size, key
        self.pack = 1

    def encode(self, codec: Codec, images: Sequence[Latents]) -> list[Coded]:
        """Return one result for each picture, in their order."""
        if not isinstance(codec, BitsBackCodec):
            raise CodingError(
                f"{type(codec).__name__} has nothing to get bits back for with coder=bits_back; use coder=separate, or "
                "coder=rec_bits_back for a lossless model of relative entropy coding"
            )
        return codec.encode_each(images, self.stream)

    def encode_pack(self, codec: Codec, images: Sequence[Latents]) -> CodedPack:
        """Refuse: these codecs have no packs."""
        del images
        raise CodingError(f"{type(codec).__name__} has no files of several pictures with coder=bits_back")


def bits_back_coder(
    *, mode: str, payload: str | None, delta: float, seeded_delta: float, batch_size: int
) -> BitsBackCoder:
    """Return the coder of a mode.

    Args:
        mode: single, chained or payload.
        payload: A file whose bytes each picture's file carries, of mode payload only.
        delta: Step of z's grid, a power of two.
        seeded_delta: The same for pictures that pay for their initial bits.
        batch_size: Pictures in a chain, at most.

    Raises:
        CodingError: There is no such mode or step, or the payload cannot be read.
    """
    if (mode == "payload") != (payload is not None):
        raise CodingError(f"coder.mode={mode} with coder.payload={payload}: a payload goes with mode=payload alone")
    free, paid = _fineness("delta", delta), _fineness("seeded_delta", seeded_delta)
    match mode:
        case "single":
            return BitsBackCoder(_each(partial(single, fineness=paid)), 1, f"{mode} {paid}")
        case "chained":
            stack = partial(chained, first=paid, others=free)
            return BitsBackCoder(stack, batch_size, f"{mode} {paid} {free} {batch_size}")
        case "payload":
            data = _read(str(payload))
            stream = _each(partial(with_payload, fineness=free, data=data))
            return BitsBackCoder(stream, 1, f"{mode} {free} {zlib.crc32(data):08x}")
    raise CodingError(f"coder.mode={mode}: choose single, chained or payload")


def _fineness(name: str, step: float) -> int:
    """Return k of a step of 2^-k."""
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
