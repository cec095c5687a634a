"""The `.lpc` file: one picture's sections behind a checked header. docs/format.md specifies it byte by byte.

Reading trusts nothing: every count is bounded before it is used, every byte is under a checksum, and a byte
string that `to_bytes` did not write is refused with one line (the caller puts the file's name before it).
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Mapping
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from lightning_modules.coding.tables import check_symbols
from lightning_modules.errors import CodingError, DamagedFile, WrongModel, damaged
from lightning_modules.records import ImageSize, Section

MAGIC = b"LPC\r\n\x1a"
VERSION = 1
FINGERPRINT_BYTES = 8
MAX_SIDE = 65535
MAX_PIXELS = 1 << 28
MAX_SECTIONS = 255
MAX_SECTION_BYTES = (1 << 32) - 1

_GRAY, _ALPHA, _ICC, _PROGRESSIVE, _PACK = 1, 2, 4, 8, 16
_VARINT_BYTES = 5
_CRC = struct.Struct("<I")
_SECTION_TAIL = struct.Struct("<II")


class Bitstream(NamedTuple):
    """What a file holds.

    codec_id: 0..255. fingerprint: 8 bytes naming the model that made it. gray: one channel, coded as three.
    alpha, icc: lossless side data (see side_data.py), or None. sections: the codec's own, at least one.
    progressive: a file that ends after any of these is whole; so may some of those that the header tells of be missing.
    is_pack: of several pictures (see pack.py), of which image_size is the largest height and the largest width.
    """

    codec_id: int
    fingerprint: bytes
    image_size: ImageSize
    gray: bool
    alpha: Section | None
    icc: Section | None
    sections: tuple[Section, ...]
    progressive: bool = False
    is_pack: bool = False

    def to_bytes(self) -> bytes:
        """Return the whole file. Raises CodingError for a picture too large for the format."""
        _check_size(self.image_size, MAX_PIXELS)
        least = 2 if self.is_pack else 1
        if not 0 <= self.codec_id <= 255 or len(self.fingerprint) != FINGERPRINT_BYTES or len(self.sections) < least:
            raise ValueError("a file needs a codec id in 0..255, a fingerprint of 8 bytes and a section")
        sections = [section for section in (self.alpha, self.icc) if section is not None] + [*self.sections]
        if len(sections) > MAX_SECTIONS or any(len(s.payload) > MAX_SECTION_BYTES for s in sections):
            raise ValueError(f"a file holds at most {MAX_SECTIONS} sections of {MAX_SECTION_BYTES} bytes")
        flags = _GRAY * self.gray | _ALPHA * (self.alpha is not None) | _ICC * (self.icc is not None)
        flags |= _PROGRESSIVE * self.progressive | _PACK * self.is_pack
        counts = [len(sections), *(len(section.payload) for section in sections)]
        header = b"".join(
            (
                MAGIC + bytes([VERSION, self.codec_id]) + self.fingerprint,
                *map(varint, self.image_size),
                bytes([flags]),
                *map(varint, counts),
            )
        )
        crc = zlib.crc32(header)
        return b"".join((header, _CRC.pack(crc), *(_section_bytes(section, crc) for section in sections)))


def read(data: bytes, max_pixels: int = MAX_PIXELS, leading: int | None = None) -> Bitstream:
    """Undo `Bitstream.to_bytes`, for bytes from anywhere.

    Of a progressive file, the codec's sections that are there; no more than `leading` if that is given, and then what
    follows them is not looked at. Raises DamagedFile for bytes that are not as written; CodingError for another kind
    of file, a newer version, or a picture of more than `max_pixels`.
    """
    header, rest = _read_header(data, max_pixels)
    if header.flags & _PROGRESSIVE:
        return _read_progressive(header, rest, leading)
    if sum(header.lengths) + _SECTION_TAIL.size * len(header.lengths) > len(rest.data) - rest.position:
        raise damaged("the file is cut off")
    return _bitstream(header, [_read_section(rest, length, header.crc) for length in header.lengths], rest)


def section_ends(data: bytes) -> list[int]:
    """Return how long a progressive file is up to the end of each of its sections, whether they are there or not.

    Raises as `read`, and CodingError for a file that is not progressive.
    """
    header, rest = _read_header(data, MAX_PIXELS)
    if not header.flags & _PROGRESSIVE:
        raise CodingError("its codec's files cannot be cut; compress the picture again for another rate")
    ends = accumulate((length + _SECTION_TAIL.size for length in header.lengths), initial=rest.position)
    return [*ends][1 + _num_side_sections(header.flags) :]


def _read_progressive(header: _Header, rest: Cursor, leading: int | None) -> Bitstream:
    sections: list[Section] = []
    for number, length in enumerate(header.lengths, start=1 - _num_side_sections(header.flags)):
        if leading is not None and number > leading:
            rest.position = len(rest.data)
            break
        if number > 1 and rest.position == len(rest.data):
            break
        try:
            sections.append(_read_section(rest, length, header.crc))
        except DamagedFile as error:
            if number < 2:
                raise
            raise DamagedFile(f"{error}, or cut this one down with task=truncate level={number - 1}") from None
    return _bitstream(header, sections, rest)


def require_model(bitstream: Bitstream, fingerprint: bytes) -> None:
    """WrongModel unless the file was made by the model of this fingerprint."""
    if bitstream.fingerprint != fingerprint:
        raise WrongModel(
            f"needs model {bitstream.fingerprint.hex()}, have {fingerprint.hex()}; "
            "give the checkpoint that made the file with ckpt="
        )


def fingerprint(state: Mapping[str, Tensor]) -> bytes:
    """First 8 bytes of the SHA-256 over (name, dtype, shape, little-endian values), sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        label = f"{name}\0{str(tensor.dtype).removeprefix('torch.')}\0{tuple(tensor.shape)}\0"
        digest.update(label.encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.digest()[:FINGERPRINT_BYTES]


def content_crc(*arrays: ArrayLike) -> int:
    """CRC-32 of integer latents, as little-endian int32, one array after the other."""
    crc = 0
    for array in arrays:
        crc = zlib.crc32(np.ascontiguousarray(check_symbols(array), dtype="<i4").data, crc)
    return crc


class _Header(NamedTuple):
    codec_id: int
    fingerprint: bytes
    image_size: ImageSize
    flags: int
    lengths: list[int]
    crc: int


class Cursor:
    """Takes bytes off the front of `data`, never more than there are."""

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data = data
        self.position = position

    def take(self, count: int) -> bytes:
        taken = self.data[self.position : self.position + count]
        if len(taken) < count:
            raise damaged("the file is cut off")
        self.position += count
        return taken

    def varint(self) -> int:
        """Little-endian base 128, shortest form only, at most 5 bytes."""
        value = 0
        for i in range(_VARINT_BYTES):
            byte = self.take(1)[0]
            value |= (byte & 127) << 7 * i
            if byte < 128:
                if byte == 0 and i > 0:
                    break
                return value
        raise damaged("a number in the header is malformed")


def _read_header(data: bytes, max_pixels: int) -> tuple[_Header, Cursor]:
    cursor = Cursor(data)
    _check_magic(data)
    cursor.take(len(MAGIC))
    _check_version(cursor.take(1)[0])
    codec_id = cursor.take(1)[0]
    fingerprint = cursor.take(FINGERPRINT_BYTES)
    image_size = (cursor.varint(), cursor.varint())
    if 0 in image_size:
        raise damaged("the header declares a picture without pixels")
    _check_size(image_size, max_pixels)
    flags = cursor.take(1)[0]
    count = cursor.varint()
    known = flags == _PACK or not flags & ~(_GRAY | _ALPHA | _ICC | _PROGRESSIVE)
    if not known or not _num_side_sections(flags) < count <= MAX_SECTIONS:
        raise damaged("flags and section count of the header disagree")
    lengths = [cursor.varint() for _ in range(count)]
    crc = zlib.crc32(data[: cursor.position])
    if crc != _CRC.unpack(cursor.take(_CRC.size))[0]:
        raise damaged("the header disagrees with its checksum")
    return _Header(codec_id, fingerprint, image_size, flags, lengths, crc), cursor


def _num_side_sections(flags: int) -> int:
    return bool(flags & _ALPHA) + bool(flags & _ICC) + bool(flags & _PACK)


def _check_magic(data: bytes) -> None:
    if data[:3] != MAGIC[:3]:
        raise CodingError("not an lpc file" + ("" if data else ": it is empty"))
    if data[: len(MAGIC)] != MAGIC:
        raise damaged("its first bytes are cut or were altered as by a copy in text mode")


def _check_version(version: int) -> None:
    if version > VERSION:
        raise CodingError(
            f"made by a newer version of latentpress: file version {version}, this one reads up to {VERSION}; upgrade"
        )
    if version == 0:
        raise damaged("file version 0 does not exist")


def _check_size(image_size: ImageSize, max_pixels: int) -> None:
    height, width = image_size
    if not 1 <= min(image_size) <= max(image_size) <= MAX_SIDE or height * width > max_pixels:
        raise CodingError(
            f"a picture of {height}x{width} pixels is out of range; allowed are sides of 1..{MAX_SIDE} "
            f"and {max_pixels} pixels in all"
        )


def _read_section(cursor: Cursor, length: int, header_crc: int) -> Section:
    payload = cursor.take(length)
    bound_crc, crc = _SECTION_TAIL.unpack(cursor.take(_SECTION_TAIL.size))
    if crc != _section_crc(payload, bound_crc):
        raise damaged("a section disagrees with its checksum")
    return Section(payload, bound_crc ^ header_crc)


def _bitstream(header: _Header, sections: list[Section], rest: Cursor) -> Bitstream:
    if rest.position != len(rest.data):
        raise damaged(f"{len(rest.data) - rest.position} bytes follow the last section")
    queue = iter(sections)
    return Bitstream(
        header.codec_id,
        header.fingerprint,
        header.image_size,
        gray=bool(header.flags & _GRAY),
        alpha=next(queue) if header.flags & _ALPHA else None,
        icc=next(queue) if header.flags & _ICC else None,
        sections=tuple(queue),
        progressive=bool(header.flags & _PROGRESSIVE),
        is_pack=bool(header.flags & _PACK),
    )


def _section_bytes(section: Section, header_crc: int) -> bytes:
    """The content's checksum is stored as a sum with the header's: under another header, content is refused."""
    bound_crc = section.content_crc ^ header_crc
    return section.payload + _SECTION_TAIL.pack(bound_crc, _section_crc(section.payload, bound_crc))


def _section_crc(payload: bytes, bound_crc: int) -> int:
    return zlib.crc32(_CRC.pack(bound_crc), zlib.crc32(payload))


def varint(value: int) -> bytes:
    digits = []
    while value >= 128:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])
