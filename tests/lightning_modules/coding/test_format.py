"""docs/format.md against a second decoder, written from that page with nothing of ours in it.

`parse` (sections 1 and 2 of the page) and `Stack` (section 3) use Python, numpy and zlib only; the tests
then compare them with what the framework writes.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import ArrayLike

from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.container import Bitstream, content_crc, read
from lightning_modules.coding.pack_directory import read_directory
from lightning_modules.coding.side_data import pack_alpha, pack_profile
from lightning_modules.coding.tables import CodingTables, gaussian_tables
from lightning_modules.records import Section

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "format.md").read_text(encoding="utf-8")
TABLES = [(-1, [4194304, 8388608, 4194303, 1]), (0, [15728640, 1048575, 1])]
SYMBOLS, INDICES = [0, 1, -1, 0, 9, 0, -7, 1], [0, 1, 0, 0, 0, 1, 1, 1]


# ---- a second decoder


class Parsed(NamedTuple):
    codec_id: int
    model: str
    size: tuple[int, int]
    flags: int
    sections: list[tuple[bytes, int]]


def parse(data: bytes) -> Parsed:
    assert data[:7] == b"LPC\r\n\x1a\x01"
    position = 16

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = data[position]
            position += 1
            value += (byte % 128) << shift
            shift += 7
            if byte < 128:
                return value

    def word() -> int:
        nonlocal position
        position += 4
        return int.from_bytes(data[position - 4 : position], "little")

    size = (varint(), varint())
    flags = data[position]
    position += 1
    lengths = [varint() for _ in range(varint())]
    header_crc = zlib.crc32(data[:position])
    assert header_crc == word()
    sections = []
    for length in lengths:
        payload = data[position : position + length]
        position += length
        bound = word()
        assert zlib.crc32(payload + bound.to_bytes(4, "little")) == word()
        sections.append((payload, bound ^ header_crc))
    assert position == len(data)
    return Parsed(data[7], data[8:16].hex(), size, flags, sections)


def parse_alpha(payload: bytes, size: tuple[int, int]) -> np.ndarray:
    if payload[0] == 255:
        return np.full(size, payload[1])
    plane = np.frombuffer(zlib.decompress(payload[1:]), dtype=np.uint8).reshape(size).astype(np.int64)
    if payload[0] & 1:
        plane = plane.cumsum(axis=0)
    if payload[0] & 2:
        plane = plane.cumsum(axis=1)
    return plane % 256


class Stack:
    """Section 3 of the page, one symbol at a time in Python integers; `trace` collects its lines."""

    def __init__(self, payload: bytes) -> None:
        self.words = np.frombuffer(payload, dtype="<u4").tolist()
        self.state = self.words.pop() << 32
        self.state |= self.words.pop()
        self.trace: list[str] = []

    def pop(self, frequencies: Sequence[int]) -> int:
        q, cumulative, entry = self.state % 2**24, 0, 0
        while q >= cumulative + frequencies[entry]:
            cumulative += frequencies[entry]
            entry += 1
        self.state = self.state // 2**24 * frequencies[entry] + q - cumulative
        if self.state < 2**32 and self.words:
            self.state = (self.state << 32) + self.words.pop()
        return entry

    def uniform(self, bits: int) -> int:
        before = self.state
        number = self.pop([2 ** (24 - bits)] * 2**bits)
        self.trace.append(f"{before:016x}  {bits} bits: {number}")
        return number

    def uniforms(self, count: int, bits: int) -> list[int]:
        if bits <= 16:
            return [self.uniform(bits) for _ in range(count)]
        low = [self.uniform(16) for _ in range(count)]
        return [part + (self.uniform(bits - 16) << 16) for part in low]

    def array(self, indices: Sequence[int], tables: Sequence[tuple[int, list[int]]]) -> list[int]:
        values, escapes = [0] * len(indices), []
        for position in sorted(range(len(indices)), key=lambda i: indices[i]):
            lowest, frequencies = tables[indices[position]]
            before = self.state
            entry = self.pop(frequencies)
            values[position] = lowest + entry
            escaped = entry == len(frequencies) - 1
            meaning = "escape" if escaped else values[position]
            self.trace.append(f"{before:016x}  table {indices[position]}, entry {entry}: {meaning}")
            if escaped:
                escapes.append(position)
        headers = self.uniforms(len(escapes), 6)
        distances = {i: 2 ** (h // 2) for i, h in zip(escapes, headers, strict=True)}
        for k in range(1, 32):
            chosen = [i for i, header in zip(escapes, headers, strict=True) if header // 2 == k]
            for position, low in zip(chosen, self.uniforms(len(chosen), k), strict=True):
                distances[position] += low
        for position, header in zip(escapes, headers, strict=True):
            lowest, frequencies = tables[indices[position]]
            above = lowest + len(frequencies) - 2 + distances[position]
            values[position] = lowest - distances[position] if header % 2 else above
        return values


# ---- the page, the framework and the second decoder agree


def _tables(plain: Sequence[tuple[int, list[int]]]) -> CodingTables:
    starts = np.cumsum([0, *(len(frequencies) for _, frequencies in plain)])
    lowest = np.array([lowest for lowest, _ in plain])
    return CodingTables(np.concatenate([frequencies for _, frequencies in plain]), starts, lowest)


def _plain(tables: CodingTables) -> list[tuple[int, list[int]]]:
    return [
        (int(tables.lowest[k]), tables.frequencies[tables.starts[k] : tables.starts[k + 1]].tolist())
        for k in range(len(tables))
    ]


def _latents(symbols: ArrayLike, indices: ArrayLike, tables: CodingTables) -> Section:
    stack = AnsStack()
    stack.push(symbols, indices, tables)
    return Section(stack.to_bytes(), content_crc(symbols))


def _example() -> bytes:
    alpha = pack_alpha(np.full((300, 5), 255, dtype=np.uint8))
    latents = _latents(SYMBOLS, INDICES, _tables(TABLES))
    return Bitstream(1, bytes.fromhex("1a2b3c4d5e6f7081"), (300, 5), True, alpha, None, (latents,)).to_bytes()


def _blocks() -> list[list[str]]:
    return [block.strip().splitlines() for block in re.findall(r"^```\n(.*?)^```$", PAGE, re.M | re.S)]


def test_the_pages_example_is_what_the_framework_writes() -> None:
    documented = bytes.fromhex("".join(line.split("  ")[0] for line in _blocks()[0]))
    assert documented.hex(" ") == _example().hex(" ")
    assert f"The file, {len(documented)} bytes:" in PAGE


def test_the_pages_trace_is_what_a_second_decoder_goes_through() -> None:
    stack = Stack(parse(_example()).sections[1][0])
    assert stack.array(INDICES, TABLES) == SYMBOLS
    assert [*stack.trace, f"{stack.state:016x}  empty"] == _blocks()[1]


def test_the_pages_tables_are_the_examples() -> None:
    rows = re.findall(r"^\| (\d) \| (-?\d+) \| ([\d, ]+) \|$", PAGE, re.M)
    assert [(int(lowest), list(map(int, row.split(", ")))) for _, lowest, row in rows] == TABLES
    assert f"`{' '.join(map(str, SYMBOLS))}`" in PAGE
    assert f"`{' '.join(map(str, INDICES))}`" in PAGE


def parse_directory(payload: bytes) -> list[tuple[str, int, int, int, int, int]]:
    """Section 1.1 of the page, for numbers below 128: name, height, width, gray, alpha, profile."""
    plain = zlib.decompress(payload)
    count = plain[0]
    columns = [plain[1 + k * count : 1 + (k + 1) * count] for k in range(5)]
    names = plain[1 + 5 * count :].decode().split("\0")
    return list(zip(names[:-1], *columns, strict=True))


def test_the_page_s_pack_is_read_alike_by_the_framework_and_by_a_second_decoder() -> None:
    data = bytes.fromhex("".join(line.split("  ")[0] for line in _blocks()[2]))
    parsed, found = parse(data), read(data)
    assert found.is_pack == (parsed.flags == 16)
    assert (found.image_size, found.fingerprint.hex()) == (parsed.size, parsed.model)
    assert found.sections == tuple(Section(*section) for section in parsed.sections)
    directory, latents = found.sections
    assert [(*entry[:1], *entry.size, *entry[2:]) for entry in read_directory(directory, 0)] == [
        ("a.png", 2, 3, 0, 0, 0),
        ("b.png", 2, 3, 1, 0, 0),
    ]
    assert parse_directory(directory.payload) == [("a.png", 2, 3, 0, 0, 0), ("b.png", 2, 3, 1, 0, 0)]
    assert f"`{zlib.decompress(directory.payload).hex(' ')}`" in PAGE
    assert Stack(latents.payload).array(INDICES, TABLES) == SYMBOLS


@pytest.mark.parametrize("seed", range(6))
def test_a_second_decoder_reads_every_section_of_our_files(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tables = gaussian_tables(np.array([0.2, 1.0, 4.0]))
    indices = rng.integers(0, 3, 300)
    symbols = np.rint(rng.normal(0, [0.2, 1.0, 4.0][seed % 3], 300)).astype(np.int64)
    symbols[:60] = rng.integers(-(1 << 31), 1 << 31, 60) >> rng.integers(0, 32, 60)
    size = (int(rng.integers(1, 40)), int(rng.integers(1, 300)))
    alpha = (rng.integers(0, 256, size) * np.arange(size[1]) // (seed + 1)).astype(np.uint8)
    profile = rng.bytes(500)
    bitstream = Bitstream(
        codec_id=seed,
        fingerprint=rng.bytes(8),
        image_size=size,
        gray=bool(seed % 2),
        alpha=pack_alpha(alpha),
        icc=pack_profile(profile),
        sections=(_latents(symbols, indices, tables),),
    )
    parsed = parse(bitstream.to_bytes())
    assert parsed[:4] == (seed, bitstream.fingerprint.hex(), size, 6 + seed % 2)
    np.testing.assert_array_equal(parse_alpha(parsed.sections[0][0], size), alpha)
    assert parsed.sections[0][1] == zlib.crc32(alpha.tobytes())
    assert zlib.decompress(parsed.sections[1][0]) == profile
    assert parsed.sections[1][1] == zlib.crc32(profile)
    stack = Stack(parsed.sections[2][0])
    assert stack.array(indices.tolist(), _plain(tables)) == symbols.tolist()
    assert (stack.state, stack.words) == (2**32, [])
    assert parsed.sections[2][1] == zlib.crc32(symbols.astype("<i4").tobytes())
