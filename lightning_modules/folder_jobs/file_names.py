"""The files at both ends of a folder job: the state of an input, the place of an output, and whether it is whole."""

from __future__ import annotations

import os
import zlib
from pathlib import Path, PurePosixPath

from lightning_modules.errors import CodingError

STATE_FOLDER = ".latentpress"
"""Inside an output folder: a job's own files, where no output goes."""

Item = tuple[str, Path]
"""(name: path relative to the input folder, with `/`; the file)."""

Source = list[int]
"""[bytes, modification time in ns] of an input, as JSON keeps it."""


def compressed_name(name: str) -> str:
    """`a/b.png` -> `a/b.png.lpc`: the whole name is kept, so that `b.png` and `b.jpg` stay apart."""
    return f"{name}.lpc"


def decoded_name(name: str) -> str:
    """`a/b.png.lpc` -> `a/b.png`, `c.jpg.lpc` -> `c.jpg.png`: decoded pictures are always PNG."""
    stem = name[:-4] if name.lower().endswith(".lpc") else name
    return stem if stem.lower().endswith(".png") else f"{stem}.png"


def same_name(name: str) -> str:
    """Name the output as its input: for a job whose outputs are of its inputs' kind."""
    return name


def source_of(path: Path) -> Source | None:
    """Return the size and time of an input; None when it cannot be looked at."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def has_changed(source: Source | None, path: Path) -> bool:
    """Return whether an input is another one than the one coded. One that is gone is still the one coded."""
    now = source_of(path)
    return source is not None and now is not None and source != now


def output_path(folder: Path, output_name: str) -> Path:
    """Return where an output goes; no `..`, absolute name or link leads out of `folder` (`CodingError`)."""
    parts = PurePosixPath(output_name).parts
    root = Path(os.path.realpath(folder))
    parent = Path(os.path.realpath(root.joinpath(*parts[:-1])))
    inside = root in (parent, *parent.parents) and root / STATE_FOLDER not in (parent, *parent.parents)
    if not parts or ".." in parts or "\0" in output_name or not inside:
        raise CodingError(
            f"{printable(output_name)}: would be written outside {folder}; rename the input or "
            "remove the link from the output folder"
        )
    return parent / parts[-1]


def has_size(folder: Path, output_name: str, size: int) -> bool:
    """Return whether that output is there, with this length."""
    try:
        return output_path(folder, output_name).stat().st_size == size
    except (OSError, CodingError):
        return False


def is_intact(folder: Path, output_name: str, size: int, crc32: int) -> bool:
    """Return whether that output is there, with this length and checksum."""
    try:
        return has_size(folder, output_name, size) and crc32_of(output_path(folder, output_name)) == crc32
    except (OSError, CodingError):
        return False


def crc32_of(path: Path, block: int = 1 << 20) -> int:
    """CRC-32 of a file's content, read in blocks."""
    crc = 0
    with path.open("rb") as file:
        while data := file.read(block):
            crc = zlib.crc32(data, crc)
    return crc


def printable(text: str) -> str:
    """`text` on one line."""
    return "".join(character if character.isprintable() else "?" for character in text)
