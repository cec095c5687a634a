"""Files that are whole or not there: written beside their final name, flushed to the disk, then renamed."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import time
from pathlib import Path

from lightning_modules.system.worker import Worker, is_alive, this_worker

PREFIX = ".latentpress."
"""Temporary files are `.latentpress.<worker>.<count>`: hidden, so never an input, and naming their writer."""

FOREIGN_AGE = 24 * 3600.0
"""Seconds after which a temporary file of another machine counts as left behind."""

_FAULTS = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
    errno.EFBIG: "the file is larger than the system allows; raise the limit (ulimit -f) and run again",
    errno.EACCES: "permission denied; make the folder writable or give another output=",
    errno.EPERM: "permission denied; make the folder writable or give another output=",
    errno.EROFS: "the file system is read-only; give another output=",
    errno.ENAMETOOLONG: "the name is too long for the file system; rename the input",
    errno.EISDIR: "a folder of this name is in the way; move it away or give another output=",
    errno.ENOTDIR: "a file is in the way of a folder; move it away or give another output=",
    errno.EEXIST: "a file is in the way of a folder; move it away or give another output=",
}

_count = itertools.count()


def describe_fault(error: OSError) -> str:
    """Fault and remedy, on one line, of a file that cannot be written."""
    reason = error.strerror or str(error)
    return _FAULTS.get(error.errno or 0, f"{reason.lower()}; check the disk and run the same command again")


def write_atomically(path: Path, data: bytes) -> None:
    """`path` holds all of `data`, also after a power cut, or what it held before (and `OSError` is raised)."""
    write_whole(path, data)
    flush_folder(path.parent)


def write_whole(path: Path, data: bytes) -> None:
    """Write as `write_atomically`, but until its folder is flushed a power cut may take `path` back to what it held.

    For many files, whose folder is then flushed once: waiting for the disk is what takes long. A link at `path`
    is replaced, not followed.
    """
    temporary = path.parent / f"{PREFIX}{this_worker().label}.{next(_count)}"
    try:
        _write_through(temporary, data)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def remove_stale(folder: Path) -> int:
    """Delete what killed writers left anywhere below `folder`; the number of files deleted."""
    removed = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            temporary = Path(parent, name)
            if name.startswith(PREFIX) and _is_stale(temporary):
                temporary.unlink(missing_ok=True)
                removed += 1
    return removed


def _write_through(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """Makes the renaming itself survive a power cut, where the file system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    with contextlib.suppress(OSError):  # some network file systems refuse; the file itself is already safe
        os.fsync(descriptor)
    os.close(descriptor)


def _is_stale(temporary: Path) -> bool:
    label = temporary.name.removeprefix(PREFIX).rpartition(".")[0]
    try:
        alive = is_alive(Worker.from_label(label))
        age = time.time() - temporary.stat().st_mtime
    except (ValueError, OSError):
        return False
    return age > FOREIGN_AGE if alive is None else not alive
