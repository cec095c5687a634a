"""No format loses bits without a word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.bit_depth import avif_depth, jpeg2000_depth
from datamodules.image_file import read_image
from lightning_modules.errors import CodingError


def depth_refused(path: Path) -> int:
    """The depth that the refusal names."""
    with pytest.raises(CodingError, match=r"has \d+ bits per channel") as caught:
        read_image(path)
    return int(str(caught.value).split(" has ")[1].split()[0])


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm", "jp2"])
def test_16_bit_gray_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30)).save(path)
    assert depth_refused(path) == 16


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bit_samples_are_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 4), 7).save(tmp_path / "deep.tif")
    assert depth_refused(tmp_path / "deep.tif") == 32


@pytest.mark.parametrize(
    ("header", "depth"),
    [(b"P6 2 2 65535\n", 16), (b"P6 2 2 256\n", 9), (b"P5 2 2 1000\n", 10), (b"P3 2 2 4095\n", 12)],
)
def test_a_portable_map_says_its_greatest_value(tmp_path: Path, header: bytes, depth: int) -> None:
    (tmp_path / "deep.ppm").write_bytes(header + bytes(24))
    assert depth_refused(tmp_path / "deep.ppm") == depth


def test_a_portable_map_below_8_bits_is_read(tmp_path: Path) -> None:
    (tmp_path / "flat.pgm").write_bytes(b"P5 2 1 15\n\x00\x0f")
    x, _ = read_image(tmp_path / "flat.pgm")
    assert x[0, 0].tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize("suffix", ["jp2", "j2k"])
def test_jpeg_2000_states_its_depth_in_either_wrapping(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (8, 8)).save(path)
    head = bytearray(path.read_bytes())
    assert jpeg2000_depth(bytes(head)) == 8
    box, segment = head.find(b"ihdr"), head.find(b"\xff\x4f\xff\x51")
    head[box + 14 if suffix == "jp2" else segment + 42] = 11
    assert jpeg2000_depth(bytes(head)) == 12
    if suffix == "jp2":  # 255: look at the channels themselves
        head[box + 14] = 255
        assert jpeg2000_depth(bytes(head)) == 8
    assert jpeg2000_depth(b"") == 8


@pytest.mark.parametrize(("flags", "depth"), [(0x00, 8), (0x40, 10), (0x60, 12), (0x20, 8)])
def test_avif_states_its_depth_in_the_configuration_box(tmp_path: Path, flags: int, depth: int) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.avif")
    head = bytearray((tmp_path / "a.avif").read_bytes())
    position = head.find(b"av1C") + 6
    head[position] = head[position] & ~0x60 | flags
    assert avif_depth(bytes(head)) == depth
    assert avif_depth(bytes(head[:position])) == 8
