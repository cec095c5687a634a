"""Classical codecs through Pillow, and the best picture each gives within a number of bytes.

Every file is whole and lies in memory: header, tables and all count. Pictures are Pillow images of mode L or
RGB; their metadata (colour profile, EXIF) is not written. Versions and settings travel with each codec as
text, so that a table can state them.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from PIL import Image, features

from lightning_modules.errors import CodingError


class ClassicalCodec(NamedTuple):
    """A codec with one quality knob.

    settings: versions and fixed options, one line. qualities: values of the knob, worst first.
    encode: (image, quality) -> file. decode: file -> image.
    """

    name: str
    settings: str
    qualities: Sequence[int]
    encode: Callable[[Image.Image, int], bytes]
    decode: Callable[[bytes], Image.Image]


class MissingCodec(NamedTuple):
    """A codec that this installation does not have. reason: fault and remedy, one line."""

    name: str
    reason: str


class Encoded(NamedTuple):
    """A file. fits: False when it is over the bytes allowed, though it has the codec's lowest quality."""

    data: bytes
    quality: int
    fits: bool


def encode_within(codec: ClassicalCodec, image: Image.Image, max_bytes: int) -> Encoded:
    """Return the file of highest quality with at most `max_bytes`; the next quality of the ladder has more.

    Bisection keeps "fits" below and "does not fit" above, so this holds even where sizes are not monotone:
    the result is then one of several such places. When not even the lowest quality fits: that file, with
    `fits=False`.
    Raises `CodingError` when the codec cannot code the picture at all (its sides are too long).
    """
    best = Encoded(_encode(codec, image, codec.qualities[0]), codec.qualities[0], fits=True)
    if len(best.data) > max_bytes:
        return best._replace(fits=False)
    fitting, too_large = 0, len(codec.qualities)
    while too_large - fitting > 1:
        middle = (fitting + too_large) // 2
        data = _encode(codec, image, codec.qualities[middle])
        if len(data) <= max_bytes:
            fitting, best = middle, Encoded(data, codec.qualities[middle], fits=True)
        else:
            too_large = middle
    return best


def _encode(codec: ClassicalCodec, image: Image.Image, quality: int) -> bytes:
    try:
        return codec.encode(image, quality)
    except (OSError, ValueError, RuntimeError) as error:
        raise CodingError(
            f"{codec.name} cannot code {image.width} x {image.height} pixels ({error}); cut the picture"
        ) from None


def standard_codecs() -> list[ClassicalCodec | MissingCodec]:
    """JPEG, WebP, AVIF and JPEG XL with the settings this project reports."""
    return [jpeg(), webp(), avif(), jpeg_xl()]


def jpeg(subsampling: str = "4:2:0", name: str = "JPEG") -> ClassicalCodec | MissingCodec:
    """Baseline JPEG with Huffman tables made for the picture. Quality 1 ... 100.

    subsampling: of colour, 4:2:0 or 4:4:4 (none).
    """
    if not features.check("jpg"):
        return _not_in_pillow(name)
    turbo = features.version("libjpeg_turbo")
    library = f"libjpeg-turbo {turbo}" if turbo else f"libjpeg {features.version('jpg')}"
    encode = partial(_save, format="JPEG", subsampling=subsampling, optimize=True, progressive=False)
    settings = f"{library}, {subsampling}, optimised Huffman tables, not progressive"
    return ClassicalCodec(name, settings, range(1, 101), encode, _open)


def jpeg_2000() -> ClassicalCodec | MissingCodec:
    """JPEG 2000, 9/7 wavelet, in the JP2 container. Quality is the factor by which the file is smaller: 400 ... 2."""
    name = "JPEG 2000"
    if not features.check("jpg_2000"):
        return _not_in_pillow(name)
    settings = f"OpenJPEG {features.version('jpg_2000')}, 9/7 wavelet, one layer at a given rate, JP2"
    return ClassicalCodec(name, settings, range(400, 1, -1), _save_jpeg_2000, _open)


def webp(method: int = 6) -> ClassicalCodec | MissingCodec:
    """Lossy WebP (always 4:2:0). method: effort, 0 fast ... 6 slow. Quality 0 ... 100."""
    if not features.check("webp"):
        return _not_in_pillow("WebP")
    settings = f"libwebp {features.version('webp')}, 4:2:0, method {method}"
    return ClassicalCodec(
        "WebP", settings, range(101), partial(_save, format="WEBP", lossless=False, method=method), _open
    )


