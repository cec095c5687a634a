"""Where the initial bits of bits-back coding come from, as `coder.mode=` says."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from lightning_modules.codec import Codec, Coded, CodingError, Latents
from lightning_modules.sga.bits_back.codec import BitsBackCodec
from lightning_modules.sga.bits_back.settings import FINEST
from lightning_modules.sga.bits_back.streams import Picture, chained, single, with_payload

Stream = Callable[[Sequence[Picture]], list[Coded]]
"""From the pictures of one call to their sections."""


class BitsBackCoder:
    """stream: from pictures to sections. delta: step of z's grid, a power of two. together, key: see `Coder`."""

    def __init__(self, stream: Stream, delta: float, together: int, key: str) -> None:
        self.stream, self.together, self.key = stream, together, f"{key} {delta} {together}"
        steps = {2.0**-k: k for k in range(FINEST + 1)}
        if delta not in steps:
            raise CodingError(f"coder.delta={delta}: the step of z is a power of two from 1 to {2.0**-FINEST}")
        self.fineness = steps[delta]

    def encode(self, codec: Codec, images: Sequence[Latents]) -> list[Coded]:
        if not isinstance(codec, BitsBackCodec):
            raise CodingError(f"{type(codec).__name__} has nothing to get bits back for; use coder=separate")
        return codec.encode_each(images, self.stream, self.fineness)


def bits_back_coder(*, mode: str, payload: str | None, delta: float, together: int) -> BitsBackCoder:
    """mode: single, chained or payload. payload: a file, of that mode only. together: pictures in a chain."""
    if (mode == "payload") != (payload is not None):
        raise CodingError(f"coder.mode={mode} with coder.payload={payload}: a payload goes with mode=payload alone")
    match mode:
        case "single":
            return BitsBackCoder(_each(single), delta, 1, mode)
        case "chained":
            return BitsBackCoder(chained, delta, together, mode)
        case "payload":
            data = _read(str(payload))
            return BitsBackCoder(_each(partial(with_payload, data=data)), delta, 1, f"{mode} {zlib.crc32(data):08x}")
    raise CodingError(f"coder.mode={mode}: choose single, chained or payload")


def _each(code: Callable[[Picture], Coded]) -> Stream:
    return lambda pictures: [code(picture) for picture in pictures]


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CodingError(f"{path}: cannot be read ({error.strerror}); name a file with coder.payload=") from None
