"""Alpha and colour profile: lossless, small, and bounded when unpacked."""

from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from lightning_modules.coding.side_data import (
    PROFILE_LIMIT,
    pack_alpha,
    pack_profile,
    unpack_alpha,
    unpack_profile,
)
from lightning_modules.errors import CodingError, DamagedFile
from lightning_modules.records import Section

PLANES = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=40))
RAMP = np.add.outer(np.arange(120), 2 * np.arange(200)).astype(np.uint8)
DISC = np.where(np.add.outer((np.arange(120) - 60) ** 2, (np.arange(200) - 100) ** 2) < 2500, 255, 0)


@settings(deadline=None)
@given(PLANES)
def test_alpha_survives_to_the_last_bit(alpha: np.ndarray) -> None:
    section = pack_alpha(alpha)
    assert section.content_crc == zlib.crc32(alpha.tobytes())
    height, width = alpha.shape
    np.testing.assert_array_equal(unpack_alpha(section, (height, width)), alpha)


@pytest.mark.parametrize("alpha", [RAMP, RAMP[:, ::2], RAMP[::-1].T], ids=["rows", "stride", "columns"])
def test_alpha_survives_in_any_memory_layout(alpha: np.ndarray) -> None:
    height, width = alpha.shape
    unpacked = unpack_alpha(pack_alpha(alpha), (height, width))
    np.testing.assert_array_equal(unpacked, alpha)
    unpacked[0, 0] ^= 1  # a reader may draw on it


def test_a_fully_opaque_plane_costs_two_bytes() -> None:
    assert len(pack_alpha(np.full((2000, 3000), 255, dtype=np.uint8)).payload) == 2


def test_a_smooth_ramp_costs_under_a_hundredth_and_a_mask_no_more_than_deflate_alone() -> None:
    assert len(pack_alpha(RAMP).payload) < RAMP.size / 100
    mask = DISC.astype(np.uint8)
    assert len(pack_alpha(mask).payload) <= len(zlib.compress(mask.tobytes(), 9)) + 1


@pytest.mark.parametrize("alpha", [np.zeros((2, 3)), np.zeros((2, 3, 1), np.uint8), np.zeros((0, 3), np.uint8)])
def test_what_is_no_plane_of_bytes_is_refused(alpha: np.ndarray) -> None:
    with pytest.raises(ValueError, match="alpha must be a uint8 plane"):
        pack_alpha(alpha)


@settings(deadline=None)
@given(st.binary(max_size=3000))
def test_a_colour_profile_survives(profile: bytes) -> None:
    section = pack_profile(profile)
    assert section.content_crc == zlib.crc32(profile)
    assert unpack_profile(section) == profile


def test_a_profile_at_the_limit_fits_and_one_byte_more_does_not() -> None:
    assert len(unpack_profile(pack_profile(bytes(PROFILE_LIMIT)))) == PROFILE_LIMIT
    with pytest.raises(CodingError, match=r"profile has 4194305 bytes, at most 4194304 fit; strip it"):
        pack_profile(bytes(PROFILE_LIMIT + 1))


def _deflated(plane: bytes, filter_id: int = 0) -> Section:
    return Section(bytes([filter_id]) + zlib.compress(plane), zlib.crc32(plane))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (Section(b"", 0), "unknown way"),
        (Section(b"\x04" + zlib.compress(b"123456"), 0), "unknown way"),
        (Section(b"\xff", 0), "unknown way"),
        (Section(b"\xff\x01\x01", 0), "unknown way"),
        (Section(b"\x00", 0), "cut off"),
        (Section(b"\x00not a zlib stream", 0), "does not inflate"),
        (_deflated(b"12345"), "5 pixels, not 2x3"),
        (_deflated(b"1234567"), "more than 6 bytes"),
        (Section(_deflated(b"123456").payload[:-1], 0), "cut off"),
        (Section(_deflated(b"123456").payload + b"\0", 0), "followed by"),
        (Section(_deflated(b"123456").payload, 0), "disagrees with its checksum"),
        (Section(b"\xff\x01", 0), "disagrees with its checksum"),
    ],
)
def test_each_kind_of_damaged_alpha_is_named(section: Section, message: str) -> None:
    with pytest.raises(DamagedFile, match=f"^damaged: .*{message}"):
        unpack_alpha(section, (2, 3))


@pytest.mark.fuzz
def test_a_deflated_bomb_is_refused_in_the_memory_of_its_picture() -> None:
    bomb = zlib.compress(bytes(1 << 26), 9)
    tracemalloc.start()
    with pytest.raises(DamagedFile, match="more than 4096 bytes"):
        unpack_alpha(Section(b"\x00" + bomb, 0), (64, 64))
    with pytest.raises(DamagedFile, match="more than 1000 bytes"):
        unpack_profile(Section(bomb, 0), limit=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * len(bomb) + (1 << 20)


def _attempt(unpack: Callable[[Section], Any], section: Section) -> Any:
    """What unpacking gives, or the line it refuses with; any other exception fails the test."""
    try:
        return unpack(section)
    except DamagedFile as error:
        return str(error)


@pytest.mark.fuzz
def test_mutants_of_side_data_are_refused_or_unpack_the_same() -> None:
    rng = np.random.default_rng(4)
    content = RAMP.tobytes()
    cases = [
        (pack_alpha(RAMP), lambda section: unpack_alpha(section, (120, 200)).tobytes()),
        (pack_profile(content), unpack_profile),
    ]
    refused = 0
    for section, unpack in cases * 1000:
        mutant = bytearray(section.payload)
        for _ in range(rng.integers(1, 4)):
            mutant[rng.integers(len(mutant))] = rng.integers(256)
        outcome = _attempt(unpack, Section(bytes(mutant), section.content_crc))
        if isinstance(outcome, str):
            refused += 1
            assert outcome.startswith("damaged: ")
            assert "\n" not in outcome
        else:
            assert outcome == content
    assert refused > 1900