def avif(speed: int = 6, subsampling: str = "4:2:0", name: str = "AVIF") -> ClassicalCodec | MissingCodec:
    """Return AVIF, gray as 4:0:0. speed: 0 slow ... 10 fast, 6 is Pillow's default. Quality 0 ... 100.

    subsampling: of colour, 4:2:0 or 4:4:4 (none).

    One tile, whatever the number of cores: tiles cost bytes, and files would differ between machines.
    """
    if not features.check("avif"):
        return _not_in_pillow(name)
    settings = f"libavif {features.version('avif')}, {subsampling}, speed {speed}, one tile"
    encode = partial(_save_avif, speed=speed, subsampling=subsampling)
    return ClassicalCodec(name, settings, range(101), encode, _open)


def jpeg_xl(effort: int = 7) -> ClassicalCodec | MissingCodec:
    """Lossy JPEG XL (VarDCT, XYB colours). effort: 1 fast ... 9 slow. Quality in tenths: 0 ... 999.

    The library's scale ends at distance 25 (quality 0), which is often more than 0.2 bpp.
    """
    name = "JPEG XL"
    try:
        importlib.import_module("pillow_jxl")  # registers the format with Pillow
        plugin = version("pillow-jxl-plugin")
    except (ImportError, PackageNotFoundError):
        return MissingCodec(name, "not installed; pip install pillow-jxl-plugin")
    settings = f"pillow-jxl-plugin {plugin}, XYB, effort {effort}"
    return ClassicalCodec(name, settings, range(1000), partial(_save_jpeg_xl, effort=effort), _open)


def _not_in_pillow(name: str) -> MissingCodec:
    return MissingCodec(name, f"this Pillow was built without it; pip install --upgrade pillow gives one with {name}")


def _save(image: Image.Image, quality: float, *, format: str, **options: object) -> bytes:
    file, pixels = io.BytesIO(), Image.frombytes(image.mode, image.size, image.tobytes())
    pixels.save(file, format, quality=quality, **options)
    return file.getvalue()


def _save_jpeg_2000(image: Image.Image, ratio: int) -> bytes:
    file = io.BytesIO()
    bare = Image.frombytes(image.mode, image.size, image.tobytes())
    colour = int(image.mode == "RGB")
    bare.save(file, "JPEG2000", irreversible=True, mct=colour, quality_mode="rates", quality_layers=[ratio])
    return file.getvalue()


def _save_avif(image: Image.Image, quality: int, *, speed: int, subsampling: str) -> bytes:
    subsampling = "4:0:0" if image.mode == "L" else subsampling
    return _save(image, quality, format="AVIF", subsampling=subsampling, speed=speed, autotiling=False)


def _save_jpeg_xl(image: Image.Image, quality: int, *, effort: int) -> bytes:
    return _save(image, quality / 10, format="JXL", lossless=False, effort=effort)


def _open(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


ONLY = (0,)
"""The qualities of a lossless codec: there is one."""


def png(level: int = 9) -> ClassicalCodec | MissingCodec:
    """Return PNG. level: of zlib, 0 ... 9; filters are searched row by row."""
    other = features.version_feature("zlib_ng")  # compresses otherwise than zlib at the same level
    library = f"zlib-ng {other}" if other else f"zlib {features.version('zlib')}"
    settings = f"{library}, level {level}, optimised"
    encode = partial(_save_losslessly, format="PNG", optimize=True, compress_level=level)
    return ClassicalCodec("PNG", settings, ONLY, encode, _open)


def webp_lossless(method: int = 6) -> ClassicalCodec | MissingCodec:
    """Return lossless WebP. method: effort, 0 ... 6."""
    name = "WebP lossless"
    if not features.check("webp"):
        return _not_in_pillow(name)
    settings = f"libwebp {features.version('webp')}, lossless, method {method}, quality 100 (effort)"
    encode = partial(_save_losslessly, format="WEBP", lossless=True, exact=True, method=method, quality=100)
    return ClassicalCodec(name, settings, ONLY, encode, _open)


def jpeg_xl_lossless(effort: int = 7) -> ClassicalCodec | MissingCodec:
    """Return lossless JPEG XL. effort: 1 ... 9."""
    name = "JPEG XL lossless"
    try:
        importlib.import_module("pillow_jxl")
        plugin = version("pillow-jxl-plugin")
    except (ImportError, PackageNotFoundError):
        return MissingCodec(name, "not installed; pip install pillow-jxl-plugin")
    settings = f"pillow-jxl-plugin {plugin}, modular, effort {effort}"
    return ClassicalCodec(
        name, settings, ONLY, partial(_save_losslessly, format="JXL", lossless=True, effort=effort), _open
    )


def _save_losslessly(image: Image.Image, only: int, *, format: str, **options: object) -> bytes:
    """only: the one quality that there is; what a format calls quality is among its options."""
    del only
    file, bare = io.BytesIO(), Image.frombytes(image.mode, image.size, image.tobytes())
    bare.save(file, format, **options)
    return file.getvalue()
