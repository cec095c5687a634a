"""Our files beside classical codecs at the same number of bytes: a table, and a picture to look at.

Bytes are lengths of whole files. A classical codec may use as many as our file has, those of an alpha channel
or colour profile included, though it carries neither. PSNR is of 8-bit decoded pixels in RGB (gray pictures:
three equal channels), over the whole picture; means are over pictures.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageDraw, ImageFont, ImageOps
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from lightning_modules.atomic_file import describe_fault, write_atomically
from lightning_modules.classical_codecs import ClassicalCodec, MissingCodec, encode_within, standard_codecs
from lightning_modules.codec import CodingError, ImageSize
from lightning_modules.job_files import decoded_name

OURS = "latentpress"
PICTURE_NAME = "comparison.png"

_PAPER, _INK, _FAINT, _ACCENT = "#fbfaf7", "#1d1d1f", "#6b6b70", "#0b5cad"
_MARGIN, _GAP = 44, 18
_ZOOM = 2
_EDGE_SCALE = 9  # pixels over which an edge keeps its direction


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


class Outcome(NamedTuple):
    """table: to print. picture: path of the PNG. rows: the numbers of both, in the order of the pictures."""

    table: Table
    picture: Path
    rows: list[Measured]


class Comparison:
    """Compares, prints, draws.

    codecs: those to compare with; None: the standard ones. crop_size: (height, width) of what is drawn of a
    picture, in its pixels. num_pictures: how many are drawn, those with the clearest edges.
    """

    def __init__(
        self,
        codecs: Sequence[ClassicalCodec | MissingCodec] | None = None,
        crop_size: ImageSize = (200, 160),
        num_pictures: int = 3,
        console: Console | None = None,
    ) -> None:
        if min(*crop_size, num_pictures) < 1:
            raise ValueError(f"crop_size={crop_size}, num_pictures={num_pictures}: each number must be at least 1")
        given = standard_codecs() if codecs is None else codecs
        self.codecs = [codec for codec in given if isinstance(codec, ClassicalCodec)]
        self.missing = [codec for codec in given if isinstance(codec, MissingCodec)]
        self.crop_size = crop_size
        self.num_pictures = num_pictures
        self.console = console or Console()

    def run(self, originals: Path, files: Path, decoded: Path, output: Path) -> Outcome:
        """Compare every `.lpc` below `files`, draw `output/comparison.png`, print the table and that path.

        Raises `CodingError` when there is nothing to compare, a counterpart is missing, or the picture cannot
        be written.
        """
        pictures = find_pictures(Path(originals), Path(files), Path(decoded))
        rows = compare(self._with_progress(pictures), self.codecs)
        table = comparison_table(rows, self.codecs, self.missing)
        self.console.print(table)
        picture = Path(output) / PICTURE_NAME
        _write_png(picture, draw_comparison(rows, self.crop_size, self.num_pictures))
        self.console.print(Text(f"picture: {_printable(str(picture))}"), soft_wrap=True)
        return Outcome(table, picture, rows)

    def _with_progress(self, pictures: Sequence[Compared]) -> Iterator[Compared]:
        """The pictures, with a bar that moves as they are asked for."""
        columns = (
            SpinnerColumn(),
            TextColumn("comparing {task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task("", total=len(pictures))
            for picture in pictures:
                progress.update(task, description=_printable(picture.name))
                yield picture
                progress.advance(task)


# ---- measuring


def find_pictures(originals: Path, files: Path, decoded: Path) -> list[Compared]:
    """Every `.lpc` below `files`, by name, with its original and its decoded picture."""
    names = sorted(path.relative_to(files).as_posix() for path in files.rglob("*.lpc"))
    names = [name for name in names if not name.startswith(".")]
    if not names:
        raise CodingError(f"{_printable(str(files))}: holds no .lpc file to compare; compress a picture into it first")
    return [Compared(name[:-4], originals / name[:-4], files / name, decoded / decoded_name(name)) for name in names]


def compare(pictures: Iterable[Compared], codecs: Sequence[ClassicalCodec]) -> list[Measured]:
    """Each picture coded by each codec within our file's bytes. Raises `CodingError` if one is unreadable."""
    return [_measure(picture, codecs) for picture in pictures]


def psnr(image: Image.Image, other: Image.Image) -> float:
    """10 log10(255^2 / MSE) in dB, MSE over pixels and the three channels; infinite for equal pictures."""
    first, second = (np.asarray(picture.convert("RGB"), dtype=np.float32) for picture in (image, other))
    mse = float(np.mean(np.square(first - second), dtype=np.float64))
    return 10 * math.log10(255**2 / mse) if mse else math.inf


def _measure(picture: Compared, codecs: Sequence[ClassicalCodec]) -> Measured:
    original, decoded = _read(picture.original), _read(picture.decoded)
    if decoded.size != original.size:
        raise CodingError(
            f"{_printable(str(picture.decoded))}: is {decoded.width} x {decoded.height} pixels, its original "
            f"{original.width} x {original.height}; decode the file again"
        )
    num_bytes = picture.file.stat().st_size
    ours = Version(num_bytes, psnr(original, decoded), True, partial(_read, picture.decoded))
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


