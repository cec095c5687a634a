"""What travels beside the latents without loss: the alpha plane and the colour profile.

Both unpack into a bounded buffer: a few bytes cannot inflate beyond what the picture, or the limit, allows.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_modules.errors import CodingError, damaged
from lightning_modules.records import ImageSize, Section

PROFILE_LIMIT = 1 << 22
"""Bytes of the largest colour profile; printer profiles, the largest in use, have about 2^21."""

_CONSTANT = 0xFF
Plane = NDArray[np.uint8]


def pack_alpha(alpha: NDArray[Any]) -> Section:
    """Return one byte that names the filter, then the filtered plane uint8 (H, W) deflated.

    A filter is a set of axes along which neighbours are subtracted modulo 256 (bit 0: down the rows, bit 1:
    along a row); a plane of one value is that value after the byte 0xFF.
    """
    if alpha.dtype != np.uint8 or alpha.ndim != 2 or alpha.size == 0:
        raise ValueError(f"alpha must be a uint8 plane (H, W), got {alpha.dtype} {alpha.shape}")
    plane = np.ascontiguousarray(alpha)
    crc = zlib.crc32(plane.data)
    if np.all(plane == plane[0, 0]):
        return Section(bytes([_CONSTANT, plane[0, 0]]), crc)
    candidates = (bytes([i]) + zlib.compress(_differences(plane, i).data, 9) for i in range(4))
    return Section(min(candidates, key=len), crc)


def unpack_alpha(section: Section, image_size: ImageSize) -> Plane:
    """Undo `pack_alpha`: uint8 (H, W). Raises DamagedFile when it is not one's output."""
    height, width = image_size
    filter_id, body = section.payload[:1], section.payload[1:]
    if filter_id == bytes([_CONSTANT]) and len(body) == 1:
        plane = np.full((height, width), body[0], dtype=np.uint8)
    elif len(filter_id) == 1 and filter_id[0] < 4:
        pixels = inflate(body, height * width, "alpha")
        if len(pixels) != height * width:
            raise damaged(f"alpha has {len(pixels)} pixels, not {height}x{width}")
        plane = _sums(np.frombuffer(pixels, dtype=np.uint8).reshape(height, width), filter_id[0])
    else:
        raise damaged("alpha is coded in an unknown way")
    _check_content(zlib.crc32(plane.data), section, "alpha")
    return plane


def pack_profile(profile: bytes) -> Section:
    """Return a colour profile, deflated. Raises CodingError when it is longer than `PROFILE_LIMIT`."""
    if len(profile) > PROFILE_LIMIT:
        raise CodingError(f"the colour profile has {len(profile)} bytes, at most {PROFILE_LIMIT} fit; strip it")
    return Section(zlib.compress(profile, 9), zlib.crc32(profile))


def unpack_profile(section: Section, limit: int = PROFILE_LIMIT) -> bytes:
    """Undo `pack_profile`. Raises DamagedFile for other bytes or a profile over `limit`."""
    profile = inflate(section.payload, limit, "colour profile")
    _check_content(zlib.crc32(profile), section, "colour profile")
    return profile


def _differences(plane: Plane, filter_id: int) -> Plane:
    for axis in (0, 1):
        if filter_id >> axis & 1:
            plane = np.diff(plane, axis=axis, prepend=np.uint8(0))
    return np.ascontiguousarray(plane)


def _sums(plane: Plane, filter_id: int) -> Plane:
    """Inverse of `_differences`; a fresh array."""
    for axis in (0, 1):
        if filter_id >> axis & 1:
            plane = np.cumsum(plane, axis=axis, dtype=np.uint8)
    return plane.copy()


def inflate(payload: bytes, limit: int, what: str) -> bytes:
    """Return what a whole zlib stream holds. Raises DamagedFile for anything else, or for more than `limit` bytes."""
    decoder = zlib.decompressobj()
    try:
        data = decoder.decompress(payload, limit + 1)
    except zlib.error as error:
        raise damaged(f"{what} does not inflate ({error})") from None
    if len(data) > limit:
        raise damaged(f"{what} inflates to more than {limit} bytes")
    if not decoder.eof or decoder.unused_data:
        raise damaged(f"{what} is cut off or followed by other bytes")
    return data


def _check_content(crc: int, section: Section, what: str) -> None:
    if crc != section.content_crc:
        raise damaged(f"the decoded {what} disagrees with its checksum")
