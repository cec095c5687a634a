"""A chain of pictures on one stack: which of its words lie in which file, and how they become one stack again.

The words that coding a picture leaves below all later pops are final; they, and only they, are in its file, so that the
files one after the other are the stack. The last one holds the state as well.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from lightning_modules.coding.ans import AnsStack
from lightning_modules.errors import CodingError, damaged

MOST_IN_A_CHAIN = 65535
_LINK = struct.Struct("<IHH")


class Link(NamedTuple):
    """A file's place in its chain. mark: names the chain. place: from 0 to length - 1, in coding order."""

    mark: int
    place: int
    length: int

    def to_bytes(self) -> bytes:
        return _LINK.pack(*self)

    @classmethod
    def split(cls, data: bytes) -> tuple[Link, bytes]:
        """Return a link, and what comes behind it. Raises `DamagedFile`."""
        if len(data) < _LINK.size:
            raise damaged("a picture's place in its chain is cut off")
        link = cls(*_LINK.unpack_from(data))
        if link.place >= link.length:
            raise damaged("a picture's place in its chain is behind the chain's end")
        return link, data[_LINK.size :]


class Share(NamedTuple):
    """Of one picture. words: in its file."""

    link: Link
    words: bytes


def shares(stack: AnsStack, lows: Sequence[int]) -> list[Share]:
    """Return each picture's share of a chain. lows: words below the state when least was on the stack for it."""
    data, count = stack.to_bytes(), len(lows)
    if count > MOST_IN_A_CHAIN:
        raise CodingError(f"a chain holds at most {MOST_IN_A_CHAIN} pictures; lower coder.batch_size")
    ends = [4 * min(lows[k + 1 :]) if k + 1 < count else len(data) for k in range(count)]
    starts = [4 * min(lows), *ends[:-1]]
    mark = zlib.crc32(data[starts[0] :])
    return [
        Share(Link(mark, k, count), data[start:end]) for k, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]


def joined(found: Sequence[Share]) -> AnsStack:
    """Return the whole stack of a chain. Raises `CodingError` when there is not one file for each place."""
    link = found[0].link
    by_place = {share.link.place: share.words for share in found}
    if len(by_place) != len(found) or any(share.link.length != link.length for share in found):
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
