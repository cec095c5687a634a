"""The `.lpc` container: what is written is read, small, and nothing else is accepted."""

from __future__ import annotations

import hashlib
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_modules.coding.container import (
    Bitstream,
    content_crc,
    fingerprint,
    read,
    require_model,
    section_ends,
)
from lightning_modules.errors import CodingError, DamagedFile, WrongModel
from lightning_modules.records import Section
from tests.lightning_modules.coding.mutations import BLIND

MODEL = bytes(range(8))

sections = st.builds(Section, st.binary(max_size=300), st.integers(0, 2**32 - 1))
sizes = st.tuples(st.integers(1, 65535), st.integers(1, 65535)).filter(lambda s: s[0] * s[1] <= 1 << 28)
bitstreams = st.builds(
    Bitstream,
    codec_id=st.integers(0, 255),
    fingerprint=st.binary(min_size=8, max_size=8),
    image_size=sizes,
    gray=st.booleans(),
    alpha=st.none() | sections,
    icc=st.none() | sections,
    sections=st.lists(sections, min_size=1, max_size=5).map(tuple),
    is_pack=st.just(False),
)


def _bitstream(*payloads: bytes, alpha: bytes | None = None, icc: bytes | None = None) -> Bitstream:
    alpha_section = None if alpha is None else Section(alpha, zlib.crc32(alpha))
    icc_section = None if icc is None else Section(icc, zlib.crc32(icc))
    own = tuple(Section(payload, zlib.crc32(payload) ^ 1) for payload in payloads)
    return Bitstream(1, MODEL, (512, 768), False, alpha_section, icc_section, own)


def _file(header: bytes, body: bytes = b"") -> bytes:
    """A file of this header, with its right CRC."""
    return header + struct.pack("<I", zlib.crc32(header)) + body


PREFIX = b"LPC\r\n\x1a\x01\x01" + MODEL
SMALL = _bitstream(b"latents", alpha=b"opacity", icc=b"profile").to_bytes()


@settings(deadline=None)
@given(bitstreams)
def test_what_is_written_is_read(bitstream: Bitstream) -> None:
    assert read(bitstream.to_bytes()) == bitstream


@settings(deadline=None)
@given(bitstreams, st.integers(1, 5))
def test_a_progressive_file_gives_as_many_sections_as_are_wanted(bitstream: Bitstream, leading: int) -> None:
    progressive = bitstream._replace(progressive=True)
    assert read(progressive.to_bytes()) == progressive
    first = progressive._replace(sections=progressive.sections[:leading])
    assert read(progressive.to_bytes(), leading=leading) == first
    other = bitstream._replace(progressive=False)
    assert read(other.to_bytes(), leading=leading) == other, "read whole"


@settings(deadline=None)
@given(bitstreams, sections)
def test_a_pack_is_written_and_read_as_such(bitstream: Bitstream, further: Section) -> None:
    own = bitstream.sections
    pack = Bitstream(7, MODEL, bitstream.image_size, False, None, None, (further, *own), is_pack=True)
    assert read(pack.to_bytes()) == pack


def test_a_pack_has_a_directory_and_pictures_and_none_of_a_picture_s_flags() -> None:
    with pytest.raises(ValueError, match="a section"):
        _bitstream(b"x")._replace(is_pack=True).to_bytes()
    data = bytearray(_bitstream(b"x", b"y")._replace(is_pack=True).to_bytes())
    assert read(bytes(data)).is_pack
    flags = data.index(16, 16)
    for other in (17, 18, 20, 24):
        data[flags] = other
        with pytest.raises(DamagedFile, match="flags and section count"):
            read(bytes(data))


def test_everything_but_the_payload_of_a_hyperprior_file_takes_at_most_40_bytes() -> None:
    assert len(_bitstream(b"x" * 25_000).to_bytes()) - 25_000 == 37
    largest = _bitstream(b"x" * (1 << 21))._replace(image_size=(65535, 4096))
    assert len(largest.to_bytes()) - (1 << 21) <= 40


