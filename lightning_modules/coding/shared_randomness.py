"""The random numbers that sender and receiver share: integers by counter, Gaussians by a table of our own.

A Gaussian is addressed by (seed, block, variable, candidate, dimension), so the receiver makes only those that were
chosen. Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011. Signs:
SplitMix64, Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014. The functions take
Python integers, numpy arrays or torch tensors of int64 on any device, and give the same integers for all of them.
docs/rec.md specifies every bit.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Words = Any
"""An int, an integer array or an int64 tensor: 32-bit words hold 0 ... 2^32 - 1, 64-bit ones wrap around."""

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
LOW_32 = 0xFFFFFFFF
LOW_16 = 0xFFFF

TABLE_BITS = 16
NORMAL_UNIT = 1 << 12
"""Table entries are multiples of 1 / NORMAL_UNIT."""
NORMAL_TABLE_CRC = 0x546C8CB1
DIMENSIONS_PER_CALL = 8
CPU_LANES = 1 << 14
"""Calls of Philox at a time, so that intermediate arrays stay in a core's cache."""


def philox4x32(counter: Sequence[Words], key: Sequence[Words]) -> tuple[Words, Words, Words, Words]:
    """Four 32-bit words of the counter-based generator with ten rounds.

    counter: four 32-bit words. key: two. Each may be an array; arrays broadcast against each other.
    """
    c0, c1, c2, c3 = map(_wide, counter)
    k0, k1 = map(_wide, key)
    for _ in range(ROUNDS):
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = _upper(p1) ^ c1 ^ k0, p1 & LOW_32, _upper(p0) ^ c3 ^ k1, p0 & LOW_32
        k0, k1 = (k0 + WEYL[0]) & LOW_32, (k1 + WEYL[1]) & LOW_32
    return c0, c1, c2, c3


def _wide(word: Words) -> Words:
    """A word as a type that holds products of two without a warning: int, uint64 array, int64 tensor."""
    if isinstance(word, Tensor):
        return word.to(torch.int64)
    return word.astype(np.uint64) if isinstance(word, np.ndarray) else int(word)


def _upper(product: Words) -> Words:
    """The upper word of a product of two; in int64 it wraps around and is shifted arithmetically, hence the mask."""
    return (product >> 32) & LOW_32 if isinstance(product, Tensor) else product >> 32


@cache
def normal_table() -> NDArray[np.float64]:
    """Return (2^16,) integers: round(2^12 * inverse normal CDF((j + 1/2) / 2^16)), odd about the middle.

    Any inverse CDF that is right to 4e-9 gives these integers (none is nearer to where rounding changes), and their
    CRC-32 as little-endian int16 is checked. Magnitudes are below 2^14.2.
    """
    inverse = NormalDist().inv_cdf
    half = 1 << (TABLE_BITS - 1)
    lower = [round(NORMAL_UNIT * inverse((j + 0.5) / (2 * half))) for j in range(half)]
    table = np.array([*lower, *(-entry for entry in reversed(lower))], dtype=np.float64)
    if zlib.crc32(table.astype("<i2").tobytes()) != NORMAL_TABLE_CRC:
        raise RuntimeError("the table of Gaussians is not the one that files are written with: this Python is damaged")
    return table


