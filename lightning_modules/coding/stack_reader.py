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
    """The stack of a file of one section. After its first fault it gives zeros, so that the others go on."""

    def __init__(self, sections: Sequence[Section]) -> None:
        self._fault: CodingError | None = None
        try:
            if len(sections) != 1:
                raise damaged(f"a file of this codec has 1 section, this one {len(sections)}")
            self._content_crc = sections[0].content_crc
            self._stack = AnsStack.from_bytes(sections[0].payload)
        except CodingError as error:
            self._fault = error

    def pop(self, indices: NDArray[np.integer], tables: CodingTables) -> NDArray[np.int32]:
        """As `AnsStack.pop`."""
        if self._fault is None:
            try:
                return self._stack.pop(indices, tables)
            except CodingError as error:
                self._fault = error
        return np.zeros(len(indices), dtype=np.int32)

    def fault_unless(self, content_crc: int) -> CodingError | None:
        """What was wrong; None if all went well, the stack is empty now, and the content is what was coded."""
        if self._fault is None:
            try:
                self._stack.expect_empty()
            except CodingError as error:
                self._fault = error
        if self._fault is None and content_crc != self._content_crc:
            self._fault = DamagedFile(
                "its latents decode to other values than were coded: it was altered, or this machine computes other "
                "coding parameters than the one that wrote it (python run.py task=doctor tells)"
            )
        return self._fault