@pytest.mark.parametrize("data", [b"", b"L", b"\x89PNG\r\n\x1a\n", b"lpc\r\n\x1a\x01", b"\0" * 100])
def test_other_files_are_not_lpc_files(data: bytes) -> None:
    with pytest.raises(CodingError, match=r"^not an lpc file"):
        read(data)


def test_a_copy_in_text_mode_is_named() -> None:
    with pytest.raises(DamagedFile, match="text mode"):
        read(SMALL.replace(b"\r\n", b"\n"))


def test_a_newer_version_is_refused_before_anything_else_is_looked_at() -> None:
    with pytest.raises(CodingError, match=r"^made by a newer version .*version 2, .*up to 1; upgrade$") as caught:
        read(b"LPC\r\n\x1a\x02")
    assert not isinstance(caught.value, DamagedFile)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"LPC\r\n\x1a\x00" + SMALL[7:], "version 0"),
        (_file(PREFIX + b"\x00\x05\x00\x01\x00"), "without pixels"),
        (_file(PREFIX + b"\x85\x00\x05\x00\x01\x00"), "number in the header"),
        (_file(PREFIX + b"\x80\x80\x80\x80\x80\x01\x05\x00\x01\x00"), "number in the header"),
        (_file(PREFIX + b"\x05\x05\x10\x01\x00"), "flags"),
        (_file(PREFIX + b"\x05\x05\x00\x00"), "section count"),
        (_file(PREFIX + b"\x05\x05\x02\x01\x00"), "section count"),
        (_file(PREFIX + b"\x05\x05\x06\x02\x00\x00"), "section count"),
        (_file(PREFIX + b"\x05\x05\x00\x80\x02" + b"\x00" * 256), "section count"),
        (_file(PREFIX + b"\x05\x05\x00\x01\x09", b"\0" * 16), "cut off"),
        (_file(PREFIX + b"\x05\x05\x00\x01\x00", b"\0" * 8), "a section disagrees"),
        (SMALL[:20] + b"\x07" + SMALL[21:], "header disagrees"),
        (SMALL + b"\0", "1 bytes follow"),
        (SMALL[:-1], "cut off"),
        (SMALL[:10], "cut off"),
        (SMALL[:3], "first bytes"),
    ],
)
def test_each_kind_of_damage_is_named(data: bytes, message: str) -> None:
    with pytest.raises(DamagedFile, match=f"^damaged: .*{message}.*; get another copy of the file$"):
        read(data)


@pytest.mark.parametrize("position", range(len(SMALL)))
def test_a_flip_of_any_byte_is_refused(position: int) -> None:
    damaged = bytearray(SMALL)
    damaged[position] ^= 0x40
    with pytest.raises(CodingError):
        read(bytes(damaged))


def test_a_file_cut_anywhere_is_refused() -> None:
    for length in range(len(SMALL)):
        with pytest.raises(CodingError):
            read(SMALL[:length])


def _attempt(reader: Callable[[bytes], Bitstream], data: bytes) -> Bitstream | str:
    """What a reader makes of the bytes, or what it says of them; any other exception fails the test."""
    try:
        return reader(data)
    except CodingError as error:
        return str(error)


