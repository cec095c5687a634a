"""The faults that a user can mend, by class; each message is one line."""

from __future__ import annotations


class CodingError(Exception):
    """A file cannot be read, coded or decoded. The message is one line a user can act on."""


class DamagedFile(CodingError):
    """The bytes are not what their writer wrote."""


class WrongModel(CodingError):
    """The file was made by another model than the one at hand."""


def damaged(fault: str) -> DamagedFile:
    """The error to raise for `fault`, with its only remedy."""
    return DamagedFile(f"damaged: {fault}; get another copy of the file")


def expect_content(found: int, written: int) -> None:
    """Checksums of what was decoded, and of what its sender coded. Raises `DamagedFile` where they differ."""
    if found != written:
        raise damaged("it decodes to other values than were coded")
