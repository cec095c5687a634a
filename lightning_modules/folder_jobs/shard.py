"""One of several equal parts of a folder, by the names of its files alone."""

from __future__ import annotations

import hashlib
import os
import re
from typing import NamedTuple

from lightning_modules.errors import CodingError

TEXT = re.compile(r"([0-9]+)/([0-9]+)")


class Shard(NamedTuple):
    """Number `place`, from 0, of `total` parts.

    A file's part follows from a hash of its name: files that come or go move no other one, and every machine agrees
    without a look at the folder. Parts are equal on average only.
    """

    place: int
    total: int

    def holds(self, name: str) -> bool:
        """Return whether the file of that name, its path in the folder, is one of this part."""
        digest = hashlib.sha256(os.fsencode(name)).digest()
        return int.from_bytes(digest[:8], "big") % self.total == self.place


WHOLE = Shard(0, 1)


def shard(text: str | None) -> Shard:
    """`2/8` is the third of eight; None the whole. Raises `CodingError`."""
    if text is None:
        return WHOLE
    match = TEXT.fullmatch(str(text))
    if match is None or not int(match[1]) < int(match[2]):
        raise CodingError(f"shard={text}: no part of a folder; give K/N with K from 0 to N - 1, as in shard=0/8")
    return Shard(int(match[1]), int(match[2]))
