"""Codecs that are programs: how they are called and what becomes of their files, by programs that only copy them."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_modules.classical.external_codecs import avif_lossless, bpg, vtm
from lightning_modules.classical.pillow_codecs import ClassicalCodec, MissingCodec
from lightning_modules.classical.ycbcr import to_rgb, to_ycbcr

VTM = """
words = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
if "--help" in sys.argv:
    print("VVCSoftware: VTM Encoder Version 23.4 [Linux]")
elif "-i" in words:
    assert "-c" in sys.argv and words["--InputChromaFormat"] == "444" and words["--InternalBitDepth"] == "10"
    size = f"{words['-wdt']} {words['-hgt']} {words['-q']}\\n".encode()
    open(words["-b"], "wb").write(size + open(words["-i"], "rb").read())
else:
    head, _, planes = open(words["-b"], "rb").read().partition(b"\\n")
    width, height, _ = head.split()
    open(words["-o"], "wb").write(b"YUV4MPEG2 W%s H%s F1:1 Ip C444\\nFRAME\\n" % (width, height) + planes)
"""
CONVERTER = """
if len(sys.argv) == 2:
    print("Image Encoder version 0.9.8")
    sys.exit(1)
files = [word for word in sys.argv[1:] if "/" in word]
source, target = sorted(files, key=lambda name: not os.path.exists(name))
open(target, "wb").write(open(source, "rb").read())
"""


def program(folder: Path, name: str, source: str) -> str:
    path = folder / name
    path.write_text(f"#!{sys.executable}\nimport os, sys\n{source}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.fixture
def image() -> Image.Image:
    """Colours of all kinds, 11 x 7: no side a multiple of a block's."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (7, 11, 3), dtype=np.uint8))


def test_vtm_is_given_rounded_ycbcr_and_what_it_decodes_becomes_rgb(tmp_path: Path, image: Image.Image) -> None:
    both = program(tmp_path, "both", VTM)
    (tmp_path / "intra.cfg").write_text("")
    codec = vtm(both, both, str(tmp_path / "intra.cfg"))
    assert isinstance(codec, ClassicalCodec)
    assert codec.settings.startswith("VTM 23.4, intra.cfg, 4:4:4")
    data = codec.encode(image, 37)
    planes = to_ycbcr(np.asarray(image)).transpose(2, 0, 1).tobytes()
    assert data == b"11 7 37\n" + planes
    np.testing.assert_array_equal(np.asarray(codec.decode(data)), to_rgb(to_ycbcr(np.asarray(image))))


@pytest.mark.parametrize("build", [bpg, avif_lossless])
def test_converters_are_given_a_png_of_the_pixels_and_their_file_is_what_counts(
    build, tmp_path: Path, image: Image.Image
) -> None:
    both = program(tmp_path, "both", CONVERTER)
    codec = build(both, both)
    assert isinstance(codec, ClassicalCodec)
    assert "0.9.8" in codec.settings
    data = codec.encode(image, codec.qualities[0])
    assert data.startswith(b"\x89PNG")
    np.testing.assert_array_equal(np.asarray(codec.decode(data)), np.asarray(image))


def test_a_program_that_fails_ends_with_its_own_last_line(tmp_path: Path, image: Image.Image) -> None:
    broken = program(tmp_path, "broken", "print('1.0'); print('out of luck', file=sys.stderr); sys.exit(3)")
    codec = bpg(broken, broken)
    assert isinstance(codec, ClassicalCodec)
    with pytest.raises(RuntimeError, match="out of luck"):
        codec.encode(image, 30)


def test_without_the_programs_or_their_configuration_a_codec_is_missing_with_a_remedy(tmp_path: Path) -> None:
    for missing in (bpg("no-bpgenc", "no-bpgdec"), avif_lossless("no-avifenc"), vtm("no-encoder", "no-decoder")):
        assert isinstance(missing, MissingCodec)
        assert "not found; " in missing.reason
    both = program(tmp_path, "both", VTM)
    missing = vtm(both, both, str(tmp_path / "absent.cfg"))
    assert isinstance(missing, MissingCodec)
    assert "absent.cfg: no such file" in missing.reason


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_avif_by_its_own_tools_brings_every_pixel_back(image: Image.Image, mode: str) -> None:
    codec = avif_lossless()
    if isinstance(codec, MissingCodec):
        pytest.skip(codec.reason)
    decoded = codec.decode(codec.encode(image.convert(mode), 0)).convert(mode)
    np.testing.assert_array_equal(np.asarray(decoded), np.asarray(image.convert(mode)))
