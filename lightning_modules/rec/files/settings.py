"""The first bytes of a section of relative entropy coding: how its samples are to be read."""

from __future__ import annotations

import struct
from typing import NamedTuple

import torch

from lightning_modules.coding.bits_back_chain import Link
from lightning_modules.errors import damaged
from lightning_modules.exact.torch_functions import ln
from lightning_modules.rec.files.message_code import IndexCode, UniformCode, ZipfCode
from lightning_modules.rec.samplers.auxiliary_variables import POWER_LAW_EXPONENT
from lightning_modules.rec.samplers.beam_search import BeamSearch
from lightning_modules.rec.samplers.candidate_noise import Independent, Mirrored, SignFlipped
from lightning_modules.rec.samplers.index_coder import IndexCoder
from lightning_modules.rec.samplers.schedule import EqualKL, PowerLaw, SharedEqualKL

NOISES: tuple[type[Mirrored] | type[SignFlipped] | type[Independent], ...] = (Mirrored, SignFlipped, Independent)
SCHEDULES: tuple[type[EqualKL] | type[SharedEqualKL] | type[PowerLaw], ...] = (EqualKL, SharedEqualKL, PowerLaw)
"""By number in files."""

VARIABLE_KL_UNIT = 1 << 10
"""KL of a variable is given in multiples of 1 / VARIABLE_KL_UNIT nat."""
MOST_CELL_BITS = 16
KIND_BITS = 2
_ZIPF, _GRAY, _BACK, _LAST = (1 << 2 * KIND_BITS + k for k in range(4))
"""Flags of the first byte. _BACK: made by bits-back coding, then the next byte is `bits`, and _LAST says that the file
is one of a chain. Without _BACK, _LAST says that the numbers of `usual` are not written."""
_FIXED, _UNUSUAL = struct.Struct("<BHH"), struct.Struct("<HHI")
USUAL_SIZE, USUAL_SEED = 1 << 14, 42
RANGES = {
    "num_candidates": (1, 1 << 16),
    "kl_per_variable": (1, (1 << 16) - 1),
    "block_kl": (1, (1 << 16) - 1),
    "block_size": (1, 1 << 16),
    "seed": (0, (1 << 32) - 1),
}
"""First and last of what a file can say; KL of a variable in its unit."""


class SampleSettings(NamedTuple):
    """All that a receiver must know of a `FileCoder`.

    noise, schedule: places in NOISES and SCHEDULES. is_zipf: small indices are likelier. num_candidates, seed: of the
    coder. kl_per_variable: in 1 / VARIABLE_KL_UNIT nat. block_kl: nats that a block is expected to hold. block_size:
    dimensions of a block at most. gray: the picture's channels are equal, and one is coded.
    """

    noise: int
    schedule: int
    is_zipf: bool
    num_candidates: int
    kl_per_variable: int
    block_kl: int
    block_size: int
    seed: int
    gray: bool = False

    def to_bytes(self) -> bytes:
        """Return the first bytes of a section."""
        numbers = (self.kl_per_variable, self.block_size, self.seed)
        is_usual = numbers == usual(self.num_candidates)
        kinds = self.noise | self.schedule << KIND_BITS | _ZIPF * self.is_zipf | _GRAY * self.gray | _LAST * is_usual
        rest = b"" if is_usual else _UNUSUAL.pack(self.kl_per_variable, self.block_size - 1, self.seed)
        return _FIXED.pack(kinds, self.num_candidates - 1, self.block_kl) + rest

    def index_code(self) -> IndexCode:
        """Return the code that indices are written in."""
        if self.is_zipf:
            return ZipfCode(num_candidates=self.num_candidates, kl_per_variable=self.kl_per_variable / VARIABLE_KL_UNIT)
        return UniformCode(num_candidates=self.num_candidates)

    def receiver(self) -> IndexCoder:
        """Return a coder that decodes as the sender's does; its sampler plays no part in that."""
        return IndexCoder(
            kl_per_variable=self.kl_per_variable / VARIABLE_KL_UNIT,
            num_candidates=self.num_candidates,
            schedule=SCHEDULES[self.schedule](),
            noise=NOISES[self.noise](seed=self.seed),
            sampler=BeamSearch(num_beams=1),
        )


