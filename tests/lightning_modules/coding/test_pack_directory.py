"""The list of a pack's pictures: what is written is read, in few bytes; anything else is refused."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_modules.coding.container import varint
from lightning_modules.coding.pack_directory import Entry, read_directory, write_directory
from lightning_modules.errors import CodingError, DamagedFile
from lightning_modules.records import Section

NAMES = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), min_size=1, max_size=20)
ENTRIES = st.builds(
    Entry,
    name=NAMES,
    size=st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
    gray=st.booleans(),
    alpha=st.integers(0, 3),
    profile=st.integers(0, 3),
)


def directory(plain: bytes) -> Section:
    return Section(zlib.compress(plain), zlib.crc32(plain))


@settings(deadline=None)
@given(st.lists(ENTRIES, min_size=1, max_size=8, unique_by=lambda entry: entry.name))
def test_what_is_written_is_read(entries: list[Entry]) -> None:
    assert read_directory(write_directory(entries), 3) == entries


def test_names_that_are_no_text_come_back_as_they_were() -> None:
    entries = [Entry(b"caf\xe9.png".decode("utf-8", "surrogateescape"), (1, 1), False)]
    assert read_directory(write_directory(entries), 0) == entries


def test_a_thousand_numbered_pictures_of_one_size_take_under_three_bytes_each() -> None:
    entries = [Entry(f"{k:05d}.png", (32, 32), False) for k in range(1000)]
    assert len(write_directory(entries).payload) < 3000


@pytest.mark.parametrize(
    ("plain", "fault"),
    [
        (b"\x00", "lists 0 pictures"),
        (varint(70000), "lists 70000 pictures"),
        (b"\x01\x02\x03\x00\x00\x00", "not one name for each"),
        (b"\x01\x02\x03\x00\x00\x00a\0b", "not one name for each"),
        (b"\x01\x02\x03\x00\x00\x00\0", "not one name for each"),
        (b"\x02" + b"\x02\x02\x03\x03" + bytes(6) + b"a\0a\0", "not one name for each"),
        (b"\x01\x00\x03\x00\x00\x00a\0", "sides out of range"),
        (b"\x01" + 2 * varint(65535) + b"\x00\x00\x00a\0", "pictures of 4294836225 pixels"),
        (b"\x01\x02\x03\x02\x00\x00a\0", "side data that are not there"),
        (b"\x01\x02\x03\x00\x03\x00a\0", "side data that are not there"),
        (b"\x01\x02\x03\x00\x00\x03a\0", "side data that are not there"),
        (b"\x01\x02", "the file is cut off"),
    ],
)
def test_lists_that_nobody_writes_are_refused(plain: bytes, fault: str) -> None:
    with pytest.raises(DamagedFile, match=fault):
        read_directory(directory(plain), 2)


def test_the_same_list_without_its_fault_is_read() -> None:
    assert read_directory(directory(b"\x01\x02\x03\x01\x02\x00a\0"), 2) == [Entry("a", (2, 3), True, 2, 0)]


def test_a_directory_with_another_checksum_is_refused() -> None:
    section = write_directory([Entry("a", (1, 1), False)])
    with pytest.raises(DamagedFile, match="disagrees with its checksum"):
        read_directory(section._replace(content_crc=section.content_crc ^ 1), 0)


def test_a_directory_that_inflates_without_end_is_refused() -> None:
    with pytest.raises(DamagedFile, match="inflates to more than"):
        read_directory(directory(bytes((1 << 24) + 1)), 0)


def test_more_than_a_pack_holds_is_refused_with_a_remedy() -> None:
    with pytest.raises(CodingError, match=r"not 3 and 402653184; lower coder\.pack"):
        write_directory([Entry(name, (8192, 16384), False) for name in "abc"])
