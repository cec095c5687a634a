"""Which files of a folder are inputs, in which order, and under which names."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from datamodules.image_file import describe_os_error, is_image_name, printable
from lightning_modules.errors import CodingError

NamedFile = tuple[str, Path]
"""(path relative to the listed folder, with `/`; the file)."""

_TOKEN = re.compile(r"[.]|[0-9]+|[^.0-9]+")

GIVE_INPUT = "give a folder or a file with input="


def list_images(root: str | Path, remedy: str = GIVE_INPUT) -> list[Path]:
    """List files with a picture's suffix under `root`, recursively, in natural order; or `root`, if it is a file.

    Raises:
        CodingError: nothing there, or no picture in it; the line ends with `remedy`.
    """
    return _list(Path(root), is_image_name, "no image (looked for .png .jpg .webp .tif ...)", remedy)


def list_bitstreams(root: str | Path, remedy: str = GIVE_INPUT) -> list[Path]:
    """List, as `list_images` does, `.lpc` files."""
    return _list(Path(root), lambda path: path.suffix.lower() == ".lpc", "no .lpc file", remedy)


def named_files(root: str | Path, paths: Iterable[Path]) -> list[NamedFile]:
    """Paths under the folder `root`, or `root` itself, with the names that outputs are derived from."""
    root = Path(root)
    return [(path.name if path == root else path.relative_to(root).as_posix(), path) for path in paths]


def natural_order(name: str) -> tuple[object, ...]:
    """Sort key of a relative path: folder by folder, runs of digits by their value (`a`, `a2`, `a10`)."""
    parts = tuple(tuple(map(_rank, _TOKEN.findall(part))) for part in name.split("/"))
    return (parts, name)  # the name itself tells `a01` from `a1`


def _rank(token: str) -> tuple[int, int, str]:
    """Dots before numbers before text, so that `a.png` comes before `a2.png`."""
    if token == ".":
        return (0, 0, "")
    return (1, int(token), "") if token[0] in "0123456789" else (2, 0, token)


def _list(root: Path, wanted: Callable[[Path], bool], absent: str, remedy: str) -> list[Path]:
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise CodingError(f"{printable(str(root))}: no such file or folder; {remedy}")
    paths = _walk(root, wanted)
    if not paths:
        raise CodingError(f"{printable(str(root))}: holds {absent}; {remedy}")
    return sorted(paths, key=lambda path: natural_order(path.relative_to(root).as_posix()))


def _walk(root: Path, wanted: Callable[[Path], bool]) -> list[Path]:
    """Hidden files and folders are not inputs, and links to folders are not followed: they may form circles.

    A subfolder that cannot be listed is itself an input: reading it fails, so the report shows the gap.
    """
    paths: list[Path] = []

    def remember(error: OSError) -> None:
        if Path(error.filename) == root:
            raise CodingError(f"{printable(str(root))}: {describe_os_error(error)}") from None
        paths.append(Path(error.filename))

    for folder, subfolders, names in os.walk(root, onerror=remember):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        paths += [Path(folder, n) for n in names if not n.startswith(".") and wanted(Path(n))]
    return paths
