"""The one line that a reader says of bytes that are not as written."""

from __future__ import annotations

from lightning_modules.codec import DamagedFile


def damaged(fault: str) -> DamagedFile:
    """The error to raise for `fault`, with its only remedy."""
    return DamagedFile(f"damaged: {fault}; get another copy of the file")


def expect_content(found: int, written: int) -> None:
    """Checksums of what was decoded, and of what its sender coded. Raises `DamagedFile` where they differ."""
    if found != written:
        raise damaged("it decodes to other values than were coded")
