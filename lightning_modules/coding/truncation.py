"""Cutting a progressive file after one of its sections: the bytes before the cut stay as they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from lightning_modules.coding.container import read, section_ends
from lightning_modules.errors import CodingError
from lightning_modules.records import ImageSize

Limit = Callable[[Sequence[int], ImageSize], int]
"""(lengths of the file up to each section, size of its picture) -> sections to keep. Raises `CodingError`."""


def at_level(level: int) -> Limit:
    """Keep exactly so many sections."""
    if level < 1:
        raise CodingError(f"level={level}: levels count from 1")

    def sections(ends: Sequence[int], image_size: ImageSize) -> int:
        del image_size
        if level > len(ends):
            raise CodingError(f"has levels 1 to {len(ends)}, not level={level}")
        return level

    return sections


def at_most_bytes(limit: float) -> Limit:
    """Keep as many sections as fit the length of the whole file."""

    def sections(ends: Sequence[int], image_size: ImageSize) -> int:
        del image_size
        return _largest(ends, limit, f"bytes={limit:g}")

    return sections


def at_most_bpp(limit: float) -> Limit:
    """Keep as many sections as fit the bits of the whole file per pixel."""

    def sections(ends: Sequence[int], image_size: ImageSize) -> int:
        return _largest(ends, limit * math.prod(image_size) / 8, f"bpp={limit:g}")

    return sections


def _largest(ends: Sequence[int], limit: float, name: str) -> int:
    fitting = sum(end <= limit for end in ends)
    if not fitting:
        raise CodingError(f"takes {ends[0]} bytes at its lowest level, more than {name} allows")
    return fitting


LIMITS: dict[str, Callable[..., Limit]] = {"level": at_level, "bpp": at_most_bpp, "bytes": at_most_bytes}


def limit(**values: float | None) -> Limit:
    """Return the limit that the one value of `level`, `bpp` and `bytes` means.

    Raises `CodingError` for none and several.
    """
    given = {name: value for name, value in values.items() if value is not None}
    if len(given) != 1:
        raise CodingError(f"task=truncate needs one of {', '.join(f'{name}=' for name in LIMITS)}, not {len(given)}")
    ((name, value),) = given.items()
    return LIMITS[name](value)


def truncated(data: bytes, limit: Limit) -> tuple[bytes, ImageSize]:
    """Return the shorter file, which is a prefix of `data`, and the size of its picture; what it keeps is checked.

    Of a file that ends earlier than the limit says, all of it. Raises `CodingError` for a file that cannot be cut so.
    """
    image_size = read(data, leading=1).image_size
    ends = section_ends(data)
    present = [end for end in ends if end <= len(data)]
    kept = limit(present, image_size)
    read(data, leading=kept)
    return data[: ends[kept - 1]], image_size
