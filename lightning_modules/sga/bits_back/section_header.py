"""The header of a bits-back section, before its coded words: how z was coded, and where initial bits come from."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from lightning_modules.coding.bits_back_chain import Link
from lightning_modules.coding.leaky import Grid
from lightning_modules.errors import damaged
from lightning_modules.sga.bits_back.posterior import MOST_STEPS, Search

COARSEST, FINEST = -2, 8
LARGEST = 7
"""Steps of z from 4 to 2^-8, within ranges from +-1 to +-2^7."""

_FIXED = struct.Struct("<BBHH")
_SMALLEST_STACK = 8
_LENGTH = struct.Struct("<I")


class Mode(IntEnum):
    """The source of the initial bits."""

    SINGLE = 0
    """The seeded generator, for this picture alone."""
    CHAINED = 1
    """The picture before; the seeded generator for the first one."""
    PAYLOAD = 2
    """The user's data, which the receiver gets back."""


class SectionHeader(NamedTuple):
    """The way in which one picture was coded.

    fineness: z lies on multiples of 2^-fineness. extent: within +-2^extent. link: its place, if it is of a chain.
    payload_bytes: length of the payload, if there is one.
    """

    mode: Mode
    fineness: int
    extent: int
    search: Search
    link: Link = Link(0, 0, 0)
    payload_bytes: int = 0

    @property
    def grid(self) -> Grid:
        return Grid(2.0**-self.fineness, 1 << (self.extent + self.fineness))

    def to_bytes(self) -> bytes:
        fixed = _FIXED.pack(self.mode, self.fineness - COARSEST << 4 | self.extent, *self.search)
        match self.mode:
            case Mode.CHAINED:
                return fixed + self.link.to_bytes()
            case Mode.PAYLOAD:
                return fixed + _LENGTH.pack(self.payload_bytes)
            case _:
                return fixed


def split(payload: bytes) -> tuple[SectionHeader, bytes]:
    """Split a section into its header and the coded words behind it. Raises `DamagedFile`."""
    if len(payload) < _FIXED.size + _SMALLEST_STACK:
        raise damaged("a bits-back section is cut off")
    mode, grid, steps, rate = _FIXED.unpack_from(payload)
    fineness, extent = (grid >> 4) + COARSEST, grid & 15
    if mode > max(Mode) or fineness > FINEST or not -fineness <= extent <= LARGEST or steps > MOST_STEPS:
        raise damaged("a bits-back section asks for what none has")
    settings, rest = SectionHeader(Mode(mode), fineness, extent, Search(steps, rate)), payload[_FIXED.size :]
    if settings.mode is Mode.CHAINED:
        link, words = Link.split(rest)
        return settings._replace(link=link), words
    if settings.mode is Mode.PAYLOAD:
        (payload_bytes,) = _LENGTH.unpack_from(rest)
        return settings._replace(payload_bytes=payload_bytes), rest[_LENGTH.size :]
    return settings, rest
