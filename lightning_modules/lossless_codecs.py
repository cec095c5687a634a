"""Lossless codecs through Pillow, at their strongest usual setting: what a picture costs when nothing may change.

Pictures are Pillow images of mode L or RGB; metadata is not written. The quality of each is 0, its only one.
"""

from __future__ import annotations

import importlib
import io
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from PIL import Image, features

from lightning_modules.classical_codecs import ClassicalCodec, MissingCodec

ONLY = (0,)


def png(level: int = 9) -> ClassicalCodec | MissingCodec:
    """level: of zlib, 0 ... 9; filters are searched row by row."""
    other = features.version_feature("zlib_ng")  # compresses otherwise than zlib at the same level
    library = f"zlib-ng {other}" if other else f"zlib {features.version('zlib')}"
    settings = f"{library}, level {level}, optimised"
    encode = partial(_save, format="PNG", optimize=True, compress_level=level)
    return ClassicalCodec("PNG", settings, ONLY, encode, _open)


def webp_lossless(method: int = 6) -> ClassicalCodec | MissingCodec:
    """method: effort, 0 ... 6."""
    name = "WebP lossless"
    if not features.check("webp"):
        return _missing(name)
    settings = f"libwebp {features.version('webp')}, lossless, method {method}, quality 100 (effort)"
    encode = partial(_save, format="WEBP", lossless=True, exact=True, method=method, quality=100)
    return ClassicalCodec(name, settings, ONLY, encode, _open)


def jpeg_xl_lossless(effort: int = 7) -> ClassicalCodec | MissingCodec:
    """effort: 1 ... 9."""
    name = "JPEG XL lossless"
    try:
        importlib.import_module("pillow_jxl")
        plugin = version("pillow-jxl-plugin")
    except (ImportError, PackageNotFoundError):
        return MissingCodec(name, "not installed; pip install pillow-jxl-plugin")
    settings = f"pillow-jxl-plugin {plugin}, modular, effort {effort}"
    return ClassicalCodec(name, settings, ONLY, partial(_save, format="JXL", lossless=True, effort=effort), _open)


def _missing(name: str) -> MissingCodec:
    return MissingCodec(name, "this Pillow was built without it; pip install --upgrade pillow gives one that has it")


def _save(image: Image.Image, only: int, *, format: str, **options: object) -> bytes:
    """only: the one quality that there is; what a format calls quality is among its options."""
    del only
    file, bare = io.BytesIO(), Image.frombytes(image.mode, image.size, image.tobytes())
    bare.save(file, format, **options)
    return file.getvalue()


def _open(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image