def sample_settings(coder: IndexCoder, *, is_zipf: bool, block_kl: float, block_size: int) -> SampleSettings:
    """Return the settings of a coder. Raises ValueError for what no file can say."""
    noise, schedule = type(coder.noise), type(coder.schedule)
    if noise not in NOISES or schedule not in SCHEDULES:
        raise ValueError(f"files know no {noise.__name__} with {schedule.__name__}")
    if isinstance(coder.schedule, PowerLaw) and coder.schedule.exponent != POWER_LAW_EXPONENT:
        raise ValueError(f"files know no exponent but {POWER_LAW_EXPONENT}, got {coder.schedule.exponent}")
    found = SampleSettings(
        noise=NOISES.index(noise),
        schedule=SCHEDULES.index(schedule),
        is_zipf=is_zipf,
        num_candidates=coder.num_candidates,
        kl_per_variable=round(coder.kl_per_variable * VARIABLE_KL_UNIT),
        block_kl=round(block_kl),
        block_size=block_size,
        seed=coder.noise.seed,
    )
    for name, (least, most) in RANGES.items():
        if not least <= getattr(found, name) <= most:
            raise ValueError(f"{name} must lie in {least} ... {most} to be told by a file, got {getattr(found, name)}")
    return found


def split(payload: bytes) -> tuple[SampleSettings, bytes]:
    """Return settings, and the coded words behind them. Raises `DamagedFile`."""
    if len(payload) < _FIXED.size:
        raise damaged("a section of indices is cut off")
    kinds, candidates, block_kl = _FIXED.unpack_from(payload)
    words, mask = payload[_FIXED.size :], (1 << KIND_BITS) - 1
    noise, schedule, num_candidates = kinds & mask, kinds >> KIND_BITS & mask, candidates + 1
    kl_per_variable, block_size, seed = usual(num_candidates)
    if not kinds & _LAST:
        if len(words) < _UNUSUAL.size:
            raise damaged("a section of indices is cut off")
        kl_per_variable, less, seed = _UNUSUAL.unpack_from(words)
        block_size, words = less + 1, words[_UNUSUAL.size :]
    if noise >= len(NOISES) or schedule >= len(SCHEDULES) or kinds & _BACK or not kl_per_variable or not block_kl:
        raise damaged("a section of indices asks for what none has")
    is_zipf, gray = bool(kinds & _ZIPF), bool(kinds & _GRAY)
    numbers = (num_candidates, kl_per_variable, block_kl, block_size, seed)
    return SampleSettings(noise, schedule, is_zipf, *numbers, gray), words


def usual(num_candidates: int) -> tuple[int, int, int]:
    """Return KL of a variable, size of a block and seed that files need not say: each index is worth its bits."""
    nats = float(ln(torch.tensor(float(num_candidates), dtype=torch.float64)))
    return round(nats * VARIABLE_KL_UNIT), USUAL_SIZE, USUAL_SEED


class BitsBackSettings(NamedTuple):
    """Settings of a file of bits-back coding. bits: a latent has 2^bits cells. gray: as of `SampleSettings`.

    link: of a file that is one of a chain.
    """

    bits: int
    gray: bool
    link: Link | None = None

    def to_bytes(self) -> bytes:
        """Return the first bytes of a section."""
        kinds = _BACK | _GRAY * self.gray | _LAST * (self.link is not None)
        return bytes([kinds, self.bits]) + (self.link.to_bytes() if self.link else b"")


def is_back(payload: bytes) -> bool:
    """Return whether a section was made by bits-back coding."""
    return bool(payload) and bool(payload[0] & _BACK)


def split_back(payload: bytes) -> tuple[BitsBackSettings, bytes]:
    """Return settings, and the coded words behind them. Raises `DamagedFile`."""
    if len(payload) < 2 or payload[0] & ~(_BACK | _GRAY | _LAST) or not 1 <= payload[1] <= MOST_CELL_BITS:
        raise damaged("a bits-back section asks for what none has")
    link, words = Link.split(payload[2:]) if payload[0] & _LAST else (None, payload[2:])
    return BitsBackSettings(payload[1], bool(payload[0] & _GRAY), link), words
