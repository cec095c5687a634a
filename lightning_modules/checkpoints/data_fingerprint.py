"""Which files a data set consisted of, in a few words: how many, how many bytes, and a hash of names and sizes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

FOLDERS_OF_OUR_OWN = ("cache_dir", "input", "output")
"""Settings of a data module that name folders without data of its own."""


class DataFingerprint(NamedTuple):
    """root: as configured. sha256: in hex, of a line `NAME SIZE` for each file, sorted; names from the root on."""

    root: str
    files: int
    bytes: int
    sha256: str


def fingerprint(root: Path, name: str) -> DataFingerprint:
    """Name a folder with everything below it but hidden files, or one file. Reads no contents."""
    sizes = dict(sorted(_sizes(root)))
    lines = "".join(f"{file} {size}\n" for file, size in sizes.items())
    digest = hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
    return DataFingerprint(name, len(sizes), sum(sizes.values()), digest)


def fingerprints(settings: Mapping[str, Any], working_folder: Path) -> dict[str, list[DataFingerprint]]:
    """Name, by use (`train`, `val`, `test` ...), what a data module's settings name and what is still there.

    working_folder: which relative paths are meant from.
    """
    found: dict[str, list[DataFingerprint]] = {}
    for use, value in settings.items():
        if use in FOLDERS_OF_OUR_OWN:
            continue
        for root in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(root, str) and root and (working_folder / root).exists():
                found.setdefault(use, []).append(fingerprint(working_folder / root, root))
    return found


def _sizes(root: Path) -> Iterator[tuple[str, int]]:
    if root.is_file():
        yield root.name, root.stat().st_size
    for parent, folders, names in os.walk(root):
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        for name in names:
            path = Path(parent, name)
            if not name.startswith(".") and path.is_file():
                yield path.relative_to(root).as_posix(), path.stat().st_size
