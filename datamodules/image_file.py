"""Reading one picture from the disk: what is coded, what is refused, and the line that says so.

The content decides, never the suffix. Coded: 8-bit gray and RGB, each with or without alpha, black and white
(comes back as 8-bit gray), palettes (come back as RGB or RGBA). EXIF orientation is applied; alpha and the
colour profile are kept. Refused, because something would be lost silently: more than 8 bits a channel, CMYK
and other colour spaces, animations and multi-page files, damaged files.
"""

from __future__ import annotations

import errno
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFile, UnidentifiedImageError
from torch import Tensor

from datamodules.bit_depth import bits_per_channel
from lightning_modules.errors import CodingError
from lightning_modules.records import PixelFormat

# Formats that Pillow decodes by itself: no interpreter (EPS, WMF) is ever started on a user's file.
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "QOI")
READABLE = "PNG, JPEG, WebP, AVIF, BMP, GIF, TIFF, PPM, JPEG 2000 or QOI"

# Names that make a file an input. The last three cannot be read: a failed row says so, which no gap would.
_SUFFIX_NAMES = (
    "png apng jpg jpeg jpe jfif mpo webp avif bmp dib gif tif tiff ppm pgm pbm pnm "
    "jp2 j2k j2c jpc jpf jpx qoi heic heif jxl"
)
SUFFIXES = frozenset(f".{name}" for name in _SUFFIX_NAMES.split())

MAX_PIXELS = 2**28  # what a file of ours may declare
MAX_PROFILE_BYTES = 2**22

_HEAD_BYTES = 2**16
_ORIENTATION_TAG = 0x0112
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FILE_FAULTS = {
    errno.ENOENT: "no such file (moved, or a broken link); check the path",
    errno.EACCES: "permission denied; make the file readable",
    errno.EPERM: "permission denied; make the file readable",
}


def is_image_name(path: str | Path) -> bool:
    """Return whether a file of this name, in a listed folder, is meant to be a picture."""
    return Path(path).suffix.lower() in SUFFIXES


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> tuple[Tensor, PixelFormat]:
    """Return the upright picture as float32 (1, 3, H, W) in [0, 1], and what these numbers do not say about it.

    Raises:
        CodingError: one line starting with the file's name, when the file is refused or cannot be read.
    """
    pixels, pixel_format = read_pixels(path, max_pixels)
    return pixels.unsqueeze(0).to(torch.float32).div_(255.0), pixel_format


def read_pixels(path: str | Path, max_pixels: int = MAX_PIXELS) -> tuple[Tensor, PixelFormat]:
    """Read as `read_image` does, with the picture as uint8 (3, H, W): four times smaller, for caches and crops."""
    path = Path(path)
    try:
        image = _decode(path, max_pixels)
    except CodingError as error:
        raise CodingError(f"{printable(path.name)}: {error}") from None
    samples = torch.from_numpy(np.array(image)).reshape(image.height, image.width, -1).permute(2, 0, 1)
    gray = image.mode in ("L", "LA")
    color = samples[:1].repeat(3, 1, 1) if gray else samples[:3].contiguous()  # (3, H, W)
    alpha = samples[-1].contiguous() if image.mode in ("LA", "RGBA") else None  # (H, W)
    return color, PixelFormat(gray=gray, alpha=alpha, icc_profile=image.info.get("icc_profile") or None)


def printable(text: str) -> str:
    """`text` on one line: what a terminal or a report would not show as it is becomes `?`."""
    return "".join(character if character.isprintable() else "?" for character in text)


def is_regular(path: Path) -> bool:
    """Opening anything else, a pipe for one, could wait forever. Raises `OSError` if the path cannot be looked at."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):  # an input only because listing it failed: fail for the same reason
        os.listdir(path)
    return stat.S_ISREG(mode)


def describe_os_error(error: OSError) -> str:
    """Fault and remedy of a file that the system does not give us."""
    reason = printable(error.strerror or str(error)).lower()
    return _FILE_FAULTS.get(error.errno or 0, f"cannot be read ({reason}); check the disk and try again")


def _decode(path: Path, max_pixels: int) -> Image.Image:
    """The decoded upright picture in mode L, LA, RGB or RGBA, or a `CodingError` without the file's name."""
    try:
        if not is_regular(path):
            raise CodingError("is not a regular file; give a picture")
        with path.open("rb") as file, _pillow_limits(max_pixels):
            head = file.read(_HEAD_BYTES)
            if not head:
                raise CodingError("is empty; replace it by the whole picture")
            file.seek(0)
            image = Image.open(file, formats=FORMATS)
            _refuse_what_would_be_lost(image, head)
            return _load(image)
    except CodingError:
        raise
    except UnidentifiedImageError:
        raise CodingError(f"is no intact {READABLE} picture; convert it to PNG or remove it") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise CodingError(f"declares more than {max_pixels} pixels; cut it into smaller pictures") from None
    except MemoryError:
        raise CodingError("needs more memory than there is; cut it into smaller pictures") from None
    except Exception as error:  # Pillow answers bad bytes with many types of exception: any is a refusal
        raise CodingError(_describe(error)) from None


def _refuse_what_would_be_lost(image: ImageFile.ImageFile, head: bytes) -> None:
    if image.format != "MPO" and getattr(image, "is_animated", False):  # MPO: a JPEG photo with previews
        raise CodingError("is animated or has pages; save one of them as PNG (`magick IN'[0]' OUT.png`)")
    depth = bits_per_channel(image, head)
    if depth > 8:
        raise CodingError(f"has {depth} bits per channel, not 8; convert it (`magick IN -depth 8 OUT.png`)")
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        raise CodingError(
            f"has colours in {image.mode}, not gray or RGB; convert it (`magick IN -colorspace sRGB OUT.png`)"
        )
    if len(image.info.get("icc_profile") or b"") > MAX_PROFILE_BYTES:
        raise CodingError("has a too large colour profile; remove it (`magick IN -strip OUT.png`)")


def _load(image: ImageFile.ImageFile) -> Image.Image:
    image.load()
    upright = _upright(image)
    gray, alpha = image.mode in ("1", "L", "LA"), image.has_transparency_data
    mode = ("L" if gray else "RGB") + ("A" if alpha else "")
    return upright if upright.mode == mode else upright.convert(mode)


def _upright(image: Image.Image) -> Image.Image:
    """EXIF 2.32, tag 0x0112, of a loaded image. Metadata that cannot be parsed turns nothing."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:
        return image
    turn = _TO_UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def _describe(error: Exception) -> str:
    """System errors have a number; Pillow's own do not, whatever their type."""
    if isinstance(error, OSError) and error.errno:
        return describe_os_error(error)
    reason = printable(str(error).split("\n", 1)[0])[:100]
    return f"is damaged or cut short ({reason or type(error).__name__}); get a whole copy"


@contextmanager
def _pillow_limits(max_pixels: int) -> Iterator[None]:
    """Pillow's bound on pixels is process-wide: ours replaces it for one file. Other warnings are mute."""
    bound = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = bound
