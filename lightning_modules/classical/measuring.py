"""Pictures, our files of them, and what classical codecs make of the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from PIL import ExifTags, Image, ImageOps

from lightning_modules.classical.pillow_codecs import ClassicalCodec, encode_within
from lightning_modules.errors import CodingError
from lightning_modules.folder_jobs.file_names import decoded_name
from lightning_modules.metrics.psnr import psnr
from lightning_modules.records import ImageSize

OURS = "latentpress"


class Compared(NamedTuple):
    """One picture of the comparison: the input, our `.lpc` of it, and the PNG which that gave."""

    name: str
    original: Path
    file: Path
    decoded: Path


class Version(NamedTuple):
    """What a codec made of a picture. fits: not larger than our file. open: the decoded pixels."""

    num_bytes: int
    psnr: float
    fits: bool
    open: Callable[[], Image.Image]


class Measured(NamedTuple):
    """A picture and all its versions; None where a codec cannot code it."""

    name: str
    image_size: ImageSize
    original: Path
    ours: Version
    classical: dict[str, Version | None]

    @property
    def bpp(self) -> float:
        return 8 * self.ours.num_bytes / (self.image_size[0] * self.image_size[1])


# ---- measuring


def find_pictures(originals: Path, files: Path, decoded: Path) -> list[Compared]:
    """Return every `.lpc` below `files`, by name, with its original and its decoded picture."""
    names = sorted(path.relative_to(files).as_posix() for path in files.rglob("*.lpc"))
    names = [name for name in names if not name.startswith(".")]
    if not names:
        raise CodingError(f"{printable(str(files))}: holds no .lpc file to compare; compress a picture into it first")
    return [Compared(name[:-4], originals / name[:-4], files / name, decoded / decoded_name(name)) for name in names]


def compare(pictures: Iterable[Compared], codecs: Sequence[ClassicalCodec]) -> list[Measured]:
    """Code each picture by each codec within our file's bytes. Raises `CodingError` if one is unreadable."""
    return [_measure(picture, codecs) for picture in pictures]


def _measure(picture: Compared, codecs: Sequence[ClassicalCodec]) -> Measured:
    original, decoded = read_upright(picture.original), read_upright(picture.decoded)
    if decoded.size != original.size:
        raise CodingError(
            f"{printable(str(picture.decoded))}: is {decoded.width} x {decoded.height} pixels, its original "
            f"{original.width} x {original.height}; decode the file again"
        )
    num_bytes = picture.file.stat().st_size
    ours = Version(num_bytes, psnr(original, decoded), True, partial(read_upright, picture.decoded))
    classical = {codec.name: _classical_version(codec, original, num_bytes) for codec in codecs}
    return Measured(picture.name, (original.height, original.width), picture.original, ours, classical)


def _classical_version(codec: ClassicalCodec, original: Image.Image, max_bytes: int) -> Version | None:
    try:
        encoded = encode_within(codec, original, max_bytes)
    except CodingError:
        return None

    def decode() -> Image.Image:
        return codec.decode(encoded.data).convert(original.mode)  # gray, where the codec only has colour

    return Version(len(encoded.data), psnr(original, decode()), encoded.fits, decode)


def read_upright(path: Path) -> Image.Image:
    """Return the upright picture, gray or RGB, without alpha: all that a codec is to spend bytes on."""
    try:
        with Image.open(path) as image:
            gray = image.mode in ("1", "L", "LA")
            return _upright(image.convert("L" if gray else "RGB"), image)
    except FileNotFoundError:
        raise CodingError(f"{printable(str(path))}: no such file; give the folder that holds it") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = printable(str(error))
        raise CodingError(f"{printable(str(path))}: cannot be read ({reason}); make it again") from None


def _upright(pixels: Image.Image, source: Image.Image) -> Image.Image:
    """`pixels` as the EXIF data of `source` turns them; data that cannot be parsed turns nothing."""
    bare = Image.frombytes(pixels.mode, pixels.size, pixels.tobytes())
    try:
        bare.getexif()[ExifTags.Base.Orientation] = source.getexif().get(ExifTags.Base.Orientation, 1)
        return ImageOps.exif_transpose(bare)
    except Exception:  # Pillow answers bad metadata with many types of exception
        return bare


def printable(text: str) -> str:
    """`text` on one line."""
    return "".join(character if character.isprintable() else "?" for character in text)
