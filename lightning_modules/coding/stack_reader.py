"""Reading one file of several that are decoded together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lightning_modules.codec import CodingError, DamagedFile, Section
from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.damage import damaged
from lightning_modules.coding.tables import CodingTables


class StackReader:
    """The stack of a file of one section, which must hold `least_bits` at least (see `AnsStack.expect_bits`).

    fault: what is wrong with the file, if anything so far; it is kept here, so that the others can go on.
    """

    def __init__(self, sections: Sequence[Section], least_bits: float) -> None:
        self.fault: CodingError | None = None
        try:
            if len(sections) != 1:
                raise damaged(f"a file of this codec has 1 section, this one {len(sections)}")
            self._content_crc = sections[0].content_crc
            self._stack = AnsStack.from_bytes(sections[0].payload)
            self._stack.expect_bits(least_bits)
        except CodingError as error:
            self.fault = error

    def pop(self, indices: NDArray[np.integer], tables: CodingTables) -> NDArray[np.int32]:
        """As `AnsStack.pop`; zeros when that fails."""
        try:
            return self._stack.pop(indices, tables)
        except CodingError as error:
            self.fault = error
            return np.zeros(len(indices), dtype=np.int32)

    def expect_content(self, content_crc: int) -> None:
        """The stack is empty now, and what came out of it is what was coded."""
        try:
            self._stack.expect_empty()
            if content_crc != self._content_crc:
                raise DamagedFile(
                    "its latents decode to other values than were coded: it was altered, or this machine computes "
                    "other coding parameters than the one that wrote it (python run.py task=doctor tells)"
                )
        except CodingError as error:
            self.fault = error