@pytest.mark.fuzz
def test_two_thousand_mutants_are_refused_or_read_the_same() -> None:
    # no empty section: eight bytes ff are one, too, since the CRC-32 of four is ff ff ff ff; only content tells then
    levels = _bitstream(b"level0", b"level1 is longer", b"2")._replace(progressive=True)
    files = [SMALL, _bitstream(b"\0").to_bytes(), levels.to_bytes()]
    refused = 0
    for i in range(2000):
        whole = read(files[i % 3])
        mutant = BLIND[i // 3 % len(BLIND)](Random(i), files[i % 3], [files[i % 3]])
        outcome = _attempt(read, mutant)
        if isinstance(outcome, str):
            refused += 1
            assert "\n" not in outcome
        elif whole.progressive:
            assert outcome == whole._replace(sections=whole.sections[: len(outcome.sections)])
        else:
            assert outcome == whole
    assert refused > 1800


def test_content_belongs_to_its_header() -> None:
    """A header exchanged together with its own CRC leaves section CRCs right, and no content CRC."""
    whole = _bitstream(b"latents", alpha=b"opacity")
    other = whole._replace(image_size=(511, 768))
    header = len(whole.to_bytes()) - len(b"latents" + b"opacity") - 16
    found = read(other.to_bytes()[:header] + whole.to_bytes()[header:])
    assert found._replace(alpha=None, sections=()) == other._replace(alpha=None, sections=())
    assert found.alpha is not None
    assert whole.alpha is not None
    for read_back, written in ((found.alpha, whole.alpha), (found.sections[0], whole.sections[0])):
        assert read_back.payload == written.payload
        assert read_back.content_crc != written.content_crc


@pytest.mark.fuzz
@pytest.mark.parametrize(
    "data",
    [
        _file(PREFIX + b"\xff\xff\x03\xff\xff\x03\x00\x01\x00"),
        _file(PREFIX + b"\xff\xff\xff\xff\x0f\x01\x00\x01\x00"),
        _file(PREFIX + b"\x05\x05\x00\x01\xff\xff\xff\xff\x0f"),
        _file(PREFIX + b"\x05\x05\x00\xff\x01" + b"\xff\xff\xff\xff\x0f" * 150),
        _file(PREFIX + b"\x05\x05\x00\xff\xff\xff\xff\x0f"),
    ],
    ids=["4 gigapixels", "side of 2^32", "4 GiB section", "255 such sections", "2^32 sections"],
)
def test_a_small_file_with_huge_claims_is_refused_at_once_and_in_little_memory(data: bytes) -> None:
    assert len(data) < 1000
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(CodingError):
        read(data)
    seconds, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
    assert seconds < 1


def test_the_pixel_limit_is_the_readers_choice() -> None:
    data = _bitstream(b"x").to_bytes()
    assert read(data, max_pixels=512 * 768).image_size == (512, 768)
    with pytest.raises(CodingError, match="512x768 pixels is out of range"):
        read(data, max_pixels=512 * 768 - 1)


@pytest.mark.parametrize("image_size", [(65536, 1), (1, 65536), (0, 5), (16385, 16385)])
def test_a_picture_too_large_for_the_format_is_refused_when_written(image_size: tuple[int, int]) -> None:
    with pytest.raises(CodingError, match=r"out of range; allowed are sides of 1\.\.65535"):
        _bitstream(b"x")._replace(image_size=image_size).to_bytes()


@pytest.mark.parametrize(
    "wrong",
    [
        {"codec_id": 256},
        {"codec_id": -1},
        {"fingerprint": b"short"},
        {"sections": ()},
        {"sections": (Section(b"", 0),) * 256},
    ],
)
def test_fields_that_do_not_fit_are_refused_when_written(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a file "):
        _bitstream(b"x")._replace(**wrong).to_bytes()


def test_a_progressive_file_may_end_after_any_section_and_nowhere_else() -> None:
    whole = _bitstream(b"level 1", b"level 2, longer", b"", b"level 4", alpha=b"opacity")._replace(progressive=True)
    data = whole.to_bytes()
    ends = section_ends(data)
    assert ends == [len(data) - sum(len(s.payload) + 8 for s in whole.sections[k:]) for k in range(1, 5)]
    for length in range(len(data) + 1):
        if length in ends:
            assert read(data[:length]) == whole._replace(sections=whole.sections[: ends.index(length) + 1])
            assert section_ends(data[:length]) == ends
        else:
            with pytest.raises(CodingError, match=r"task=truncate level=\d" if length > ends[0] else ""):
                read(data[:length])


def test_any_other_file_may_not_be_cut() -> None:
    data = _bitstream(b"level 1", b"level 2").to_bytes()
    with pytest.raises(DamagedFile, match="cut off"):
        read(data[: -len(b"level 2") - 8])
    with pytest.raises(CodingError, match="cannot be cut"):
        section_ends(data)


def test_damage_of_a_section_is_none_of_those_before_it() -> None:
    whole = _bitstream(b"level 1", b"level 2", b"level 3")._replace(progressive=True)
    data = bytearray(whole.to_bytes())
    data[section_ends(bytes(data))[1] - 10] ^= 1
    with pytest.raises(DamagedFile, match=r"section disagrees.*task=truncate level=1$"):
        read(bytes(data))
    assert read(bytes(data), leading=1).sections == whole.sections[:1]


def test_nothing_follows_the_last_section_of_a_progressive_file() -> None:
    with pytest.raises(DamagedFile, match="follow"):
        read(_bitstream(b"level 1")._replace(progressive=True).to_bytes() + b"\0")


def test_another_model_is_named_with_the_one_at_hand() -> None:
    bitstream = _bitstream(b"x")
    require_model(bitstream, MODEL)
    with pytest.raises(WrongModel, match=r"^needs model 0001020304050607, have 1a2b3c4d5e6f7081; "):
        require_model(bitstream, bytes.fromhex("1a2b3c4d5e6f7081"))


def test_the_fingerprint_is_the_documented_hash() -> None:
    state = {"w": torch.tensor([[1.0, -2.0]]), "n": torch.tensor(3, dtype=torch.int64)}
    hashed = b"n\0int64\0()\0" + struct.pack("<q", 3) + b"w\0float32\0(1, 2)\0" + struct.pack("<2f", 1, -2)
    assert fingerprint(state) == hashlib.sha256(hashed).digest()[:8]


def test_the_fingerprint_ignores_order_and_memory_layout() -> None:
    matrix = torch.arange(6.0).reshape(2, 3)
    state = {"a": matrix, "b": torch.ones(2, requires_grad=True)}
    assert fingerprint({"b": torch.ones(2), "a": matrix.T.contiguous().T}) == fingerprint(state)


@pytest.mark.parametrize(
    "changed",
    [
        {"a": torch.tensor([1.0, 2.5])},
        {"a": torch.tensor([1.0, 2.0], dtype=torch.float64)},
        {"a": torch.tensor([[1.0, 2.0]])},
        {"b": torch.tensor([1.0, 2.0])},
        {"a": torch.tensor([1.0, 2.0]), "b": torch.zeros(0)},
        {"a": torch.tensor([1.0, 2.0]).view(torch.int32)},
        {"a": torch.tensor([1.0, 2.0], dtype=torch.bfloat16)},
    ],
    ids=["value", "precision", "shape", "name", "one more", "type", "bfloat16"],
)
def test_the_fingerprint_sees_every_change(changed: dict[str, torch.Tensor]) -> None:
    assert fingerprint(changed) != fingerprint({"a": torch.tensor([1.0, 2.0])})


@settings(deadline=None)
@given(st.lists(st.integers(-(1 << 31), (1 << 31) - 1), max_size=30), st.integers(0, 30))
def test_the_content_crc_covers_the_integers_in_order_whatever_their_type(values: list[int], cut: int) -> None:
    expected = zlib.crc32(struct.pack(f"<{len(values)}i", *values))
    integers = np.array(values, dtype=np.int64)
    assert content_crc(integers) == expected
    assert content_crc(integers[:cut].astype(np.int32), integers[cut:]) == expected


@pytest.mark.parametrize("latents", [np.array([0.5]), np.array([1 << 31])])
def test_latents_that_are_no_int32_have_no_content_crc(latents: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"integers|allowed"):
        content_crc(latents)
