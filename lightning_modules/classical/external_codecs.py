"""Codecs that are programs: BPG, VVC's test model (VTM), libavif's own tools. Used where they are installed.

Each call writes its files into a temporary folder. Versions are what the programs say of themselves.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from lightning_modules.classical.pillow_codecs import ClassicalCodec, MissingCodec
from lightning_modules.classical.ycbcr import to_rgb, to_ycbcr

SECONDS = 3600
"""After which a program is given up."""

_VERSION = re.compile(r"(?:[Vv]ersion:?\s*\[?|VTM[- ])\s*v?([0-9][\w.]*)")


def avif_lossless(encoder: str = "avifenc", decoder: str = "avifdec") -> ClassicalCodec | MissingCodec:
    """Code by libavif's tools: Pillow cannot switch off the conversion of colours, which alone loses two levels."""
    name = "AVIF lossless"
    missing = _missing(name, [encoder, decoder], "install libavif's tools (Debian: libavif-bin)")
    if missing:
        return missing
    settings = f"avifenc {_version(encoder, '--version')}, --lossless, default speed"

    def encode(image: Image.Image, quality: int) -> bytes:
        del quality
        return _converted(image, [encoder, "--lossless", "--jobs", "1", "{png}", "{file}"], "file.avif")

    decode = partial(_decoded, [decoder, "--jobs", "1", "{file}", "{png}"], "file.avif")
    return ClassicalCodec(name, settings, (0,), encode, decode)


def bpg(encoder: str = "bpgenc", decoder: str = "bpgdec") -> ClassicalCodec | MissingCodec:
    """BPG (HEVC intra), 4:4:4, 8 bits. Quality is the quantizer, 51 ... 0."""
    name = "BPG"
    missing = _missing(name, [encoder, decoder], "build them from libbpg, or give their paths")
    if missing:
        return missing
    settings = f"bpgenc {_version(encoder, '-h')}, 4:4:4, 8 bits, default effort"

    def encode(image: Image.Image, quality: int) -> bytes:
        return _converted(image, [encoder, "-q", str(quality), "-f", "444", "-o", "{file}", "{png}"], "file.bpg")

    decode = partial(_decoded, [decoder, "-o", "{png}", "{file}"], "file.bpg")
    return ClassicalCodec(name, settings, range(51, -1, -1), encode, decode)


def vtm(
    encoder: str = "EncoderAppStatic", decoder: str = "DecoderAppStatic", configuration: str = "encoder_intra_vtm.cfg"
) -> ClassicalCodec | MissingCodec:
    """VVC intra by its test model, 4:4:4, 10 bits inside, BT.709 rounded outside. Quality is the quantizer, 63 ... 0.

    The decoder has to write Y4M (VTM 13 and newer), which says how large the picture is.
    """
    name = "VTM"
    missing = _missing(name, [encoder, decoder], "build them from VVCSoftware_VTM, or give their paths")
    if missing:
        return missing
    if not Path(configuration).is_file():
        return MissingCodec(name, f"{configuration}: no such file; give VTM's cfg/encoder_intra_vtm.cfg")
    settings = f"VTM {_version(encoder, '--help')}, {Path(configuration).name}, 4:4:4, 10 bits inside, BT.709 rounded"
    encode = partial(_encode_vtm, encoder=encoder, configuration=configuration)
    return ClassicalCodec(name, settings, range(63, -1, -1), encode, partial(_decode_vtm, decoder=decoder))


def _encode_vtm(image: Image.Image, quality: int, *, encoder: str, configuration: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        source, file = Path(folder, "source.yuv"), Path(folder, "file.vvc")
        source.write_bytes(to_ycbcr(np.asarray(image.convert("RGB"))).transpose(2, 0, 1).tobytes())
        size = [f"-wdt={image.width}", f"-hgt={image.height}"]
        depth = ["--InputBitDepth=8", "--InternalBitDepth=10", "--InputChromaFormat=444", "--ChromaFormatIDC=444"]
        frames = ["-f=1", "-fr=1", "--ConformanceWindowMode=1"]
        files = [f"-i={source}", f"-b={file}", "-o=/dev/null"]
        _run([encoder, "-c", configuration, *files, f"-q={quality}", *size, *frames, *depth])
        return file.read_bytes()


def _decode_vtm(data: bytes, *, decoder: str) -> Image.Image:
    with tempfile.TemporaryDirectory() as folder:
        file, decoded = Path(folder, "file.vvc"), Path(folder, "decoded.y4m")
        file.write_bytes(data)
        _run([decoder, f"-b={file}", f"-o={decoded}", "-d=8"])
        return _read_y4m(decoded.read_bytes())


def _read_y4m(data: bytes) -> Image.Image:
    """The first frame of 8-bit 4:4:4."""
    head, _, rest = data.partition(b"\n")
    size = {word[:1]: int(word[1:]) for word in head.split() if word[:1] in (b"W", b"H") and word[1:].isdigit()}
    planes = rest.partition(b"\n")[2]
    height, width = size[b"H"], size[b"W"]
    ycbcr = np.frombuffer(planes, np.uint8, 3 * height * width).reshape(3, height, width).transpose(1, 2, 0)
    return Image.fromarray(to_rgb(ycbcr))


def _converted(image: Image.Image, command: list[str], file_name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        png, file = Path(folder, "picture.png"), Path(folder, file_name)
        Image.frombytes(image.mode, image.size, image.tobytes()).save(png)
        _run([word.format(png=png, file=file) for word in command])
        return file.read_bytes()


def _decoded(command: list[str], file_name: str, data: bytes) -> Image.Image:
    with tempfile.TemporaryDirectory() as folder:
        png, file = Path(folder, "picture.png"), Path(folder, file_name)
        file.write_bytes(data)
        _run([word.format(png=png, file=file) for word in command])
        with Image.open(png) as image:
            image.load()
            return image.copy()


def _run(command: list[str]) -> str:
    """Return what the program prints. Raises `RuntimeError` with its last line when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(f"{command[0]}: {error}") from None
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise RuntimeError(f"{command[0]}: {lines[-1] if lines else f'exit code {done.returncode}'}")
    return done.stdout + done.stderr


def _version(program: str, option: str) -> str:
    """As its help has it, which some programs print with an exit code that is not zero."""
    done = subprocess.run([program, option], capture_output=True, text=True, errors="replace", timeout=60, check=False)
    found = _VERSION.search(done.stdout + done.stderr) or re.search(r"([0-9]+\.[\w.]+)", done.stdout + done.stderr)
    return found.group(1) if found else "of unknown version"


def _missing(name: str, programs: list[str], remedy: str) -> MissingCodec | None:
    absent = [program for program in programs if shutil.which(program) is None]
    return MissingCodec(name, f"{' and '.join(absent)} not found; {remedy}") if absent else None
