"""Small files that declare, or unpack to, more than any picture: refused with a line, at once, without the memory."""

from __future__ import annotations

import io
import multiprocessing
import resource
import struct
import time
import zlib
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from PIL import Image

from datamodules.image_file import read_image
from lightning_modules.errors import CodingError

pytestmark = pytest.mark.faults

SIDE = 65535
MAX_SECONDS = 1.0
MAX_MEGABYTES = 32


def small(kind: str, **options: object) -> bytearray:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 90)).save(file, kind, **options)
    return bytearray(file.getvalue())


def chunk(kind: bytes, data: bytes) -> bytes:
    """PNG, third edition, section 5.3."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes, side: int) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def zeros(num_bytes: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(num_bytes >> 20)) + packer.flush()


def patched(data: bytearray, offset: int, layout: str, *values: int) -> bytes:
    struct.pack_into(layout, data, offset, *values)
    return bytes(data)


def jpeg() -> bytes:
    data = small("JPEG")
    return patched(data, data.index(b"\xff\xc0") + 5, ">HH", SIDE, SIDE)


def tiff() -> bytes:
    """Width and height are the entries 256 and 257 of the directory; TIFF 6.0, page 14."""
    data = small("TIFF")
    directory = struct.unpack_from("<I", data, 4)[0]
    for entry in range(directory + 2, directory + 2 + 12 * struct.unpack_from("<H", data, directory)[0], 12):
        if struct.unpack_from("<H", data, entry)[0] in (256, 257):
            struct.pack_into("<HII", data, entry + 2, 4, 1, SIDE)
    return bytes(data)


def webp() -> bytes:
    """An extended file whose canvas is larger than its picture; WebP container specification, VP8X."""
    canvas = struct.pack("<I", 0) + (SIDE - 1).to_bytes(3, "little") * 2
    chunks = b"VP8X" + struct.pack("<I", len(canvas)) + canvas + bytes(small("WEBP")[12:])
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


BOMBS: dict[str, Callable[[], bytes]] = {
    "png": lambda: png(chunk(b"IDAT", zeros(2**26)), side=SIDE),
    "png with a text of 256 MB": lambda: png(chunk(b"zTXt", b"a\0\0" + zeros(2**28)), side=16),
    "png with a colour profile of 256 MB": lambda: png(chunk(b"iCCP", b"a\0\0" + zeros(2**28)), side=16),
    "jpeg": jpeg,
    "gif": lambda: patched(small("GIF"), 6, "<HH", SIDE, SIDE),
    "tiff": tiff,
    "webp": webp,
    "bmp": lambda: patched(small("BMP"), 18, "<ii", SIDE, SIDE),
    "ppm": lambda: f"P6 {SIDE} {SIDE} 255\n".encode() + bytes(768),
    "qoi": lambda: b"qoif" + struct.pack(">IIBB", SIDE, SIDE, 3, 0) + bytes(16),
}


def _read(path: Path, answer: Connection) -> None:
    memory, start, line = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic(), "it was read"
    try:
        read_image(path)
    except CodingError as error:
        line = str(error)
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    answer.send((line, time.monotonic() - start, kilobytes / 1024))


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_with_a_line_at_once_and_without_the_memory(
    kind: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(BOMBS[kind]())
    answer, end = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_read, args=(path, end))
    process.start()
    assert answer.poll(20)
    line, seconds, megabytes = answer.recv()
    process.join()
    record_property(f"bomb, {kind}", f"{path.stat().st_size} bytes, {1e3 * seconds:.0f} ms, {megabytes:.0f} MB")
    assert line.startswith("bomb.png: ")
    assert "\n" not in line
    assert seconds < MAX_SECONDS
    assert megabytes < MAX_MEGABYTES


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "tiff", "bmp", "ppm", "qoi"])
def test_a_file_that_declares_too_much_is_told_how_many_pixels_are_allowed(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(BOMBS[kind]())
    with pytest.raises(CodingError, match="declares more than 268435456 pixels; cut it into smaller pictures"):
        read_image(path)
