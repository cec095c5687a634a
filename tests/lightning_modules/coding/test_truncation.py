"""A shorter file is the beginning of a longer one; what cannot be had is refused in a line."""

from __future__ import annotations

import pytest

from lightning_modules.coding.container import Bitstream, read, section_ends
from lightning_modules.coding.truncation import limit, truncated
from lightning_modules.errors import CodingError, DamagedFile
from lightning_modules.records import Section

LEVELS = tuple(Section(bytes([level]) * 100 * level, level) for level in (1, 2, 3))
FILE = Bitstream(200, bytes(8), (40, 50), False, Section(b"opacity", 1), None, LEVELS, progressive=True).to_bytes()
ENDS = section_ends(FILE)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_level_keeps_that_many_sections_and_all_side_data(level: int) -> None:
    data, size = truncated(FILE, limit(level=level))
    assert data == FILE[: ENDS[level - 1]]
    assert read(data).sections == LEVELS[:level]
    assert read(data).alpha == Section(b"opacity", 1)
    assert size == (40, 50)


@pytest.mark.parametrize(("largest", "level"), [(ENDS[0], 1), (ENDS[1] - 1, 1), (ENDS[1], 2), (10**9, 3)])
def test_a_size_keeps_what_fits_it(largest: int, level: int) -> None:
    assert truncated(FILE, limit(bytes=largest))[0] == FILE[: ENDS[level - 1]]
    assert truncated(FILE, limit(bpp=8 * largest / (40 * 50)))[0] == FILE[: ENDS[level - 1]]


def test_cutting_twice_is_cutting_once() -> None:
    shorter, _ = truncated(FILE, limit(level=2))
    assert truncated(shorter, limit(level=1)) == truncated(FILE, limit(level=1))
    assert truncated(shorter, limit(bytes=10**9))[0] == shorter


def test_a_file_that_ends_within_a_section_is_good_up_to_the_one_before() -> None:
    broken = FILE[: ENDS[2] - 1]
    assert truncated(broken, limit(level=2))[0] == FILE[: ENDS[1]]
    with pytest.raises(CodingError, match=r"has levels 1 to 2, not level=3"):
        truncated(broken, limit(level=3))


def test_what_is_kept_is_checked() -> None:
    damaged = bytearray(FILE)
    damaged[ENDS[1] - 20] ^= 1
    assert truncated(bytes(damaged), limit(level=1))[0] == FILE[: ENDS[0]]
    with pytest.raises(DamagedFile, match="task=truncate level=1"):
        truncated(bytes(damaged), limit(level=2))


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"level": 4}, "has levels 1 to 3, not level=4"),
        ({"bytes": ENDS[0] - 1}, f"takes {ENDS[0]} bytes at its lowest level, more than bytes={ENDS[0] - 1} allows"),
        ({"bpp": 0.01}, "more than bpp=0.01 allows"),
    ],
)
def test_what_a_file_cannot_be_cut_to_is_refused(values: dict[str, float], line: str) -> None:
    with pytest.raises(CodingError, match=line):
        truncated(FILE, limit(**values))


@pytest.mark.parametrize("values", [{}, {"level": None}, {"level": 1, "bpp": 0.5}])
def test_exactly_one_limit_is_given(values: dict[str, float | None]) -> None:
    with pytest.raises(CodingError, match=r"needs one of level=, bpp=, bytes="):
        limit(**values)


def test_levels_count_from_one() -> None:
    with pytest.raises(CodingError, match="count from 1"):
        limit(level=0)


def test_other_files_are_not_cut() -> None:
    other = Bitstream(1, bytes(8), (40, 50), False, None, None, LEVELS).to_bytes()
    with pytest.raises(CodingError, match="cannot be cut"):
        truncated(other, limit(level=1))
