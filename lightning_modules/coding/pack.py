"""Packs: small pictures of one folder in one `.lpc` file, so that what files cost besides their pictures is paid once.

    sender     names, sizes, side data --> directory;  pictures --coder.encode_pack--> one section
    receiver   directory --> sizes;  section --codec.read_pack--> Integers --synthesize--> pictures

docs/format.md, section 1.1, has the bytes.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple, Protocol

import torch

from lightning_modules.capabilities import read_pack
from lightning_modules.codec import Codec
from lightning_modules.coding.container import MAX_SECTIONS, Bitstream
from lightning_modules.coding.pack_directory import Entry, read_directory, write_directory
from lightning_modules.coding.picture import (
    PackedPicture,
    UnpackedPicture,
    check_one_picture,
    memory_for,
    model_fingerprint,
    readable,
    synthesized,
)
from lightning_modules.coding.side_data import pack_alpha, pack_profile, unpack_alpha, unpack_profile
from lightning_modules.errors import CodingError, damaged
from lightning_modules.records import Chain, Coded, CodedPack, Latents, PackShare, PixelFormat, Section


class Named(NamedTuple):
    """A picture to pack. name: relative path, with `/`."""

    name: str
    latents: Latents
    format: PixelFormat


class PackCoder(Protocol):
    """How several pictures become one section."""

    def encode_pack(self, codec: Codec, images: Sequence[Latents]) -> CodedPack:
        """Code pictures together. Raises `CodingError` for a codec that cannot."""


def pack_together(coder: PackCoder, codec: Codec, pictures: Sequence[Named]) -> list[PackedPicture]:
    """Return one file of all, once for each picture with its share, in the order given.

    Inside, pictures are sorted by size and name: equally large ones are coded as one, names that count up are short.
    """
    order = sorted(range(len(pictures)), key=lambda k: (pictures[k].latents.image_size, pictures[k].name))
    inside = [pictures[k] for k in order]
    for picture in inside:
        check_one_picture(picture.latents, picture.format.alpha)
    entries, side_data = _entries(inside)
    coded = coder.encode_pack(codec, [picture.latents for picture in inside])
    sizes = [entry.size for entry in entries]
    data = Bitstream(
        codec_id=codec.codec_id,
        fingerprint=model_fingerprint(codec),
        image_size=(max(height for height, _ in sizes), max(width for _, width in sizes)),
        gray=False,
        alpha=None,
        icc=None,
        sections=(write_directory(entries), *side_data, coded.section),
        is_pack=True,
    ).to_bytes()
    packed = dict(zip(order, _shares(data, coded, file_name([picture.name for picture in inside])), strict=True))
    return [packed[k] for k in range(len(pictures))]


def file_name(names: Sequence[str]) -> str:
    """Name a pack of these pictures: the same ones make the same name again."""
    joined = "\0".join(names).encode("utf-8", "surrogateescape")
    return f"pack-{zlib.crc32(joined):08x}.lpc"


def _entries(pictures: Sequence[Named]) -> tuple[list[Entry], list[Section]]:
    """Return the directory, and the side data it speaks of, equal ones once."""
    numbers: dict[Section, int] = {}

    def number(section: Section | None) -> int:
        return 0 if section is None else numbers.setdefault(section, len(numbers) + 1)

    entries = []
    for name, latents, pixel_format in pictures:
        alpha, profile = pixel_format.alpha, pixel_format.icc_profile
        of_alpha = number(None if alpha is None else pack_alpha(alpha.cpu().numpy()))
        of_profile = number(None if profile is None else pack_profile(profile))
        entries.append(Entry(name, latents.image_size, pixel_format.gray, of_alpha, of_profile))
    if len(numbers) > MAX_SECTIONS - 2:
        raise CodingError(
            f"a pack holds at most {MAX_SECTIONS - 2} different alpha planes and colour profiles, not {len(numbers)}; "
            "lower coder.pack"
        )
    return entries, list(numbers)


def _shares(data: bytes, coded: CodedPack, name: str) -> list[PackedPicture]:
    """Count for each picture its own bits, and as much as every other of what remains; in whole bytes that sum up."""
    bits = [sum(one.bits.values()) for one in coded.pictures]
    rest = (8 * len(data) - sum(bits)) / len(bits)
    ends = [round(end / 8) for end in accumulate((own + rest for own in bits), initial=0.0)]
    lengths = [stop - start for start, stop in pairwise(ends)]
    chain = Chain(zlib.crc32(data), len(bits))
    return [_share(data, *each, chain, name) for each in zip(coded.pictures, bits, lengths, strict=True)]


def _share(data: bytes, coded: Coded, bits: float, num_bytes: int, chain: Chain, name: str) -> PackedPicture:
    return PackedPicture(data, bits, math.ceil(bits / 8), coded.accounts, chain, PackShare(name, num_bytes))


# ---- reading


def unpack_pack(data: bytes, codec: Codec) -> dict[str, UnpackedPicture]:
    """Return the pictures of a pack by name.

    Raises `CodingError`, whatever the bytes: a fault of one is a fault of all.
    """
    bitstream = readable(data, codec, model_fingerprint(codec))
    if not bitstream.is_pack:
        raise CodingError("holds one picture, not several")
    first, *side_data, section = bitstream.sections
    entries = read_directory(first, len(side_data))
    sizes = [entry.size for entry in entries]
    if (max(height for height, _ in sizes), max(width for _, width in sizes)) != bitstream.image_size:
        raise damaged("the directory and the header disagree on sizes")
    with memory_for(max(sizes, key=math.prod)):
        found = read_pack(codec, section, sizes)
        x_hats = synthesized(found, sizes, codec)
        formats = list(_formats(entries, side_data))
    return {
        entry.name: UnpackedPicture(x_hats[k], pixel_format)
        for k, (entry, pixel_format) in enumerate(zip(entries, formats, strict=True))
    }


def _formats(entries: Sequence[Entry], side_data: Sequence[Section]) -> Iterator[PixelFormat]:
    for _, size, gray, alpha, profile in entries:
        yield PixelFormat(
            gray=gray,
            alpha=torch.from_numpy(unpack_alpha(side_data[alpha - 1], size)) if alpha else None,
            icc_profile=unpack_profile(side_data[profile - 1]) if profile else None,
        )