def normal_integers(key: Sequence[Words], address: Sequence[Words], num_dimensions: int) -> Words:
    """Gaussians in units of 1 / NORMAL_UNIT, as float64 (R, D), one row for each of R addresses.

    key: two 32-bit words, each an int or (R,). address: (R,) each: block < 2^32, variable < 2^24 (with the stream's
    tag in the bits above), candidate < 2^32; numpy arrays, or tensors on one device.
    Dimension d is 16-bit word d mod 8 (low half of a 32-bit word first) of the call whose counter is
    (d // 8, candidate, variable, block).
    """
    blocks, variables, candidates = address
    groups = -(-num_dimensions // DIMENSIONS_PER_CALL)
    if isinstance(blocks, Tensor) and blocks.device.type == "cpu":
        on_numpy = [word.numpy() if isinstance(word, Tensor) else word for word in (*key, *address)]
        return torch.from_numpy(normal_integers(on_numpy[:2], on_numpy[2:], num_dimensions))
    if isinstance(blocks, Tensor):
        return _normal_rows(key, address, torch.arange(groups, device=blocks.device))[:, :num_dimensions]
    normals = np.empty((len(blocks), num_dimensions))
    at_once = max(1, CPU_LANES // max(1, groups))
    for start in range(0, len(blocks), at_once):
        rows = slice(start, start + at_once)
        words = [word[rows] if isinstance(word, np.ndarray) else word for word in (*key, blocks, variables, candidates)]
        normals[rows] = _normal_rows(words[:2], words[2:], np.arange(groups))[:, :num_dimensions]
    return normals


def _normal_rows(key: Sequence[Words], address: Sequence[Words], groups: Words) -> Words:
    """(R, 8 groups) table entries: int16 arrays or float64 tensors."""
    k0, k1 = (word if isinstance(word, int) else word[:, None] for word in key)
    block, variable, candidate = (word[:, None] for word in address)
    words = philox4x32((groups[None], candidate, variable, block), (k0, k1))
    if isinstance(groups, Tensor):
        halves = torch.stack([half for word in words for half in (word & LOW_16, word >> 16)], dim=-1)
        return _table_on(groups.device)[halves.flatten(1)]
    packed = np.empty((*words[0].shape, len(words)), dtype="<u4")
    for k, word in enumerate(words):
        packed[..., k] = word
    return _compact_table()[packed.view("<u2").reshape(len(packed), -1)]


@cache
def _compact_table() -> NDArray[np.int16]:
    """The table in the least memory, so that it stays in a core's cache."""
    return normal_table().astype(np.int16)


@cache
def _table_on(device: torch.device) -> Tensor:
    return torch.from_numpy(normal_table()).to(device)


# ---- 64-bit hashes and signs, on tensors

GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB
SIGN_TAG = 0x5851F42D4C957F2D
WORD_BITS, BYTE_BITS = 64, 8


def splitmix64(state: Tensor) -> Tensor:
    """Return the generator's output for a state: a bijection of 64-bit words (int64, wrapping around)."""
    if state.device.type == "cpu":  # numpy's calls are the shorter ones, and its unsigned words shift logically
        return torch.from_numpy(_mixed(state.numpy().view(np.uint64)).view(np.int64))
    state = (state ^ _shifted(state, 30)) * signed_64(MIX_1)
    state = (state ^ _shifted(state, 27)) * signed_64(MIX_2)
    return state ^ _shifted(state, 31)


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(MIX_1)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(MIX_2)
    mixed: NDArray[np.uint64] = state ^ (state >> np.uint64(31))
    return mixed


def _shifted(word: Tensor, bits: int) -> Tensor:
    """Logical shift to the right."""
    return (word >> bits) & ((1 << (WORD_BITS - bits)) - 1)


def first_prefix(seed: int, blocks: Tensor) -> Tensor:
    """Return the hash of an empty list of indices, one for each block (N,)."""
    return splitmix64(splitmix64(torch.full_like(blocks, signed_64(seed))) + (blocks + 1) * GOLDEN)


def extended_prefix(prefix: Tensor, index: Tensor) -> Tensor:
    """Return the hash of a list with one more index, of any shape."""
    return splitmix64(prefix + (index + 1) * GOLDEN)


def signs(prefix: Tensor, num_dimensions: int) -> Tensor:
    """Return +1 or -1 as float32, (...) -> (..., D): bit d mod 64, 1 for -1, of the prefix's word d // 64."""
    offsets, shifts, signs_of_bytes = _sign_tables(-(-num_dimensions // WORD_BITS), prefix.device)
    drawn = splitmix64((prefix ^ SIGN_TAG)[..., None] + offsets)
    in_bytes = (drawn[..., None] >> shifts) & 0xFF
    rows = signs_of_bytes.index_select(0, in_bytes.flatten())
    return rows.view(*prefix.shape, -1)[..., :num_dimensions]


@cache
def _sign_tables(num_words: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Offsets of a prefix's words, shifts of a word's bytes, and the signs (256, 8) of a byte's bits, lowest first."""
    offsets = torch.arange(1, num_words + 1, device=device) * GOLDEN
    shifts = torch.arange(0, WORD_BITS, BYTE_BITS, device=device)
    bits = (torch.arange(1 << BYTE_BITS)[:, None] >> torch.arange(BYTE_BITS)) & 1
    return offsets, shifts, (1.0 - 2.0 * bits.to(torch.float32)).to(device)


def signed_64(word: int) -> int:
    """Return 0 ... 2^64 - 1 as the int64 with the same bits; ValueError outside."""
    if not 0 <= word < 1 << WORD_BITS:
        raise ValueError(f"a seed must be an integer in 0 ... 2^64 - 1, got {word}")
    return word - (1 << WORD_BITS) if word >> (WORD_BITS - 1) else word


def halves(word: Words) -> tuple[Words, Words]:
    """Return a 64-bit word's low and high 32 bits, as a key of Philox."""
    return word & LOW_32, (word >> 32) & LOW_32