def _read(path: Path) -> Image.Image:
    """The upright picture, gray or RGB, without alpha: all that a codec is to spend bytes on."""
    try:
        with Image.open(path) as image:
            gray = image.mode in ("1", "L", "LA")
            return _upright(image.convert("L" if gray else "RGB"), image)
    except FileNotFoundError:
        raise CodingError(f"{_printable(str(path))}: no such file; give the folder that holds it") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = _printable(str(error))
        raise CodingError(f"{_printable(str(path))}: cannot be read ({reason}); make it again") from None


def _upright(pixels: Image.Image, source: Image.Image) -> Image.Image:
    """`pixels` as the EXIF data of `source` turns them; data that cannot be parsed turns nothing."""
    bare = Image.frombytes(pixels.mode, pixels.size, pixels.tobytes())
    try:
        bare.getexif()[ExifTags.Base.Orientation] = source.getexif().get(ExifTags.Base.Orientation, 1)
        return ImageOps.exif_transpose(bare)
    except Exception:  # Pillow answers bad metadata with many types of exception
        return bare


# ---- the table


def comparison_table(
    rows: Sequence[Measured], codecs: Sequence[ClassicalCodec], missing: Sequence[MissingCodec] = ()
) -> Table:
    """One line per picture, their means, and how far ours is above each codec; settings below."""
    table = Table(box=box.SIMPLE_HEAD, caption=_notes(rows, codecs, missing), caption_justify="left")
    table.title = "PSNR in dB at the same number of bytes"
    table.add_column("picture", overflow="fold")
    for name in ("bytes", "bpp", "ours", *(codec.name for codec in codecs)):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells = [_decibel(row.ours), *(_decibel(row.classical[codec.name]) for codec in codecs)]
        table.add_row(Text(_printable(row.name)), f"{row.ours.num_bytes:,}", f"{row.bpp:.3f}", *cells)
    table.add_section()
    mean_bytes, mean_bpp = fmean(row.ours.num_bytes for row in rows), fmean(row.bpp for row in rows)
    pairs = {codec.name: _pairs(rows, codec.name) for codec in codecs}
    means = [_mean(theirs for _, theirs in pairs[codec.name]) for codec in codecs]
    means = [_mean(row.ours.psnr for row in rows), *means]
    table.add_row("mean", f"{mean_bytes:,.0f}", f"{mean_bpp:.3f}", *means, style="bold")
    gains = [_mean((_gain(*pair) for pair in pairs[codec.name]), "+.2f") for codec in codecs]
    table.add_row("ours above it", "", "", "", *gains)
    return table


def _pairs(rows: Sequence[Measured], codec: str) -> list[tuple[float, float]]:
    """(our PSNR, the codec's) of the pictures it can code."""
    versions = ((row.ours.psnr, row.classical[codec]) for row in rows)
    return [(ours, version.psnr) for ours, version in versions if version is not None]


def _mean(values: Iterable[float], layout: str = ".2f") -> str:
    numbers = list(values)
    return format(sum(numbers) / len(numbers), layout) if numbers else "-"


def _gain(ours: float, theirs: float) -> float:
    """In dB; zero between two perfect copies, whose PSNR is infinite."""
    return 0.0 if ours == theirs else ours - theirs


def _decibel(version: Version | None) -> str:
    return "-" if version is None else f"{version.psnr:.2f}{'' if version.fits else '*'}"


def _notes(rows: Sequence[Measured], codecs: Sequence[ClassicalCodec], missing: Sequence[MissingCodec]) -> Text:
    versions = [version for row in rows for version in row.classical.values()]
    lines = [f"{codec.name}: {codec.settings}{_use(rows, codec.name)}" for codec in codecs]
    lines += [f"{codec.name} is left out: {codec.reason}" for codec in missing]
    if any(version is not None and not version.fits for version in versions):
        lines.append("* its lowest quality, and still more bytes than ours")
    if any(version is None for version in versions):
        lines.append("- cannot code this picture, which its mean leaves out")
    return Text("\n".join(lines), style="not italic dim")


def _use(rows: Sequence[Measured], codec: str) -> str:
    """How many of the allowed bytes a codec took: quality knobs have steps."""
    shares = [v.num_bytes / row.ours.num_bytes for row in rows if (v := row.classical[codec]) is not None]
    return f"; {fmean(shares):.1%} of our bytes" if shares else ""


# ---- the picture


