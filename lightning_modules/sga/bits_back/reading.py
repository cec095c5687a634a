"""The reading of sections to integers: single pictures, those that carry a payload, and chains, last picture first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lightning_modules.coding import bits_back
from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.bits_back_chain import Share, joined
from lightning_modules.errors import CodingError, DamagedFile, damaged
from lightning_modules.records import CARRIED, ImageSize, Integers, Section
from lightning_modules.sga.bits_back.coding_state import BitsBackState
from lightning_modules.sga.bits_back.picture_order import crc_of, read
from lightning_modules.sga.bits_back.section_header import Mode, SectionHeader, split


class File:
    """One picture's section in its parts. Raises `DamagedFile` for a section that has none."""

    def __init__(self, sections: Sequence[Section], size: ImageSize) -> None:
        if len(sections) != 1:
            raise damaged(f"a file of this codec has 1 section, this one {len(sections)}")
        self.size = size
        self.content_crc = sections[0].content_crc
        self.settings: SectionHeader
        self.settings, self.words = split(sections[0].payload)


class Reader:
    """A reader of the files of one model. channels: its N and M."""

    def __init__(self, derived: BitsBackState, channels: tuple[int, int]) -> None:
        self.derived, self.channels = derived, channels

    def read_each(self, files: Sequence[tuple[Sequence[Section], ImageSize]]) -> list[Integers | CodingError]:
        """Read each file's integers, or what is wrong with it. The files of a chain are needed all at once."""
        found: dict[int, Integers | CodingError] = {}
        chains: dict[int, dict[int, File]] = {}
        for number, (sections, size) in enumerate(files):
            try:
                file = File(sections, size)
                if file.settings.mode is Mode.CHAINED:
                    chains.setdefault(file.settings.link.mark, {})[number] = file
                else:
                    found[number] = self._alone(file)
            except CodingError as error:
                found[number] = error
        for members in chains.values():
            found |= self._chain(members)
        return [found[number] for number in range(len(files))]

    def _alone(self, file: File) -> Integers:
        stack = AnsStack.from_bytes(file.words)
        integers = self._take(stack, file)
        if file.settings.mode is Mode.SINGLE:
            bits_back.expect_seeded(stack)
            return integers
        data, length = bits_back.bytes_of(stack), file.settings.payload_bytes
        if not len(data) - 4 < length <= len(data) or any(data[length:]):
            raise damaged("its payload has another length than it should")
        return {**integers, CARRIED: np.frombuffer(data[:length], dtype=np.uint8)}

    def _chain(self, members: dict[int, File]) -> dict[int, Integers | CodingError]:
        """Read each member's integers by its number; a fault anywhere is a fault of all."""
        try:
            stack = joined([Share(file.settings.link, file.words) for file in members.values()])
            found: dict[int, Integers | CodingError] = {}
            for number, file in sorted(members.items(), key=lambda item: -item[1].settings.link.place):
                found[number] = self._take(stack, file)
            bits_back.expect_seeded(stack)
            return found
        except CodingError as error:
            return dict.fromkeys(members, error)

    def _take(self, stack: AnsStack, file: File) -> Integers:
        integers = read(stack, self.derived, file.settings, self.channels, file.size)
        if crc_of(integers) != file.content_crc:
            raise DamagedFile(
                "its latents decode to other values than were coded: it was altered, or this machine computes other "
                "coding parameters than the one that wrote it (python run.py task=doctor tells)"
            )
        return integers
