"""What a pack says of its pictures: names, sizes, which are grayscale, and where their side data are.

The list is deflated: equal sizes and names that count up cost next to nothing. docs/format.md, section 1.1.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

from lightning_modules.coding.container import MAX_PIXELS, MAX_SIDE, Cursor, varint
from lightning_modules.coding.side_data import inflate
from lightning_modules.errors import CodingError, damaged
from lightning_modules.records import ImageSize, Section

MOST_PICTURES = 65535
MOST_BYTES = 1 << 24
"""Of a directory, inflated."""
_END = b"\0"


class Entry(NamedTuple):
    """One picture of a pack. name: relative path, with `/`. gray: it has one channel, coded as three.

    alpha, profile: numbers of its side data among the pack's, from 1; 0: it has none.
    """

    name: str
    size: ImageSize
    gray: bool
    alpha: int = 0
    profile: int = 0


def write_directory(entries: Sequence[Entry]) -> Section:
    """Raises `CodingError` for more than a pack holds."""
    pixels = sum(height * width for _, (height, width), *_ in entries)
    if len(entries) > MOST_PICTURES or pixels > MAX_PIXELS:
        raise CodingError(
            f"a pack holds at most {MOST_PICTURES} pictures and {MAX_PIXELS} pixels, not {len(entries)} and {pixels}; "
            "lower coder.pack"
        )
    numbers = [
        [entry.size[0] for entry in entries],
        [entry.size[1] for entry in entries],
        [int(entry.gray) for entry in entries],
        [entry.alpha for entry in entries],
        [entry.profile for entry in entries],
    ]
    names = b"".join(_encoded(entry.name) + _END for entry in entries)
    plain = varint(len(entries)) + b"".join(varint(value) for column in numbers for value in column) + names
    if len(plain) > MOST_BYTES:
        raise CodingError("the names of a pack's pictures are too long; lower coder.pack")
    return Section(zlib.compress(plain, 9), zlib.crc32(plain))


def read_directory(section: Section, num_side_data: int) -> list[Entry]:
    """Undo `write_directory`. num_side_data: of the pack. Raises `DamagedFile`."""
    plain = inflate(section.payload, MOST_BYTES, "the directory")
    if zlib.crc32(plain) != section.content_crc:
        raise damaged("the directory disagrees with its checksum")
    cursor = Cursor(plain)
    count = cursor.varint()
    if not 1 <= count <= MOST_PICTURES:
        raise damaged(f"the directory lists {count} pictures")
    heights, widths, grays, alphas, profiles = ([cursor.varint() for _ in range(count)] for _ in range(5))
    names = plain[cursor.position :].split(_END)
    if len(names) != count + 1 or names[-1] or len({*names}) != len(names):
        raise damaged("the directory has not one name for each picture")
    _check_sizes(heights, widths)
    if max(grays) > 1 or max(alphas) > num_side_data or max(profiles) > num_side_data:
        raise damaged("the directory tells of side data that are not there")
    columns = zip(names[:count], heights, widths, grays, alphas, profiles, strict=True)
    return [Entry(_decoded(name), (height, width), bool(gray), *rest) for name, height, width, gray, *rest in columns]


def _check_sizes(heights: Sequence[int], widths: Sequence[int]) -> None:
    sides = [*heights, *widths]
    pixels = sum(height * width for height, width in zip(heights, widths, strict=True))
    if not 1 <= min(sides) <= max(sides) <= MAX_SIDE or pixels > MAX_PIXELS:
        raise damaged(f"the directory declares pictures of {pixels} pixels, or sides out of range")


def _encoded(name: str) -> bytes:
    """Names of files need not be text: bytes that are none come back as they were."""
    return name.encode("utf-8", "surrogateescape")


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
