"""Sections to integers: single pictures, those that carry a payload, and chains, last picture first."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from lightning_modules.codec import CARRIED, CodingError, DamagedFile, ImageSize, Integers, Section
from lightning_modules.coding import bits_back
from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.damage import damaged
from lightning_modules.sga.bits_back.derived_state import Derived
from lightning_modules.sga.bits_back.picture_order import crc_of, read
from lightning_modules.sga.bits_back.settings import Mode, Settings, split


class File:
    """One picture's section, taken apart. Raises `DamagedFile`."""

    def __init__(self, sections: Sequence[Section], size: ImageSize) -> None:
        if len(sections) != 1:
            raise damaged(f"a file of this codec has 1 section, this one {len(sections)}")
        self.size = size
        self.content_crc = sections[0].content_crc
        self.settings: Settings
        self.settings, self.words = split(sections[0].payload)


class Reader:
    """Reads the files of one model. channels: its N and M."""

    def __init__(self, derived: Derived, channels: tuple[int, int]) -> None:
        self.derived, self.channels = derived, channels

    def read_each(self, files: Sequence[tuple[Sequence[Section], ImageSize]]) -> list[Integers | CodingError]:
        """Each file's integers, or what is wrong with it. The files of a chain are needed all at once."""
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
        """The members by number -> each one's integers; a fault anywhere is a fault of all."""
        try:
            stack = _joined(list(members.values()))
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


def _joined(files: Sequence[File]) -> AnsStack:
    """The whole stack of a chain."""
    link = files[0].settings.link
    by_place = {file.settings.link.place: file.words for file in files}
    if len(by_place) != len(files) or any(file.settings.link.length != link.length for file in files):
        raise CodingError(f"chain {link.mark:08x} has two files for one place; decode copies of it one by one")
    if missing := [str(k + 1) for k in range(link.length) if k not in by_place]:
        raise CodingError(
            f"chain {link.mark:08x} is one stream in {link.length} files, which decode together; missing here: number "
            f"{', '.join(missing[:5])}{' and more' if len(missing) > 5 else ''}; give the whole folder to one process"
        )
    data = b"".join(words for _, words in sorted(by_place.items()))
    if zlib.crc32(data) != link.mark:
        raise damaged(f"the files of chain {link.mark:08x} do not belong together")
    return AnsStack.from_bytes(data)