def draw_comparison(rows: Sequence[Measured], crop_size: ImageSize, num_pictures: int) -> Image.Image:
    """Enlarged crops of every version side by side, of the pictures whose crop has the clearest edges.

    Pictures and crops are chosen by the originals alone.
    """
    places = [(*clearest_window(_read(row.original), crop_size), row) for row in rows]
    chosen = sorted(places, key=lambda place: -place[0])[:num_pictures]
    strips = [_panels(row, window) for _, window, row in chosen]
    width = max(panel.width for strip in strips for panel in strip)
    blocks = [
        _text("The same bytes, spent by each codec", 34),
        _text(f"Crops enlarged {_ZOOM}x. PSNR is of the whole picture.", 20, _FAINT),
    ]
    for (_, _, row), strip in zip(chosen, strips, strict=True):
        heading = f"{row.name}   {row.image_size[1]} x {row.image_size[0]}   {row.bpp:.3f} bpp"
        blocks.append(_stack([_blank(1, _GAP), _text(heading, 24), _beside(strip, width)], _GAP // 2))
    if any(v is not None and not v.fits for _, _, row in chosen for v in row.classical.values()):
        blocks.append(_text("* its lowest quality, and still more bytes than ours", 20, _FAINT))
    return ImageOps.expand(_stack(blocks, _GAP // 2), _MARGIN, _PAPER)


def clearest_window(image: Image.Image, size: ImageSize) -> tuple[float, tuple[int, int, int, int]]:
    """(score, (left, top, right, bottom)) of the crop, `size` or the whole picture, with the clearest edges.

    Score: mean over the crop of gradient times squared coherence, low in noise and grass. With the structure
    tensor's eigenvalues (Bigun and Granlund 1987): gradient sqrt(a + b), coherence (a - b) / (a + b).
    """
    gray = np.asarray(image.convert("L"), dtype=np.float64)
    height, width = min(size[0], image.height), min(size[1], image.width)
    framed = np.pad(gray, 1, mode="edge")
    dy, dx = framed[2:, 1:-1] - framed[:-2, 1:-1], framed[1:-1, 2:] - framed[1:-1, :-2]
    scale = min(_EDGE_SCALE, height, width)
    xx, yy, xy = (_box_sum(product, scale, scale) for product in (dx * dx, dy * dy, dx * dy))
    clarity = ((xx - yy) ** 2 + 4 * xy**2) / np.maximum(xx + yy, 1) ** 1.5 / scale
    inner = height - scale + 1, width - scale + 1
    scores = _box_sum(clarity, *inner) / (inner[0] * inner[1])  # (H - height + 1, W - width + 1)
    top, left = (int(place) for place in np.unravel_index(np.argmax(scores), scores.shape))
    return float(scores[top, left]), (left, top, left + width, top + height)


def _box_sum(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Sums over all windows of this size that lie inside, by an integral image."""
    integral = np.pad(values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    rows = integral[height:] - integral[:-height]
    return rows[:, width:] - rows[:, :-width]


def _panels(row: Measured, window: tuple[int, int, int, int]) -> list[Image.Image]:
    """The crop as it was, and as each codec gives it back, each above its caption."""
    versions: Mapping[str, Version | None] = {OURS: row.ours, **row.classical}
    original = _panel(_read(row.original), window, "original", f"{row.original.stat().st_size:,} bytes", _INK)
    return [original] + [
        _panel(version.open(), window, name, _caption(version), _ACCENT if name == OURS else _INK)
        for name, version in versions.items()
        if version is not None
    ]


def _caption(version: Version) -> str:
    return f"{version.num_bytes:,} bytes{'' if version.fits else '*'}   {version.psnr:.2f} dB"


def _panel(image: Image.Image, window: tuple[int, int, int, int], name: str, caption: str, color: str) -> Image.Image:
    crop = image.convert("RGB").crop(window)
    enlarged = crop.resize((crop.width * _ZOOM, crop.height * _ZOOM), Image.Resampling.NEAREST)
    return _stack([enlarged, _stack([_text(name, 22, color), _text(caption, 20, _FAINT)], 2)], 8)


def _text(text: str, size: int, color: str = _INK) -> Image.Image:
    """One line on an area that just holds it."""
    font, line = ImageFont.load_default(size), _printable(text)
    _, _, right, _ = font.getbbox(line)
    area = _blank(math.ceil(right) + 1, math.ceil(size * 1.3))
    ImageDraw.Draw(area).text((0, 0), line, fill=color, font=font)
    return area


def _stack(blocks: Sequence[Image.Image], gap: int) -> Image.Image:
    """Blocks below each other, at the left."""
    height = sum(block.height for block in blocks) + gap * (len(blocks) - 1)
    area, y = _blank(max(block.width for block in blocks), height), 0
    for block in blocks:
        area.paste(block, (0, y))
        y += block.height + gap
    return area


def _beside(blocks: Sequence[Image.Image], width: int) -> Image.Image:
    """Blocks next to each other, in columns of `width`."""
    height = max(block.height for block in blocks)
    area = _blank(len(blocks) * (width + _GAP) - _GAP, height)
    for column, block in enumerate(blocks):
        area.paste(block, (column * (width + _GAP), 0))
    return area


def _blank(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), _PAPER)


def _write_png(path: Path, image: Image.Image) -> None:
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, file.getvalue())
    except OSError as error:
        raise CodingError(f"{_printable(str(path))}: cannot be written: {describe_fault(error)}") from None


def _printable(text: str) -> str:
    """`text` on one line."""
    return "".join(character if character.isprintable() else "?" for character in text)
