"""The faults that a user can mend, by class; each message is one line that says how."""

from __future__ import annotations

import signal


class UserError(Exception):
    """Refuse what cannot be done as it was asked for."""


class CodingError(UserError):
    """Refuse a file that cannot be read, coded or decoded."""


class DamagedFile(CodingError):
    """Refuse bytes that are not what their writer wrote."""


class WrongModel(CodingError):
    """Refuse a file that was made by another model than the one at hand."""


class JobFailed(UserError):
    """Tell that a job of a sweep has not ended well."""


class Stopped(BaseException):
    """End a folder job early because a signal asked for it; this ends a sweep as well."""

    def __init__(self, line: str, received: signal.Signals) -> None:
        super().__init__(line)
        self.exit_code = 128 + received


def damaged(fault: str) -> DamagedFile:
    """Return the error to raise for `fault`, with its only remedy."""
    return DamagedFile(f"damaged: {fault}; get another copy of the file")


def expect_content(found: int, written: int) -> None:
    """Compare checksums of what was decoded and of what its sender coded. Raises `DamagedFile` where they differ."""
    if found != written:
        raise damaged("it decodes to other values than were coded")
