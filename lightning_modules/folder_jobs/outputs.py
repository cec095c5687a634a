"""What the rows of a folder job's journal say was made, and whether it is all still there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from lightning_modules.errors import CodingError
from lightning_modules.folder_jobs.file_names import is_intact, output_path
from lightning_modules.folder_jobs.journal import Row


class Made(NamedTuple):
    """An output. output: its name below the output folder. size: in bytes."""

    output: str
    size: int
    crc32: int


def made_files(row: Row) -> list[Made]:
    """Return the output of one input that did not fail, and others that came with it."""
    first = Made(row["output"], row["size"], row["crc32"])
    return [first, *(Made(*one) for one in row.get("attached", []))]


def links_of(row: Row, latest: Mapping[str, Row]) -> list[Row]:
    """Return the known rows of all inputs whose results are of use only together; else the row itself."""
    if "chain" not in row:
        return [row]
    return [other for other in latest.values() if other.get("chain") == row["chain"]]


def is_whole(folder: Path, row: Row, latest: Mapping[str, Row]) -> bool:
    """Return whether its output is intact, and that of every other file of its chain, without which it is of no use.

    The pictures of a pack are such a chain in one file. latest: rows by name.
    """
    links = links_of(row, latest)
    if "chain" in row and len(links) != row["chain"][1]:
        return False
    return all(link["status"] != "failed" for link in links) and all_intact(folder, links)


def all_intact(folder: Path, rows: Sequence[Row]) -> bool:
    """Return whether all that was made is there with its checksum; a file of several rows is read once."""
    return all(is_intact(folder, *made) for made in {made for row in rows for made in made_files(row)})


def remove_earlier(folder: Path, rows: Sequence[Row | None], output_name: str) -> None:
    """Remove the first outputs of these rows, if they have another name than `output_name` and are as they were made.

    Raises `OSError`.
    """
    earlier = {made_files(row)[0] for row in rows if row is not None and "output" in row}
    for made in earlier:
        if made.output != output_name and is_intact(folder, *made):
            with suppress(FileNotFoundError, CodingError):
                output_path(folder, made.output).unlink()
