"""The sections of a SIC file: the first has seed, z and group 1, every other one group. docs/format.md, section 4.2."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.container import content_crc
from lightning_modules.coding.serial_stack import SerialStack
from lightning_modules.derived_value import CodingState
from lightning_modules.errors import DamagedFile, damaged
from lightning_modules.records import Section
from lightning_modules.sic.coding_parameters import CodingParameters
from lightning_modules.sic.group_coding import GroupSymbols, pop_group
from lightning_modules.sic.hyper_networks import STRIDE

SEED = struct.Struct("<I")


class Read(NamedTuple):
    """The values of a file's sections, integers of 32 bits.

    z: (N, h, w). y: (k g, 4 h, 4 w), the first groups. hyper: follows from z, by `CodingParameters.hyper`.
    """

    seed: int
    z: np.ndarray
    y: np.ndarray
    hyper: torch.Tensor


def write_sections(
    derived: CodingState[CodingParameters], seed: int, z: np.ndarray, y: np.ndarray, groups: Sequence[GroupSymbols]
) -> list[Section]:
    """Write one section for each group. z: (N, h, w). y: (k g, 4 h, 4 w), the groups that are coded."""
    width = derived.parameters.width
    sections = []
    for number, group in enumerate(groups):
        own = y[number * width : (number + 1) * width]
        serial = SerialStack()
        group.push_to(serial, derived.y_tables)
        stack = serial.to_stack()
        if number:
            sections.append(Section(stack.to_bytes(), content_crc(own)))
        else:
            stack.push(z.ravel(), _channels(z.shape), derived.z_tables)
            sections.append(Section(SEED.pack(seed) + stack.to_bytes(), _first_crc(seed, z, own)))
    return sections


class SicReader:
    """A reader of one file's sections. z_shape: (N, h, w)."""

    def __init__(
        self, derived: CodingState[CodingParameters], sections: Sequence[Section], z_shape: tuple[int, int, int]
    ) -> None:
        self.derived, self.sections, self.z_shape = derived, sections, z_shape

    def read(self) -> Read:
        """Read all sections. Raises `DamagedFile`, which names the level, when one does not hold what it has to."""
        parameters = self.derived.parameters
        if not 1 <= len(self.sections) <= len(parameters.groups):
            raise damaged(f"its model has {len(parameters.groups)} levels, the file {len(self.sections)}")
        seed, z, stack = self._seed_and_z()
        hyper = parameters.hyper(torch.from_numpy(z)[None])
        y = torch.zeros(1, 0, STRIDE * self.z_shape[1], STRIDE * self.z_shape[2], dtype=torch.float64)
        for number, section in enumerate(self.sections):
            serial = SerialStack(AnsStack.from_bytes(section.payload) if number else stack)
            own = pop_group(serial, parameters, self.derived.y_tables, hyper, y)
            serial.to_stack().expect_empty()
            integers = own[0].to(torch.int32).numpy()
            if section.content_crc != (content_crc(integers) if number else _first_crc(seed, z, integers)):
                raise DamagedFile(
                    f"level {number + 1} decodes to other values than were coded: the file was altered, or this "
                    "machine computes other coding parameters than the one that wrote it "
                    "(python run.py task=doctor tells)"
                )
            y = torch.cat([y, own], dim=1)
        return Read(seed, z, y[0].to(torch.int32).numpy(), hyper)

    def _seed_and_z(self) -> tuple[int, np.ndarray, AnsStack]:
        """Read seed and z; return them with the stack that is left."""
        payload = self.sections[0].payload
        if len(payload) < SEED.size:
            raise damaged("its first section is shorter than a seed")
        (seed,) = SEED.unpack_from(payload)
        stack = AnsStack.from_bytes(payload[SEED.size :])
        stack.expect_bits(self.derived.least_bits_of_z(self.z_shape))
        return seed, stack.pop(_channels(self.z_shape), self.derived.z_tables).reshape(self.z_shape), stack


def _channels(shape: Sequence[int]) -> np.ndarray:
    """Return the table of each element of z, of this shape: its channel."""
    return np.repeat(np.arange(shape[0]), shape[1] * shape[2])


def _first_crc(seed: int, z: np.ndarray, y: np.ndarray) -> int:
    """Return the CRC of the seed as a signed number of 32 bits, z, and group 1."""
    return content_crc(np.array([seed], dtype="<u4").view("<i4"), z, y)
