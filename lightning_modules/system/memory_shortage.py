"""Running out of memory, on any device, as one line for the user."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from lightning_modules.errors import CodingError

WORDS = re.compile("out of memory|allocate memory|not enough memory")
"""What torch says, whatever the device: it has no class of its own for a CPU's memory."""


@contextmanager
def as_coding_error(line: str) -> Iterator[None]:
    """`CodingError(line)` instead of what numpy and torch raise when memory runs out; other errors pass."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not WORDS.search(str(error)):
            raise
        raise CodingError(line) from error
